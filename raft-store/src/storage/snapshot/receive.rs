//! Taking in a snapshot from a peer.
//!
//! The bytes go to a temporary file and are believed only after everything was checked: length,
//! checksum, the meta that raft was told, the cluster, and the state itself, which is loaded in full.
//! Nothing a peer sends can cost more than the disk space it announced, or the snapshots we have.

use std::{path::PathBuf, sync::Arc, sync::atomic::Ordering};

use bytes::Bytes;
use fault_points::crash_point;

use super::{
    FREE_BYTES_RESERVE, SnapshotData, SnapshotError, SnapshotStore,
    error::{disk_error, read_error},
    format::{self, SNAPSHOT_BYTES_MIN},
};
use crate::{
    storage::{
        disk::{DiskFile, OpenMode},
        offload::blocking,
    },
    types::SnapshotMeta,
};

/// Most snapshots received at once: one leader's, and a new leader's while the old one's dies.
pub const RECEIVING_MAX: usize = 2;

/// Takes in one snapshot; dropped before [`SnapshotReceiver::finish`], it leaves nothing behind.
pub struct SnapshotReceiver {
    temporary: Temporary,
    file: Arc<dyn DiskFile>,
    meta: SnapshotMeta,
    bytes_total: u64,
    checksum: u128,
    bytes: u64,
}

/// The temporary file and its share of [`RECEIVING_MAX`]; both are given back on drop.
struct Temporary {
    store: SnapshotStore,
    /// `None` once somebody else answers for the file.
    path: Option<PathBuf>,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.store.inner.receiving.fetch_sub(1, Ordering::Relaxed);
        if let Some(path) = &self.path {
            // The next start would remove it, too.
            let _ = self.store.inner.disk.remove(path);
        }
    }
}

impl SnapshotReceiver {
    /// Begins to receive a file of `bytes_total` bytes, with this checksum and this meta.
    ///
    /// # Errors
    /// [`SnapshotError::Busy`], [`SnapshotError::NoSpace`], [`SnapshotError::Damaged`] when no
    /// snapshot is that short; the disk failed.
    pub fn new(
        store: &SnapshotStore,
        meta: &SnapshotMeta,
        bytes_total: u64,
        checksum: u128,
    ) -> Result<SnapshotReceiver, SnapshotError> {
        let inner = &store.inner;
        if bytes_total < SNAPSHOT_BYTES_MIN {
            let why = format!("{bytes_total} bytes are too few");
            return Err(SnapshotError::Damaged {
                path: inner.dir.clone(),
                why,
            });
        }
        let bytes_free = inner
            .disk
            .free_bytes(&inner.dir)
            .map_err(disk_error("measuring", &inner.dir))?;
        if bytes_free < bytes_total.saturating_add(FREE_BYTES_RESERVE) {
            return Err(SnapshotError::NoSpace {
                bytes: bytes_total,
                bytes_free,
            });
        }
        let receiving = inner.receiving.fetch_add(1, Ordering::Relaxed);
        let mut temporary = Temporary {
            store: store.clone(),
            path: None,
        };
        if receiving >= RECEIVING_MAX {
            return Err(SnapshotError::Busy { receiving });
        }
        let (file, path) = store.temporary("receiving")?;
        temporary.path = Some(path);
        Ok(SnapshotReceiver {
            temporary,
            file: Arc::from(file),
            meta: meta.clone(),
            bytes_total,
            checksum,
            bytes: 0,
        })
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.bytes
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when there are more than announced; the disk failed.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), SnapshotError> {
        let offset = self.bytes;
        self.bytes = offset.saturating_add(chunk.len() as u64);
        if self.bytes > self.bytes_total {
            return Err(self.damaged("more bytes came than were announced"));
        }
        let file = self.file.clone();
        let written = blocking(self.workers(), move || file.write_at(offset, &chunk)).await;
        written
            .flatten()
            .map_err(|source| disk_error("writing", &self.path())(source))
    }

    /// Verifies everything, and syncs. What it gives goes to `Raft::install_full_snapshot`, which
    /// makes it the current one; dropped before, it leaves nothing behind.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] or [`SnapshotError::Newer`]: it is not what was announced, or not
    /// for us. The disk failed.
    pub async fn finish(self) -> Result<SnapshotData, SnapshotError> {
        let path = self.path();
        let verified = blocking(self.workers(), move || self.verify()).await;
        verified.map_err(disk_error("verifying", &path))?
    }

    fn verify(mut self) -> Result<SnapshotData, SnapshotError> {
        if self.bytes != self.bytes_total {
            return Err(self.damaged("fewer bytes came than were announced"));
        }
        let path = self.path();
        crash_point!("snapshot-received");
        self.file.sync().map_err(disk_error("syncing", &path))?;
        crash_point!("snapshot-received-synced");
        let store = self.temporary.store.clone();
        let file = store
            .inner
            .disk
            .open(&path, OpenMode::Read)
            .map_err(disk_error("opening", &path))?;
        let (contents, machine) = format::load(&*file).map_err(read_error(&path))?;
        if contents.checksum != self.checksum {
            return Err(self.damaged("its checksum is not the announced one"));
        }
        let standing = &contents.standing;
        if standing.last_log_id != self.meta.last_log_id || standing.membership != self.meta.last_membership {
            return Err(self.damaged("it stands for another log id or membership than announced"));
        }
        let ours = *store
            .inner
            .cluster_id
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if ours != 0 && standing.cluster_id != ours {
            let why = format!(
                "it belongs to cluster {:032x}, not to {ours:032x}",
                standing.cluster_id
            );
            return Err(self.damaged(&why));
        }
        // From here on the data answers for the file.
        self.temporary.path = None;
        Ok(store.data(&path, file, contents, Some(machine)))
    }

    fn damaged(&self, why: &str) -> SnapshotError {
        SnapshotError::Damaged {
            path: self.path(),
            why: why.into(),
        }
    }

    fn path(&self) -> PathBuf {
        self.temporary.path.clone().unwrap_or_default()
    }

    fn workers(&self) -> crate::seams::Workers {
        self.temporary.store.inner.workers
    }
}
