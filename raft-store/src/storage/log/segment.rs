//! Segment files: named by number, filled with zeros before they are used.
//!
//! Appending inside a file that already has its blocks costs half of what growing it costs (105 against
//! 212 µs for a synced 4 KiB), and filling 64 MiB takes some 60 ms; so the next segment is filled ahead by
//! a thread, under the name `spare`, piece by piece: whatever is synced meanwhile waits for no more than a piece.
//! It gets its number by a rename once its head frame is durable: a file with a number always begins with a valid head.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
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

/// Whoever fills ahead rests so many times as long as a piece took, its sync included: the disk is others' meanwhile.
/// Filled without a rest, the spare files of three nodes on one disk kept the log's syncs waiting for 70 ms.
const REST_PER_PIECE: u32 = 4;

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
    make_spare_by(disk, dir, bytes, |_| Ok(()))
}

/// [`make_spare`], with something to do after each piece.
fn make_spare_by(
    disk: &dyn Disk,
    dir: &Path,
    bytes: u64,
    mut after_piece: impl FnMut(&dyn DiskFile) -> io::Result<()>,
) -> Result<Spare, StorageError> {
    let path = spare_path(dir);
    let file = disk
        .open(&path, OpenMode::Create)
        .map_err(StorageError::io("creating log segment", &path))?;
    let pieces = (0..bytes).step_by(ZEROS_BYTES as usize);
    let filled = pieces.map(|start| {
        fill_zeros(&*file, start, bytes.min(start + ZEROS_BYTES))?;
        after_piece(&*file)
    });
    filled
        .collect::<io::Result<()>>()
        .map_err(StorageError::io("filling log segment", &path))?;
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
    /// Somebody waits for it.
    awaited: Arc<AtomicBool>,
    /// Whether one was asked for and not taken yet.
    asked: bool,
    handle: JoinHandle<()>,
}

impl MakerThread {
    /// Has it rest no more.
    fn hurry(&self) {
        self.awaited.store(true, Ordering::Release);
        self.handle.thread().unpark();
    }
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
            let awaited = Arc::new(AtomicBool::new(false));
            let hurried = awaited.clone();
            let handle = thread::Builder::new()
                .name("log-spare".to_owned())
                .spawn(move || {
                    while requests.recv().is_ok() {
                        let mut begun = Instant::now();
                        let made = make_spare_by(&*disk, &dir, segment_bytes, |file| {
                            if !hurried.load(Ordering::Acquire) {
                                file.sync()?;
                                thread::park_timeout(begun.elapsed() * REST_PER_PIECE);
                                begun = Instant::now();
                            }
                            Ok(())
                        });
                        if answers.send(made).is_err() {
                            break;
                        }
                    }
                })
                .map_err(StorageError::io("starting a thread for", &maker.dir))?;
            maker.thread = Some(MakerThread {
                wanted,
                made,
                awaited,
                asked: false,
                handle,
            });
        }
        Ok(maker)
    }

    /// Ends the thread and waits for it: nobody may touch the directory once its lock is given back.
    pub fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.hurry();
            let MakerThread {
                wanted, made, handle, ..
            } = thread;
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
            thread.hurry();
            let made = thread.made.recv();
            thread.awaited.store(false, Ordering::Release);
            let spare = made.unwrap_or_else(|_| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk_real::RealDisk;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_spare_is_filled_piece_by_piece() {
        let dir = tempfile::tempdir().unwrap();
        let mut lengths = Vec::new();
        let spare = make_spare_by(&RealDisk, dir.path(), 2 * MIB + 5, |file| {
            lengths.push(file.len()?);
            Ok(())
        });
        assert_eq!(spare.unwrap().bytes, 2 * MIB + 5);
        assert_eq!(lengths, [MIB, 2 * MIB, 2 * MIB + 5]);
    }

    /// What is awaited rests no more and is whole, the next one is filled at leisure again, and a maker that must stop
    /// does so in the midst of it.
    #[test]
    fn a_spare_that_somebody_waits_for_is_soon_there() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk);
        let mut maker = SpareMaker::new(disk, dir.path(), 64 * MIB, Workers::Threads).unwrap();
        for _ in 0..2 {
            maker.prepare();
            let spare = maker.take(64 * MIB).unwrap();
            assert_eq!((spare.bytes, spare.file.len().unwrap()), (64 * MIB, 64 * MIB));
            let awaited = &maker.thread.as_ref().unwrap().awaited;
            assert!(!awaited.load(Ordering::Acquire));
            remove_spare(&RealDisk, dir.path()).unwrap();
        }
        maker.prepare();
        maker.stop();
    }
}
