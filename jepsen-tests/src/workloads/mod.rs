//! What clients do to a running cluster, and what they note.
//!
//! A [`plan::Plan`] says what is for sale and how callers behave; [`caller`] are the callers, each a process that
//! does one thing at a time; [`shop`] carries their calls out on the shipped client and records them; [`keeper`]
//! changes what there is to sell; [`clerk`]s write [`documents`]; [`watch`] watches the feed beside them; [`finale`]
//! heals, resolves and compares; [`effects`] finds, when all is over, where in the log each effect stands; [`books`]
//! reads what checkouts have left.
//!
//! Every workload mixes its own speciality with reads, so that every history shows counters moving. Requests are
//! drawn from a seed; their timing is not: processes are real.

pub mod books;
pub mod caller;
pub mod clerk;
pub mod documents;
pub mod effects;
pub mod finale;
pub mod keeper;
pub mod plan;
pub mod shop;
pub mod watch;

/// The workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Workload {
    /// One hot sale, sold out soon; a second wave when units come back and when it is restocked.
    Flash,
    /// Short holds: confirms race against expiry.
    Ttl,
    /// The same key again: after an answer, after an unknown, and twice at once.
    Dedup,
    /// Many sales of different sizes, hold times and limits, with quantities.
    Mixed,
    /// Feeds followed from many places and moments, beside all of the above.
    Watch,
}

impl Workload {
    /// All of them.
    pub fn all() -> &'static [Workload] {
        clap::ValueEnum::value_variants()
    }

    /// Its name.
    pub fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self).expect("no workload is hidden");
        value.get_name().to_owned()
    }
}
