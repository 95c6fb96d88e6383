//! One snapshot file, as it is handed around.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use inventory_machine::Machine;

use super::{
    SUFFIX_TEMPORARY,
    error::{SnapshotError, disk_error, read_error},
    format::{self, Contents},
};
use crate::{
    seams::Workers,
    storage::{
        disk::{Disk, DiskFile},
        offload::blocking,
        rows::Standing,
    },
    types::SnapshotMeta,
};

/// One verified snapshot file, open for reading: it stays readable even when newer ones replace it.
/// Cheap to clone.
#[derive(Clone)]
pub struct SnapshotData {
    inner: Arc<DataInner>,
}

struct DataInner {
    file: Box<dyn DiskFile>,
    disk: Arc<dyn Disk>,
    workers: Workers,
    path: Mutex<PathBuf>,
    bytes: u64,
    checksum: u128,
    standing: Standing,
    meta: SnapshotMeta,
    /// The state, when verifying it has loaded it already.
    loaded: Mutex<Option<Box<Machine>>>,
}

impl SnapshotData {
    /// A file that was verified; `loaded` is the state in it, if that is at hand.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        workers: Workers,
        path: &Path,
        file: Box<dyn DiskFile>,
        contents: Contents,
        loaded: Option<Machine>,
    ) -> SnapshotData {
        let Contents {
            standing,
            bytes,
            checksum,
        } = contents;
        let meta = SnapshotMeta {
            last_log_id: standing.last_log_id,
            last_membership: standing.membership.clone(),
        };
        let (path, loaded) = (Mutex::new(path.to_path_buf()), Mutex::new(loaded.map(Box::new)));
        SnapshotData {
            inner: Arc::new(DataInner {
                file,
                disk,
                workers,
                path,
                bytes,
                checksum,
                standing,
                meta,
                loaded,
            }),
        }
    }

    /// Renames the file; false when it has that name already. Durable after syncing the directory.
    pub(super) fn rename(&self, to: &Path) -> Result<bool, SnapshotError> {
        let mut at = self.inner.path.lock().unwrap_or_else(PoisonError::into_inner);
        if *at == to {
            return Ok(false);
        }
        self.inner
            .disk
            .rename(&at, to)
            .map_err(disk_error("renaming", &at))?;
        *at = to.to_path_buf();
        Ok(true)
    }

    /// Length of the file in bytes; never zero.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.inner.bytes
    }

    /// xxh3-128 over all bytes before the last 16, which hold just this.
    pub fn checksum(&self) -> u128 {
        self.inner.checksum
    }

    /// What it holds, as openraft names it.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.inner.meta
    }

    /// What it holds, with cluster, rows and digest.
    pub fn standing(&self) -> &Standing {
        &self.inner.standing
    }

    /// Where it is now.
    pub fn path(&self) -> PathBuf {
        self.inner
            .path
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads exactly `into.len()` bytes; blocks.
    ///
    /// # Errors
    /// The disk failed, or the file is shorter.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), SnapshotError> {
        self.inner
            .file
            .read_at(offset, into)
            .map_err(|source| disk_error("reading", &self.path())(source))
    }

    /// The next at most `bytes_max` bytes from `offset` on, read where blocking is allowed; empty at
    /// the end.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn chunk(&self, offset: u64, bytes_max: usize) -> Result<Bytes, SnapshotError> {
        let count = self.len().saturating_sub(offset).min(bytes_max as u64) as usize;
        let data = self.clone();
        let read = blocking(self.inner.workers, move || {
            let mut bytes = vec![0; count];
            data.read_at(offset, &mut bytes).map(|()| Bytes::from(bytes))
        });
        read.await
            .map_err(|source| disk_error("reading", &self.path())(source))?
    }

    /// Loads the state, checking everything down to its digest. Blocks.
    pub(crate) fn load(&self) -> Result<Machine, SnapshotError> {
        let loaded = self
            .inner
            .loaded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(machine) = loaded {
            return Ok(*machine);
        }
        self.load_again()
    }

    /// [`SnapshotData::load`], from the file even when the state is at hand.
    pub(crate) fn load_again(&self) -> Result<Machine, SnapshotError> {
        let path = self.path();
        let (contents, machine) = format::load(&*self.inner.file).map_err(read_error(&path))?;
        if contents.checksum != self.checksum() || contents.standing != *self.standing() {
            let why = "it has changed since it was verified".into();
            return Err(SnapshotError::Damaged { path, why });
        }
        Ok(machine)
    }
}

impl Drop for DataInner {
    fn drop(&mut self) {
        // A received file that was never installed. The next start would remove it, too.
        let path = self.path.get_mut().unwrap_or_else(PoisonError::into_inner);
        if path.to_string_lossy().ends_with(SUFFIX_TEMPORARY) {
            let _ = self.disk.remove(path);
        }
    }
}
