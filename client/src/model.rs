//! What calls take and give: plain data, the wire's types where they say it well already.
//!
//! Deadlines and `not_after` are in log time; a [`Position`] carries log time and agreed wall time of
//! one moment, which turns the one into the other.

use bytes::Bytes;

pub use crate::request::{SaleRequest, SettleRequest, TakeRequest};
pub use proto::v1::{
    ClaimStatus, Grant, Member, Operation, Position, Receipt, SaleBooks, SaleStatus, Snapshot,
    SnapshotsResponse as NodeSnapshots, StateHashResponse as StateHash, StatusResponse as NodeStatus,
    event::Kind as EventKind,
};

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// As of now (ReadIndex); default.
    #[default]
    Linearizable,
    /// From any node whose state is at most this old, in ms.
    Bounded(u64),
    /// From any node, whatever it has.
    Local,
}

/// One claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Opaque id.
    pub claim_id: String,
    /// Where it is in its life.
    pub status: ClaimStatus,
    /// Units.
    pub quantity: u32,
    /// Rank in the sale, in log order, from one.
    pub rank: u32,
    /// End of the hold in log time.
    pub deadline_ms: u64,
    /// What the next step must present.
    pub fencing_token: u64,
    /// When it was granted.
    pub receipt: Receipt,
    /// Keyed hash of the user (listings only).
    pub user_hash: Vec<u8>,
}

/// Answer to a claim or decrement.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// Granted now, repeated (same key), or already (user at the limit).
    pub grant: Grant,
    /// The claim as it is by then: repeated, with whatever became of it and the deadline it has now.
    pub claim: Claim,
    /// What the answer reflects; `position.log_time_ms` and `wall_time_ms` turn deadlines into times.
    pub position: Position,
}

/// One sale.
#[derive(Clone, Debug, PartialEq)]
pub struct Sale {
    /// Id.
    pub sale_id: String,
    /// Display name.
    pub name: String,
    /// Where it is in its life.
    pub status: SaleStatus,
    /// Units in the sale.
    pub units_total: u32,
    /// Units nobody has.
    pub units_available: u32,
    /// Units held.
    pub units_held: u32,
    /// Units sold.
    pub units_confirmed: u32,
    /// Most units a user may have.
    pub per_user_units_max: u32,
    /// Hold in ms.
    pub hold_ms: u64,
    /// Checkout's extra time in ms.
    pub checkout_max_ms: u64,
    /// Opens by itself, Unix ms; zero: by command.
    pub opens_at_ms: u64,
    /// Closes by itself, Unix ms; zero: by command.
    pub closes_at_ms: u64,
    /// Price of a unit in minor units.
    pub price_minor: u64,
    /// ISO 4217.
    pub currency: String,
    /// Claim records made.
    pub claims_made: u32,
    /// Claim records it may make.
    pub claims_max: u32,
    /// Log index of its last change.
    pub changed_index: u64,
    /// Earliest deadline of a hold, log time.
    pub first_deadline_ms: Option<u64>,
    /// Latest deadline of a hold, log time.
    pub last_deadline_ms: Option<u64>,
}

/// A sale to make. `Default` leaves every choice to the server, except `sale_id` and `units_total`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewSale {
    /// Id, 1–64 of `a-z A-Z 0-9 . _ -`.
    pub sale_id: String,
    /// Display name.
    pub name: String,
    /// Units.
    pub units_total: u32,
    /// Zero: one.
    pub per_user_units_max: u32,
    /// Zero: 180,000.
    pub hold_ms: u64,
    /// Zero: 60,000.
    pub checkout_max_ms: u64,
    /// Unix ms; zero: by command.
    pub opens_at_ms: u64,
    /// Unix ms; zero: by command.
    pub closes_at_ms: u64,
    /// Minor units.
    pub price_minor: u64,
    /// ISO 4217; empty: EUR.
    pub currency: String,
    /// Zero: 4 × units, at least 10,000.
    pub claims_max: u32,
    /// Open at once.
    pub open: bool,
}

/// One of many claims.
#[derive(Clone, Debug, PartialEq)]
pub struct BulkClaim {
    /// User.
    pub user: String,
    /// Idempotency key.
    pub key: String,
    /// Units.
    pub quantity: u32,
}

/// A document as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its body.
    pub body: Bytes,
    /// Its version: never zero.
    pub version: u64,
    /// The current lease's token; zero when nobody has it.
    pub fencing_token: u64,
    /// End of the lease in log time; zero when nobody has it.
    pub leased_until_ms: u64,
    /// Goes by itself at this log time; zero: never.
    pub expires_at_ms: u64,
    /// What the answer reflects.
    pub position: Position,
}

/// One document of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedDocument {
    /// Its key.
    pub key: Bytes,
    /// Its body; empty where only keys were asked for.
    pub body: Bytes,
    /// Its version: never zero.
    pub version: u64,
    /// The current lease's token; zero when nobody has it.
    pub fencing_token: u64,
    /// End of the lease in log time; zero when nobody has it.
    pub leased_until_ms: u64,
    /// Goes by itself at this log time; zero: never.
    pub expires_at_ms: u64,
}

/// Some documents in order of their keys.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentList {
    /// They.
    pub documents: Vec<ListedDocument>,
    /// Whether there are more after the last of them.
    pub more: bool,
    /// What the answer reflects.
    pub position: Position,
}

/// How a change left a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentChanged {
    /// Its version; zero: it is gone.
    pub version: u64,
    /// The current lease's token; zero when nobody has it.
    pub fencing_token: u64,
    /// End of the lease in log time; zero when nobody has it.
    pub leased_until_ms: u64,
    /// What the answer reflects: of a repetition, a later state than the change's own.
    pub position: Position,
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolution {
    /// It made or settled this claim.
    Claim(Claim),
    /// It had this effect on a sale or document.
    Effect(Receipt),
    /// Nothing, and it cannot have an effect any more.
    Abandoned {
        /// End of the fence in log time.
        fenced_until_ms: u64,
    },
}

/// Where a watch starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// First log index wanted; zero: from now on.
    pub log_index: u64,
    /// First ordinal wanted within it.
    pub ordinal: u32,
}

/// Some events in order, and the sale's counters after them when one sale is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Events.
    pub events: Vec<Event>,
    /// Counters of the watched sale.
    pub sale: Option<Sale>,
    /// What this reflects.
    pub position: Position,
}

/// One committed change.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Log index.
    pub log_index: u64,
    /// Place within the entry.
    pub ordinal: u32,
    /// Log time.
    pub log_time_ms: u64,
    /// What.
    pub kind: EventKind,
    /// Which sale; empty for documents.
    pub sale_id: String,
    /// Which claim.
    pub claim: Option<Claim>,
    /// Units or version.
    pub value: u64,
    /// Place in its entry of the command that did it; `None`: log time did.
    pub command: Option<u32>,
}
