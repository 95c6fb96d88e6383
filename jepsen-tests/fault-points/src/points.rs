//! The switches, with the feature on.

use core::{
    cell::RefCell,
    fmt,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};
use std::{
    rc::Rc,
    string::String,
    time::{SystemTime, UNIX_EPOCH},
    vec::Vec,
};

use crate::registry::{CRASH_POINTS, MARKER, PLANTED_BUGS};

/// Names the bug to plant.
pub const BUG_VARIABLE: &str = "HOLDFAST_PLANTED_BUG";
/// Names the crash point and its passing: `name:n`, counted from 1.
pub const CRASH_VARIABLE: &str = "HOLDFAST_CRASH_POINT";

/// Variables of the environment that are read here.
pub const VARIABLES: &[&str] = &[BUG_VARIABLE, CRASH_VARIABLE];

const NONE: usize = usize::MAX;

static PLANTED: AtomicUsize = AtomicUsize::new(NONE);
static ARMED: AtomicUsize = AtomicUsize::new(NONE);
static PASSINGS_LEFT: AtomicU32 = AtomicU32::new(0);

/// What a name or an environment variable is refused for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(String);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Unknown {}

/// The simulator of this thread's machines.
pub trait Simulator {
    /// The machine whose code runs now has come to the crash point of this index. If this is where it
    /// crashes, nothing that it does from here on may have an effect outside of it.
    fn pass(&self, point: usize);
    /// What the wall clock of that machine shows.
    fn wall_ms(&self) -> u64;
    /// A number that no other machine has.
    fn number(&self) -> u32;
}

std::thread_local! {
    static SIMULATOR: RefCell<Option<Rc<dyn Simulator>>> = const { RefCell::new(None) };
}

/// Has this thread's machines simulated, or no more.
pub fn simulate(simulator: Option<Rc<dyn Simulator>>) {
    SIMULATOR.with(|slot| *slot.borrow_mut() = simulator);
}

fn simulator() -> Option<Rc<dyn Simulator>> {
    SIMULATOR.with(|slot| slot.borrow().clone())
}

/// Whether the bug of this index is planted.
#[inline]
pub fn is_planted(bug: usize) -> bool {
    PLANTED.load(Ordering::Relaxed) == bug
}

/// Plants one bug in this process in place of any other; `None` takes it out.
///
/// # Errors
/// There is no such bug; the message lists those there are.
pub fn plant(name: Option<&str>) -> Result<(), Unknown> {
    let index = match name {
        None => NONE,
        Some(name) => PLANTED_BUGS
            .iter()
            .position(|bug| bug.name == name)
            .ok_or_else(|| unknown("bug", name, PLANTED_BUGS.iter().map(|bug| bug.name)))?,
    };
    PLANTED.store(index, Ordering::Relaxed);
    Ok(())
}

/// The index of a crash point.
///
/// # Errors
/// There is no such point; the message lists those there are.
pub fn point_named(name: &str) -> Result<usize, Unknown> {
    CRASH_POINTS
        .iter()
        .position(|point| point.name == name)
        .ok_or_else(|| unknown("crash point", name, CRASH_POINTS.iter().map(|point| point.name)))
}

/// Kills this process at the `passing`th passing of a crash point.
///
/// # Errors
/// As [`point_named`].
pub fn arm(name: &str, passing: u32) -> Result<(), Unknown> {
    let point = point_named(name)?;
    PASSINGS_LEFT.store(passing, Ordering::Relaxed);
    ARMED.store(point, Ordering::Release);
    Ok(())
}

/// Plants and arms what the environment names.
///
/// # Errors
/// Unknown names, or a passing that is not a number from 1.
pub fn from_environment() -> Result<(), Unknown> {
    if let Ok(name) = std::env::var(BUG_VARIABLE) {
        plant(Some(&name))?;
        std::eprintln!("{MARKER}: bug {name} is planted");
    }
    if let Ok(text) = std::env::var(CRASH_VARIABLE) {
        let (name, passing) = text.split_once(':').unwrap_or((&text, "1"));
        let passing = passing.parse().ok().filter(|&passing| passing > 0);
        let passing = passing.ok_or_else(|| {
            Unknown(std::format!(
                "{CRASH_VARIABLE}={text}: write name:n, where n counts passings from 1"
            ))
        })?;
        arm(name, passing)?;
        std::eprintln!("{MARKER}: crashes at passing {passing} of {name}");
    }
    Ok(())
}

/// Code has come to the crash point of this index.
pub fn pass(point: usize) {
    if let Some(simulator) = simulator() {
        simulator.pass(point);
    } else if ARMED.load(Ordering::Acquire) == point && PASSINGS_LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
        // Not an exit, not an abort: nothing of ours may run any more, and the kernel keeps what it has.
        let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        unreachable!("a process that killed itself runs on: {killed:?}");
    }
}

/// What this machine's own wall clock shows, in ms.
pub fn host_wall_ms() -> u64 {
    match simulator() {
        Some(simulator) => simulator.wall_ms(),
        None => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64),
    }
}

/// A number that differs from machine to machine.
pub fn host_number() -> u32 {
    simulator().map_or_else(std::process::id, |simulator| simulator.number())
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Unknown {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    Unknown(std::format!(
        "there is no {what} {name:?}; known are: {}",
        known.join(", ")
    ))
}
