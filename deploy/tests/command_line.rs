//! The binary as a process: exit codes, where output goes, what errors say.

use std::{
    net::TcpListener,
    process::{Command, Output},
};

fn holdfast(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOLDFAST_")) {
        command.env_remove(name);
    }
    command.args(arguments).output().expect("the binary runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An address where nobody listens and, as long as the listener lives, nobody else can.
fn silent_address() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    (listener, address)
}

#[test]
fn usage_errors_end_with_2_and_touch_nothing() {
    for arguments in [
        &["sell"][..],
        &["sale", "create", "hot"],
        &["--set", "node.listne=x", "config", "print"],
        &["--endpoints", "nowhere", "sale", "list"],
        &["demo", "--users", "100", "--units", "100"],
        &["api", "--dev", "--hs256-secret-file", "secret"],
    ] {
        let output = holdfast(arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty(), "{arguments:?} wrote to stdout");
    }
}

#[test]
fn nobody_there_ends_with_3_and_names_the_address() {
    // Bound and closed again: a refused connection is an answer at once.
    let address = silent_address().1;
    for arguments in [
        &["sale", "get", "hot"][..],
        &["member", "list"],
        &["claim", "create", "hot", "alice"],
    ] {
        let mut line = vec!["--endpoints", &address, "--timeout", "300ms"];
        line.extend(arguments);
        let output = holdfast(&line);
        assert_eq!(
            output.status.code(),
            Some(3),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(stderr(&output).contains(&address), "{}", stderr(&output));
    }
}

#[test]
fn json_errors_are_json() {
    let address = silent_address().1;
    let output = holdfast(&[
        "-o",
        "json",
        "--endpoints",
        &address,
        "--timeout",
        "300ms",
        "sale",
        "list",
    ]);
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).expect("one JSON document");
    assert_eq!(error["error"]["code"], 3);
    assert_eq!(error["error"]["kind"], "unreachable");
}

#[test]
fn config_files_are_checked() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = dir.path().join("good.toml");
    std::fs::write(
        &good,
        "timeout_ms = 500\n[node]\nnode_id = 2\n[api]\ndev = true\n",
    )
    .expect("written");
    let good = good.display().to_string();
    assert_eq!(holdfast(&["config", "check", &good]).status.code(), Some(0));
    let output = holdfast(&["--config", &good, "-o", "json", "config", "print"]);
    let settings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let id = settings
        .as_array()
        .expect("a list")
        .iter()
        .find(|setting| setting["key"] == "node.node_id");
    let id = id.expect("listed");
    assert_eq!(
        (&id["value"], &id["source"]),
        (&"2".into(), &good.as_str().into())
    );

    let bad = dir.path().join("bad.toml");
    std::fs::write(&bad, "[nod]\nid = 2\n").expect("written");
    let output = holdfast(&["config", "check", &bad.display().to_string()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`nod`"), "{}", stderr(&output));
}

#[test]
fn an_occupied_port_is_named() {
    let (_taken, address) = silent_address();
    let output = holdfast(&["api", "--dev", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains(&address) && stderr(&output).contains("--listen"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_door_without_keys_does_not_open() {
    let output = holdfast(&["api", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("keys"), "{}", stderr(&output));
}

#[test]
fn a_dry_run_does_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let data_dir = dir.path().join("data");
    let data_dir_text = data_dir.display().to_string();
    let output = holdfast(&["node", "--dry-run", "--id", "3", "--data-dir", &data_dir_text]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!data_dir.exists());
    let address = silent_address().1;
    let output = holdfast(&[
        "--endpoints",
        &address,
        "--dry-run",
        "sale",
        "restock",
        "hot",
        "5",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("add 5 units to sale `hot`"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn hard_steps_without_a_terminal_are_refused() {
    let address = silent_address().1;
    let output = holdfast(&["--endpoints", &address, "sale", "close", "hot"]);
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(stderr(&output).contains("--yes"), "{}", stderr(&output));
}

#[test]
fn completions_are_printed() {
    let output = holdfast(&["completions", "bash"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("transfer-leader"));
}

#[test]
fn a_node_refuses_a_taken_port_and_a_place_it_cannot_write() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_taken, address) = silent_address();
    let data_dir = dir.path().join("data").display().to_string();
    let output = holdfast(&["node", "--listen", &address, "--data-dir", &data_dir]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains(&address) && stderr(&output).contains("--listen"),
        "{}",
        stderr(&output)
    );

    let file = dir.path().join("file");
    std::fs::write(&file, "in the way").expect("written");
    let file = file.display().to_string();
    let output = holdfast(&["node", "--listen", "127.0.0.1:0", "--data-dir", &file]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&file), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), "in the way");
}
