//! Campaigns: runs of the shipped binary under faults, one after the other, each judged by every property, and
//! all of them together by which faults came about.
//!
//! A run that cannot be judged is broken, never valid: a cluster that was never founded, a harness that failed, too
//! few operations. What a campaign finds lies in its directory, a directory for each
//! run: the history, `verdicts.json`, the report, the faults as they came, the nodes' logs, and, unless it is valid, the
//! nodes' files.

pub mod run;

use std::{
    collections::BTreeMap,
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
    /// How long each run has load.
    pub load: Duration,
    /// The runs, one after the other.
    pub runs: Vec<Planned>,
    /// Faults to deal.
    pub kinds: Vec<Kind>,
    /// Everything drawn is drawn from it.
    pub seed: u64,
    /// Whether a fault that never came about, or never hit the leader, makes the campaign a broken one.
    pub coverage_required: bool,
}

/// One run of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What clients do.
    pub workload: Workload,
    /// Nodes of the cluster.
    pub nodes: u64,
}

/// So many runs: workloads and cluster sizes in turn, until each had each, and then again. Both change from run to
/// run.
///
/// # Panics
/// There are no workloads, or no sizes.
pub fn planned(workloads: &[Workload], sizes: &[u64], count: usize) -> Vec<Planned> {
    let run = |number: usize| Planned {
        workload: workloads[number % workloads.len()],
        nodes: sizes[(number % workloads.len() + number / workloads.len()) % sizes.len()],
    };
    (0..count).map(run).collect()
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
    // Faults are dealt and counted for each size alone: a larger cluster is another one.
    let mut torments: BTreeMap<u64, (Deck, Coverage)> = BTreeMap::new();
    let mut worst = Overall::Valid;
    for (number, &Planned { workload, nodes }) in options.runs.iter().enumerate() {
        let name = workload.name();
        let dir = options.dir.join(format!("{:02}-{name}-{nodes}", number + 1));
        let (deck, coverage) = torments
            .entry(nodes)
            .or_insert_with(|| (Deck::new(&options.kinds), Coverage::new(&options.kinds)));
        let run = run::Options {
            binary: options.binary.clone(),
            fault_library: library.clone(),
            dir: dir.join("nodes"),
            faults: dir.join("faults.txt"),
            feeds: dir.join("feeds.txt"),
            nodes,
            load: options.load,
            workload,
            seed: options.seed.wrapping_add(number as u64),
        };
        std::fs::create_dir_all(&run.dir)?;
        let progress = progress(
            &format!("{}/{} {name} {nodes}", number + 1, options.runs.len()),
            options.load,
        );
        let record = run::run(&run, deck, coverage, &progress).await;
        progress.finish_and_clear();
        let (verdicts, operations) = judge(&name, &run, options, record, coverage, &dir)?;
        run::keep_logs(&run.dir, &dir)?;
        // Whatever went wrong, the nodes' files may say more of it.
        if verdicts.overall() == Overall::Valid {
            std::fs::remove_dir_all(&run.dir)?;
        }
        tell(&verdicts, operations, &dir, &say);
        worst = std::cmp::max_by_key(worst, verdicts.overall(), |overall| badness(*overall));
    }
    std::fs::remove_file(&library)?;
    std::fs::remove_file(options.dir.join("preload.c"))?;
    let counts: BTreeMap<u64, Vec<Count>> = torments
        .iter()
        .map(|(&nodes, (_, coverage))| (nodes, coverage.counts()))
        .collect();
    let json = serde_json::to_string_pretty(&counts)?;
    std::fs::write(options.dir.join("coverage.json"), json)?;
    let mut missing = Vec::new();
    for (nodes, (_, coverage)) in &torments {
        missing.extend(
            coverage
                .missing()
                .into_iter()
                .map(|what| format!("{nodes} nodes: {what}")),
        );
    }
    for sentence in &missing {
        say(&format!("coverage: {sentence}"));
    }
    if !missing.is_empty() && options.coverage_required {
        worst = std::cmp::max_by_key(worst, Overall::Broken, |overall| badness(*overall));
    }
    Ok(worst)
}

/// What all properties say of a run, and of how many operations: those that left their caller.
fn judge(
    name: &str,
    run: &run::Options,
    options: &Options,
    record: io::Result<run::Record>,
    coverage: &Coverage,
    dir: &Path,
) -> io::Result<(Verdicts, usize)> {
    let mut counted_operations = 0;
    let mut verdicts = Verdicts {
        run: format!("{}, {} processes", name, run.nodes),
        seed: run.seed,
        replay: replay(name, run, options),
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
            counted_operations = operations;
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
    Ok((verdicts, counted_operations))
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
        leader_hits: count.leader_hits,
    }
}

/// The command that does this run again.
fn replay(name: &str, run: &run::Options, options: &Options) -> String {
    let kinds: Vec<String> = options.kinds.iter().map(|kind| kind.name()).collect();
    let nemesis = if options.kinds == Kind::all() {
        "all".to_owned()
    } else {
        kinds.join(",")
    };
    format!(
        "cargo run --profile proof -p jepsen-tests --bin campaign -- --nodes {} --minutes {}{} --workload {name} \
         --nemesis {nemesis} --seed {} --binary {}",
        run.nodes,
        run.load.as_secs_f64() / 60.0,
        if options.coverage_required { "" } else { " --quick" },
        run.seed,
        options.binary.display()
    )
}

fn tell(verdicts: &Verdicts, operations: usize, dir: &Path, say: impl Fn(&str)) {
    let word = verdicts.overall().word();
    let operations = match operations {
        0 => String::new(),
        count => format!(", {count} operations"),
    };
    say(&format!(
        "{}: {word}{operations}; {}",
        verdicts.run,
        dir.display()
    ));
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
    let style = ProgressStyle::with_template("{prefix:>22} {bar:24} {pos:>4}/{len} s  {wide_msg}")
        .expect("the template is well formed");
    ProgressBar::new(load.as_secs())
        .with_style(style)
        .with_prefix(name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_workload_has_clusters_of_every_size() {
        for (workloads, sizes) in [
            (Workload::all(), &[3, 5][..]),
            (&Workload::all()[..2], &[3, 5][..]),
            (&Workload::all()[..1], &[3, 5, 7][..]),
        ] {
            let count = workloads.len() * sizes.len();
            let runs = planned(workloads, sizes, 2 * count);
            assert_eq!(runs[..count], runs[count..], "{runs:?}");
            let pairs: BTreeSet<_> = runs.iter().map(|run| (run.workload, run.nodes)).collect();
            assert_eq!(pairs.len(), count, "{runs:?}");
        }
    }
}
