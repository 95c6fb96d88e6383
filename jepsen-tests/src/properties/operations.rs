//! A history, an operation at a time.

use std::collections::HashMap;

use crate::history::{Answer, Call, History, Name, What};

/// One operation from its invocation to its end.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its id in the history.
    pub id: u64,
    /// Who did it.
    pub p: u64,
    /// On which sale.
    pub sale: Name,
    /// What was asked.
    pub call: Call,
    /// When, in ns.
    pub invoked_ns: u64,
    /// When it returned, in ns; `u64::MAX`: never.
    pub returned_ns: u64,
    /// How it ended.
    pub end: End,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an answer.
    Answered(Answer),
    /// It definitely did not happen.
    Failed,
    /// Nobody knows.
    Unknown,
    /// Nobody knew, until this was learned of it.
    Learned(Answer),
    /// Nobody knew, until it was learned that it never happened and never will.
    Abandoned,
}

impl Operation {
    /// What it answered, or what was learned of it.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.end {
            End::Answered(answer) | End::Learned(answer) => Some(answer),
            End::Failed | End::Unknown | End::Abandoned => None,
        }
    }

    /// The answer, if it says that something changed.
    pub fn effect(&self) -> Option<&Answer> {
        self.answer().filter(|answer| answer.outcome.is_effect())
    }

    /// Whether it may have happened without anybody knowing.
    pub fn is_unknown(&self) -> bool {
        self.end == End::Unknown
    }
}

pub(super) fn collect(history: &History) -> Vec<Operation> {
    let mut operations: Vec<Operation> = Vec::new();
    let mut places: HashMap<u64, usize> = HashMap::new();
    for event in &history.events {
        let (id, end) = match &event.what {
            What::Invoke { id, p, sale, call } => {
                places.insert(*id, operations.len());
                operations.push(Operation {
                    id: *id,
                    p: *p,
                    sale: *sale,
                    call: *call,
                    invoked_ns: event.t,
                    returned_ns: u64::MAX,
                    end: End::Unknown,
                });
                continue;
            }
            What::Ok { id, answer } => (id, End::Answered(*answer)),
            What::Fail { id } => (id, End::Failed),
            What::Resolve { id, applied } => (id, applied.map_or(End::Abandoned, End::Learned)),
            What::Info { .. } | What::Fault { .. } => continue,
        };
        let operation = &mut operations[places[id]];
        operation.end = end;
        if matches!(event.what, What::Ok { .. } | What::Fail { .. }) {
            operation.returned_ns = event.t;
        }
    }
    operations
}
