//! The checker: every rule of the specification, right and wrong, from small files; random histories, right
//! and broken; the histories of others; and the command.

use std::{fs, path::PathBuf};

use jepsen_tests::{
    checker::{Lies, Options, Verdict, check},
    history::History,
};

fn histories() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/histories")
}

/// What a file says of itself: `rule1-….valid.ndjson`.
fn expected(name: &str) -> &str {
    name.split('.').nth(1).expect("a name of three parts")
}

fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "valid",
        Verdict::Unknown(_) => "unknown",
        Verdict::Disagreement(_) => "disagreement",
        Verdict::Invalid(contradiction) => match contradiction.lies {
            Lies::Order => "order-lies",
            Lies::Values => "values-lie",
            Lies::Either => "either-lies",
        },
    }
}

#[test]
fn every_rule_of_the_specification_right_and_wrong() {
    let mut wrong = Vec::new();
    let mut files = 0;
    for entry in fs::read_dir(histories()).expect("the histories") {
        let path = entry.expect("a file").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.ends_with(".ndjson") {
            continue;
        }
        files += 1;
        let history = History::read_file(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = check(&history, Options::default());
        if verdict(&found) != expected(&name) {
            wrong.push(format!("{name}: {found:?}"));
        }
        if let Verdict::Invalid(contradiction) = &found {
            assert!(!contradiction.operations.is_empty(), "{name} shows no operation");
            assert!(
                contradiction.operations.len() <= 4,
                "{name} shows too many: {contradiction:?}"
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(files >= 80, "only {files} histories");
}
