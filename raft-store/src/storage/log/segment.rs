//! Segment files: named by number, filled with zeros before they are used.
//!
//! Appending inside a file that already has its blocks costs half of what growing it costs (105 against
//! 212 µs for a synced 4 KiB), and filling 64 MiB takes some 60 ms; so the next segment is filled ahead by
//! a thread, under the name `spare`. It gets its number by a rename once its head frame is durable:
//! a file with a number always begins with a valid head.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use fault_points::crash_point;

use crate::{
    seams::Workers,
    storage::{
        disk::{Disk, DiskFile, OpenMode},
        error::StorageError,
    },
};

const SPARE_NAME: &str = "spare";
const SUFFIX: &str = ".log";
/// Zeros are written in pieces of this many bytes: large enough for full speed, small enough to allocate.
const ZEROS_BYTES: u64 = 1 << 20;

/// A segment's open file, shared by the writer and the readers; it stays readable after its unlink.
pub struct Segment {
    /// Its number: one more than that of the segment before.
    pub number: u64,
    /// Random number in each of its headers.
    pub salt: u64,
    /// Its path.
    pub path: PathBuf,
    /// The file.
    pub file: Box<dyn DiskFile>,
    /// Length of the file.
    pub bytes: u64,
}

/// A zero-filled, synced file that is not a segment yet.
pub struct Spare {
    /// The file.
    pub file: Box<dyn DiskFile>,
    /// Length of the file.
    pub bytes: u64,
}

/// Path of segment `number`.
pub fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}{SUFFIX}"))
}

/// Path of the file that becomes the next segment.
pub fn spare_path(dir: &Path) -> PathBuf {
    dir.join(SPARE_NAME)
}

/// Numbers of the segments in `dir`, ascending.
pub fn list_segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, StorageError> {
    let names = disk
        .list(dir)
        .map_err(StorageError::io("listing log directory", dir))?;
    let mut numbers = Vec::new();
    for name in names {
        let name = name.to_string_lossy();
        let Some(digits) = name.strip_suffix(SUFFIX) else {
            continue;
        };
        match digits.parse() {
            Ok(number) if digits.len() == 20 => numbers.push(number),
            _ => {
                let what = "its name is not one that a segment has";
                return Err(StorageError::damaged(&dir.join(&*name), 0, what));
            }
        }
    }
    Ok(numbers)
}

/// Removes what a crash left of a spare file.
pub fn remove_spare(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    let path = spare_path(dir);
    match disk.remove(&path) {
        Ok(()) => disk
            .sync_dir(dir)
            .map_err(StorageError::io("syncing directory", dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StorageError::io("removing unfinished log segment", &path)(error)),
    }
}

/// Makes the spare file: zeros, synced.
pub fn make_spare(disk: &dyn Disk, dir: &Path, bytes: u64) -> Result<Spare, StorageError> {
    let path = spare_path(dir);
    let file = disk
        .open(&path, OpenMode::Create)
        .map_err(StorageError::io("creating log segment", &path))?;
    fill_zeros(&*file, 0, bytes).map_err(StorageError::io("filling log segment", &path))?;
    crash_point!("spare-filled");
    file.sync()
        .map_err(StorageError::io("syncing log segment", &path))?;
    crash_point!("spare-synced");
    Ok(Spare { file, bytes })
}

/// Writes zeros over `start..end`.
pub fn fill_zeros(file: &dyn DiskFile, start: u64, end: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES.min(end.saturating_sub(start)) as usize];
    let mut offset = start;
    while offset < end {
        let piece = ZEROS_BYTES.min(end - offset);
        file.write_at(offset, &zeros[..piece as usize])?;
        offset += piece;
    }
    Ok(())
}

/// Fills spare files, one at a time: ahead on a thread, or when taken where workers are tasks.
pub struct SpareMaker {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    thread: Option<MakerThread>,
}

struct MakerThread {
    wanted: SyncSender<()>,
    made: Receiver<Result<Spare, StorageError>>,
    /// Whether one was asked for and not taken yet.
    asked: bool,
    handle: JoinHandle<()>,
}

impl SpareMaker {
    /// A maker of files of `segment_bytes`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        segment_bytes: u64,
        workers: Workers,
    ) -> Result<SpareMaker, StorageError> {
        let mut maker = SpareMaker {
            disk,
            dir: dir.to_path_buf(),
            segment_bytes,
            thread: None,
        };
        if workers == Workers::Threads {
            // One request and one answer at most are ever under way.
            let (wanted, requests) = sync_channel(1);
            let (answers, made) = sync_channel(1);
            let (disk, dir) = (maker.disk.clone(), maker.dir.clone());
            let handle = std::thread::Builder::new()
                .name("log-spare".to_owned())
                .spawn(move || {
                    while requests.recv().is_ok() {
                        if answers.send(make_spare(&*disk, &dir, segment_bytes)).is_err() {
                            break;
                        }
                    }
                })
                .map_err(StorageError::io("starting a thread for", &maker.dir))?;
            maker.thread = Some(MakerThread {
                wanted,
                made,
                asked: false,
                handle,
            });
        }
        Ok(maker)
    }

    /// Ends the thread and waits for it: nobody may touch the directory once its lock is given back.
    pub fn stop(&mut self) {
        if let Some(MakerThread {
            wanted, made, handle, ..
        }) = self.thread.take()
        {
            drop(wanted);
            drop(made);
            if handle.join().is_err() {
                tracing::error!("the thread that fills log segments panicked");
            }
        }
    }

    /// Has the next spare made, so that it is there when it is wanted.
    pub fn prepare(&mut self) {
        if let Some(thread) = &mut self.thread
            && !thread.asked
        {
            // A maker that is gone is noticed when the spare is taken.
            thread.asked = thread.wanted.send(()).is_ok();
        }
    }

    /// A spare with room for `needed_bytes`: the prepared one, waiting for it if it is under way.
    pub fn take(&mut self, needed_bytes: u64) -> Result<Spare, StorageError> {
        if let Some(thread) = &mut self.thread
            && thread.asked
        {
            thread.asked = false;
            let spare = thread.made.recv().unwrap_or_else(|_| {
                let gone = io::Error::other("the thread that fills segments has ended");
                Err(StorageError::io("filling log segment", &self.dir)(gone))
            })?;
            if spare.bytes >= needed_bytes {
                return Ok(spare);
            }
            // One frame that is larger than a usual segment gets a segment of its own size.
            drop(spare);
        }
        remove_spare(&*self.disk, &self.dir)?;
        make_spare(&*self.disk, &self.dir, self.segment_bytes.max(needed_bytes))
    }
}

impl Drop for SpareMaker {
    fn drop(&mut self) {
        self.stop();
    }
}
