//! A sale is rehearsed on a cluster of processes: nobody sees it, and it says go or no-go.

mod common;

use std::{
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
};

use axum::{Router, routing};
use client::{Consistency, SaleStatus, is_rehearsal};
use common::{done, endpoints, found, holdfast, refused, said, until};
use jepsen_tests::processes::{NodeProcess, Settings};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A small sale with all there is in one: it sells out, holds expire, people come again. The times that are good are as
/// long as may be, since whoever tests has a busy machine.
const SALE_LIKE: &str = "units_total = 150\nhold_ms = 1000\nper_user_units_max = 2\npeople = 120\n\
    claims_per_s_expected = 200\nseconds = 2\npaying_percent = 60\nclaim_p99_ms_max = 60000\nfailover_ms_max = 60000\n";

fn start(dir: &Path) -> Vec<NodeProcess> {
    let start = |id| {
        let settings = Settings {
            set: vec![
                "node.metrics_listen=127.0.0.1:0".into(),
                "node.recount_ms=200".into(),
            ],
            environment: Vec::new(),
        };
        NodeProcess::start_with(common::binary(), &dir.join(format!("node-{id}")), id, settings)
    };
    (1..=3).map(|id| start(id).expect("a node starts")).collect()
}

fn sale_like(dir: &Path) -> String {
    let path = dir.join("sale.toml");
    std::fs::write(&path, SALE_LIKE).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What a Prometheus would say of its targets; gives its address.
async fn prometheus(health: Arc<Mutex<[&'static str; 3]>>) -> String {
    let targets = move || {
        let health = *health.lock().unwrap();
        let target = |health: &str| {
            json!({
                "labels": {"job": "holdfast-node", "instance": "node:9101"},
                "scrapeUrl": "http://node:9101/metrics", "health": health, "lastError": "",
            })
        };
        let answer = json!({"status": "success", "data": {"activeTargets": health.map(target)}});
        async move { answer.to_string() }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/api/v1/targets", routing::get(targets));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn verdicts(view: &Value) -> Vec<(&str, &str)> {
    let rows = view["rows"].as_array().expect("rows").iter();
    rows.map(|row| (row["check"].as_str().unwrap(), row["verdict"].as_str().unwrap()))
        .collect()
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)))
}

/// What a node tells Prometheus.
async fn metrics(dir: &Path, id: u64) -> String {
    let ready = std::fs::read(dir.join(format!("node-{id}/ready"))).unwrap();
    let address = json(&ready)["metrics_listen"].as_str().unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_is_rehearsed_and_nobody_sees_it() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = start(dir.path());
    let client = found(&nodes, 10).await;
    let (at, file) = (endpoints(&nodes), sale_like(dir.path()));
    let health = Arc::new(Mutex::new(["up"; 3]));
    let url = prometheus(Arc::clone(&health)).await;

    // Nothing happens unasked.
    done(&at, &["rehearse", "--sale-like", &file, "--dry-run"]).await;
    let unasked = refused(&at, &["rehearse", "--sale-like", &file]).await;
    assert!(unasked.contains("--yes"), "{unasked}");
    let everything = || client.list_sales_and_rehearsals(None, 10, Consistency::Linearizable);
    assert_eq!(everything().await.unwrap().0.len(), 1);

    let line = [
        "-o",
        "json",
        "rehearse",
        "--sale-like",
        &file,
        "--transfer-leader",
        "--yes",
        "--prometheus",
        &url,
    ];
    let output = holdfast(&at, &line).await;
    let view = json(&output.stdout);
    let undecided: Vec<_> = verdicts(&view)
        .into_iter()
        .filter(|(_, verdict)| *verdict != "go")
        .collect();
    // Plain text has no certificates; everything else was looked at.
    assert_eq!(undecided, [("certificate life", "not-checked")], "{view:#}");
    assert_eq!(
        (output.status.code(), &view["go"]),
        (Some(0), &json!(true)),
        "{}",
        said(&output)
    );
    assert_eq!(view["rows"].as_array().unwrap().len(), 15, "{view:#}");

    // Two seconds of claims, and five around the hand-over.
    let rehearsal = &view["rehearsal"];
    let count = |name: &str| {
        rehearsal[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name} in {view:#}"))
    };
    assert_eq!(count("offered"), 200 * 7);
    assert_eq!(
        count("granted") + count("already") + count("refused") + count("unanswered"),
        count("offered")
    );
    assert_eq!(
        count("granted"),
        count("confirmed") + count("released") + count("expired")
    );
    assert!(
        count("granted") > 150,
        "units that came back were granted again: {view:#}"
    );
    assert!((1..=150).contains(&count("confirmed")), "{view:#}");
    assert!(
        count("released") > 0 && count("already") + count("refused") > 0,
        "{view:#}"
    );
    assert!(count("failover_ms") > 0);

    // It is closed and empty, and not shown.
    let (sales, _) = everything().await.unwrap();
    assert_eq!(sales.len(), 2);
    let left = sales.iter().find(|sale| is_rehearsal(&sale.sale_id)).unwrap();
    assert_eq!(rehearsal["sale_id"], left.sale_id.as_str());
    assert_eq!(left.status, SaleStatus::Closed);
    assert_eq!(
        (left.units_total, left.units_available, left.units_held),
        (0, 0, 0)
    );
    assert_eq!(u64::from(left.claims_made), count("granted"));
    let shown = done(&at, &["sale", "list"]).await;
    assert!(shown.contains("hot") && !shown.contains("_rehearsal"), "{shown}");
    let all = done(&at, &["sale", "list", "--rehearsals"]).await;
    assert!(all.contains("hot") && all.contains(&left.sale_id), "{all}");
    let uncounted = holdfast(&at, &["sale", "report", &left.sale_id]).await;
    assert_eq!(uncounted.status.code(), Some(2));
    assert!(
        said(&uncounted).contains("which no report counts"),
        "{}",
        said(&uncounted)
    );

    // Gauges are published now and then: these are newer than the rehearsal.
    client.claim("hot", "ann").key("k").send().await.unwrap();
    let series = loop {
        let series = metrics(dir.path(), 1).await;
        let published = |name: &str| series.contains(&format!("{name}{{sale=\"hot\",state=\"held\"}} 1"));
        if published("holdfast_units") && published("holdfast_recounted_units") {
            break series;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(!series.contains("_rehearsal"), "{series}");

    // A target that is down is a no.
    health.lock().unwrap()[1] = "down";
    let said = refused(&at, &["readiness", "--prometheus", &url]).await;
    assert!(said.contains("alert targets (node:9101 is down)"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_lacks_a_node_is_not_rehearsed_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut nodes = start(dir.path());
    let client = found(&nodes, 10).await;
    let (at, file) = (endpoints(&nodes), sale_like(dir.path()));
    done(&at, &["readiness"]).await;
    nodes[2].kill().unwrap();
    let output = holdfast(&at, &["-o", "json", "readiness"]).await;
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    let view = json(&output.stdout);
    assert_eq!(view["go"], false);
    for row in [
        ("voters answer", "no-go"),
        ("replicas equal", "no-go"),
        ("one version", "go"),
    ] {
        assert!(verdicts(&view).contains(&row), "{row:?} in {view:#}");
    }
    let output = holdfast(&at, &["-o", "json", "rehearse", "--sale-like", &file, "--yes"]).await;
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    let view = json(&output.stdout);
    assert_eq!((&view["go"], &view["rehearsal"]), (&json!(false), &Value::Null));
    assert!(verdicts(&view).contains(&("capacity", "not-checked")), "{view:#}");
    let (sales, _) = client
        .list_sales_and_rehearsals(None, 10, Consistency::Linearizable)
        .await
        .unwrap();
    assert_eq!(sales.len(), 1, "nothing was sold");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_rehearsal_ends_its_sale() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = start(dir.path());
    let client = found(&nodes, 10).await;
    let file = sale_like(dir.path());
    // Long enough to be interrupted for certain.
    std::fs::write(&file, SALE_LIKE.replace("seconds = 2", "seconds = 600")).unwrap();
    let at = endpoints(&nodes);
    let mut command = tokio::process::Command::new(common::binary());
    command
        .args(["--endpoints", &at, "rehearse", "--sale-like", &file, "--yes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let running = command.spawn().unwrap();
    let rehearsed = async || {
        let answer = client.list_sales_and_rehearsals(None, 10, Consistency::Linearizable);
        let sales = answer.await.unwrap().0.into_iter();
        sales.into_iter().find(|sale| is_rehearsal(&sale.sale_id))
    };
    until("the rehearsal sells", async || {
        rehearsed().await.is_some_and(|sale| sale.units_confirmed > 0)
    })
    .await;
    let pid = running.id().and_then(|pid| Pid::from_raw(pid as i32));
    kill_process(pid.expect("it was not waited for yet"), Signal::INT).expect("it is ours");
    let output = running.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("was emptied and closed"),
        "{}",
        said(&output)
    );
    assert!(output.stdout.is_empty(), "half a rehearsal is no verdict");
    let left = rehearsed().await.expect("it stays");
    assert_eq!((left.status, left.units_total), (SaleStatus::Closed, 0));
}
