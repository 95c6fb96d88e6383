//! A state machine with nothing in it: what is left is raft, its log on disk and its network.
//!
//! It never makes a snapshot, so the types that stand for one have no values.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt, future::BoxFuture};
use openraft::{
    EntryPayload, OptionalSend,
    storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
    type_config::alias::SnapshotOf,
};
use raft_store::{
    network::snapshot::{SnapshotIntake, SnapshotSink, SnapshotSource},
    storage::snapshot::SnapshotError,
    types::{EntryReply, LogId, SnapshotMeta, StoredMembership, TypeConfig},
};

/// Remembers how far it is and who is a member, as raft demands, and nothing else.
#[derive(Debug, Default)]
pub struct EmptyMachine {
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl RaftStateMachine<TypeConfig> for EmptyMachine {
    type SnapshotData = NoSnapshot;
    type SnapshotBuilder = NoSnapshot;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            self.applied = Some(entry.log_id);
            if let Some(responder) = responder {
                responder.send(EntryReply {
                    log_index: entry.log_id.index,
                    ..EntryReply::default()
                });
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<NoSnapshot> {
        None
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshot {
        unreachable!("only asked for by the method above, which is replaced")
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta,
        snapshot: NoSnapshot,
    ) -> Result<(), io::Error> {
        match snapshot {}
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, NoSnapshot>>, io::Error> {
        Ok(None)
    }
}

/// A snapshot that there never is.
#[derive(Clone, Copy, Debug)]
pub enum NoSnapshot {}

impl RaftSnapshotBuilder<TypeConfig> for NoSnapshot {
    type SnapshotData = NoSnapshot;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, NoSnapshot>, io::Error> {
        match *self {}
    }
}

impl SnapshotSource for NoSnapshot {
    fn bytes_total(&self) -> u64 {
        match *self {}
    }
    fn checksum(&self) -> u128 {
        match *self {}
    }
    fn chunk(&self, _offset: u64, _bytes_max: usize) -> BoxFuture<'_, Result<Bytes, SnapshotError>> {
        match *self {}
    }
}

impl SnapshotIntake for NoSnapshot {
    type Snapshot = NoSnapshot;
    fn write(&mut self, _chunk: Bytes) -> BoxFuture<'_, Result<(), SnapshotError>> {
        match *self {}
    }
    fn finish(self) -> BoxFuture<'static, Result<NoSnapshot, SnapshotError>> {
        match self {}
    }
}

/// Where no snapshot is received.
#[derive(Clone, Copy, Debug)]
pub struct NoSnapshots;

impl SnapshotSink for NoSnapshots {
    type Snapshot = NoSnapshot;
    type Intake = NoSnapshot;
    fn receive(&self, _: &SnapshotMeta, _: u64, _: u128) -> Result<NoSnapshot, SnapshotError> {
        Err(SnapshotError::Busy { receiving: 0 })
    }
}
