//! Snapshots and backups of the node's own state, for operators.
//!
//! Any node answers about itself. A backup is best asked of a follower: writing it costs CPU and disk that a
//! leader needs for everybody's commits, while a follower that falls behind for a moment delays nobody, since
//! the others are a quorum.

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use openraft::{Raft, async_runtime::watch::WatchReceiver, storage::RaftStateMachine};
use proto::v1::{self, backup_part::Part};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tonic::{Code, Status};

use super::refusal;
use crate::{
    storage::{
        backup::{self, Taken},
        snapshot::{SnapshotData, SnapshotError, SnapshotStore},
        state::SharedState,
    },
    types::{LogId, NodeId, TypeConfig},
};

/// Bytes of a backup in one message: few messages for many bytes, and far below what gRPC takes.
const PART_BYTES: usize = 256 << 10;

/// Most backups a node makes at once: each is as large as the state on disk.
const BACKUPS_MAX: usize = 1;

/// Longest a snapshot is waited for, in ms: ten million claims are written and verified in seconds.
const SNAPSHOT_MS_MAX: u64 = 300_000;

/// What a node gives away of itself. Cheap to clone.
#[derive(Clone)]
pub struct Archive {
    node_id: NodeId,
    shared: SharedState,
    snapshots: SnapshotStore,
    backups: Arc<Semaphore>,
}

/// How often a snapshot that has not come yet is asked for again: a million claims are written in less.
const SNAPSHOT_ASK_AGAIN: Duration = Duration::from_secs(5);

/// A backup as it is sent.
pub type BackupStream = BoxStream<'static, Result<v1::BackupPart, Status>>;

impl Archive {
    /// Of this node's state and snapshots.
    pub fn new(node_id: NodeId, shared: SharedState, snapshots: SnapshotStore) -> Archive {
        Archive {
            node_id,
            shared,
            snapshots,
            backups: Arc::new(Semaphore::new(BACKUPS_MAX)),
        }
    }

    /// Longest that taking a snapshot waits.
    pub const fn snapshot_wait() -> Duration {
        Duration::from_millis(SNAPSHOT_MS_MAX)
    }

    /// Has a snapshot of at least what is applied now.
    pub(super) async fn take_snapshot<SM: RaftStateMachine<TypeConfig>>(
        &self,
        raft: &Raft<TypeConfig, SM>,
        until: Instant,
    ) -> Result<v1::SnapshotsResponse, Status> {
        self.check_founded()?;
        let wanted = self.shared.applied_log_id();
        let stopped = |why: String| refusal(Code::Unavailable, "STOPPED", why, []);
        let mut metrics = raft.metrics();
        let taken = async {
            loop {
                raft.trigger()
                    .snapshot()
                    .await
                    .map_err(|fatal| stopped(fatal.to_string()))?;
                let come = async {
                    while metrics.borrow_watched().snapshot < wanted {
                        if metrics.changed().await.is_err() {
                            return Err(stopped("the node stops".to_owned()));
                        }
                    }
                    Ok(())
                };
                // One that was being written already was perhaps begun before: then it is asked for again.
                if let Ok(come) = tokio::time::timeout(SNAPSHOT_ASK_AGAIN, come).await {
                    return come;
                }
            }
        };
        match tokio::time::timeout_at(until, taken).await {
            Ok(Ok(())) => self.list(false).await,
            Ok(Err(status)) => Err(status),
            Err(_) => Err(refusal(
                Code::FailedPrecondition,
                "SNAPSHOT_NOT_TAKEN",
                "no snapshot was written in time; the node's log says why: its disk may be full",
                [],
            )),
        }
    }

    /// The snapshots there are; with `verify`, every byte of them is read and the state loaded.
    pub(super) async fn list(&self, verify: bool) -> Result<v1::SnapshotsResponse, Status> {
        let snapshots = match verify {
            true => self.snapshots.verify().await.map_err(failed)?,
            false => self
                .snapshots
                .kept()
                .into_iter()
                .map(|data| (data, None))
                .collect(),
        };
        let snapshots = snapshots.iter().map(|(data, wrong)| described(data, wrong));
        Ok(v1::SnapshotsResponse {
            node_id: self.node_id,
            snapshots: snapshots.collect(),
        })
    }

    /// The state, once it contains this entry, as a backup.
    pub(super) async fn backup(&self, log_index_min: u64, until: Instant) -> Result<BackupStream, Status> {
        let Ok(permit) = self.backups.clone().try_acquire_owned() else {
            return Err(refusal(
                Code::FailedPrecondition,
                "BACKUP_IN_PROGRESS",
                "this node is making a backup already; wait for it, or ask another node",
                [],
            ));
        };
        let applied = tokio::time::timeout_at(until, self.shared.wait_applied(log_index_min));
        if applied.await.is_err() {
            return Err(refusal(
                Code::FailedPrecondition,
                "INDEX_NOT_APPLIED",
                format!("this node has not applied entry {log_index_min} in time; ask another"),
                [],
            ));
        }
        self.check_founded()?;
        let taken = backup::take(&self.shared, &self.snapshots, self.node_id)
            .await
            .map_err(failed)?;
        tracing::info!(
            log_index = taken.manifest.log_index,
            bytes = taken.len(),
            "giving a backup away"
        );
        Ok(parts(taken, permit))
    }

    /// Before its cluster is founded a node has no state.
    fn check_founded(&self) -> Result<(), Status> {
        if self.shared.read(|machine| machine.founding().is_some()) {
            return Ok(());
        }
        Err(refusal(
            Code::FailedPrecondition,
            "NOT_FOUNDED",
            "this node belongs to no cluster yet: there is no state to keep",
            [],
        ))
    }
}

/// The header, then the file. The file and the permit go with the stream.
fn parts(taken: Taken, permit: OwnedSemaphorePermit) -> BackupStream {
    let header = v1::BackupPart {
        part: Some(Part::Header(v1::BackupHeader {
            log_index: taken.manifest.log_index,
            bytes_total: taken.len(),
        })),
    };
    let data = stream::try_unfold((taken, permit, 0), |(taken, permit, offset)| async move {
        let bytes = taken.chunk(offset, PART_BYTES).await.map_err(failed)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let offset = offset + bytes.len() as u64;
        let part = v1::BackupPart {
            part: Some(Part::Data(bytes)),
        };
        Ok(Some((part, (taken, permit, offset))))
    });
    stream::iter([Ok(header)]).chain(data).boxed()
}

fn described(data: &SnapshotData, wrong: &Option<SnapshotError>) -> v1::Snapshot {
    let standing = data.standing();
    let last = standing.last_log_id.as_ref();
    v1::Snapshot {
        log_index: last.map_or(0, LogId::index),
        term: last.map_or(0, |last| last.committed_leader_id().term),
        bytes: data.len(),
        rows: standing.row_count,
        digest: standing.digest.to_be_bytes().to_vec().into(),
        damage: wrong.as_ref().map_or_else(String::new, ToString::to_string),
    }
}

fn failed(error: SnapshotError) -> Status {
    let (code, reason) = match &error {
        SnapshotError::NoSpace { .. } => (Code::FailedPrecondition, "NO_SPACE"),
        _ => (Code::Internal, "STORAGE"),
    };
    refusal(code, reason, error.to_string(), [])
}
