//! Faults by rate, and the draws that decide them.
//!
//! A draw belongs to one call: it depends on the seed and on how many calls came before, and on nothing
//! else. All the dice of a call are thrown every time, whatever the rates, so that changing one rate does
//! not change what becomes of the others.

use std::{fmt, str::FromStr};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How finely rates are told apart.
const MILLION: u32 = 1_000_000;

/// A probability, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "f64")]
pub struct Rate(u32);

impl Rate {
    /// Never.
    pub const NEVER: Rate = Rate(0);
    /// Every time.
    pub const ALWAYS: Rate = Rate(MILLION);
}

impl From<Rate> for f64 {
    fn from(rate: Rate) -> f64 {
        f64::from(rate.0) / f64::from(MILLION)
    }
}

impl TryFrom<f64> for Rate {
    type Error = String;

    fn try_from(share: f64) -> Result<Rate, String> {
        if !(0.0..=1.0).contains(&share) {
            return Err(format!("{share} is not a rate: write 0 to 1, as in 0.05, or 5%"));
        }
        // Between 0 and a million: no cast can lose anything but the fraction.
        Ok(Rate((share * f64::from(MILLION)).round() as u32))
    }
}

impl TryFrom<Value> for Rate {
    type Error = String;

    fn try_from(value: Value) -> Result<Rate, String> {
        match &value {
            Value::String(text) => text.parse(),
            other => Rate::try_from(other.as_f64().unwrap_or(f64::NAN)),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let wrong = || format!("\"{text}\" is not a rate: write 0 to 1, as in 0.05, or 5%");
        let (digits, share) = match text.strip_suffix('%') {
            Some(digits) => (digits, 0.01),
            None => (text, 1.0),
        };
        let number: f64 = digits.parse().map_err(|_| wrong())?;
        Rate::try_from(number * share).map_err(|_| wrong())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", f64::from(*self))
    }
}

/// How often what goes wrong. Changed as a whole or one by one, also at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Confirmations that the card's bank declines.
    pub decline_rate: Rate,
    /// Confirmations that ask the shopper to authenticate (3-D Secure).
    pub challenge_rate: Rate,
    /// Captures that are declined for good; the authorization can only be voided.
    pub capture_decline_rate: Rate,
    /// Refunds that stay pending for a while.
    pub refund_pending_rate: Rate,
    /// Calls refused with 429 before anything happens.
    pub rate_limit_rate: Rate,
    /// Calls answered 500 before anything happens.
    pub error_before_rate: Rate,
    /// Calls answered 500 after they took effect; the 500 is replayed under the same key.
    pub error_after_rate: Rate,
    /// Calls that are never answered; whether they took effect is a coin's toss.
    pub hang_rate: Rate,
    /// Calls that take effect, but whose connection is cut instead of an answer.
    pub lost_answer_rate: Rate,
    /// Calls that are never answered and take effect only later.
    pub late_effect_rate: Rate,
    /// How much later, in ms.
    pub late_effect_ms: u64,
    /// Median time to answer, in ms.
    pub delay_ms: u64,
    /// 99th percentile of the time to answer, in ms; at least the median.
    pub delay_p99_ms: u64,
    /// Calls whose webhooks are sent twice.
    pub webhook_twice_rate: Rate,
    /// Calls whose webhooks are late.
    pub webhook_late_rate: Rate,
    /// How late, in ms.
    pub webhook_late_ms: u64,
    /// Calls whose webhooks are sent before the call is answered.
    pub webhook_early_rate: Rate,
    /// By how much before, in ms.
    pub webhook_early_ms: u64,
    /// Calls whose webhooks are never sent.
    pub webhook_lost_rate: Rate,
    /// Webhooks are spread over this many ms at random, so that they overtake each other.
    pub webhook_shuffle_ms: u64,
}

impl Faults {
    /// These faults with some of them changed, by name.
    ///
    /// # Errors
    /// When a name or a value is not understood, in words.
    pub fn with<'a>(&self, changes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Faults, String> {
        let Ok(Value::Object(mut fields)) = serde_json::to_value(self) else {
            unreachable!("faults are a plain object");
        };
        for (name, value) in changes {
            let value = match serde_json::from_str::<Value>(value) {
                Ok(number @ Value::Number(_)) => number,
                _ => Value::String(value.to_owned()),
            };
            fields.insert(name.to_owned(), value);
        }
        serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
    }

    /// What goes wrong on the road with one call.
    pub(super) fn mishap(&self, draw: &mut Draw) -> Option<Mishap> {
        let rate_limited = draw.chance(self.rate_limit_rate);
        let error_before = draw.chance(self.error_before_rate);
        let error_after = draw.chance(self.error_after_rate);
        let hangs = draw.chance(self.hang_rate);
        let heads = draw.below(2) == 0;
        let lost = draw.chance(self.lost_answer_rate);
        let late = draw.chance(self.late_effect_rate);
        if rate_limited {
            Some(Mishap::RateLimited)
        } else if error_before {
            Some(Mishap::ErrorBefore)
        } else if error_after {
            Some(Mishap::ErrorAfter)
        } else if hangs && heads {
            Some(Mishap::HangBefore)
        } else if hangs {
            Some(Mishap::HangAfter)
        } else if lost {
            Some(Mishap::Lost)
        } else if late {
            Some(Mishap::Late)
        } else {
            None
        }
    }

    /// What goes wrong with the webhooks of one call.
    pub(super) fn whim(&self, draw: &mut Draw) -> Option<Whim> {
        let twice = draw.chance(self.webhook_twice_rate);
        let late = draw.chance(self.webhook_late_rate);
        let early = draw.chance(self.webhook_early_rate);
        let lost = draw.chance(self.webhook_lost_rate);
        if lost {
            Some(Whim::Lost)
        } else if twice {
            Some(Whim::Twice)
        } else if late {
            Some(Whim::Late)
        } else if early {
            Some(Whim::Early)
        } else {
            None
        }
    }

    /// How long one answer takes, in ms: about lognormal, never more than ten times the 99th percentile.
    pub(super) fn answer_ms(&self, draw: &mut Draw) -> u64 {
        // Twelve uniform draws add up to nearly a normal one (Irwin–Hall): mean 6, deviation 1.
        let sum: u64 = (0..12).map(|_| draw.below(u64::from(MILLION))).sum();
        let deviations = sum as f64 / f64::from(MILLION) - 6.0;
        if self.delay_ms == 0 {
            return 0;
        }
        let median = self.delay_ms as f64;
        let p99 = self.delay_p99_ms.max(self.delay_ms) as f64;
        /// The 99th percentile of a normal distribution, in deviations.
        const P99_DEVIATIONS: f64 = 2.326;
        let spread = (p99 / median).ln() / P99_DEVIATIONS;
        (median * (spread * deviations).exp()).min(10.0 * p99).round() as u64
    }
}

/// What can go wrong on the road between caller and provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mishap {
    /// 429, nothing happened.
    RateLimited,
    /// 500, nothing happened, nothing saved.
    ErrorBefore,
    /// 500, it happened, and the 500 is saved.
    ErrorAfter,
    /// No answer, nothing happened.
    HangBefore,
    /// No answer, it happened.
    HangAfter,
    /// The connection is cut, it happened.
    Lost,
    /// No answer, it happens later.
    Late,
}

impl Mishap {
    /// All of them, under the names that magic tokens use.
    pub(super) const ALL: [(&'static str, Mishap, &'static str); 7] = [
        ("rate_limited", Mishap::RateLimited, "429, nothing happened"),
        ("error_before", Mishap::ErrorBefore, "500, nothing happened"),
        (
            "error_after",
            Mishap::ErrorAfter,
            "500, but it happened, and the 500 is replayed",
        ),
        ("hang_before", Mishap::HangBefore, "no answer, nothing happened"),
        ("hang_after", Mishap::HangAfter, "no answer, but it happened"),
        ("lost", Mishap::Lost, "connection cut, but it happened"),
        ("late", Mishap::Late, "no answer, and it happens later"),
    ];

    pub(super) fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, mishap, _)| *mishap == self);
        named.expect("all are listed").0
    }
}

/// What can go wrong with webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Whim {
    Twice,
    Late,
    Early,
    Lost,
}

impl Whim {
    /// All of them, under the names that magic tokens use.
    pub(super) const ALL: [(&'static str, Whim, &'static str); 4] = [
        ("twice", Whim::Twice, "every webhook is sent twice"),
        ("late", Whim::Late, "webhooks come late"),
        ("early", Whim::Early, "webhooks come before the answer"),
        ("lost", Whim::Lost, "webhooks never come"),
    ];
}

/// What a series of draws is for; each has dice of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stream {
    /// Calls that may change something.
    Effects = 1,
    /// Calls that only read.
    Reads = 2,
    /// Ids.
    Ids = 3,
    /// What happens by itself.
    Agenda = 4,
}

/// The dice of one call.
#[derive(Clone, Debug)]
pub(super) struct Draw(Xoshiro256PlusPlus);

impl Draw {
    pub(super) fn new(seed: u64, stream: Stream, ordinal: u64) -> Draw {
        /// Odd, from the golden ratio: neighbouring ordinals become distant seeds.
        const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
        let place = (ordinal << 3 | stream as u64).wrapping_mul(SPREAD);
        Draw(Xoshiro256PlusPlus::seed_from_u64(seed ^ place))
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end)
    }

    pub(super) fn chance(&mut self, rate: Rate) -> bool {
        self.below(u64::from(MILLION)) < u64::from(rate.0)
    }

    /// A prefix and 24 letters and digits: the shape of Stripe's ids.
    pub(super) fn id(&mut self, prefix: &str) -> String {
        const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut id = prefix.to_owned();
        id.extend((0..24).map(|_| char::from(ALPHABET[self.0.random_range(0..ALPHABET.len())])));
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_shares_or_percent() {
        for (text, millionths) in [
            ("0", 0),
            ("1", 1_000_000),
            ("0.05", 50_000),
            ("5%", 50_000),
            ("0.1%", 1_000),
        ] {
            assert_eq!(text.parse(), Ok(Rate(millionths)), "{text}");
        }
        for wrong in ["", "-0.1", "1.1", "101%", "often", "NaN", "inf"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn faults_change_one_by_one() {
        let faults = Faults::default()
            .with([("decline_rate", "5%"), ("delay_ms", "40"), ("hang_rate", "0.25")])
            .unwrap();
        assert_eq!(faults.decline_rate, Rate(50_000));
        assert_eq!(faults.hang_rate, Rate(250_000));
        assert_eq!(faults.delay_ms, 40);
        let more = faults.with([("decline_rate", "0")]).unwrap();
        assert_eq!((more.decline_rate, more.delay_ms), (Rate::NEVER, 40));
        for (name, value) in [
            ("declines", "1"),
            ("decline_rate", "2"),
            ("delay_ms", "soon"),
            ("delay_ms", "-1"),
        ] {
            let wrong = faults.with([(name, value)]).unwrap_err();
            assert!(!wrong.is_empty(), "{name}={value}");
        }
    }

    #[test]
    fn draws_follow_their_rate_and_their_seed() {
        let half = Rate(500_000);
        let heads = |seed| {
            (0..10_000)
                .filter(|ordinal| Draw::new(seed, Stream::Effects, *ordinal).chance(half))
                .collect::<Vec<_>>()
        };
        let count = heads(7).len();
        assert!((4_700..5_300).contains(&count), "{count} of 10,000 at one half");
        assert_eq!(heads(7), heads(7));
        assert_ne!(heads(7), heads(8));
    }

    #[test]
    fn delays_have_their_median_and_their_tail() {
        let faults = Faults {
            delay_ms: 50,
            delay_p99_ms: 1_000,
            ..Faults::default()
        };
        let mut delays: Vec<u64> = (0..10_000)
            .map(|ordinal| faults.answer_ms(&mut Draw::new(1, Stream::Effects, ordinal)))
            .collect();
        delays.sort_unstable();
        assert!((45..56).contains(&delays[5_000]), "median {}", delays[5_000]);
        assert!((800..1_250).contains(&delays[9_900]), "p99 {}", delays[9_900]);
        assert!(delays[9_999] <= 10_000);
        assert_eq!(
            Faults::default().answer_ms(&mut Draw::new(1, Stream::Effects, 1)),
            0
        );
    }
}
