//! The raft network inside the simulator: same code, simulated sockets and time.

mod common;

use common::{
    scenario,
    sim::{SimPartition, running, simulation},
};

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
