//! Why a bench gives no number.

use std::fmt::Display;

/// What was being done, and what went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{doing}: {why}")]
pub struct Failure {
    doing: String,
    why: String,
}

impl Failure {
    /// A failure that no error caused: a number that should have been another.
    pub fn new(doing: impl Into<String>, why: impl Into<String>) -> Self {
        Failure {
            doing: doing.into(),
            why: why.into(),
        }
    }
}

/// Says what was being done when it failed.
pub trait Doing<T> {
    /// Adds that to the error.
    ///
    /// # Errors
    /// The error, with it.
    fn doing(self, doing: &str) -> Result<T, Failure>;
}

impl<T, E: Display> Doing<T> for Result<T, E> {
    fn doing(self, doing: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(doing, error.to_string()))
    }
}
