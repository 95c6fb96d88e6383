//! The lines that operators leave. In a process of its own: the lines of all tests in a process go to one place.

mod common;

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

use api::Role;
use common::*;
use security::{
    Kind,
    access::{HTTP, Who},
};
use tracing_subscriber::fmt::MakeWriter;

/// Where log lines go.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn take_audit(&self) -> Vec<serde_json::Value> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|line| line["target"] == "audit")
            .collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;
    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

#[tokio::test]
async fn every_action_of_an_operator_leaves_a_line() {
    let lines = Lines::default();
    tracing_subscriber::fmt().json().with_writer(lines.clone()).init();
    let router = scripted();
    let field =
        |line: &serde_json::Value, name: &str| line["fields"][name].as_str().unwrap_or_default().to_owned();
    for row in HTTP {
        let Who::Only(kinds) = row.who else { continue };
        lines.take_audit();
        let answer = call_row(&router, row, Some(&bearer("ada", Role::Operator))).await;
        let told = lines.take_audit();
        let acts = kinds.contains(&Kind::Operator) && !row.call.starts_with("GET");
        if !acts {
            assert!(
                told.iter().all(|line| field(line, "outcome") != "ok"),
                "{}: {told:?}",
                row.call
            );
            continue;
        }
        let [line] = told.as_slice() else {
            panic!("{}: {told:?}", row.call)
        };
        assert_eq!(
            (field(line, "who"), field(line, "role"), field(line, "call")),
            ("ada".to_owned(), "operator".to_owned(), row.call.to_owned())
        );
        let arguments = field(line, "arguments");
        assert!(
            ["drop-7", "c_abc", "o_abc"]
                .iter()
                .any(|named| arguments.contains(named)),
            "{arguments}"
        );
        // The same trace as the answer's own.
        assert!(
            answer.header("traceparent").contains(&field(line, "trace_id")),
            "{line} {answer:?}"
        );
        assert_ne!(field(line, "outcome"), "");
    }
    // Who may not and tries leaves one, too.
    let close = HTTP.iter().find(|row| row.call.ends_with("/close")).unwrap();
    call_row(&router, close, Some(&bearer("eve", Role::Shopper))).await;
    let told = lines.take_audit();
    assert_eq!(
        (field(&told[0], "who"), told.len()),
        ("eve".to_owned(), 1),
        "{told:?}"
    );
}
