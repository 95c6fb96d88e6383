//! The applied state in memory (bodies follow).

use std::{io, sync::Arc};

use futures::Stream;
use inventory_machine::Machine;
use openraft::{
    OptionalSend,
    storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
};
use tokio::sync::watch;

use super::snapshot::SnapshotData;
use crate::types::{LogId, SnapshotMeta, StoredMembership, TypeConfig};

/// The one handle through which all reads of applied state go. Cheap to clone.
#[derive(Clone)]
pub struct SharedState {
    inner: Arc<()>,
}

impl SharedState {
    /// Reads the state as of one applied index; keep it short, apply waits meanwhile.
    pub fn read<R>(&self, reader: impl FnOnce(&Machine) -> R) -> R {
        let _ = (&self.inner, reader);
        todo!()
    }
    /// The last applied log id.
    pub fn applied_log_id(&self) -> Option<LogId> {
        todo!()
    }
    /// The applied membership.
    pub fn membership(&self) -> StoredMembership {
        todo!()
    }
    /// Changes whenever entries were applied: the applied index (zero: none).
    pub fn applied(&self) -> watch::Receiver<u64> {
        todo!()
    }
    /// Returns when the entry of this index has been applied.
    pub async fn wait_applied(&self, index: u64) {
        let _ = index;
        todo!()
    }
    /// Digest of the state right after this index, as long as it is remembered.
    pub fn digest_at(&self, index: u64) -> Option<u128> {
        let _ = index;
        todo!()
    }
}

/// openraft's side of the state.
pub struct StateMachine {
    inner: Arc<()>,
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let _ = &self.inner;
        todo!()
    }
    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let _ = entries;
        todo!()
    }
    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        todo!()
    }
    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let _ = (meta, snapshot);
        todo!()
    }
    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        todo!()
    }
}

/// Builds one snapshot beside apply.
pub struct SnapshotBuilder {
    inner: Arc<()>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;
    async fn build_snapshot(
        &mut self,
    ) -> Result<openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        let _ = &self.inner;
        todo!()
    }
}
