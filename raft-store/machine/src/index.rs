//! A sale's two lookups: a user's latest claim, and the claim that a key made or settled.
//!
//! Comparisons read the record itself. The tables are iterated only to be grown, so the order of a hash map
//! cannot show. Users and keys are keyed hashes already, so their own bits place them.
//!
//! The table of users keeps 32 bits of the hash beside each slot, so that growing it fetches no
//! records; with both tables so, a claim took 143 instead of 126 B, and a confirmed one, which has two keys,
//! more than the 150 B that a claim may take. The table of keys fetches its records when it grows, all of a
//! shard's at once and not each by itself.

use alloc::vec::Vec;
use core::hint::black_box;

use hashbrown::HashTable;

use crate::{
    claim::{Arena, Record, SLOT_NONE},
    shards::{Shards, spread},
};

/// The claims of a sale by user and by key. The halves know nothing of each other.
pub(crate) struct Index {
    pub users: Users,
    pub keys: Keys,
}

/// Every user's latest claim.
pub(crate) struct Users(Shards<Latest>);

/// Every claim by the key that made it and the one that settled it. An entry is the slot, shifted left by one; the low
/// bit says that the key is the settling one.
pub(crate) struct Keys(Shards<u32>);

/// A user's latest claim.
struct Latest {
    slot: u32,
    hash: u32,
}

fn key_of(arena: &Arena, entry: u32) -> u128 {
    let slot = entry >> 1;
    if entry & 1 == 0 {
        arena.key(slot)
    } else {
        arena.settle_key(slot)
    }
}

/// The same entries with room for more. A table that grows by itself hashes, and so fetches, one entry after
/// the other: that took an eighth of a follower's processor time under claims in bulk.
fn grown(table: &HashTable<u32>, hash: impl Fn(u32) -> u64) -> HashTable<u32> {
    let hashed: Vec<(u64, u32)> = table.iter().map(|&entry| (hash(entry), entry)).collect();
    let mut grown = HashTable::with_capacity(table.capacity() + 1);
    for (hash, entry) in hashed {
        grown.insert_unique(hash, entry, |_| unreachable!("there is room for all"));
    }
    grown
}

impl Index {
    /// An empty index for a sale that may make so many records.
    pub fn new(records_max: u32) -> Index {
        Index {
            users: Users(Shards::new(records_max)),
            keys: Keys(Shards::new(records_max)),
        }
    }

    /// The user's latest claim.
    pub fn user(&self, arena: &Arena, user: u128) -> Option<u32> {
        self.users.latest(arena, user)
    }

    /// The claim that a key made or settled.
    pub fn key(&self, arena: &Arena, key: u128) -> Option<u32> {
        self.keys.slot(arena, key)
    }

    /// Fetches what looking up and entering this user and key will read first. The tables are larger than
    /// any cache: looked up one after the other, the commands of a batch would wait for memory each by itself.
    pub fn prefetch(&self, arena: &Arena, user: u128, key: u128) {
        self.users.prefetch(user);
        self.keys.prefetch(arena, key);
    }

    /// Enters a new claim, which is in the arena already and names the user's claim before it.
    pub fn grant(&mut self, arena: &Arena, slot: u32, record: &Record) {
        self.users.grant(slot, record);
        self.keys.grant(arena, slot, record.key);
    }
}

impl Users {
    /// Makes room for all claims of the arena where there are none yet, so that entering them grows no table.
    pub fn reserve(&mut self, arena: &Arena) {
        let mut entries = self.0.nothing();
        for record in (0..arena.len()).map(|slot| arena.get(slot)) {
            entries[self.0.place(record.user)] += usize::from(record.previous == SLOT_NONE);
        }
        self.0.make_room(&entries);
    }

    /// The user's latest claim.
    pub fn latest(&self, arena: &Arena, user: u128) -> Option<u32> {
        let hash = user as u32;
        let is = |latest: &Latest| latest.hash == hash && arena.user(latest.slot) == user;
        self.0.of(user).find(spread(hash), is).map(|latest| latest.slot)
    }

    /// Fetches what looking up this user will read first.
    pub fn prefetch(&self, user: u128) {
        let _ = black_box(self.0.of(user).find(spread(user as u32), |_| false));
    }

    /// Enters a new claim, which names the user's claim before it.
    pub fn grant(&mut self, slot: u32, record: &Record) {
        let Record { user, previous, .. } = *record;
        let hash = user as u32;
        let users = self.0.of_mut(user);
        let before = (previous != SLOT_NONE)
            .then(|| users.find_mut(spread(hash), |latest| latest.slot == previous))
            .flatten();
        match before {
            Some(latest) => latest.slot = slot,
            None => {
                users.insert_unique(spread(hash), Latest { slot, hash }, |latest| spread(latest.hash));
            }
        }
    }
}

impl Keys {
    /// Makes room for all claims of the arena where there are none yet, so that entering them grows no table.
    pub fn reserve(&mut self, arena: &Arena) {
        let mut entries = self.0.nothing();
        for record in (0..arena.len()).map(|slot| arena.get(slot)) {
            entries[self.0.place(record.key)] += 1;
            if record.settle_key != 0 {
                entries[self.0.place(record.settle_key)] += 1;
            }
        }
        self.0.make_room(&entries);
    }

    /// The claim that a key made or settled.
    pub fn slot(&self, arena: &Arena, key: u128) -> Option<u32> {
        let is = |&entry: &u32| key_of(arena, entry) == key;
        self.0.of(key).find(key as u64, is).map(|entry| entry >> 1)
    }

    /// Fetches what looking up this key will read first: also the records of other keys that look the same to
    /// the table.
    pub fn prefetch(&self, arena: &Arena, key: u128) {
        let fetch = |&entry: &u32| {
            black_box(key_of(arena, entry));
            false
        };
        let _ = black_box(self.0.of(key).find(key as u64, fetch));
    }

    /// Enters the key that made a claim, which the record has already.
    pub fn grant(&mut self, arena: &Arena, slot: u32, key: u128) {
        self.insert(arena, key, slot << 1);
    }

    /// Enters the key that settled a claim, which the record has already.
    pub fn settle(&mut self, arena: &Arena, slot: u32) {
        self.insert(arena, arena.settle_key(slot), slot << 1 | 1);
    }

    fn insert(&mut self, arena: &Arena, key: u128, entry: u32) {
        let table = self.0.of_mut(key);
        if table.len() == table.capacity() {
            *table = grown(table, |other| key_of(arena, other) as u64);
        }
        table.insert_unique(key as u64, entry, |_| unreachable!("it has grown"));
    }
}
