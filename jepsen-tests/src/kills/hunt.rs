//! Hunting one bug: runs until something is red.
//!
//! Each hunt is a process of its own. A bug may well end in a loop that never ends, or eat all memory; the
//! hunter then notices that nothing comes any more, which is red as well.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use fault_points::{
    BUG_VARIABLE,
    registry::{CRASH_POINTS, MARKER, Passer},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{Hunt, Wrong};
use crate::{
    properties::Verdict,
    report,
    simulation::{
        Trace,
        crash_points::CrashPoints,
        run,
        scenario::Scenario,
        worker::{Told, seen},
    },
};

/// Passings of a crash point are drawn up to two to this power: some points are passed thousands of times, some
/// a few.
const PASSINGS_LOG2: u32 = 10;

/// Seeds that are run after one at which the product stopped itself, to see whether a property notices as well.
pub(super) const STOP_SEEDS: u64 = 12;

/// Doors pass theirs some times each.
const DOOR_PASSINGS_LOG2: u32 = 6;

/// When crash points count, in simulated time: the cluster is founded by then, and the faults are not over.
const CRASHES: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(9);
const DOOR_CRASHES: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(20);

/// Runs one seed in this process, which does nothing else, with whatever bug is planted: its plan, and one power
/// cut at a crash point besides. Tells what came of it on stdout.
pub fn work(seed: u64) {
    let crash_points = CrashPoints::new();
    let mut chance = SmallRng::seed_from_u64(seed ^ 0xc4a5_4a11);
    let scenario = Scenario::of(seed);
    let (passer, log2, window) = match scenario {
        Scenario::Claims(_) => (Passer::Node, PASSINGS_LOG2, CRASHES),
        Scenario::Checkout(_) => (Passer::Door, DOOR_PASSINGS_LOG2, DOOR_CRASHES),
    };
    let simulated: Vec<&str> = CRASH_POINTS
        .iter()
        .filter(|point| point.passed_by == passer)
        .map(|point| point.name)
        .collect();
    let point = simulated[chance.random_range(0..simulated.len())];
    let passings_max = 1 << chance.random_range(0..log2);
    crash_points.arm(point, chance.random_range(1..=passings_max), window);
    run::run_alone(&scenario, Trace::if_asked_for(), move |outcome| {
        if let Err(error) = Told::of(seed, outcome).tell() {
            eprintln!("nobody listens: {error}");
        }
    });
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
    // The first seed at which the product stopped itself, in case nothing else notices.
    let mut stop: Option<Hunt> = None;
    let last = |stop: &Option<Hunt>| {
        let soon = stop.as_ref().map(|stop| stop.seeds + STOP_SEEDS);
        soon.unwrap_or(seeds).min(seeds)
    };
    while hunt.seeds < last(&stop) && !hunt.killed_by_property() {
        let seed = first + hunt.seeds;
        hunt.wrong = seen(worker(seed), seed, false)?.wrong;
        hunt.seeds += 1;
        each();
        if hunt.killed() && stop.is_none() {
            stop = Some(hunt.clone());
        }
    }
    if let Some(stop) = stop.filter(|_| !hunt.killed_by_property()) {
        hunt = stop;
    }
    hunt.seconds = begun.elapsed().as_secs_f64();
    Ok(hunt)
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
