//! A lock that does not know its owner: acquire needs it free, release needs it taken.

use super::register::Register;
use crate::checker::search::Span;

/// What was done to a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Taken.
    Acquire,
    /// Given back.
    Release,
}

/// The operations on one lock.
pub struct Mutex(Vec<Access>);

impl Mutex {
    /// What was done; when does not matter.
    pub fn new(accesses: &[Access], _spans: &[Span]) -> Mutex {
        Mutex(accesses.to_vec())
    }
}

impl Register for Mutex {
    type Value = bool;

    fn start(&self) -> bool {
        false
    }

    fn known(&self, taken: &bool, operation: usize) -> Option<bool> {
        match self.0[operation] {
            Access::Acquire => (!taken).then_some(true),
            Access::Release => taken.then_some(false),
        }
    }

    fn unknown(&self, _taken: &bool, operation: usize) -> bool {
        self.0[operation] == Access::Acquire
    }
}
