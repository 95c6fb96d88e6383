//! What tests of the shipped binary share: a cluster of processes, the command line, and load.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod load;
pub mod served;

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use client::{Client, Consistency, NewSale};
use jepsen_tests::processes::NodeProcess;
use tokio::time;

/// The binary under test.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_holdfast"))
}

/// Nodes 1 to `count`, each on an empty directory below `dir`.
pub fn start(dir: &Path, count: u64) -> Vec<NodeProcess> {
    (1..=count)
        .map(|id| NodeProcess::start(binary(), dir, id).expect("a node starts"))
        .collect()
}

/// How long a claim of the sale holds, in milliseconds: longer than any test takes.
const HOLD_MS: u64 = 12 * 3_600_000;

/// A founded cluster with an open sale.
pub async fn found(nodes: &[NodeProcess], units_total: u32) -> Client {
    let client = client(nodes);
    let members: Vec<_> = nodes
        .iter()
        .map(|node| (node.id, node.endpoint.clone()))
        .collect();
    client
        .cluster()
        .init(members)
        .await
        .expect("a new cluster is founded");
    let sale = NewSale {
        sale_id: "hot".into(),
        units_total,
        price_minor: 4_900,
        currency: "EUR".into(),
        open: true,
        hold_ms: HOLD_MS,
        ..NewSale::default()
    };
    client
        .create_sale(sale)
        .key("create")
        .send()
        .await
        .expect("a sale is created");
    client
}

/// Every endpoint, as the command line takes them.
pub fn endpoints(nodes: &[NodeProcess]) -> String {
    let endpoints: Vec<_> = nodes.iter().map(|node| node.endpoint.clone()).collect();
    endpoints.join(",")
}

/// A client of these nodes.
pub fn client(nodes: &[NodeProcess]) -> Client {
    let endpoints = nodes.iter().map(|node| node.endpoint.clone());
    Client::builder()
        .endpoints(endpoints)
        .timeout(Duration::from_secs(30))
        .build()
        .expect("endpoints are well formed")
}

/// Runs the command line against these nodes.
pub async fn holdfast(endpoints: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(["--endpoints", endpoints]).args(arguments);
    // The test's own tasks go on meanwhile.
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    output.expect("waiting does not panic").expect("the binary runs")
}

/// Runs the command line, which must succeed, and gives its standard output.
pub async fn done(endpoints: &str, arguments: &[&str]) -> String {
    let output = holdfast(endpoints, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs the command line, which must refuse for safety, and gives what it says.
pub async fn refused(endpoints: &str, arguments: &[&str]) -> String {
    let output = holdfast(endpoints, arguments).await;
    assert_eq!(output.status.code(), Some(5), "{arguments:?}: {}", said(&output));
    said(&output)
}

/// What a command wrote to standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Who leads.
pub async fn leader(client: &Client) -> u64 {
    let views = client.cluster().status_all().await;
    let leads = |status: &client::NodeStatus| status.role == "leader";
    let mut views = views.into_iter().filter_map(|(_, status)| status.ok());
    views.find(leads).expect("one of them leads").node_id
}

/// Every member that runs has the same state at one index, and its counters are right.
pub async fn replicas_agree(client: &Client, nodes: &[NodeProcess], members: &BTreeSet<u64>) {
    let (_, position) = client.get_sale("hot", Consistency::Linearizable).await.unwrap();
    let mut digests = BTreeSet::new();
    for node in nodes.iter().filter(|node| members.contains(&node.id)) {
        let cluster = client.cluster();
        let hash = cluster.state_hash(&node.endpoint, position.applied_index).await;
        let hash = hash.expect("every member has that index");
        assert!(hash.sales_wrong.is_empty(), "node {}", node.id);
        digests.insert(hash.digest);
    }
    assert_eq!(digests.len(), 1, "replicas differ");
}

/// Which version of the machine each member has told the leader.
async fn machine_versions(at: &str) -> Vec<Option<u64>> {
    let text = done(at, &["-o", "json", "member", "list"]).await;
    let list: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let members = list["members"].as_array().expect("a list").iter();
    members.map(|member| member["machine_version"].as_u64()).collect()
}

/// Longest that a test waits for anything: so long that a slow machine comes to it, and a test ends that waits in vain.
pub const WAIT_MAX: Duration = Duration::from_secs(120);

/// Time between two looks: looking without rest would take from those who are waited for.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Waits until it is so.
///
/// # Panics
/// When it is not after [`WAIT_MAX`].
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            time::sleep(LOOK_PAUSE).await;
        }
    };
    let waited = time::timeout(WAIT_MAX, waiting).await;
    waited.unwrap_or_else(|_| panic!("after {WAIT_MAX:?}, still not: {what}"));
}

/// Waits until the leader has heard from each member that it knows these versions of the machine: clocks, which carry
/// it, are exchanged about once a second.
pub async fn told(at: &str, wanted: &[u64]) {
    let wanted: Vec<_> = wanted.iter().copied().map(Some).collect();
    let what = format!("members tell versions {wanted:?}; builds of before versions tell none");
    let mut told = Vec::new();
    until(&what, async || {
        let versions = machine_versions(at).await;
        if versions != told {
            eprintln!("members tell versions {versions:?}");
            told = versions;
        }
        told == wanted
    })
    .await;
}
