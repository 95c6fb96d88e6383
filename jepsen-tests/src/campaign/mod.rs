//! Campaigns: runs of the shipped binary under faults, one after the other, each judged by every property, and
//! all of them together by which faults came about.
//!
//! A run that cannot be judged is broken, never valid: a cluster that was never founded, a harness that failed, too
//! few operations. What a campaign finds lies in its directory, a directory for each
//! run: the history, `verdicts.json`, the report, the faults as they came, the nodes' logs, and, unless it is valid, the
//! nodes' files.

pub mod run;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    nemeses::{
        Kind,
        deck::{Count, Coverage, Deck},
        preload,
    },
    properties::{self, End, Finding, Verdict},
    report::{self, Overall, Verdicts},
    workloads::Workload,
};
use indicatif::{ProgressBar, ProgressStyle};

/// Fewest operations a second of load that make a run worth judging: 20,000 in a minute, 100,000 in five.
const OPERATIONS_PER_S_MIN: f64 = 1_000.0 / 3.0;

/// What a campaign is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The binary under test.
    pub binary: PathBuf,
    /// Where results go.
    pub dir: PathBuf,
    /// Nodes of a cluster.
    pub nodes: u64,
    /// How long each run has load.
    pub load: Duration,
    /// One run each.
    pub workloads: Vec<Workload>,
    /// Faults to deal.
    pub kinds: Vec<Kind>,
    /// Everything drawn is drawn from it.
    pub seed: u64,
    /// Whether a fault that never came about, or never hit the leader, makes the campaign a broken one.
    pub coverage_required: bool,
    /// The command that does it again.
    pub replay: String,
}

/// The exit code of a command that says this.
pub fn exit_code(overall: Overall) -> u8 {
    match overall {
        Overall::Valid => 0,
        Overall::Invalid => 1,
        Overall::Unknown => 2,
        Overall::Broken => 3,
    }
}

/// How bad a word is: a campaign is as bad as its worst run.
fn badness(overall: Overall) -> u8 {
    match overall {
        Overall::Valid => 0,
        Overall::Unknown => 1,
        Overall::Broken => 2,
        Overall::Invalid => 3,
    }
}

/// Runs a campaign. Says what it found as it goes, through `say`.
///
/// # Errors
/// The campaign cannot begin: its directory cannot be made, or there is no C compiler.
pub async fn campaign(options: &Options, say: impl Fn(&str)) -> io::Result<Overall> {
    std::fs::create_dir_all(&options.dir)?;
    let library = preload::compile(&options.dir)?;
    let mut deck = Deck::new(&options.kinds);
    let mut coverage = Coverage::new(&options.kinds);
    let mut worst = Overall::Valid;
    for (number, &workload) in options.workloads.iter().enumerate() {
        let name = workload.name();
        let dir = options
            .dir
            .join(format!("{:02}-{name}-{}", number + 1, options.nodes));
        let run = run::Options {
            binary: options.binary.clone(),
            fault_library: library.clone(),
            dir: dir.join("nodes"),
            faults: dir.join("faults.txt"),
            feeds: dir.join("feeds.txt"),
            nodes: options.nodes,
            load: options.load,
            workload,
            seed: options.seed.wrapping_add(number as u64),
        };
        std::fs::create_dir_all(&run.dir)?;
        let progress = progress(&name, options.load);
        let record = run::run(&run, &mut deck, &mut coverage, &progress).await;
        progress.finish_and_clear();
        let verdicts = judge(&name, &run, options, record, &coverage, &dir)?;
        run::keep_logs(&run.dir, &dir)?;
        // Whatever went wrong, the nodes' files may say more of it.
        if verdicts.overall() == Overall::Valid {
            std::fs::remove_dir_all(&run.dir)?;
        }
        tell(&verdicts, &dir, &say);
        worst = std::cmp::max_by_key(worst, verdicts.overall(), |overall| badness(*overall));
    }
    std::fs::remove_file(&library)?;
    std::fs::remove_file(options.dir.join("preload.c"))?;
    let json = serde_json::to_string_pretty(&coverage.counts())?;
    std::fs::write(options.dir.join("coverage.json"), json)?;
    let missing = coverage.missing();
    for sentence in &missing {
        say(&format!("coverage: {sentence}"));
    }
    if !missing.is_empty() && options.coverage_required {
        worst = std::cmp::max_by_key(worst, Overall::Broken, |overall| badness(*overall));
    }
    Ok(worst)
}

fn judge(
    name: &str,
    run: &run::Options,
    options: &Options,
    record: io::Result<run::Record>,
    coverage: &Coverage,
    dir: &Path,
) -> io::Result<Verdicts> {
    let mut verdicts = Verdicts {
        run: format!("{}, {} processes", name, run.nodes),
        seed: run.seed,
        replay: options.replay.clone(),
        broken: None,
        findings: Vec::new(),
        coverage: coverage.counts().into_iter().map(counted).collect(),
    };
    match record {
        Err(error) => {
            verdicts.broken = Some(error.to_string());
            verdicts.write(dir)?;
        }
        Ok(record) => {
            record.run.history.write_file(&dir.join("history.jsonl.zst"))?;
            verdicts.findings = vec![properties::linearizable(&record.run.history)];
            verdicts.findings.extend(properties::check(&record.run));
            verdicts.findings.push(nodes_stay_up(record.trouble));
            let mut broken = record.broken;
            // One that never left its caller tested nothing.
            let operations = record.run.operations.iter();
            let operations = operations
                .filter(|operation| operation.end != End::Failed)
                .count();
            let needed = (run.load.as_secs_f64() * OPERATIONS_PER_S_MIN) as usize;
            if operations < needed {
                broken.push(format!(
                    "{operations} operations; fewer than {needed} in {:?} say too little",
                    run.load
                ));
            }
            verdicts.broken = (!broken.is_empty()).then(|| broken.join("; "));
            report::write(dir, &record.run, &verdicts).map_err(io::Error::other)?;
        }
    }
    Ok(verdicts)
}

/// Whether every node served until it was stopped, started when it was told to, and the cluster came back from
/// every fault.
fn nodes_stay_up(trouble: Option<String>) -> Finding {
    Finding {
        property: "nodes-stay-up".to_owned(),
        verdict: trouble.as_ref().map_or(Verdict::Valid, |_| Verdict::Invalid),
        summary: trouble.unwrap_or_else(|| "every node came back from every fault".to_owned()),
        operations: Vec::new(),
    }
}

fn counted(count: Count) -> report::Coverage {
    report::Coverage {
        name: count.name,
        count: count.count,
        leader_hits: Some(count.leader_hits),
    }
}

fn tell(verdicts: &Verdicts, dir: &Path, say: impl Fn(&str)) {
    let word = verdicts.overall().word();
    say(&format!("{}: {word}; {}", verdicts.run, dir.display()));
    for finding in &verdicts.findings {
        if finding.verdict != Verdict::Valid {
            let Finding {
                property,
                verdict,
                summary,
                ..
            } = finding;
            say(&format!("  {property} {verdict:?}: {summary}"));
        }
    }
    if let Some(broken) = &verdicts.broken {
        say(&format!("  broken: {broken}"));
    }
}

fn progress(name: &str, load: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>18} {bar:24} {pos:>4}/{len} s  {wide_msg}")
        .expect("the template is well formed");
    ProgressBar::new(load.as_secs())
        .with_style(style)
        .with_prefix(name.to_owned())
}
