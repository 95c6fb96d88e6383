//! One seed, one process.
//!
//! What one run leaves behind in a process, down to the order in which connections were closed, must not decide
//! how the next one goes: so every seed runs in a fresh one, and a seed that failed is run again exactly as it
//! failed. A worker tells what came of its seed in a line of JSON. One that ends without a word, or never ends,
//! has told enough: that run is red, and the words of its panic say why.
//!
//! Left out: which program is the worker. Whoever asks for a seed says how it is started.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use rustix::{
    process::{Signal, set_parent_process_death_signal},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

use super::{Trace, coverage::Coverage, run::Outcome};
use crate::{
    properties::{Finding, Verdict},
    report::{self, Verdicts},
};

/// How long one seed may take before it is said to hang: a hundred times what it takes.
const SEED_MAX: Duration = Duration::from_secs(120);

/// Characters kept of a panic's words.
const PANIC_CHARS: usize = 400;

/// One property's word against a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrong {
    /// Which.
    pub property: String,
    /// What it said.
    pub said: String,
}

/// What came of one seed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Told {
    /// Which.
    pub seed: u64,
    /// What was red.
    pub wrong: Vec<Wrong>,
    /// What could not be decided.
    pub undecided: Vec<Wrong>,
    /// Operations that were made.
    pub operations: u64,
    /// How long it lasted, in simulated ms.
    pub simulated_ms: u64,
    /// What it cost this process, in ms of processor time, from its first instruction on.
    pub cpu_ms: f64,
    /// What faults came about.
    pub coverage: Coverage,
}

impl Told {
    /// Of a run that has come to an end of some kind.
    pub fn of(seed: u64, outcome: &Outcome) -> Told {
        let said = |verdict| {
            let findings = outcome.findings.iter();
            findings
                .filter(move |finding| finding.verdict == verdict)
                .map(|finding| Wrong {
                    property: finding.property.clone(),
                    said: finding.summary.clone(),
                })
        };
        let odd = outcome.oddities.iter().map(|said| Wrong {
            property: "no-odd-answer".to_owned(),
            said: said.clone(),
        });
        let used = clock_gettime(ClockId::ProcessCPUTime);
        Told {
            seed,
            wrong: said(Verdict::Invalid).chain(odd).collect(),
            undecided: said(Verdict::Unknown).collect(),
            operations: outcome.operations as u64,
            simulated_ms: outcome.simulated.as_millis() as u64,
            cpu_ms: used.tv_sec as f64 * 1e3 + used.tv_nsec as f64 / 1e6,
            coverage: outcome.coverage.clone(),
        }
    }

    fn stopped(seed: u64, said: &str) -> Told {
        Told {
            seed,
            wrong: vec![Wrong {
                property: "comes-to-an-end".to_owned(),
                said: said.to_owned(),
            }],
            ..Told::default()
        }
    }

    /// Tells it to whoever started this process.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub fn tell(&self) -> io::Result<()> {
        serde_json::to_writer(io::stdout().lock(), self)?;
        println!();
        Ok(())
    }
}

/// Leaves a run's trace and history where two runs are compared.
///
/// # Errors
/// Whatever the file system says.
pub fn leave(dir: &Path, trace: &Trace, outcome: &Outcome) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join(TRACE_FILE), trace.text())?;
    outcome.run.history.write_file(&dir.join(HISTORY_FILE))
}

/// Leaves a run as the report wants it.
///
/// # Errors
/// Whatever the file system says.
pub fn report(dir: &Path, run: String, replay: String, seed: u64, outcome: &Outcome) -> io::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    outcome.run.history.write_file(&dir.join("history.jsonl.zst"))?;
    let mut findings = outcome.findings.clone();
    if let Some(first) = outcome.oddities.first() {
        findings.push(Finding {
            property: "no-odd-answer".to_owned(),
            verdict: Verdict::Invalid,
            summary: first.clone(),
            operations: Vec::new(),
        });
    }
    let counted = outcome.coverage.counts().filter(|(_, count)| count.fired > 0);
    let verdicts = Verdicts {
        run,
        seed,
        replay,
        broken: None,
        findings,
        coverage: counted
            .map(|(name, count)| report::Coverage {
                name: name.to_owned(),
                count: count.fired,
                leader_hits: Some(count.at_leader),
            })
            .collect(),
    };
    report::write(dir, &outcome.run, &verdicts).map_err(io::Error::other)
}

/// What is compared of two runs of one seed.
pub const TRACE_FILE: &str = "trace.txt";
/// The other half of it.
pub const HISTORY_FILE: &str = "history.jsonl";

/// Where two runs of one seed part: the first line that differs, as both have it; none: they are equal to the
/// byte.
///
/// # Errors
/// A run left nothing behind.
pub fn parting(first: &Path, second: &Path) -> io::Result<Option<String>> {
    for file in [TRACE_FILE, HISTORY_FILE] {
        let read = |dir: &Path| fs::read_to_string(dir.join(file));
        let (one, other) = (read(first)?, read(second)?);
        if one == other {
            continue;
        }
        let mut lines = one.lines().zip(other.lines()).enumerate();
        let apart = lines.find(|(_, (one, other))| one != other);
        return Ok(Some(match apart {
            Some((number, (one, other))) => {
                format!("{file}, line {}: `{one}` against `{other}`", number + 1)
            }
            None => format!("{file}: one run has more to tell"),
        }));
    }
    Ok(None)
}

/// Ends this process with the one that started it, whatever ends that: a worker of nobody is none.
pub fn die_with_parent() {
    // Where the system cannot do this, the seed is over in a second anyway.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
}

/// What a worker says of its seed, or what its end says. `loud`: its stderr is ours.
///
/// # Errors
/// The worker cannot be started, or says what is no answer.
pub fn seen(mut worker: Command, seed: u64, loud: bool) -> io::Result<Told> {
    let stderr = if loud { Stdio::inherit() } else { Stdio::piped() };
    let mut child = Reaped(
        worker
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()?,
    );
    let panic = panic_of(&mut child.0)?;
    match line_of(&mut child.0)?.recv_timeout(SEED_MAX) {
        Ok(line) => Ok(serde_json::from_str(&line?)?),
        Err(RecvTimeoutError::Timeout) => Ok(Told::stopped(seed, "the run hangs")),
        Err(RecvTimeoutError::Disconnected) => {
            let status = child.0.wait()?;
            // The words of the first panic, if it was one: an assertion of the product, as a rule.
            let why = panic.recv().unwrap_or_else(|_| status.to_string());
            Ok(Told::stopped(seed, &why))
        }
    }
}

/// A process that does not outlive its owner.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // One that ended by itself cannot be killed, and need not be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first line that it writes; nothing, when it ends without.
fn line_of(child: &mut Child) -> io::Result<mpsc::Receiver<io::Result<String>>> {
    let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (sender, line) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("worker-line".to_owned())
        .spawn(move || {
            if let Some(line) = BufReader::new(out).lines().next() {
                // Whoever waits no more needs no line.
                let _ = sender.send(line);
            }
        })?;
    Ok(line)
}

/// The words of the first panic that it reports, once it has ended; nothing, when there was none, or when they
/// were printed.
fn panic_of(child: &mut Child) -> io::Result<mpsc::Receiver<String>> {
    let (sender, words) = mpsc::sync_channel(1);
    let Some(out) = child.stderr.take() else {
        return Ok(words);
    };
    std::thread::Builder::new()
        .name("worker-panic".to_owned())
        .spawn(move || {
            let mut lines = BufReader::new(out).lines().map_while(Result::ok);
            let panicked = lines.by_ref().find(|line| line.contains("panicked at"));
            if let Some(panicked) = panicked {
                let said = lines.next().unwrap_or_default();
                let words: String = format!("{said} ({panicked})").chars().take(PANIC_CHARS).collect();
                // Whoever waits no more needs no words.
                let _ = sender.send(words);
            }
            // Read to the end, so that nobody waits to be read.
            lines.for_each(drop);
        })?;
    Ok(words)
}
