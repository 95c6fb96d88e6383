//! Numbers as people read them.

/// Digits in groups of three.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count and its noun, which takes an s unless there is one.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// A count short enough for an axis: 12k, 3.4M.
pub fn short(count: f64) -> String {
    for (unit, letter) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if count >= unit {
            return format!("{}{letter}", trimmed(count / unit));
        }
    }
    trimmed(count)
}

/// A span of time, given in ns.
pub fn span(ns: f64) -> String {
    if ns == 0.0 {
        return "0 s".to_owned();
    }
    for (unit, name) in [(1e9, "s"), (1e6, "ms"), (1e3, "µs")] {
        if ns >= unit {
            return format!("{} {name}", trimmed(ns / unit));
        }
    }
    format!("{} ns", trimmed(ns))
}

/// Three digits where they tell something.
fn trimmed(value: f64) -> String {
    let text = match value {
        v if v >= 100.0 || v.fract() == 0.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    };
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole.to_owned(),
        Some(_) => text.trim_end_matches('0').to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(counted(1, "operation"), "1 operation");
        assert_eq!(counted(2_000, "operation"), "2,000 operations");
        for (value, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (950.0, "950"),
            (12_500.0, "12.5k"),
            (2e6, "2M"),
        ] {
            assert_eq!(short(value), text);
        }
        for (ns, text) in [
            (0.0, "0 s"),
            (900.0, "900 ns"),
            (1_500.0, "1.5 µs"),
            (2e6, "2 ms"),
            (1.234e9, "1.23 s"),
            (6e10, "60 s"),
            (99_960.0, "100 µs"),
        ] {
            assert_eq!(span(ns), text);
        }
    }
}
