//! W3C trace context: which trace a step belongs to, and whether anybody wants to see it.

use std::fmt;

/// A step of a trace, as the header `traceparent` names it: `00-<trace id>-<step>-<flags>`, all in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

/// The flag that says that the trace is recorded.
const SAMPLED: u8 = 1;

impl TraceContext {
    /// Bytes of a `traceparent`.
    pub const BYTES: usize = 55;

    /// The first step of a trace of its own. Zeroes would mean "none", so the last bit of both ids is set.
    pub fn new(trace_id: u128, span_id: u64, sampled: bool) -> TraceContext {
        TraceContext {
            trace_id: trace_id | 1,
            span_id: span_id | 1,
            flags: if sampled { SAMPLED } else { 0 },
        }
    }

    /// Another step of the same trace.
    pub fn child(self, span_id: u64) -> TraceContext {
        TraceContext {
            span_id: span_id | 1,
            ..self
        }
    }

    /// Reads a header; `None` for what is none. Version 00 exactly; later versions may be longer but begin the
    /// same. Upper case is malformed.
    pub fn parse(bytes: &[u8]) -> Option<TraceContext> {
        let (head, rest) = bytes.split_at_checked(TraceContext::BYTES)?;
        let (version, flags) = (number(&head[..2])?, number(&head[53..])?);
        let (trace_id, span_id) = (number(&head[3..35])?, number(&head[36..52])?);
        let whole = [head[2], head[35], head[52]] == [b'-'; 3]
            && version != 0xff
            && trace_id != 0
            && span_id != 0
            && (rest.is_empty() || (version != 0 && rest[0] == b'-'));
        whole.then_some(TraceContext {
            trace_id,
            // As long as the digits that they were read from.
            span_id: span_id as u64,
            flags: flags as u8,
        })
    }

    /// The trace.
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// The step; never zero.
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// Whether anybody wants to see this trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The trace as log lines and collectors write it: 32 hex digits.
    pub fn trace(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The header, without an allocation.
    pub fn header(&self) -> [u8; TraceContext::BYTES] {
        let mut text = [b'-'; TraceContext::BYTES];
        text[..2].copy_from_slice(b"00");
        hex(&mut text[3..35], self.trace_id);
        hex(&mut text[36..52], self.span_id.into());
        hex(&mut text[53..], self.flags.into());
        text
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.header()).expect("hex digits and dashes"))
    }
}

/// The value of at most 32 lower case hex digits.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'9' => Some(value << 4 | u128::from(digit - b'0')),
        b'a'..=b'f' => Some(value << 4 | u128::from(digit - b'a' + 10)),
        _ => None,
    })
}

fn hex(text: &mut [u8], mut value: u128) {
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_read_and_written() {
        let context = TraceContext::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(context.trace(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id(), 0x00f0_67aa_0ba9_02b7);
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), GOOD);
        let child = context.child(6);
        assert_eq!(
            child.to_string(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01"
        );
    }

    #[test]
    fn a_trace_of_its_own_has_ids_whatever_was_drawn() {
        for sampled in [false, true] {
            let begun = TraceContext::new(0, 0, sampled);
            assert_eq!(TraceContext::parse(begun.to_string().as_bytes()), Some(begun));
            assert_eq!(begun.is_sampled(), sampled);
        }
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let later = format!("01{}-more", &GOOD[2..]);
        let read = TraceContext::parse(later.as_bytes()).unwrap();
        assert_eq!(read.to_string(), GOOD, "it goes on in the version that we speak");
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-more"),
            &GOOD.replace("4bf9", "4BF9"),
            &GOOD.replace("4bf9", "xyz9"),
            &format!("ff{}", &GOOD[2..]),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        ] {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
