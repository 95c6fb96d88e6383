//! What a node of the shipped binary tells Prometheus.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use client::{Client, Error, NewSale};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Gone already, if it cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a node; gives its addresses for gRPC and, if it has one, for metrics.
async fn start(dir: &Path, settings: &[&str]) -> (Killed, String, Option<String>) {
    let ready = dir.join("ready");
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command
        .args([
            "node",
            "--listen",
            "127.0.0.1:0",
            "--set",
            "node.log_segment_bytes=4194304",
        ])
        .arg("--data-dir")
        .arg(dir.join("data"))
        .arg("--ready-file")
        .arg(&ready)
        .stderr(Stdio::null());
    for setting in settings {
        command.args(["--set", setting]);
    }
    let mut node = Killed(command.spawn().unwrap());
    let said = loop {
        if let Ok(said) = std::fs::read(&ready) {
            break said;
        }
        assert_eq!(node.0.try_wait().unwrap(), None, "the node ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
    let text = |name: &str| said[name].as_str().map(str::to_owned);
    (node, text("listen").unwrap(), text("metrics_listen"))
}

/// One answer to a GET, head and body.
async fn get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Series and values, as Prometheus would read them.
async fn scrape(address: &str) -> BTreeMap<String, f64> {
    let (head, body) = get(address, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let series = body
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    series
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_shows_what_it_sells_and_never_to_whom() {
    let dir = tempfile::tempdir().unwrap();
    let (_node, listen, metrics) = start(dir.path(), &["node.metrics_listen=127.0.0.1:0"]).await;
    let metrics = metrics.expect("the ready file says where the metrics are");
    let client = Client::connect([listen.clone()]).await.unwrap();
    // Alive, but nothing to count on before it is part of a cluster.
    assert!(get(&metrics, "/livez").await.0.starts_with("HTTP/1.1 200"));
    let (head, why) = get(&metrics, "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert!(why.contains("not a member of a cluster yet"), "{why}");
    client.cluster().init(vec![(1, listen)]).await.unwrap();
    let sale = NewSale {
        sale_id: "hot".into(),
        units_total: 3,
        open: true,
        ..NewSale::default()
    };
    client.create_sale(sale).key("create").send().await.unwrap();
    let claim = async |user: &str, key: &str| client.claim("hot", user).key(key).send().await;
    for user in ["secret-ann", "secret-bob", "secret-carl"] {
        claim(user, "first").await.unwrap();
    }
    let (head, body) = get(&metrics, "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head} {body}");
    let ann = claim("secret-ann", "first").await.unwrap().claim;
    claim("secret-ann", "second").await.unwrap();
    client
        .confirm(ann.claim_id, ann.fencing_token)
        .key("paid")
        .send()
        .await
        .unwrap();
    for user in ["secret-dora", "secret-emil"] {
        assert!(matches!(claim(user, "first").await, Err(Error::Rejected(_))));
    }

    // Gauges are published once a second.
    let series = loop {
        let series = scrape(&metrics).await;
        if series.get("holdfast_units{sale=\"hot\",state=\"confirmed\"}") == Some(&1.0) {
            break series;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    for (name, value) in [
        ("holdfast_units{sale=\"hot\",state=\"total\"}", 3.0),
        ("holdfast_units{sale=\"hot\",state=\"available\"}", 0.0),
        ("holdfast_units{sale=\"hot\",state=\"held\"}", 2.0),
        ("holdfast_claims_total{outcome=\"granted\"}", 3.0),
        ("holdfast_claims_total{outcome=\"repeated\"}", 1.0),
        ("holdfast_claims_total{outcome=\"already\"}", 1.0),
        ("holdfast_claims_total{outcome=\"sold-out\"}", 2.0),
        ("holdfast_raft_is_leader", 1.0),
        ("holdfast_raft_leader_id", 1.0),
        ("holdfast_queue_commands{lane=\"claims\"}", 0.0),
        ("holdfast_queue_commands{lane=\"settles\"}", 0.0),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name} in {series:#?}");
    }
    for name in [
        "holdfast_raft_term",
        "holdfast_raft_applied_index",
        "holdfast_raft_last_log_index",
        "holdfast_wal_fsync_duration_seconds_count",
        "holdfast_wal_fsync_duration_seconds_bucket{le=\"0.001\"}",
        "holdfast_batch_commands_bucket{le=\"512\"}",
        "holdfast_disk_free_bytes",
        "holdfast_wall_clock_offset_seconds",
    ] {
        assert!(series.contains_key(name), "{name} in {series:#?}");
    }
    assert!(series["holdfast_raft_applied_index"] >= 5.0);
    assert!(series.keys().all(|name| !name.contains("secret")), "{series:#?}");
    assert!(get(&metrics, "/").await.0.starts_with("HTTP/1.1 404"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_setting_there_is_no_listener() {
    let dir = tempfile::tempdir().unwrap();
    let (_node, _, metrics) = start(dir.path(), &[]).await;
    assert_eq!(metrics, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_is_sent_away_and_keeps_no_scraper_out() {
    let dir = tempfile::tempdir().unwrap();
    let (_node, _, metrics) = start(dir.path(), &["node.metrics_listen=127.0.0.1:0"]).await;
    let metrics = metrics.unwrap();
    // More than may be open at one time.
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(TcpStream::connect(&metrics).await.unwrap());
    }
    assert!(get(&metrics, "/livez").await.0.starts_with("HTTP/1.1 200"));
    let mut word = [0];
    let ended = tokio::time::timeout(Duration::from_secs(60), silent[0].read(&mut word)).await;
    let ended = ended.expect("the first that came is still connected");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}
