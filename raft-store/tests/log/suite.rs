//! openraft's own suite for log stores.

use std::{io, sync::Arc, sync::Mutex};

use futures::{Stream, TryStreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageError as RaftStorageError,
    storage::{EntryResponder, RaftStateMachine},
    testing::log::{StoreBuilder, Suite},
    type_config::alias::SnapshotOf,
};
use raft_store::{
    seams::Workers,
    storage::{
        disk_real::RealDisk,
        disk_sim::SimDisk,
        log::{LogStore, Origin},
    },
    types::{LogId, SnapshotMeta, StoredMembership, TypeConfig},
};

use crate::support;

/// The least state machine that the suite accepts: it remembers what it applied, not what that meant.
#[derive(Clone, Default)]
struct Machine(Arc<Mutex<MachineState>>);

#[derive(Clone, Default)]
struct MachineState {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Option<SnapshotMeta>,
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = ();
    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, ()>, io::Error> {
        let mut state = self.0.lock().expect("no panic before");
        let meta = SnapshotMeta {
            last_log_id: state.applied,
            last_membership: state.membership.clone(),
        };
        state.snapshot = Some(meta.clone());
        Ok(SnapshotOf::<TypeConfig, ()> { meta, snapshot: () })
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Machine;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = self.0.lock().expect("no panic before");
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, _responder)) = entries.try_next().await? {
            let mut state = self.0.lock().expect("no panic before");
            state.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                state.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Machine {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, _snapshot: ()) -> Result<(), io::Error> {
        let mut state = self.0.lock().expect("no panic before");
        state.applied = meta.last_log_id;
        state.membership = meta.last_membership.clone();
        state.snapshot = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, ()>>, io::Error> {
        let state = self.0.lock().expect("no panic before");
        Ok(state
            .snapshot
            .clone()
            .map(|meta| SnapshotOf::<TypeConfig, ()> { meta, snapshot: () }))
    }
}

struct OnRealDisk;

impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for OnRealDisk {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), RaftStorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let seams = support::seams(RealDisk, Workers::Threads);
        let log = LogStore::open(dir.path(), &seams, support::options(Origin::New)).expect("a new log");
        Ok((dir, log, Machine::default()))
    }
}

struct OnSimDisk;

impl StoreBuilder<TypeConfig, LogStore, Machine> for OnSimDisk {
    async fn build(&self) -> Result<((), LogStore, Machine), RaftStorageError<TypeConfig>> {
        let log = support::open(&SimDisk::new(), Origin::New).expect("a new log");
        Ok(((), log, Machine::default()))
    }
}

#[test]
fn openrafts_suite_passes_on_real_files() {
    support::run(Suite::test_all(OnRealDisk)).expect("the suite passes");
}

#[test]
fn openrafts_suite_passes_on_the_simulated_disk() {
    support::run(Suite::test_all(OnSimDisk)).expect("the suite passes");
}
