//! What is remembered about keys beside the claims' own records: effects and fences.
//!
//! Claims, confirms and releases are remembered by the claim's record for as long as the sale lives.
//! Every other effect keeps its key here for [`EFFECT_KEEP_MS`]. Both tables are bounded; when one is
//! full, its oldest effect makes room. What that costs, at worst, is that a repeat is judged anew
//! instead of being answered from memory: a document's version, a lease's token, a claim's status
//! and its one extension already keep it from happening twice. Restocking and withdrawing have no
//! such second guard, so sale changes have a table of their own that no traffic but theirs can fill.
//!
//! A fence is a promise that a key will have no effect: it is never dropped early, so a full table
//! refuses to promise more.

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};

use imbl::OrdMap;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::{
    bytes::Put,
    command::{EFFECT_KEEP_MS, LogMs, Operation},
    reply::Receipt,
};

/// Most effects remembered of claims (extend, cancel) and documents: sixteen for each of a million
/// checkouts a day. Each takes 110 to 170 bytes (measured), so some 2.4 GB when all are there: a third of what
/// the documents take that so many checkouts leave.
pub const EFFECTS_MAX: usize = 1 << 24;

/// Most effects remembered of sale changes; operators make a handful a day.
pub const SALE_EFFECTS_MAX: usize = 1 << 16;

/// Most fences: `resolve` sets one at most and each lasts at most a minute.
pub const FENCES_MAX: usize = 1 << 20;

/// Keeps the digests of effects apart from those of other rows.
const EFFECT_SEED: u64 = u64::from_be_bytes(*b"hf.effec");

/// Keeps the digests of fences apart from those of other rows.
const FENCE_SEED: u64 = u64::from_be_bytes(*b"hf.fence");

/// What a command did, as far as a repeat of it must hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    /// Hash of what was asked: the same key with another request is refused.
    pub request: u64,
    /// When it happened.
    pub receipt: Receipt,
    /// What was answered.
    pub outcome: Outcome,
}

/// The answer, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A sale was changed.
    Done,
    /// This claim was changed; the answer is the claim as it is now.
    Claim { sale_number: u32, slot: u32 },
    /// A document was written, leased or deleted.
    Document {
        version: u64,
        fencing_token: u64,
        leased_until_ms: LogMs,
    },
}

impl Effect {
    /// When it is forgotten.
    fn forgotten_ms(&self) -> LogMs {
        self.receipt.log_time_ms.saturating_add(EFFECT_KEEP_MS)
    }

    /// Its row form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.request);
        out.put_u64(self.receipt.log_index);
        out.put_u32(self.receipt.position);
        out.put_u64(self.receipt.term);
        out.put_u64(self.receipt.log_time_ms);
        match self.outcome {
            Outcome::Done => out.push(0),
            Outcome::Claim { sale_number, slot } => {
                out.push(1);
                out.put_u32(sale_number);
                out.put_u32(slot);
            }
            Outcome::Document {
                version,
                fencing_token,
                leased_until_ms,
            } => {
                out.push(2);
                out.put_u64(version);
                out.put_u64(fencing_token);
                out.put_u64(leased_until_ms);
            }
        }
    }
}

/// One of the two tables of effects.
pub(crate) struct Effects {
    map: OrdMap<u128, Effect>,
    /// Oldest first, in the order of the log: one command has one effect.
    order: VecDeque<u128>,
    count_max: usize,
    digest: u128,
}

impl Effects {
    /// An empty table.
    pub fn new(count_max: usize) -> Effects {
        Effects {
            map: OrdMap::new(),
            order: VecDeque::new(),
            count_max,
            digest: 0,
        }
    }

    /// Sum of the effects' digests.
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// The map, to be frozen.
    pub fn map(&self) -> &OrdMap<u128, Effect> {
        &self.map
    }

    /// What a key did.
    pub fn get(&self, key: u128) -> Option<&Effect> {
        self.map.get(&key)
    }

    /// Remembers an effect, the latest of all; gives the key that was forgotten for it, if the table was
    /// full.
    pub fn insert(&mut self, key: u128, effect: Effect) -> Option<u128> {
        let forgotten = if self.map.len() >= self.count_max {
            self.pop()
        } else {
            None
        };
        self.digest = self.digest.wrapping_add(digest(key, &effect));
        self.order.push_back(key);
        let before = self.map.insert(key, effect);
        assert!(before.is_none(), "a key has one effect");
        forgotten
    }

    /// Forgets the oldest effect if its time is over, and gives its key.
    pub fn expire(&mut self, now_ms: LogMs) -> Option<u128> {
        let oldest = *self.order.front()?;
        let due = self
            .map
            .get(&oldest)
            .is_some_and(|effect| effect.forgotten_ms() <= now_ms);
        if due { self.pop() } else { None }
    }

    fn pop(&mut self) -> Option<u128> {
        let key = self.order.pop_front()?;
        let effect = self.map.remove(&key).expect("the order names effects that exist");
        self.digest = self.digest.wrapping_sub(digest(key, &effect));
        Some(key)
    }
}

pub(crate) fn digest(key: u128, effect: &Effect) -> u128 {
    let mut bytes = Vec::with_capacity(96);
    bytes.put_u128(key);
    effect.encode(&mut bytes);
    xxh3_128_with_seed(&bytes, EFFECT_SEED)
}

/// Both tables of effects.
pub(crate) struct Memory {
    /// Of claims and documents.
    pub common: Effects,
    /// Of sales as a whole.
    pub sales: Effects,
}

impl Default for Memory {
    fn default() -> Self {
        Memory {
            common: Effects::new(EFFECTS_MAX),
            sales: Effects::new(SALE_EFFECTS_MAX),
        }
    }
}

impl Memory {
    /// The table for an operation.
    pub fn of(&self, operation: Operation) -> &Effects {
        if operation == Operation::Sale {
            &self.sales
        } else {
            &self.common
        }
    }

    /// The table for an operation.
    pub fn of_mut(&mut self, operation: Operation) -> &mut Effects {
        if operation == Operation::Sale {
            &mut self.sales
        } else {
            &mut self.common
        }
    }
}

/// Keys that `resolve` has promised to have no effect, and until when.
#[derive(Default)]
pub(crate) struct Fences {
    map: OrdMap<u128, LogMs>,
    order: BTreeSet<(LogMs, u128)>,
    digest: u128,
}

impl Fences {
    /// Sum of the fences' digests.
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// The map, to be frozen.
    pub fn map(&self) -> &OrdMap<u128, LogMs> {
        &self.map
    }

    /// Until when a key is fenced, that moment included.
    pub fn get(&self, key: u128) -> Option<LogMs> {
        self.map.get(&key).copied()
    }

    /// Whether one more would be too many.
    pub fn is_full(&self) -> bool {
        self.map.len() >= FENCES_MAX
    }

    /// Fences a key; replaces the fence it had.
    pub fn insert(&mut self, key: u128, until_ms: LogMs) {
        if let Some(before) = self.map.insert(key, until_ms) {
            self.order.remove(&(before, key));
            self.digest = self.digest.wrapping_sub(fence_digest(key, before));
        }
        self.order.insert((until_ms, key));
        self.digest = self.digest.wrapping_add(fence_digest(key, until_ms));
    }

    /// Lifts the first fence whose time is over, and gives its key.
    pub fn expire(&mut self, now_ms: LogMs) -> Option<u128> {
        let &(until_ms, key) = self.order.first()?;
        if until_ms >= now_ms {
            return None;
        }
        self.order.pop_first();
        self.map.remove(&key);
        self.digest = self.digest.wrapping_sub(fence_digest(key, until_ms));
        Some(key)
    }
}

pub(crate) fn fence_digest(key: u128, until_ms: LogMs) -> u128 {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&key.to_le_bytes());
    bytes[16..].copy_from_slice(&until_ms.to_le_bytes());
    xxh3_128_with_seed(&bytes, FENCE_SEED)
}
