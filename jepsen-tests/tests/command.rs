//! The command `check`: one line for each file, and exit codes that say the same.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn check(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_check"))
        .args(arguments)
        .output()
        .expect("the command starts")
}

fn history(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/histories")
        .join(name);
    path.to_str().expect("a path of text").to_owned()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> String {
    let path = directory.join(name);
    fs::write(&path, bytes).expect("written");
    path.to_str().expect("a path of text").to_owned()
}

#[test]
fn a_line_for_each_file_and_the_worst_as_exit_code() {
    let valid = history("rule1-expiry-returns-the-unit.valid.ndjson");
    let invalid = history("rule3-no-oversell.values-lie.ndjson");
    let output = check(&[&valid]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        out(&output).starts_with(&format!("{valid} valid 3 ")),
        "{}",
        out(&output)
    );
    assert_eq!(
        out(&output).split_whitespace().count(),
        4,
        "path, verdict, operations, seconds"
    );

    let output = check(&["--model", "inventory", "--format", "inventory", &valid, &invalid]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(out(&output).lines().count(), 2);
    assert!(out(&output).contains(&format!("{invalid} invalid 3 ")));
    assert!(
        err(&output).contains("the values lie: sale s0: operation 2"),
        "{}",
        err(&output)
    );

    let output = check(&[&invalid, "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(out(&output).contains("/nowhere/at/all not-a-history 0 "));
}

#[test]
fn what_the_limits_leave_open_is_unknown() {
    // It takes a search to see that the unknown happened, and none is allowed.
    let path = history("unknown-that-happened.valid.ndjson");
    let output = check(&["--states-max", "1", &path]);
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    assert!(out(&output).contains(" unknown 2 "));
    assert_eq!(check(&[&path]).status.code(), Some(0));
}

#[test]
fn what_was_resolved_may_be_ignored() {
    let path = history("resolved-as-applied.valid.ndjson");
    assert_eq!(check(&[&path]).status.code(), Some(0));
    assert_eq!(check(&["--ignore-resolve", &path]).status.code(), Some(0));
}

#[test]
fn json_says_the_same() {
    let output = check(&["--json", &history("rule6-real-time.order-lies.ndjson")]);
    assert_eq!(output.status.code(), Some(1));
    let object: serde_json::Value = serde_json::from_str(&out(&output)).expect("one object");
    assert_eq!(object["verdict"], "invalid");
    assert_eq!(object["lies"], "the order lies");
    assert_eq!(object["operations"], 2);
    assert_eq!(object["ids"], serde_json::json!([0, 1]));
    assert_eq!(object["shown"].as_array().map(Vec::len), Some(2));
}

#[test]
fn what_is_no_history_never_gets_a_verdict() {
    let directory = tempfile::tempdir().expect("a place for files");
    let good = fs::read(history("rule1-expiry-returns-the-unit.valid.ndjson")).expect("read");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(&good).expect("packed");
    let packed = packed.finish().expect("packed");
    let mut lines: Vec<&[u8]> = good.split_inclusive(|&byte| byte == b'\n').collect();
    lines.swap(1, 2);
    let cases: &[(&str, &[u8], &str)] = &[
        ("empty", b"", "line 1"),
        ("cut", &good[..good.len() - 30], "line 7"),
        ("cut.gz", &packed[..packed.len() - 12], "cut off"),
        ("reordered", &lines.concat(), "line 2"),
        ("twice", &good.repeat(2), "line 8: a second header"),
        (
            "log",
            b"INFO  jepsen.util - 0\t:invoke\t:read\tnil\n",
            "line 1: not the header",
        ),
        ("binary", &[0xff, 0, 7, 10, 200], "line 1"),
        ("no newline", &vec![b'x'; 1_000_000], "line 1: longer than"),
    ];
    for (name, bytes, expected) in cases {
        let output = check(&[&write(directory.path(), name, bytes)]);
        assert_eq!(output.status.code(), Some(3), "{name}: {}", out(&output));
        assert!(err(&output).contains(expected), "{name}: {}", err(&output));
        assert!(out(&output).contains("not-a-history"), "{name}");
    }
    let whole = check(&[&write(directory.path(), "whole.gz", &packed)]);
    assert_eq!(whole.status.code(), Some(0), "{}", err(&whole));
}

#[test]
fn formats_of_others() {
    let directory = tempfile::tempdir().expect("a place for files");
    let log = write(
        directory.path(),
        "log",
        b"INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:ok\t:read\t1\n",
    );
    let edn = write(
        directory.path(),
        "edn",
        b"[{:process 0 :type :invoke :f :acquire} {:process 0 :type :ok :f :acquire}]",
    );
    let kv = write(
        directory.path(),
        "kv",
        b"{:process 0, :type :invoke, :f :put, :key \"a\", :value \"x\"}\n",
    );
    let cases: &[(&[&str], i32)] = &[
        (&["--model", "cas-register", "--format", "jepsen-log", &log], 1),
        (&["--format", "jepsen-log", &log], 1),
        (&["--model", "mutex", "--format", "knossos-edn", &edn], 0),
        (&["--model", "cas-register", "--format", "knossos-edn", &edn], 3),
        (&["--model", "kv", "--format", "porcupine-kv", &kv], 0),
        (&["--model", "kv", "--format", "jepsen-log", &log], 3),
        (&["--format", "inventory", &log], 3),
        (&["--format", "nonsense", &log], 3),
        (&[], 3),
        (&["--help"], 0),
    ];
    for (arguments, code) in cases {
        let output = check(arguments);
        assert_eq!(
            output.status.code(),
            Some(*code),
            "{arguments:?}: {}{}",
            out(&output),
            err(&output)
        );
    }
    assert!(out(&check(&["--help"])).contains("Exit codes"));
}
