//! A cluster of three real processes on loopback, with data on a real disk, and what must be true of it.
//!
//! Ports are free ones that the nodes take themselves, and take again when they are started again; directories
//! are temporary; fsync is on, as always.

mod certificates;
mod check;
mod disk;

use std::{path::Path, time::Duration};

use client::{Client, Error, NewSale, NodeStatus};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    failure::{Doing, Failure},
    process::Process,
    procfs,
};

pub use self::{
    certificates::{Certificates, files as tls_files},
    disk::DiskBytes,
};

/// What a cluster is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Nodes.
    pub nodes: u64,
    /// Whether nodes and clients show certificates and speak TLS.
    pub tls: bool,
    /// Longest election timeout, in ms, which is the lease as well; the shortest is half of it, and a leader shows
    /// itself ten times as often.
    pub election_ms_max: u64,
}

impl Shape {
    /// What everything is measured on where nothing else is said: as few nodes as survive one, no TLS, and the timeouts
    /// that nodes have by themselves.
    pub const USUAL: Shape = Shape {
        nodes: 3,
        tls: false,
        election_ms_max: 500,
    };
}

/// Longest a call of the harness itself may take: recounting millions of claims takes a while.
const CALL_MAX: Duration = Duration::from_secs(60);

/// Longest replicas may take to have applied what the leader has, and to have written their image: of ten million
/// claims, on a machine that does more than this.
const CATCH_UP_MAX: Duration = Duration::from_secs(180);

/// Pause between two looks at a replica that is not there yet.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The same, where how long it takes is what is measured.
const LOOK_CLOSELY_EVERY: Duration = Duration::from_millis(2);

/// Longest a cluster may be without a leader.
const LEADER_MAX: Duration = Duration::from_secs(30);

/// Where a node listens that may choose.
const FREE_PORT: &str = "127.0.0.1:0";

/// Hold of every sale: the longest there is, so that nothing expires under a measurement.
const HOLD_MS: u64 = 24 * 3_600_000;

/// An open sale of so many units, each claimed once.
fn new_sale(sale_id: &str, units_total: u32) -> NewSale {
    NewSale {
        sale_id: sale_id.to_owned(),
        units_total,
        hold_ms: HOLD_MS,
        claims_max: units_total.max(10_000),
        open: true,
        ..NewSale::default()
    }
}

/// Where a node's process is among all; they are numbered from one.
fn place_of(node_id: u64) -> usize {
    usize::try_from(node_id - 1).expect("as few as they are")
}

/// What a node's directory and its log are called.
fn node_name(id: u64) -> String {
    format!("node-{id}")
}

/// A running cluster.
pub struct Cluster {
    nodes: Vec<Process>,
    election_ms_max: u64,
    certificates: Option<Certificates>,
    client: Client,
    // Last, so that the processes are gone before their files are.
    dir: TempDir,
}

/// A client of who listens there.
///
/// # Errors
/// None that a running cluster gives.
pub fn new_client<'a>(
    endpoints: impl Iterator<Item = &'a str>,
    certificates: Option<&Certificates>,
) -> Result<Client, Failure> {
    let mut builder = Client::builder().endpoints(endpoints).timeout(CALL_MAX);
    if let Some(certificates) = certificates {
        builder = builder.tls(certificates.client.clone());
    }
    builder.build().doing("making a client")
}

/// Starts a node on its directory under `dir`, whether or not that has data already.
async fn start_node(
    dir: &Path,
    id: u64,
    listen: &str,
    election_ms_max: u64,
    certificates: Option<&Certificates>,
) -> Result<Process, Failure> {
    let name = node_name(id);
    let data = dir.join(&name);
    let (number, data) = (id.to_string(), data.to_string_lossy().into_owned());
    let election_ms_max = election_ms_max.to_string();
    let mut arguments = vec!["node", "--id", &number, "--listen", listen, "--dir", &data];
    arguments.extend(["--election-ms-max", &election_ms_max]);
    let certificates = certificates.map(|all| all.dir.to_string_lossy().into_owned());
    if let Some(dir) = &certificates {
        arguments.extend(["--certificates", dir]);
    }
    Process::start(dir, &name, &arguments).await
}

impl Cluster {
    /// Starts and founds a cluster with its data under `place`.
    ///
    /// # Errors
    /// A node does not start, or they do not become a cluster.
    pub async fn start(place: &Path, shape: Shape) -> Result<Cluster, Failure> {
        let dir = tempfile::Builder::new()
            .prefix("bench-")
            .tempdir_in(place)
            .doing("making a directory")?;
        let certificates = shape.tls.then(|| Certificates::issue(dir.path(), shape.nodes));
        let certificates = certificates.transpose()?;
        let mut nodes = Vec::new();
        for id in 1..=shape.nodes {
            nodes.push(
                start_node(
                    dir.path(),
                    id,
                    FREE_PORT,
                    shape.election_ms_max,
                    certificates.as_ref(),
                )
                .await?,
            );
        }
        let endpoints: Vec<&str> = nodes.iter().map(Process::address).collect();
        let client = new_client(endpoints.iter().copied(), certificates.as_ref())?;
        let members = (1..)
            .zip(endpoints.iter().map(|&endpoint| endpoint.to_owned()))
            .collect();
        client
            .cluster()
            .init(members)
            .await
            .doing("founding the cluster")?;
        Ok(Cluster {
            nodes,
            election_ms_max: shape.election_ms_max,
            certificates,
            client,
            dir,
        })
    }

    /// A client of it; clones share its connections.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A client with connections of its own.
    ///
    /// # Errors
    /// None that a running cluster gives.
    pub fn another_client(&self) -> Result<Client, Failure> {
        new_client(self.endpoints(), self.certificates.as_ref())
    }

    /// Where its nodes listen.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(Process::address)
    }

    /// The node behind this one; the first behind the last.
    pub fn next_node(&self, node_id: u64) -> u64 {
        node_id % self.nodes.len() as u64 + 1
    }

    /// Where its clients find their certificates, if it speaks TLS.
    pub fn certificates_dir(&self) -> Option<&Path> {
        self.certificates
            .as_ref()
            .map(|certificates| certificates.dir.as_path())
    }

    /// The node that leads, as it sees itself; waits while none does.
    ///
    /// # Errors
    /// None does for long, or a node does not answer.
    pub async fn leader(&self) -> Result<NodeStatus, Failure> {
        const DOING: &str = "looking for the leader";
        let deadline = Instant::now() + LEADER_MAX;
        loop {
            let statuses = self.statuses().await.doing(DOING)?;
            let leaders = statuses.into_iter().filter(|status| status.role == "leader");
            // One that was replaced may not have heard of it yet.
            if let Some(leader) = leaders.max_by_key(|status| status.term) {
                return Ok(leader);
            }
            if Instant::now() > deadline {
                return Err(Failure::new(DOING, format!("there was none in {LEADER_MAX:?}")));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Kills a node's process, as a crash would.
    ///
    /// # Errors
    /// It had ended by itself.
    pub async fn kill(&mut self, node_id: u64) -> Result<(), Failure> {
        self.nodes[place_of(node_id)].kill().await
    }

    /// Starts a killed node on its directory, where it listened before; waits until it is ready.
    ///
    /// # Errors
    /// It does not start.
    pub async fn restart(&mut self, node_id: u64) -> Result<(), Failure> {
        let node = &mut self.nodes[place_of(node_id)];
        let listen = node.address().to_owned();
        *node = start_node(
            self.dir.path(),
            node_id,
            &listen,
            self.election_ms_max,
            self.certificates.as_ref(),
        )
        .await?;
        Ok(())
    }

    /// Starts a node that belongs to no cluster yet, numbered behind those of this one; none where TLS is spoken, which
    /// issued no certificate for it.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_another(&self) -> Result<(u64, Process), Failure> {
        let id = self.nodes.len() as u64 + 1;
        let node = start_node(
            self.dir.path(),
            id,
            FREE_PORT,
            self.election_ms_max,
            self.certificates.as_ref(),
        )
        .await?;
        Ok((id, node))
    }

    /// Counts that node among its own: it was made a member.
    pub fn joined(&mut self, node: Process) {
        self.nodes.push(node);
    }

    /// Waits until a node that is ready has applied what the newest had when asked.
    ///
    /// # Errors
    /// It does not catch up.
    pub async fn caught_up(&self, node_id: u64) -> Result<(), Failure> {
        let index = self.applied_index().await?;
        self.wait_for("waiting for a node", LOOK_CLOSELY_EVERY, |status| {
            status.node_id != node_id || status.applied_index >= index
        })
        .await
    }

    /// Makes and opens a sale of so many units, which nobody's second claim can spoil: a claim a user.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn create_sale(&self, sale_id: &str, units_total: u32) -> Result<(), Failure> {
        self.create_priced_sale(sale_id, units_total, 0, "").await
    }

    /// The same, at a price in minor units of a currency.
    ///
    /// # Errors
    /// As [`Cluster::create_sale`].
    pub async fn create_priced_sale(
        &self,
        sale_id: &str,
        units_total: u32,
        price_minor: u64,
        currency: &str,
    ) -> Result<(), Failure> {
        self.create(NewSale {
            price_minor,
            currency: currency.to_owned(),
            ..new_sale(sale_id, units_total)
        })
        .await
    }

    /// The same for nothing, with holds that end after this long, so that units are claimed twice.
    ///
    /// # Errors
    /// As [`Cluster::create_sale`].
    pub async fn create_held_sale(
        &self,
        sale_id: &str,
        units_total: u32,
        hold: Duration,
    ) -> Result<(), Failure> {
        self.create(NewSale {
            hold_ms: hold.as_millis() as u64,
            claims_max: 2 * units_total,
            ..new_sale(sale_id, units_total)
        })
        .await
    }

    async fn create(&self, sale: NewSale) -> Result<(), Failure> {
        self.client
            .create_sale(sale)
            .send()
            .await
            .doing("creating a sale")?;
        Ok(())
    }

    /// Resident memory of each node's process, in bytes.
    ///
    /// # Errors
    /// A node has ended.
    pub fn resident_bytes(&self) -> Result<Vec<u64>, Failure> {
        self.nodes
            .iter()
            .map(|node| procfs::resident_bytes(node.id()?))
            .collect()
    }

    /// Processor time of each node's process so far.
    ///
    /// # Errors
    /// A node has ended.
    pub fn processor_times(&self) -> Result<Vec<Duration>, Failure> {
        self.nodes
            .iter()
            .map(|node| procfs::processor_time(node.id()?))
            .collect()
    }

    /// Open descriptors of each node's process.
    ///
    /// # Errors
    /// A node has ended.
    pub fn descriptors(&self) -> Result<Vec<u64>, Failure> {
        self.nodes
            .iter()
            .map(|node| procfs::descriptors(node.id()?))
            .collect()
    }

    /// Waits until every replica has applied what the leader had when asked, and has it in its image.
    ///
    /// # Errors
    /// They do not catch up.
    pub async fn settled(&self) -> Result<(), Failure> {
        let index = self.applied_index().await?;
        self.wait_for("waiting for the images", LOOK_EVERY, |status| {
            status.image_index >= index
        })
        .await
    }

    /// The newest applied index there is.
    ///
    /// # Errors
    /// A node does not answer.
    pub async fn applied_index(&self) -> Result<u64, Failure> {
        let statuses = self.statuses().await.doing("asking the nodes")?;
        Ok(statuses
            .iter()
            .map(|status| status.applied_index)
            .max()
            .unwrap_or_default())
    }

    async fn statuses(&self) -> Result<Vec<NodeStatus>, Error> {
        let mut statuses = Vec::new();
        for endpoint in self.endpoints() {
            statuses.push(self.client.cluster().status(endpoint).await?);
        }
        Ok(statuses)
    }

    async fn wait_for(
        &self,
        doing: &str,
        look_every: Duration,
        there: impl Fn(&NodeStatus) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + CATCH_UP_MAX;
        loop {
            let statuses = self.statuses().await.doing(doing)?;
            let Some(behind) = statuses.iter().find(|status| !there(status)) else {
                return Ok(());
            };
            if Instant::now() > deadline {
                let why = format!(
                    "node {} has applied {} and its image {} after {CATCH_UP_MAX:?}",
                    behind.node_id, behind.applied_index, behind.image_index
                );
                return Err(Failure::new(doing, why));
            }
            sleep(look_every).await;
        }
    }

    /// Ends it and throws its data away.
    ///
    /// # Errors
    /// A node had ended by itself.
    pub async fn stop(self) -> Result<(), Failure> {
        for node in self.nodes {
            node.stop().await?;
        }
        Ok(())
    }
}
