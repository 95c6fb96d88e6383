//! The raft network on real sockets.

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{CutNet, Disk, Node, scenario, start};
use raft_store::{net_tcp::TcpNet, raft_config::RaftOptions, types::NodeId};
use tokio::sync::watch;

struct TcpPartition(BTreeMap<NodeId, Arc<watch::Sender<bool>>>);

impl scenario::Partition for TcpPartition {
    fn set(&self, node_id: NodeId, cut: bool) {
        self.0[&node_id].send_replace(cut);
    }
}

async fn nodes(count: u64) -> (Vec<Node>, TcpPartition) {
    let (mut nodes, mut cuts) = (Vec::new(), BTreeMap::new());
    for node_id in 1..=count {
        let cut = Arc::new(watch::Sender::new(false));
        let net = Arc::new(CutNet {
            inner: TcpNet,
            cut: cut.clone(),
        });
        cuts.insert(node_id, cut);
        let options = RaftOptions::default();
        let (node, serving) = start(node_id, "127.0.0.1:0", "", net, Disk::default(), options).await;
        tokio::spawn(serving);
        nodes.push(node);
    }
    (nodes, TcpPartition(cuts))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_elect_replicate_heal_install_and_hand_over() {
    let (nodes, partition) = nodes(3).await;
    let story = scenario::three_nodes_live(nodes, partition);
    tokio::time::timeout(Duration::from_secs(120), story)
        .await
        .expect("the story hangs");
}
