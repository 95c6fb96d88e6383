//! The three ways a call fails, and what each allows.

pub use proto::v1::Reason;
use proto::v1::{ClaimStatus, Position, SaleStatus};

/// Why a call did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// An answer: nothing changed, and this is why. The same key may be tried again later.
    #[error("refused: {}", .0.message)]
    Rejected(Box<Rejected>),
    /// Never proposed: nothing changed, and the same key may be tried again at once.
    #[error("unavailable: {message}")]
    Unavailable {
        /// What happened and what to do.
        message: String,
        /// When it may be worth trying again, in ms.
        retry_after_ms: u64,
    },
    /// Proposed, outcome not known: it may yet happen. Only the same key, or resolve, tells.
    #[error("outcome unknown: {message}")]
    Unknown {
        /// What happened.
        message: String,
        /// After this log time it can no longer happen.
        not_after_ms: u64,
    },
}

/// A refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// Units available, limit, current token or version: what the reason is about.
    pub value: u64,
    /// Latest deadline of outstanding holds, or end of a lease, in log time.
    pub until_ms: u64,
    /// When the sale opens, Unix ms.
    pub opens_at_ms: u64,
    /// Status of the sale, when it is about that.
    pub sale_status: SaleStatus,
    /// Status of the claim, when it is about that.
    pub claim_status: ClaimStatus,
    /// What the answer reflects.
    pub position: Position,
}
