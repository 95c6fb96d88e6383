//! Snapshots: our own checksummed files, built beside apply, streamed, verified, installed.
//!
//! A snapshot is one file `snapshot-<index>-<term>.holdfast` (its bytes are described in `format.rs`). It is written beside,
//! synced, read back and verified, renamed, and its directory synced: what has the name is whole. The
//! two newest are kept.
//!
//! Invariants: what [`SnapshotStore::current`] and [`SnapshotStore::purge_upto`] speak of has been
//! verified, byte by byte, since the node started. The log is purged only up to the *older* of the two:
//! should the newer one rot, the older one and the log still give the state.
//!
//! Left out: deciding when to build one, which is openraft's, and carrying the bytes, which is the
//! network's.

mod data;
mod error;
pub(crate) mod format;
mod receive;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use fault_points::{crash_point, planted};
use inventory_machine::{Frozen, Machine};

pub(crate) use self::format::SNAPSHOT_VERSION;
pub use self::{
    data::SnapshotData,
    error::SnapshotError,
    receive::{RECEIVING_MAX, SnapshotReceiver},
};
use self::{
    error::{disk_error, read_error},
    format::Contents,
};
use super::{
    disk::{Disk, DiskFile, OpenMode},
    offload::background,
    rows::Standing,
};
use crate::{
    seams::{Seams, Workers},
    types::{LogId, SnapshotMeta},
};

/// How many verified snapshots are kept.
pub const SNAPSHOTS_KEPT: usize = 2;

/// Up to this size a snapshot that was just built is loaded in full to verify it; a larger one is
/// verified by its checksum alone, since loading takes as much memory again as the state has.
pub const VERIFY_BY_LOADING_BYTES_MAX: u64 = 512 << 20;

/// Disk space that snapshots leave to the log, in bytes: a few of its segments.
pub const FREE_BYTES_RESERVE: u64 = 256 << 20;

const SUFFIX: &str = ".holdfast";
const SUFFIX_TEMPORARY: &str = ".tmp";
const SUFFIX_DAMAGED: &str = ".damaged";

/// The snapshots of this node. Cheap to clone.
#[derive(Clone)]
pub struct SnapshotStore {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    workers: Workers,
    dir: PathBuf,
    /// Verified, oldest first, at most [`SNAPSHOTS_KEPT`].
    kept: Mutex<Vec<SnapshotData>>,
    /// Held while files are renamed and removed.
    adopting: Mutex<()>,
    /// Whose snapshots are accepted; zero until founding.
    cluster_id: Mutex<u128>,
    temporaries: AtomicU64,
    receiving: AtomicUsize,
}

impl SnapshotStore {
    /// Opens the directory `dir`, made when it is not there: verifies what is in it, removes what was
    /// never finished, and sets damaged files aside (the last of them is kept). Blocks.
    ///
    /// # Errors
    /// The disk failed, or a snapshot is of a newer format.
    pub fn open(dir: &Path, seams: &Seams) -> Result<SnapshotStore, SnapshotError> {
        let store = SnapshotStore {
            inner: Arc::new(Inner {
                disk: seams.disk.clone(),
                workers: seams.workers,
                dir: dir.to_path_buf(),
                kept: Mutex::new(Vec::new()),
                adopting: Mutex::new(()),
                cluster_id: Mutex::new(0),
                temporaries: AtomicU64::new(0),
                receiving: AtomicUsize::new(0),
            }),
        };
        let disk = &*seams.disk;
        disk.create_dir_all(dir).map_err(disk_error("creating", dir))?;
        let mut found = Vec::new();
        for path in disk.list(dir).map_err(disk_error("listing", dir))? {
            // Whether names come bare or with their directory is the disk's business.
            let path = dir.join(path);
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if name.ends_with(SUFFIX_TEMPORARY) {
                disk.remove(&path).map_err(disk_error("removing", &path))?;
            } else if let Some(place) = place_of(name) {
                found.push((place, path));
            }
        }
        found.sort();
        let mut kept: Vec<SnapshotData> = Vec::new();
        for (_, path) in found.into_iter().rev() {
            if kept.len() == SNAPSHOTS_KEPT {
                disk.remove(&path).map_err(disk_error("removing", &path))?;
                continue;
            }
            match store.check(&path) {
                Ok(data) => kept.insert(0, data),
                Err(SnapshotError::Damaged { path, why }) => {
                    tracing::error!(path = %path.display(), why, "snapshot is damaged: set aside");
                    store.set_aside(&path)?;
                }
                Err(error) => return Err(error),
            }
        }
        *store.lock() = kept;
        Ok(store)
    }

    /// The newest verified snapshot.
    pub fn current(&self) -> Option<(SnapshotMeta, SnapshotData)> {
        self.lock().last().map(|data| (data.meta().clone(), data.clone()))
    }

    /// All verified snapshots, oldest first.
    pub fn kept(&self) -> Vec<SnapshotData> {
        self.lock().clone()
    }

    /// Up to where the log may be purged: the older of the two verified snapshots that are kept;
    /// `None` while there are not two.
    pub fn purge_upto(&self) -> Option<LogId> {
        let kept = self.lock();
        if planted!("purge-before-sync") {
            return kept.last()?.meta().last_log_id;
        }
        if kept.len() < SNAPSHOTS_KEPT {
            None
        } else {
            kept.first()?.meta().last_log_id
        }
    }

    /// From now on only snapshots of this cluster are accepted.
    pub fn set_cluster_id(&self, cluster_id: u128) {
        *self
            .inner
            .cluster_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = cluster_id;
    }

    /// Whether the disk has room for another snapshot: twice the last one, and the log's reserve.
    pub(crate) fn has_room(&self) -> io::Result<bool> {
        let bytes = self.lock().last().map_or(0, SnapshotData::len);
        Ok(self.inner.disk.free_bytes(&self.inner.dir)? >= bytes * 2 + FREE_BYTES_RESERVE)
    }

    /// Writes this state as a snapshot, verifies it and makes it the current one.
    pub(crate) async fn build(
        &self,
        frozen: Frozen,
        standing: Standing,
    ) -> Result<SnapshotData, SnapshotError> {
        if let Some(same) = self.lock().iter().find(|data| data.standing() == &standing) {
            return Ok(same.clone());
        }
        let store = self.clone();
        let built = background(self.inner.workers, move || store.build_now(&frozen, &standing)).await;
        built.map_err(disk_error("building a snapshot in", &self.inner.dir))?
    }

    /// [`SnapshotStore::build`], blocking.
    pub(crate) fn build_now(
        &self,
        frozen: &Frozen,
        standing: &Standing,
    ) -> Result<SnapshotData, SnapshotError> {
        let data = self.write_verified(frozen, standing)?;
        self.adopt(&data)?;
        Ok(data)
    }

    /// Writes this state to a verified file of its own, which goes when the last handle to it does. It is no
    /// snapshot of this node: nothing is purged for it, and nothing else is dropped.
    ///
    /// # Errors
    /// [`SnapshotError::NoSpace`] where a snapshot would have no room; the disk failed.
    pub(crate) async fn build_apart(
        &self,
        frozen: Frozen,
        standing: Standing,
    ) -> Result<SnapshotData, SnapshotError> {
        let dir = &self.inner.dir;
        if !self.has_room().map_err(disk_error("measuring", dir))? {
            let bytes = self.lock().last().map_or(0, SnapshotData::len);
            let bytes_free = self.inner.disk.free_bytes(dir).unwrap_or(0);
            return Err(SnapshotError::NoSpace { bytes, bytes_free });
        }
        let store = self.clone();
        let written = background(self.inner.workers, move || {
            store.write_verified(&frozen, &standing)
        });
        written
            .await
            .map_err(disk_error("writing the state beside", dir))?
    }

    /// Loads every snapshot from its file again; gives each with what is wrong with it.
    ///
    /// # Errors
    /// The node is shutting down.
    pub(crate) async fn verify(&self) -> Result<Vec<(SnapshotData, Option<SnapshotError>)>, SnapshotError> {
        let kept = self.kept();
        let verified = background(self.inner.workers, move || {
            let each = kept.into_iter().map(|data| {
                let wrong = data.load_again().err();
                (data, wrong)
            });
            each.collect()
        });
        verified
            .await
            .map_err(disk_error("verifying snapshots in", &self.inner.dir))
    }

    fn write_verified(&self, frozen: &Frozen, standing: &Standing) -> Result<SnapshotData, SnapshotError> {
        let (file, path) = self.temporary("building")?;
        let data = (|| {
            let (bytes, checksum) =
                format::write(&*file, frozen, standing).map_err(disk_error("writing", &path))?;
            crash_point!("snapshot-written");
            if !planted!("purge-before-sync") {
                file.sync().map_err(disk_error("syncing", &path))?;
            }
            crash_point!("snapshot-synced");
            drop(file);
            let data = self.check(&path)?;
            if data.len() != bytes || data.checksum() != checksum {
                let why = "the disk gives back other bytes than were written";
                return Err(SnapshotError::Damaged {
                    path: path.clone(),
                    why: why.into(),
                });
            }
            if bytes <= VERIFY_BY_LOADING_BYTES_MAX {
                data.load()?;
            }
            Ok(data)
        })();
        if data.is_err() {
            // What went wrong is what is reported; an unfinished file is removed at the next start.
            let _ = self.inner.disk.remove(&path);
        }
        data
    }

    /// Gives a verified file its name, durably, and drops what is now too old. Blocks.
    pub(crate) fn adopt(&self, data: &SnapshotData) -> Result<(), SnapshotError> {
        let _adopting = self.inner.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        let (disk, dir) = (&*self.inner.disk, &self.inner.dir);
        let path = dir.join(name_of(&data.meta().last_log_id));
        if !data.rename(&path)? {
            return Ok(());
        }
        crash_point!("snapshot-named");
        disk.sync_dir(dir).map_err(disk_error("syncing", dir))?;
        crash_point!("snapshot-adopted");
        let dropped = {
            let mut kept = self.lock();
            kept.retain(|other| other.path() != path);
            kept.push(data.clone());
            kept.sort_by_key(|data| place(&data.meta().last_log_id));
            let surplus = kept.len().saturating_sub(SNAPSHOTS_KEPT);
            kept.drain(..surplus).collect::<Vec<_>>()
        };
        for old in dropped {
            let path = old.path();
            match disk.remove(&path) {
                // Somebody was tidying up: that is what we wanted.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(disk_error("removing", &path))?,
            }
            crash_point!("snapshot-dropped");
        }
        Ok(())
    }

    /// Takes a snapshot that turned out not to load out of use.
    pub(crate) fn condemn(&self, data: &SnapshotData) -> Result<(), SnapshotError> {
        let path = data.path();
        self.lock().retain(|other| other.path() != path);
        self.set_aside(&path)
    }

    /// Renames a damaged file so that it is never read again; the one before it goes.
    fn set_aside(&self, path: &Path) -> Result<(), SnapshotError> {
        let (disk, dir) = (&*self.inner.disk, &self.inner.dir);
        for other in disk.list(dir).map_err(disk_error("listing", dir))? {
            let other = dir.join(other);
            if other.to_string_lossy().ends_with(SUFFIX_DAMAGED) {
                disk.remove(&other).map_err(disk_error("removing", &other))?;
            }
        }
        let mut aside = path.as_os_str().to_owned();
        aside.push(SUFFIX_DAMAGED);
        disk.rename(path, Path::new(&aside))
            .map_err(disk_error("renaming", path))?;
        disk.sync_dir(dir).map_err(disk_error("syncing", dir))
    }

    /// Verifies a file by its bytes, and opens it for reading.
    fn check(&self, path: &Path) -> Result<SnapshotData, SnapshotError> {
        let file = self
            .inner
            .disk
            .open(path, OpenMode::Read)
            .map_err(disk_error("opening", path))?;
        let contents = format::check(&*file).map_err(read_error(path))?;
        Ok(self.data(path, file, contents, None))
    }

    fn data(
        &self,
        path: &Path,
        file: Box<dyn DiskFile>,
        contents: Contents,
        loaded: Option<Machine>,
    ) -> SnapshotData {
        SnapshotData::new(
            self.inner.disk.clone(),
            self.inner.workers,
            path,
            file,
            contents,
            loaded,
        )
    }

    /// A new file that the next start removes if nobody renames it.
    fn temporary(&self, what: &str) -> Result<(Box<dyn DiskFile>, PathBuf), SnapshotError> {
        let number = self.inner.temporaries.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.dir.join(format!("{what}-{number}{SUFFIX_TEMPORARY}"));
        let file = self
            .inner
            .disk
            .open(&path, OpenMode::Create)
            .map_err(disk_error("creating", &path))?;
        Ok((file, path))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SnapshotData>> {
        // Nothing that can panic runs under this lock.
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Index and term: what a snapshot's name says, and how snapshots are ordered.
fn place(log_id: &Option<LogId>) -> (u64, u64) {
    log_id.as_ref().map_or((0, 0), |log_id| {
        (log_id.index(), log_id.committed_leader_id().term)
    })
}

fn name_of(log_id: &Option<LogId>) -> String {
    let (index, term) = place(log_id);
    format!("snapshot-{index}-{term}{SUFFIX}")
}

fn place_of(name: &str) -> Option<(u64, u64)> {
    let (index, term) = name
        .strip_prefix("snapshot-")?
        .strip_suffix(SUFFIX)?
        .split_once('-')?;
    Some((index.parse().ok()?, term.parse().ok()?))
}
