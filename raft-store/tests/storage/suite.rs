//! openraft's own suite over log and state on real files.

use std::io;

use futures::{Stream, StreamExt};
use openraft::{
    EntryPayload, OptionalSend, StorageError,
    storage::{EntryResponder, RaftStateMachine},
    testing::log::{StoreBuilder, Suite},
    type_config::alias::SnapshotOf,
};
use raft_store::{
    storage::{
        log::LogStore,
        open::{StoreOptions, open},
        rows::log_id,
        snapshot::SnapshotData,
        state::{SnapshotBuilder, StateMachine},
    },
    types::{Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig},
};

use crate::node::{options, real_seams_without_image, run};

/// The suite applies logs with holes in them, which raft never does and our state refuses: here they
/// are filled with blank entries.
struct Filled(StateMachine);

impl RaftStateMachine<TypeConfig> for Filled {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        self.0.applied_state().await
    }
    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let (applied, _) = self.0.applied_state().await?;
        let mut next = applied.map_or(0, |applied| applied.index() + 1);
        let mut filled: Vec<io::Result<EntryResponder<TypeConfig>>> = Vec::new();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let leader = entry.log_id.committed_leader_id();
            while next < entry.log_id.index() {
                let log_id = log_id(leader.term, leader.node_id, next);
                filled.push(Ok((
                    Entry {
                        log_id,
                        payload: EntryPayload::Blank,
                    },
                    None,
                )));
                next += 1;
            }
            next += 1;
            filled.push(Ok((entry, responder)));
        }
        self.0.apply(futures::stream::iter(filled)).await
    }
    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.0.get_snapshot_builder().await
    }
    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        self.0.install_snapshot(meta, snapshot).await
    }
    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        self.0.get_current_snapshot().await
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Filled, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Filled), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let options = StoreOptions {
            node_id: 0,
            ..options()
        };
        let opened = open(&dir.path().join("node"), &real_seams_without_image(), &options);
        let opened = opened.expect("a new node");
        Ok((dir, opened.log, Filled(opened.state_machine)))
    }
}

#[test]
fn openraft_suite() {
    run(Suite::test_all(Builder)).expect("openraft's suite");
}
