//! The dashboard's queries and an alert, tried against a real Prometheus that reads a running cluster.
//!
//! Needs `prometheus` (Debian: package prometheus); where it is not installed the test says so and looks at nothing.

mod common;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{binary, endpoints, found, served::Served};
use jepsen_tests::processes::{NodeProcess, Settings, free_address};
use serde_json::{Value, json};

/// Longest that anything is waited for: some rounds of reading, or the time an alert lies in wait.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(250);

const DASHBOARD: &str = include_str!("../observability/grafana/dashboards/sale.json");
const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/observability/alerts.yaml");

/// A Prometheus that does not outlive its test.
struct Prometheus {
    process: Child,
    url: String,
    http: reqwest::Client,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Gone already, if it cannot be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Reads these nodes and this door twice a second, with the rules as they are shipped.
    fn start(dir: &Path, nodes: &[String], door: &str) -> Option<Prometheus> {
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n\
             rule_files: [{}]\n\
             scrape_configs:\n\
             - {{job_name: holdfast-node, static_configs: [{{targets: {}}}]}}\n\
             - {{job_name: holdfast-door, static_configs: [{{targets: {}}}]}}\n",
            json!(ALERTS),
            json!(nodes),
            json!([door])
        );
        let path = dir.join("prometheus.yaml");
        std::fs::write(&path, config).unwrap();
        let address = free_address().unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("series").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--log.level=warn"])
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        api::payment::use_ring();
        Some(Prometheus {
            process,
            url: format!("http://{address}"),
            http: reqwest::Client::new(),
        })
    }

    /// The result of a query, once there is one that pleases.
    async fn ask(&self, query: &str, pleases: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let begun = Instant::now();
        let mut last = String::from("it did not answer");
        while begun.elapsed() < PATIENCE {
            let mut form = form_urlencoded::Serializer::new(String::new());
            let form = form.append_pair("query", query).finish();
            let asked = self
                .http
                .post(format!("{}/api/v1/query", self.url))
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form);
            // While it starts it is not reached, or says so.
            if let Ok(answer) = asked.send().await
                && answer.status() != reqwest::StatusCode::SERVICE_UNAVAILABLE
            {
                let answer: Value = answer.json().await.expect("Prometheus speaks JSON");
                assert_eq!(answer["status"], "success", "{query}: {answer}");
                let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
                if pleases(&result) {
                    return result;
                }
                last = answer.to_string();
            }
            tokio::time::sleep(POLL).await;
        }
        panic!("{query}: {last}");
    }
}

/// Title and query of every panel.
fn queries() -> Vec<(String, String)> {
    fn of(panels: &Value, found: &mut Vec<(String, String)>) {
        for panel in panels.as_array().into_iter().flatten() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().expect("a query").replace("$sale", ".*");
                found.push((panel["title"].as_str().unwrap_or_default().to_owned(), query));
            }
            of(&panel["panels"], found);
        }
    }
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut found = Vec::new();
    of(&dashboard["panels"], &mut found);
    found
}

/// A number in every row: no gap, and nothing divided by zero.
fn tells(result: &[Value]) -> bool {
    let number = |row: &Value| row["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
    !result.is_empty() && result.iter().all(|row| number(row).is_some_and(f64::is_finite))
}

/// A shopper claims a unit, and pays for it if he is to.
async fn shop(http: &reqwest::Client, door: &str, user: &str, pays: bool) {
    let token = http
        .post(format!("http://{door}/dev/token"))
        .json(&json!({ "sub": user }));
    let token: Value = token.send().await.unwrap().json().await.unwrap();
    let post = |path: String, key: &str, body: Value| {
        http.post(format!("http://{door}{path}"))
            .bearer_auth(token["token"].as_str().unwrap())
            .header("idempotency-key", key)
            .json(&body)
    };
    let claim = post("/v1/sales/hot/claims".to_owned(), "claim", json!({}));
    let claim: Value = claim.send().await.unwrap().json().await.unwrap();
    if pays {
        let path = format!(
            "/v1/claims/{}/checkout",
            claim["claim_id"].as_str().expect("a unit")
        );
        let paid = post(path, "pay", json!({"payment_method": "pm_card_visa"}));
        let paid = paid.send().await.unwrap();
        assert_eq!(paid.status(), 201, "{:?}", paid.text().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_tells_something_and_a_lost_quorum_is_alerted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut nodes, mut watched) = (Vec::new(), Vec::new());
    for id in 1..=3_u64 {
        let metrics = free_address().unwrap().to_string();
        let settings = Settings {
            set: vec![
                format!("node.metrics_listen={metrics}"),
                "node.recount_ms=1000".to_owned(),
            ],
            ..Settings::default()
        };
        let place = dir.path().join(format!("node-{id}"));
        nodes.push(NodeProcess::start_with(binary(), &place, id, settings).unwrap());
        watched.push(metrics);
    }
    let client = found(&nodes, 10_000).await;
    let (key, webhook) = (dir.path().join("key"), dir.path().join("webhook"));
    std::fs::write(&key, "sk_test_x").unwrap();
    std::fs::write(&webhook, "whsec_x").unwrap();
    let psp = Served::start(dir.path(), "psp", &[], Stdio::null());
    let payment_url = format!("http://{}", psp.address);
    let arguments = [
        "--endpoints",
        &endpoints(&nodes),
        "--dev",
        "--payment-url",
        &payment_url,
        "--payment-key-file",
        key.to_str().unwrap(),
        "--webhook-secret-file",
        webhook.to_str().unwrap(),
    ];
    let door = Served::start(dir.path(), "api", &arguments, Stdio::null());
    let Some(prometheus) = Prometheus::start(dir.path(), &watched, &door.address) else {
        eprintln!("prometheus is not installed: no query was tried");
        return;
    };
    prometheus.ask("up == 1", |up| up.len() == 4).await;

    // What a panel shows a rate of has to move while it is looked at: shoppers come, and every other one pays.
    let moving = async {
        for number in 0_u64.. {
            shop(
                &prometheus.http,
                &door.address,
                &format!("user-{number}"),
                number % 2 == 0,
            )
            .await;
            tokio::time::sleep(POLL).await;
        }
    };
    let looking = async {
        for (title, query) in queries() {
            prometheus.ask(&query, tells).await;
            println!("{title}: {query}");
        }
        let calm = r#"ALERTS{alertstate="firing",alertname=~"Oversold|UnitsNotConserved|ReplicasDiffer|NoLeader|NodeDown"}"#;
        prometheus.ask(calm, <[Value]>::is_empty).await;
    };
    tokio::select! {
        () = moving => unreachable!("there are always more shoppers"),
        () = looking => {}
    }

    // The leader and another go: nobody leads, and whoever is on call hears of it.
    let status = client.cluster().status(&nodes[0].endpoint).await.unwrap();
    let leader = status.leader_id;
    let other = nodes.iter().map(|node| node.id).find(|id| *id != leader);
    for node in &mut nodes {
        if node.id == leader || Some(node.id) == other {
            node.kill().unwrap();
        }
    }
    prometheus
        .ask(r#"ALERTS{alertname="NoLeader",alertstate="firing"}"#, |firing| {
            !firing.is_empty()
        })
        .await;
}
