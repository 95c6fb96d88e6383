//! What can be wrong with a file, and the limits that say so.

use std::io;

use super::Schema;

/// Longest line that is read, in bytes: a hundred times what an event needs; more is some other file.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;

/// Most units of a sale, or of one operation: a million million, so that sums of billions of them still fit.
pub(super) const UNITS_MAX: u64 = 1_000_000_000_000;

/// Latest log time or deadline, and longest hold, in ms: 2^53, some 285,000 years. More is a mistake, and
/// would not survive a reader of JSON that keeps its numbers as floats.
pub(super) const MS_MAX: u64 = 1 << 53;

/// The file is not a history.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ReadError {
    /// Which line, from one.
    pub line: u64,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read, or its compression is broken off.
    #[error("cannot be read ({0}); the file may be cut off or damaged: get it again")]
    Unreadable(#[from] io::Error),
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
    /// Nothing happened in it.
    #[error("the history ends before its first operation; it may be cut off")]
    NoOperations,
    /// A line that is too long for an event.
    #[error("longer than {LINE_BYTES_MAX} bytes; this is not a history of one event a line")]
    TooLong,
    /// No JSON, or not of the right form.
    #[error("not an event ({0}); the file may be cut off or of another format (see --format)")]
    Malformed(#[from] serde_json::Error),
    /// The first line is no header, or a bad one.
    #[error("not the header of an inventory history: {0}")]
    Header(String),
    /// A second header.
    #[error("a second header: two histories in one file")]
    SecondHeader,
    /// A field that this event must have is not there.
    #[error("{event} without `{field}`")]
    Missing {
        /// Which event.
        event: String,
        /// Which field.
        field: &'static str,
    },
    /// Time falls.
    #[error("time falls from {before} to {now} ns; lines must be in real-time order")]
    TimeFalls {
        /// Time of an earlier line.
        before: u64,
        /// Time of this one.
        now: u64,
    },
    /// The sale is not in the header.
    #[error("sale {0:?} is not in the header")]
    SaleUnknown(String),
    /// An operation of schema 2 in a history of schema 1.
    #[error("{0} needs schema {schema}", schema = Schema::Two.name())]
    NeedsSchemaTwo(&'static str),
    /// Two operations have one id.
    #[error("operation {0} is invoked a second time; a retry has a new id")]
    InvokedTwice(u64),
    /// An operation that never started has ended.
    #[error("operation {0} was never invoked")]
    NeverInvoked(u64),
    /// It ends a second time.
    #[error("operation {0} was completed before")]
    CompletedTwice(u64),
    /// It is not the operation that was invoked.
    #[error("operation {id} was invoked with {field} {invoked}, not {found}")]
    Changed {
        /// The operation.
        id: u64,
        /// Which field.
        field: &'static str,
        /// What the invocation said.
        invoked: String,
        /// What this line says.
        found: String,
    },
    /// No answer to such an operation.
    #[error("{outcome} is no answer to {kind}")]
    NoAnswer {
        /// What was heard.
        outcome: &'static str,
        /// What was asked.
        kind: &'static str,
    },
    /// Some answers have an index and some have none.
    #[error("{0} `idx`, unlike the answers before it; either all have one or none has")]
    IndexMixed(&'static str),
    /// A time that cannot be meant.
    #[error("`{field}` is {ms} ms; at most {MS_MAX} can be meant")]
    Time {
        /// Which field.
        field: &'static str,
        /// What it says.
        ms: u64,
    },
    /// A quantity of nothing, or of more than there can be.
    #[error("{0} units; at least one and at most {UNITS_MAX} can be meant")]
    Quantity(u64),
}

/// A time, if it can be meant.
pub(super) fn time(ms: u64, field: &'static str) -> Result<u64, Problem> {
    if ms > MS_MAX {
        return Err(Problem::Time { field, ms });
    }
    Ok(ms)
}
