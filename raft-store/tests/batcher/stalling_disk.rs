//! The machine's disk, except that a test can stop its syncs: what is proposed then stays in flight.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
};

use raft_store::storage::{
    disk::{Disk, DiskFile, OpenMode},
    disk_real::RealDisk,
};

/// Files whose syncs wait while the disk is stalled. Cheap to clone.
#[derive(Clone, Default)]
pub struct StallingDisk(Arc<Stall>);

#[derive(Default)]
struct Stall {
    stalled: Mutex<bool>,
    changed: Condvar,
}

impl StallingDisk {
    /// From now on syncs wait.
    pub fn stall(&self) {
        *self.0.stalled.lock().unwrap() = true;
    }

    /// Lets all syncs pass.
    pub fn resume(&self) {
        *self.0.stalled.lock().unwrap() = false;
        self.0.changed.notify_all();
    }
}

struct StallingFile {
    file: Box<dyn DiskFile>,
    stall: Arc<Stall>,
}

impl DiskFile for StallingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, into)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
    fn sync(&self) -> io::Result<()> {
        let stalled = self.stall.stalled.lock().unwrap();
        drop(
            self.stall
                .changed
                .wait_while(stalled, |stalled| *stalled)
                .unwrap(),
        );
        self.file.sync()
    }
}

impl Disk for StallingDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let (file, stall) = (RealDisk.open(path, mode)?, self.0.clone());
        Ok(Box::new(StallingFile { file, stall }))
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        RealDisk.list(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealDisk.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Send + Sync>> {
        RealDisk.lock(dir)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }
}
