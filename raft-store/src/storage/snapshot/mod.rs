//! Snapshots: our own checksummed files, built beside apply, streamed, verified, installed.
//!
//! (bodies follow)

use std::{io, path::PathBuf, sync::Arc};

use bytes::Bytes;

use crate::types::{LogId, SnapshotMeta};

/// Why a snapshot could not be written, read or accepted.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Our disk failed: fatal for the node.
    #[error("{doing} {path}: {source}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// These bytes are not the snapshot they should be: not fatal when a peer sent them.
    #[error("snapshot {path} is not usable: {why}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// As many snapshots as may be are being received already.
    #[error("already receiving {receiving} snapshots")]
    Busy {
        /// How many.
        receiving: usize,
    },
}

/// The snapshots of this node. Cheap to clone.
#[derive(Clone)]
pub struct SnapshotStore {
    inner: Arc<()>,
}

impl SnapshotStore {
    /// The newest verified snapshot.
    pub fn current(&self) -> Option<(SnapshotMeta, SnapshotData)> {
        let _ = &self.inner;
        todo!()
    }
    /// Up to where the log may be purged: the older of the two verified snapshots that are kept.
    pub fn purge_upto(&self) -> Option<LogId> {
        todo!()
    }
}

/// One verified snapshot file, open for reading: it stays readable even when newer ones replace it.
#[derive(Clone)]
pub struct SnapshotData {
    inner: Arc<()>,
}

impl SnapshotData {
    /// Length of the file in bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        let _ = &self.inner;
        todo!()
    }
    /// xxh3-128 over all its bytes.
    pub fn checksum(&self) -> u128 {
        todo!()
    }
    /// What it holds.
    pub fn meta(&self) -> &SnapshotMeta {
        todo!()
    }
    /// Reads exactly `into.len()` bytes; blocks.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SnapshotError> {
        let _ = (offset, into);
        todo!()
    }
    /// The next at most `bytes_max` bytes from `offset` on, read where blocking is allowed; empty at
    /// the end.
    pub async fn chunk(&self, offset: u64, bytes_max: usize) -> Result<Bytes, SnapshotError> {
        let _ = (offset, bytes_max);
        todo!()
    }
}

/// Takes in a snapshot from a peer; dropped before [`SnapshotReceiver::finish`], it leaves nothing behind.
pub struct SnapshotReceiver {
    inner: Arc<()>,
}

impl SnapshotReceiver {
    /// Begins to receive a file of `bytes_total` bytes with this checksum over all of them.
    pub fn new(
        store: &SnapshotStore,
        meta: &SnapshotMeta,
        bytes_total: u64,
        checksum: u128,
    ) -> Result<SnapshotReceiver, SnapshotError> {
        let _ = (store, meta, bytes_total, checksum);
        todo!()
    }
    /// Takes the next bytes.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), SnapshotError> {
        let _ = (&self.inner, chunk);
        todo!()
    }
    /// Verifies length, checksum, meta and content, and syncs. What it gives goes to
    /// `Raft::install_full_snapshot`, which makes it the current one.
    pub async fn finish(self) -> Result<SnapshotData, SnapshotError> {
        todo!()
    }
}
