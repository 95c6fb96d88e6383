//! The state, its clock, and what holds after every batch.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::{
    bytes::Put,
    change::Changes,
    codec::MACHINE_VERSION_FIRST,
    command::{Found, LogMs, Namespace, WallMs},
    document::Documents,
    effect::{Fences, Memory},
    event::{EntryEvents, Kept},
    reply::Reply,
    sale::Sale,
};

/// What one batch did.
#[derive(Default, Debug)]
pub struct Applied {
    /// One reply a command, in order.
    pub replies: Vec<Reply>,
    /// What changed, to be read with [`Machine::events`].
    pub events: EntryEvents,
}

/// Where the log has brought the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    pub applied_index: u64,
    pub log_time_ms: LogMs,
    pub wall_time_ms: WallMs,
    /// The newest version that any batch has needed.
    pub version: u16,
}

impl Default for Clock {
    fn default() -> Self {
        Clock {
            applied_index: 0,
            log_time_ms: 0,
            wall_time_ms: 0,
            version: MACHINE_VERSION_FIRST,
        }
    }
}

/// Log indices are below this: so much room a claim id has for them.
pub const LOG_INDEX_END: u64 = 1 << 48;

/// Keeps the digest of the clock apart from those of rows.
const CLOCK_SEED: u64 = u64::from_be_bytes(*b"hf.clock");

/// The state. `Default` is the state before the first entry.
#[derive(Default)]
pub struct Machine {
    pub(crate) clock: Clock,
    pub(crate) founding: Option<Found>,
    /// The sale numbered `n` is at `n - 1`; number zero means "not a sale".
    pub(crate) sales: Vec<Sale>,
    pub(crate) names: BTreeMap<Namespace, BTreeMap<Arc<str>, u32>>,
    /// The first deadline of every sale that has one.
    pub(crate) deadlines: BTreeSet<(LogMs, u32)>,
    /// The next hour of every sale that has one.
    pub(crate) hours: BTreeSet<(WallMs, u32)>,
    pub(crate) documents: Documents,
    pub(crate) memory: Memory,
    pub(crate) fences: Fences,
    /// Sum of the sales' digests, their claims' included.
    pub(crate) sales_digest: u128,
    /// Blocks of claims in all sales.
    pub(crate) blocks: u64,
    pub(crate) changes: Changes,
    /// Numbers of the sales that the current batch has changed.
    pub(crate) touched: Vec<u32>,
    pub(crate) scratch: Vec<u8>,
    /// Events of the current batch; empty between batches.
    pub(crate) events: Vec<Kept>,
}

impl core::fmt::Debug for Machine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Machine")
            .field("clock", &self.clock)
            .field("sales", &self.sales.len())
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// Moves the applied index over an entry that is not a batch. Entry zero, which is raft's first
    /// membership, may be skipped before anything is applied.
    ///
    /// # Panics
    /// When the entry is not the next one.
    pub fn skip(&mut self, log_index: u64) {
        if log_index == 0 && self.clock.applied_index == 0 {
            return;
        }
        self.step_to(log_index);
    }

    /// Moves the applied index to the next entry.
    pub(crate) fn step_to(&mut self, log_index: u64) {
        let applied_index = self.clock.applied_index;
        assert!(
            log_index == applied_index + 1,
            "entry {log_index} does not follow entry {applied_index}"
        );
        assert!(
            log_index < LOG_INDEX_END,
            "log index {log_index} does not fit a claim id"
        );
        self.clock.applied_index = log_index;
        self.changes.applied = true;
    }

    /// Index of the last entry applied.
    pub fn applied_index(&self) -> u64 {
        self.clock.applied_index
    }

    /// Log time of the last batch.
    pub fn log_time_ms(&self) -> LogMs {
        self.clock.log_time_ms
    }

    /// Wall time of the last batch.
    pub fn wall_time_ms(&self) -> WallMs {
        self.clock.wall_time_ms
    }

    /// The newest version of the machine that any batch has needed: no older one can go on from here.
    pub fn version_needed(&self) -> u16 {
        self.clock.version
    }

    /// Identity from [`crate::command::Found`], when applied.
    pub fn founding(&self) -> Option<Found> {
        self.founding
    }

    /// The cluster's secret; zero before there is anything to keep it for.
    pub(crate) fn secret(&self) -> u128 {
        self.founding.map_or(0, |founding| founding.secret)
    }

    /// Sum of the digests of all records, sales and documents, and of the clock: equal on replicas
    /// at equal index.
    pub fn digest(&self) -> u128 {
        let mut bytes = Vec::with_capacity(64);
        clock_digest(&self.clock, &self.founding, self.sales.len() as u32, &mut bytes)
            .wrapping_add(self.contents_digest())
    }

    /// [`Machine::digest`] without clock and identity: equal in a backup and in what was restored from it.
    pub fn contents_digest(&self) -> u128 {
        self.sales_digest
            .wrapping_add(self.documents.digest())
            .wrapping_add(self.memory.common.digest())
            .wrapping_add(self.memory.sales.digest())
            .wrapping_add(self.fences.digest())
    }

    /// Makes this state the beginning of another cluster, as a restored backup is: only identity and applied
    /// index change. Log time stands where it stood, so every hold keeps the time it had left.
    ///
    /// # Panics
    /// When the identity is not another one with the same secret (keys and users are known by it) and a
    /// later incarnation, or the index is not a later one.
    pub fn found_anew(&mut self, founding: Found, applied_index: u64) {
        let before = self.founding.expect("only what was founded can be restored");
        assert!(
            founding.cluster_id != before.cluster_id
                && founding.secret == before.secret
                && founding.incarnation > before.incarnation,
            "a restored cluster is another one that knows the same keys"
        );
        assert!(
            applied_index > self.clock.applied_index && applied_index < LOG_INDEX_END,
            "log index {applied_index} cannot follow {}",
            self.clock.applied_index
        );
        self.founding = Some(founding);
        self.clock.applied_index = applied_index;
        self.changes.applied = true;
    }

    /// Rows of the durable form, row `m` included.
    pub(crate) fn row_count(&self) -> u64 {
        let maps = self.documents.len()
            + self.memory.common.kept().len()
            + self.memory.sales.kept().len()
            + self.fences.map().len();
        self.sales.len() as u64 + self.blocks + maps as u64 + 1
    }

    /// When the next hold, lease or document ends, in log time: the leader must propose by then.
    pub fn next_deadline_ms(&self) -> Option<LogMs> {
        let hold = self.deadlines.first().map(|&(deadline_ms, _)| deadline_ms);
        hold.into_iter().chain(self.documents.next_due_ms()).min()
    }

    /// When the next sale opens or closes by itself, in wall time.
    pub fn next_hour_ms(&self) -> Option<WallMs> {
        self.hours.first().map(|&(hour_ms, _)| hour_ms)
    }

    /// Whether any hold, fence, lease or document waits for log time to pass.
    pub fn waits_for_time(&self) -> bool {
        self.next_deadline_ms().is_some() || !self.fences.map().is_empty()
    }

    /// A sale by its number.
    pub(crate) fn numbered(&self, sale_number: u32) -> Option<&Sale> {
        self.sales.get((sale_number as usize).checked_sub(1)?)
    }

    /// A sale's number by its name.
    pub(crate) fn number_of(&self, namespace: Namespace, sale_id: &str) -> Option<u32> {
        self.names.get(&namespace)?.get(sale_id).copied()
    }

    /// Adds a sale under its name.
    pub(crate) fn add_sale(&mut self, sale: Sale) {
        let terms = &sale.terms;
        self.names
            .entry(terms.namespace)
            .or_default()
            .insert(terms.sale_id.clone(), sale.number);
        self.sales.push(sale);
    }

    /// Asserts and accounts for what the batch did to one sale: conservation, digest, queues, rows.
    pub(crate) fn close_sale_books(&mut self, sale_number: u32) {
        let sale = &mut self.sales[sale_number as usize - 1];
        sale.check();
        sale.touched = false;
        let before = core::mem::replace(&mut sale.digest, 0);
        sale.digest = crate::rows::sale_digest(sale, &mut self.scratch);
        self.sales_digest = self.sales_digest.wrapping_sub(before).wrapping_add(sale.digest);
        let deadline = sale.held.first(&sale.arena).map(|(deadline_ms, _)| deadline_ms);
        requeue(
            &mut self.deadlines,
            &mut sale.deadline_queued,
            deadline,
            sale_number,
        );
        let hour = sale.next_hour_ms();
        requeue(&mut self.hours, &mut sale.hour_queued, hour, sale_number);
        self.changes.sales.insert(sale_number);
    }
}

/// Moves a sale's place in a queue from where it was to where it now belongs.
fn requeue(queue: &mut BTreeSet<(u64, u32)>, queued: &mut Option<u64>, due: Option<u64>, sale_number: u32) {
    if *queued == due {
        return;
    }
    if let Some(before) = queued.take() {
        queue.remove(&(before, sale_number));
    }
    if let Some(at) = due {
        queue.insert((at, sale_number));
    }
    *queued = due;
}

/// The clock's part of the state's digest, identity included.
pub(crate) fn clock_digest(
    clock: &Clock,
    founding: &Option<Found>,
    sales: u32,
    scratch: &mut Vec<u8>,
) -> u128 {
    scratch.clear();
    encode_clock(clock, founding, sales, scratch);
    // As the seed, so that the version which all began with leaves no trace: states keep the digest they had.
    xxh3_128_with_seed(
        scratch,
        CLOCK_SEED ^ u64::from(clock.version - MACHINE_VERSION_FIRST),
    )
}

/// The clock, but for its version, and the identity in bytes, as digest and row `m` have them.
pub(crate) fn encode_clock(clock: &Clock, founding: &Option<Found>, sales: u32, out: &mut Vec<u8>) {
    out.put_u64(clock.applied_index);
    out.put_u64(clock.log_time_ms);
    out.put_u64(clock.wall_time_ms);
    out.put_u32(sales);
    match founding {
        None => out.push(0),
        Some(found) => {
            out.push(1);
            out.put_u128(found.cluster_id);
            out.put_u128(found.secret);
            out.put_u32(found.incarnation);
        }
    }
}
