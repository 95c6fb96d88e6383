//! Small keyed documents: compare-and-set on a version, fenced leases and time to live in log time.
//!
//! A document is an immutable `Arc`; a change replaces it. It is found by a keyed hash: in the ordered map, which lists
//! and images are made from, every step of a search waits for memory. `due` names every document that log time will
//! change, at the earlier of its lease's end and its own. Both are derived and rebuilt on load.

use alloc::{collections::BTreeSet, sync::Arc, vec::Vec};
use core::{mem, ops::Bound};

use imbl::OrdMap;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::{
    bytes::Put,
    command::LogMs,
    hash::document_hash,
    reply::{DocumentList, DocumentView},
    shards::{Shards, spread},
};

/// Most documents: an order, its journal, ledger entries, webhook events and idempotency records come to a
/// dozen for each of a million orders. Beside key and body each takes about 300 bytes (measured).
pub const DOCUMENTS_MAX: usize = 1 << 24;

/// Most bytes of keys and bodies together: 512 for each of the most documents. The state lives in memory.
pub const DOCUMENTS_BYTES_MAX: u64 = 8 << 30;

/// Longest lease, in ms of log time: longer than any step of a checkout, short enough that a dead
/// owner's documents come free within the hour.
pub const LEASE_MS_MAX: u64 = 3_600_000;

/// Longest time to live, in ms of log time: 400 days, beyond the time in which payments are disputed.
pub const TTL_MS_MAX: u64 = 400 * 24 * 3_600_000;

/// Keeps the digests of documents apart from those of other rows.
const DOCUMENT_SEED: u64 = u64::from_be_bytes(*b"hf.docum");

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    pub key: Arc<[u8]>,
    pub body: Arc<[u8]>,
    pub version: u64,
    /// Zero when there is no lease.
    pub fencing_token: u64,
    /// Zero when there is no lease.
    pub leased_until_ms: LogMs,
    /// Zero when it has no end.
    pub expires_at_ms: LogMs,
}

impl Document {
    fn bytes(&self) -> u64 {
        (self.key.len() + self.body.len()) as u64
    }

    /// When log time next changes it.
    fn due_ms(&self) -> Option<LogMs> {
        let set = |at_ms: LogMs| (at_ms != 0).then_some(at_ms);
        set(self.leased_until_ms)
            .into_iter()
            .chain(set(self.expires_at_ms))
            .min()
    }

    /// Its part of the state's digest.
    pub fn digest(&self, scratch: &mut Vec<u8>) -> u128 {
        scratch.clear();
        scratch.put_field(&self.key);
        scratch.put_field(&self.body);
        scratch.put_u64(self.version);
        scratch.put_u64(self.fencing_token);
        scratch.put_u64(self.leased_until_ms);
        scratch.put_u64(self.expires_at_ms);
        xxh3_128_with_seed(scratch, DOCUMENT_SEED)
    }

    /// As others see it.
    pub fn view(&self) -> DocumentView {
        self.listed(false)
    }

    /// As a list shows it: with its body or without.
    fn listed(&self, keys_only: bool) -> DocumentView {
        DocumentView {
            document: self.key.to_vec(),
            body: if keys_only { Vec::new() } else { self.body.to_vec() },
            version: self.version,
            fencing_token: self.fencing_token,
            leased_until_ms: self.leased_until_ms,
            expires_at_ms: self.expires_at_ms,
        }
    }
}

/// All documents.
pub(crate) struct Documents {
    map: OrdMap<Arc<[u8]>, Arc<Document>>,
    places: Shards<Place>,
    /// What hashes are keyed with.
    secret: u128,
    due: BTreeSet<(LogMs, Arc<[u8]>)>,
    /// Keys of what changed since they were last taken, each document once.
    changed: Vec<Arc<[u8]>>,
    /// How often they were taken.
    taken: u32,
    bytes: u64,
    digest: u128,
    scratch: Vec<u8>,
}

/// A document as it is found by its hash.
struct Place {
    document: Arc<Document>,
    hash: u32,
    /// What `taken` was when it last changed: it is among the changed if it still is.
    changed: u32,
}

impl Default for Documents {
    fn default() -> Self {
        Documents {
            map: OrdMap::new(),
            places: Shards::new(DOCUMENTS_MAX as u32),
            secret: 0,
            due: BTreeSet::new(),
            changed: Vec::new(),
            taken: 0,
            bytes: 0,
            digest: 0,
            scratch: Vec::new(),
        }
    }
}

impl Documents {
    /// Keys the hashes with the cluster's secret.
    ///
    /// # Panics
    /// When there are documents already.
    pub fn key_with(&mut self, secret: u128) {
        assert!(
            self.map.is_empty(),
            "documents cannot be found under another secret"
        );
        self.secret = secret;
    }

    /// Keys of the documents that have changed since the last call; one that was deleted and made again, twice.
    pub fn take_changed(&mut self) -> Vec<Arc<[u8]>> {
        self.taken += 1;
        mem::take(&mut self.changed)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Sum of their digests.
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// The map, to be frozen.
    pub fn map(&self) -> &OrdMap<Arc<[u8]>, Arc<Document>> {
        &self.map
    }

    /// A document.
    pub fn get(&self, key: &[u8]) -> Option<&Arc<Document>> {
        let hashed = document_hash(self.secret, key);
        let hash = hashed as u32;
        let is = |place: &Place| place.hash == hash && *place.document.key == *key;
        let place = self.places.of(hashed).find(spread(hash), is)?;
        Some(&place.document)
    }

    /// Whether the quota has room for this document in place of `before`, the one with its key.
    pub fn has_room(&self, before: Option<&Document>, key: &[u8], body: &[u8]) -> bool {
        let count = self.len() + usize::from(before.is_none());
        let bytes = self.bytes - before.map_or(0, |before| before.bytes()) + (key.len() + body.len()) as u64;
        count <= DOCUMENTS_MAX && bytes <= DOCUMENTS_BYTES_MAX
    }

    /// Writes a document over the one with its key.
    pub fn put(&mut self, document: Document) {
        self.digest = self.digest.wrapping_add(document.digest(&mut self.scratch));
        self.bytes += document.bytes();
        let document = Arc::new(document);
        let (key, due_ms) = (&document.key, document.due_ms());
        let hashed = document_hash(self.secret, key);
        let hash = hashed as u32;
        let is = |place: &Place| place.hash == hash && place.document.key == *key;
        let (table, changed) = (self.places.of_mut(hashed), self.taken);
        let before = match table.find_mut(spread(hash), is) {
            Some(place) => {
                if place.changed != changed {
                    place.changed = changed;
                    self.changed.push(key.clone());
                }
                Some(mem::replace(&mut place.document, document.clone()))
            }
            None => {
                self.changed.push(key.clone());
                let place = Place {
                    document: document.clone(),
                    hash,
                    changed,
                };
                table.insert_unique(spread(hash), place, |place| spread(place.hash));
                None
            }
        };
        let was_due_ms = before.and_then(|before| {
            self.forget(&before);
            before.due_ms()
        });
        if was_due_ms != due_ms {
            self.set_due(&document.key, was_due_ms, due_ms);
        }
        self.map.insert(document.key.clone(), document);
    }

    /// Deletes a document.
    pub fn remove(&mut self, key: &[u8]) -> Option<Arc<Document>> {
        let hashed = document_hash(self.secret, key);
        let hash = hashed as u32;
        let is = |place: &Place| place.hash == hash && *place.document.key == *key;
        let place = self.places.of_mut(hashed).find_entry(spread(hash), is).ok()?;
        let (
            Place {
                document, changed, ..
            },
            _,
        ) = place.remove();
        if changed != self.taken {
            self.changed.push(document.key.clone());
        }
        self.map.remove(key);
        self.forget(&document);
        self.set_due(&document.key, document.due_ms(), None);
        Some(document)
    }

    /// Takes what a document counts for back.
    fn forget(&mut self, document: &Document) {
        self.digest = self.digest.wrapping_sub(document.digest(&mut self.scratch));
        self.bytes -= document.bytes();
    }

    /// Changes when a document is due.
    fn set_due(&mut self, key: &Arc<[u8]>, before_ms: Option<LogMs>, after_ms: Option<LogMs>) {
        if let Some(due_ms) = before_ms {
            self.due.remove(&(due_ms, key.clone()));
        }
        self.due.extend(after_ms.map(|due_ms| (due_ms, key.clone())));
    }

    /// When log time next changes a document.
    pub fn next_due_ms(&self) -> Option<LogMs> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Carries out the change that is due first: gives whether the document is gone (else its lease ended).
    pub fn expire(&mut self, now_ms: LogMs) -> Option<bool> {
        let (due_ms, key) = self.due.first()?;
        if *due_ms > now_ms {
            return None;
        }
        let document = self.get(key).expect("a document that is due exists").clone();
        let gone = document.expires_at_ms != 0 && document.expires_at_ms <= now_ms;
        if gone {
            self.remove(&document.key);
        } else {
            self.put(Document {
                fencing_token: 0,
                leased_until_ms: 0,
                ..(*document).clone()
            });
        }
        Some(gone)
    }

    /// Documents in order of keys.
    pub fn list(&self, query: &DocumentQuery<'_>) -> DocumentList {
        let &DocumentQuery { prefix, after, .. } = query;
        // No key is empty, so an empty `after` is before all of them.
        let from = if after >= prefix && !after.is_empty() {
            Bound::Excluded(after)
        } else {
            Bound::Included(prefix)
        };
        let run = self.map.range::<_, [u8]>((from, Bound::Unbounded));
        let run = run.take_while(|(key, _)| key.starts_with(prefix));
        let mut list = DocumentList::default();
        let mut bytes = 0;
        for (_, document) in run {
            let body_bytes = if query.keys_only { 0 } else { document.body.len() };
            bytes += document.key.len() + body_bytes + LISTED_BYTES;
            let full = bytes > query.bytes_max && !list.documents.is_empty();
            if full || list.documents.len() >= query.limit {
                list.more = true;
                break;
            }
            list.documents.push(document.listed(query.keys_only));
        }
        list
    }
}

/// What a listed document counts for beside its key and body, in bytes: its numbers on the wire.
const LISTED_BYTES: usize = 64;

/// Which documents to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DocumentQuery<'a> {
    /// What their keys begin with; empty: all.
    pub prefix: &'a [u8],
    /// Only keys after this one; empty: from the first.
    pub after: &'a [u8],
    /// At most so many.
    pub limit: usize,
    /// At most so many bytes, but one document at least.
    pub bytes_max: usize,
    /// Without their bodies.
    pub keys_only: bool,
}

impl DocumentQuery<'static> {
    /// All there are.
    pub const ALL: Self = DocumentQuery {
        prefix: b"",
        after: b"",
        limit: usize::MAX,
        bytes_max: usize::MAX,
        keys_only: false,
    };
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn document(key: &[u8], body: &[u8]) -> Document {
        let (key, body) = (key.into(), body.into());
        Document {
            key,
            body,
            version: 1,
            fencing_token: 0,
            leased_until_ms: 0,
            expires_at_ms: 0,
        }
    }

    #[test]
    fn quota_counts_what_is_replaced() {
        let mut documents = Documents::default();
        documents.put(document(b"ab", b"12345678"));
        assert_eq!(documents.bytes, 10);
        documents.bytes = DOCUMENTS_BYTES_MAX;
        let before = documents.get(b"ab").map(Arc::as_ref);
        assert!(
            documents.has_room(before, b"ab", b"12345678"),
            "as large as before"
        );
        assert!(!documents.has_room(before, b"ab", b"123456789"));
        assert!(!documents.has_room(None, b"c", b""));
        documents.bytes = 10;
        documents.remove(b"ab");
        assert_eq!((documents.bytes, documents.len(), documents.digest()), (0, 0, 0));
    }

    #[test]
    fn what_changed_is_named_once_until_it_is_taken() {
        let mut documents = Documents::default();
        let taken = |documents: &mut Documents| -> Vec<Vec<u8>> {
            let changed = documents.take_changed();
            changed.iter().map(|key| key.to_vec()).collect()
        };
        for _ in 0..3 {
            documents.put(document(b"a", b"1"));
            documents.put(document(b"b", b"1"));
        }
        assert_eq!(taken(&mut documents), [b"a", b"b"]);
        assert!(taken(&mut documents).is_empty());
        documents.put(document(b"b", b"2"));
        documents.remove(b"b");
        documents.remove(b"a");
        assert_eq!(taken(&mut documents), [b"b", b"a"]);
        documents.put(document(b"a", b"3"));
        assert_eq!(taken(&mut documents), [b"a"]);
        assert_eq!(documents.get(b"a").map(|found| &*found.body), Some(&b"3"[..]));
        assert!(documents.get(b"b").is_none());
    }

    #[test]
    fn a_lease_renewed_is_due_once() {
        let mut documents = Documents::default();
        let leased = |leased_until_ms| Document {
            fencing_token: 1,
            leased_until_ms,
            ..document(b"a", b"")
        };
        for until_ms in [5, 9, 9, 7] {
            documents.put(leased(until_ms));
            assert_eq!(
                (documents.due.len(), documents.next_due_ms()),
                (1, Some(until_ms))
            );
        }
        assert_eq!(documents.expire(6), None);
        assert_eq!(documents.expire(7), Some(false));
        assert!(documents.due.is_empty());
        assert_eq!(documents.get(b"a").map(|free| free.fencing_token), Some(0));
    }

    #[test]
    fn lists_are_in_order_whatever_the_documents_were_made_in() {
        let mut documents = Documents::default();
        let mut keys: Vec<Vec<u8>> = (0..2_000u32)
            .map(|n| alloc::format!("o/{}", n * 7_919 % 2_000).into_bytes())
            .collect();
        for key in keys
            .iter()
            .chain([&b"n".to_vec(), &b"o".to_vec(), &b"p".to_vec()])
        {
            documents.put(document(key, b""));
        }
        keys.sort();
        let listed = |prefix, after, limit| -> (Vec<Vec<u8>>, bool) {
            let list = documents.list(&DocumentQuery {
                prefix,
                after,
                limit,
                ..DocumentQuery::ALL
            });
            let keys = list.documents.into_iter().map(|document| document.document);
            (keys.collect(), list.more)
        };
        assert_eq!(listed(b"o/", b"", usize::MAX), (keys.clone(), false));
        assert_eq!(listed(b"o/", b"", 2_000), (keys.clone(), false));
        assert_eq!(listed(b"o/", b"", 1_999), (keys[..1_999].to_vec(), true));
        assert_eq!(listed(b"o/", &keys[700], 5), (keys[701..706].to_vec(), true));
        assert_eq!(listed(b"o/", b"a", 1), (keys[..1].to_vec(), true));
        assert_eq!(listed(b"o/", b"", 0), (vec![], true));
        assert_eq!(listed(b"o/", b"p", 1), (vec![], false));
        assert_eq!(listed(b"q", b"", 1), (vec![], false));
        assert_eq!(
            listed(b"", b"o/1999", 2),
            (vec![b"o/2".to_vec(), b"o/20".to_vec()], true)
        );
    }

    #[test]
    fn a_prefix_of_highest_bytes_ends_where_its_keys_do() {
        let mut documents = Documents::default();
        let keys: [&[u8]; 7] = [
            b"a",
            b"a\xfe",
            b"a\xff",
            b"a\xff\x00",
            b"a\xff\xff",
            b"b",
            b"\xff\xff",
        ];
        keys.iter().for_each(|key| documents.put(document(key, b"")));
        let listed = |prefix| -> Vec<Vec<u8>> {
            let list = documents.list(&DocumentQuery {
                prefix,
                ..DocumentQuery::ALL
            });
            list.documents
                .into_iter()
                .map(|document| document.document)
                .collect()
        };
        assert_eq!(listed(b"a\xff"), keys[2..5]);
        assert_eq!(listed(b"\xff"), keys[6..]);
        assert_eq!(listed(b"\xff\xff"), keys[6..]);
        assert_eq!(listed(b""), keys);
    }

    #[test]
    fn a_list_is_bounded_in_bytes_and_never_empty_for_it() {
        let mut documents = Documents::default();
        for key in [b"a", b"b", b"c"] {
            documents.put(document(key, &[0; 100]));
        }
        let listed = |bytes_max, keys_only| {
            let list = documents.list(&DocumentQuery {
                bytes_max,
                keys_only,
                ..DocumentQuery::ALL
            });
            (list.documents.len(), list.more)
        };
        let each = 1 + 100 + LISTED_BYTES;
        assert_eq!(listed(0, false), (1, true));
        assert_eq!(listed(2 * each - 1, false), (1, true));
        assert_eq!(listed(2 * each, false), (2, true));
        assert_eq!(listed(3 * each, false), (3, false));
        assert_eq!(listed(3 * (1 + LISTED_BYTES), true), (3, false));
    }
}
