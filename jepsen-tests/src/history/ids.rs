//! What is known of operations, by their ids.

use std::collections::HashMap;

/// Ids may be so many times as large as there are operations and still be looked up without hashing.
const SPARSE_MAX: u64 = 4;

/// Ids below this are looked up without hashing in any case.
const NEAR_IDS: u64 = 1_024;

/// A map by operation id. Recorders count their operations, so most often an id is a place in an array; where
/// it is not, nothing is taken for granted.
#[derive(Debug)]
pub(crate) struct ById<V> {
    near: Vec<Option<V>>,
    far: HashMap<u64, V>,
    len: u64,
}

impl<V> Default for ById<V> {
    fn default() -> Self {
        ById {
            near: Vec::new(),
            far: HashMap::new(),
            len: 0,
        }
    }
}

impl<V> ById<V> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is known of an operation.
    pub fn get(&self, id: u64) -> Option<&V> {
        let near = usize::try_from(id).ok().and_then(|id| self.near.get(id));
        match near {
            Some(Some(value)) => Some(value),
            _ if self.far.is_empty() => None,
            _ => self.far.get(&id),
        }
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut V> {
        let near = usize::try_from(id).ok().and_then(|id| self.near.get_mut(id));
        match near {
            Some(Some(value)) => Some(value),
            _ if self.far.is_empty() => None,
            _ => self.far.get_mut(&id),
        }
    }

    /// Notes an operation; false: its id was noted before.
    pub fn insert(&mut self, id: u64, value: V) -> bool {
        if self.get(id).is_some() {
            return false;
        }
        self.len += 1;
        if id < NEAR_IDS.max(SPARSE_MAX * self.len) {
            let place = id as usize;
            if place >= self.near.len() {
                self.near.resize_with(place + 1, || None);
            }
            self.near[place] = Some(value);
        } else {
            self.far.insert(id, value);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far_ids_are_found_again_and_refused_twice() {
        let mut map = ById::default();
        assert!(map.is_empty());
        // 9,000 is far at first, and would be near once there are many.
        let ids: Vec<u64> = [u64::MAX, 9_000, 1 << 40].into_iter().chain(0..9_000).collect();
        for &id in &ids {
            assert!(map.insert(id, id));
        }
        for id in ids {
            assert_eq!(map.get(id), Some(&id));
            assert_eq!(map.get_mut(id).copied(), Some(id));
            assert!(!map.insert(id, 0), "{id}");
        }
        assert_eq!(map.get(9_001), None);
        assert_eq!(map.get_mut(u64::MAX - 1), None);
        assert!(!map.is_empty());
    }
}
