//! A sale's two lookups: a user's latest claim, and the claim that a key made or settled.
//!
//! Comparisons read the record itself. The tables are iterated only to be grown, so the order of a hash map
//! cannot show. Users and keys are keyed hashes already, so their own bits place them. Each table is
//! split into shards: growing one table of a million entries in one go would stall applying for tens
//! of milliseconds; a shard's growth takes a few, and the shards do not grow in the same entry.
//!
//! The table of users keeps 32 bits of the hash beside each slot, so that growing it fetches no
//! records; with both tables so, a claim took 143 instead of 126 B, and a confirmed one, which has two keys,
//! more than the 150 B that a claim may take. The table of keys fetches its records when it grows, all of a
//! shard's at once and not each by itself.

use alloc::vec::Vec;
use core::hint::black_box;

use hashbrown::HashTable;

use crate::claim::{Arena, Record, SLOT_NONE};

/// Records for which one more shard pays.
const SHARD_RECORDS: u32 = 32_768;

/// Most shards of one table, 32 bytes each while empty.
const SHARDS_MAX: u32 = 256;

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

struct Shards<T> {
    tables: Vec<HashTable<T>>,
}

impl<T> Shards<T> {
    fn new(records_max: u32) -> Shards<T> {
        let shards = (records_max / SHARD_RECORDS)
            .clamp(1, SHARDS_MAX)
            .next_power_of_two();
        Shards {
            tables: (0..shards).map(|_| HashTable::new()).collect(),
        }
    }

    /// The shard is chosen by bits that the table itself does not look at.
    ///
    /// Shards fill unevenly on purpose: a third of the entries prefer the larger of two shards, so the
    /// last fills twice as fast as the first and the others evenly between. Shards of one size would all
    /// double at once, and right after it the tables would be as empty as they can be: 29 instead of
    /// 22 bytes a claim, and all the stalls in a row.
    fn place(&self, hashed: u128) -> usize {
        let bits = (hashed >> 64) as u64;
        let last = self.tables.len() - 1;
        let one = bits as usize & last;
        let other = (bits >> 16) as usize & last;
        if (bits >> 32).is_multiple_of(3) {
            one.max(other)
        } else {
            one
        }
    }

    /// A count for each table.
    fn nothing(&self) -> Vec<usize> {
        self.tables.iter().map(|_| 0).collect()
    }

    /// Empty tables with room for so many entries each.
    fn make_room(&mut self, entries: &[usize]) {
        let rooms = entries.iter().map(|&entries| HashTable::with_capacity(entries));
        self.tables = rooms.collect();
    }

    fn of(&self, hashed: u128) -> &HashTable<T> {
        &self.tables[self.place(hashed)]
    }

    fn of_mut(&mut self, hashed: u128) -> &mut HashTable<T> {
        let place = self.place(hashed);
        &mut self.tables[place]
    }
}

/// A hash of 32 bits as the table sees it: the tag comes from the top, the place from the bottom.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
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
