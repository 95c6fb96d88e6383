//! The crash points that only processes come to: those of the image, which needs threads. Each is reached by
//! a node under load, which is killed right there, comes back, and has everything.

use std::{
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use client::{Client, Consistency, NewSale};
use fault_points::{
    BUG_VARIABLE, CRASH_VARIABLE,
    registry::{CRASH_POINTS, Passer},
};
use jepsen_tests::processes::NodeProcess;

/// Claims after which a point that was not reached never will be: some minutes of load.
const CLAIMS_MAX: u32 = 100_000;

/// What the kernel says of a process that was killed.
const SIGKILL: i32 = 9;

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_holdfast"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_in_the_middle_of_its_image_comes_back_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut nodes: Vec<NodeProcess> = (1..=3)
        .map(|id| NodeProcess::start(binary(), dir.path(), id).expect("a node starts"))
        .collect();
    let client = Client::builder()
        .endpoints(nodes.iter().map(|node| node.endpoint.clone()))
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

    let mut claims = 0;
    for point in CRASH_POINTS
        .iter()
        .filter(|point| point.passed_by == Passer::NodeProcess)
    {
        let victim = &mut nodes[2];
        victim.kill().unwrap();
        let crash = format!("{}:1", point.name);
        victim.set_environment(vec![(CRASH_VARIABLE.into(), crash.into())]);
        match victim.try_launch().unwrap() {
            // Killed while it started: it has said nothing since it said where it would be.
            Some(log) => assert!(log.trim_end().ends_with(point.name), "{}: {log}", point.name),
            None => {
                while victim.exited().unwrap().is_none() {
                    assert!(
                        claims < CLAIMS_MAX,
                        "{} was never reached: {}",
                        point.name,
                        point.what
                    );
                    let claim = client.claim("hot", format!("user-{claims}"));
                    let claim = claim.key(format!("key-{claims}")).send().await;
                    claim.expect("two of three nodes are a quorum");
                    claims += 1;
                }
                let ended = victim.exited().unwrap().expect("it has ended");
                assert_eq!(ended.signal(), Some(SIGKILL), "{}: {ended}", point.name);
            }
        }
        victim.set_environment(Vec::new());
        victim
            .launch()
            .unwrap_or_else(|error| panic!("killed at {}: {error}", point.name));

        let (sale, position) = client
            .get_sale("hot", Consistency::Linearizable)
            .await
            .expect("a leader");
        assert_eq!(sale.claims_made, claims, "{}", point.name);
        let mut digests = Vec::new();
        for node in &nodes {
            let hash = client
                .cluster()
                .state_hash(&node.endpoint, position.applied_index)
                .await;
            let hash = hash.unwrap_or_else(|error| panic!("after {}, node {}: {error}", point.name, node.id));
            assert!(
                hash.sales_wrong.is_empty(),
                "{}: node {} counts wrong",
                point.name,
                node.id
            );
            digests.push(hash.digest);
        }
        assert!(
            digests.iter().all(|digest| *digest == digests[0]),
            "replicas differ after {}",
            point.name
        );
    }
}

#[test]
fn unknown_names_are_refused_with_the_known_ones() {
    for (variable, value, known) in [
        (BUG_VARIABLE, "no-such-bug", "log-sync-skipped"),
        (CRASH_VARIABLE, "no-such-point:1", "vote-saved"),
        (CRASH_VARIABLE, "vote-saved:0", "counts passings from 1"),
    ] {
        let ended = Command::new(binary())
            .args(["node", "--dry-run"])
            .env(variable, value)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains(known), "{said}");
    }
}
