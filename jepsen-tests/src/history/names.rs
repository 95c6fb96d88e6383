//! Interned strings. Histories repeat their users, keys and holds; comparing four bytes is what makes a
//! million operations cheap.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

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
    table: HashTable<Entry>,
}

/// One string in the table. Its hash saves a look at the text when the table grows or others collide; its place
/// in the text saves a look for that.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    start: usize,
    len: u32,
    number: u32,
}

impl Names {
    /// The name of a string, the same every time.
    ///
    /// # Panics
    /// After four billion different names; the string is four billion bytes long.
    pub fn intern(&mut self, text: &str) -> Name {
        let hash = xxh3_64(text.as_bytes());
        if let Some(found) = self.entry(hash, text) {
            return Name(found.number);
        }
        let new = Entry {
            hash,
            start: self.text.len(),
            len: u32::try_from(text.len()).expect("shorter than four billion bytes"),
            number: u32::try_from(self.ends.len()).expect("fewer than four billion names"),
        };
        self.text.push_str(text);
        self.ends.push(self.text.len());
        self.table.insert_unique(hash, new, |entry| entry.hash);
        Name(new.number)
    }

    /// The name of a string that was interned before.
    pub fn find(&self, text: &str) -> Option<Name> {
        let found = self.entry(xxh3_64(text.as_bytes()), text);
        found.map(|entry| Name(entry.number))
    }

    fn entry(&self, hash: u64, text: &str) -> Option<&Entry> {
        self.table.find(hash, |entry| {
            entry.hash == hash
                && self.text.as_bytes()[entry.start..][..entry.len as usize] == *text.as_bytes()
        })
    }

    /// The string of a name.
    ///
    /// # Panics
    /// The name was made by other [`Names`].
    pub fn text(&self, name: Name) -> &str {
        let number = name.number();
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.text[start..self.ends[number]]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
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
