//! One trace over processes: a collector on a real socket is sent what the HTTP door and the nodes of the shipped
//! binary saw of a claim, from the caller's `traceparent` to the apply of its log entry.
//!
//! What arrives is decoded by messages written here from OpenTelemetry's protocol, not by the crates that sent it.

mod common;

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use axum::{Router, body::Bytes, http::StatusCode, routing::post};
use common::{binary, endpoints, found};
use jepsen_tests::processes::{NodeProcess, Settings};
use prost::Message;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

/// `opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest`, as far as it is read here.
#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 3")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// Kinds of spans in the protocol.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

fn attribute(attributes: &[KeyValue], key: &str) -> Option<Any> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref()?.value.clone()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A span, and which service saw it.
#[derive(Clone, Debug)]
struct Seen {
    service: String,
    span: Span,
}

impl Seen {
    fn text(&self, key: &str) -> Option<String> {
        match attribute(&self.span.attributes, key)? {
            Any::Text(text) => Some(text),
            Any::Number(_) => None,
        }
    }

    fn number(&self, key: &str) -> Option<i64> {
        match attribute(&self.span.attributes, key)? {
            Any::Number(number) => Some(number),
            Any::Text(_) => None,
        }
    }
}

/// Longest a span may take to come: far above what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A collector that keeps what it is sent.
struct Collector {
    url: String,
    spans: mpsc::UnboundedReceiver<Seen>,
    seen: Vec<Seen>,
}

impl Collector {
    async fn open() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let (tell, spans) = mpsc::unbounded_channel();
        let take = async move |body: Bytes| {
            let export = Export::decode(body).expect("what is sent is the protocol's");
            for part in export.resource_spans {
                let attributes = part.resource.unwrap_or_default().attributes;
                let Some(Any::Text(service)) = attribute(&attributes, "service.name") else {
                    panic!("spans of no service: {attributes:?}");
                };
                for span in part.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                    let service = service.clone();
                    // The test may have ended.
                    let _ = tell.send(Seen { service, span });
                }
            }
            StatusCode::OK
        };
        let router = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let seen = Vec::new();
        Collector { url, spans, seen }
    }

    fn of_trace(&self, trace_id: &str) -> BTreeMap<String, Seen> {
        let of_trace = self
            .seen
            .iter()
            .filter(|seen| hex(&seen.span.trace_id) == trace_id);
        of_trace
            .map(|seen| (seen.span.name.clone(), seen.clone()))
            .collect()
    }

    /// Waits until a trace is whole, and gives its spans by name.
    async fn whole(&mut self, trace_id: &str) -> BTreeMap<String, Seen> {
        loop {
            let spans = self.of_trace(trace_id);
            if NAMES.iter().all(|name| spans.contains_key(*name)) {
                return spans;
            }
            let next = timeout(PATIENCE, self.spans.recv()).await;
            let next = next.unwrap_or_else(|_| panic!("{trace_id} is not whole: {spans:#?}"));
            self.seen.push(next.expect("the collector listens"));
        }
    }
}

const NAMES: [&str; 6] = [
    "POST /v1/sales/{sale_id}/claims",
    "holdfast.v1.Inventory/Submit",
    "command claim",
    "batch",
    "log entry",
    "apply",
];

/// The HTTP door.
struct Door {
    process: Child,
    url: String,
    http: reqwest::Client,
}

impl Drop for Door {
    fn drop(&mut self) {
        // Gone already, if it cannot be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Door {
    fn open(dir: &Path, endpoints: &str, settings: &[String]) -> Door {
        let ready = dir.join("ready");
        let mut process = Command::new(binary())
            .args([
                "api",
                "--endpoints",
                endpoints,
                "--listen",
                "127.0.0.1:0",
                "--dev",
                "--stop-with-stdin",
            ])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = loop {
            if let Ok(said) = std::fs::read(&ready) {
                break said;
            }
            assert_eq!(process.try_wait().unwrap(), None, "the door ended");
            std::thread::yield_now();
        };
        let said: Value = serde_json::from_slice(&said).unwrap();
        Door {
            process,
            url: format!("http://{}", said["listen"].as_str().unwrap()),
            http: reqwest::Client::new(),
        }
    }

    /// Asks it to stop in good order, and waits until it has.
    fn stop(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }

    /// A granted claim under this `traceparent`: the answer's own, and the claim.
    async fn claim(&self, user: &str, traceparent: &str) -> (String, Value) {
        let token = self.http.post(format!("{}/dev/token", self.url));
        let token = token.json(&json!({ "sub": user })).send().await.unwrap();
        let token: Value = token.json().await.unwrap();
        let claim = self.http.post(format!("{}/v1/sales/hot/claims", self.url));
        let claim = claim
            .bearer_auth(token["token"].as_str().unwrap())
            .header("idempotency-key", user)
            .header("traceparent", traceparent)
            .json(&json!({}));
        let answer = claim.send().await.unwrap();
        let told = answer.headers()["traceparent"].to_str().unwrap().to_owned();
        assert_eq!(answer.status(), 201);
        (told, answer.json().await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_followed_from_the_caller_through_the_log_to_apply() {
    // Before the first HTTP client.
    api::payment::use_ring();
    let mut collector = Collector::open().await;
    let dir = tempfile::tempdir().unwrap();
    // Of those who do not ask for it, nobody is followed.
    let settings = [
        format!("log.otlp_endpoint={}", collector.url),
        "log.otlp_sample_per_mille=0".to_owned(),
    ];
    let nodes: Vec<NodeProcess> = (1..=3)
        .map(|id| {
            let settings = Settings {
                set: settings.to_vec(),
                ..Settings::default()
            };
            NodeProcess::start_with(binary(), &dir.path().join(format!("node-{id}")), id, settings).unwrap()
        })
        .collect();
    let _client = found(&nodes, 10).await;
    let door = Door::open(dir.path(), &endpoints(&nodes), &settings);

    let caller = "00f067aa0ba902b7";
    let [silent, followed, last] = [
        "11111111111111111111111111111111",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "33333333333333333333333333333333",
    ];
    let (told, _) = door.claim("ann", &format!("00-{silent}-{caller}-00")).await;
    assert_eq!(&told[3..35], silent);
    let (told, claim) = door.claim("bob", &format!("00-{followed}-{caller}-01")).await;
    assert_eq!((&told[3..35], &told[53..]), (followed, "01"));
    let spans = collector.whole(followed).await;

    // Each is part of the one before, the first of the caller's step; its id is what the caller was told.
    let mut parent = caller.to_owned();
    for name in NAMES {
        let seen = &spans[name];
        assert_eq!(hex(&seen.span.parent_span_id), parent, "{name}");
        assert!(seen.span.start_time_unix_nano > 0, "{name}");
        assert!(
            seen.span.end_time_unix_nano >= seen.span.start_time_unix_nano,
            "{name}"
        );
        parent = hex(&seen.span.span_id);
    }
    assert_eq!(hex(&spans[NAMES[0]].span.span_id), told[36..52]);
    let stands = |name: &str| (spans[name].service.as_str(), spans[name].span.kind);
    assert_eq!(
        NAMES.map(stands),
        [
            ("holdfast-api", SERVER),
            ("holdfast-api", CLIENT),
            ("holdfast-node", SERVER),
            ("holdfast-node", INTERNAL),
            ("holdfast-node", INTERNAL),
            ("holdfast-node", INTERNAL),
        ]
    );
    let status = spans[NAMES[0]].number("http.response.status_code");
    let route = spans[NAMES[0]].text("http.route");
    assert_eq!(
        (status, route.as_deref()),
        (Some(201), Some("/v1/sales/{sale_id}/claims"))
    );
    // The log index is that of the receipt.
    let index = claim["receipt"]["log_index"].as_i64();
    assert!(index.is_some_and(|index| index > 0), "{claim}");
    for name in ["command claim", "log entry", "apply"] {
        assert_eq!(spans[name].number("raft.log_index"), index, "{name}");
    }
    assert_eq!(
        spans["log entry"].number("raft.term"),
        claim["receipt"]["term"].as_i64()
    );

    // Exporters send in order: all that was seen of the first claim would have come before this one's. A door that
    // stops sends what it has left.
    door.claim("carl", &format!("00-{last}-{caller}-01")).await;
    tokio::task::spawn_blocking(|| door.stop()).await.unwrap();
    while let Ok(seen) = collector.spans.try_recv() {
        collector.seen.push(seen);
    }
    let spans = collector.of_trace(last);
    for name in &NAMES[..2] {
        assert!(spans.contains_key(*name), "{name} was not sent: {spans:#?}");
    }
    collector.whole(last).await;
    assert!(collector.of_trace(silent).is_empty(), "nobody asked for it");
    assert_eq!(
        collector.seen.len(),
        2 * NAMES.len(),
        "nor for anything else: {:#?}",
        collector.seen
    );
}
