//! The raft log and the vote, durable, in files of our own.
//!
//! A log is a directory: numbered segments of frames ([`frame`] says it byte by byte), the vote's file, and
//! a lock. Segments are only ever appended to. Entries, truncations and purges are all frames, so the
//! state is whatever replaying the frames in order gives ([`recover`]), and a crash can only cut the end.
//!
//! Promises, each with a test:
//! - An append's callback, a vote, a truncation and a purge are answered only when a crash cannot undo
//!   them; they reach the disk in the order they were asked for.
//! - Entries can be read as soon as `append` returns.
//! - Damage to anything that was durable is refused at open, or at reading, with a message that says what
//!   to do; what a crash left unfinished is cut. The one case that cannot be told apart is written down
//!   in [`recover`].
//! - The first error of a write or a sync is the last: every later call fails, [`LogStore::failure`] tells.
//!
//! Left out: deciding what to append or purge, snapshots, and sharing a segment among several logs.

pub mod frame;
mod memory;
mod reader;
mod recover;
mod segment;
mod writer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fault_points::planted;
use openraft::{
    OptionalSend,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::{
    memory::Memory,
    segment::SpareMaker,
    writer::{Done, Request, Writer},
};
use super::{error::StorageError, vote::VoteFile};
use crate::{
    seams::{Seams, Workers},
    types::{Entry, LogId, TypeConfig, Vote},
};

pub use self::{
    reader::{READ_BYTES_MAX, READ_ENTRIES_MAX},
    writer::GROUP_BYTES_MAX,
};

/// Name of the log's directory within the data directory.
pub const LOG_DIR_NAME: &str = "log";
/// Requests that wait for the writer; more wait outside. openraft sends one append after the other, so
/// this bounds how many a sync can gather, and 1,024 are more than come in during one.
const REQUESTS_WAITING_MAX: usize = 1024;
/// KiB of entries that wait to be synced; appending more waits. A minute's worth for a slow disk would
/// only grow memory and latency: 64 MiB is a fraction of a second on any disk that can keep up.
const UNSYNCED_KIB_MAX: u32 = 64 << 10;

/// Whether the directory is expected to hold a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// There is no NODE file: a new node. The log is made; one that holds anything is refused.
    New,
    /// There is a NODE file: the log and the vote must be there, and their absence is damage.
    Existing,
}

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Whether the log must be there.
    pub origin: Origin,
    /// Length of a segment, in bytes. 64 MiB: filling it ahead takes a thread some 60 ms, and purging
    /// frees whole segments.
    pub segment_bytes: u64,
    /// Bytes of synced entries kept in memory. What followers that keep up and `apply` read is in it.
    pub cache_bytes: usize,
    /// What a sync takes where workers are tasks; ignored where they are threads.
    pub simulated_sync_latency: Duration,
}

impl LogOptions {
    /// The usual sizes.
    pub fn new(origin: Origin) -> LogOptions {
        LogOptions {
            origin,
            segment_bytes: 64 << 20,
            cache_bytes: 64 << 20,
            simulated_sync_latency: Duration::from_micros(200),
        }
    }
}

/// The durable log and vote. Clones are handles of the same log; it closes when the last one is dropped.
#[derive(Clone)]
pub struct LogStore(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    /// Held while a request joins the queue: the order in memory is the order on disk.
    order: tokio::sync::Mutex<()>,
    unsynced: Arc<Semaphore>,
    workers: Workers,
}

/// What the writer and the handles share.
struct Shared {
    dir: PathBuf,
    memory: Mutex<Memory>,
    synced: watch::Sender<Option<LogId>>,
    failure: watch::Sender<Option<Arc<StorageError>>>,
    closed: watch::Sender<Option<Arc<StorageError>>>,
}

impl Shared {
    fn dir(&self) -> &Path {
        &self.dir
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A writer that panicked has failed the store; what it left here is not used again.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish_synced(&self) {
        let synced = self.memory().synced;
        self.synced.send_replace(synced);
    }

    /// Keeps the first failure, and returns it.
    fn fail(&self, error: Arc<StorageError>) -> Arc<StorageError> {
        let mut first = error.clone();
        self.failure.send_if_modified(|failure| match failure {
            Some(earlier) => {
                first = earlier.clone();
                false
            }
            None => {
                *failure = Some(error);
                true
            }
        });
        first
    }

    fn close(&self, closed: Arc<StorageError>) {
        self.closed.send_replace(Some(closed));
    }
}

impl LogStore {
    /// Opens the log of data directory `dir`, replaying what is there, or makes a new one. Blocks. Where
    /// workers are tasks it must be called within a runtime.
    ///
    /// # Errors
    /// Locked by another process; damage; missing parts of an existing log; anything in a new one; a newer
    /// format; the disk's errors.
    pub fn open(dir: &Path, seams: &Seams, options: LogOptions) -> Result<LogStore, StorageError> {
        let (disk, dir) = (seams.disk.clone(), dir.join(LOG_DIR_NAME));
        let origin = options.origin;
        let is_there = disk.exists(&dir).map_err(StorageError::io("looking for", &dir))?;
        if origin == Origin::Existing && !is_there {
            return Err(StorageError::Missing {
                path: dir,
                why: "the NODE file beside it says it was there",
            });
        }
        disk.create_dir_all(&dir)
            .map_err(StorageError::io("creating log directory", &dir))?;
        let lock = disk.lock(&dir).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => StorageError::Locked {
                path: dir.clone(),
                source,
            },
            _ => StorageError::io("locking log directory", &dir)(source),
        })?;
        segment::remove_spare(&*disk, &dir)?;
        // After a kill, names may be in memory only, and what is reported from their files must stay.
        disk.sync_dir(&dir)
            .map_err(StorageError::io("syncing directory", &dir))?;
        let mut numbers = segment::list_segments(&*disk, &dir)?;
        if origin == Origin::New {
            // A crash may have left any part of a first start, but nothing that was ever used.
            if !VoteFile::exists(&*disk, &dir)? {
                VoteFile::create(&*disk, &dir)?;
            }
            if numbers.is_empty() {
                let mut head = frame::Head {
                    segment: 1,
                    segment_bytes: 0,
                    previous_end: 0,
                    last: None,
                    purged: None,
                };
                writer::begin_segment(&*disk, &dir, &mut head, 0, 0, |_| {
                    segment::make_spare(&*disk, &dir, options.segment_bytes)
                })?;
                numbers.push(1);
            }
        }
        if numbers.is_empty() {
            let path = segment::segment_path(&dir, 1);
            return Err(StorageError::Missing {
                path,
                why: "a log always has a segment, and here is none",
            });
        }
        let vote = VoteFile::open(&*disk, &dir)?;
        let recovered = recover::recover(&*disk, &dir, &numbers, options.cache_bytes)?;
        if origin == Origin::New && (recovered.memory.last.is_some() || vote.vote().is_some()) {
            return Err(StorageError::NotNew { path: dir });
        }
        let shared = Arc::new(Shared {
            dir: dir.clone(),
            memory: Mutex::new(Memory::new(options.cache_bytes)),
            synced: watch::Sender::new(recovered.memory.synced),
            failure: watch::Sender::new(None),
            closed: watch::Sender::new(None),
        });
        let spares = SpareMaker::new(disk.clone(), &dir, options.segment_bytes, seams.workers)?;
        let writer = Writer::new(disk, dir.clone(), shared.clone(), recovered, vote, spares, lock)?;
        let (requests, queue) = mpsc::channel(REQUESTS_WAITING_MAX);
        match seams.workers {
            Workers::Threads => {
                std::thread::Builder::new()
                    .name("log-writer".to_owned())
                    .spawn(move || writer.run_on_thread(queue))
                    .map_err(StorageError::io("starting a thread for", &dir))?;
            }
            Workers::Tasks => {
                tokio::spawn(writer.run_as_task(queue, options.simulated_sync_latency));
            }
        }
        Ok(LogStore(Arc::new(Handle {
            shared,
            requests,
            order: tokio::sync::Mutex::new(()),
            unsynced: Arc::new(Semaphore::new(UNSYNCED_KIB_MAX as usize)),
            workers: seams.workers,
        })))
    }

    /// The last durable log id, as it moves: forward by appends, back by a truncation.
    pub fn synced(&self) -> watch::Receiver<Option<LogId>> {
        self.0.shared.synced.subscribe()
    }

    /// The error that ended the store, once there is one: the node must then exit.
    pub fn failure(&self) -> watch::Receiver<Option<Arc<StorageError>>> {
        self.0.shared.failure.subscribe()
    }

    /// Last purged and last log id, as openraft sees them.
    pub fn state(&self) -> LogState<TypeConfig> {
        let memory = self.0.shared.memory();
        LogState {
            last_purged_log_id: memory.purged,
            last_log_id: memory.last,
        }
    }

    /// The vote last saved.
    pub fn vote(&self) -> Option<Vote> {
        self.0.shared.memory().vote
    }

    /// The committed log id last saved, or after opening the newest that reached the disk. It may be older
    /// than what was saved before a crash, and is never beyond the log's end.
    pub fn committed(&self) -> Option<LogId> {
        self.0.shared.memory().committed
    }

    /// Closes the log: everything asked for so far is durable, a mark says so, and the directory is free
    /// for another process. Every later call fails. Closing again does nothing.
    ///
    /// # Errors
    /// The failure that ended the store, if one did.
    pub async fn close(&self) -> Result<(), Arc<StorageError>> {
        if self.0.shared.closed.borrow().is_some() {
            return Ok(());
        }
        self.enqueue(Request::Close).await
    }

    fn shared(&self) -> &Shared {
        &self.0.shared
    }

    fn workers(&self) -> Workers {
        self.0.workers
    }

    /// Fails once the store has failed or was closed.
    fn check(&self) -> Result<(), Arc<StorageError>> {
        let ended = self.0.shared.failure.borrow().clone();
        match ended.or_else(|| self.0.shared.closed.borrow().clone()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Puts a request in the queue and waits until it is durable.
    async fn ask(&self, request: impl FnOnce(Done) -> Request) -> Result<(), Arc<StorageError>> {
        self.check()?;
        self.enqueue(request).await
    }

    async fn enqueue(&self, request: impl FnOnce(Done) -> Request) -> Result<(), Arc<StorageError>> {
        let (done, answer) = oneshot::channel();
        {
            let _order = self.0.order.lock().await;
            self.place().await?.send(request(done));
        }
        answer.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// A place in the queue.
    async fn place(&self) -> Result<mpsc::Permit<'_, Request>, Arc<StorageError>> {
        self.0.requests.reserve().await.map_err(|_| self.gone())
    }

    /// Why the writer is gone: it failed, or its runtime was shut down.
    fn gone(&self) -> Arc<StorageError> {
        let closed = Arc::new(StorageError::Closed {
            path: self.0.shared.dir.clone(),
        });
        self.check().err().unwrap_or(closed)
    }

    /// Puts entries in memory and in the queue; gives the callback back when that fails.
    async fn submit(
        &self,
        entries: Vec<Entry>,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), (Arc<StorageError>, IOFlushed<TypeConfig>)> {
        if let Err(error) = self.check() {
            return Err((error, callback));
        }
        let bytes: usize = entries.iter().map(frame::entry_bytes).sum();
        let kib = u32::try_from(bytes.div_ceil(1024))
            .unwrap_or(u32::MAX)
            .min(UNSYNCED_KIB_MAX);
        let _order = self.0.order.lock().await;
        let Ok(waiting) = self.0.unsynced.clone().acquire_many_owned(kib).await else {
            return Err((self.gone(), callback));
        };
        let place = match self.place().await {
            Ok(place) => place,
            Err(error) => return Err((error, callback)),
        };
        {
            let mut memory = self.0.shared.memory();
            if let Err(error) = check_order(&self.0.shared.dir, memory.next_index(), &entries) {
                return Err((Arc::new(error), callback));
            }
            memory.append(entries.iter().cloned());
        }
        let callback = match callback {
            early if planted!("ack-on-local-append") => {
                early.io_completed(Ok(()));
                IOFlushed::noop()
            }
            callback => callback,
        };
        // No await between memory and queue: what can be read will be written.
        place.send(Request::Append {
            entries,
            waiting,
            callback,
        });
        Ok(())
    }
}

/// Entries must go on where the log ends.
fn check_order(dir: &Path, next: Option<u64>, entries: &[Entry]) -> Result<(), StorageError> {
    let mut next = next;
    for entry in entries {
        let found = entry.log_id.index;
        match next {
            Some(wanted) if wanted != found => {
                return Err(StorageError::Gap {
                    path: dir.to_path_buf(),
                    found,
                    wanted,
                });
            }
            _ => next = Some(found + 1),
        }
    }
    Ok(())
}

fn to_io(error: Arc<StorageError>) -> io::Error {
    match &*error {
        StorageError::Io { source, .. } => io::Error::new(source.kind(), error.clone()),
        _ => io::Error::other(error),
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        self.check().map_err(to_io)?;
        Ok(self.state())
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = *vote;
        self.ask(|done| Request::Vote(vote, done)).await.map_err(to_io)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.check().map_err(to_io)?;
        // It goes to disk with the next frame: losing it costs a wait after a restart, nothing more.
        self.0.shared.memory().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.check().map_err(to_io)?;
        Ok(self.committed())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        match self.submit(entries, callback).await {
            Ok(()) => Ok(()),
            Err((error, callback)) => {
                callback.io_completed(Err(to_io(error.clone())));
                Err(to_io(error))
            }
        }
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.ask(|done| Request::Truncate(last_log_id, done))
            .await
            .map_err(to_io)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.ask(|done| Request::Purge(log_id, done)).await.map_err(to_io)
    }
}
