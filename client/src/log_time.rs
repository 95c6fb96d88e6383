//! What log time was when it was last seen, and until when a command made now may apply.
//!
//! Every command carries a latest log time, chosen here and the same on every attempt: so an attempt that
//! the network delays is dead by then wherever it was delayed, and the node does not give it a fresh
//! minute when it arrives at last. Answers tell the log time; before the first, and after a silence, the
//! nodes are asked for theirs.
//!
//! A sighting is never far ahead of log time (see [`SLACK_MS`]) and may be behind: then commands only live
//! a little shorter.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// Furthest ahead of log time that a node lets a command apply, in ms.
const NOT_AFTER_MS_MAX: u64 = 60_000;

/// A sighting may be ahead of the log time that a command meets by this much, in ms: a leader that was
/// deposed, or cut off for its last half second, has told of times that no entry carries. Its successor
/// is behind it by less than two seconds: a second between reports, and an election.
const SLACK_MS: u64 = 5_000;

/// How long a command may live from the last sighting, in ms of log time, at most; and unless set otherwise.
const LIFE_MS: u64 = NOT_AFTER_MS_MAX - SLACK_MS;

/// The longest life of a command.
pub(crate) const LIFE_MAX: Duration = Duration::from_millis(LIFE_MS);

/// The shortest: an entry and its answer, with an election between them.
pub(crate) const LIFE_MIN: Duration = Duration::from_secs(1);

/// Longest a sighting is used: commands then live three quarters of a minute, far longer than a call. Where
/// they live shorter, it is a quarter of that.
const SIGHTING_AGE_MS_MAX: u64 = 10_000;

/// The newest log time seen. The two halves of a sighting may be read a moment apart: a command then
/// lives a little shorter, or the nodes are asked once more than needed.
pub(crate) struct LogTime {
    origin: Instant,
    log_time_ms: AtomicU64,
    /// Since the origin, plus one; zero: never.
    seen_ms: AtomicU64,
    /// How long a command may live from a sighting.
    life_ms: u64,
}

impl LogTime {
    /// Commands live so long.
    pub(crate) fn new(life: Duration) -> LogTime {
        LogTime {
            life_ms: life.as_millis() as u64,
            origin: Instant::now(),
            log_time_ms: AtomicU64::new(0),
            seen_ms: AtomicU64::new(0),
        }
    }

    /// A node said what log time it is. One that lags tells nothing new, unless nothing else is known any
    /// more: a cluster restored from a backup is behind what was seen before.
    pub(crate) fn saw(&self, log_time_ms: u64, now: Instant) {
        if log_time_ms >= self.log_time_ms.load(Ordering::Relaxed) || self.not_after_ms(now).is_none() {
            self.log_time_ms.store(log_time_ms, Ordering::Relaxed);
            self.seen_ms.store(self.since_ms(now) + 1, Ordering::Relaxed);
        }
    }

    /// The latest log time for a command made now; `None` when log time must be asked for first.
    pub(crate) fn not_after_ms(&self, now: Instant) -> Option<u64> {
        let seen_ms = self.seen_ms.load(Ordering::Relaxed).checked_sub(1)?;
        let age_ms = self.since_ms(now).saturating_sub(seen_ms);
        let log_time_ms = self.log_time_ms.load(Ordering::Relaxed);
        let age_ms_max = SIGHTING_AGE_MS_MAX.min(self.life_ms / 4);
        (age_ms <= age_ms_max).then(|| log_time_ms.saturating_add(self.life_ms))
    }

    fn since_ms(&self, now: Instant) -> u64 {
        now.duration_since(self.origin).as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_live_from_the_last_sighting_and_an_old_one_counts_for_nothing() {
        let time = LogTime::new(LIFE_MAX);
        let at = |ms| time.origin + Duration::from_millis(ms);
        assert_eq!(time.not_after_ms(at(0)), None, "log time was never seen");
        time.saw(7_000, at(100));
        assert_eq!(time.not_after_ms(at(100)), Some(62_000));
        assert_eq!(
            time.not_after_ms(at(10_100)),
            Some(62_000),
            "log time may have stood still"
        );
        assert_eq!(time.not_after_ms(at(10_101)), None);
        time.saw(8_000, at(20_000));
        time.saw(6_000, at(21_000));
        assert_eq!(
            time.not_after_ms(at(21_000)),
            Some(63_000),
            "one that lags is not believed"
        );
        time.saw(6_000, at(30_001));
        assert_eq!(
            time.not_after_ms(at(30_001)),
            Some(61_000),
            "unless it is all that is known"
        );
    }
}
