//! What is known of a figure before it is measured: its unit, its target, and what it is shown beside.

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// So many a second: more is better.
    PerSecond,
    /// 2²⁰ bytes a second: more is better.
    MibPerSecond,
    /// Milliseconds: less is better.
    Ms,
    /// Seconds: less is better.
    Seconds,
    /// Bytes: less is better.
    Bytes,
    /// Microseconds: less is better.
    Us,
    /// Hundredths: less is better.
    Percent,
}

impl Unit {
    /// As it stands behind a number.
    pub fn text(self) -> &'static str {
        match self {
            Unit::PerSecond => "/s",
            Unit::MibPerSecond => "MiB/s",
            Unit::Ms => "ms",
            Unit::Seconds => "s",
            Unit::Bytes => "B",
            Unit::Us => "µs",
            Unit::Percent => "%",
        }
    }

    /// A number of it, for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::PerSecond | Unit::MibPerSecond => thousands(value),
            Unit::Ms => format!("{value:.2}"),
            Unit::Seconds | Unit::Us | Unit::Percent => format!("{value:.1}"),
            Unit::Bytes => format!("{value:.0}"),
        }
    }

    /// Whether a larger number is the better one.
    pub fn more_is_better(self) -> bool {
        matches!(self, Unit::PerSecond | Unit::MibPerSecond)
    }

    /// Whether this is as good as the target.
    pub fn reaches(self, value: f64, target: f64) -> bool {
        if self.more_is_better() {
            value >= target
        } else {
            value <= target
        }
    }

    /// Which share of the limit this is: 1 at the limit, whichever way is better.
    pub fn share(self, value: f64, limit: f64) -> f64 {
        if self.more_is_better() {
            value / limit
        } else {
            limit / value
        }
    }
}

/// A kind of figure.
pub struct Kind {
    /// Its name for programs.
    pub id: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// What it should reach.
    pub target: Option<f64>,
    /// The limit that it is shown beside.
    pub limit: Option<&'static str>,
    /// Our figure for the same work, when this is another store's.
    pub ours: Option<&'static str>,
}

pub(super) const fn kind(id: &'static str, title: &'static str, unit: Unit) -> Kind {
    Kind {
        id,
        title,
        unit,
        target: None,
        limit: None,
        ours: None,
    }
}

/// Another store's, in operations per second.
pub(super) const fn peer(id: &'static str, title: &'static str, ours: &'static str) -> Kind {
    Kind {
        ours: Some(ours),
        ..kind(id, title, Unit::PerSecond)
    }
}

impl Kind {
    pub(super) const fn target(self, target: f64) -> Kind {
        Kind {
            target: Some(target),
            ..self
        }
    }
    pub(super) const fn in_ms(self) -> Kind {
        Kind {
            unit: Unit::Ms,
            ..self
        }
    }
    pub(super) const fn of(self, limit: &'static str) -> Kind {
        Kind {
            limit: Some(limit),
            ..self
        }
    }
}

/// A whole number with its thousands apart.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The same, but fractions stay fractions.
pub fn thousands_or(value: f64) -> String {
    if value.fract() == 0.0 {
        thousands(value)
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        for (value, text) in [
            (0.0, "0"),
            (999.4, "999"),
            (1_000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(thousands(value), text);
        }
    }
}
