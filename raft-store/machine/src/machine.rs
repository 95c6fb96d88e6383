//! The machine (contract; the implementation follows).

use alloc::vec::Vec;

use crate::{
    codec::{Batch, DecodeError},
    command::{ClaimId, LogMs, Namespace, Operation, WallMs},
    reply::{ClaimView, DocumentView, Event, Reply, SaleView},
};

/// Version of the row formats. A row of another version is refused.
pub const ROW_VERSION: u16 = 1;

/// What one batch did.
#[derive(Default, Debug)]
pub struct Applied {
    /// One reply a command, in order.
    pub replies: Vec<Reply>,
    /// What changed, in order, expiries first.
    pub events: Vec<Event>,
}

/// Limits that are the same on every replica because they are compiled in or logged.
/// Names one row of the durable form of the state: image and snapshot share rows.
///
/// The bytes are big-endian and sort by kind, sale, block: `b|sale|block`, `s|sale`, `d|…`, `e|…`, `m`.
pub type RowKey = Vec<u8>;

/// Why rows are not a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// This row does not decode, or contradicts another.
    Row {
        /// Which.
        key: RowKey,
        /// What is wrong.
        why: &'static str,
    },
    /// Rows are missing or too many.
    Count {
        /// Rows the meta row names.
        expected: u64,
        /// Rows that were there.
        found: u64,
    },
    /// The records do not add up to the digest.
    Digest,
    /// The rows are of another format version.
    Version {
        /// Theirs.
        version: u16,
    },
}

/// The state. `Default` is the state before the first entry.
#[derive(Default)]
pub struct Machine {}

impl Machine {
    /// Moves the state by one entry. Entries without commands (blank, membership) are applied with
    /// [`Machine::skip`].
    ///
    /// # Errors
    /// The bytes are not a batch: the node must stop. The state is unchanged only if nothing was decoded.
    ///
    /// # Panics
    /// When an invariant does not hold: contiguous indexes, time that never falls, conservation.
    pub fn apply(&mut self, log_index: u64, term: u64, batch: &Batch<'_>) -> Result<Applied, DecodeError> {
        let _ = (log_index, term, batch);
        todo!()
    }
    /// Moves the applied index over an entry that is not a batch.
    pub fn skip(&mut self, log_index: u64) {
        let _ = log_index;
        todo!()
    }
    /// Index of the last entry applied.
    pub fn applied_index(&self) -> u64 {
        todo!()
    }
    /// Log time of the last batch.
    pub fn log_time_ms(&self) -> LogMs {
        todo!()
    }
    /// Wall time of the last batch.
    pub fn wall_time_ms(&self) -> WallMs {
        todo!()
    }
    /// Identity from [`crate::command::Found`], when applied.
    pub fn founding(&self) -> Option<crate::command::Found> {
        todo!()
    }
    /// Sum of the digests of all records, sales and documents: equal on replicas at equal index.
    pub fn digest(&self) -> u128 {
        todo!()
    }
    /// Recounts every sale's units from its records, independent of the counters.
    /// Gives the sales whose counters differ: always empty, unless there is a bug.
    pub fn recount(&self) -> Vec<u32> {
        todo!()
    }
    /// When the next hold, lease or document ends, in log time: the leader must propose by then.
    pub fn next_deadline_ms(&self) -> Option<LogMs> {
        todo!()
    }
    /// When the next sale opens or closes by itself, in wall time.
    pub fn next_hour_ms(&self) -> Option<WallMs> {
        todo!()
    }
    /// Whether any hold, fence, lease or document waits for log time to pass.
    pub fn waits_for_time(&self) -> bool {
        todo!()
    }

    /// A sale.
    pub fn sale(&self, namespace: Namespace, sale_id: &str) -> Option<SaleView> {
        let _ = (namespace, sale_id);
        todo!()
    }
    /// A sale by its number.
    pub fn sale_by_number(&self, sale_number: u32) -> Option<SaleView> {
        let _ = sale_number;
        todo!()
    }
    /// All sales of a namespace after `after` (exclusive, in id order), at most `limit`.
    pub fn sales(&self, namespace: Namespace, after: Option<&str>, limit: usize) -> Vec<SaleView> {
        let _ = (namespace, after, limit);
        todo!()
    }
    /// Whether this sale would refuse a claim of this quantity as sold out if it came now: cheap,
    /// allocates nothing. `None`: it must be proposed.
    pub fn refusal(
        &self,
        namespace: Namespace,
        sale_id: &str,
        user: u128,
        key: u128,
        quantity: u32,
        log_now_ms: LogMs,
    ) -> Option<Reply> {
        let _ = (namespace, sale_id, user, key, quantity, log_now_ms);
        todo!()
    }
    /// A claim.
    pub fn claim(&self, claim: ClaimId) -> Option<ClaimView> {
        let _ = claim;
        todo!()
    }
    /// Claims of a sale from a rank on, in rank order, at most `limit`.
    pub fn claims(&self, sale_number: u32, rank_from: u32, limit: usize) -> Vec<ClaimView> {
        let _ = (sale_number, rank_from, limit);
        todo!()
    }
    /// Claims of one user in a sale, newest first, at most `limit`.
    pub fn claims_of(&self, sale_number: u32, user: u128, limit: usize) -> Vec<ClaimView> {
        let _ = (sale_number, user, limit);
        todo!()
    }
    /// What a key did, as far as is remembered.
    pub fn effect(&self, sale_number: u32, operation: Operation, key: u128) -> Option<Reply> {
        let _ = (sale_number, operation, key);
        todo!()
    }
    /// A document.
    pub fn document(&self, document: &[u8]) -> Option<DocumentView> {
        let _ = document;
        todo!()
    }
    /// Documents whose key starts with `prefix`, after `after` (exclusive), at most `limit`.
    pub fn documents(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<DocumentView> {
        let _ = (prefix, after, limit);
        todo!()
    }

    /// A clone of the block pointers: the state as it is now, readable by another thread while this
    /// one moves on. 0.4 ms at 1M claims (DESIGN 2).
    pub fn freeze(&self) -> Frozen {
        todo!()
    }
    /// Rows changed since the last call, each once. Empties the set. Row `m` is always among them
    /// when anything was applied.
    pub fn take_dirty(&mut self) -> Vec<RowKey> {
        todo!()
    }
    /// Starts loading a state from rows.
    pub fn loader() -> Loader {
        todo!()
    }
}

/// The state at one index, for image and snapshot writers.
pub struct Frozen {}

impl Frozen {
    /// Index it was taken at.
    pub fn applied_index(&self) -> u64 {
        todo!()
    }
    /// Digest it has.
    pub fn digest(&self) -> u128 {
        todo!()
    }
    /// Keys of all rows, in order, `m` last.
    pub fn row_keys(&self) -> impl Iterator<Item = RowKey> + '_ {
        core::iter::empty()
    }
    /// How many rows there are.
    pub fn row_count(&self) -> u64 {
        todo!()
    }
    /// Appends the row's bytes (with its own CRC) to `out`; false when the row no longer exists and
    /// must be deleted from the image.
    pub fn row(&self, key: &[u8], out: &mut Vec<u8>) -> bool {
        let _ = (key, out);
        todo!()
    }
}

/// Builds a state from rows, in any order of kinds but `m` last.
pub struct Loader {}

impl Loader {
    /// Takes one row.
    pub fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
        let _ = (key, value);
        todo!()
    }
    /// Checks count, counters and digest, rebuilds the indexes, and gives the state.
    pub fn finish(self) -> Result<Machine, LoadError> {
        todo!()
    }
}
