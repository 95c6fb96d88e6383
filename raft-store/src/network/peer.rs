//! The connections to one node, and the pace at which a dead one is tried again.
//!
//! Connections come up with the first call and come back by themselves. After a failed attempt the
//! next one waits a little, and calls in between fail at once: heartbeats to a dead node would
//! otherwise dial it ten times a second. A change between reachable and not is logged, once.

use std::{
    fmt,
    future::Future,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use openraft::{
    RPCTypes,
    errors::{NetworkError, RPCError, Timeout, Unreachable},
};
use proto::{
    internal::{self as wire, raft_client::RaftClient},
    v1::{self, cluster_client::ClusterClient},
};
use security::{Expect, Tls};
use tokio::time::Instant;
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::{
    CONNECTION_WINDOW_BYTES, ClusterId, Identity, METADATA_CLUSTER, METADATA_TARGET, NetworkOptions,
    RAFT_MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES, cluster_id_text,
};
use crate::{
    seams::{BoxConnection, Net},
    types::{NodeId, TypeConfig},
};

/// Why a call to a peer gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// Not within its deadline.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The peer or the connection said no.
    #[error("{}: {}", .0.code(), .0.message())]
    Refused(#[from] Status),
    /// The peer answered something that no node of ours says.
    #[error(transparent)]
    Malformed(#[from] crate::convert::Malformed),
}

/// The connections to one node.
pub struct Peer {
    node_id: NodeId,
    endpoint: String,
    identity: Identity,
    options: NetworkOptions,
    calls: Channel,
    snapshots: Channel,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} at {}", self.node_id, self.endpoint)
    }
}

impl Peer {
    pub(super) fn new(
        node_id: NodeId,
        endpoint: &str,
        identity: Identity,
        net: Arc<dyn Net>,
        tls: Option<Arc<Tls>>,
        options: NetworkOptions,
    ) -> Self {
        let dialer = Arc::new(Dialer {
            node_id,
            endpoint: endpoint.to_owned(),
            net,
            tls,
            options,
            reach: Mutex::new(Reach::Unknown),
        });
        Peer {
            node_id,
            endpoint: endpoint.to_owned(),
            identity,
            options,
            calls: channel(&dialer),
            snapshots: channel(&dialer),
        }
    }

    /// The node at the other end.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// Where it is, `host:port`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn options(&self) -> &NetworkOptions {
        &self.options
    }

    pub(super) fn own_node_id(&self) -> NodeId {
        self.identity.node_id()
    }

    /// For everything small.
    pub(super) fn raft(&self) -> RaftClient<Channel> {
        raft_client(self.calls.clone())
    }

    /// For snapshots only.
    pub(super) fn raft_for_snapshots(&self) -> RaftClient<Channel> {
        raft_client(self.snapshots.clone())
    }

    /// A request with what every call between nodes carries.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert(METADATA_TARGET, MetadataValue::from(self.node_id));
        let cluster = cluster_id_text(self.identity.cluster_id());
        // Hex digits are always a metadata value; were they not, the peer would refuse the call.
        if let Ok(cluster) = cluster.parse::<MetadataValue<Ascii>>() {
            metadata.insert(METADATA_CLUSTER, cluster);
        }
        request
    }

    /// A member's own view of the cluster.
    ///
    /// # Errors
    /// It could not be reached in time, or refused.
    pub async fn status(&self, deadline: Duration) -> Result<v1::StatusResponse, CallError> {
        let mut client = ClusterClient::new(self.calls.clone());
        within(deadline, client.status(Request::new(v1::StatusRequest {}))).await
    }

    /// Makes the node one of our cluster.
    ///
    /// # Errors
    /// It could not be reached in time, is another node, or belongs to another cluster.
    pub async fn enlist(&self, cluster_id: ClusterId, deadline: Duration) -> Result<(), CallError> {
        let request = self.request(wire::EnlistRequest {
            cluster_id: cluster_id_text(Some(cluster_id)),
        });
        within(deadline, self.raft().enlist(request)).await?;
        Ok(())
    }

    /// Tells the peer our clock and hears its.
    pub(super) async fn exchange_clock(
        &self,
        report: wire::ClockReport,
        deadline: Duration,
    ) -> Result<wire::ClockReport, CallError> {
        let mut client = self.raft();
        within(deadline, client.exchange_clock(self.request(report))).await
    }

    /// What openraft is to make of a failed call: whether to try again at once or later.
    pub(super) fn rpc_error(&self, action: RPCTypes, error: CallError) -> RPCError<TypeConfig> {
        match error {
            CallError::Timeout(timeout) => RPCError::Timeout(Timeout {
                action,
                id: self.own_node_id(),
                target: self.node_id,
                timeout,
            }),
            // A stream that broke: the connection may be fine, or the next attempt tells.
            CallError::Refused(status)
                if matches!(status.code(), Code::Cancelled | Code::Unknown | Code::Internal) =>
            {
                RPCError::Network(NetworkError::from_string(format!(
                    "{self:?}: {}",
                    status.message()
                )))
            }
            error => RPCError::Unreachable(Unreachable::from_string(format!("{self:?}: {error}"))),
        }
    }
}

/// Waits for a call, but not for ever.
pub(super) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(CallError::Timeout(deadline)),
    }
}

fn raft_client(channel: Channel) -> RaftClient<Channel> {
    RaftClient::new(channel)
        .max_encoding_message_size(RAFT_MESSAGE_BYTES_MAX)
        .max_decoding_message_size(RAFT_MESSAGE_BYTES_MAX)
}

fn channel(dialer: &Arc<Dialer>) -> Channel {
    // The dialer knows where to connect; the URI only names the host in the request. An endpoint that
    // is no URI fails in the dialer like any other that cannot be reached.
    let endpoint = Endpoint::from_shared(format!("http://{}", dialer.endpoint))
        .unwrap_or_else(|_| Endpoint::from_static("http://invalid"))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(Duration::from_millis(dialer.options.keepalive_interval_ms))
        .keep_alive_timeout(Duration::from_millis(dialer.options.keepalive_timeout_ms))
        .keep_alive_while_idle(true);
    let dialer = dialer.clone();
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let dialer = dialer.clone();
        async move { dialer.dial().await.map(TokioIo::new) }
    }))
}

/// What is known about a node.
enum Reach {
    Unknown,
    Reachable,
    Unreachable {
        since: Instant,
        pause: Duration,
        next: Instant,
        why: String,
    },
}

struct Dialer {
    node_id: NodeId,
    endpoint: String,
    net: Arc<dyn Net>,
    tls: Option<Arc<Tls>>,
    options: NetworkOptions,
    reach: Mutex<Reach>,
}

impl Dialer {
    async fn dial(&self) -> io::Result<BoxConnection> {
        self.paced()?;
        let patience = Duration::from_millis(self.options.connect_ms_max);
        let connected = match tokio::time::timeout(patience, self.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "connecting timed out")),
        };
        self.remember(connected.as_ref().err());
        connected
    }

    async fn connect(&self) -> io::Result<BoxConnection> {
        let connection = self.net.connect(&self.endpoint).await?;
        match &self.tls {
            None => Ok(connection),
            Some(tls) => {
                let protected = tls.connect(connection, Expect::Node(self.node_id)).await?;
                Ok(Box::pin(protected))
            }
        }
    }

    /// Refuses to dial again too soon.
    fn paced(&self) -> io::Result<()> {
        let reach = self.reach.lock().unwrap_or_else(PoisonError::into_inner);
        match &*reach {
            Reach::Unreachable { next, why, .. } if Instant::now() < *next => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                format!("not tried again yet: {why}"),
            )),
            _ => Ok(()),
        }
    }

    fn remember(&self, error: Option<&io::Error>) {
        let mut reach = self.reach.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (node_id, endpoint) = (self.node_id, &self.endpoint);
        *reach = match (error, &*reach) {
            (None, Reach::Unreachable { since, .. }) => {
                let seconds = now.duration_since(*since).as_secs();
                tracing::info!(node_id, endpoint, "peer is reachable again after {seconds} s");
                Reach::Reachable
            }
            (None, _) => Reach::Reachable,
            (Some(error), Reach::Unreachable { since, pause, .. }) => {
                let pause = (*pause * 2).min(Duration::from_millis(self.options.retry_ms_max));
                Reach::Unreachable {
                    since: *since,
                    pause,
                    next: now + pause,
                    why: error.to_string(),
                }
            }
            (Some(error), _) => {
                tracing::warn!(node_id, endpoint, %error, "peer is unreachable");
                let pause = Duration::from_millis(self.options.retry_ms_min);
                Reach::Unreachable {
                    since: now,
                    pause,
                    next: now + pause,
                    why: error.to_string(),
                }
            }
        };
    }
}
