//! What must be true of every run, whatever the store is made of: one file, one verdict each.
//!
//! A [`Run`] is a history and what the harness observed beside it, from a simulated cluster or from real
//! processes alike. A property looks only at these: it knows no fault, no bug and no part of the store. Each is
//! sound by itself: where an outcome is unknown it assumes whatever speaks for the store. That the answers fit
//! into one order is the checker's to decide; most of what is here could be true of a store that is not
//! linearizable, and names in plain words what went wrong.

pub mod checkout;
mod confirmed_stays;
mod conservation;
mod feed;
mod healed;
mod hold_time;
mod ledger;
mod linearizable;
mod log_time;
mod no_oversell;
mod nothing_lost;
mod observations;
mod one_effect_per_key;
mod operations;
mod reads_at_index;
mod replicas_equal;
mod sold_out_is_true;
#[cfg(test)]
mod testing;
mod too_late;
mod user_limit;

pub use linearizable::{linearizable, linearizable_with};
pub use observations::{
    Counters, Healing, Observations, Replica, ReplicaSale, SeenEvent, SeenFeed, SeenHash, SeenRead,
};
pub use operations::{End, Operation};
use serde::{Deserialize, Serialize};

use crate::history::History;

/// Everything that is known of one run.
pub struct Run {
    /// What clients asked and heard.
    pub history: History,
    /// What else was seen.
    pub observations: Observations,
    /// The history, an operation at a time, in the order of invocation.
    pub operations: Vec<Operation>,
}

impl Run {
    /// Puts history and observations together.
    pub fn new(history: History, observations: Observations) -> Run {
        let operations = operations::collect(&history);
        Run {
            history,
            observations,
            operations,
        }
    }

    /// The string of a name in the history.
    pub(crate) fn text(&self, name: crate::history::Name) -> &str {
        self.history.names.text(name)
    }
}

/// What a property says of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It holds.
    Valid,
    /// It could not be decided.
    Unknown,
    /// It does not hold.
    Invalid,
}

/// One property's word on one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which property.
    pub property: String,
    /// What it says.
    pub verdict: Verdict,
    /// One sentence: what is wrong, or how much was looked at.
    pub summary: String,
    /// Operations of the history that the sentence is about.
    pub operations: Vec<u64>,
}

/// One property.
pub struct Property {
    /// Its name, as reports show it.
    pub name: &'static str,
    /// What it promises.
    pub promise: &'static str,
    check: fn(&Run, &mut Look),
}

/// All of them.
pub const PROPERTIES: &[Property] = &[
    Property {
        name: "conservation",
        promise: "in every read, available + held + sold = total",
        check: conservation::check,
    },
    Property {
        name: "no-oversell",
        promise: "live holds and sold units are never more than the sale has",
        check: no_oversell::check,
    },
    Property {
        name: "user-limit",
        promise: "nobody has more live units than a user may",
        check: user_limit::check,
    },
    Property {
        name: "confirmed-stays",
        promise: "what was confirmed stays confirmed",
        check: confirmed_stays::check,
    },
    Property {
        name: "nothing-lost",
        promise: "every acknowledged effect is on every replica, and nothing else is",
        check: nothing_lost::check,
    },
    Property {
        name: "one-effect-per-key",
        promise: "a key has at most one effect, and tells it for ever",
        check: one_effect_per_key::check,
    },
    Property {
        name: "sold-out-is-true",
        promise: "sold out is said only when too few units were available",
        check: sold_out_is_true::check,
    },
    Property {
        name: "log-time",
        promise: "log time never falls along the log, and an entry has one",
        check: log_time::check,
    },
    Property {
        name: "nothing-too-late",
        promise: "nothing happens after the log time after which it was said to be impossible",
        check: too_late::check,
    },
    Property {
        name: "hold-time",
        promise: "no hold ends early on the harness's own clock, none is confirmed past its deadline",
        check: hold_time::check,
    },
    Property {
        name: "replicas-equal",
        promise: "replicas at one index have one state, and their records add up to their counters",
        check: replicas_equal::check,
    },
    Property {
        name: "reads-at-index",
        promise: "reads at one index show one state, and bounded reads are as fresh as asked for",
        check: reads_at_index::check,
    },
    Property {
        name: "feed",
        promise: "the feed has every change once, in order, wherever it is watched",
        check: feed::check,
    },
    Property {
        name: "healed",
        promise: "after the last fault somebody leads in time, every unknown becomes known, every hold ends",
        check: healed::check,
    },
];

/// Whether replicas have one state: all there is to say of nodes where the history is not of claims.
pub fn replicas_equal(run: &Run) -> Finding {
    let mut look = Look::default();
    replicas_equal::check(run, &mut look);
    look.finding("replicas-equal")
}

/// What every property says of a run.
pub fn check(run: &Run) -> Vec<Finding> {
    PROPERTIES
        .iter()
        .map(|property| {
            let mut look = Look::default();
            (property.check)(run, &mut look);
            look.finding(property.name)
        })
        .collect()
}

/// A property's notes while it looks.
#[derive(Default)]
pub(crate) struct Look {
    looked: u64,
    wrong: u64,
    first: Option<(String, Vec<u64>)>,
}

impl Look {
    /// Looks at one thing; says so when it is not right. `operations` are those it is about.
    pub(crate) fn at(&mut self, right: bool, operations: &[u64], wrong: impl FnOnce() -> String) {
        self.looked += 1;
        if !right {
            self.wrong += 1;
            self.first.get_or_insert_with(|| (wrong(), operations.to_vec()));
        }
    }

    fn finding(self, property: &str) -> Finding {
        let (verdict, summary, operations) = match self.first {
            None => (Verdict::Valid, format!("{} looked at", self.looked), Vec::new()),
            Some((first, operations)) => {
                let summary = match self.wrong {
                    1 => first,
                    more => format!("{first} (and {} more)", more - 1),
                };
                (Verdict::Invalid, summary, operations)
            }
        };
        Finding {
            property: property.to_owned(),
            verdict,
            summary,
            operations,
        }
    }
}
