//! Small keyed documents: compare-and-set on a version, fenced leases and time to live in log time.
//!
//! A document is an immutable `Arc`; a change replaces it. `due` names every document that log time
//! will change, at the earlier of its lease's end and its own; it is derived and rebuilt on load.

use alloc::{
    collections::{BTreeSet, BinaryHeap},
    sync::Arc,
    vec::Vec,
};
use core::{cmp::Ordering, ops::Bound};

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::{bytes::Put, command::LogMs, reply::DocumentView, sharded::Sharded};

/// Most documents. Four per order for a million orders.
pub const DOCUMENTS_MAX: usize = 4_000_000;

/// Most bytes of keys and bodies together: the state lives in memory.
pub const DOCUMENTS_BYTES_MAX: u64 = 2 << 30;

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

    fn digest(&self, scratch: &mut Vec<u8>) -> u128 {
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
        DocumentView {
            document: self.key.to_vec(),
            body: self.body.to_vec(),
            version: self.version,
            fencing_token: self.fencing_token,
            leased_until_ms: self.leased_until_ms,
            expires_at_ms: self.expires_at_ms,
        }
    }
}

/// All documents.
#[derive(Default)]
pub(crate) struct Documents {
    map: Sharded<Arc<[u8]>, Arc<Document>>,
    due: BTreeSet<(LogMs, Arc<[u8]>)>,
    bytes: u64,
    digest: u128,
    scratch: Vec<u8>,
}

impl Documents {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Sum of their digests.
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// The map, to be frozen.
    pub fn map(&self) -> &Sharded<Arc<[u8]>, Arc<Document>> {
        &self.map
    }

    /// A document.
    pub fn get(&self, key: &[u8]) -> Option<&Arc<Document>> {
        self.map.get(key)
    }

    /// Whether the quota has room for this document in place of the one with its key.
    pub fn has_room(&self, key: &[u8], body: &[u8]) -> bool {
        let before = self.get(key);
        let count = self.len() + usize::from(before.is_none());
        let bytes = self.bytes - before.map_or(0, |before| before.bytes()) + (key.len() + body.len()) as u64;
        count <= DOCUMENTS_MAX && bytes <= DOCUMENTS_BYTES_MAX
    }

    /// Writes a document over the one with its key.
    pub fn put(&mut self, document: Document) {
        self.remove(&document.key.clone());
        self.digest = self.digest.wrapping_add(document.digest(&mut self.scratch));
        self.bytes += document.bytes();
        if let Some(due_ms) = document.due_ms() {
            self.due.insert((due_ms, document.key.clone()));
        }
        self.map.insert(document.key.clone(), Arc::new(document));
    }

    /// Deletes a document.
    pub fn remove(&mut self, key: &[u8]) -> Option<Arc<Document>> {
        let document = self.map.remove(key)?;
        self.digest = self.digest.wrapping_sub(document.digest(&mut self.scratch));
        self.bytes -= document.bytes();
        if let Some(due_ms) = document.due_ms() {
            self.due.remove(&(due_ms, document.key.clone()));
        }
        Some(document)
    }

    /// When log time next changes a document.
    pub fn next_due_ms(&self) -> Option<LogMs> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Carries out the change that is due first: gives the document as it was, and whether it is
    /// gone (else its lease ended).
    pub fn expire(&mut self, now_ms: LogMs) -> Option<(Arc<Document>, bool)> {
        let (due_ms, key) = self.due.first()?.clone();
        if due_ms > now_ms {
            return None;
        }
        let before = self.remove(&key).expect("a document that is due exists");
        let gone = before.expires_at_ms != 0 && before.expires_at_ms <= now_ms;
        if !gone {
            self.put(Document {
                fencing_token: 0,
                leased_until_ms: 0,
                ..(*before).clone()
            });
        }
        Some((before, gone))
    }

    /// Documents with a prefix after a key, in order of keys: the shards' runs merged.
    pub fn list(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<DocumentView> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut runs: Vec<_> = (self.map.shards())
            .map(|shard| {
                let run = shard.range::<[u8], _>((from, Bound::Unbounded));
                run.take_while(|(key, _)| key.starts_with(prefix))
                    .map(|(_, document)| document)
            })
            .collect();
        let mut heads = BinaryHeap::new();
        for (run, documents) in runs.iter_mut().enumerate() {
            heads.extend(documents.next().map(|document| Head { document, run }));
        }
        let mut listed = Vec::new();
        while listed.len() < limit {
            let Some(Head { document, run }) = heads.pop() else {
                break;
            };
            listed.push(document.view());
            heads.extend(runs[run].next().map(|document| Head { document, run }));
        }
        listed
    }
}

/// The next document of one shard's run, ordered by its key alone, smallest first in a max-heap.
struct Head<'a> {
    document: &'a Arc<Document>,
    run: usize,
}

impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.document.key.cmp(&self.document.key)
    }
}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head<'_> {}

#[cfg(test)]
mod tests {
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
        assert!(documents.has_room(b"ab", b"12345678"), "as large as before");
        assert!(!documents.has_room(b"ab", b"123456789"));
        assert!(!documents.has_room(b"c", b""));
        documents.bytes = 10;
        documents.remove(b"ab");
        assert_eq!((documents.bytes, documents.len(), documents.digest()), (0, 0, 0));
    }

    #[test]
    fn lists_merge_the_shards_in_order() {
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
        let listed = |after: Option<&[u8]>, limit| -> Vec<Vec<u8>> {
            documents
                .list(b"o/", after, limit)
                .into_iter()
                .map(|document| document.document)
                .collect()
        };
        assert_eq!(listed(None, usize::MAX), keys);
        assert_eq!(listed(Some(&keys[700]), 5), keys[701..706]);
        assert_eq!(listed(Some(b"a"), 1), keys[..1]);
        assert!(listed(Some(b"p"), 1).is_empty());
    }
}
