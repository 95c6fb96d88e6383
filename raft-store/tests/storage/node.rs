//! One node's storage, driven as openraft drives it: append, commit, apply, snapshot, purge.

use std::{io, path::Path, sync::Arc};

use futures::stream;
use openraft::{
    EntryPayload, StorageHelper,
    storage::{
        IOFlushed, RaftLogReader, RaftLogStorage, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine,
    },
    type_config::TypeConfigExt,
};
use raft_store::{
    seams::{Seams, SystemWallClock, Workers},
    storage::{
        disk::Disk,
        disk_real::RealDisk,
        disk_sim::SimDisk,
        error::StorageError,
        open::{Opened, StoreOptions, open},
        snapshot::SnapshotData,
    },
    types::{Entry, TypeConfig},
};

use crate::workload::Workload;

/// The node of every test.
pub const NODE_ID: u64 = 1;

/// Runs a test on a runtime of one thread.
pub fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(future)
}

/// Runs a test on a runtime of one thread where time passes only when everything waits for it.
pub fn run_paused<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.expect("runtime").block_on(future)
}

struct NoNet;

impl raft_store::seams::Net for NoNet {
    fn listen<'a>(
        &'a self,
        _: &'a str,
    ) -> futures::future::BoxFuture<'a, io::Result<Box<dyn raft_store::seams::Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    fn connect<'a>(
        &'a self,
        _: &'a str,
    ) -> futures::future::BoxFuture<'a, io::Result<raft_store::seams::BoxConnection>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

fn seams(disk: Arc<dyn Disk>, workers: Workers, image_dir: Option<&Path>) -> Seams {
    Seams {
        disk,
        net: Arc::new(NoNet),
        wall_clock: Arc::new(SystemWallClock),
        workers,
        image_dir: image_dir.map(Path::to_path_buf),
    }
}

/// Parts of a simulated machine: everything on one thread, no image.
pub fn sim_seams(disk: &SimDisk) -> Seams {
    seams(Arc::new(disk.clone()), Workers::Tasks, None)
}

/// Real files, without an image.
pub fn real_seams_without_image() -> Seams {
    seams(Arc::new(RealDisk), Workers::Threads, None)
}

/// Real files, and an image beside them.
pub fn real_seams(image_dir: &Path) -> Seams {
    seams(Arc::new(RealDisk), Workers::Threads, Some(image_dir))
}

/// Small segments, so that purging has something to remove.
pub fn options() -> StoreOptions {
    let mut options = StoreOptions::new(NODE_ID);
    options.log.segment_bytes = 16 << 10;
    options.log.cache_bytes = 8 << 10;
    options.log.simulated_sync_latency = std::time::Duration::ZERO;
    options
}

/// An open node.
pub struct Node {
    pub opened: Opened,
}

impl Node {
    /// Opens, and does what openraft does first: applies what is known to be committed.
    pub async fn start(dir: &Path, seams: &Seams, options: &StoreOptions) -> Result<Node, StorageError> {
        let mut opened = open(dir, seams, options)?;
        StorageHelper::new(&mut opened.log, &mut opened.state_machine)
            .with_id(NODE_ID)
            .get_initial_state()
            .await
            .map_err(|error| StorageError::Io {
                doing: "openraft's start on",
                path: dir.to_path_buf(),
                source: io::Error::other(error.to_string()),
            })?;
        Ok(Node { opened })
    }

    /// Appends entries durably.
    pub async fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        let appended = self.opened.log.blocking_append(entries.to_vec()).await;
        appended.map_err(|error| io::Error::other(error.to_string()))
    }

    /// Appends entries, and gives what tells when they are durable.
    pub async fn submit(
        &mut self,
        entries: &[Entry],
    ) -> io::Result<impl Future<Output = io::Result<()>> + use<>> {
        let (done, answer) = TypeConfig::oneshot();
        self.opened
            .log
            .append(entries.to_vec(), IOFlushed::signal(done))
            .await?;
        Ok(async move { answer.await.map_err(io::Error::other)? })
    }

    /// Commits and applies entries.
    pub async fn apply(&mut self, entries: &[Entry]) -> io::Result<()> {
        let Some(last) = entries.last() else { return Ok(()) };
        self.opened.log.save_committed(Some(last.log_id)).await?;
        let items = entries.iter().cloned().map(|entry| Ok((entry, None)));
        self.opened
            .state_machine
            .apply(stream::iter(items.collect::<Vec<_>>()))
            .await
    }

    /// Appends and applies the workload's entries from where the log ends up to and including `upto`.
    pub async fn advance(&mut self, workload: &Workload, upto: u64) -> io::Result<()> {
        let next = self
            .opened
            .log
            .state()
            .last_log_id
            .map_or(0, |last| last.index() + 1);
        let entries = &workload.entries[next as usize..=upto as usize];
        for chunk in entries.chunks(3) {
            self.append(chunk).await?;
            self.apply(chunk).await?;
        }
        Ok(())
    }

    /// Builds a snapshot.
    pub async fn snapshot(&mut self) -> io::Result<SnapshotData> {
        let mut builder = self.opened.state_machine.get_snapshot_builder().await;
        Ok(builder.build_snapshot().await?.snapshot)
    }

    /// Purges as far as is allowed.
    pub async fn purge(&mut self) -> io::Result<()> {
        match self.opened.snapshots.purge_upto() {
            Some(upto) if Some(upto) > self.opened.log.state().last_purged_log_id => {
                self.opened.log.purge(upto).await
            }
            _ => Ok(()),
        }
    }

    /// Applies what the log holds behind the state, as a leader's commit would.
    pub async fn catch_up(&mut self) -> io::Result<()> {
        let next = self
            .opened
            .shared
            .applied_log_id()
            .map_or(0, |applied| applied.index() + 1);
        let end = self
            .opened
            .log
            .state()
            .last_log_id
            .map_or(0, |last| last.index() + 1);
        if next < end {
            let entries = self.opened.log.try_get_log_entries(next..end).await?;
            self.apply(&entries).await?;
        }
        Ok(())
    }

    /// Index of the last applied entry.
    pub fn applied(&self) -> Option<u64> {
        self.opened.shared.applied_log_id().map(|applied| applied.index())
    }

    /// Panics unless the state is exactly the workload's at the applied index, and the log a part of it.
    pub async fn check(&mut self, workload: &Workload) {
        if let Some(applied) = self.applied() {
            let digest = self.opened.shared.read(|machine| machine.digest());
            assert_eq!(digest, workload.digests[applied as usize], "state at {applied}");
            assert_eq!(self.opened.shared.digest_at(applied), Some(digest));
            assert!(self.opened.shared.read(|machine| machine.recount()).are_sound());
            let membership = self.opened.shared.membership();
            let last = workload.entries[..=applied as usize]
                .iter()
                .rev()
                .find_map(|entry| match &entry.payload {
                    EntryPayload::Membership(membership) => Some((entry.log_id, membership)),
                    _ => None,
                });
            let (at, expected) = last.expect("the log begins with a membership");
            assert_eq!(
                (membership.log_id(), membership.membership()),
                (&Some(at), expected)
            );
        }
        let state = self.opened.log.state();
        let start = state.last_purged_log_id.map_or(0, |purged| purged.index() + 1);
        let end = state.last_log_id.map_or(0, |last| last.index() + 1);
        if start < end {
            let entries = self
                .opened
                .log
                .try_get_log_entries(start..end)
                .await
                .expect("readable log");
            assert!(
                entries == workload.entries[start as usize..end as usize],
                "log [{start}, {end})"
            );
        }
    }

    /// Ends without a last cut of the image.
    pub async fn kill(mut self) {
        drop(self.opened.image.take());
        self.opened.log.close().await.expect("closing the log");
    }

    /// Ends in good order.
    pub async fn stop(mut self) {
        if let Some(image) = self.opened.image.take() {
            image.stop();
        }
        self.opened.log.close().await.expect("closing the log");
    }
}
