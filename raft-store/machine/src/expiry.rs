//! The held claims of a sale by deadline.
//!
//! A sale's hold time never changes and log time never falls, so claims that were not extended end in
//! the order of their slots: for them a set of slots with a first and a last is a deadline queue, and
//! costs little more than a bit a claim. Extended holds are the exception and sit in an ordered map.
//!
//! Derived state: rebuilt from the records on load, never written out.

use alloc::{collections::BTreeSet, vec::Vec};

use crate::{
    claim::{Arena, FLAG_EXTENDED, Record},
    command::LogMs,
    reply::ClaimStatus,
};

/// Levels of 64 that cover every 32-bit slot.
const LEVELS: usize = 6;

/// A set of slots with constant-time insert, remove, first and last: a tree of 64-bit words in which
/// each bit says that the word below it is not empty.
#[derive(Default)]
pub(crate) struct SlotSet {
    levels: [Vec<u64>; LEVELS],
}

impl SlotSet {
    /// Adds a slot.
    pub fn insert(&mut self, slot: u32) {
        let mut place = slot as usize;
        for level in &mut self.levels {
            let (word, bit) = (place / 64, place % 64);
            if word >= level.len() {
                level.resize(word + 1, 0);
            }
            let before = level[word];
            level[word] |= 1 << bit;
            if before != 0 {
                return;
            }
            place = word;
        }
    }

    /// Takes a slot out, if it is in.
    pub fn remove(&mut self, slot: u32) {
        let mut place = slot as usize;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(place / 64) else {
                return;
            };
            *word &= !(1 << (place % 64));
            if *word != 0 {
                return;
            }
            place /= 64;
        }
    }

    /// The smallest slot.
    pub fn first(&self) -> Option<u32> {
        self.descend(u64::trailing_zeros)
    }

    /// The largest slot.
    pub fn last(&self) -> Option<u32> {
        self.descend(|word| 63 - word.leading_zeros())
    }

    fn descend(&self, choose: impl Fn(u64) -> u32) -> Option<u32> {
        let mut place = 0;
        for level in self.levels.iter().rev() {
            let word = *level.get(place)?;
            if word == 0 {
                return None;
            }
            place = place * 64 + choose(word) as usize;
        }
        Some(place as u32)
    }
}

/// Held claims in the order in which they end.
#[derive(Default)]
pub(crate) struct Held {
    /// Those with the sale's own hold time.
    plain: SlotSet,
    /// Those extended by a checkout, with their deadlines.
    extended: BTreeSet<(LogMs, u32)>,
}

impl Held {
    /// Adds a held claim.
    pub fn insert(&mut self, slot: u32, record: &Record) {
        if record.is(FLAG_EXTENDED) {
            self.extended.insert((record.deadline_ms, slot));
        } else {
            self.plain.insert(slot);
        }
    }

    /// Takes a claim out, as it was when it was added.
    pub fn remove(&mut self, slot: u32, record: &Record) {
        if record.is(FLAG_EXTENDED) {
            self.extended.remove(&(record.deadline_ms, slot));
        } else {
            self.plain.remove(slot);
        }
    }

    /// The deadline and slot of the claim that ends first.
    pub fn first(&self, arena: &Arena) -> Option<(LogMs, u32)> {
        let plain = self.plain.first().map(|slot| (arena.get(slot).deadline_ms, slot));
        let extended = self.extended.first().copied();
        match (plain, extended) {
            (Some(plain), Some(extended)) => Some(plain.min(extended)),
            (plain, extended) => plain.or(extended),
        }
    }

    /// The deadline of the claim that ends last.
    pub fn last_deadline(&self, arena: &Arena) -> Option<LogMs> {
        let plain = self.plain.last().map(|slot| arena.get(slot).deadline_ms);
        plain.max(self.extended.last().map(|&(deadline_ms, _)| deadline_ms))
    }

    /// The held claims among an arena's records.
    pub fn of(arena: &Arena) -> Held {
        let mut held = Held::default();
        for slot in 0..arena.len() {
            let record = arena.get(slot);
            if record.status == ClaimStatus::Held {
                held.insert(slot, &record);
            }
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_back_in_order() {
        let mut set = SlotSet::default();
        let mut model = BTreeSet::new();
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        for round in 0..20_000u32 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            // Near and far slots, so that all kinds of carries between levels happen.
            let slot = (seed >> 33) as u32 % [70, 5_000, 300_000][round as usize % 3];
            if seed & 1 == 0 {
                set.insert(slot);
                model.insert(slot);
            } else {
                set.remove(slot);
                model.remove(&slot);
            }
            assert_eq!(set.first(), model.first().copied());
            assert_eq!(set.last(), model.last().copied());
        }
        set.remove(u32::MAX);
        for slot in model {
            assert_eq!(set.first(), Some(slot));
            set.remove(slot);
        }
        assert_eq!((set.first(), set.last()), (None, None));
    }
}
