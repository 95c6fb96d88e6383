//! The durable image of the applied state in sled: written behind, never trusted.
//!
//! Memory is authoritative; the image only makes the next start quick. One thread, every
//! `cut_every`, takes the rows that changed since the last time (each once, however often it changed)
//! and writes them: a *cut*, the state at one log index. A cut spans several sled batches:
//! `m.writing` goes first and `m.complete`, which says what the image then stands for, last. An image
//! whose two marks differ was left in the middle of a cut and is written anew.
//!
//! Invariants: a cut never passes what the local log has synced, so a whole image ahead of its log
//! proves that the log has lost entries. At open everything is checked: marks, the rows' own
//! checksums, their number, the digest. What fails is moved aside and rebuilt from snapshot and log.
//! Any error of sled's ends the node.
//!
//! sled 0.34.7 is handled with care, for reasons measured: opening it on damaged files may panic, so it
//! is opened under `catch_unwind`, and because it may also abort or hang, a mark beside the directory
//! tells the next start that the last opening did not come to its end. A crash while it opens leaves
//! `snap.*.generating` files on which the next opening fails: they are removed first. No transactions,
//! no `flush_async`, no background flusher: a cut ends with one `flush`.

mod store;
mod writer;

use std::time::Duration;

pub(crate) use self::store::{Found, ImageStore};
pub use self::{
    store::{CUT_BATCH_BYTES_MAX, SLED_CACHE_BYTES},
    writer::{Failure, Image},
};

/// How often the image is brought up to date when nobody says otherwise: often enough that little is
/// replayed at the next start, seldom enough that a row changed a thousand times is written once.
pub const CUT_EVERY: Duration = Duration::from_millis(500);
