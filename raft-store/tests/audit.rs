//! The lines that operators leave. In a process of its own: the lines of all tests in a process go to one place.

#[path = "guarded/shop.rs"]
mod shop;

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

use client::NewSale;
use security::{Kind, access::GRPC};
use spans::TraceContext;
use tonic::metadata::MetadataMap;
use tracing_subscriber::fmt::MakeWriter;

use crate::shop::{Shop, channel, found, refusal};

/// Where log lines go.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn of_audit(&self) -> Vec<serde_json::Value> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_action_of_an_operator_leaves_a_line() {
    let lines = Lines::default();
    tracing_subscriber::fmt().json().with_writer(lines.clone()).init();
    let shop = Shop::new();
    let node = shop.start(1, shop.guard(1)).await.unwrap();
    let nodes = [node];
    let operator = channel(nodes[0].address().to_string(), Some(shop.caller(Kind::Operator)));
    let auditor = channel(nodes[0].address().to_string(), Some(shop.caller(Kind::Auditor)));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut metadata = MetadataMap::new();
    metadata.insert(
        "traceparent",
        format!("00-{trace}-00f067aa0ba902b7-01").parse().unwrap(),
    );
    for row in GRPC.iter().filter(|row| row.audited) {
        let before = lines.of_audit().len();
        refusal(&operator, row.call, &metadata).await;
        refusal(&auditor, row.call, &metadata).await;
        let told = lines.of_audit().split_off(before);
        let [done, denied] = told.as_slice() else {
            panic!("{}: {told:?}", row.call)
        };
        let field = |line: &serde_json::Value, name: &str| {
            line["fields"][name].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(
            (field(done, "call"), field(done, "role")),
            (row.call.to_owned(), "operator".to_owned())
        );
        assert_eq!(
            (field(done, "who"), field(done, "shown")),
            ("9".to_owned(), "certificate".to_owned())
        );
        assert_eq!(field(done, "trace_id"), trace);
        assert_ne!(field(done, "outcome"), "", "{done}");
        assert_eq!(
            (field(denied, "outcome"), field(denied, "role")),
            ("denied".to_owned(), "auditor".to_owned())
        );
    }

    found(&nodes, shop.caller(Kind::Operator)).await;
    let client = shop.client(shop.caller(Kind::Operator), &nodes);
    let before = lines.of_audit().len();
    let sale = NewSale {
        sale_id: "hot".into(),
        units_total: 7,
        open: true,
        ..NewSale::default()
    };
    client.create_sale(sale).key("create").send().await.unwrap();
    client.claim("hot", "alice").key("a").send().await.unwrap();
    // Part of somebody's step, as at the HTTP door, though nobody follows it.
    let step = TraceContext::new(0xfeed, 7, false);
    let withdrawn = spans::within(step, client.withdraw("hot", 100).key("w").send());
    withdrawn.await.unwrap_err();
    let told = lines.of_audit().split_off(before);
    let traces: Vec<&str> = told
        .iter()
        .filter_map(|line| line["fields"]["trace_id"].as_str())
        .collect();
    assert_eq!(traces[1], step.trace(), "{traces:?}");
    assert_ne!(traces[0], step.trace());
    let told: Vec<(String, String, String)> = told
        .iter()
        .map(|line| {
            let field = |name: &str| line["fields"][name].as_str().unwrap_or_default().to_owned();
            (field("call"), field("arguments"), field("outcome"))
        })
        .collect();
    assert_eq!(told.len(), 2, "claims leave no lines: {told:?}");
    assert_eq!(
        (told[0].0.as_str(), told[0].2.as_str()),
        ("command create_sale", "ok")
    );
    assert!(told[0].1.contains("units_total: 7"), "{}", told[0].1);
    assert_eq!(told[1].0, "command withdraw");
    assert!(told[1].2.starts_with("refused"), "{}", told[1].2);
    let [node] = nodes;
    node.stop().await;
}
