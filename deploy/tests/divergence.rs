//! A replica whose state goes astray ends by itself and says so, while the others sell on.

use std::{path::Path, process::Command, time::Duration};

use client::{Client, NewSale};
use fault_points::BUG_VARIABLE;
use jepsen_tests::processes::NodeProcess;

/// Gives every machine's own number a place in its state: with it in one process alone, that one goes astray.
const BUG: &str = "hash-order-in-state";

/// What a violated invariant exits with.
const VIOLATED: i32 = 6;

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_holdfast"))
}

/// Claims until the node has ended; gives how it did.
async fn claim_until_it_ends(client: &Client, node: &mut NodeProcess, name: &str) -> (Option<i32>, String) {
    let mut number = 0;
    loop {
        if let Some(status) = node.exited().unwrap() {
            let log = std::fs::read_to_string(node.log_path()).unwrap();
            return (status.code(), log);
        }
        let claim = client.claim("hot", format!("{name}-{number}"));
        let claim = claim.key(format!("{name}-{number}")).send().await;
        claim.expect("two of three nodes are a quorum");
        number += 1;
    }
}

fn verify(endpoints: &str) -> (Option<i32>, String) {
    let ran = Command::new(binary())
        .args(["verify", "--endpoints", endpoints, "-o", "json"])
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    (ran.status.code(), said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_state_ends_and_the_rest_sell_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut nodes: Vec<NodeProcess> = (1..=3)
        .map(|id| NodeProcess::start(binary(), dir.path(), id).expect("a node starts"))
        .collect();
    let endpoints: Vec<String> = nodes.iter().map(|node| node.endpoint.clone()).collect();
    let client = Client::builder()
        .endpoints(endpoints.clone())
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let members = nodes.iter().map(|node| (node.id, node.endpoint.clone()));
    client.cluster().init(members.collect()).await.expect("founded");
    let sale = NewSale {
        sale_id: "hot".into(),
        units_total: 1_000_000,
        open: true,
        ..NewSale::default()
    };
    client
        .create_sale(sale)
        .key("create")
        .send()
        .await
        .expect("a sale");

    nodes[2].kill().unwrap();
    nodes[2].set_environment(vec![(BUG_VARIABLE.into(), BUG.into())]);
    nodes[2].launch().unwrap();
    let (code, log) = claim_until_it_ends(&client, &mut nodes[2], "astray").await;
    assert_eq!(code, Some(VIOLATED), "{log}");
    assert!(log.contains("is not that of nodes [1, 2]"), "{log}");
    assert!(log.contains("and a peer's differ"), "{log}");
    for node in &mut nodes[..2] {
        assert!(node.is_running().unwrap(), "{}", node.log_tail());
    }

    // What it wrote down is wrong as well: without the bug it comes back with it, and ends again.
    nodes[2].set_environment(Vec::new());
    nodes[2].launch().unwrap();
    let (code, log) = claim_until_it_ends(&client, &mut nodes[2], "again").await;
    assert_eq!(code, Some(VIOLATED), "{log}");

    // The others are sound, and of the third nothing is known.
    let (code, said) = verify(&endpoints.join(","));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("\"balanced\": true"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_differ_are_told_apart_by_verify() {
    // Two voters: neither has a majority without the other, so both go on until the verdict's time is over,
    // which leaves a moment to look.
    let dir = tempfile::tempdir().unwrap();
    let mut nodes: Vec<NodeProcess> = (1..=2)
        .map(|id| NodeProcess::start(binary(), dir.path(), id).expect("a node starts"))
        .collect();
    let endpoints: Vec<String> = nodes.iter().map(|node| node.endpoint.clone()).collect();
    let client = Client::builder()
        .endpoints(endpoints.clone())
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let members = nodes.iter().map(|node| (node.id, node.endpoint.clone()));
    client.cluster().init(members.collect()).await.expect("founded");
    let sale = NewSale {
        sale_id: "hot".into(),
        units_total: 10,
        open: true,
        ..NewSale::default()
    };
    client
        .create_sale(sale)
        .key("create")
        .send()
        .await
        .expect("a sale");
    let (code, said) = verify(&endpoints.join(","));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("\"sound\": true"), "{said}");

    nodes[1].kill().unwrap();
    nodes[1].set_environment(vec![(BUG_VARIABLE.into(), BUG.into())]);
    nodes[1].launch().unwrap();
    client.claim("hot", "ann").key("k").send().await.expect("granted");
    let (code, said) = verify(&endpoints.join(","));
    assert_eq!(code, Some(VIOLATED), "{said}");
    assert!(said.contains("another state"), "{said}");

    // Nobody can tell who is right: both end.
    for node in &mut nodes {
        while node.exited().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(
            node.exited().unwrap().unwrap().code(),
            Some(VIOLATED),
            "{}",
            node.log_tail()
        );
    }
}
