//! Members come and go while shoppers claim: nobody notices.

mod common;

use std::{collections::BTreeSet, path::Path, process::Stdio};

use common::{
    binary, done, endpoints, found, holdfast, leader, load::Load, refused, replicas_agree, said, start, told,
    until,
};
use jepsen_tests::processes::NodeProcess;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Units for sale: more than any of these loads can take.
const UNITS: u32 = 10_000_000;

/// Claims that must be granted between two steps.
const CLAIMS_BETWEEN: usize = 500;

fn grow(nodes: &mut Vec<NodeProcess>, dir: &Path, id: u64) -> String {
    nodes.push(NodeProcess::start(binary(), dir, id).expect("a node starts"));
    nodes.last().expect("just added").endpoint.clone()
}

/// Who votes, as the command line shows it.
async fn voters(endpoints: &str) -> BTreeSet<u64> {
    let text = done(endpoints, &["-o", "json", "member", "list"]).await;
    let list: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let members = list["members"].as_array().expect("a list").iter();
    members
        .filter(|member| member["voter"] == true)
        .map(|member| member["node_id"].as_u64().expect("an id"))
        .collect()
}

/// Waits until a node has ended by itself; gives what it said.
async fn ended(nodes: &mut [NodeProcess], id: u64) -> String {
    let node = nodes
        .iter_mut()
        .find(|node| node.id == id)
        .expect("it was started");
    until("the node has ended", async || {
        node.exited().expect("the system knows").is_some()
    })
    .await;
    node.log_tail()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_under_load_grows_to_five_and_shrinks_to_three_without_its_leader() {
    let dir = tempfile::tempdir().unwrap();
    let mut nodes = start(dir.path(), 3);
    let client = found(&nodes, UNITS).await;
    let at = endpoints(&nodes);
    let load = Load::start(&client, "grow");
    load.flows(CLAIMS_BETWEEN).await;

    for id in [4, 5] {
        let endpoint = grow(&mut nodes, dir.path(), id);
        done(&at, &["member", "add", &id.to_string(), &endpoint]).await;
        done(&at, &["member", "promote", &id.to_string(), "--yes"]).await;
        load.flows(CLAIMS_BETWEEN).await;
    }
    assert_eq!(voters(&at).await, BTreeSet::from([1, 2, 3, 4, 5]));

    // The leader hands over and goes, then so does the next one.
    let mut stay: BTreeSet<u64> = (1..=5).collect();
    for _ in 0..2 {
        let id = leader(&client).await;
        let line = [id.to_string()];
        let output = holdfast(&at_of(&nodes, &stay), &["member", "remove", &line[0], "--yes"]).await;
        assert!(output.status.success(), "{}", said(&output));
        assert!(
            said(&output).contains("hands leadership over first"),
            "{}",
            said(&output)
        );
        stay.remove(&id);
        let last_words = ended(&mut nodes, id).await;
        assert!(
            last_words.contains("was removed from the cluster"),
            "node {id}: {last_words}"
        );
        load.flows(CLAIMS_BETWEEN).await;
    }
    let at = at_of(&nodes, &stay);
    assert_eq!(voters(&at).await, stay);
    let stays = nodes.iter().find(|node| stay.contains(&node.id));
    let own = client
        .cluster()
        .status(&stays.expect("three stay").endpoint)
        .await;
    told(&at, &[own.expect("it serves").machine_version.into(); 3]).await;

    let told = load.stop().await;
    common::load::nothing_failed_nothing_lost(&client, &told).await;
    assert!(common::load::confirmed(&told) > 0);
    replicas_agree(&client, &nodes, &stay).await;
}

/// The endpoints of these nodes.
fn at_of(nodes: &[NodeProcess], ids: &BTreeSet<u64>) -> String {
    let nodes = nodes.iter().filter(|node| ids.contains(&node.id));
    let endpoints: Vec<_> = nodes.map(|node| node.endpoint.clone()).collect();
    endpoints.join(",")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_node_is_replaced_under_load_though_the_command_is_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let mut nodes = start(dir.path(), 3);
    let client = found(&nodes, UNITS).await;
    let load = Load::start(&client, "replace");
    load.flows(CLAIMS_BETWEEN).await;
    let leads = leader(&client).await;
    let (destroyed, other) = match leads {
        1 => (2, 3),
        2 => (3, 1),
        _ => (1, 2),
    };
    let place = nodes.iter().position(|node| node.id == destroyed).unwrap();
    let mut lost = nodes.remove(place);
    lost.kill().unwrap();
    std::fs::remove_dir_all(dir.path().join(format!("node-{destroyed}"))).unwrap();
    let at = endpoints(&nodes);
    load.flows(CLAIMS_BETWEEN).await;

    // Of three, one is gone: nobody else may go, and nothing changes by asking.
    let line = other.to_string();
    let why = refused(&at, &["member", "remove", &line, "--yes"]).await;
    assert!(
        why.contains(&format!("silent: [{destroyed}]")) && why.contains("nothing changed"),
        "{why}"
    );
    let endpoint = grow(&mut nodes, dir.path(), 4);
    let old = destroyed.to_string();
    let replace = ["member", "replace", &old, "4", &endpoint];
    let shown = holdfast(&at, &[&replace[..], &["--dry-run"]].concat()).await;
    assert!(
        shown.status.success() && said(&shown).contains("nothing done"),
        "{}",
        said(&shown)
    );
    let why = refused(&at, &replace).await;
    assert!(why.contains("--yes"), "nobody is there to agree: {why}");
    assert_eq!(voters(&at).await, BTreeSet::from([1, 2, 3]));

    interrupted(&at, &replace).await;
    load.flows(CLAIMS_BETWEEN).await;
    // Wherever it stopped, it goes on from there; done, there is nothing left to do.
    for _ in 0..2 {
        done(&at, &[&replace[..], &["--yes"]].concat()).await;
        assert_eq!(voters(&at).await, BTreeSet::from([leads, other, 4]));
    }
    load.flows(CLAIMS_BETWEEN).await;
    let told = load.stop().await;
    common::load::nothing_failed_nothing_lost(&client, &told).await;
    replicas_agree(&client, &nodes, &BTreeSet::from([leads, other, 4])).await;
}

/// Begins a change and interrupts it, as Ctrl-C does, once its first step is done.
async fn interrupted(at: &str, change: &[&str]) {
    let mut command = tokio::process::Command::new(binary());
    command
        .args(["--endpoints", at, "--yes"])
        .args(change)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut running = command.spawn().expect("the binary runs");
    let mut lines = BufReader::new(running.stderr.take().expect("piped")).lines();
    while let Some(line) = lines.next_line().await.expect("its words are text") {
        if line.starts_with("done: add") {
            break;
        }
    }
    let pid = running
        .id()
        .and_then(|pid| Pid::from_raw(pid as i32))
        .expect("it was not waited for yet");
    kill_process(pid, Signal::INT).expect("it is ours");
    running.wait().await.expect("it ends");
}
