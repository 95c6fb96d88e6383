//! The line that an operator's action leaves: who, what, with which arguments, how it ended, in which trace.
//!
//! One structured line of the tracing target `audit`, so that a log filter or a collector can keep it apart
//! (`log.filter = "info,audit=info"`). It is written once the outcome is known. Secrets have no place in
//! arguments: no call that is audited takes any.

use std::fmt;

use spans::TraceContext;

use crate::access::Caller;

/// The tracing target.
pub const TARGET: &str = "audit";

/// Longest arguments in a line, in bytes: a sale's whole description has some hundreds.
const ARGUMENTS_BYTES_MAX: usize = 2_048;

/// Writes the line. `outcome` is `ok`, or why not; a caller that showed nothing is `anybody`.
pub fn action(
    caller: Option<&Caller>,
    call: &str,
    arguments: &dyn fmt::Debug,
    outcome: &str,
    trace_id: &str,
) {
    let (who, role, shown) = match caller {
        Some(caller) => (caller.name.as_str(), caller.kind.word(), caller.shown.word()),
        None => ("anybody", "none", "nothing"),
    };
    let mut arguments = format!("{arguments:?}");
    if arguments.len() > ARGUMENTS_BYTES_MAX {
        // Never in the middle of a character; zero is the start of one.
        let mut ends = (0..=ARGUMENTS_BYTES_MAX).rev();
        let end = ends.find(|&end| arguments.is_char_boundary(end)).unwrap_or(0);
        arguments.truncate(end);
        arguments.push('…');
    }
    tracing::info!(target: TARGET, who, role, shown, call, arguments, outcome, trace_id, "an operator acted");
}

/// The trace id of a W3C `traceparent`, or a fresh one: 32 hex digits.
pub fn trace_id(traceparent: Option<&str>) -> String {
    traceparent
        .and_then(|text| TraceContext::parse(text.as_bytes()))
        .unwrap_or_else(|| TraceContext::new(rand::random(), rand::random(), false))
        .trace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_that_came_in_goes_on_and_nonsense_does_not() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_id(Some(&format!("00-{id}-00f067aa0ba902b7-01"))), id);
        for nonsense in [
            None,
            Some(""),
            Some("00"),
            Some("00-xyz-1-01"),
            Some("00-00000000000000000000000000000000-1-0"),
        ] {
            let made = trace_id(nonsense);
            assert!(made.len() == 32 && made != id, "{made}");
        }
    }
}
