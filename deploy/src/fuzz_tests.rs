//! Files that operators hand in, under fire: see package `fuzz`.

use fuzz::Target;

use crate::{commands::reconcile::statement::Statement, config::Loaded};

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn fuzz_settlement_files() {
    let header = "type,source,payment_id,amount_minor,currency,created,fee_minor,id\n";
    let known = [
        format!("{header}charge,ch_1,pi_1,4900,EUR,1700000000,30,txn_1\n"),
        format!("{header}refund,re_1,pi_1,-4900,EUR,2023-11-14T22:13:20Z,0,txn_2\r\npayout,,,1,USD,1,,\r\n"),
        "created,currency,amount_minor,payment_id,source,type\n1,JPY,7,p,s,\"dis\"\"pute\"\n".to_owned(),
    ];
    let words = [
        "\"",
        ",",
        "\r\n",
        "\u{feff}",
        "-9223372036854775808",
        "XXX",
        "1e3",
        "9999-12-31T23:59:60Z",
    ];
    Target::new("settlement_files", PACKAGE)
        .known(known)
        .words(words)
        .run(|bytes| {
            let statement = match Statement::new(bytes) {
                Ok(statement) => statement,
                Err(error) => return error.to_string(),
            };
            let mut answers = Vec::new();
            for row in statement.take(64) {
                match row {
                    Ok(row) => {
                        assert!(row.line >= 2 && row.bytes_read <= bytes.len() as u64, "{row:?}");
                        answers.push(format!("{:?}", row.kind));
                    }
                    Err(error) => {
                        answers.push(error.to_string());
                        break;
                    }
                }
            }
            answers.dedup();
            answers.join(" / ")
        });
}

#[test]
fn fuzz_configuration_files() {
    let known = [
        "timeout_ms = 2000\n[node]\nnode_id = 1\nlisten = \"127.0.0.1:1\"\n[log]\nformat = \"json\"\n",
        "endpoints = [\"a:1\", \"b:2\"]\n[api]\ndev = true\nclaims_per_user_minute = 7\n",
        "[security]\ncertificate_file = \"certs/node-1.pem\"\nallow_plain_text = false\n",
    ];
    let words = [
        "[[node]]",
        "[api]",
        "node.",
        " = ",
        "-1",
        "nan",
        "1979-05-27",
        "{}",
        "[]",
        "'''",
        "\"",
        "security",
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("holdfast.toml");
    Target::new("configuration_files", PACKAGE)
        .known(known)
        .words(words)
        .run(|bytes| {
            std::fs::write(&path, bytes).unwrap();
            match Loaded::read(Some(&path), [], &[], vec![]) {
                Ok(loaded) => loaded.source("node.listen"),
                Err(failure) => {
                    assert_eq!(failure.code(), 2, "{failure}");
                    let text = failure.to_string();
                    text.lines().last().unwrap_or_default().chars().take(60).collect()
                }
            }
        });
}
