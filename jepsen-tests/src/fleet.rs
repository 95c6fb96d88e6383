//! A cluster of processes of the shipped binary, with everything that a nemesis needs to reach into it: the
//! processes, the faults inside them, and the links between them.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use client::{Client, Connector, Error, NodeStatus};
use futures::future::join_all;
use rand::{RngExt, rngs::SmallRng};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    nemeses::{links::Links, preload::Preload},
    processes::{NodeProcess, Settings},
};

/// Log entries between two snapshots of a tested node: a second or two of load, so that a node that was away is
/// caught up by snapshot, and restarts find one.
const SNAPSHOT_ENTRIES: u64 = 200;

/// Smallest disk reserve that a node takes, in bytes: test machines have small disks.
const DISK_RESERVE_BYTES: u64 = 64 << 20;

/// How long a question to one node may take, in ms.
const STATUS_MS_MAX: u64 = 1_000;

/// How often one looks again for what must come about.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a repeated call of an operator may take before the run is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a cluster is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The store does not do what it must: a violation.
    #[error("{0}")]
    Store(String),
    /// The harness failed: nothing is known of the store.
    #[error(transparent)]
    Harness(#[from] io::Error),
}

/// One node and its faults.
pub struct Node {
    /// Its process.
    pub process: NodeProcess,
    /// Faults inside it.
    pub preload: Preload,
}

impl Node {
    /// Where it listens.
    fn port(&self) -> u16 {
        let (_, port) = self
            .process
            .endpoint
            .rsplit_once(':')
            .expect("host:port, as its ready file said");
        port.parse().expect("a port, as its ready file said")
    }
}

/// The cluster.
pub struct Fleet {
    binary: PathBuf,
    fault_library: PathBuf,
    dir: PathBuf,
    /// Members by id, running or not.
    pub nodes: BTreeMap<u64, Node>,
    /// The network.
    pub links: Links,
    /// An operator's client, whose own connections suffer nothing.
    pub operator: Client,
    next_id: u64,
}

impl Fleet {
    /// Starts and founds a cluster in `dir`, with the fault library in its processes.
    ///
    /// # Errors
    /// A node does not start, or they do not become a cluster.
    pub async fn found(binary: &Path, library: &Path, dir: &Path, count: u64) -> io::Result<Fleet> {
        let mut fleet = Fleet {
            binary: binary.to_path_buf(),
            fault_library: library.to_path_buf(),
            dir: dir.to_path_buf(),
            nodes: BTreeMap::new(),
            links: Links::default(),
            operator: operator(["127.0.0.1:1".to_owned()])?,
            next_id: 1,
        };
        for _ in 0..count {
            fleet.start_node().await?;
        }
        fleet.operator = operator(fleet.endpoints())?;
        let members = fleet
            .nodes
            .values()
            .map(|node| (node.process.id, node.process.endpoint.clone()));
        let founded = fleet.operator.cluster().init(members.collect()).await;
        founded.map_err(|error| io::Error::other(format!("the cluster is not founded: {error}")))?;
        Ok(fleet)
    }

    /// Starts a node that is no member yet. Gives its id, which no other ever had.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_node(&mut self) -> io::Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let dir = self.dir.join(format!("node-{id}"));
        std::fs::create_dir_all(&dir)?;
        let preload = Preload::new(&self.fault_library, &dir)?;
        let settings = Settings {
            set: vec![
                format!("node.snapshot_entries={SNAPSHOT_ENTRIES}"),
                format!("node.disk_reserve_bytes={DISK_RESERVE_BYTES}"),
            ],
            environment: preload
                .environment()
                .map(|(name, path)| (name.into(), path.into()))
                .into(),
        };
        let process =
            tokio::task::block_in_place(|| NodeProcess::start_with(&self.binary, &dir, id, settings))?;
        let node = Node { process, preload };
        self.links.join(id, node.port());
        self.nodes.insert(id, node);
        self.route().await?;
        Ok(id)
    }

    /// Every node finds every other one through the proxy of their link.
    async fn route(&self) -> io::Result<()> {
        for (&from, node) in &self.nodes {
            let mut routes = Vec::new();
            for (&to, peer) in self.nodes.iter().filter(|&(&to, _)| to != from) {
                routes.push((peer.port(), self.links.port(from, to, peer.port()).await?));
            }
            node.preload.route(&routes)?;
        }
        Ok(())
    }

    /// Kills a node that is no member any more, and removes its files but for the log.
    ///
    /// # Errors
    /// The system refuses.
    pub fn discard(&mut self, id: u64) -> io::Result<()> {
        self.links.leave(id);
        if let Some(mut node) = self.nodes.remove(&id) {
            node.process.kill()?;
            std::fs::remove_dir_all(node.preload.data_dir())?;
        }
        Ok(())
    }

    /// One node.
    ///
    /// # Panics
    /// There is none of that id: ids come from here.
    pub fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("ids of nodes come from the fleet")
    }

    /// Starts a node again on what it has.
    ///
    /// # Errors
    /// It refuses to serve.
    pub fn launch(&mut self, id: u64) -> Result<(), Trouble> {
        match tokio::task::block_in_place(|| self.node(id).process.try_launch())? {
            None => Ok(()),
            Some(log) => Err(Trouble::Store(format!("node {id} refuses to start: {log}"))),
        }
    }

    /// Checks that every node runs: none of them may have ended by itself.
    ///
    /// # Errors
    /// One has.
    pub fn check_running(&mut self) -> Result<(), Trouble> {
        for (id, node) in &mut self.nodes {
            if !node.process.is_running()? {
                let log = node.process.log_tail();
                return Err(Trouble::Store(format!("node {id} ended by itself: {log}")));
            }
        }
        Ok(())
    }

    /// Where the nodes are reached.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes
            .values()
            .map(|node| node.process.endpoint.clone())
            .collect()
    }

    /// How clients connect: over links of their own.
    pub fn connector(&self) -> Connector {
        let links = self.links.clone();
        std::sync::Arc::new(move |address| links.dial(address))
    }

    /// Ids of all nodes.
    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// All nodes but one.
    pub fn others(&self, id: u64) -> Vec<u64> {
        self.nodes.keys().copied().filter(|&other| other != id).collect()
    }

    /// Any node but one.
    ///
    /// # Panics
    /// There is no other.
    pub fn another(&self, id: u64, chance: &mut SmallRng) -> u64 {
        let others = self.others(id);
        others[chance.random_range(0..others.len())]
    }

    /// What a node says of itself.
    pub async fn status(&self, id: u64) -> Option<NodeStatus> {
        let endpoint = &self.nodes.get(&id)?.process.endpoint;
        let cluster = self.operator.cluster();
        let asked = timeout(Duration::from_millis(STATUS_MS_MAX), cluster.status(endpoint));
        asked.await.ok()?.ok()
    }

    /// Who leads: of those who say that they do, the one with the highest term.
    pub async fn leader(&self) -> Option<u64> {
        let statuses = join_all(self.nodes.keys().map(|&id| self.status(id))).await;
        let leading = statuses
            .into_iter()
            .flatten()
            .filter(|status| status.role == "leader");
        leading
            .max_by_key(|status| status.term)
            .map(|status| status.node_id)
    }

    /// Waits until somebody leads.
    ///
    /// # Errors
    /// Nobody does within `limit`.
    pub async fn await_leader(&self, limit: Duration) -> Result<u64, Trouble> {
        self.until("somebody leads", limit, async || self.leader().await)
            .await
    }

    /// Waits until a node has applied what was committed when this was called.
    ///
    /// # Errors
    /// It has not within `limit`.
    pub async fn await_caught_up(&self, id: u64, limit: Duration) -> Result<(), Trouble> {
        let leader = self.await_leader(limit).await?;
        let wanted = self
            .status(leader)
            .await
            .map_or(0, |status| status.committed_index);
        self.until(&format!("node {id} has caught up"), limit, async || {
            let status = self.status(id).await?;
            (status.applied_index >= wanted).then_some(())
        })
        .await
    }

    /// Looks again and again until there is something.
    ///
    /// # Errors
    /// There is nothing within `limit`.
    pub async fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        look: impl AsyncFn() -> Option<T>,
    ) -> Result<T, Trouble> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(found) = look().await {
                return Ok(found);
            }
            if Instant::now() > deadline {
                let mut seen = Vec::new();
                for (&id, node) in &self.nodes {
                    seen.push(match self.status(id).await {
                        Some(status) => format!(
                            "node {id} {} term {} leader {} applied {} committed {}",
                            status.role,
                            status.term,
                            status.leader_id,
                            status.applied_index,
                            status.committed_index
                        ),
                        // Its files may be gone by the time that somebody reads this.
                        None => format!("node {id} silent, its log ends:\n{}", node.process.log_tail()),
                    });
                }
                return Err(Trouble::Store(format!(
                    "not within {limit:?}: {what}; {}",
                    seen.join("; ")
                )));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Repeats a membership call until it is done: all of them are made to be repeated.
    ///
    /// # Errors
    /// It is not done within a minute.
    pub async fn patiently<T>(
        &self,
        what: &str,
        call: impl AsyncFn() -> Result<T, Error>,
    ) -> Result<T, Trouble> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match call().await {
                Ok(done) => return Ok(done),
                Err(error) if Instant::now() > deadline => {
                    return Err(Trouble::Store(format!("{what}: {error}")));
                }
                Err(_) => sleep(LOOK_AGAIN * 4).await,
            }
        }
    }

    /// Makes a running node that is no member a voter.
    ///
    /// # Errors
    /// The cluster does not take it within a minute.
    pub async fn admit(&mut self, id: u64) -> Result<(), Trouble> {
        let endpoint = self.node(id).process.endpoint.clone();
        // Members are found at whatever nodes are left of those first named.
        self.operator = operator(self.endpoints())?;
        let cluster = self.operator.cluster();
        self.patiently(&format!("adding node {id}"), async || {
            cluster.add_learner(id, &endpoint).await
        })
        .await?;
        self.patiently(&format!("promoting node {id}"), async || {
            cluster.promote(vec![id]).await
        })
        .await?;
        Ok(())
    }

    /// Takes a node out of the cluster, alive or dead, and discards it.
    ///
    /// # Errors
    /// The cluster does not let it go within a minute.
    pub async fn expel(&mut self, id: u64) -> Result<(), Trouble> {
        let cluster = self.operator.cluster();
        self.patiently(&format!("removing node {id}"), async || {
            cluster.remove(id, false).await
        })
        .await?;
        self.discard(id)?;
        self.operator = operator(self.endpoints())?;
        Ok(self.route().await?)
    }
}

fn operator(endpoints: impl IntoIterator<Item = String>) -> io::Result<Client> {
    let client = Client::builder().endpoints(endpoints).build();
    client.map_err(|error| io::Error::other(error.to_string()))
}
