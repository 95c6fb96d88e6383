//! An ordered map in copy-on-write shards: cloning it clones pointers, and the first write after a
//! clone copies one shard, not the map.

use alloc::{collections::BTreeMap, sync::Arc, vec, vec::Vec};
use core::borrow::Borrow;

/// How many shards: at a million entries one shard has 4,000, copied in a fraction of a millisecond.
const SHARDS: usize = 256;

/// Chooses a shard; any function of the key will do, as long as it spreads.
pub(crate) trait Shard {
    /// Some bits of the key.
    fn shard(&self) -> u64;
}

impl Shard for u128 {
    fn shard(&self) -> u64 {
        *self as u64 ^ (*self >> 64) as u64
    }
}

impl Shard for [u8] {
    fn shard(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(self)
    }
}

impl Shard for Arc<[u8]> {
    fn shard(&self) -> u64 {
        (**self).shard()
    }
}

/// The map. Iterated shard by shard, so not in order of keys.
#[derive(Clone)]
pub(crate) struct Sharded<K, V> {
    shards: Vec<Arc<BTreeMap<K, V>>>,
    len: usize,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        // All shards begin as one shared empty map.
        let empty = Arc::new(BTreeMap::new());
        Sharded {
            shards: vec![empty; SHARDS],
            len: 0,
        }
    }
}

impl<K: Ord + Clone + Shard, V: Clone> Sharded<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The value of a key.
    pub fn get<Q: Ord + Shard + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if self.len == 0 {
            return None;
        }
        self.shards[key.shard() as usize % SHARDS].get(key)
    }

    /// Sets the value of a key and gives the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let shard = key.shard() as usize % SHARDS;
        let before = Arc::make_mut(&mut self.shards[shard]).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes a key out and gives its value.
    pub fn remove<Q: Ord + Shard + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let shard = key.shard() as usize % SHARDS;
        if !self.shards[shard].contains_key(key) {
            return None;
        }
        let before = Arc::make_mut(&mut self.shards[shard]).remove(key);
        self.len -= usize::from(before.is_some());
        before
    }

    /// The shards, each in order.
    pub fn shards(&self) -> impl Iterator<Item = &BTreeMap<K, V>> {
        self.shards.iter().map(|shard| &**shard)
    }

    /// All entries, shard by shard.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards().flat_map(BTreeMap::iter)
    }
}
