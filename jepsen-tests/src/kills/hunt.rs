//! Hunting one bug: runs until something is red.
//!
//! Each hunt is a process of its own. A bug may well end in a loop that never ends, or eat all memory; the
//! hunter then notices that nothing comes any more, which is red as well.

use std::{
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use fault_points::{
    BUG_VARIABLE,
    registry::{CRASH_POINTS, MARKER},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use super::{Hunt, Wrong};
use crate::{
    properties::Verdict,
    report,
    simulation::{Trace, crash_points::CrashPoints, plan::Plan, run},
};

/// How long one seed may take before it is said to hang: a hundred times what it takes.
const SEED_MAX: Duration = Duration::from_secs(120);

/// Passings of a crash point are drawn up to two to this power: some points are passed thousands of times, some
/// a few.
const PASSINGS_LOG2: u32 = 10;

/// When crash points count, in simulated time: the cluster is founded by then, and the faults are not over.
const CRASHES: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(9);

/// Characters kept of a panic's words.
const PANIC_CHARS: usize = 400;

/// What came of one seed, as a worker tells it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    /// Which.
    pub seed: u64,
    /// What was red.
    pub wrong: Vec<Wrong>,
}

/// Runs one seed in this process, with whatever bug is planted: its plan, and one power cut at a crash point
/// besides.
pub fn run_seed(seed: u64) -> Told {
    let crash_points = CrashPoints::new();
    let mut chance = SmallRng::seed_from_u64(seed ^ 0xc4a5_4a11);
    let simulated: Vec<&str> = CRASH_POINTS
        .iter()
        .filter(|point| point.simulated)
        .map(|point| point.name)
        .collect();
    let point = simulated[chance.random_range(0..simulated.len())];
    let passings_max = 1 << chance.random_range(0..PASSINGS_LOG2);
    crash_points.arm(point, chance.random_range(1..=passings_max), CRASHES);
    let outcome = run::run(&Plan::of(seed), Trace::default());
    let mut wrong: Vec<Wrong> = outcome
        .findings
        .into_iter()
        .filter(|finding| finding.verdict == Verdict::Invalid)
        .map(|finding| Wrong {
            property: finding.property,
            said: finding.summary,
        })
        .collect();
    wrong.extend(outcome.oddities.into_iter().map(|said| Wrong {
        property: "no-odd-answer".to_owned(),
        said,
    }));
    Told { seed, wrong }
}

/// What a worker says of its one seed: a line.
///
/// # Errors
/// Nobody listens any more.
pub fn work(seed: u64) -> io::Result<()> {
    serde_json::to_writer(io::stdout().lock(), &run_seed(seed))?;
    println!();
    Ok(())
}

/// Hunts a bug through these seeds of the simulation, each in a process of its own made by `worker`: what one run
/// leaves behind in a process must not decide how the next one goes.
///
/// # Errors
/// A worker cannot be started, or says what is no answer.
pub fn in_simulation(
    worker: impl Fn(u64) -> Command,
    first: u64,
    seeds: u64,
    each: impl Fn(),
) -> io::Result<Hunt> {
    let begun = Instant::now();
    let mut hunt = Hunt {
        first,
        seeds: 0,
        seconds: 0.0,
        wrong: Vec::new(),
    };
    while hunt.seeds < seeds && !hunt.killed() {
        let seed = first + hunt.seeds;
        hunt.wrong = seen(worker(seed), seed)?.wrong;
        hunt.seeds += 1;
        each();
    }
    hunt.seconds = begun.elapsed().as_secs_f64();
    Ok(hunt)
}

/// What a worker says of its seed, or what its end says.
///
/// # Errors
/// The worker cannot be started, or says what is no answer.
pub fn seen(mut worker: Command, seed: u64) -> io::Result<Told> {
    let mut child = Reaped(
        worker
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?,
    );
    let panic = panic_of(&mut child.0)?;
    match line_of(&mut child.0)?.recv_timeout(SEED_MAX) {
        Ok(line) => Ok(serde_json::from_str(&line?)?),
        Err(RecvTimeoutError::Timeout) => Ok(stopped(seed, "the run hangs")),
        Err(RecvTimeoutError::Disconnected) => {
            let status = child.0.wait()?;
            // The words of the first panic, if it was one: an assertion of the product, as a rule.
            let why = panic.recv().unwrap_or_else(|_| status.to_string());
            Ok(stopped(seed, &why))
        }
    }
}

fn stopped(seed: u64, said: &str) -> Told {
    Told {
        seed,
        wrong: vec![Wrong {
            property: "comes-to-an-end".to_owned(),
            said: said.to_owned(),
        }],
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
        .name("hunt-line".to_owned())
        .spawn(move || {
            if let Some(line) = BufReader::new(out).lines().next() {
                // A hunter who waits no more needs no line.
                let _ = sender.send(line);
            }
        })?;
    Ok(line)
}

/// The words of the first panic that it reports, once it has ended; nothing, when there was none.
fn panic_of(child: &mut Child) -> io::Result<mpsc::Receiver<String>> {
    let out = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (sender, words) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("hunt-panic".to_owned())
        .spawn(move || {
            let mut lines = BufReader::new(out).lines().map_while(Result::ok);
            let panicked = lines.by_ref().find(|line| line.contains("panicked at"));
            if let Some(panicked) = panicked {
                let said = lines.next().unwrap_or_default();
                let words: String = format!("{said} ({panicked})").chars().take(PANIC_CHARS).collect();
                // A hunter who waits no more needs no words.
                let _ = sender.send(words);
            }
            // Read to the end, so that nobody waits to be read.
            lines.for_each(drop);
        })?;
    Ok(words)
}

/// What a campaign needs to know.
#[derive(Clone, Debug)]
pub struct Campaigns {
    /// The command that runs one.
    pub campaign: PathBuf,
    /// The binary under test, built with the bugs.
    pub binary: PathBuf,
}

/// Checks that a program was built with the bugs: in one that was not, every bug would survive.
///
/// # Errors
/// It was not, or cannot be read.
pub fn require_fault_points(program: &Path) -> io::Result<()> {
    let bytes = std::fs::read(program)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
    // Found by its first byte: the program is large, and this is looked for in no order that matters.
    let marker = MARKER.as_bytes();
    let found = bytes
        .iter()
        .enumerate()
        .any(|(at, byte)| *byte == marker[0] && bytes[at..].starts_with(marker));
    if found {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{} was built without the feature fault-points",
        program.display()
    )))
}

/// Hunts a bug through campaigns on processes, one for each seed, each with another workload. Their results go to
/// directories for temporary files, and are removed again.
///
/// # Errors
/// A campaign cannot be run, or was broken.
pub fn in_processes(
    campaigns: &Campaigns,
    bug: &str,
    first: u64,
    seeds: u64,
    each: impl Fn(),
) -> io::Result<Hunt> {
    let begun = Instant::now();
    let workloads = ["mixed", "flash", "ttl", "dedup", "watch"];
    let mut hunt = Hunt {
        first,
        seeds: 0,
        seconds: 0.0,
        wrong: Vec::new(),
    };
    while hunt.seeds < seeds && !hunt.killed() {
        let seed = first + hunt.seeds;
        let name = format!("holdfast-planted-{}-{bug}-{seed}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let workload = workloads[(seed as usize - 1) % workloads.len()];
        let status = Command::new(&campaigns.campaign)
            .env(BUG_VARIABLE, bug)
            .args(["--nodes", "3", "--quick", "--workload", workload])
            .args(["--seed", &seed.to_string()])
            .arg("--binary")
            .arg(&campaigns.binary)
            .arg("--dir")
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        hunt.seeds += 1;
        each();
        hunt.wrong = match status.code() {
            Some(0 | 2) => Vec::new(),
            Some(1) => red_of(&dir)?,
            // Without a bug, nothing breaks a run: a cluster that serves no more is noticed as well.
            _ => match red_of(&dir)? {
                wrong if wrong.is_empty() => {
                    return Err(io::Error::other(format!("campaign {seed} ended with {status}")));
                }
                wrong => wrong,
            },
        };
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
    }
    hunt.seconds = begun.elapsed().as_secs_f64();
    Ok(hunt)
}

/// What the verdicts below a directory say is broken.
fn red_of(dir: &Path) -> io::Result<Vec<Wrong>> {
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let verdicts = report::Verdicts::read(&entry.path())?;
        let red = verdicts.findings.into_iter();
        let red = red.filter(|finding| finding.verdict == Verdict::Invalid);
        wrong.extend(red.map(|finding| Wrong {
            property: finding.property,
            said: finding.summary,
        }));
        wrong.extend(verdicts.broken.map(|said| Wrong {
            property: "comes-to-an-end".to_owned(),
            said,
        }));
    }
    Ok(wrong)
}
