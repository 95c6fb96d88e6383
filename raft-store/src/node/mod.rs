//! One node: wires the parts, starts them in order, and stops them in order.
//!
//! Start: storage (which refuses what it cannot trust), raft, batcher, services. Stop: the door closes,
//! what was proposed is answered, the lead is handed over, the server ends, raft ends, the image is written.
//! A node that loses its disk, its raft or its membership, or whose state is not what it should be, stops by
//! itself and says why: better absent than divergent.

mod clocks;
mod comparison;
mod housekeeping;
mod lead;
pub mod readiness;
mod recount;
mod view;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use inventory_machine::Machine;
use openraft::async_runtime::watch::WatchReceiver;
use proto::v1::inventory_server::InventoryServer;
use security::{Guard, Name};
use tokio::{
    sync::{oneshot, watch},
    task::{JoinHandle, JoinSet},
};

use self::{comparison::Comparison, readiness::Readiness, recount::Recounter};
use crate::{
    HoldfastRaft,
    batcher::{self, Door},
    clock::NodeClock,
    config::{ConfigError, NodeConfig},
    limits::MESSAGE_BYTES_MAX,
    log_clock::{LogClock, Stamp},
    machine_versions::MachineVersions,
    membership::{Admission, Membership, MembershipOptions},
    network::{Cluster, Identity, Network, NetworkOptions, Peers},
    raft_config::raft_config,
    reads::Reads,
    seams::{Seams, Workers},
    service::{
        self, ConnectionLimits,
        access::AccessLayer,
        archive::Archive,
        cluster::ClusterService,
        inventory::InventoryService,
        raft::{LeaderHeard, RaftService},
    },
    storage::{
        error::StorageError,
        image::Image,
        open::{self, Opened, StoreOptions},
        state::SharedState,
    },
    types::TypeConfig,
};

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot be.
    #[error("setting {0}")]
    Config(#[from] ConfigError),
    /// The certificate is not this node's.
    #[error("the certificate is of {name}, and this is node {node_id}; give it its own certificate")]
    Certificate {
        /// Whose it is.
        name: Name,
        /// This node.
        node_id: u64,
    },
    /// The storage refuses.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Nothing can listen there.
    #[error("cannot listen on {address}: {source}; free the port or choose another with --listen")]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// openraft refuses its settings or its storage.
    #[error("raft does not start: {0}")]
    Raft(String),
}

/// Why a node stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// Its storage failed; what is on disk is what was synced before.
    #[error("storage failed: {0}; look at the disk, then start the node again")]
    Storage(String),
    /// openraft stopped.
    #[error("raft stopped: {0}")]
    Raft(String),
    /// It was removed from the cluster.
    #[error(
        "this node was removed from the cluster; to come back it needs an empty directory and a new node id"
    )]
    Removed,
    /// Its state is not that of the others.
    #[error(
        "its state at log index {log_index} is not that of nodes {others:?}, and no majority has the same: keep its \
         directory for whoever looks into it, and replace it (`holdfast member remove`, then `member add` a node with \
         an empty directory and a new id)"
    )]
    Differs {
        /// First index at which that was seen.
        log_index: u64,
        /// Those it differs from.
        others: Vec<u64>,
    },
    /// Records in its memory are not what commands made of them.
    #[error(
        "its state in memory at log index {log_index} is not what the log made of it, as when memory fails: test \
         the machine, then start the node again; it checks what is on its disk and rebuilds what is wrong"
    )]
    Damaged {
        /// Index of the state that was counted.
        log_index: u64,
    },
    /// Its server ended.
    #[error("the server ended: {0}")]
    Server(String),
}

/// A running node.
pub struct Node {
    address: SocketAddr,
    config: NodeConfig,
    raft: HoldfastRaft,
    shared: SharedState,
    door: Door,
    health: tonic_health::server::HealthReporter,
    batcher: JoinHandle<()>,
    tasks: JoinSet<()>,
    server: JoinHandle<()>,
    stop_server: oneshot::Sender<()>,
    image: Option<Image>,
    stopped: watch::Receiver<Option<StopReason>>,
}

impl Node {
    /// Opens the storage and joins whatever cluster this node belongs to; a new node waits to be told.
    ///
    /// # Errors
    /// The settings, the storage, the address or raft refuse; each says what to do.
    pub async fn start(config: NodeConfig, seams: Seams) -> Result<Node, StartError> {
        Node::start_guarded(config, seams, Guard::open()).await
    }

    /// As [`Node::start`], with certificates and tokens: peers and callers are then who they prove to be.
    ///
    /// # Errors
    /// Also when the certificate is another node's.
    pub async fn start_guarded(config: NodeConfig, seams: Seams, guard: Guard) -> Result<Node, StartError> {
        config.check()?;
        if let Some(tls) = &guard.tls
            && tls.name().node_id() != Some(config.node_id)
        {
            return Err(StartError::Certificate {
                name: tls.name(),
                node_id: config.node_id,
            });
        }
        // The address first: a second node on the same machine should not even open files.
        let listener = seams
            .net
            .listen(&config.listen)
            .await
            .map_err(|source| StartError::Listen {
                address: config.listen.clone(),
                source,
            })?;
        let address = listener.local_address().map_err(|source| StartError::Listen {
            address: config.listen.clone(),
            source,
        })?;
        let endpoint = if config.advertise.is_empty() {
            address.to_string()
        } else {
            config.advertise.clone()
        };

        let opened = open_storage(&config, &seams).await?;
        let shared = opened.shared.clone();
        let cluster_id = shared.read(Machine::founding).map(|founding| founding.cluster_id);
        let identity = Identity::new(
            config.node_id,
            endpoint,
            Cluster {
                id: cluster_id.or(opened.identity.cluster_id()),
                founded: cluster_id.is_some(),
            },
            Arc::new(opened.identity.clone()),
        );
        let peers = Peers::protected(
            identity.clone(),
            seams.net.clone(),
            NetworkOptions::default(),
            guard.tls.clone(),
        );

        let raft_settings =
            raft_config(&config.raft()).map_err(|error| StartError::Raft(error.to_string()))?;
        let raft = HoldfastRaft::new(
            config.node_id,
            Arc::new(raft_settings),
            Network::new(peers.clone()),
            opened.log,
            opened.state_machine,
        )
        .await
        .map_err(|error| StartError::Raft(error.to_string()))?;

        let clock = NodeClock::new(
            LogClock::new(config.node_id, applied_stamp(&shared)),
            seams.wall_clock.clone(),
        );
        let versions = MachineVersions::new(config.node_id);
        let (lead, leading) = watch::channel(None);
        let reads = Reads::new(
            config.node_id,
            raft.clone(),
            shared.clone(),
            peers.answered().clone(),
        );
        let (door, batcher) = batcher::start(batcher::Parts {
            raft: raft.clone(),
            shared: shared.clone(),
            reads: reads.clone(),
            clock: clock.clone(),
            lead: leading,
            versions: versions.clone(),
        });
        let (stop, stopped) = watch::channel(None);
        let clocks = clocks::Clocks {
            raft: raft.clone(),
            clock: clock.clone(),
            reads: reads.clone(),
            peers: peers.clone(),
            comparison: Arc::new(Comparison::new(config.node_id, shared.clone())),
            versions: versions.clone(),
        };
        let exchange = clocks::exchange(&clocks);
        let mut tasks = JoinSet::new();
        tasks.spawn(lead::follow_lead(
            raft.clone(),
            identity.clone(),
            shared.clone(),
            clock.clone(),
            door.clone(),
            lead,
        ));
        tasks.spawn(clocks.run(stop.clone()));
        let heard = LeaderHeard::default();
        let membership = Membership::new(
            raft.clone(),
            peers,
            MembershipOptions::new(&config.raft()),
            Arc::new({
                let shared = shared.clone();
                move || Admission {
                    node_id_highest: shared.node_id_highest(),
                    machine_version_needed: shared.read(Machine::version_needed),
                }
            }),
            versions,
        );
        let removed = membership.watch_removal(heard.clone());
        let recounter = Arc::new(Recounter::new(shared.clone()));
        tasks.spawn({
            let (recounter, stop) = (recounter.clone(), stop.clone());
            let every = Duration::from_millis(config.recount_ms);
            async move { end(&stop, recounter.run(every).await) }
        });
        let (disk_free, disk_free_bytes) = watch::channel(None);
        let keeper = housekeeping::Keeper {
            raft: raft.clone(),
            shared: shared.clone(),
            identity: identity.clone(),
            door: door.clone(),
            snapshots: opened.snapshots.clone(),
            disk: seams.disk.clone(),
            data_dir: config.data_dir.clone(),
            disk_reserve_bytes: config.disk_reserve_bytes,
            disk_free_bytes: disk_free,
        };
        tasks.spawn(keeper.clone().run());
        tasks.spawn(keeper.watch_for_the_end(opened.failures, removed, stop.clone()));

        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<InventoryServer<InventoryService>>().await;
        let view = Arc::new(view::View {
            shared: shared.clone(),
            clock: clock.clone(),
            door: door.clone(),
            cut_index: opened.image.as_ref().map(Image::cut_index),
            pace: Default::default(),
            recounter,
            disk_free_bytes,
            disk_reserve_bytes: config.disk_reserve_bytes,
            tls: guard.tls.clone(),
        });
        let archive = Archive::new(config.node_id, shared.clone(), opened.snapshots.clone());
        let inventory = InventoryService::new(service::inventory::Parts {
            raft: raft.clone(),
            door: door.clone(),
            reads: reads.clone(),
            clock: clock.clone(),
            feed: opened.feed,
        });
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .expect("our own descriptors are well formed");
        if !guard.is_open() {
            tasks.spawn(security::tls::keep_fresh(guard.tls.clone(), guard.tokens.clone()));
        }
        let connections = service::incoming_with(listener, guard.tls.clone(), ConnectionLimits::default());
        let router = service::server()
            .layer(AccessLayer(guard))
            .add_service(health_service)
            .add_service(reflection)
            .add_service(service::at_home(
                InventoryServer::new(inventory)
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
                &identity,
            ))
            .add_service(service::at_home(
                ClusterService::new(raft.clone(), membership, view)
                    .with_archive(archive)
                    .into_server(),
                &identity,
            ))
            .add_service(
                RaftService::new(raft.clone(), identity, opened.snapshots, exchange, heard).into_server(),
            );
        let (stop_server, server_stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let until = async {
                let _ = server_stopped.await;
            };
            if let Err(error) = router.serve_with_incoming_shutdown(connections, until).await {
                end(&stop, StopReason::Server(error.to_string()));
            }
        });
        tracing::info!(node_id = config.node_id, %address, "the node is up");
        Ok(Node {
            address,
            config,
            raft,
            shared,
            door,
            health,
            batcher,
            tasks,
            server,
            stop_server,
            image: opened.image,
            stopped,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The applied state.
    pub fn shared(&self) -> &SharedState {
        &self.shared
    }

    /// The way to the log.
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// Consensus.
    pub fn raft(&self) -> &HoldfastRaft {
        &self.raft
    }

    /// Asks whether it takes part, for probes.
    pub fn readiness(&self) -> Readiness {
        Readiness {
            raft: self.raft.clone(),
            door: self.door.clone(),
        }
    }

    /// Returns when the node can no longer serve, with the reason.
    pub async fn stopped(&self) -> StopReason {
        let mut stopped = self.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().expect("waited for one"),
            Err(_) => StopReason::Server("its tasks ended".to_owned()),
        }
    }

    /// Stops in order: no new commands, everything proposed answered, the lead handed over, state written.
    pub async fn stop(mut self) {
        self.health
            .set_not_serving::<InventoryServer<InventoryService>>()
            .await;
        self.door.stop();
        let drain = Duration::from_millis(self.config.stop_drain_ms);
        if tokio::time::timeout(drain, &mut self.batcher).await.is_err() {
            tracing::warn!(
                "some commands were proposed and are not known to be committed; their keys resolve them"
            );
            self.batcher.abort();
        }
        self.hand_over().await;
        let _ = self.stop_server.send(());
        // Streams of watchers and peers end only when they are cut.
        if tokio::time::timeout(Duration::from_millis(SERVER_STOP_MS), &mut self.server)
            .await
            .is_err()
        {
            self.server.abort();
        }
        self.tasks.shutdown().await;
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "raft did not end in order");
        }
        // Last: it writes what was applied until now.
        if let Some(image) = self.image.take() {
            let stopped = tokio::task::spawn_blocking(move || image.stop()).await;
            if let Err(error) = stopped {
                tracing::warn!(%error, "the image was not written in order; it will be rebuilt");
            }
        }
        tracing::info!("the node has stopped");
    }

    /// If this node leads, the voter whose log is furthest along takes over.
    async fn hand_over(&self) {
        let heir = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
            let matched = metrics.replication.as_ref().map(|replication| {
                let others = replication
                    .iter()
                    .filter(|&(id, _)| *id != metrics.id && voters.contains(id));
                others
                    .max_by_key(|(_, log_id)| log_id.as_ref().map(|log_id| log_id.index))
                    .map(|(&id, _)| id)
            });
            matched.flatten()
        };
        let Some(heir) = heir else { return };
        if self.raft.trigger().transfer_leader(heir).await.is_ok() {
            let own = self.config.node_id;
            let wait = self.raft.wait(Some(Duration::from_millis(HAND_OVER_MS)));
            let taken_over = |metrics: &openraft::RaftMetrics<TypeConfig>| {
                metrics.current_leader.is_some_and(|leader| leader != own)
            };
            if wait.metrics(taken_over, "hand over").await.is_err() {
                tracing::warn!(heir, "nobody has taken the lead over yet; the others will elect");
            }
        }
    }
}

/// Has the node stop for this reason, unless it has another one already.
fn end(stop: &watch::Sender<Option<StopReason>>, reason: StopReason) {
    let first = stop.send_if_modified(|known| {
        let first = known.is_none();
        if first {
            *known = Some(reason.clone());
        }
        first
    });
    if first {
        tracing::error!(%reason, "the node stops");
    }
}

/// How long the lead's hand-over is waited for, in ms: an election on a loaded machine.
const HAND_OVER_MS: u64 = 1_000;

/// How long open streams may take to end by themselves, in ms.
const SERVER_STOP_MS: u64 = 500;

/// The times of the last applied batch.
fn applied_stamp(shared: &SharedState) -> Stamp {
    shared.read(|machine| Stamp {
        log_time_ms: machine.log_time_ms(),
        wall_time_ms: machine.wall_time_ms(),
    })
}

/// Opens the storage where blocking is allowed.
async fn open_storage(config: &NodeConfig, seams: &Seams) -> Result<Opened, StartError> {
    let mut options = StoreOptions {
        cut_every: Duration::from_millis(config.image_flush_ms),
        ..StoreOptions::new(config.node_id)
    };
    options.log.segment_bytes = config.log_segment_bytes;
    let dir = config.data_dir.clone();
    let opened = match seams.workers {
        Workers::Tasks => open::open(&dir, seams, &options),
        Workers::Threads => {
            let (seams, runtime) = (seams.clone(), tokio::runtime::Handle::current());
            tokio::task::spawn_blocking(move || {
                let _inside = runtime.enter();
                open::open(&dir, &seams, &options)
            })
            .await
            .map_err(|error| StartError::Raft(format!("opening the storage panicked: {error}")))?
        }
    };
    Ok(opened?)
}
