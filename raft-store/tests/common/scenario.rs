//! One story for every network: three nodes elect, replicate, lose and regain a follower that then needs
//! a snapshot, and hand leadership over.

use std::{collections::BTreeMap, time::Duration};

use openraft::{BasicNode, async_runtime::watch::WatchReceiver};
use raft_store::types::NodeId;

use super::{Node, batch, eventually};

/// Batches before the cut.
const BATCHES: u64 = 200;

/// Bytes of a batch: so that the snapshot takes several chunks.
const BATCH_BYTES: usize = 4 << 10;

/// Cuts one node off from all others, or joins it again.
pub trait Partition {
    fn set(&self, node_id: NodeId, cut: bool);
}

/// The leader that all the given nodes agree on.
pub async fn leader_of<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> &'a Node {
    let nodes: Vec<&Node> = nodes.into_iter().collect();
    eventually(|| {
        let leader = nodes.first()?.leader()?;
        let agreed = nodes.iter().all(|node| node.leader() == Some(leader));
        nodes
            .iter()
            .find(|node| agreed && node.raft.is_leader() && node.identity.node_id() == leader)
            .copied()
    })
    .await
}

const CLUSTER_ID: u128 = 7;

/// Makes these nodes a cluster, as `Init` does.
pub async fn form(nodes: &[Node]) {
    let members: BTreeMap<NodeId, BasicNode> = nodes
        .iter()
        .map(|node| (node.identity.node_id(), BasicNode::new(node.identity.endpoint())))
        .collect();
    for node in nodes {
        node.identity.enlist(CLUSTER_ID).await.unwrap();
    }
    nodes[0].raft.initialize(members).await.unwrap();
}

pub async fn three_nodes_live(nodes: Vec<Node>, partition: impl Partition) {
    // Elect.
    form(&nodes).await;
    let leader = leader_of(&nodes).await;

    // Replicate, many at once.
    let writes = (0..BATCHES).map(|number| leader.write(batch(number, BATCH_BYTES)));
    let indexes = futures::future::try_join_all(writes).await.unwrap();
    let last = *indexes.iter().max().unwrap();
    for node in &nodes {
        eventually(|| (node.applied() >= last).then_some(())).await;
        // What followed upon these, one of the two may have sooner.
        let (here, there) = (node.state.batches(), leader.state.batches());
        let both = here.len().min(there.len());
        assert!(both as u64 >= BATCHES);
        assert!(
            here[..both] == there[..both],
            "every replica applied the same, in order"
        );
    }
    let mut applied = leader.state.batches();
    // Not the small ones that found a cluster.
    applied.retain(|batch| batch.len() == BATCH_BYTES);
    assert_eq!(applied.len() as u64, BATCHES);
    applied.sort();
    applied.dedup();
    assert_eq!(applied.len() as u64, BATCHES, "each batch exactly once");

    // Cut a follower off: the rest goes on, and leads on under the same leader.
    let term = leader.raft.metrics().borrow_watched().current_term;
    let lagging = nodes.iter().find(|node| !node.raft.is_leader()).unwrap();
    partition.set(lagging.identity.node_id(), true);
    let mut last = 0;
    for number in BATCHES..BATCHES + 50 {
        last = leader.write(batch(number, BATCH_BYTES)).await.unwrap();
    }
    assert!(lagging.applied() < last);

    // Purge what it lacks, so that only a snapshot can bring it back.
    leader.raft.trigger().snapshot().await.unwrap();
    eventually(|| {
        let snapshot = leader.raft.metrics().borrow_watched().snapshot?;
        (snapshot.index >= last).then_some(())
    })
    .await;
    leader.raft.trigger().purge_log(last).await.unwrap();
    eventually(|| {
        let purged = leader.raft.metrics().borrow_watched().purged?;
        (purged.index >= last).then_some(())
    })
    .await;
    assert_eq!(lagging.state.snapshots_installed(), 0);

    // Heal: it gets the snapshot and what came after, and has deposed nobody (pre-vote).
    partition.set(lagging.identity.node_id(), false);
    let last = leader.write(batch(999, BATCH_BYTES)).await.unwrap();
    eventually(|| (lagging.applied() >= last).then_some(())).await;
    assert_eq!(lagging.state.snapshots_installed(), 1);
    assert_eq!(lagging.state.batches(), leader.state.batches());
    assert_eq!(
        leader.raft.metrics().borrow_watched().current_term,
        term,
        "the leader led on undisturbed"
    );

    // Hand over, and write through the new leader.
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    let to = lagging.identity.node_id();
    let new_term = leader.membership.transfer_leader(to, until).await.unwrap();
    assert!(new_term > term);
    let leader = leader_of(&nodes).await;
    assert_eq!(leader.identity.node_id(), to);
    let last = leader.write(batch(1_000, BATCH_BYTES)).await.unwrap();
    for node in &nodes {
        eventually(|| (node.applied() >= last).then_some(())).await;
    }
}
