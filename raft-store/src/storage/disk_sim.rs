//! A file system in memory that loses exactly what a crash may lose.
//!
//! Bytes written but not synced are kept beside what is durable, sector by sector and version by
//! version; directory operations not covered by [`Disk::sync_dir`] are kept as a list. A crash makes
//! every handle fail; [`SimDisk::reboot`] gives the disk that survives it, where a seed decides about
//! every unsynced sector (any version it ever had, or torn between two), every length and every directory operation on its
//! own: all of it, none of it, a prefix, or any subset. Syncing a file does not make its name durable.
//! A directory operation is atomic, as on any journaling file system: a rename happened or did not.
//!
//! Hooks cut at the Nth operation, fail the Nth sync, or fill the disk; [`SimDisk::flip`] rots bits.
//! Left out: permissions, links, and sectors that rot on their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::{SeedableRng, rngs::SmallRng};

use self::contents::{Dir, DirChange, File, Survival};
use super::disk::{Disk, DiskFile, OpenMode};

mod contents;

/// What a disk writes whole or not at all, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// A simulated disk; clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    dirs: BTreeMap<PathBuf, Dir>,
    files: BTreeMap<u64, File>,
    locked: BTreeSet<PathBuf>,
    files_made: u64,
    operations: u64,
    syncs: u64,
    crash_at: Option<u64>,
    fail_sync_at: Option<u64>,
    capacity_bytes: Option<u64>,
    crashed: bool,
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// Operations that changed something, so far: create, write, set_len, sync, rename, remove, sync_dir.
    pub fn operations(&self) -> u64 {
        self.inner().operations
    }

    /// Syncs of files and directories so far.
    pub fn syncs(&self) -> u64 {
        self.inner().syncs
    }

    /// Crashes in the middle of the `operation`th operation from the start, counted from 1: it fails, what
    /// it would have made durable stays uncertain, and every later call fails.
    pub fn crash_at(&self, operation: u64) {
        self.inner().crash_at = Some(operation);
    }

    /// Makes the `sync`th sync from the start, counted from 1, fail with EIO.
    pub fn fail_sync_at(&self, sync: u64) {
        self.inner().fail_sync_at = Some(sync);
    }

    /// Makes writes fail once all files together would have more than `bytes`.
    pub fn set_capacity(&self, bytes: u64) {
        self.inner().capacity_bytes = Some(bytes);
    }

    /// Whether it crashed.
    pub fn crashed(&self) -> bool {
        self.inner().crashed
    }

    /// Cuts the power, if a hook has not: every handle fails from now on.
    pub fn crash(&self) {
        self.inner().crashed = true;
    }

    /// The disk after the power came back; `seed` decides what of the unsynced survived. Seeds that are 0
    /// modulo 4 leave nothing of it, 1 all, 2 a prefix of each file and directory, 3 any subset. The old
    /// disk is crashed by this, and may be rebooted again with other seeds.
    pub fn reboot(&self, seed: u64) -> SimDisk {
        let mut old = self.inner();
        old.crashed = true;
        let mut random = SmallRng::seed_from_u64(seed);
        let survival = match seed % 4 {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            2 => Survival::Prefix,
            _ => Survival::AnySubset,
        };
        let mut new = Inner {
            files_made: old.files_made,
            ..Inner::default()
        };
        for (path, dir) in &old.dirs {
            let names = dir.survivor(survival, &mut random);
            new.dirs.insert(
                path.clone(),
                Dir {
                    now: names.clone(),
                    durable: names,
                    unsynced: Vec::new(),
                },
            );
        }
        for (id, file) in &old.files {
            new.files.insert(*id, file.survivor(survival, &mut random));
        }
        new.collect_garbage();
        SimDisk(Arc::new(Mutex::new(new)))
    }

    /// A copy as it is now, unsynced parts included, with no locks, hooks or counts.
    pub fn copy(&self) -> SimDisk {
        let inner = self.inner();
        SimDisk(Arc::new(Mutex::new(Inner {
            dirs: inner.dirs.clone(),
            files: inner
                .files
                .iter()
                .map(|(id, file)| {
                    (
                        *id,
                        File {
                            handles: 0,
                            ..file.clone()
                        },
                    )
                })
                .collect(),
            files_made: inner.files_made,
            ..Inner::default()
        })))
    }

    /// Paths of all files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        let inner = self.inner();
        inner
            .dirs
            .iter()
            .flat_map(|(dir, names)| names.now.keys().map(|name| dir.join(name)))
            .collect()
    }

    /// A file's bytes now; `None` when there is no such file.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.inner();
        inner
            .find(path)
            .and_then(|id| inner.files.get(&id))
            .map(|file| file.now.clone())
    }

    /// Flips the bits of `mask` in one byte, durably.
    ///
    /// # Panics
    /// When there is no such byte.
    pub fn flip(&self, path: &Path, offset: usize, mask: u8) {
        let mut inner = self.inner();
        let id = inner.find(path).expect("a file to flip a bit in");
        let file = inner.files.get_mut(&id).expect("a named file");
        file.now[offset] ^= mask;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere must not hide behind this lock: its state is whole after every call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn find(&self, path: &Path) -> Option<u64> {
        self.dirs
            .get(path.parent()?)?
            .now
            .get(Path::new(path.file_name()?))
            .copied()
    }

    fn alive(&self) -> io::Result<()> {
        if self.crashed {
            Err(io::Error::other("the simulated machine has crashed"))
        } else {
            Ok(())
        }
    }

    /// Counts an operation; true when the crash happens in the middle of it.
    fn count(&mut self) -> io::Result<bool> {
        self.alive()?;
        self.operations += 1;
        self.crashed = self.crash_at == Some(self.operations);
        Ok(self.crashed)
    }

    fn count_sync(&mut self) -> io::Result<()> {
        let crashed = self.count()?;
        self.syncs += 1;
        if crashed {
            return self.alive();
        }
        if self.fail_sync_at == Some(self.syncs) {
            return Err(io::Error::other("simulated input/output error (EIO)"));
        }
        Ok(())
    }

    fn dir_of(&mut self, path: &Path) -> io::Result<(&mut Dir, PathBuf)> {
        let name = path
            .file_name()
            .map(PathBuf::from)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.dirs.get_mut(parent).ok_or_else(|| not_found(parent))?;
        Ok((dir, name))
    }

    fn has_room_for(&self, more_bytes: u64) -> io::Result<()> {
        let used: u64 = self.files.values().map(|file| file.now.len() as u64).sum();
        match self.capacity_bytes {
            Some(capacity) if used + more_bytes > capacity => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "simulated disk is full",
            )),
            _ => Ok(()),
        }
    }

    /// Forgets files that nobody has open and no name leads to, not even after a crash.
    fn collect_garbage(&mut self) {
        let mut named = BTreeSet::new();
        for dir in self.dirs.values() {
            named.extend(dir.now.values().chain(dir.durable.values()));
            named.extend(dir.unsynced.iter().filter_map(DirChange::file));
        }
        self.files
            .retain(|id, file| file.handles > 0 || named.contains(id));
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("no {} on the simulated disk", path.display()),
    )
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.inner();
        inner.alive()?;
        let id = match (mode, inner.find(path)) {
            (OpenMode::Create, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::Create, None) => {
                let id = inner.files_made;
                let (dir, name) = inner.dir_of(path)?;
                let change = DirChange::Link(name, id);
                change.apply(&mut dir.now);
                dir.unsynced.push(change);
                inner.files_made += 1;
                inner.files.insert(id, File::default());
                inner.count()?;
                inner.alive()?;
                id
            }
            (_, Some(id)) => id,
            (_, None) => return Err(not_found(path)),
        };
        inner.file(id)?.handles += 1;
        Ok(Box::new(SimFile {
            disk: self.clone(),
            id,
            writable: mode != OpenMode::Read,
        }))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.alive()?;
        for ancestor in dir.ancestors() {
            inner.dirs.entry(ancestor.to_path_buf()).or_default();
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let inner = self.inner();
        inner.alive()?;
        let entries = inner.dirs.get(dir).ok_or_else(|| not_found(dir))?;
        let below = inner.dirs.keys().filter(|path| path.parent() == Some(dir));
        let mut names: Vec<PathBuf> = below
            .filter_map(|path| path.file_name())
            .map(PathBuf::from)
            .collect();
        names.extend(entries.now.keys().cloned());
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let inner = self.inner();
        inner.alive()?;
        Ok(inner.dirs.contains_key(path) || inner.find(path).is_some())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.alive()?;
        if from.parent() != to.parent() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "renames stay within a directory",
            ));
        }
        let id = inner.find(from).ok_or_else(|| not_found(from))?;
        let to_name = to
            .file_name()
            .map(PathBuf::from)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let (dir, from_name) = inner.dir_of(from)?;
        let change = DirChange::Rename(from_name, to_name, id);
        change.apply(&mut dir.now);
        dir.unsynced.push(change);
        inner.count()?;
        inner.alive()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.alive()?;
        inner.find(path).ok_or_else(|| not_found(path))?;
        // The bytes stay: open handles still read them, and a lost unlink brings the name back.
        let (dir, name) = inner.dir_of(path)?;
        let change = DirChange::Unlink(name);
        change.apply(&mut dir.now);
        dir.unsynced.push(change);
        inner.count()?;
        inner.alive()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.count_sync()?;
        let entries = inner.dirs.get_mut(dir).ok_or_else(|| not_found(dir))?;
        entries.durable = entries.now.clone();
        entries.unsynced.clear();
        inner.collect_garbage();
        Ok(())
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut inner = self.inner();
        inner.alive()?;
        if !inner.locked.insert(dir.to_path_buf()) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "its lock is held"));
        }
        Ok(Box::new(SimLock {
            disk: self.clone(),
            dir: dir.to_path_buf(),
        }))
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let inner = self.inner();
        inner.alive()?;
        let used: u64 = inner.files.values().map(|file| file.now.len() as u64).sum();
        Ok(inner.capacity_bytes.unwrap_or(u64::MAX).saturating_sub(used))
    }
}

struct SimLock {
    disk: SimDisk,
    dir: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.inner().locked.remove(&self.dir);
    }
}

struct SimFile {
    disk: SimDisk,
    id: u64,
    writable: bool,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut inner = self.disk.inner();
        if let Some(file) = inner.files.get_mut(&self.id) {
            file.handles -= 1;
        }
        inner.collect_garbage();
    }
}

impl SimFile {
    /// Changes the content as one counted operation; the change is uncertain when the crash comes in it.
    fn change(&self, grows_to: usize, change: impl FnOnce(&mut File)) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.alive()?;
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let len = inner.file(self.id)?.now.len();
        inner.has_room_for(grows_to.saturating_sub(len) as u64)?;
        inner.count()?;
        change(inner.file(self.id)?);
        inner.alive()
    }
}

impl Inner {
    fn file(&mut self, id: u64) -> io::Result<&mut File> {
        self.files
            .get_mut(&id)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut inner = self.disk.inner();
        inner.alive()?;
        Ok(inner.file(self.id)?.now.len() as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.alive()?;
        let file = inner.file(self.id)?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start
            .checked_add(into.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(file.now.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = start
            .checked_add(bytes.len())
            .ok_or(io::ErrorKind::FileTooLarge)?;
        self.change(end, |file| {
            if file.now.len() < end {
                file.resize(end);
            }
            file.remember(start, end);
            file.now[start..end].copy_from_slice(bytes);
        })
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.change(bytes, |file| file.resize(bytes))
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.count_sync()?;
        let file = inner.file(self.id)?;
        file.older_sectors.clear();
        file.older_lens.clear();
        Ok(())
    }
}
