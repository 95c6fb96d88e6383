//! What the log takes: entries into a frame's bytes, and appended to files with and without waiting for the disk.
//!
//! An append goes the way that openraft takes, through the writer's thread to its callback; without the disk, the same
//! but that syncs return at once, so that what remains is ours and the page cache's. Entries are as large as one claim
//! and as a full entry of claims. Between measurements the log is purged, so that it stays a few segments long.

#[allow(dead_code, reason = "shared with the tests of the log, which need all of it")]
#[path = "../tests/log/support.rs"]
mod support;

use std::{
    hint::black_box,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput};
use openraft::storage::RaftLogStorage;
use raft_store::{
    seams::Workers,
    storage::{
        disk::{Disk, DiskFile, OpenMode},
        disk_real::RealDisk,
        log::{
            LogOptions, LogStore, Origin,
            frame::{HEADER_BYTES, Header, Kind, encode_entry},
        },
    },
};
use tokio::runtime::Runtime;

/// Bodies of entries, in bytes: a batch of one claim (38, and the batch's own 40), and of 512.
const BODIES: [(usize, &str); 2] = [(78, "one claim"), (512 * 38 + 40, "512 claims")];

/// Appends after which the log is purged: some 200 MB of the large ones.
const APPENDS_KEPT_MAX: u64 = 10_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    encode(&mut criterion);
    append(&mut criterion);
    criterion.final_summary();
}

/// Entry, payload checksum, header: what the writer does before it writes.
fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log/encode");
    for (body_bytes, name) in BODIES {
        let entry = support::entry(1, 1, body_bytes);
        let mut frame = Vec::new();
        group.throughput(Throughput::Bytes(body_bytes as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                frame.clear();
                frame.resize(HEADER_BYTES, 0);
                encode_entry(black_box(&entry), &mut frame);
                let header = Header {
                    kind: Kind::Entries,
                    salt: 1,
                    sequence: 1,
                    payload_bytes: (frame.len() - HEADER_BYTES) as u32,
                    entries: 1,
                    first_index: 1,
                    synced_upto: 0,
                    committed: 0,
                    payload_crc: crc32fast::hash(&frame[HEADER_BYTES..]),
                };
                frame[..HEADER_BYTES].copy_from_slice(&header.encode());
                black_box(frame.len())
            });
        });
    }
    group.finish();
}

fn append(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    for (how, synced) in [("log/append synced", true), ("log/append not synced", false)] {
        let mut group = criterion.benchmark_group(how);
        for (body_bytes, name) in BODIES {
            group.throughput(Throughput::Bytes(body_bytes as u64));
            let mut log = Log::open(synced);
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|appends| runtime.block_on(log.append(appends, body_bytes)));
            });
        }
        group.finish();
    }
}

/// A log on the disk that this was built on, and where it stands.
struct Log {
    store: LogStore,
    index: u64,
    purged: u64,
    // Last, so that the log is closed before its files are gone.
    _dir: tempfile::TempDir,
}

impl Log {
    fn open(synced: bool) -> Log {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let seams = if synced {
            support::seams(RealDisk, Workers::Threads)
        } else {
            support::seams(NeverSynced, Workers::Threads)
        };
        let options = LogOptions::new(Origin::New);
        Log {
            store: LogStore::open(dir.path(), &seams, options).expect("a new log"),
            index: 0,
            purged: 0,
            _dir: dir,
        }
    }

    /// How long so many appends take, one after the other.
    async fn append(&mut self, appends: u64, body_bytes: usize) -> Duration {
        let mut spent = Duration::ZERO;
        for _ in 0..appends {
            self.index += 1;
            let entries = vec![support::entry(1, self.index, body_bytes)];
            let begun = Instant::now();
            let appended = support::append(&mut self.store, entries).await;
            spent += begun.elapsed();
            appended.expect("an append");
            if self.index - self.purged > APPENDS_KEPT_MAX {
                self.purged = self.index - 1;
                let upto = support::log_id(1, self.purged);
                self.store.purge(upto).await.expect("a purge");
            }
        }
        spent
    }
}

/// The machine's files, whose syncs return at once.
struct NeverSynced;

struct NeverSyncedFile(Box<dyn DiskFile>);

impl Disk for NeverSynced {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(NeverSyncedFile(RealDisk.open(path, mode)?)))
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
    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Send + Sync>> {
        RealDisk.lock(dir)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }
}

impl DiskFile for NeverSyncedFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, into)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
