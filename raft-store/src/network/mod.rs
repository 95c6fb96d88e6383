//! Raft messages to peers: openraft's network, over gRPC on whatever [`Net`] the node was given.
//!
//! Per peer there are two connections: one for everything small and urgent (appends, heartbeats,
//! votes, hand-over, clock), one for snapshots, so that a gigabyte in flight delays no heartbeat.
//! Appends travel through one ordered stream each way, pipelined and bounded ([`append_stream`]).
//!
//! Invariants: every call carries the cluster it comes from and the node it is meant for; every wait
//! has an end (a deadline on calls, HTTP/2 keepalive under streams); a peer that cannot be reached is
//! `Unreachable`, tried again at a bounded pace, and logged when that changes, not each time.
//!
//! Left out: what the messages mean (openraft), receiving them ([`crate::service::raft`]), and who is a
//! member ([`crate::membership`]).

use std::{
    collections::BTreeMap,
    fmt, io,
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use openraft::{BasicNode, RaftNetworkFactory};
use proto::{internal as wire, v1};
use security::Tls;
use tokio::sync::watch;

use crate::{seams::Net, types::NodeId, types::TypeConfig};

mod answered;
mod append_stream;
mod client;
mod peer;
pub mod snapshot;

pub use answered::{Answered, Moment};
pub use client::PeerClient;
pub use peer::{CallError, Peer};
pub use proto::METADATA_CLUSTER;

/// Names a cluster for ever.
pub type ClusterId = u128;

/// Metadata key of a call: the node id it is meant for.
pub const METADATA_TARGET: &str = "holdfast-target";

/// Largest raft message either side takes, in bytes. An append is cut near 1 MiB, but one entry always
/// travels whole, and a batch of documents may have some MiB; tonic's own limit of 4 MiB is too near.
pub const RAFT_MESSAGE_BYTES_MAX: usize = 16 << 20;

/// HTTP/2 window of one stream, in bytes: several full appends in flight, so that a fast network is
/// never idle for want of window (the protocol's default of 64 KiB is less than one append).
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// HTTP/2 window of one connection, in bytes: more than one stream's, so that a full append stream
/// leaves room for heartbeats and votes.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// Paces of the network. All in milliseconds of monotonic time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Longest a connection may take to come up. Short, because a packet dropped by a partition is
    /// only asked for again after ever longer pauses: a fresh attempt heals sooner.
    pub connect_ms_max: u64,
    /// A connection on which nothing is heard is asked for a sign of life this often.
    pub keepalive_interval_ms: u64,
    /// A connection that gives no sign of life for this long is closed. Long enough for a node that
    /// stalls on a full disk queue, short against a person's patience.
    pub keepalive_timeout_ms: u64,
    /// Longest the answer to one append may take before its stream is given up. openraft's own hint is
    /// the heartbeat interval, but a follower's fsync may take longer than that, and resending what it
    /// is busy writing would only make it later; dead connections are found by keepalive.
    pub append_answer_ms_max: u64,
    /// First pause after a failed connection; it doubles with each further one.
    pub retry_ms_min: u64,
    /// Longest pause between attempts to connect. It is what a returning node may have to wait for,
    /// so it stays below an election timeout.
    pub retry_ms_max: u64,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        NetworkOptions {
            connect_ms_max: 1_000,
            keepalive_interval_ms: 1_000,
            keepalive_timeout_ms: 1_500,
            append_answer_ms_max: 2_000,
            retry_ms_min: 25,
            retry_ms_max: 250,
        }
    }
}

/// Who this node is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {
    inner: Arc<IdentityInner>,
}

#[derive(Debug)]
struct IdentityInner {
    node_id: NodeId,
    endpoint: String,
    cluster: watch::Sender<Cluster>,
    keeper: Arc<dyn ClusterKeeper>,
}

/// What a node knows of its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster this node was enlisted for; `None` with an empty directory.
    pub id: Option<ClusterId>,
    /// Whether the founding entry has been applied here.
    pub founded: bool,
}

/// Where a node writes down which cluster it belongs to.
pub trait ClusterKeeper: fmt::Debug + Send + Sync + 'static {
    /// Durable when the future ends.
    ///
    /// # Errors
    /// The disk's; or another cluster is written there.
    fn keep(&self, cluster_id: ClusterId) -> BoxFuture<'_, io::Result<()>>;
}

/// Remembers nothing: for nodes that live in memory only.
#[derive(Clone, Copy, Debug)]
pub struct Forgetful;

impl ClusterKeeper for Forgetful {
    fn keep(&self, _cluster_id: ClusterId) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Identity {
    /// A node, where others reach it (`host:port`), what it knows of its cluster already, and where it writes
    /// down what it learns.
    pub fn new(
        node_id: NodeId,
        endpoint: impl Into<String>,
        cluster: Cluster,
        keeper: Arc<dyn ClusterKeeper>,
    ) -> Self {
        let inner = IdentityInner {
            node_id,
            endpoint: endpoint.into(),
            cluster: watch::Sender::new(cluster),
            keeper,
        };
        Identity {
            inner: Arc::new(inner),
        }
    }

    /// Node id.
    pub fn node_id(&self) -> NodeId {
        self.inner.node_id
    }

    /// `host:port` at which peers and clients reach this node.
    pub fn endpoint(&self) -> &str {
        &self.inner.endpoint
    }

    /// The cluster this node belongs to; `None` before it was enlisted.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster().id
    }

    /// What is known of the cluster now.
    pub fn cluster(&self) -> Cluster {
        *self.inner.cluster.borrow()
    }

    /// Changes twice at most: when the node is enlisted, and when the founding entry is applied.
    pub fn cluster_watch(&self) -> watch::Receiver<Cluster> {
        self.inner.cluster.subscribe()
    }

    /// Makes this node one of a cluster, durably. Repeating it is harmless.
    ///
    /// A directory that was lost comes back empty, under the same id and address, and has forgotten its votes
    /// and acknowledgements, which others count on. Only what a founder or a leader enlisted for a cluster
    /// takes part in it, so an empty directory is never taken for the one that was lost: the question of Raft's
    /// persistent state (Ongaro, section 11.7.3, and what KIP-853 answers with directory ids).
    ///
    /// # Errors
    /// It belongs to another cluster, or that could not be written down.
    pub async fn enlist(&self, cluster_id: ClusterId) -> io::Result<()> {
        let foreign = |known| {
            let known = cluster_id_text(Some(known));
            io::Error::other(format!("this node belongs to cluster {known}"))
        };
        match self.cluster_id() {
            Some(known) if known == cluster_id => return Ok(()),
            Some(known) => return Err(foreign(known)),
            None => {}
        }
        self.inner.keeper.keep(cluster_id).await?;
        self.inner.cluster.send_if_modified(|known| {
            let new = known.id.is_none();
            known.id = known.id.or(Some(cluster_id));
            new
        });
        // Two at once: what was written first stays.
        match self.cluster_id() {
            Some(known) if known != cluster_id => Err(foreign(known)),
            _ => Ok(()),
        }
    }

    /// The founding entry has been applied here. Repeating it is harmless.
    ///
    /// # Panics
    /// When this node already belongs to another cluster: the log it applies is not its own.
    pub fn founded(&self, cluster_id: ClusterId) {
        let known = self.cluster_id();
        assert!(
            known.is_none_or(|known| known == cluster_id),
            "a node cannot change its cluster"
        );
        self.inner.cluster.send_if_modified(|known| {
            let founded = Cluster {
                id: Some(cluster_id),
                founded: true,
            };
            std::mem::replace(known, founded) != founded
        });
    }
}

/// A cluster id as people and metadata write it: 32 hex digits; empty before founding.
pub fn cluster_id_text(cluster_id: Option<ClusterId>) -> String {
    cluster_id.map_or_else(String::new, |cluster_id| format!("{cluster_id:032x}"))
}

/// The connections to all peers, shared by everything that calls them. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<PeersInner>,
}

struct PeersInner {
    identity: Identity,
    net: Arc<dyn Net>,
    tls: Option<Arc<Tls>>,
    options: NetworkOptions,
    answered: Answered,
    // One a node id, so it is bounded by the members there ever were while this process ran.
    // In order, so that connections close in one: a simulated run repeats to the byte.
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
}

impl Peers {
    /// No connection is made before the first call; none is protected.
    pub fn new(identity: Identity, net: Arc<dyn Net>, options: NetworkOptions) -> Self {
        Peers::protected(identity, net, options, None)
    }

    /// As [`Peers::new`], with connections protected by these certificates, if any: each then leads to the
    /// node whose id the peer's certificate names, or nowhere.
    pub fn protected(
        identity: Identity,
        net: Arc<dyn Net>,
        options: NetworkOptions,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        Peers {
            inner: Arc::new(PeersInner {
                identity,
                net,
                tls,
                options,
                answered: Answered::default(),
                peers: Mutex::default(),
            }),
        }
    }

    /// Who calls.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// What they have answered this node as the leader.
    pub fn answered(&self) -> &Answered {
        &self.inner.answered
    }

    /// The connections to a member; a member that moved gets new ones.
    pub fn member(&self, node_id: NodeId, endpoint: &str) -> Arc<Peer> {
        let mut peers = self.inner.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(&node_id)
            && peer.endpoint() == endpoint
        {
            return peer.clone();
        }
        let peer = Arc::new(self.stranger(node_id, endpoint));
        peers.insert(node_id, peer.clone());
        peer
    }

    /// Connections to a node that is not, or not yet, a member: closed when dropped.
    pub fn stranger(&self, node_id: NodeId, endpoint: &str) -> Peer {
        let inner = &self.inner;
        Peer::new(
            node_id,
            endpoint,
            inner.identity.clone(),
            inner.net.clone(),
            inner.tls.clone(),
            inner.options,
        )
    }

    /// Tells a member our clock and hears its.
    ///
    /// # Errors
    /// It could not be reached in time, or refused.
    pub async fn exchange_clock(
        &self,
        node_id: NodeId,
        endpoint: &str,
        report: wire::ClockReport,
        deadline: Duration,
    ) -> Result<wire::ClockReport, CallError> {
        self.member(node_id, endpoint)
            .exchange_clock(report, deadline)
            .await
    }

    /// A member's own view of the cluster.
    ///
    /// # Errors
    /// It could not be reached in time, or refused.
    pub async fn status(
        &self,
        node_id: NodeId,
        endpoint: &str,
        deadline: Duration,
    ) -> Result<v1::StatusResponse, CallError> {
        self.member(node_id, endpoint).status(deadline).await
    }
}

/// openraft's factory of clients. `S` is the snapshot that the state machine hands out.
pub struct Network<S> {
    peers: Peers,
    snapshots: PhantomData<fn() -> S>,
}

impl<S> Network<S> {
    /// Clients over these connections.
    pub fn new(peers: Peers) -> Self {
        Network {
            peers,
            snapshots: PhantomData,
        }
    }
}

impl<S: snapshot::SnapshotSource> RaftNetworkFactory<TypeConfig> for Network<S> {
    type Network = PeerClient<S>;

    async fn new_client(&mut self, target: NodeId, node: &BasicNode) -> PeerClient<S> {
        PeerClient::new(
            self.peers.member(target, &node.addr),
            self.peers.answered().clone(),
        )
    }
}
