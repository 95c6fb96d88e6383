//! `holdfast.internal.v1.Raft`: what peers say to this node, into openraft.
//!
//! Invariants: a call that is not meant for this node, or comes from another cluster, is refused and
//! reaches nothing; with TLS, nobody speaks for a node but who holds its certificate; a malformed message is `INVALID_ARGUMENT` and ends its stream; a snapshot is handed
//! to openraft only whole, verified, and when it cannot contradict what is committed here.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{Stream, StreamExt, stream, stream::BoxStream};
use openraft::{
    Raft, Snapshot, async_runtime::watch::WatchReceiver, errors::Fatal, raft::AppendEntriesRequest,
    storage::RaftStateMachine,
};
use proto::internal::{self as wire, raft_server::RaftServer};
use tokio::{sync::watch, time::Instant};
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{Arrived, of_cluster, refusal, wrong_cluster};
use crate::{
    convert::{self, Malformed},
    network::{
        ClusterId, Identity, METADATA_TARGET, RAFT_MESSAGE_BYTES_MAX, cluster_id_text,
        snapshot::{SNAPSHOT_CHUNK_BYTES, SnapshotIntake, SnapshotSink},
    },
    storage::snapshot::SnapshotError,
    types::{NodeId, TypeConfig},
};

/// The log clock's end of the exchange.
pub trait ClockExchange: Send + Sync + 'static {
    /// Takes in a peer's report and answers with our own.
    fn exchange(&self, report: wire::ClockReport) -> wire::ClockReport;
}

/// When a leader was last heard, shared with whoever wonders whether this node is still a member.
#[derive(Clone, Debug)]
pub struct LeaderHeard {
    at: Arc<watch::Sender<Instant>>,
}

impl Default for LeaderHeard {
    /// Heard just now: a node that starts has not been silent for long.
    fn default() -> Self {
        LeaderHeard {
            at: Arc::new(watch::Sender::new(Instant::now())),
        }
    }
}

impl LeaderHeard {
    /// When.
    pub fn at(&self) -> Instant {
        *self.at.borrow()
    }
    fn now(&self) {
        self.at.send_replace(Instant::now());
    }
}

/// The service. `SM` is the state machine, `K` where snapshots are received.
pub struct RaftService<SM: RaftStateMachine<TypeConfig>, K> {
    raft: Raft<TypeConfig, SM>,
    identity: Identity,
    snapshots: K,
    clock: Arc<dyn ClockExchange>,
    heard: LeaderHeard,
    /// Whether a snapshot is being received: one at a time, each may be gigabytes.
    receiving: Arc<AtomicBool>,
}

impl<SM, K> RaftService<SM, K>
where
    SM: RaftStateMachine<TypeConfig>,
    K: SnapshotSink<Snapshot = SM::SnapshotData>,
{
    /// The service over a running raft.
    pub fn new(
        raft: Raft<TypeConfig, SM>,
        identity: Identity,
        snapshots: K,
        clock: Arc<dyn ClockExchange>,
        heard: LeaderHeard,
    ) -> Self {
        RaftService {
            raft,
            identity,
            snapshots,
            clock,
            heard,
            receiving: Arc::default(),
        }
    }

    /// As tonic serves it, with our message limits.
    pub fn into_server(self) -> RaftServer<Self> {
        RaftServer::new(self)
            .max_decoding_message_size(RAFT_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(RAFT_MESSAGE_BYTES_MAX)
    }

    /// Receives, verifies and installs one snapshot.
    async fn install(
        &self,
        sender: Sender,
        mut parts: Streaming<wire::SnapshotChunk>,
    ) -> Result<wire::SnapshotResponse, Status> {
        use wire::snapshot_chunk::Part;
        let Some(wire::SnapshotChunk {
            part: Some(Part::Header(header)),
        }) = parts.message().await?
        else {
            return Err(malformed(Malformed {
                message: "snapshot",
                why: "does not begin with a header".to_owned(),
            }));
        };
        let header = convert::snapshot_header_in(header).map_err(malformed)?;
        sender.speaks_for(header.vote.leader_id.node_id)?;
        // A leader of the past need not send it all only to hear that it is one.
        let metrics = self.raft.metrics().borrow_watched().clone();
        if metrics.vote > header.vote {
            return Ok(wire::SnapshotResponse {
                vote: Some(convert::vote_out(&metrics.vote)),
            });
        }
        // openraft asserts this of its peers.
        if let (Some(snapshot), Some(committed)) = (header.meta.last_log_id, metrics.local_committed)
            && snapshot > committed
            && snapshot.index <= committed.index
        {
            return Err(malformed(Malformed {
                message: "snapshot",
                why: format!("at {snapshot} it contradicts {committed}, which is committed here"),
            }));
        }
        let mut intake = self
            .snapshots
            .receive(&header.meta, header.bytes_total, header.checksum)
            .map_err(not_received)?;
        let mut bytes_left = header.bytes_total;
        while let Some(part) = parts.message().await? {
            let Some(Part::Data(chunk)) = part.part else {
                return Err(malformed(Malformed {
                    message: "snapshot",
                    why: "a part that is no data follows the header".to_owned(),
                }));
            };
            if chunk.len() > SNAPSHOT_CHUNK_BYTES || chunk.len() as u64 > bytes_left {
                return Err(malformed(Malformed {
                    message: "snapshot",
                    why: format!("a chunk of {} bytes when {bytes_left} are left", chunk.len()),
                }));
            }
            bytes_left -= chunk.len() as u64;
            intake.write(chunk).await.map_err(not_received)?;
            self.heard.now();
        }
        if bytes_left > 0 {
            return Err(malformed(Malformed {
                message: "snapshot",
                why: format!("it ends {bytes_left} bytes early"),
            }));
        }
        let snapshot = intake.finish().await.map_err(not_received)?;
        let snapshot = Snapshot {
            meta: header.meta,
            snapshot,
        };
        let answer = self
            .raft
            .install_full_snapshot(header.vote, snapshot)
            .await
            .map_err(stopped)?;
        Ok(wire::SnapshotResponse {
            vote: Some(convert::vote_out(&answer.vote)),
        })
    }
}

/// Releases the one place for receiving a snapshot, also when the call is dropped half-way.
struct Receiving(Arc<AtomicBool>);

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[tonic::async_trait]
impl<SM, K> wire::raft_server::Raft for RaftService<SM, K>
where
    SM: RaftStateMachine<TypeConfig>,
    K: SnapshotSink<Snapshot = SM::SnapshotData>,
{
    type AppendStream = BoxStream<'static, Result<wire::AppendResponse, Status>>;

    async fn enlist(
        &self,
        request: Request<wire::EnlistRequest>,
    ) -> Result<Response<wire::EnlistResponse>, Status> {
        meant_for_node(&self.identity, request.metadata())?;
        let text = &request.get_ref().cluster_id;
        let cluster_id = ClusterId::from_str_radix(text, 16).ok();
        let Some(cluster_id) = cluster_id.filter(|id| *id != 0 && cluster_id_text(Some(*id)) == *text) else {
            return Err(malformed(Malformed {
                message: "enlist",
                why: format!("{text:?} is no cluster id"),
            }));
        };
        let foreign = self.identity.cluster_id().filter(|own| *own != cluster_id);
        if let Some(own) = foreign {
            return Err(wrong_cluster(&self.identity, text, own));
        }
        if let Err(error) = self.identity.enlist(cluster_id).await {
            tracing::error!(%error, "the cluster id could not be written down");
            return Err(refusal(Code::Unavailable, "DISK", error.to_string(), []));
        }
        Ok(Response::new(wire::EnlistResponse {}))
    }

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        meant_for(&self.identity, request.metadata())?;
        let sender = Sender::of(&request);
        let fault = Fault::default();
        let requests = requests(request.into_inner(), sender, fault.clone());
        let heard = self.heard.clone();
        let answers = self.raft.stream_append(requests).map(move |answer| match answer {
            Ok(result) => {
                // A leader of the past is none.
                if result.is_ok() {
                    heard.now();
                }
                Ok(convert::appended_out(result))
            }
            Err(fatal) => Err(stopped(fatal)),
        });
        // What ended the requests is said after everything before it has been answered.
        let end = stream::once(async move { fault.take() }).filter_map(|status| async { status.map(Err) });
        Ok(Response::new(answers.chain(end).boxed()))
    }

    async fn vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        meant_for(&self.identity, request.metadata())?;
        let sender = Sender::of(&request);
        let request = convert::vote_request_in(request.into_inner()).map_err(malformed)?;
        sender.speaks_for(request.vote.leader_id.node_id)?;
        let answer = self
            .raft
            .vote(request)
            .await
            .map_err(|error| stopped(error.unwrap_fatal()))?;
        Ok(Response::new(convert::vote_response_out(&answer)))
    }

    async fn pre_vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        meant_for(&self.identity, request.metadata())?;
        let sender = Sender::of(&request);
        let request = convert::vote_request_in(request.into_inner()).map_err(malformed)?;
        sender.speaks_for(request.vote.leader_id.node_id)?;
        let answer = self
            .raft
            .pre_vote(request)
            .await
            .map_err(|error| stopped(error.unwrap_fatal()))?;
        Ok(Response::new(convert::vote_response_out(&answer)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotResponse>, Status> {
        meant_for(&self.identity, request.metadata())?;
        if self.receiving.swap(true, Ordering::AcqRel) {
            return Err(refusal(
                Code::Unavailable,
                "SNAPSHOT_BUSY",
                "already receiving a snapshot",
                [],
            ));
        }
        let _receiving = Receiving(self.receiving.clone());
        let sender = Sender::of(&request);
        self.install(sender, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderResponse>, Status> {
        meant_for(&self.identity, request.metadata())?;
        let sender = Sender::of(&request);
        let request = convert::transfer_in(request.into_inner()).map_err(malformed)?;
        sender.speaks_for(request.from_leader().leader_id.node_id)?;
        let answer = self
            .raft
            .handle_transfer_leader(request.clone())
            .await
            .map_err(stopped)?;
        Ok(Response::new(convert::transferred_out(&request, answer)))
    }

    async fn exchange_clock(
        &self,
        request: Request<wire::ClockReport>,
    ) -> Result<Response<wire::ClockReport>, Status> {
        meant_for(&self.identity, request.metadata())?;
        Sender::of(&request).speaks_for(request.get_ref().node_id)?;
        Ok(Response::new(self.clock.exchange(request.into_inner())))
    }
}

/// Why a stream of requests ended, if it did not just end.
#[derive(Clone, Default)]
struct Fault(Arc<Mutex<Option<Status>>>);

impl Fault {
    fn set(&self, status: Status) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }
    fn take(&self) -> Option<Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The appends of a stream, up to its end or its first fault.
fn requests(
    stream: Streaming<wire::AppendRequest>,
    sender: Sender,
    fault: Fault,
) -> Pin<Box<dyn Stream<Item = AppendEntriesRequest<TypeConfig>> + Send>> {
    Box::pin(stream::unfold(
        (stream, fault),
        move |(mut stream, fault)| async move {
            let status = match stream.message().await {
                Ok(Some(request)) => match convert::append_in(request) {
                    Ok(request) => match sender.speaks_for(request.vote.leader_id.node_id) {
                        Ok(()) => return Some((request, (stream, fault))),
                        Err(status) => status,
                    },
                    Err(error) => malformed(error),
                },
                Ok(None) => return None,
                Err(status) => status,
            };
            fault.set(status);
            None
        },
    ))
}

/// The node whose certificate the caller holds; `None` without TLS.
#[derive(Clone, Copy)]
struct Sender(Option<NodeId>);

impl Sender {
    fn of<T>(request: &Request<T>) -> Sender {
        let arrived = request.extensions().get::<Arrived>();
        let name = arrived.and_then(|arrived| arrived.name.as_ref());
        Sender(name.and_then(|name| name.node_id()))
    }

    /// Refuses what one node says as another: not even a node that was broken into leads but as itself.
    fn speaks_for(self, node_id: NodeId) -> Result<(), Status> {
        match self.0 {
            Some(own) if own != node_id => Err(refusal(
                Code::PermissionDenied,
                "WRONG_SENDER",
                format!("the certificate shown is of node {own}, which cannot speak for node {node_id}"),
                [("certificate", own.to_string()), ("claimed", node_id.to_string())],
            )),
            _ => Ok(()),
        }
    }
}

/// Refuses what was meant for another node, comes from another cluster, or is for a member when this node was
/// never enlisted: a message that strays, by an endpoint reused, a configuration copied or a directory lost,
/// must not move a vote or a log.
fn meant_for(identity: &Identity, metadata: &MetadataMap) -> Result<(), Status> {
    meant_for_node(identity, metadata)?;
    of_cluster(identity, metadata)?;
    if identity.cluster_id().is_none() {
        let own = identity.node_id();
        return Err(refusal(
            Code::FailedPrecondition,
            "NOT_ENLISTED",
            format!(
                "node {own} has an empty directory and was enlisted for no cluster; was it a member, its data is \
                 lost: remove node {own}, and add a node with a new id"
            ),
            [("node", own.to_string())],
        ));
    }
    Ok(())
}

fn meant_for_node(identity: &Identity, metadata: &MetadataMap) -> Result<(), Status> {
    let text = |key| metadata.get(key).and_then(|value| value.to_str().ok());
    let (target, own) = (
        text(METADATA_TARGET).unwrap_or_default(),
        identity.node_id().to_string(),
    );
    if target != own {
        return Err(refusal(
            Code::FailedPrecondition,
            "WRONG_NODE",
            format!("this call is meant for node {target:?}; this is node {own}"),
            [("target", target.to_owned()), ("node", own)],
        ));
    }
    Ok(())
}

fn malformed(error: Malformed) -> Status {
    tracing::warn!(%error, "refused a message");
    refusal(Code::InvalidArgument, "MALFORMED", error.to_string(), [])
}

fn stopped(fatal: Fatal<TypeConfig>) -> Status {
    refusal(
        Code::Unavailable,
        "STOPPED",
        format!("this node has stopped: {fatal}"),
        [],
    )
}

fn not_received(error: SnapshotError) -> Status {
    match &error {
        SnapshotError::Busy { .. } => refusal(Code::Unavailable, "SNAPSHOT_BUSY", error.to_string(), []),
        SnapshotError::Damaged { .. } => refusal(Code::DataLoss, "SNAPSHOT_DAMAGED", error.to_string(), []),
        SnapshotError::Newer { .. } => {
            refusal(Code::FailedPrecondition, "SNAPSHOT_NEWER", error.to_string(), [])
        }
        SnapshotError::NoSpace { .. } => refusal(
            Code::ResourceExhausted,
            "SNAPSHOT_NO_SPACE",
            error.to_string(),
            [],
        ),
        // Fatal for this node, which finds out by its own means; the peer only learns that it failed.
        SnapshotError::Disk { .. } => {
            tracing::error!(%error, "a snapshot could not be stored");
            refusal(Code::Unavailable, "DISK", error.to_string(), [])
        }
    }
}
