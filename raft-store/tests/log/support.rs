//! What the tests of the log share: seams over a disk, entries, and reading a log whole.

use std::{io, path::Path, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use openraft::{
    EntryPayload, RaftLogReader,
    entry::RaftEntry,
    storage::{IOFlushed, RaftLogStorage},
    type_config::{TypeConfigExt, alias::OneshotReceiverOf},
    vote::RaftLeaderIdExt,
};
use raft_store::{
    seams::{BoxConnection, Listener, Net, Seams, SystemWallClock, Workers},
    storage::{
        disk::Disk,
        error::StorageError,
        log::{LogOptions, LogStore, Origin},
    },
    types::{BatchBytes, Entry, LogId, TypeConfig, Vote},
};

/// The data directory on simulated disks.
pub const DIR: &str = "/node";

struct NoNet;

impl Net for NoNet {
    fn listen<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    fn connect<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<BoxConnection>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

pub fn seams(disk: impl Disk, workers: Workers) -> Seams {
    Seams {
        disk: Arc::new(disk),
        net: Arc::new(NoNet),
        wall_clock: Arc::new(SystemWallClock),
        workers,
        image_dir: None,
    }
}

/// Small segments, so that a short workload rolls; no simulated latency.
pub fn options(origin: Origin) -> LogOptions {
    LogOptions {
        segment_bytes: 2048,
        cache_bytes: 600,
        simulated_sync_latency: Duration::ZERO,
        ..LogOptions::new(origin)
    }
}

pub fn open(disk: &(impl Disk + Clone), origin: Origin) -> Result<LogStore, StorageError> {
    LogStore::open(
        Path::new(DIR),
        &seams(disk.clone(), Workers::Tasks),
        options(origin),
    )
}

/// Runs a future on a runtime of its own, with tasks in a repeatable order.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(future)
}

pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(
        openraft::impls::leader_id_adv::LeaderId::new_committed(term, 1),
        index,
    )
}

/// An entry whose body says who it is and takes `bytes`.
pub fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let seed = format!("term {term} index {index} ");
    let body: Vec<u8> = seed.bytes().cycle().take(bytes).collect();
    Entry::new(log_id(term, index), EntryPayload::Normal(BatchBytes(body.into())))
}

/// What became of an append, once it is known.
pub type Answer = OneshotReceiverOf<TypeConfig, Result<(), io::Error>>;

/// Appends, and hands back the callback's answer.
pub async fn submit(log: &mut LogStore, entries: Vec<Entry>) -> Result<Answer, io::Error> {
    let (done, answer) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(done)).await?;
    Ok(answer)
}

pub async fn append(log: &mut LogStore, entries: Vec<Entry>) -> Result<(), io::Error> {
    submit(log, entries)
        .await?
        .await
        .expect("an answer to every append")
}

/// Everything a log says, to compare.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pub vote: Option<Vote>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    pub entries: Vec<Entry>,
}

pub async fn content(log: &LogStore) -> Content {
    let mut reader = log.clone();
    let entries = reader.try_get_log_entries(..).await.expect("readable entries");
    let state = log.state();
    Content {
        vote: log.vote(),
        purged: state.last_purged_log_id,
        last: state.last_log_id,
        entries,
    }
}
