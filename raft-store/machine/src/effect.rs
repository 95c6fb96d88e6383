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

use alloc::{collections::BTreeSet, vec::Vec};

use imbl::{OrdMap, Vector};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::{
    bytes::Put,
    command::{EFFECT_KEEP_MS, LogMs, Operation},
    reply::Receipt,
    shards::{Shards, spread},
};

/// Most effects remembered of claims (extend, cancel) and documents: sixteen for each of a million
/// checkouts a day. Each takes some 130 bytes (measured), so some 2.2 GB when all are there: a third of what
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

/// Effects with their keys, oldest first: in the order of the log, since one command has one effect. Each has a number,
/// by which it is found as long as it is kept. A clone shares what lies in both.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    all: Vector<(u128, Effect)>,
    /// Number of the first: so many were forgotten before it.
    first: u64,
}

impl Kept {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Number, key and effect of each.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u128, &Effect)> + Clone {
        let numbered = (self.first..).zip(&self.all);
        numbered.map(|(number, (key, effect))| (number, *key, effect))
    }

    /// The effect of this number, unless it is forgotten.
    pub fn get(&self, number: u64) -> Option<&Effect> {
        let offset = number.checked_sub(self.first)?;
        self.all.get(offset as usize).map(|(_, effect)| effect)
    }

    fn number_next(&self) -> u64 {
        self.first + self.all.len() as u64
    }

    /// The one whose number ends so: there are always fewer than 2^32.
    fn ending(&self, number: u32) -> &(u128, Effect) {
        &self.all[number.wrapping_sub(self.first as u32) as usize]
    }
}

/// One of the two tables of effects.
pub(crate) struct Effects {
    kept: Kept,
    places: Shards<Place>,
    count_max: usize,
    digest: u128,
    scratch: Vec<u8>,
}

/// Where a key's effect is.
struct Place {
    /// The low bits of its number.
    number: u32,
    /// The low bits of the key.
    hash: u32,
}

impl Effects {
    /// An empty table.
    pub fn new(count_max: usize) -> Effects {
        Effects {
            kept: Kept::default(),
            places: Shards::new(count_max as u32),
            count_max,
            digest: 0,
            scratch: Vec::new(),
        }
    }

    /// Sum of the effects' digests.
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// All of them, to be frozen.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// What a key did.
    pub fn get(&self, key: u128) -> Option<&Effect> {
        let hash = key as u32;
        let is = |place: &Place| place.hash == hash && self.kept.ending(place.number).0 == key;
        let place = self.places.of(key).find(spread(hash), is)?;
        Some(&self.kept.ending(place.number).1)
    }

    /// Remembers an effect, the latest of all, and gives its number; and number and key of the one that was forgotten
    /// for it, if the table was full.
    pub fn insert(&mut self, key: u128, effect: Effect) -> (u64, Option<(u64, u128)>) {
        debug_assert!(self.get(key).is_none(), "a key has one effect");
        let forgotten = if self.kept.len() >= self.count_max {
            self.pop()
        } else {
            None
        };
        self.digest = self.digest.wrapping_add(digest(key, &effect, &mut self.scratch));
        let number = self.kept.number_next();
        let place = Place {
            number: number as u32,
            hash: key as u32,
        };
        let table = self.places.of_mut(key);
        table.insert_unique(spread(place.hash), place, |place| spread(place.hash));
        self.kept.all.push_back((key, effect));
        (number, forgotten)
    }

    /// Forgets the oldest effect if its time is over, and gives its number and key.
    pub fn expire(&mut self, now_ms: LogMs) -> Option<(u64, u128)> {
        let (_, oldest) = self.kept.all.front()?;
        if oldest.forgotten_ms() <= now_ms {
            self.pop()
        } else {
            None
        }
    }

    fn pop(&mut self) -> Option<(u64, u128)> {
        let (key, effect) = self.kept.all.pop_front()?;
        let number = self.kept.first;
        self.kept.first += 1;
        let is = |place: &Place| place.number == number as u32;
        let place = self.places.of_mut(key).find_entry(spread(key as u32), is);
        place.ok().expect("a key that is kept has a place").remove();
        self.digest = self.digest.wrapping_sub(digest(key, &effect, &mut self.scratch));
        Some((number, key))
    }
}

/// An effect's part of the state's digest.
pub(crate) fn digest(key: u128, effect: &Effect, scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    scratch.put_u128(key);
    effect.encode(scratch);
    xxh3_128_with_seed(scratch, EFFECT_SEED)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A key like those that a keyed hash makes.
    fn key(number: u64) -> u128 {
        xxh3_128_with_seed(&number.to_le_bytes(), 7)
    }

    fn effect(number: u64) -> Effect {
        Effect {
            request: number,
            receipt: Receipt {
                log_index: number,
                position: 0,
                term: 1,
                log_time_ms: number,
            },
            outcome: Outcome::Done,
        }
    }

    #[test]
    fn a_full_table_forgets_its_oldest_and_finds_all_others() {
        const MAX: u64 = 5_000;
        let mut table = Effects::new(MAX as usize);
        let mut frozen = Vec::new();
        for number in 0..4 * MAX {
            let forgotten = number.checked_sub(MAX).map(|oldest| (oldest, key(oldest)));
            assert_eq!(table.insert(key(number), effect(number)), (number, forgotten));
            if number % 777 == 0 {
                frozen.push((number, table.kept().clone()));
            }
        }
        for number in 0..4 * MAX {
            let expected = (number >= 3 * MAX).then(|| effect(number));
            assert_eq!(table.get(key(number)), expected.as_ref(), "{number}");
        }
        assert_eq!(table.get(key(4 * MAX)), None);
        for (last, kept) in frozen {
            let first = (last + 1).saturating_sub(MAX);
            let numbers: Vec<u64> = kept.iter().map(|(number, ..)| number).collect();
            assert!(numbers.into_iter().eq(first..=last), "{last}");
            for number in first.saturating_sub(3)..last + 3 {
                let there = (first..=last).contains(&number).then(|| effect(number));
                assert_eq!(kept.get(number), there.as_ref(), "{number} of {last}");
            }
        }
    }

    #[test]
    fn what_is_forgotten_leaves_nothing_behind() {
        let mut table = Effects::new(100);
        for number in 0..50 {
            table.insert(key(number), effect(number));
        }
        assert_eq!(table.expire(EFFECT_KEEP_MS - 1), None);
        for number in 0..50 {
            assert_eq!(table.expire(EFFECT_KEEP_MS + number), Some((number, key(number))));
            assert_eq!(table.expire(EFFECT_KEEP_MS + number), None);
        }
        assert_eq!((table.digest(), table.kept().len()), (0, 0));
        assert!((0..50).all(|number| table.get(key(number)).is_none()));
        // What comes later is counted on.
        assert_eq!(table.insert(key(3), effect(3)), (50, None));
        assert_eq!(table.get(key(3)), Some(&effect(3)));
    }
}
