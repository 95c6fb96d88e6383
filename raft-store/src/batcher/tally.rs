//! How claims were answered, counted an entry at a time.
//!
//! A claim costs one addition to a number on the stack of the batcher; counters move once for each entry.

use inventory_machine::reply::{Grant, Rejection, Reply};
use metrics::Counter;

/// Counters of this process; they count nothing unless somebody records.
pub(super) struct Claims {
    counters: [Counter; OUTCOMES.len()],
}

/// Outcomes of claims and decrements, as labels; the order is that of [`place`].
const OUTCOMES: [&str; 5] = ["granted", "repeated", "already", "sold-out", "refused"];

/// One entry's claims.
#[derive(Default)]
pub(super) struct Tally([u32; OUTCOMES.len()]);

impl Tally {
    /// One claim was answered.
    pub fn add(&mut self, reply: &Reply) {
        self.0[place(reply)] += 1;
    }
}

fn place(reply: &Reply) -> usize {
    match reply {
        Reply::Claim { grant, .. } => match grant {
            Grant::Granted => 0,
            Grant::Repeated => 1,
            Grant::Already => 2,
        },
        Reply::Rejected(Rejection::SoldOut { .. }) => 3,
        _ => 4,
    }
}

impl Claims {
    pub fn new() -> Claims {
        metrics::describe_counter!(
            "holdfast_claims_total",
            "Claims answered by this leader, by outcome."
        );
        Claims {
            counters: OUTCOMES
                .map(|outcome| metrics::counter!("holdfast_claims_total", "outcome" => outcome)),
        }
    }

    /// An entry's, or a round of refusals', worth of claims.
    pub fn count(&self, tally: &Tally) {
        for (counter, count) in self.counters.iter().zip(tally.0) {
            if count > 0 {
                counter.increment(count.into());
            }
        }
    }
}
