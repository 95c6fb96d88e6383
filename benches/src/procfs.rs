//! What a process costs, from Linux's `/proc`.

use std::time::Duration;

use crate::failure::{Doing, Failure};

/// Length of a tick of processor time in `/proc`: Linux's user space has had 100 a second since ever.
const TICK: Duration = Duration::from_millis(10);

/// Resident memory of a process, in bytes.
///
/// # Errors
/// There is no such process.
pub fn resident_bytes(process: u32) -> Result<u64, Failure> {
    let path = format!("/proc/{process}/status");
    let doing = format!("reading {path}");
    let status = std::fs::read_to_string(path).doing(&doing)?;
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| Failure::new(doing, "it has no VmRSS in kB"))
}

/// Open file descriptors of a process.
///
/// # Errors
/// There is no such process.
pub fn descriptors(process: u32) -> Result<u64, Failure> {
    let path = format!("/proc/{process}/fd");
    let open = std::fs::read_dir(&path).doing(&format!("reading {path}"))?;
    Ok(open.count() as u64)
}

/// Processor time of a process and all its threads so far, in user and kernel mode.
///
/// # Errors
/// There is no such process.
pub fn processor_time(process: u32) -> Result<Duration, Failure> {
    Ok(stat(process)?.processor_time)
}

/// The same of a process and those that it started itself, whether they still run or have ended.
///
/// # Errors
/// There is no such process.
pub fn family_processor_time(parent: u32) -> Result<Duration, Failure> {
    let processes = std::fs::read_dir("/proc").doing("reading /proc")?;
    let children = processes.filter_map(|process| {
        let stat = std::fs::read_to_string(process.ok()?.path().join("stat")).ok()?;
        Stat::of(&stat).filter(|stat| stat.parent == parent)
    });
    // The children first: one that ends meanwhile counts twice then, for as little as it can have worked, and not never.
    let running: Duration = children.map(|child| child.processor_time).sum();
    let stat = stat(parent)?;
    Ok(running + stat.processor_time + stat.ended_children_time)
}

/// What is read of a process's line in `/proc`.
struct Stat {
    parent: u32,
    processor_time: Duration,
    /// Of the children that it has waited for.
    ended_children_time: Duration,
}

fn stat(process: u32) -> Result<Stat, Failure> {
    let path = format!("/proc/{process}/stat");
    let doing = format!("reading {path}");
    let stat = std::fs::read_to_string(path).doing(&doing)?;
    Stat::of(&stat).ok_or_else(|| Failure::new(doing, "it has no times"))
}

impl Stat {
    fn of(stat: &str) -> Option<Stat> {
        // The second field, the name in brackets, may hold anything; the parent is the 4th; utime and stime are the
        // 14th and 15th, and behind them those of the children.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace().skip(1);
        let parent = fields.next()?.parse().ok()?;
        let mut times = fields.skip(9).map(|ticks| ticks.parse::<u32>().ok());
        let mut time = || Some(TICK * (times.next()?? + times.next()??));
        Some(Stat {
            parent,
            processor_time: time()?,
            ended_children_time: time()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_behind_a_name_that_may_hold_anything() {
        let stat = Stat::of("7 (a) b (c)) S 3 7 7 0 -1 4194560 1 2 3 4 150 50 90 10 20 0 1 0 5 6 7").unwrap();
        assert_eq!((stat.parent, stat.processor_time), (3, Duration::from_secs(2)));
        assert_eq!(stat.ended_children_time, Duration::from_secs(1));
        assert!(Stat::of("7 (short) S 3").is_none());
    }

    #[test]
    fn a_process_resides_somewhere_and_takes_time() {
        let own = std::process::id();
        assert!(resident_bytes(own).unwrap() > 100_000);
        assert!(processor_time(own).is_ok());
        assert!(
            descriptors(own).unwrap() > 2,
            "what every process begins with, and the directory itself"
        );
        assert!(resident_bytes(u32::MAX).is_err() && processor_time(u32::MAX).is_err());
        assert!(descriptors(u32::MAX).is_err());
    }
}
