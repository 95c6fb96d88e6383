//! The restore drill: a backup taken under load becomes a new cluster, and the sale goes on there.

mod common;

use std::{collections::BTreeSet, fs, path::Path};

use client::{ClaimStatus, Client, Consistency, Grant};
use common::{
    binary, client, done, endpoints, found, holdfast,
    load::{Load, records},
    refused, said, start,
};
use jepsen_tests::processes::NodeProcess;
use serde_json::Value;

const UNITS: u32 = 10_000_000;

/// Claims that must be granted between two steps.
const CLAIMS_BETWEEN: usize = 300;

/// Saves a backup and gives its manifest.
async fn save(at: &str, path: &Path) -> Value {
    let line = path.display().to_string();
    let text = done(at, &["-o", "json", "backup", "save", &line]).await;
    let mut saved: Value = serde_json::from_str(&text).expect("JSON");
    saved["manifest"].take()
}

/// The state hash of every node at one index: one, or they differ.
async fn state_hashes(client: &Client, nodes: &[NodeProcess], log_index: u64) -> BTreeSet<String> {
    let mut hashes = BTreeSet::new();
    for node in nodes {
        let hash = client.cluster().state_hash(&node.endpoint, log_index).await;
        let hash = hash.expect("every node has that index");
        assert!(hash.sales_wrong.is_empty(), "node {}", node.id);
        hashes.insert(hash.digest.iter().map(|byte| format!("{byte:02x}")).collect());
    }
    hashes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_restored_elsewhere_and_the_sale_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = start(dir.path(), 3);
    let shop = found(&old, UNITS).await;
    let at = endpoints(&old);

    // Three stories that must be told the same way after the restore.
    let claim = async |shop: &Client, user: &str| {
        let claimed = shop.claim("hot", user).key(format!("order-{user}")).send().await;
        claimed.unwrap_or_else(|error| panic!("{user}: {error}"))
    };
    let alice = claim(&shop, "alice").await.claim;
    let bob = claim(&shop, "bob").await.claim;
    let confirm = async |shop: &Client| {
        let confirm = shop.confirm(bob.claim_id.clone(), bob.fencing_token);
        confirm.key("bob-paid").send().await.expect("bob pays").0
    };
    let bob_paid = confirm(&shop).await;
    let carol = claim(&shop, "carol").await.claim;
    let release = shop.release(carol.claim_id.clone(), carol.fencing_token);
    release.key("carol-leaves").send().await.expect("carol leaves");

    let load = Load::start(&shop, "before");
    load.flows(CLAIMS_BETWEEN).await;
    let saved = dir.path().join("saved");
    fs::create_dir(&saved).unwrap();
    let manifest = save(&at, &saved).await;
    load.flows(CLAIMS_BETWEEN).await;
    done(&at, &["snapshot", "take"]).await;
    let listed = done(&at, &["-o", "json", "snapshot", "verify"]).await;
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let listed = listed["snapshots"].as_array().expect("a list");
    let nodes: BTreeSet<_> = listed.iter().filter_map(|one| one["node_id"].as_u64()).collect();
    assert_eq!(nodes, BTreeSet::from([1, 2, 3]), "{listed:?}");
    assert!(
        listed
            .iter()
            .all(|one| one["damage"].is_null() && one["log_index"].as_u64() > manifest["log_index"].as_u64()),
        "{listed:?}"
    );
    let told = load.stop().await;
    common::load::nothing_failed_nothing_lost_beside(&shop, &told, 3).await;

    // One file, named by its index; its state hash is that of the replicas at that index.
    let file = fs::read_dir(&saved).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_dir(&saved).unwrap().count(), 1, "nothing half done");
    let log_index = manifest["log_index"].as_u64().unwrap();
    assert!(file.ends_with(format!("holdfast-{log_index}.backup")));
    let hash = manifest["state_hash"].as_str().unwrap().to_owned();
    assert_eq!(state_hashes(&shop, &old, log_index).await, BTreeSet::from([hash]));
    let follower = manifest["node_id"].as_u64().unwrap();
    assert!((1..=3).contains(&follower));
    let line = file.display().to_string();
    let why = refused(&at, &["backup", "save", &line]).await;
    assert!(why.contains("is there already"), "{why}");

    // The old cluster is gone; new machines take its place.
    for node in &mut old {
        node.kill().unwrap();
    }
    let mut new: Vec<NodeProcess> = (4..=6)
        .map(|id| {
            let mut node = NodeProcess::start(binary(), dir.path(), id).expect("a node starts");
            node.kill().unwrap();
            fs::remove_dir_all(data_dir(dir.path(), id)).unwrap();
            node
        })
        .collect();
    let members: Vec<String> = new
        .iter()
        .map(|node| format!("{}={}", node.id, node.endpoint))
        .collect();
    let restored = dir.path().join("restored");
    let target = restored.display().to_string();
    let restore = |file: &str, target: &str, members: &[String]| {
        let mut line = vec!["-o".to_owned(), "json".to_owned(), "backup".to_owned()];
        line.extend(["restore".to_owned(), file.to_owned(), target.to_owned()]);
        for member in members {
            line.extend(["--member".to_owned(), member.clone()]);
        }
        line
    };
    let words = |line: &[String]| line.iter().map(String::as_str).collect::<Vec<_>>().join(" ");

    // Damaged or cut, over data, with an id of the old cluster: refused, and nothing is there afterwards.
    let whole = fs::read(&file).unwrap();
    let spoilt = dir.path().join("spoilt");
    let spoilt_line = spoilt.display().to_string();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    for (bytes, named) in [
        (&flipped[..], "damaged in its snapshot"),
        (&whole[..whole.len() - 1], "it is cut off"),
        (&whole[..40], "damaged in its manifest"),
    ] {
        fs::write(&spoilt, bytes).unwrap();
        let why = refused(&at, &["backup", "verify", &spoilt_line]).await;
        assert!(why.contains(named), "{why}");
        let line = restore(&spoilt_line, &target, &members);
        let why = refused(&at, &refs(&line)).await;
        assert!(why.contains(named), "{}: {why}", words(&line));
        assert!(!restored.exists());
    }
    let occupied = data_dir(dir.path(), 1).display().to_string();
    let why = refused(&at, &refs(&restore(&line, &occupied, &members))).await;
    assert!(why.contains("holds the data of node 1"), "{why}");
    let used = [format!("3={}", new[0].endpoint)];
    let why = refused(&at, &refs(&restore(&line, &target, &used))).await;
    assert!(why.contains("ids are never reused"), "{why}");
    assert!(!restored.exists());

    done(&at, &["backup", "verify", &line]).await;
    let text = done(&at, &refs(&restore(&line, &target, &members))).await;
    let report: Value = serde_json::from_str(&text).expect("JSON");
    for node in &mut new {
        let made = restored.join(format!("node-{}", node.id));
        fs::rename(made, data_dir(dir.path(), node.id)).unwrap();
        node.launch().expect("a restored node starts");
    }
    let shop = client(&new);
    let at = endpoints(&new);
    let (sale, _) = shop.get_sale("hot", Consistency::Linearizable).await.unwrap();
    assert_eq!(sale.units_total, UNITS, "somebody leads, and the sale is there");

    // The same contents, before anybody adds to them, and the same state everywhere.
    let again = save(&at, &dir.path().join("again.backup")).await;
    assert_eq!(again["contents_hash"], manifest["contents_hash"]);
    assert_eq!(again["incarnation"], 2);
    assert_ne!(again["cluster_id"], manifest["cluster_id"]);
    assert!(again["log_time_ms"].as_u64() >= manifest["log_time_ms"].as_u64());
    let begins = report["log_index"].as_u64().unwrap();
    assert_eq!(
        state_hashes(&shop, &new, begins).await,
        BTreeSet::from([report["state_hash"].as_str().unwrap().to_owned()])
    );

    // What was acknowledged before the backup is there, and only what somebody was told.
    let recorded = records(&shop).await;
    let mut known: BTreeSet<_> = [&alice, &bob, &carol].map(|claim| claim.claim_id.clone()).into();
    for (user, answer) in &told {
        let claim = answer.as_ref().expect("nothing failed");
        known.insert(claim.claim_id.clone());
        let before = claim.receipt.log_index <= log_index;
        assert!(
            !before || recorded.contains_key(&claim.claim_id),
            "lost: {user}'s {claim:?}"
        );
    }
    assert!(recorded.keys().all(|claim_id| known.contains(claim_id)));
    assert!(
        recorded.len() < known.len(),
        "claims after the backup are not in it"
    );

    // Keys know what they did; holds have time left; the sale goes on.
    let repeated = claim(&shop, "alice").await;
    assert_eq!(
        (repeated.grant, &repeated.claim.claim_id),
        (Grant::Repeated, &alice.claim_id)
    );
    assert_eq!(repeated.claim.status, ClaimStatus::Held);
    assert_eq!(confirm(&shop).await, bob_paid, "the same key, the same answer");
    let paid = shop.confirm(alice.claim_id.clone(), alice.fencing_token);
    let (paid, _) = paid.key("alice-paid").send().await.expect("alice pays");
    assert_eq!(paid.status, ClaimStatus::Confirmed);
    assert_eq!(recorded[&carol.claim_id].status, ClaimStatus::Released);
    let dave = claim(&shop, "dave").await;
    assert_eq!(dave.grant, Grant::Granted);
    assert!(dave.claim.receipt.log_index > begins && !known.contains(&dave.claim.claim_id));

    // It is a cluster like any other: it grows, and what it never had in its log is sent as a snapshot.
    new.push(NodeProcess::start(binary(), dir.path(), 7).expect("a node starts"));
    let endpoint = new[3].endpoint.clone();
    done(&at, &["member", "add", "7", &endpoint]).await;
    done(&at, &["member", "promote", "7", "--yes"]).await;
    let (_, position) = shop.get_sale("hot", Consistency::Linearizable).await.unwrap();
    assert_eq!(state_hashes(&shop, &new, position.applied_index).await.len(), 1);

    // A node of the old cluster is none of this one.
    old[2].launch().expect("it starts, alone");
    let output = holdfast(&at, &["member", "add", "3", &old[2].endpoint]).await;
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
}

/// Where a tested node keeps its data.
fn data_dir(dir: &Path, id: u64) -> std::path::PathBuf {
    dir.join(format!("node-{id}/data"))
}

fn refs(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}
