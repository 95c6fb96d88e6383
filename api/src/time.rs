//! Times as people read them.
//!
//! The store counts holds in log time, which stands still while nobody leads; people want a wall time.
//! The two meet in the position that every answer carries: agreed wall time plus what remains of log
//! time. This process's own clock is never asked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::Position;

/// Last millisecond that RFC 3339 can write (end of the year 9999).
const RFC3339_MS_MAX: u64 = 253_402_300_799_999;

/// RFC 3339 in UTC with milliseconds; times beyond the year 9999 become its last instant.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(unix_ms.min(RFC3339_MS_MAX));
    humantime::format_rfc3339_millis(time).to_string()
}

/// Unix ms of an RFC 3339 time in UTC (ending in `Z`); `None` when it is not one, or before 1970.
pub(crate) fn parse_rfc3339(text: &str) -> Option<u64> {
    let time: SystemTime = humantime::parse_rfc3339(text).ok()?;
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// What is left until a deadline in log time, in ms; zero when it has passed.
pub(crate) fn remaining_ms(deadline_ms: u64, position: &Position) -> u64 {
    deadline_ms.saturating_sub(position.log_time_ms)
}

/// The wall time, in Unix ms, at which a deadline in log time comes if the log's time does not pause.
pub(crate) fn wall_of(deadline_ms: u64, position: &Position) -> u64 {
    position
        .wall_time_ms
        .saturating_add(remaining_ms(deadline_ms, position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_out_and_come_back() {
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(parse_rfc3339("2023-11-14T22:13:20.123Z"), Some(1_700_000_000_123));
        for wrong in [
            "",
            "now",
            "2023-11-14",
            "2023-11-14T22:13:20+02:00",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(parse_rfc3339(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn absurd_times_are_clamped_rather_than_fatal() {
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59.999Z");
        let position = Position {
            log_time_ms: 5,
            wall_time_ms: u64::MAX - 1,
            ..Position::default()
        };
        assert_eq!(wall_of(1_000, &position), u64::MAX);
        assert_eq!(
            wall_of(1, &position),
            u64::MAX - 1,
            "a passed deadline is now, not before"
        );
    }
}
