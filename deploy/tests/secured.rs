//! A cluster of processes behind certificates, as an operator sets it up by hand.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use jepsen_tests::processes::{NodeProcess, Settings};

const BINARY: &str = env!("CARGO_BIN_EXE_holdfast");

/// A deadline for what must come; never reached unless the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn holdfast(arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOLDFAST_")) {
        command.env_remove(name);
    }
    command.args(arguments).output().expect("the binary runs")
}

#[track_caller]
fn ends(output: &Output, code: i32, says: &[&str]) {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in says {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn start(certs: &Path, dir: &Path, id: u64, certificate: &str) -> std::io::Result<NodeProcess> {
    let set = vec![
        format!("security.certificate_file={}", text(&certs.join(certificate))),
        "node.metrics_listen=127.0.0.1:0".to_owned(),
    ];
    let settings = Settings {
        set,
        environment: Vec::new(),
    };
    NodeProcess::start_with(Path::new(BINARY), &dir.join(format!("node-{id}")), id, settings)
}

/// Waits until a node has said something.
fn wait_for_log(node: &NodeProcess, says: &str) {
    let until = Instant::now() + PATIENCE;
    while !std::fs::read_to_string(node.log_path()).unwrap().contains(says) {
        assert!(Instant::now() < until, "`{says}` is not in: {}", node.log_tail());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_secured_cluster_is_made_used_and_given_new_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let certs: PathBuf = dir.path().join("certs");
    ends(
        &holdfast(&["certs", "dev", text(&certs), "--cluster", "shop"]),
        0,
        &["holdfast://shop/node/3"],
    );
    ends(
        &holdfast(&["certs", "show", text(&certs.join("operator.pem"))]),
        0,
        &["holdfast://shop/operator/dev", "ends 20"],
    );
    // Somebody else's certificate is no start.
    let Err(refused) = start(&certs, &dir.path().join("x"), 1, "node-2.pem") else {
        panic!("node 1 started as node 2")
    };
    assert!(
        refused.to_string().contains("holdfast://shop/node/2"),
        "{refused}"
    );

    let mut nodes: Vec<NodeProcess> = (1..=3)
        .map(|id| start(&certs, dir.path(), id, &format!("node-{id}.pem")).unwrap())
        .collect();
    let endpoints: Vec<&str> = nodes.iter().map(|node| node.endpoint.as_str()).collect();
    let endpoints = endpoints.join(",");
    let as_role = |role: &str, line: &[&str]| {
        let certificate = certs.join(format!("{role}.pem"));
        let mut arguments = vec!["--endpoints", &endpoints, "--certificate", text(&certificate)];
        arguments.extend(line);
        holdfast(&arguments)
    };
    ends(&as_role("operator", &["cluster", "init"]), 0, &[]);
    ends(
        &as_role("operator", &["sale", "create", "hot", "--units", "5", "--open"]),
        0,
        &[],
    );
    ends(
        &as_role("platform", &["claim", "create", "hot", "alice", "--key", "a"]),
        0,
        &[],
    );
    ends(&as_role("auditor", &["sale", "get", "hot"]), 0, &["hot"]);
    ends(
        &as_role("auditor", &["readiness"]),
        0,
        &["days of node", "the first to end", "replicas equal"],
    );

    // The wrong role, no certificate, and somebody else's authority.
    ends(
        &as_role("auditor", &["claim", "create", "hot", "bob"]),
        1,
        &["needs the role platform, operator or api", "auditor"],
    );
    ends(
        &as_role("platform", &["member", "remove", "3", "--yes", "--force"]),
        5,
        &["needs the role operator", "platform"],
    );
    ends(
        &holdfast(&["--endpoints", &endpoints, "--timeout", "2s", "sale", "list"]),
        3,
        &[],
    );
    let strangers = dir.path().join("strangers");
    ends(
        &holdfast(&["certs", "dev", text(&strangers), "--cluster", "shop"]),
        0,
        &[],
    );
    let stranger = strangers.join("operator.pem");
    let line = [
        "--endpoints",
        &endpoints,
        "--timeout",
        "2s",
        "--certificate",
        text(&stranger),
        "sale",
        "list",
    ];
    ends(&holdfast(&line), 3, &["certificate"]);

    // Operators leave lines, wherever the leader is.
    let logs: String = nodes
        .iter()
        .map(|node| std::fs::read_to_string(node.log_path()).unwrap())
        .collect();
    assert!(
        logs.contains("audit") && logs.contains("command create_sale"),
        "{logs}"
    );

    // New certificates are taken up by running nodes, and a node that was away with its old one is let in again.
    nodes[2].kill().unwrap();
    ends(
        &holdfast(&["certs", "dev", text(&certs), "--cluster", "shop", "--renew"]),
        0,
        &["now"],
    );
    for node in &nodes[..2] {
        wait_for_log(node, "read again");
    }
    nodes[2].launch().unwrap();
    ends(
        &as_role("platform", &["claim", "create", "hot", "carol", "--key", "c"]),
        0,
        &[],
    );
    ends(&as_role("operator", &["cluster", "status"]), 0, &[]);

    // And says when they end.
    let ready = std::fs::read_to_string(dir.path().join("node-1/ready")).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let metrics = scrape(ready["metrics_listen"].as_str().unwrap());
    for certificate in ["own", "authority"] {
        let series =
            format!("holdfast_certificate_expiry_timestamp_seconds{{certificate=\"{certificate}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
        let ends_s: f64 = line
            .unwrap_or_else(|| panic!("no {series} in {metrics}"))
            .parse()
            .unwrap();
        assert!(ends_s > 1.7e9, "{ends_s}");
    }
    for node in &mut nodes {
        node.stop().unwrap();
    }
}

fn scrape(address: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn plain_text_is_refused_where_others_can_reach_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = ["node", "--listen", "0.0.0.0:0", "--data-dir", text(&data)];
    ends(
        &holdfast(&node),
        2,
        &["0.0.0.0:0", "certs dev", "--allow-plain-text"],
    );
    assert!(!data.exists(), "nothing is half done");
    ends(
        &holdfast(&["api", "--dev", "--listen", "0.0.0.0:0"]),
        2,
        &["proxy", "--allow-plain-text"],
    );
    let mut allowed = node.to_vec();
    allowed.extend(["--allow-plain-text", "--dry-run"]);
    ends(&holdfast(&allowed), 0, &[]);
    // With a certificate it is no plain text.
    let certs = dir.path().join("certs");
    ends(&holdfast(&["certs", "dev", text(&certs)]), 0, &[]);
    let certificate = certs.join("node-1.pem");
    let mut secured = node.to_vec();
    secured.extend(["--certificate", text(&certificate), "--dry-run"]);
    ends(&holdfast(&secured), 0, &[]);
    let missing = dir.path().join("none.pem");
    ends(
        &holdfast(&["sale", "list", "--certificate", text(&missing)]),
        2,
        &["ca.pem"],
    );
}

#[test]
fn a_token_is_printed_once_and_kept_as_a_hash() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens.toml");
    let made = holdfast(&[
        "token",
        "new",
        "grafana",
        "--role",
        "auditor",
        "--add-to",
        text(&file),
    ]);
    ends(&made, 0, &["holdfast_"]);
    let token = String::from_utf8(made.stdout).unwrap();
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(
        kept.contains("name = \"grafana\"") && kept.contains("role = \"auditor\""),
        "{kept}"
    );
    assert!(!kept.contains(token.trim()), "the token itself was kept");
    ends(
        &holdfast(&["token", "new", "n", "--role", "node"]),
        2,
        &["certificates"],
    );

    // A node that takes tokens lets nobody in who has none.
    let settings = Settings {
        set: vec![format!("security.tokens_file={}", text(&file))],
        environment: Vec::new(),
    };
    let mut node = NodeProcess::start_with(Path::new(BINARY), &dir.path().join("node"), 1, settings).unwrap();
    let token_file = dir.path().join("token");
    std::fs::write(&token_file, &token).unwrap();
    let status = [
        "--endpoints",
        &node.endpoint,
        "--token-file",
        text(&token_file),
        "--timeout",
        "2s",
    ];
    let ask = |line: &[&str], with: bool| {
        let mut arguments = if with {
            status.to_vec()
        } else {
            status[..2].to_vec()
        };
        arguments.extend(line);
        holdfast(&arguments)
    };
    let refused = ask(&["cluster", "init", "--yes"], true);
    ends(&refused, 5, &["needs the role operator", "`grafana` is auditor"]);
    ends(&ask(&["cluster", "init", "--yes"], false), 5, &["authorization"]);
    node.stop().unwrap();
}
