//! `holdfast.v1.Cluster`: what operators call, into [`Membership`] and the applied state.
//!
//! Status and state hash are answered by any node about itself; everything else by the leader. No call
//! waits longer than its caller does.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use inventory_machine::{Books, SaleBooks, codec::MACHINE_VERSION};
use openraft::{
    Raft, RaftMetrics, ServerState, async_runtime::watch::WatchReceiver, storage::RaftStateMachine,
};
use proto::v1::{self, cluster_server::ClusterServer};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};

use super::{
    access::Audited,
    archive::{Archive, BackupStream},
    patience, refusal,
};
use crate::{
    membership::{self, Membership, MembershipError},
    network::cluster_id_text,
    types::{LogId, TypeConfig},
};

/// Longest any of these calls waits, in ms: what a person at a terminal will sit through.
const WAIT_MS_MAX: u64 = 30_000;

/// What a node says about itself beyond raft's own metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ViewNow {
    /// The node is on its way out.
    pub stopping: bool,
    /// Index of the last complete cut of the durable image; zero: none.
    pub image_index: u64,
    /// Log time now.
    pub log_time_ms: u64,
    /// Agreed wall time now.
    pub wall_time_ms: u64,
    /// This node's wall clock against the agreed one.
    pub wall_offset_ms: i64,
    /// Claim records there are.
    pub claims_total: u64,
    /// The newest version of the machine that any command has needed.
    pub machine_version_needed: u16,
    /// Commands per entry over the last seconds; zero on followers.
    pub commands_per_entry: f64,
    /// Bytes free where its data is; `None`: not known.
    pub disk_free_bytes: Option<u64>,
    /// Below that it refuses claims.
    pub disk_reserve_bytes: u64,
    /// When its certificate ends, in Unix seconds; `None`: it has none.
    pub certificate_until_s: Option<u64>,
}

/// The state hash at one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAt {
    /// This is it.
    Known {
        /// Index it is of.
        log_index: u64,
        /// The hash.
        digest: u128,
    },
    /// No longer remembered.
    TooOld {
        /// The first index that is.
        first_index: u64,
    },
}

/// What the service reads of the node it runs in.
pub trait NodeView: Send + Sync + 'static {
    /// The node now.
    fn now(&self) -> ViewNow;
    /// Returns when the entry of this index has been applied.
    fn wait_applied(&self, log_index: u64) -> BoxFuture<'_, ()>;
    /// The state hash at an index that has been applied; zero: now.
    fn digest_at(&self, log_index: u64) -> DigestAt;
    /// The books, counted again from all records: takes its time.
    fn books(&self) -> BoxFuture<'_, Books>;
}

/// The service.
pub struct ClusterService<SM: RaftStateMachine<TypeConfig>> {
    raft: Raft<TypeConfig, SM>,
    membership: Membership<SM>,
    view: Arc<dyn NodeView>,
    archive: Option<Archive>,
}

impl<SM: RaftStateMachine<TypeConfig>> ClusterService<SM> {
    /// The service over a running raft.
    pub fn new(raft: Raft<TypeConfig, SM>, membership: Membership<SM>, view: Arc<dyn NodeView>) -> Self {
        ClusterService {
            raft,
            membership,
            view,
            archive: None,
        }
    }

    /// Gives away this node's snapshots and backups, too.
    pub fn with_archive(mut self, archive: Archive) -> Self {
        self.archive = Some(archive);
        self
    }

    fn archive(&self) -> Result<&Archive, Status> {
        let none = || {
            refusal(
                Code::Unimplemented,
                "NO_ARCHIVE",
                "this node keeps no snapshots",
                [],
            )
        };
        self.archive.as_ref().ok_or_else(none)
    }

    /// As tonic serves it.
    pub fn into_server(self) -> ClusterServer<Self> {
        ClusterServer::new(self)
    }

    /// This node's view of itself.
    fn status_now(&self) -> v1::StatusResponse {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let view = self.view.now();
        let identity = self.membership.peers().identity();
        let index = |log_id: Option<LogId>| log_id.map_or(0, |log_id| log_id.index);
        // What is committed: nobody should act on a change that may yet be undone.
        let committed = &metrics.committed_membership_config;
        let leader = metrics.current_leader;
        let leader_node = leader.and_then(|leader| metrics.membership_config.get_node(&leader));
        v1::StatusResponse {
            cluster_id: cluster_id_text(identity.cluster_id()),
            node_id: identity.node_id(),
            endpoint: identity.endpoint().to_owned(),
            role: role(&metrics, view.stopping).to_owned(),
            term: metrics.current_term,
            leader_id: leader.unwrap_or(0),
            leader_endpoint: leader_node.map_or_else(String::new, |node| node.addr.clone()),
            last_log_index: metrics.last_log_index.unwrap_or(0),
            committed_index: index(metrics.local_committed),
            applied_index: index(metrics.last_applied),
            snapshot_index: index(metrics.snapshot),
            purged_index: index(metrics.purged),
            image_index: view.image_index,
            members: self.membership.members(&metrics, committed),
            log_time_ms: view.log_time_ms,
            wall_time_ms: view.wall_time_ms,
            wall_offset_ms: view.wall_offset_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            membership_index: index(*committed.log_id()),
            joint: membership::is_joint(committed),
            claims_total: view.claims_total,
            commands_per_entry: view.commands_per_entry,
            disk_free_bytes: view.disk_free_bytes,
            disk_reserve_bytes: view.disk_reserve_bytes,
            certificate_until_s: view.certificate_until_s,
            machine_version: MACHINE_VERSION.into(),
            machine_version_needed: view.machine_version_needed.into(),
        }
    }
}

/// One word for what a node is doing.
fn role(metrics: &RaftMetrics<TypeConfig>, stopping: bool) -> &'static str {
    let pristine = metrics.last_log_index.is_none() && metrics.membership_config.nodes().next().is_none();
    match metrics.state {
        _ if stopping || metrics.running_state.is_err() => "stopping",
        ServerState::Shutdown => "stopping",
        _ if pristine => "uninitialized",
        ServerState::Leader => "leader",
        ServerState::Follower => "follower",
        ServerState::Candidate => "candidate",
        ServerState::Learner => "learner",
    }
}

/// Until when a call may take.
fn until(metadata: &MetadataMap) -> Instant {
    Instant::now() + patience(metadata, Duration::from_millis(WAIT_MS_MAX))
}

#[tonic::async_trait]
impl<SM: RaftStateMachine<TypeConfig>> v1::cluster_server::Cluster for ClusterService<SM> {
    async fn init(&self, request: Request<v1::InitRequest>) -> Result<Response<v1::InitResponse>, Status> {
        let until = until(request.metadata());
        let audited = Audited::new("/holdfast.v1.Cluster/Init", &request);
        let founded = self.membership.init(request.into_inner().members, until).await;
        audited.done(founded.map_err(Status::from).map(|cluster_id| v1::InitResponse {
            cluster_id: cluster_id_text(Some(cluster_id)),
        }))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        Ok(Response::new(self.status_now()))
    }

    async fn state_hash(
        &self,
        request: Request<v1::StateHashRequest>,
    ) -> Result<Response<v1::StateHashResponse>, Status> {
        let until = until(request.metadata());
        let log_index = request.into_inner().log_index;
        if tokio::time::timeout_at(until, self.view.wait_applied(log_index))
            .await
            .is_err()
        {
            let metrics = self.raft.metrics().borrow_watched().clone();
            let applied = metrics.last_applied.map_or(0, |log_id| log_id.index);
            return Err(refusal(
                Code::DeadlineExceeded,
                "INDEX_NOT_APPLIED",
                format!("index {log_index} was not applied in time; {applied} is"),
                [("applied_index", applied.to_string())],
            ));
        }
        match self.view.digest_at(log_index) {
            DigestAt::Known { log_index, digest } => {
                let Ok(books) = tokio::time::timeout_at(until, self.view.books()).await else {
                    return Err(refusal(
                        Code::DeadlineExceeded,
                        "RECOUNT_UNFINISHED",
                        "the records were not counted in time; allow more".to_owned(),
                        [],
                    ));
                };
                Ok(Response::new(v1::StateHashResponse {
                    log_index,
                    digest: digest.to_be_bytes().to_vec().into(),
                    sales_wrong: books.unbalanced().map(|sale| sale.sale_id.clone()).collect(),
                    recount_index: books.applied_index,
                    intact: books.is_intact(),
                    sales: books.sales.into_iter().map(books_of).collect(),
                }))
            }
            DigestAt::TooOld { first_index } => Err(refusal(
                Code::OutOfRange,
                "INDEX_TOO_OLD",
                format!("the hash at index {log_index} is no longer known; the first is at {first_index}"),
                [("first_index", first_index.to_string())],
            )),
        }
    }

    async fn add_learner(
        &self,
        request: Request<v1::AddLearnerRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        let until = until(request.metadata());
        let audited = Audited::new("/holdfast.v1.Cluster/AddLearner", &request);
        let request = request.into_inner();
        let added = self
            .membership
            .add_learner(request.node_id, &request.endpoint, until)
            .await;
        audited.done(added.map_err(Status::from))
    }

    async fn promote(
        &self,
        request: Request<v1::PromoteRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        let until = until(request.metadata());
        let audited = Audited::new("/holdfast.v1.Cluster/Promote", &request);
        let promoted = self
            .membership
            .promote(request.into_inner().node_ids, until)
            .await;
        audited.done(promoted.map_err(Status::from))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveRequest>,
    ) -> Result<Response<v1::MembershipResponse>, Status> {
        let until = until(request.metadata());
        let audited = Audited::new("/holdfast.v1.Cluster/Remove", &request);
        let request = request.into_inner();
        let removed = self
            .membership
            .remove(request.node_id, request.force, until)
            .await;
        audited.done(removed.map_err(Status::from))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let until = until(request.metadata());
        let audited = Audited::new("/holdfast.v1.Cluster/TransferLeader", &request);
        let transferred = self
            .membership
            .transfer_leader(request.into_inner().node_id, until)
            .await;
        audited.done(
            transferred
                .map_err(Status::from)
                .map(|term| v1::TransferLeaderResponse { term }),
        )
    }

    async fn take_snapshot(
        &self,
        request: Request<v1::TakeSnapshotRequest>,
    ) -> Result<Response<v1::SnapshotsResponse>, Status> {
        let until = Instant::now() + patience(request.metadata(), Archive::snapshot_wait());
        let audited = Audited::new("/holdfast.v1.Cluster/TakeSnapshot", &request);
        audited.done(self.archive()?.take_snapshot(&self.raft, until).await)
    }

    async fn list_snapshots(
        &self,
        request: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<v1::SnapshotsResponse>, Status> {
        let listed = self.archive()?.list(request.into_inner().verify).await?;
        Ok(Response::new(listed))
    }

    type BackupStream = BackupStream;

    async fn backup(
        &self,
        request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let until = until(request.metadata());
        let audited = Audited::new("/holdfast.v1.Cluster/Backup", &request);
        let log_index_min = request.into_inner().log_index_min;
        audited.done(self.archive()?.backup(log_index_min, until).await)
    }
}

fn books_of(sale: SaleBooks) -> v1::SaleBooks {
    v1::SaleBooks {
        sale_id: sale.sale_id,
        units_total: sale.units_total,
        units_available: sale.units_available,
        units_held: sale.units_held,
        units_confirmed: sale.units_confirmed,
        held_counted: sale.held_counted,
        confirmed_counted: sale.confirmed_counted,
        claims_made: sale.claims_made,
    }
}

impl From<MembershipError> for Status {
    fn from(error: MembershipError) -> Status {
        let message = error.to_string();
        match error {
            MembershipError::NotLeader { leader, .. } => {
                let (leader_id, endpoint) = leader.unwrap_or_default();
                refusal(
                    Code::Unavailable,
                    "NOT_LEADER",
                    message,
                    [("leader", endpoint), ("leader_id", leader_id.to_string())],
                )
            }
            MembershipError::Initialized { cluster_id } => refusal(
                Code::AlreadyExists,
                "INITIALIZED",
                message,
                [("cluster_id", cluster_id)],
            ),
            MembershipError::Invalid(_) => refusal(Code::InvalidArgument, "INVALID", message, []),
            MembershipError::Unreachable {
                node_id, endpoint, ..
            } => refusal(
                Code::FailedPrecondition,
                "NODE_UNREACHABLE",
                message,
                [("node_id", node_id.to_string()), ("endpoint", endpoint)],
            ),
            MembershipError::Refused { reason, .. } => refusal(Code::FailedPrecondition, reason, message, []),
            MembershipError::Busy => {
                // Not `Aborted`: nothing was changed by this call, and that is known.
                refusal(Code::FailedPrecondition, "CHANGE_IN_PROGRESS", message, [])
            }
            MembershipError::NoQuorum => refusal(Code::Unavailable, "NO_QUORUM", message, []),
            MembershipError::Unknown(_) => refusal(Code::DeadlineExceeded, "OUTCOME_UNKNOWN", message, []),
            MembershipError::Stopped(_) => refusal(Code::Unavailable, "STOPPED", message, []),
        }
    }
}
