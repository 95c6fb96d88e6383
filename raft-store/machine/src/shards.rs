//! Tables of hashes that never grow in one go.
//!
//! Growing one table of a million entries at once would stall applying for tens of milliseconds; a shard's growth
//! takes a few at most, and the shards do not grow in the same entry. What is looked up must be a keyed hash: nobody
//! outside may choose which entries collide.

use alloc::vec::Vec;

use hashbrown::HashTable;

/// Records for which one more shard pays.
const SHARD_RECORDS: u32 = 32_768;

/// Most shards of one table, 32 bytes each while empty.
const SHARDS_MAX: u32 = 256;

/// One table in several.
pub(crate) struct Shards<T> {
    tables: Vec<HashTable<T>>,
}

impl<T> Shards<T> {
    /// Empty tables for so many records.
    pub fn new(records_max: u32) -> Shards<T> {
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
    pub fn place(&self, hashed: u128) -> usize {
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
    pub fn nothing(&self) -> Vec<usize> {
        self.tables.iter().map(|_| 0).collect()
    }

    /// Empty tables with room for so many entries each.
    pub fn make_room(&mut self, entries: &[usize]) {
        let rooms = entries.iter().map(|&entries| HashTable::with_capacity(entries));
        self.tables = rooms.collect();
    }

    /// The table that a hash belongs to.
    pub fn of(&self, hashed: u128) -> &HashTable<T> {
        &self.tables[self.place(hashed)]
    }

    /// The table that a hash belongs to.
    pub fn of_mut(&mut self, hashed: u128) -> &mut HashTable<T> {
        let place = self.place(hashed);
        &mut self.tables[place]
    }
}

/// A hash of 32 bits as the table sees it: the tag comes from the top, the place from the bottom.
pub(crate) fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}
