//! What the cluster tests share: nodes in one process with state in memory, on any network.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod scenario;
pub mod sim;
pub mod store;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use inventory_machine::Books;
use openraft::{
    Raft,
    async_runtime::watch::WatchReceiver,
    errors::{ClientWriteError, ForwardReason, RaftError},
};
use proto::{
    internal::{ClockReport, raft_client::RaftClient},
    v1::cluster_client::ClusterClient,
};
use raft_store::{
    machine_versions::MachineVersions,
    membership::{Admission, Membership, MembershipOptions, Removal},
    network::{Cluster, ClusterId, ClusterKeeper, Identity, Network, NetworkOptions, Peers},
    raft_config::{RaftOptions, raft_config},
    seams::Net,
    service::{
        self,
        cluster::{ClusterService, DigestAt, NodeView, ViewNow},
        raft::{ClockExchange, LeaderHeard, RaftService},
    },
    types::{BatchBytes, NodeId, TypeConfig},
};
use store::{MemLog, MemSink, MemState};
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

/// Raft over the state in memory.
pub type MemRaft = Raft<TypeConfig, MemState>;

/// A running node.
#[derive(Clone)]
pub struct Node {
    pub raft: MemRaft,
    pub state: MemState,
    pub identity: Identity,
    pub peers: Peers,
    pub membership: Membership<MemState>,
    pub removal: watch::Receiver<Option<Removal>>,
    pub clock: Arc<Echo>,
    pub versions: MachineVersions,
}

/// Answers a clock report with itself, and counts.
#[derive(Default)]
pub struct Echo(pub AtomicU64);

impl ClockExchange for Echo {
    fn exchange(&self, report: ClockReport) -> ClockReport {
        self.0.fetch_add(1, Ordering::Relaxed);
        report
    }
}

/// What the cluster service sees of a node whose state is a list of batches.
struct MemView(MemState, MemRaft);

impl NodeView for MemView {
    fn now(&self) -> ViewNow {
        ViewNow {
            claims_total: self.0.batches().len() as u64,
            ..ViewNow::default()
        }
    }
    fn wait_applied(&self, log_index: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let _ = self
                .1
                .wait(None)
                .applied_index_at_least(Some(log_index), "hash")
                .await;
        })
    }
    fn digest_at(&self, log_index: u64) -> DigestAt {
        let applied = self
            .1
            .metrics()
            .borrow_watched()
            .last_applied
            .map_or(0, |last| last.index);
        if log_index < 2 {
            return DigestAt::TooOld { first_index: 2 };
        }
        DigestAt::Known {
            log_index: applied,
            digest: self.0.batches().len() as u128,
        }
    }
    fn books(&self) -> BoxFuture<'_, Books> {
        let books = Books {
            applied_index: 0,
            digest_kept: 0,
            digest_counted: 0,
            sales: Vec::new(),
        };
        Box::pin(std::future::ready(books))
    }
}

/// What outlives a node that is stopped and started again.
#[derive(Clone, Default)]
pub struct Disk {
    pub log: MemLog,
    pub state: MemState,
    pub cluster: Arc<MemCluster>,
}

/// Where a node in memory writes down its cluster.
#[derive(Debug, Default)]
pub struct MemCluster(Mutex<Option<ClusterId>>);

impl ClusterKeeper for MemCluster {
    fn keep(&self, cluster_id: ClusterId) -> BoxFuture<'_, std::io::Result<()>> {
        *self.0.lock().unwrap() = Some(cluster_id);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Starts a node that listens on `listen` and is reached at `endpoint`, or, if that is empty, where it
/// listens. The future ends when the server does.
pub async fn start(
    node_id: NodeId,
    listen: &str,
    endpoint: &str,
    net: Arc<dyn Net>,
    disk: Disk,
    options: RaftOptions,
) -> (Node, BoxFuture<'static, ()>) {
    let listener = net.listen(listen).await.unwrap();
    let endpoint = match endpoint {
        "" => listener.local_address().unwrap().to_string(),
        endpoint => endpoint.to_owned(),
    };
    let known = *disk.cluster.0.lock().unwrap();
    let cluster = Cluster {
        id: known,
        founded: false,
    };
    let identity = Identity::new(node_id, endpoint, cluster, disk.cluster.clone());
    let peers = Peers::new(identity.clone(), net, NetworkOptions::default());
    let config = Arc::new(raft_config(&options).unwrap());
    let network = Network::new(peers.clone());
    let raft = Raft::new(node_id, config, network, disk.log, disk.state.clone())
        .await
        .unwrap();
    let heard = LeaderHeard::default();
    let clock = Arc::new(Echo::default());
    let (state, versions) = (disk.state.clone(), MachineVersions::new(node_id));
    let membership = Membership::new(
        raft.clone(),
        peers.clone(),
        MembershipOptions::new(&options),
        Arc::new(move || Admission {
            node_id_highest: state.node_id_highest(),
            machine_version_needed: state.version_needed(),
        }),
        versions.clone(),
    );
    let raft_service = RaftService::new(
        raft.clone(),
        identity.clone(),
        MemSink,
        clock.clone(),
        heard.clone(),
    );
    let view = Arc::new(MemView(disk.state.clone(), raft.clone()));
    let removal = membership.watch_removal(heard.clone());
    let cluster_service = ClusterService::new(raft.clone(), membership.clone(), view);
    let serving = service::server()
        .add_service(raft_service.into_server())
        .add_service(cluster_service.into_server())
        .serve_with_incoming(service::incoming(listener));
    let node = Node {
        raft,
        state: disk.state,
        identity,
        peers,
        membership,
        removal,
        clock,
        versions,
    };
    let serving = async move {
        serving.await.unwrap();
    };
    (node, Box::pin(serving))
}

impl Node {
    /// Proposes one batch and waits until it is applied here. A leader that a quorum has not confirmed
    /// lately proposes nothing, as right after its election; then this tries again.
    pub async fn write(&self, batch: Bytes) -> Result<u64, String> {
        loop {
            let written = self.raft.client_write(BatchBytes(batch.clone())).await;
            match written {
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))
                    if forward.reason == ForwardReason::LeaseExpired =>
                {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => return Err(error.to_string()),
                Ok(written) => return Ok(written.log_id.index),
            }
        }
    }
    /// Whom this node takes for the leader.
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.metrics().borrow_watched().current_leader
    }
    /// Index of the last entry applied.
    pub fn applied(&self) -> u64 {
        self.raft
            .metrics()
            .borrow_watched()
            .last_applied
            .map_or(0, |last| last.index)
    }
}

/// A batch that tells itself from all others and is `bytes` long.
pub fn batch(number: u64, bytes: usize) -> Bytes {
    number
        .to_be_bytes()
        .iter()
        .copied()
        .cycle()
        .take(bytes.max(8))
        .collect()
}

/// Founds the cluster as a node does: whoever leads first proposes an identity, and applying it tells.
pub async fn found(node: Node) {
    loop {
        let state = node.state.clone();
        eventually(|| (node.raft.is_leader() || !state.batches().is_empty()).then_some(())).await;
        let cluster_id = node.identity.cluster_id().expect("a leader was enlisted");
        if !state.batches().is_empty() {
            node.identity.founded(cluster_id);
            return;
        }
        // Lost races leave a second batch behind; only the first counts.
        let _ = node.write(cluster_id.to_be_bytes().to_vec().into()).await;
    }
}

/// The cluster service at an address, over any network.
pub fn cluster_client(net: Arc<dyn Net>, endpoint: &str) -> ClusterClient<Channel> {
    let address = endpoint.to_owned();
    let connector = tower::service_fn(move |_| {
        let (net, address) = (net.clone(), address.clone());
        async move { net.connect(&address).await.map(hyper_util::rt::TokioIo::new) }
    });
    let endpoint = Endpoint::from_shared(format!("http://{endpoint}")).unwrap();
    ClusterClient::new(endpoint.connect_with_connector_lazy(connector))
}

/// The raft service at an address, over any network.
pub fn raft_client(net: Arc<dyn Net>, endpoint: &str) -> RaftClient<Channel> {
    let address = endpoint.to_owned();
    let connector = tower::service_fn(move |_| {
        let (net, address) = (net.clone(), address.clone());
        async move { net.connect(&address).await.map(hyper_util::rt::TokioIo::new) }
    });
    let endpoint = Endpoint::from_shared(format!("http://{endpoint}")).unwrap();
    RaftClient::new(endpoint.connect_with_connector_lazy(connector))
}

/// The reason that an error gives programs, and a value it carries.
pub fn reason(status: &tonic::Status, value: &str) -> (String, String) {
    let info = status
        .get_details_error_info()
        .expect("every error of ours says its reason");
    assert_eq!(info.domain, "holdfast");
    (
        info.reason.clone(),
        info.metadata.get(value).cloned().unwrap_or_default(),
    )
}

/// Polls until it holds; a test that waits for ever fails by the simulator's or the runner's deadline.
pub async fn eventually<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = condition() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A network that can be cut between any two addresses, for tests on real sockets.
pub struct CutNet<N> {
    pub inner: N,
    pub cut: Arc<watch::Sender<bool>>,
}

impl<N: Net> Net for CutNet<N> {
    fn listen<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, io::Result<Box<dyn raft_store::seams::Listener>>> {
        let cut = self.cut.subscribe();
        Box::pin(async move {
            let inner = self.inner.listen(address).await?;
            Ok(Box::new(CutListener { inner, cut }) as Box<dyn raft_store::seams::Listener>)
        })
    }
    fn connect<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, io::Result<raft_store::seams::BoxConnection>> {
        let cut = self.cut.subscribe();
        Box::pin(async move {
            if *cut.borrow() {
                return Err(io::ErrorKind::HostUnreachable.into());
            }
            Ok(through(self.inner.connect(address).await?, cut))
        })
    }
}

struct CutListener {
    inner: Box<dyn raft_store::seams::Listener>,
    cut: watch::Receiver<bool>,
}

impl raft_store::seams::Listener for CutListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.inner.local_address()
    }
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(raft_store::seams::BoxConnection, SocketAddr)>> {
        Box::pin(async move {
            let (connection, peer) = self.inner.accept().await?;
            Ok((through(connection, self.cut.clone()), peer))
        })
    }
}

/// A connection that breaks when its node is cut off.
fn through(
    mut connection: raft_store::seams::BoxConnection,
    mut cut: watch::Receiver<bool>,
) -> raft_store::seams::BoxConnection {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut connection, &mut far) => {}
            _ = cut.wait_for(|cut| *cut) => {}
        }
    });
    Box::pin(near)
}
