//! Interned strings. Histories repeat their users, keys and holds; comparing four bytes is what makes a
//! million operations cheap.

use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// A map by operation id: ids are counted by whoever recorded, not chosen to collide.
pub(crate) type ById<V> = std::collections::HashMap<u64, V, BuildHasherDefault<IdHasher>>;

/// Spreads consecutive numbers.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only ids are hashed")
    }
    fn write_u64(&mut self, id: u64) {
        // 2^64 divided by the golden ratio; the high bits are the well mixed ones, and tables use both ends.
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

/// An interned string. Only meaningful beside the [`Names`] that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(u32);

impl Name {
    /// Its number: names are numbered from zero in the order of first use.
    pub fn number(self) -> usize {
        self.0 as usize
    }

    /// The name of this number.
    pub(crate) fn from_number(number: u32) -> Name {
        Name(number)
    }
}

/// All strings of one history, one after the other in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Names {
    text: String,
    ends: Vec<usize>,
    /// Numbers by hash; the hash beside each saves a look at the text when the table grows or others collide.
    table: HashTable<(u64, u32)>,
}

impl Names {
    /// The name of a string, the same every time.
    ///
    /// # Panics
    /// After four billion different names.
    pub fn intern(&mut self, text: &str) -> Name {
        let hash = xxh3_64(text.as_bytes());
        let found = self
            .table
            .find(hash, |&(own, number)| own == hash && self.at(number) == text);
        if let Some(&(_, number)) = found {
            return Name(number);
        }
        let number = u32::try_from(self.ends.len()).expect("fewer than four billion names");
        self.text.push_str(text);
        self.ends.push(self.text.len());
        self.table.insert_unique(hash, (hash, number), |&(hash, _)| hash);
        Name(number)
    }

    /// The name of a string that was interned before.
    pub fn find(&self, text: &str) -> Option<Name> {
        let hash = xxh3_64(text.as_bytes());
        let found = self
            .table
            .find(hash, |&(own, number)| own == hash && self.at(number) == text);
        found.map(|&(_, number)| Name(number))
    }

    /// The string of a name.
    ///
    /// # Panics
    /// The name was made by other [`Names`].
    pub fn text(&self, name: Name) -> &str {
        self.at(name.0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn at(&self, number: u32) -> &str {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.text[start..self.ends[number]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_has_one_name_and_a_name_one_string() {
        let mut names = Names::default();
        let texts: Vec<String> = (0..10_000).map(|n| format!("user-{}", n % 5_000)).collect();
        let interned: Vec<Name> = texts.iter().map(|text| names.intern(text)).collect();
        assert_eq!(names.len(), 5_000);
        for (text, &name) in texts.iter().zip(&interned) {
            assert_eq!(names.text(name), text);
            assert_eq!(names.find(text), Some(name));
        }
        assert_eq!(names.find("nobody"), None);
        let empty = names.intern("");
        assert_eq!(names.text(empty), "");
    }
}
