//! A cluster goes from one version to the next under load, node by node, and some of the way back.
//!
//! This test's own binary stands for the next version: its machine knows one thing more, deleting a document whatever
//! its version, which older machines take for a version that no document has. `OLD_HOLDFAST` names the one to
//! upgrade from.

mod common;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use client::{Client, Consistency, Error, NodeStatus, Reason};
use common::{binary, done, endpoints, found, leader, load::Load, refused, replicas_agree, told, until};
use jepsen_tests::processes::NodeProcess;

/// Names the binary to upgrade from. Not one of ours, which nodes would take for settings.
const OLD_VARIABLE: &str = "OLD_HOLDFAST";

/// Units for sale: more than the load can take.
const UNITS: u32 = 10_000_000;

/// Claims that must be granted between two steps.
const CLAIMS_BETWEEN: usize = 300;

/// The machine's version in the build of this source, which is upgraded from.
const OLD: u64 = 2;

/// The version that the feature makes of it.
const NEXT: u64 = OLD + 1;

/// The document that only the next version can delete unseen.
const DOCUMENT: &str = "upgrade/document";

/// The binary to upgrade from.
fn old() -> PathBuf {
    let path = std::env::var_os(OLD_VARIABLE).unwrap_or_else(|| {
        panic!("{OLD_VARIABLE} must name the binary to upgrade from, built without `next-machine`: see README, Testing")
    });
    std::path::absolute(path).expect("a path")
}

async fn status(client: &Client, node: &NodeProcess) -> NodeStatus {
    let status = client.cluster().status(&node.endpoint).await;
    status.unwrap_or_else(|error| panic!("node {}: {error}", node.id))
}

/// Stops a node in order and starts it as another build, while the others serve; returns when it has caught up.
async fn becomes(client: &Client, nodes: &mut [NodeProcess], id: u64, binary: &Path) {
    let node = nodes.iter_mut().find(|node| node.id == id).expect("one of them");
    node.set_binary(binary);
    // Waiting for a process must not keep the load from running.
    tokio::task::block_in_place(|| {
        node.stop().expect("it stops");
        node.launch().expect("it starts as the other build");
    });
    let wanted = client
        .get_sale("hot", Consistency::Linearizable)
        .await
        .expect("it serves")
        .1;
    let node = &*node;
    until("the node has caught up", async || {
        status(client, node).await.applied_index >= wanted.applied_index
    })
    .await;
}

/// Asks for what only the next version knows.
async fn delete_any(client: &Client) -> Result<(), Error> {
    client.delete_document(DOCUMENT, 0).send().await.map(drop)
}

/// Asks for it while not every member knows it. An old leader says what it always said, a new one names a member that
/// does not: gives its words.
async fn kept_out(client: &Client) -> Option<String> {
    match delete_any(client).await {
        Err(Error::Rejected(why)) if why.reason == Reason::VersionMismatch => None,
        Err(Error::Unavailable { message, .. })
            if message.contains(&format!("needs machine version {NEXT}")) =>
        {
            Some(message)
        }
        other => panic!("{other:?}"),
    }
}

/// What a new leader says; this one, should an old one lead.
async fn kept_out_by(client: &Client, at: &str, heir: u64) -> String {
    let mut words = kept_out(client).await;
    until("a new one leads", async || {
        if words.is_none() {
            done(at, &["member", "transfer-leader", &heir.to_string()]).await;
            words = kept_out(client).await;
        }
        words.is_some()
    })
    .await;
    words.expect("waited for")
}

async fn document_is_there(client: &Client) -> bool {
    let found = client.get_document(DOCUMENT, Consistency::Linearizable).await;
    found.expect("it serves").is_some()
}

/// Two snapshots, and nothing in the leader's log before the first: who joins now is sent a snapshot.
async fn purged(client: &Client, nodes: &[NodeProcess], load: &Load) {
    let id = leader(client).await;
    let node = nodes.iter().find(|node| node.id == id).expect("one of them");
    for _ in 0..2 {
        done(&node.endpoint, &["snapshot", "take"]).await;
        load.flows(CLAIMS_BETWEEN).await;
    }
    until("its log is purged", async || {
        status(client, node).await.purged_index > 0
    })
    .await;
}

/// How a node that is started as the old build says no.
fn too_old(node: &mut NodeProcess) -> String {
    node.set_binary(&old());
    let why = tokio::task::block_in_place(|| node.try_launch()).expect("it ends by itself");
    let why = why.expect("it must not serve");
    let last = why.lines().last().expect("last words");
    assert!(
        last.contains(&format!("machine version {NEXT}, this program knows up to {OLD}")),
        "{why}"
    );
    assert!(last.contains("start a Holdfast at least as new"), "{why}");
    last.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_upgraded_under_load_and_what_is_new_waits_for_the_last() {
    let (dir, old, next) = (tempfile::tempdir().unwrap(), old(), binary());
    let mut nodes: Vec<NodeProcess> = (1..=3)
        .map(|id| NodeProcess::start(&old, dir.path(), id).expect("a node starts"))
        .collect();
    let everybody = BTreeSet::from([1, 2, 3]);
    let client = found(&nodes, UNITS).await;
    let at = endpoints(&nodes);
    let put = client.put_document(DOCUMENT, "{}", 0).key("put").send().await;
    put.expect("documents came with the first version");
    let load = Load::start(&client, "upgrade");
    load.flows(CLAIMS_BETWEEN).await;
    told(&at, &[OLD, OLD, OLD]).await;

    // Followers first. An old leader does not know what is new, and says what it always said.
    let last = leader(&client).await;
    let followers: Vec<u64> = everybody.iter().copied().filter(|id| *id != last).collect();
    for &id in &followers {
        becomes(&client, &mut nodes, id, next).await;
        load.flows(CLAIMS_BETWEEN).await;
        kept_out(&client).await;
        replicas_agree(&client, &nodes, &everybody).await;
    }

    // A new leader knows it, and keeps it out while one node does not: by its name, and nothing happens.
    done(&at, &["member", "transfer-leader", &followers[0].to_string()]).await;
    load.flows(CLAIMS_BETWEEN).await;
    let mixed: Vec<u64> = everybody
        .iter()
        .map(|id| if *id == last { OLD } else { NEXT })
        .collect();
    told(&at, &mixed).await;
    assert_eq!(
        kept_out_by(&client, &at, followers[0]).await,
        format!("this command needs machine version {NEXT}; node {last} knows {OLD}: upgrade it first")
    );
    assert!(document_is_there(&client).await);
    let health = common::holdfast(&at, &["cluster", "health"]).await;
    let table = String::from_utf8_lossy(&health.stdout).into_owned();
    let wanted = format!("node {last} runs ");
    let named = table.lines().find(|line| line.contains(&wanted));
    assert!(
        health.status.code() == Some(1)
            && named.is_some_and(|line| line.contains(&format!("machine version {OLD}"))),
        "{table}"
    );

    // Nothing new was used: a node can go back, and an old one can join, even by the snapshot of a new leader.
    becomes(&client, &mut nodes, followers[1], &old).await;
    load.flows(CLAIMS_BETWEEN).await;
    replicas_agree(&client, &nodes, &everybody).await;
    purged(&client, &nodes, &load).await;
    nodes.push(NodeProcess::start(&old, dir.path(), 4).expect("a node starts"));
    done(&at, &["member", "add", "4", &nodes[3].endpoint]).await;
    load.flows(CLAIMS_BETWEEN).await;
    replicas_agree(&client, &nodes, &BTreeSet::from([1, 2, 3, 4])).await;
    assert!(
        status(&client, &nodes[3]).await.snapshot_index > 0,
        "it was sent a snapshot"
    );

    // Learners count as well.
    becomes(&client, &mut nodes, followers[1], next).await;
    becomes(&client, &mut nodes, last, next).await;
    told(&at, &[NEXT, NEXT, NEXT, OLD]).await;
    let words = kept_out_by(&client, &at, last).await;
    assert!(words.contains(&format!("node 4 knows {OLD}")), "{words}");
    done(&at, &["member", "remove", "4", "--yes"]).await;
    load.flows(CLAIMS_BETWEEN).await;
    for node in &nodes[..3] {
        assert_eq!(
            status(&client, node).await.machine_version_needed,
            1,
            "node {}",
            node.id
        );
    }

    // Everybody knows it: it is done everywhere, and there is no way back.
    told(&at, &[NEXT, NEXT, NEXT]).await;
    delete_any(&client).await.expect("every member knows it");
    assert!(!document_is_there(&client).await);
    replicas_agree(&client, &nodes, &everybody).await;
    for node in &nodes[..3] {
        assert_eq!(
            u64::from(status(&client, node).await.machine_version_needed),
            NEXT,
            "node {}",
            node.id
        );
    }
    load.flows(CLAIMS_BETWEEN).await;

    // An old build refuses the directory, whichever of image, log and snapshot it would begin with.
    let follower = everybody
        .iter()
        .copied()
        .find(|id| *id != followers[0])
        .expect("two follow");
    let node = nodes
        .iter_mut()
        .find(|node| node.id == follower)
        .expect("one of them");
    let data = dir.path().join(format!("node-{follower}")).join("data");
    tokio::task::block_in_place(|| node.stop().expect("it stops"));
    assert!(too_old(node).contains("data/image has machine version"));
    std::fs::remove_dir_all(data.join("image")).expect("it was there");
    assert!(too_old(node).contains("data/log has machine version"));
    node.set_binary(next);
    tokio::task::block_in_place(|| node.launch().expect("the new one makes what is missing anew"));
    done(&node.endpoint, &["snapshot", "take"]).await;
    tokio::task::block_in_place(|| node.stop().expect("it stops"));
    std::fs::remove_dir_all(data.join("image")).expect("it was there");
    let why = too_old(node);
    assert!(why.contains("data/snapshots/"), "{why}");
    node.set_binary(next);
    tokio::task::block_in_place(|| node.launch().expect("nothing was harmed"));

    // Nor does an old one join any more.
    nodes.push(NodeProcess::start(&old, dir.path(), 5).expect("a node starts"));
    let newcomer = nodes[4].endpoint.clone();
    let why = refused(&at, &["member", "add", "5", &newcomer]).await;
    assert!(
        why.contains(&format!(
            "commands of machine version {NEXT} are in this cluster's log, and node 5 knows up to {OLD}"
        )),
        "{why}"
    );
    load.flows(CLAIMS_BETWEEN).await;

    let told = load.stop().await;
    common::load::nothing_failed_nothing_lost(&client, &told).await;
    replicas_agree(&client, &nodes, &everybody).await;
    done(&at, &["verify"]).await;
}
