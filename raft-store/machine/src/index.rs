//! A sale's two lookups: a user's latest claim, and the claim that a key made or settled.
//!
//! Only positions are stored; hashes and comparisons read the record itself. The tables are never
//! iterated, so the order of a hash map cannot show. Users and keys are keyed hashes already, so
//! their own bits place them. Each table is split into shards: growing one table of a million
//! entries in one go would stall applying for 57 ms, a shard's growth takes a few milliseconds at
//! most and the shards do not grow in the same entry.

use alloc::vec::Vec;

use hashbrown::HashTable;

use crate::claim::{Arena, Record};

/// Records for which one more shard pays.
const SHARD_RECORDS: u32 = 32_768;

/// Most shards of one table, 32 bytes each while empty.
const SHARDS_MAX: u32 = 256;

/// The claims of a sale by user and by key.
pub(crate) struct Index {
    /// Slot of the user's latest claim.
    users: Shards,
    /// Slot, shifted left by one; the low bit says that the key is the settling one.
    keys: Shards,
}

struct Shards {
    tables: Vec<HashTable<u32>>,
}

impl Shards {
    fn new(records_max: u32) -> Shards {
        let shards = (records_max / SHARD_RECORDS)
            .clamp(1, SHARDS_MAX)
            .next_power_of_two();
        Shards {
            tables: (0..shards).map(|_| HashTable::new()).collect(),
        }
    }

    /// The shard is chosen by bits that the table itself does not look at.
    fn place(&self, value: u128) -> usize {
        (value >> 64) as usize & (self.tables.len() - 1)
    }

    fn table(&self, value: u128) -> &HashTable<u32> {
        &self.tables[self.place(value)]
    }

    fn table_mut(&mut self, value: u128) -> &mut HashTable<u32> {
        let place = self.place(value);
        &mut self.tables[place]
    }
}

fn key_of(arena: &Arena, entry: u32) -> u128 {
    let record = arena.get(entry >> 1);
    if entry & 1 == 0 {
        record.key
    } else {
        record.settle_key
    }
}

impl Index {
    /// An empty index for a sale that may make so many records.
    pub fn new(records_max: u32) -> Index {
        Index {
            users: Shards::new(records_max),
            keys: Shards::new(records_max),
        }
    }

    /// The user's latest claim.
    pub fn user(&self, arena: &Arena, user: u128) -> Option<u32> {
        self.users
            .table(user)
            .find(user as u64, |&slot| arena.get(slot).user == user)
            .copied()
    }

    /// The claim that a key made or settled.
    pub fn key(&self, arena: &Arena, key: u128) -> Option<u32> {
        let found = self
            .keys
            .table(key)
            .find(key as u64, |&entry| key_of(arena, entry) == key);
        found.map(|entry| entry >> 1)
    }

    /// Enters a new claim, which is in the arena already.
    pub fn grant(&mut self, arena: &Arena, slot: u32) {
        let Record { user, key, .. } = *arena.get(slot);
        let users = self.users.table_mut(user);
        match users.find_mut(user as u64, |&other| arena.get(other).user == user) {
            Some(latest) => *latest = slot,
            None => {
                users.insert_unique(user as u64, slot, |&other| arena.get(other).user as u64);
            }
        }
        self.insert_key(arena, key, slot << 1);
    }

    /// Enters the key that settled a claim, which the record has already.
    pub fn settle(&mut self, arena: &Arena, slot: u32) {
        self.insert_key(arena, arena.get(slot).settle_key, slot << 1 | 1);
    }

    fn insert_key(&mut self, arena: &Arena, key: u128, entry: u32) {
        let table = self.keys.table_mut(key);
        table.insert_unique(key as u64, entry, |&other| key_of(arena, other) as u64);
    }
}
