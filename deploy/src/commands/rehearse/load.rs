//! The crowd: claims at the rate that is expected, whether or not earlier ones have been answered.
//!
//! A claim's time counts from when it was due, not from when it could be sent: a cluster that stalls makes everybody
//! wait who would have come meanwhile, and so it is counted.

use std::{future::Future, ops::Range, sync::Arc, time::Duration};

use hdrhistogram::Histogram;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    file::SaleLike,
    visit::{End, Shop, Told, Visit},
};

/// Visits under way at one time: as many as keep the client's queue of commands half full. Beyond that claims wait
/// here, and their time runs.
const VISITS_MAX: usize = 16_384;

/// Latencies are kept up to this, in µs; longer ones count as this. A call gives up before.
const LATENCY_US_MAX: u64 = 120_000_000;

/// What visitors were told in one phase.
pub struct Tally {
    pub offered: u64,
    pub granted: u64,
    pub already: u64,
    pub refused: u64,
    pub unanswered: u64,
    pub unresolved: u64,
    /// What the first of those two said.
    pub first_failure: Option<String>,
    /// From when a claim was due until it was answered, however it ended.
    pub took_us: Histogram<u64>,
    /// When answers came, after the phase began.
    pub answers: Vec<Duration>,
    /// Most that a claim was sent later than it was due.
    pub late_max: Duration,
    /// The grants.
    pub told: Vec<Told>,
    /// When the phase began.
    pub began: Instant,
}

impl Tally {
    pub fn new() -> Tally {
        Tally {
            offered: 0,
            granted: 0,
            already: 0,
            refused: 0,
            unanswered: 0,
            unresolved: 0,
            first_failure: None,
            took_us: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("constants that fit"),
            answers: Vec::new(),
            late_max: Duration::ZERO,
            told: Vec::new(),
            began: Instant::now(),
        }
    }

    /// Claims that were answered: granted, or refused as they should be.
    pub fn answered(&self) -> u64 {
        self.granted + self.already + self.refused
    }

    /// Answers a second over the expected length. An answer in its good time is no lack of capacity, so what took longer
    /// than that is added.
    pub fn answered_per_s(&self, like: &SaleLike) -> f64 {
        let last = self.answers.iter().max().copied().unwrap_or_default();
        let took = last.saturating_sub(Duration::from_millis(like.claim_p99_ms_max));
        self.answered() as f64 / took.max(Duration::from_secs(like.seconds)).as_secs_f64()
    }

    /// A quantile of how long claims took, in ms.
    pub fn took_ms(&self, quantile: f64) -> f64 {
        self.took_us.value_at_quantile(quantile) as f64 / 1e3
    }

    pub fn take(&mut self, visit: Visit) {
        self.offered += 1;
        let took = visit.answered.saturating_sub(visit.due);
        self.took_us
            .saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.late_max = self.late_max.max(visit.sent.saturating_sub(visit.due));
        match visit.end {
            End::Granted(told) => {
                self.granted += 1;
                self.told.push(told);
            }
            End::Already => self.already += 1,
            End::Refused => self.refused += 1,
            End::Unanswered(why) => {
                self.unanswered += 1;
                self.first_failure.get_or_insert(why);
                return;
            }
            End::Unresolved(why) => {
                self.unresolved += 1;
                self.first_failure.get_or_insert(why);
                return;
            }
        }
        self.answers.push(visit.answered);
    }
}

/// When claim `place` of a phase is due, after it began.
fn due(place: u64, per_s: u64) -> Duration {
    Duration::from_nanos((u128::from(place) * 1_000_000_000 / u128::from(per_s)) as u64)
}

/// Offers claims of these numbers at the expected rate, and waits for every visit's end. `stop` ends the offering
/// early; `seen` is told how many visits have ended.
pub async fn offer(
    shop: &Arc<Shop>,
    numbers: Range<u64>,
    stop: impl Future<Output = ()>,
    mut seen: impl FnMut(&Tally),
) -> Tally {
    let mut tally = Tally::new();
    let (began, per_s, first) = (tally.began, shop.like.claims_per_s_expected, numbers.start);
    let mut visits = JoinSet::new();
    let mut next = numbers.start;
    let mut stop = std::pin::pin!(stop);
    while next < numbers.end {
        tokio::select! {
            () = &mut stop => break,
            () = sleep_until(began + due(next - first, per_s)), if visits.len() < VISITS_MAX => {
                // A timer is coarser than the crowd: all that are due go together.
                let now = began.elapsed();
                while next < numbers.end && visits.len() < VISITS_MAX && due(next - first, per_s) <= now {
                    let (shop, due) = (Arc::clone(shop), due(next - first, per_s));
                    let number = next;
                    visits.spawn(async move { shop.visit(number, began, due).await });
                    next += 1;
                }
            }
            Some(visit) = visits.join_next() => {
                tally.take(visit.expect("a visit does not panic"));
                seen(&tally);
            }
        }
    }
    while let Some(visit) = visits.join_next().await {
        tally.take(visit.expect("a visit does not panic"));
        seen(&tally);
    }
    tally
}

/// The longest time without an answer that ended after `since`; `None`: none came after it.
pub fn longest_silence(answers: &[Duration], since: Duration) -> Option<Duration> {
    let mut answers = answers.to_vec();
    answers.sort_unstable();
    let first = answers.partition_point(|at| *at <= since);
    let after = answers.get(first..).filter(|after| !after.is_empty())?;
    let before = first.checked_sub(1).map_or(since, |last| answers[last]);
    let ends = std::iter::once(before).chain(after.iter().copied());
    ends.clone()
        .skip(1)
        .zip(ends)
        .map(|(end, begin)| end - begin)
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn claims_are_due_at_the_rate_that_is_expected() {
        assert_eq!(due(0, 3), Duration::ZERO);
        assert_eq!(due(3, 3), Duration::from_secs(1));
        assert_eq!(due(5_000 * 30, 5_000), Duration::from_secs(30));
    }

    #[test]
    fn time_runs_from_when_a_claim_was_due() {
        let mut tally = Tally::new();
        let visit = |due, sent, answered, end| Visit {
            due: ms(due),
            sent: ms(sent),
            answered: ms(answered),
            end,
        };
        let told = Told {
            claim_id: "c".into(),
            fencing_token: 1,
            fate: super::super::visit::Fate::Paid,
        };
        tally.take(visit(0, 0, 10, End::Granted(told)));
        tally.take(visit(100, 400, 500, End::Refused));
        tally.take(visit(200, 400, 1_200, End::Unanswered("no".into())));
        tally.take(visit(300, 300, 310, End::Already));
        assert_eq!((tally.offered, tally.answered(), tally.unanswered), (4, 3, 1));
        assert_eq!(tally.late_max, ms(300));
        assert_eq!(tally.first_failure.as_deref(), Some("no"));
        // The third never had an answer, and took a second to say so.
        assert!(
            (990.0..1_010.0).contains(&tally.took_ms(1.0)),
            "{}",
            tally.took_ms(1.0)
        );
        assert!(
            (395.0..405.0).contains(&tally.took_ms(0.75)),
            "{}",
            tally.took_ms(0.75)
        );
        // Three answers; the last came before the second was over.
        let like = SaleLike {
            seconds: 1,
            claim_p99_ms_max: 500,
            ..SaleLike::example()
        };
        assert_eq!(tally.answered_per_s(&like), 3.0);
        tally.take(visit(900, 900, 1_500, End::Refused));
        assert_eq!(tally.answered_per_s(&like), 4.0);
        tally.take(visit(900, 900, 3_000, End::Refused));
        assert_eq!(tally.answered_per_s(&like), 2.0);
    }

    #[test]
    fn silence_is_measured_across_the_hand_over() {
        let answers = [ms(100), ms(900), ms(2_000), ms(2_010), ms(300)];
        // From the last answer before it.
        assert_eq!(longest_silence(&answers, ms(1_000)), Some(ms(1_100)));
        assert_eq!(longest_silence(&answers, ms(2_000)), Some(ms(10)));
        // What was silent before does not count.
        assert_eq!(longest_silence(&answers, ms(2_005)), Some(ms(10)));
        assert_eq!(longest_silence(&answers, ms(2_010)), None);
        assert_eq!(longest_silence(&[ms(700)], ms(200)), Some(ms(500)));
        assert_eq!(longest_silence(&[], ms(0)), None);
    }
}
