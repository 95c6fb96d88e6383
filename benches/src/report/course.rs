//! How the calls of one measurement went: what its plots show. Bounded, however many calls there were.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// A rate is told for each of so many parts of the window: fine enough to see a sync that stalls, coarse enough
/// that some thousand calls are in each.
pub const TICK: Duration = Duration::from_millis(100);

/// Latencies along the axis of a plot: one for each pixel or two.
pub const POINTS: usize = 240;

/// The axis ends where one call in so many is slower: at 99.99%.
pub const ONE_IN_MAX: f64 = 10_000.0;

/// Percentiles that are told in words.
pub const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 100.0];

/// Latencies and rates of one measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// In ms, at each of [`POINTS`] on an axis of orders of magnitude; `None` beyond the last call.
    pub latency_ms: Vec<Option<f64>>,
    /// In ms, at [`PERCENTILES`]; the last is that of the slowest call, `None` those beyond it.
    pub percentiles_ms: [Option<f64>; PERCENTILES.len()],
    /// Operations per second, for each whole [`TICK`] of the window.
    pub rates: Vec<f64>,
}

impl Course {
    /// From latencies in µs, and the operations of each tick, where they were counted.
    pub fn new(latency_us: &Histogram<u64>, per_tick: &[u64]) -> Self {
        let ms = |quantile| latency_us.value_at_quantile(quantile) as f64 / 1_000.0;
        let calls = latency_us.len() as f64;
        // A share of the calls was slower: less than one call (but for rounding) is nothing that was measured.
        let with = |slower: f64| (slower * calls > 0.999).then(|| ms(1.0 - slower));
        let point = |point: usize| with(ONE_IN_MAX.powf(-(point as f64 + 0.5) / POINTS as f64));
        Course {
            latency_ms: (0..POINTS).map(point).collect(),
            percentiles_ms: PERCENTILES.map(|percentile| match percentile {
                100.0 => (calls > 0.0).then(|| ms(1.0)),
                _ => with(1.0 - percentile / 100.0),
            }),
            rates: per_tick
                .iter()
                .map(|&count| count as f64 / TICK.as_secs_f64())
                .collect(),
        }
    }
}

/// Percentiles by their name, as JSON has them.
pub fn percentiles_json(percentiles_ms: impl Iterator<Item = Option<f64>>) -> Value {
    let named = PERCENTILES.iter().zip(percentiles_ms);
    json!(
        named
            .map(|(percentile, ms)| (percentile.to_string(), json!(ms)))
            .collect::<serde_json::Map<_, _>>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::histogram;

    #[test]
    fn a_line_ends_with_the_last_call_that_it_can_tell_apart() {
        let mut latency_us = histogram();
        // One in a hundred is slow, and there are a thousand: of 99.9% nothing is known.
        for number in 0..1_000 {
            latency_us
                .record(if number % 100 == 0 { 50_000 } else { 1_000 })
                .unwrap();
        }
        let course = Course::new(&latency_us, &[10, 30]);
        let (known, unknown) = course.latency_ms.split_at(POINTS * 3 / 4);
        assert!(
            unknown.iter().all(Option::is_none),
            "one in a thousand is the last"
        );
        let known: Vec<f64> = known.iter().copied().map(Option::unwrap).collect();
        let (most, slow) = known.split_at(POINTS / 2);
        assert!(most.iter().all(|&ms| ms.round() == 1.0), "{most:?}");
        assert!(slow[1..].iter().all(|&ms| ms.round() == 50.0), "{slow:?}");
        let told = course.percentiles_ms.map(|ms| ms.map(f64::round));
        let [fast, slow] = [Some(1.0), Some(50.0)];
        assert_eq!(told, [fast, fast, fast, slow, None, slow]);
        assert_eq!(course.rates, [100.0, 300.0]);
    }

    #[test]
    fn percentiles_have_their_names() {
        let json = percentiles_json([1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(Some).into_iter());
        assert_eq!(
            (&json["50"], &json["99.99"], &json["100"]),
            (&json!(1.0), &json!(5.0), &json!(6.0))
        );
    }
}
