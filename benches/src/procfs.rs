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

/// Processor time of a process and all its threads so far, in user and kernel mode.
///
/// # Errors
/// There is no such process.
pub fn processor_time(process: u32) -> Result<Duration, Failure> {
    let path = format!("/proc/{process}/stat");
    let doing = format!("reading {path}");
    let stat = std::fs::read_to_string(path).doing(&doing)?;
    // The second field, the name in brackets, may hold anything; utime and stime are the 14th and 15th.
    let ticks = stat.rsplit_once(')').and_then(|(_, rest)| {
        let mut times = rest.split_ascii_whitespace().skip(11);
        Some(times.next()?.parse::<u32>().ok()? + times.next()?.parse::<u32>().ok()?)
    });
    ticks
        .map(|ticks| TICK * ticks)
        .ok_or_else(|| Failure::new(doing, "it has no times"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_resides_somewhere_and_takes_time() {
        let own = std::process::id();
        assert!(resident_bytes(own).unwrap() > 100_000);
        assert!(processor_time(own).is_ok());
        assert!(resident_bytes(u32::MAX).is_err() && processor_time(u32::MAX).is_err());
    }
}
