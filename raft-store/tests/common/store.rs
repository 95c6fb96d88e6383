//! A log and a state in memory, for tests of what lies between nodes. The state is the list of applied
//! batches; its snapshot is that list.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    ops::RangeBounds,
    sync::{Arc, Mutex},
};

use bytes::{BufMut, Bytes, BytesMut};
use futures::{FutureExt, Stream, StreamExt, future::BoxFuture};
use openraft::{
    EntryPayload, LogState, OptionalSend, RaftLogReader, RaftSnapshotBuilder, Snapshot,
    storage::{EntryResponder, IOFlushed, RaftLogStorage, RaftStateMachine},
};
use raft_store::{
    network::snapshot::{SnapshotIntake, SnapshotSink, SnapshotSource},
    storage::snapshot::SnapshotError,
    types::{Entry, EntryReply, LogId, NodeId, SnapshotMeta, StoredMembership, TypeConfig, Vote},
};
use xxhash_rust::xxh3::xxh3_128;

#[derive(Default)]
struct LogInner {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

/// The log.
#[derive(Clone, Default)]
pub struct MemLog(Arc<Mutex<LogInner>>);

impl RaftLogReader<TypeConfig> for MemLog {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        Ok(self
            .0
            .lock()
            .unwrap()
            .entries
            .range(range)
            .map(|(_, entry)| entry.clone())
            .collect())
    }
    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.0.lock().unwrap().vote)
    }
}

impl RaftLogStorage<TypeConfig> for MemLog {
    type LogReader = MemLog;
    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let log = self.0.lock().unwrap();
        let last_log_id = log
            .entries
            .last_key_value()
            .map(|(_, entry)| entry.log_id)
            .or(log.purged);
        Ok(LogState {
            last_purged_log_id: log.purged,
            last_log_id,
        })
    }
    async fn get_log_reader(&mut self) -> MemLog {
        self.clone()
    }
    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.0.lock().unwrap().vote = Some(*vote);
        Ok(())
    }
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.0.lock().unwrap().committed = committed;
        Ok(())
    }
    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.0.lock().unwrap().committed)
    }
    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut log = self.0.lock().unwrap();
        log.entries
            .extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
        drop(log);
        callback.io_completed(Ok(()));
        Ok(())
    }
    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index + 1);
        self.0.lock().unwrap().entries.split_off(&from);
        Ok(())
    }
    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut log = self.0.lock().unwrap();
        log.entries = log.entries.split_off(&(upto.index + 1));
        log.purged = Some(upto);
        Ok(())
    }
}

#[derive(Default)]
struct StateInner {
    applied: Option<LogId>,
    membership: StoredMembership,
    node_id_highest: NodeId,
    version_needed: u16,
    batches: Vec<Bytes>,
    snapshot: Option<(SnapshotMeta, MemSnapshot)>,
    snapshots_installed: u32,
}

/// The state; clones share it.
#[derive(Clone, Default)]
pub struct MemState(Arc<Mutex<StateInner>>);

impl MemState {
    /// Batches applied, in order.
    pub fn batches(&self) -> Vec<Bytes> {
        self.0.lock().unwrap().batches.clone()
    }
    /// The highest id that any member had, as far as applied entry by entry.
    pub fn node_id_highest(&self) -> NodeId {
        self.0.lock().unwrap().node_id_highest
    }
    /// The version of the machine that it has needed.
    pub fn version_needed(&self) -> u16 {
        self.0.lock().unwrap().version_needed
    }
    /// As if commands of this version had been applied.
    pub fn need_version(&self, version: u16) {
        self.0.lock().unwrap().version_needed = version;
    }
    /// How many snapshots were installed from a leader.
    pub fn snapshots_installed(&self) -> u32 {
        self.0.lock().unwrap().snapshots_installed
    }
}

impl RaftStateMachine<TypeConfig> for MemState {
    type SnapshotData = MemSnapshot;
    type SnapshotBuilder = MemState;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let state = self.0.lock().unwrap();
        Ok((state.applied, state.membership.clone()))
    }
    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            {
                let mut state = self.0.lock().unwrap();
                state.applied = Some(entry.log_id);
                match entry.payload {
                    EntryPayload::Blank => {}
                    EntryPayload::Normal(batch) => state.batches.push(batch.0),
                    EntryPayload::Membership(membership) => {
                        let highest = membership.nodes().map(|(node_id, _)| *node_id).max();
                        state.node_id_highest = state.node_id_highest.max(highest.unwrap_or(0));
                        state.membership = StoredMembership::new(Some(entry.log_id), membership);
                    }
                }
            }
            if let Some(responder) = responder {
                responder.send(EntryReply {
                    log_index: entry.log_id.index,
                    ..EntryReply::default()
                });
            }
        }
        Ok(())
    }
    async fn get_snapshot_builder(&mut self) -> MemState {
        self.clone()
    }
    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: MemSnapshot) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.batches = snapshot.batches();
        state.applied = meta.last_log_id;
        state.membership = meta.last_membership.clone();
        state.snapshot = Some((meta.clone(), snapshot));
        state.snapshots_installed += 1;
        Ok(())
    }
    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<openraft::type_config::alias::SnapshotOf<TypeConfig, MemSnapshot>>> {
        let snapshot = self.0.lock().unwrap().snapshot.clone();
        Ok(snapshot.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for MemState {
    type SnapshotData = MemSnapshot;
    async fn build_snapshot(
        &mut self,
    ) -> io::Result<openraft::type_config::alias::SnapshotOf<TypeConfig, MemSnapshot>> {
        let mut state = self.0.lock().unwrap();
        let meta = SnapshotMeta {
            last_log_id: state.applied,
            last_membership: state.membership.clone(),
        };
        let snapshot = MemSnapshot::of(&state.batches);
        state.snapshot = Some((meta.clone(), snapshot.clone()));
        Ok(Snapshot { meta, snapshot })
    }
}

/// A snapshot: each batch with its length before it.
#[derive(Clone)]
pub struct MemSnapshot {
    bytes: Bytes,
}

impl MemSnapshot {
    fn of(batches: &[Bytes]) -> Self {
        let mut bytes = BytesMut::new();
        for batch in batches {
            bytes.put_u32(batch.len() as u32);
            bytes.put_slice(batch);
        }
        MemSnapshot {
            bytes: bytes.freeze(),
        }
    }
    fn batches(&self) -> Vec<Bytes> {
        let (mut bytes, mut batches) = (self.bytes.clone(), Vec::new());
        while !bytes.is_empty() {
            let length = u32::from_be_bytes(bytes.split_to(4)[..].try_into().unwrap());
            batches.push(bytes.split_to(length as usize));
        }
        batches
    }
}

impl SnapshotSource for MemSnapshot {
    fn bytes_total(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn checksum(&self) -> u128 {
        xxh3_128(&self.bytes)
    }
    fn chunk(&self, offset: u64, bytes_max: usize) -> BoxFuture<'_, Result<Bytes, SnapshotError>> {
        let from = offset as usize;
        let to = self.bytes.len().min(from + bytes_max);
        async move { Ok(self.bytes.slice(from..to)) }.boxed()
    }
}

/// Receives snapshots into memory.
#[derive(Clone, Default)]
pub struct MemSink;

/// One being received.
pub struct MemIntake {
    bytes: BytesMut,
    checksum: u128,
}

impl SnapshotSink for MemSink {
    type Snapshot = MemSnapshot;
    type Intake = MemIntake;
    fn receive(&self, _: &SnapshotMeta, _: u64, checksum: u128) -> Result<MemIntake, SnapshotError> {
        Ok(MemIntake {
            bytes: BytesMut::new(),
            checksum,
        })
    }
}

impl SnapshotIntake for MemIntake {
    type Snapshot = MemSnapshot;
    fn write(&mut self, chunk: Bytes) -> BoxFuture<'_, Result<(), SnapshotError>> {
        self.bytes.extend_from_slice(&chunk);
        async { Ok(()) }.boxed()
    }
    fn finish(self) -> BoxFuture<'static, Result<MemSnapshot, SnapshotError>> {
        async move {
            if xxh3_128(&self.bytes) != self.checksum {
                return Err(SnapshotError::Damaged {
                    path: "memory".into(),
                    why: "checksum".into(),
                });
            }
            Ok(MemSnapshot {
                bytes: self.bytes.freeze(),
            })
        }
        .boxed()
    }
}
