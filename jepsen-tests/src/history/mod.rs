//! Histories: what every client asked, when, and what it heard; written by [`record`], read by [`read`].
//!
//! Users, keys and holds are interned to a [`Name`] of four bytes, so that a history of a million operations
//! stays small and comparing is cheap; [`History::names`] turns them back. A number names the same as its
//! digits in quotes.
//!
//! The format, field by field, and what is right in it: `HISTORY.md` of this package. What its rules mean in code:
//! [`crate::models::inventory`] and [`crate::models::document`].

mod ahead;
mod call;
mod header;
mod ids;
mod line;
mod names;
mod outcome;
mod problem;
pub mod read;
pub mod record;
mod scan;
mod write;

pub use call::{Call, Kind};
pub use header::{Header, Sale, Schema, TIME_UNIT};
pub(crate) use ids::ById;
pub use names::{Name, Names};
pub use outcome::Outcome;
pub use problem::{Problem, ReadError};
pub use read::Reader;
pub use record::Recorder;

/// Where in the log an answer was given: `"idx":[log index, position]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index {
    /// Index of the log entry.
    pub log_index: u64,
    /// Position in the entry's batch; beyond all of its commands when the answer needed no entry.
    pub position: u64,
}

/// An answer and where it stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<N = Name> {
    /// Where in the log. Histories of others may lack it: then only the search can judge them.
    pub idx: Option<Index>,
    /// Log time, in ms.
    pub lt: u64,
    /// What was said.
    pub outcome: Outcome<N>,
}

/// Start or end of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It begins.
    Start,
    /// It is healed.
    End,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in ns of the history's clock.
    pub t: u64,
    /// What.
    pub what: What,
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An operation starts.
    Invoke {
        /// The operation.
        id: u64,
        /// Who does it: a process does one thing at a time.
        p: u64,
        /// On which sale; on which document, if the call is about one ([`Call::is_document`]).
        sale: Name,
        /// What is asked.
        call: Call,
    },
    /// It returned.
    Ok {
        /// The operation.
        id: u64,
        /// What was heard.
        answer: Answer,
    },
    /// It definitely did not happen.
    Fail {
        /// The operation.
        id: u64,
    },
    /// Unknown: it may take effect at any later time, or never.
    Info {
        /// The operation.
        id: u64,
        /// Why nothing is known.
        err: Box<str>,
    },
    /// What became of an unknown, learned later.
    Resolve {
        /// The operation.
        id: u64,
        /// Its effect; none: it has none and never will.
        applied: Option<Answer>,
    },
    /// What the nemesis did.
    Fault {
        /// Which kind.
        name: Box<str>,
        /// To which node, or nodes.
        node: Box<str>,
        /// Start or end.
        phase: Phase,
    },
}

/// One whole run. Its events are well-formed: time never falls, an operation is invoked once and completed at
/// most once, after its invocation, and resolved only if nothing else is known of it.
#[derive(Clone, Debug)]
pub struct History {
    /// What was for sale.
    pub header: Header,
    /// What the names stand for.
    pub names: Names,
    /// What happened, in real-time order.
    pub events: Vec<Event>,
}

impl History {
    /// How many operations were begun.
    pub fn operations(&self) -> usize {
        self.events
            .iter()
            .filter(|event| matches!(event.what, What::Invoke { .. }))
            .count()
    }
}
