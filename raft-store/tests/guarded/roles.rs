//! Every call of the port, as the descriptors have them, by every kind of caller.

use std::{
    collections::BTreeSet,
    io::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use client::{Client, Error, NewSale, Reason};
use prost::Message;
use prost_types::FileDescriptorSet;
use security::{
    Guard, Kind,
    access::{GRPC, Who, find},
    tokens::new_token,
};
use tonic::{
    Code, Request, client::Grpc, codegen::http::uri::PathAndQuery, metadata::MetadataMap, transport::Channel,
};
use tonic_prost::ProstCodec;
use tracing_subscriber::fmt::MakeWriter;

use crate::shop::{Shop, channel, found};

/// Longest any of these calls may wait for what will not come.
const PATIENCE: Duration = Duration::from_secs(2);

/// All calls that the node serves.
fn calls() -> BTreeSet<String> {
    let sets = [
        proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let files = sets
        .into_iter()
        .flat_map(|set| FileDescriptorSet::decode(set).unwrap().file);
    files
        .flat_map(|file| {
            let package = file.package().to_owned();
            file.service.into_iter().flat_map(move |service| {
                let package = package.clone();
                let name = service.name().to_owned();
                service
                    .method
                    .into_iter()
                    .map(move |method| format!("/{package}.{name}/{}", method.name()))
            })
        })
        .collect()
}

/// Makes a call with an empty message; `None` when it was let through, whatever became of it then.
async fn refusal(channel: &Channel, call: &str, metadata: &MetadataMap) -> Option<tonic::Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::try_from(call).unwrap();
    let mut request = Request::new(futures::stream::iter([()]));
    *request.metadata_mut() = metadata.clone();
    request.set_timeout(PATIENCE);
    let answer = grpc
        .streaming(request, path, ProstCodec::<(), ()>::default())
        .await;
    answer
        .err()
        .filter(|status| matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated))
}

#[test]
fn every_call_has_a_row_and_every_row_a_call() {
    let served = calls();
    let known: BTreeSet<String> = GRPC.iter().map(|row| row.call.to_owned()).collect();
    assert_eq!(
        served, known,
        "a call without a row is refused to everybody; add it to security::access::GRPC"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_for_the_roles_of_its_row_and_for_nobody_else() {
    let shop = Shop::new();
    let node = shop.start(1, shop.guard(1)).await.unwrap();
    for kind in Kind::ALL {
        let channel = channel(node.address().to_string(), Some(shop.caller(kind)));
        for call in calls() {
            let allowed = match find(GRPC, &call).unwrap().who {
                Who::Anybody => true,
                Who::Only(kinds) => kinds.contains(&kind),
            };
            let refused = refusal(&channel, &call, &MetadataMap::new()).await;
            assert_eq!(refused.is_none(), allowed, "{call} by {kind}: {refused:?}");
            if let Some(status) = refused {
                assert_eq!(status.code(), Code::PermissionDenied);
                assert!(status.message().contains("needs the role"), "{status}");
            }
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_as_good_as_a_certificate_and_none_is_good_for_nothing() {
    let shop = Shop::new();
    let (token, stanza) = new_token("grafana", Kind::Auditor).unwrap();
    let guards = [
        (shop.guard_with_tokens(1, &stanza), true),
        // Behind a proxy that has its own TLS.
        (
            Guard {
                tls: None,
                ..shop.guard_with_tokens(2, &stanza)
            },
            false,
        ),
    ];
    for (guard, protected) in guards {
        let id = if protected { 1 } else { 2 };
        let node = shop.start(id, guard).await.unwrap();
        // A door's certificate, so that one can see which of both counts.
        let tls = protected.then(|| shop.caller(Kind::Api));
        let channel = channel(node.address().to_string(), tls);
        let mut shown = MetadataMap::new();
        shown.insert("authorization", format!("Bearer {token}").parse().unwrap());
        let mut wrong = MetadataMap::new();
        wrong.insert("authorization", "Bearer holdfast_0".parse().unwrap());
        for call in calls() {
            let row = find(GRPC, &call).unwrap();
            let Who::Only(kinds) = row.who else {
                assert!(refusal(&channel, &call, &wrong).await.is_none(), "{call}");
                continue;
            };
            let refused = refusal(&channel, &call, &shown).await;
            assert_eq!(
                refused.is_none(),
                kinds.contains(&Kind::Auditor),
                "{call}: {refused:?}"
            );
            let refused = refusal(&channel, &call, &wrong).await.unwrap();
            assert_eq!(refused.code(), Code::Unauthenticated, "{call}");
            if !protected {
                let nobody = refusal(&channel, &call, &MetadataMap::new()).await;
                assert_eq!(
                    nobody.is_none(),
                    kinds.contains(&Kind::Node),
                    "{call}: {nobody:?}"
                );
            }
        }
        // The same through our own client.
        let mut builder = Client::builder()
            .endpoints([node.address().to_string()])
            .token(&*token);
        if protected {
            builder = builder.tls(shop.caller(Kind::Api));
        }
        let client = builder.build().unwrap();
        client.check().await.unwrap();
        let refused = client.cluster().remove(7, true).await;
        if let Err(Error::Rejected(why)) = &refused {
            assert_eq!(why.reason, Reason::Forbidden, "{why:?}");
        }
        assert!(refused.is_err());
        node.stop().await;
    }
}

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
    client.withdraw("hot", 100).key("w").send().await.unwrap_err();
    let told = lines.of_audit().split_off(before);
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
