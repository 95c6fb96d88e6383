//! The shipped binary as a cluster of processes: killed, restarted, grown and shrunk.

mod common;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use client::{Claim, ClaimStatus, Client, Consistency, Error, Operation, Resolution};
use common::{client, found, start, until};
use jepsen_tests::processes::NodeProcess;

/// Callers of the load, each with one claim on its way.
const CALLERS: usize = 8;

/// Grants acknowledged before the power goes.
const GRANTS_BEFORE: usize = 300;

/// What callers were told.
#[derive(Default)]
struct Told {
    granted: Vec<Claim>,
    unknown: Vec<usize>,
}

/// Claims for one user after the other until a call fails.
async fn claim_until_failure(client: Client, next: Arc<AtomicUsize>, granted: Arc<AtomicUsize>) -> Told {
    let mut told = Told::default();
    loop {
        let user = next.fetch_add(1, Ordering::Relaxed);
        match client
            .claim("hot", format!("user-{user}"))
            .key(format!("key-{user}"))
            .send()
            .await
        {
            Ok(claimed) => told.granted.push(claimed.claim),
            Err(Error::Rejected(why)) => panic!("user-{user}: {why:?}"),
            // Whichever it was called, the key knows.
            Err(Error::Unknown { .. } | Error::Unavailable { .. }) => {
                told.unknown.push(user);
                return told;
            }
        }
        granted.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_all_nodes_are_killed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut nodes = start(dir.path(), 3);
    let _ = found(&nodes, 1_000_000).await;
    // Callers that give up soon, since nobody will answer them.
    let endpoints: Vec<_> = nodes.iter().map(|node| node.endpoint.clone()).collect();
    let load = Client::builder()
        .endpoints(endpoints)
        .timeout(Duration::from_secs(2))
        .build()
        .unwrap();
    let (next, granted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| tokio::spawn(claim_until_failure(load.clone(), next.clone(), granted.clone())))
        .collect();
    until("claims are granted", async || {
        granted.load(Ordering::Relaxed) >= GRANTS_BEFORE
    })
    .await;
    for node in &mut nodes {
        node.kill().unwrap();
    }
    let mut told = Told::default();
    for caller in callers {
        let heard = caller.await.unwrap();
        told.granted.extend(heard.granted);
        told.unknown.extend(heard.unknown);
    }
    for node in &mut nodes {
        node.launch().expect("a killed node starts again");
    }

    let client = client(&nodes);
    for user in &told.unknown {
        let (key, name) = (format!("key-{user}"), format!("user-{user}"));
        let (resolution, _) = client
            .resolve("hot", Operation::Claim, &key, &name)
            .await
            .expect("unknowns become facts");
        match resolution {
            Resolution::Claim(claim) => told.granted.push(claim),
            Resolution::Abandoned { .. } => {}
            Resolution::Effect(_) => panic!("a claim's key has the effect of a claim"),
        }
    }
    let (claims, _) = client
        .list_claims("hot", 1, 10_000, Consistency::Linearizable)
        .await
        .unwrap();
    for granted in &told.granted {
        let found = claims.iter().find(|claim| claim.claim_id == granted.claim_id);
        let found = found.unwrap_or_else(|| panic!("lost: {granted:?}"));
        assert_eq!(
            (found.receipt, found.status),
            (granted.receipt, ClaimStatus::Held)
        );
    }
    assert_eq!(claims.len(), told.granted.len(), "nobody was told of the rest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_survives_its_leader_grows_and_shrinks() {
    let dir = tempfile::tempdir().unwrap();
    let mut nodes = start(dir.path(), 3);
    let client = found(&nodes, 10).await;
    let claim = client
        .claim("hot", "alice")
        .key("order")
        .send()
        .await
        .unwrap()
        .claim;

    let status = client.cluster().status(&nodes[0].endpoint).await.unwrap();
    let leader = nodes
        .iter_mut()
        .find(|node| node.id == status.leader_id)
        .expect("one of them leads");
    leader.kill().unwrap();
    let confirm = || {
        client
            .confirm(claim.claim_id.clone(), claim.fencing_token)
            .key("paid")
            .send()
    };
    let (confirmed, _) = confirm().await.expect("the others go on");
    assert_eq!(confirmed.status, ClaimStatus::Confirmed);
    let leader = nodes.iter_mut().find(|node| node.id == status.leader_id).unwrap();
    leader.launch().expect("it comes back");
    assert_eq!(
        confirm().await.unwrap().0,
        confirmed,
        "the same key, the same answer"
    );

    let binary = Path::new(env!("CARGO_BIN_EXE_holdfast"));
    nodes.push(NodeProcess::start(binary, dir.path(), 4).unwrap());
    let cluster = client.cluster();
    cluster
        .add_learner(4, &nodes[3].endpoint)
        .await
        .expect("a learner is added");
    // Promotion is refused until the learner has caught up.
    let voters = loop {
        match cluster.promote(vec![4]).await {
            Ok(members) => break members.iter().filter(|member| member.voter).count(),
            Err(Error::Unavailable { .. } | Error::Unknown { .. } | Error::Rejected(_)) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    assert_eq!(voters, 4);
    let members = cluster.remove(1, false).await.expect("a voter is removed");
    assert_eq!(
        members.iter().map(|member| member.node_id).collect::<Vec<_>>(),
        [2, 3, 4]
    );

    // Its id is gone for good, and the command line says so.
    let again = dir.path().join("again");
    let stranger = NodeProcess::start(binary, &again, 1).unwrap();
    let refused = std::process::Command::new(binary)
        .args(["--endpoints", &nodes[1].endpoint, "member", "add", "1"])
        .arg(&stranger.endpoint)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(5), "{said}");
    assert!(said.contains("ids only grow"), "{said}");

    // All that are left have the same state, and it is the one that was acknowledged.
    client.claim("hot", "bob").key("another").send().await.unwrap();
    let index = client
        .get_sale("hot", Consistency::Linearizable)
        .await
        .unwrap()
        .1
        .applied_index;
    let mut digests = Vec::new();
    for node in nodes.iter().filter(|node| node.id != 1) {
        let hash = cluster.state_hash(&node.endpoint, index).await.unwrap();
        assert!(hash.sales_wrong.is_empty());
        digests.push(hash.digest);
        let sale = cluster.sale_at(&node.endpoint, "hot").await.unwrap().0;
        assert_eq!(
            (sale.units_available, sale.units_held, sale.units_confirmed),
            (8, 1, 1)
        );
    }
    assert!(
        digests.windows(2).all(|pair| pair[0] == pair[1]),
        "replicas differ at index {index}"
    );
}
