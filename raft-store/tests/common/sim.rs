//! Simulations of whole clusters: hosts `n1`, `n2`, … each run one node.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jepsen_tests::simulation::net::SimNet;
use raft_store::{raft_config::RaftOptions, runtime, types::NodeId};

use super::{Disk, Node, eventually, scenario::Partition, start};

/// The port every node listens on.
pub const PORT: u16 = 7_000;

/// The host of a node.
pub fn host(node_id: NodeId) -> String {
    format!("n{node_id}")
}

/// Where a node is reached.
pub fn endpoint(node_id: NodeId) -> String {
    format!("{}:{PORT}", host(node_id))
}

/// The nodes of a simulation; a node that crashed and came back is a new one at the end.
pub type Nodes = Arc<Mutex<Vec<Node>>>;

/// A simulation with this many nodes; each is in the list as soon as it runs. A node that is bounced comes
/// back with its disk.
pub fn simulation(seed: u64, node_count: u64) -> (turmoil::Sim<'static>, Nodes) {
    runtime::seed(seed);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(4))
        .simulation_duration(Duration::from_secs(60))
        .tcp_capacity(1_024)
        .build();
    let nodes = Nodes::default();
    for node_id in 1..=node_count {
        let (nodes, disk) = (nodes.clone(), Disk::default());
        sim.host(host(node_id), move || {
            let (nodes, disk) = (nodes.clone(), disk.clone());
            async move {
                let listen = format!("0.0.0.0:{PORT}");
                let options = RaftOptions::default();
                let (node, serving) = start(
                    node_id,
                    &listen,
                    &endpoint(node_id),
                    Arc::new(SimNet),
                    disk,
                    options,
                )
                .await;
                tokio::spawn(super::found(node.clone()));
                nodes.lock().unwrap().push(node);
                serving.await;
                Ok(())
            }
        });
    }
    (sim, nodes)
}

/// The nodes, once all run, by id.
pub async fn running(nodes: &Nodes, count: usize) -> Vec<Node> {
    let mut nodes = eventually(|| {
        let nodes = nodes.lock().unwrap();
        (nodes.len() == count).then(|| nodes.clone())
    })
    .await;
    nodes.sort_by_key(|node| node.identity.node_id());
    nodes
}

/// Cuts hosts off from all others.
pub struct SimPartition {
    pub node_count: u64,
}

impl Partition for SimPartition {
    fn set(&self, node_id: NodeId, cut: bool) {
        for other in (1..=self.node_count).filter(|other| *other != node_id) {
            match cut {
                true => turmoil::partition(host(node_id), host(other)),
                false => turmoil::repair(host(node_id), host(other)),
            }
        }
    }
}

/// One node, enlisted for cluster `aa` that is not founded yet, and a story.
pub fn with_one_node(seed: u64, story: impl AsyncFnOnce(Node) + 'static) {
    let (mut sim, nodes) = simulation(seed, 1);
    sim.client("test", async move {
        let node = running(&nodes, 1).await.remove(0);
        node.identity.enlist(0xaa).await.unwrap();
        story(node).await;
        Ok(())
    });
    sim.run().unwrap();
}
