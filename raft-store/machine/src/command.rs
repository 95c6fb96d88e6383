//! All that the log can say: the commands of a batch, before they are bytes.
//!
//! Texts from outside (user ids, idempotency keys, principals) never enter the log; what enters is
//! their 128-bit keyed hash ([`crate::hash`]). A sale is named by its place in the batch's own table
//! of sale names, so that a hot sale's name stands in an entry once, not once per claim.

use crate::codec::{MACHINE_VERSION_CHAINS, MACHINE_VERSION_FIRST};

/// Milliseconds of log time: hold time, which only the log moves (see the log clock).
pub type LogMs = u64;

/// Milliseconds of wall time since the Unix epoch, as agreed by the voters.
pub type WallMs = u64;

/// Which namespace a sale lives in. One namespace exists today: [`NAMESPACE_DEFAULT`].
pub type Namespace = u16;

/// The one namespace of today.
pub const NAMESPACE_DEFAULT: Namespace = 0;

/// Longest sale id, in bytes (API: 1–64 of `a-z A-Z 0-9 . _ -`).
pub const SALE_ID_BYTES_MAX: usize = 64;

/// Longest display name of a sale, in bytes: enough for a headline, too short to store documents in.
pub const SALE_NAME_BYTES_MAX: usize = 256;

/// Most units a sale may ever have (API).
pub const UNITS_MAX: u32 = 100_000_000;

/// Most units one claim may take: what its record has room for (16 bits).
pub const QUANTITY_MAX: u32 = 65_535;

/// Shortest hold, in ms (API: 1 s).
pub const HOLD_MS_MIN: u64 = 1_000;

/// Longest hold, in ms (API: 24 h).
pub const HOLD_MS_MAX: u64 = 24 * 3_600_000;

/// Hold when the sale does not say, in ms (API: 3 minutes).
pub const HOLD_MS_DEFAULT: u64 = 180_000;

/// How far beyond its deadline a checkout may carry a hold when the sale does not say, in ms (API).
pub const CHECKOUT_MAX_MS_DEFAULT: u64 = 60_000;

/// Opening hour of a sale that is open from the start, whatever time it is agreed to be.
pub const OPEN_AT_ONCE: WallMs = WallMs::MAX;

/// Furthest ahead a command's `not_after` may lie, in ms of log time: longer, and a straggler could
/// surface after its caller has forgotten it; it is also how long a fence must be remembered.
pub const NOT_AFTER_MS_MAX: u64 = 60_000;

/// How long effects other than claims remember their key, in ms of log time (24 h, as in Stripe's API).
pub const EFFECT_KEEP_MS: u64 = 24 * 3_600_000;

/// Longest document key, in bytes.
pub const DOCUMENT_KEY_BYTES_MAX: usize = 128;

/// Largest document body, in bytes.
pub const DOCUMENT_BODY_BYTES_MAX: usize = 16 * 1024;

/// Names one claim: where in which sale, with a keyed tag so that it cannot be guessed.
///
/// `group | namespace | sale number | slot in the sale | log index (48 bits) | tag (48 bits)`, big-endian.
/// Opaque outside; as text it is `c_` and 39 characters of lower-case base32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub [u8; 24]);

/// One command and what every command carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Goes on a chain: applies only if the command before it in its batch had its effect, now or when its key was
    /// used first. So a chain ends at the first of its commands that is refused, and has no gaps.
    pub follows: bool,
    /// Keyed hash of who asks. Keys are scoped by it; only it may resolve them.
    pub principal: u128,
    /// Keyed, scoped hash of the idempotency key. Never zero.
    pub key: u128,
    /// Latest log time at which this may apply; at most [`NOT_AFTER_MS_MAX`] after the batch's own.
    pub not_after_ms: LogMs,
    /// What is asked.
    pub body: Body<'a>,
}

/// What one command asks for. `sale` is a place in the batch's table of sale names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Gives the cluster its identity and its secret; the first leader proposes it, once.
    Found(Found),
    /// Creates a sale.
    CreateSale(CreateSale<'a>),
    /// Opens a scheduled or paused sale now.
    OpenSale {
        /// Which sale.
        sale: u16,
    },
    /// Pauses an open sale: no new claims, held ones may still be confirmed.
    PauseSale {
        /// Which sale.
        sale: u16,
    },
    /// Closes a sale for good.
    CloseSale {
        /// Which sale.
        sale: u16,
    },
    /// Adds units to a sale.
    Restock {
        /// Which sale.
        sale: u16,
        /// How many more.
        units: u32,
    },
    /// Takes available units out of a sale; never below held + confirmed.
    Withdraw {
        /// Which sale.
        sale: u16,
        /// How many fewer.
        units: u32,
    },
    /// Holds units for a user until the sale's hold time has passed.
    Claim(Take),
    /// Claim and confirm in one: no hold.
    Decrement(Take),
    /// Makes a held claim final.
    Confirm(Settle),
    /// Gives a held claim's units back.
    Release(Settle),
    /// Begins a checkout: extends the hold once, to at most the sale's `checkout_max_ms` beyond its
    /// deadline, and hands out a new fencing token.
    Extend(Settle),
    /// Takes a confirmed claim back (the refund path): its units are available again.
    Cancel(Settle),
    /// What became of the key of another command? Fences it if nothing did.
    Resolve(Resolve),
    /// Writes a document if its version is the expected one.
    PutDocument(PutDocument<'a>),
    /// Deletes a document if its version is the expected one and nobody has its lease: an owner gives
    /// it back first.
    DeleteDocument {
        /// The document's key.
        document: &'a [u8],
        /// Version it must have.
        version_expected: u64,
    },
    /// Takes or renews the lease on an existing document.
    LeaseDocument {
        /// The document's key.
        document: &'a [u8],
        /// Zero to take a free lease; else the token of the lease to renew.
        fencing_token: u64,
        /// Length of the lease from now, in ms of log time; zero gives it back.
        lease_ms: u64,
    },
    /// Changes nothing, and is refused unless a document's version is the expected one: the condition of a chain.
    CheckDocument {
        /// The document's key.
        document: &'a [u8],
        /// Version it must have; zero: it must not exist.
        version_expected: u64,
    },
}

impl Command<'_> {
    /// The version of the machine that this came with.
    #[inline]
    pub fn version(&self) -> u16 {
        let chain = if self.follows {
            MACHINE_VERSION_CHAINS
        } else {
            MACHINE_VERSION_FIRST
        };
        chain.max(self.body.version())
    }
}

impl Body<'_> {
    /// The version of the machine that this came with, by itself: the one table of them. A command that is added, or is to mean
    /// something else, takes the next; what it meant before stays what it means in batches of an older version.
    #[inline]
    pub fn version(&self) -> u16 {
        match self {
            // What the next version adds, where it is built for tests: a document deleted whatever its version.
            #[cfg(feature = "next-machine")]
            Body::DeleteDocument {
                version_expected: 0, ..
            } => crate::codec::MACHINE_VERSION,
            Body::Found(_)
            | Body::CreateSale(_)
            | Body::OpenSale { .. }
            | Body::PauseSale { .. }
            | Body::CloseSale { .. }
            | Body::Restock { .. }
            | Body::Withdraw { .. }
            | Body::Claim(_)
            | Body::Decrement(_)
            | Body::Confirm(_)
            | Body::Release(_)
            | Body::Extend(_)
            | Body::Cancel(_)
            | Body::Resolve(_)
            | Body::PutDocument(_)
            | Body::DeleteDocument { .. }
            | Body::LeaseDocument { .. } => MACHINE_VERSION_FIRST,
            Body::CheckDocument { .. } => MACHINE_VERSION_CHAINS,
        }
    }
}

/// The cluster's identity. Applied once; a second one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Names this cluster for ever.
    pub cluster_id: u128,
    /// Seeds every keyed hash and claim tag; secret.
    pub secret: u128,
    /// Changed by every restore from backup; receipts and cursors carry it.
    pub incarnation: u32,
}

/// A new sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateSale<'a> {
    /// Which sale: its name in the batch's table becomes its id.
    pub sale: u16,
    /// Display name.
    pub name: &'a str,
    /// Units for sale at first, 0..=[`UNITS_MAX`].
    pub units_total: u32,
    /// Most units one user may hold or have bought, 1..=[`QUANTITY_MAX`].
    pub per_user_units_max: u32,
    /// How long a claim holds its units, in ms of log time.
    pub hold_ms: u64,
    /// How far a checkout may carry a hold beyond its deadline, in ms of log time.
    pub checkout_max_ms: u64,
    /// Opens by itself at this wall time; zero: only by command; [`OPEN_AT_ONCE`]: is open from the start.
    pub opens_at_ms: WallMs,
    /// Closes by itself at this wall time; zero: only by command.
    pub closes_at_ms: WallMs,
    /// Price of one unit, in minor units of the currency.
    pub price_minor: u64,
    /// ISO 4217 code, three capital letters.
    pub currency: [u8; 3],
    /// Most claim records the sale may ever make; zero: 4 × units, at least 10,000.
    pub claims_max: u32,
}

/// Units wanted by a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    /// Which sale.
    pub sale: u16,
    /// Keyed hash of the user id.
    pub user: u128,
    /// How many units, 1..=[`QUANTITY_MAX`]; all or nothing.
    pub quantity: u32,
}

/// A step in the life of one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settle {
    /// Which claim.
    pub claim: ClaimId,
    /// The claim's current fencing token; an older one is refused.
    pub fencing_token: u64,
}

/// Which kind of command a key was used for: part of the key's scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Operation {
    /// [`Body::Claim`]
    Claim = 1,
    /// [`Body::Decrement`]
    Decrement = 2,
    /// [`Body::Confirm`]
    Confirm = 3,
    /// [`Body::Release`]
    Release = 4,
    /// [`Body::Extend`]
    Extend = 5,
    /// [`Body::Cancel`]
    Cancel = 6,
    /// Everything about a sale as a whole.
    Sale = 7,
    /// Everything about documents.
    Document = 8,
}

/// What became of a key?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// The sale the key was used on.
    pub sale: u16,
    /// What it was used for.
    pub operation: Operation,
    /// Scoped hash of the key that is asked about.
    pub key: u128,
    /// Until when it must stay fenced if it had no effect: the asked-about command's own `not_after`;
    /// zero: as late as any could have been.
    pub fence_until_ms: LogMs,
}

/// A document to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutDocument<'a> {
    /// Key, 1..=[`DOCUMENT_KEY_BYTES_MAX`] bytes.
    pub document: &'a [u8],
    /// Body, at most [`DOCUMENT_BODY_BYTES_MAX`] bytes.
    pub body: &'a [u8],
    /// Version it must have now; zero: must not exist.
    pub version_expected: u64,
    /// The lease's token when the document is leased; zero when not.
    pub fencing_token: u64,
    /// Deleted by itself this long after the write, in ms of log time; zero: never.
    pub ttl_ms: u64,
}
