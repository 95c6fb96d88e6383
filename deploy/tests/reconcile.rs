//! `holdfast reconcile` and `holdfast document` against a real node: what they say and how they end.

use std::{path::Path, process::Output, time::Duration};

use api::{
    ledger::{self, Kind, Transaction},
    payment::Money,
};
use client::Client;
use jepsen_tests::processes::NodeProcess;
use serde_json::{Value, json};

const HEADER: &str = "id,type,source,payment_id,amount_minor,currency,fee_minor,created\n";

/// 2023-11-14T22:13:20Z.
const BEGAN_S: u64 = 1_700_000_000;

async fn holdfast(node: &NodeProcess, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_holdfast"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOLDFAST_")) {
        command.env_remove(name);
    }
    command.args(["--endpoints", &node.endpoint, "-o", "json"]);
    command.args(arguments).output().await.expect("the binary runs")
}

fn printed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

async fn record(client: &Client, kind: Kind, payment_id: &str, reference: Option<&str>, amount: &str) {
    let amount: Money = amount.parse().unwrap();
    let at_ms = BEGAN_S * 1_000 + 500;
    let transaction = Transaction::new(kind, payment_id, reference, "c_1", amount, at_ms).unwrap();
    assert!(ledger::record(client, &transaction).await.unwrap(), "new");
}

fn write(dir: &Path, rows: &str) -> String {
    let path = dir.join("settlement.csv");
    std::fs::write(&path, format!("{HEADER}{rows}")).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_file_is_compared_with_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_holdfast"));
    let node = NodeProcess::start(binary, dir.path(), 1).expect("a node starts");
    let client = Client::builder()
        .endpoints([node.endpoint.clone()])
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let members = vec![(node.id, node.endpoint.clone())];
    client.cluster().init(members).await.expect("founded");
    record(&client, Kind::Hold, "pi_1", None, "49.00 EUR").await;
    record(&client, Kind::Capture, "pi_1", None, "49.00 EUR").await;
    record(&client, Kind::Refund, "pi_1", Some("re_1"), "9.00 EUR").await;
    record(&client, Kind::Capture, "pi_2", None, "700 JPY").await;

    // They agree.
    let equal = format!(
        "txn_1,charge,ch_1,pi_1,4900,eur,172,{BEGAN_S}\n\
         txn_2,refund,re_1,pi_1,-900,eur,0,{end}\n\
         txn_3,payment,py_1,pi_2,700,jpy,25,2023-11-14T22:13:20Z\n\
         txn_4,payout,po_1,,-4000,eur,0,{end}\n",
        end = BEGAN_S + 60
    );
    let file = write(dir.path(), &equal);
    let output = holdfast(&node, &["reconcile", &file]).await;
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let view = printed(&output);
    assert_eq!(
        (&view["agree"], &view["equal"], &view["differences"]),
        (&json!(true), &json!(3), &json!(0))
    );
    assert_eq!(view["passed_over"], json!({"payout": 1}));
    assert_eq!(view["fees_minor"], json!({"EUR": 172, "JPY": 25}));
    assert_eq!(
        (&view["from"], &view["to"]),
        (&json!("2023-11-14T22:13:20Z"), &json!("2023-11-14T22:14:20Z"))
    );
    let balances = view["balances"].as_array().unwrap();
    let sum: i64 = balances
        .iter()
        .map(|balance| balance["minor"].as_i64().unwrap())
        .sum();
    assert_eq!((balances.len() > 6, sum), (true, 0));

    // They do not: an amount, one that only each of them has, and one twice.
    let differing = equal
        .replace("pi_1,-900", "pi_1,-901")
        .replace(",pi_2,", ",pi_3,")
        + &format!("txn_9,charge,ch_1,pi_1,4900,eur,172,{BEGAN_S}\n");
    let file = write(dir.path(), &differing);
    let output = holdfast(&node, &["reconcile", &file]).await;
    assert_eq!(output.status.code(), Some(6));
    let error: Value = serde_json::from_slice(&output.stderr).expect("one JSON document");
    assert_eq!(error["error"]["code"], 6);
    let listed: Vec<_> = printed(&output)["listed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| {
            let text = |name: &str| found[name].as_str().unwrap_or("-").to_owned();
            (text("difference"), text("payment_id"), found["line"].as_u64())
        })
        .collect();
    let named = |difference: &str, payment: &str, line| (difference.to_owned(), payment.to_owned(), line);
    assert_eq!(
        listed,
        [
            named("duplicate", "pi_1", Some(6)),
            named("amount", "pi_1", Some(3)),
            named("ledger_only", "pi_2", None),
            named("file_only", "pi_3", Some(4)),
        ]
    );
    // Fewer are listed than there are; the time is told, so the ledger's own may lie outside of it.
    let arguments = [
        "reconcile",
        &file,
        "--limit",
        "1",
        "--from",
        "2023-11-14T22:13:21Z",
    ];
    let view = printed(&holdfast(&node, &arguments).await);
    assert_eq!(
        (&view["differences"], view["listed"].as_array().unwrap().len()),
        (&json!(3), 1)
    );
    assert_eq!(view["transactions_outside"], json!(1));

    // What the doors keep can be looked at.
    let output = holdfast(&node, &["document", "get", "ledger/pi_1/capture"]).await;
    assert_eq!(
        printed(&output)["body"]["amount"],
        json!({"minor": 4900, "currency": "EUR"})
    );
    let output = holdfast(&node, &["document", "list", "ledger/pi_1/", "--limit", "2"]).await;
    let view = printed(&output);
    let keys = [
        &view["documents"][0]["document"],
        &view["documents"][1]["document"],
    ];
    assert_eq!(keys, ["ledger/pi_1/capture", "ledger/pi_1/hold"]);
    assert_eq!(view["more"], json!(true));
    let output = holdfast(&node, &["document", "get", "ledger/none"]).await;
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_malformed_file_is_told_by_its_line_before_anybody_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let run = |file: &str, more: &[&str]| {
        // Nobody listens there, and nobody is asked.
        std::process::Command::new(env!("CARGO_BIN_EXE_holdfast"))
            .args(["--endpoints", "127.0.0.1:1", "--timeout", "1s", "reconcile", file])
            .args(more)
            .output()
            .unwrap()
    };
    let good = format!("txn_1,charge,ch_1,pi_1,4900,EUR,0,{BEGAN_S}\n");
    let bad = write(
        dir.path(),
        &format!("{good}txn_2,charge,ch_2,pi_2,49.00,EUR,0,{BEGAN_S}\n"),
    );
    let none = dir.path().join("none.csv").display().to_string();
    for (output, why) in [
        (run(&bad, &[]), "line 3: amount_minor \"49.00\""),
        (run(&none, &[]), "none.csv"),
        (
            run(&write(dir.path(), &good), &["--to", "2020-01-01T00:00:00Z"]),
            "--from and --to",
        ),
    ] {
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(why), "{error}");
        assert!(output.stdout.is_empty());
    }
}
