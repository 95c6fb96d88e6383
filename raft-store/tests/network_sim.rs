//! The raft network inside the simulator: same code, simulated sockets and time.

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Disk, Node, scenario, sim_net::SimNet, start};
use raft_store::{raft_config::RaftOptions, runtime, types::NodeId};

const PORT: u16 = 7_000;

fn host(node_id: NodeId) -> String {
    format!("n{node_id}")
}

/// A simulation with this many nodes; each is in the list as soon as it runs.
fn simulation(seed: u64, node_count: u64) -> (turmoil::Sim<'static>, Arc<Mutex<Vec<Node>>>) {
    runtime::seed(seed);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(4))
        .simulation_duration(Duration::from_secs(120))
        .tcp_capacity(1_024)
        .build();
    let nodes = Arc::new(Mutex::new(Vec::new()));
    for node_id in 1..=node_count {
        let nodes = nodes.clone();
        sim.host(host(node_id), move || {
            let nodes = nodes.clone();
            async move {
                let listen = format!("0.0.0.0:{PORT}");
                let endpoint = format!("{}:{PORT}", host(node_id));
                let options = RaftOptions::default();
                let (node, serving) = start(
                    node_id,
                    &listen,
                    &endpoint,
                    Arc::new(SimNet),
                    Disk::default(),
                    options,
                )
                .await;
                nodes.lock().unwrap().push(node);
                serving.await;
                Ok(())
            }
        });
    }
    (sim, nodes)
}

/// The nodes, once all run, by id.
async fn running(nodes: &Mutex<Vec<Node>>, count: usize) -> Vec<Node> {
    let mut nodes = common::eventually(|| {
        let nodes = nodes.lock().unwrap();
        (nodes.len() == count).then(|| nodes.clone())
    })
    .await;
    nodes.sort_by_key(|node| node.identity.node_id());
    nodes
}

struct SimPartition {
    node_count: u64,
}

impl scenario::Partition for SimPartition {
    fn set(&self, node_id: NodeId, cut: bool) {
        for other in (1..=self.node_count).filter(|other| *other != node_id) {
            match cut {
                true => turmoil::partition(host(node_id), host(other)),
                false => turmoil::repair(host(node_id), host(other)),
            }
        }
    }
}

#[test]
fn three_nodes_elect_replicate_heal_install_and_hand_over() {
    for seed in [1, 2] {
        let (mut sim, nodes) = simulation(seed, 3);
        sim.client("test", async move {
            let nodes = running(&nodes, 3).await;
            scenario::three_nodes_live(nodes, SimPartition { node_count: 3 }).await;
            Ok(())
        });
        sim.run().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}
