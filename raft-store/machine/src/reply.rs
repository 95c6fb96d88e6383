//! What the machine answers: replies, rejections, and the views that reads share with them.

use alloc::{string::String, vec::Vec};

use crate::command::{ClaimId, LogMs, Namespace, WallMs};

/// When and where in the log something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Log index of the entry.
    pub log_index: u64,
    /// Position of the command in its entry, from zero.
    pub position: u32,
    /// Term of the entry.
    pub term: u64,
    /// Log time of the entry.
    pub log_time_ms: LogMs,
}

/// Where a claim is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ClaimStatus {
    /// Holds its units until its deadline.
    Held = 1,
    /// Has its units for good.
    Confirmed = 2,
    /// Gave its units back.
    Released = 3,
    /// Lost its units to its deadline.
    Expired = 4,
    /// Was confirmed and then taken back.
    Cancelled = 5,
}

/// One claim as the machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimView {
    /// Its id.
    pub claim_id: ClaimId,
    /// Where it is in its life.
    pub status: ClaimStatus,
    /// Keyed hash of its user.
    pub user: u128,
    /// Units it holds, held or has bought.
    pub quantity: u32,
    /// Its rank among the sale's claims in log order, from one.
    pub rank: u32,
    /// When its hold ends, in log time; meaningful while held.
    pub deadline_ms: LogMs,
    /// What the next step must present.
    pub fencing_token: u64,
    /// When it was granted.
    pub receipt: Receipt,
}

/// Where a sale is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum SaleStatus {
    /// Waits for its opening.
    Scheduled = 1,
    /// Takes claims.
    Open = 2,
    /// Takes no new claims for now.
    Paused = 3,
    /// Takes no new claims ever again.
    Closed = 4,
}

/// One sale as the machine has it. `units_available + units_held + units_confirmed == units_total`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaleView {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its id.
    pub sale_id: String,
    /// Its number: never reused, the machine's own name for it.
    pub sale_number: u32,
    /// Display name.
    pub name: String,
    /// Where it is in its life.
    pub status: SaleStatus,
    /// Units in the sale.
    pub units_total: u32,
    /// Units nobody has.
    pub units_available: u32,
    /// Units in held claims.
    pub units_held: u32,
    /// Units in confirmed claims.
    pub units_confirmed: u32,
    /// Most units a user may have.
    pub per_user_units_max: u32,
    /// Hold time in ms of log time.
    pub hold_ms: u64,
    /// Checkout's extra time in ms of log time.
    pub checkout_max_ms: u64,
    /// Opens by itself at this wall time; zero: by command.
    pub opens_at_ms: WallMs,
    /// Closes by itself at this wall time; zero: by command.
    pub closes_at_ms: WallMs,
    /// Price of a unit in minor units.
    pub price_minor: u64,
    /// ISO 4217 code.
    pub currency: [u8; 3],
    /// Claim records made so far, of whatever status.
    pub claims_made: u32,
    /// Most claim records it may make.
    pub claims_max: u32,
    /// Log index of its last change.
    pub changed_index: u64,
    /// Earliest deadline of a held claim, in log time, if any is held.
    pub first_deadline_ms: Option<LogMs>,
    /// Latest deadline of a held claim, in log time, if any is held.
    pub last_deadline_ms: Option<LogMs>,
}

/// One document as the machine has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentView {
    /// Its key.
    pub document: Vec<u8>,
    /// Its body.
    pub body: Vec<u8>,
    /// Log index of its last write, shifted with its position: grows with every write.
    pub version: u64,
    /// Token of the lease, zero when free.
    pub fencing_token: u64,
    /// End of the lease in log time, zero when free.
    pub leased_until_ms: LogMs,
    /// Deleted by itself at this log time; zero: never.
    pub expires_at_ms: LogMs,
}

/// Some documents in order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocumentList {
    /// They.
    pub documents: Vec<DocumentView>,
    /// Whether there are more after the last of them.
    pub more: bool,
}

/// How a claim was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Grant {
    /// Made by this command.
    Granted = 1,
    /// Made earlier by the same key.
    Repeated = 2,
    /// The user is at the limit: this is the newest claim he has.
    Already = 3,
}

/// What became of a key that was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It made or settled this claim.
    Claim(ClaimView),
    /// It had this effect on something other than a claim.
    Effect(Receipt),
    /// It had none, and cannot have one any more until this log time, by when the straggler has died.
    Abandoned {
        /// End of the fence.
        fenced_until_ms: LogMs,
    },
}

/// Answer to one command, in the order of the commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To claim and decrement.
    Claim {
        /// New or old.
        grant: Grant,
        /// The claim.
        claim: ClaimView,
    },
    /// To confirm, release, extend and cancel: the claim as it is now.
    Settled(ClaimView),
    /// To everything about a sale: when it took effect.
    Done(Receipt),
    /// To a written or leased document.
    Document {
        /// Its version now.
        version: u64,
        /// The lease's token now, zero when free.
        fencing_token: u64,
        /// The lease's end now, in log time.
        leased_until_ms: LogMs,
    },
    /// To resolve.
    Resolved(Resolution),
    /// Refused; nothing changed.
    Rejected(Rejection),
}

/// Why nothing changed. Deterministic: every replica says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Not enough units are available.
    SoldOut {
        /// Units available now (fewer than asked for).
        units_available: u32,
        /// Latest deadline of an outstanding hold: until then more may come; zero when none is out.
        maybe_more_until_ms: LogMs,
    },
    /// The sale has not opened yet, or is paused.
    SaleNotOpen {
        /// Its status.
        status: SaleStatus,
        /// When it opens by itself, wall time; zero: unknown.
        opens_at_ms: WallMs,
    },
    /// No such sale.
    SaleUnknown,
    /// A sale of this id exists already, made by another key.
    SaleExists,
    /// The sale cannot go from its status to the one asked for.
    SaleTransition {
        /// Its status.
        status: SaleStatus,
    },
    /// The sale has made all the claim records it may.
    ClaimsExhausted {
        /// The limit.
        claims_max: u32,
    },
    /// More than the user may have, though he has room for some.
    UserLimit {
        /// Units he has.
        units_taken: u32,
        /// Units he may have.
        units_max: u32,
    },
    /// No such claim.
    ClaimUnknown,
    /// The claim is not in the state that this step needs. `Held` to an extension: it was extended
    /// before, and is only once.
    ClaimGone {
        /// Its status.
        status: ClaimStatus,
    },
    /// The fencing token is not the claim's or lease's current one.
    StaleToken {
        /// The current one.
        fencing_token: u64,
    },
    /// The key was used before with another request.
    KeyReused,
    /// The key was fenced by `resolve`.
    KeyFenced,
    /// The batch's log time is beyond the command's `not_after`.
    TooLate {
        /// Log time of the batch.
        log_time_ms: LogMs,
    },
    /// A number is outside its limits.
    OutOfRange {
        /// Which.
        field: Field,
    },
    /// Withdrawing more than is available.
    UnitsInUse {
        /// Units available now.
        units_available: u32,
    },
    /// The document is not at the expected version.
    VersionMismatch {
        /// Its version; zero when it does not exist.
        version: u64,
    },
    /// Somebody else holds the document's lease.
    Leased {
        /// Until this log time.
        leased_until_ms: LogMs,
    },
    /// The documents' quota is used up.
    DocumentQuota,
    /// There is no room for another sale or fence.
    TableFull,
    /// Its chain ended before it: the command that it follows was refused.
    NotReached,
    /// The cluster has no identity yet, or already has one.
    Founding,
}

/// A field that was out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Field {
    /// Sale id: 1–64 of `a-z A-Z 0-9 . _ -`.
    SaleId = 1,
    /// Display name: at most 256 bytes.
    SaleName = 2,
    /// Units.
    Units = 3,
    /// Quantity of a claim.
    Quantity = 4,
    /// Per-user limit.
    PerUserUnitsMax = 5,
    /// Hold time.
    HoldMs = 6,
    /// Checkout's extra time.
    CheckoutMaxMs = 7,
    /// Opening after closing.
    Hours = 8,
    /// Not three capital letters.
    Currency = 9,
    /// Claim record limit.
    ClaimsMax = 10,
    /// `not_after` too far ahead.
    NotAfter = 11,
    /// Document key.
    DocumentKey = 12,
    /// Document body.
    DocumentBody = 13,
    /// Length of a lease.
    LeaseMs = 14,
    /// Time to live.
    TtlMs = 15,
}

/// What happened, for the feed: one per change, in order; expiries come first in their entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Log index of the entry.
    pub log_index: u64,
    /// Place among the entry's events, from zero.
    pub ordinal: u32,
    /// Log time of the entry.
    pub log_time_ms: LogMs,
    /// Place in the entry of the command that did it; `None`: time did.
    pub command: Option<u32>,
    /// Number of the sale; zero for documents.
    pub sale_number: u32,
    /// What.
    pub kind: EventKind,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A sale was created.
    SaleCreated,
    /// A sale opened.
    SaleOpened,
    /// A sale was paused.
    SalePaused,
    /// A sale closed.
    SaleClosed,
    /// Units were added.
    SaleRestocked {
        /// How many.
        units: u32,
    },
    /// Units were withdrawn.
    SaleWithdrawn {
        /// How many.
        units: u32,
    },
    /// A claim was granted; decrements are granted and confirmed at once, as two events.
    ClaimGranted(ClaimView),
    /// A claim was confirmed.
    ClaimConfirmed(ClaimView),
    /// A claim was released.
    ClaimReleased(ClaimView),
    /// A claim expired.
    ClaimExpired(ClaimView),
    /// A hold was extended for a checkout.
    ClaimExtended(ClaimView),
    /// A confirmed claim was cancelled.
    ClaimCancelled(ClaimView),
    /// A document was written, leased, deleted or expired.
    DocumentChanged {
        /// Its version, zero when it is gone.
        version: u64,
    },
}
