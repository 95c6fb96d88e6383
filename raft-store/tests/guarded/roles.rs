//! Every call of the port, as the descriptors have them, by every kind of caller.

use std::collections::BTreeSet;

use client::{Client, Error, Reason};
use futures::future::join_all;
use prost::Message;
use prost_types::FileDescriptorSet;
use security::{
    Guard, Kind,
    access::{GRPC, Who, find},
    tokens::new_token,
};
use tonic::{Code, metadata::MetadataMap};

use crate::shop::{Shop, channel, found, refusal};

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
        // Together: those that were let through wait for what does not come.
        let refusals = calls().into_iter().map(async |call| {
            let refused = refusal(&channel, &call, &MetadataMap::new()).await;
            (call, refused)
        });
        for (call, refused) in join_all(refusals).await {
            let allowed = match find(GRPC, &call).unwrap().who {
                Who::Anybody => true,
                Who::Only(kinds) => kinds.contains(&kind),
            };
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
        let nothing = MetadataMap::new();
        let refusals = calls().into_iter().map(async |call| {
            let refused = tokio::join!(
                refusal(&channel, &call, &shown),
                refusal(&channel, &call, &wrong),
                refusal(&channel, &call, &nothing),
            );
            (call, refused)
        });
        for (call, (shown, wrong, nothing)) in join_all(refusals).await {
            let Who::Only(kinds) = find(GRPC, &call).unwrap().who else {
                assert!(wrong.is_none(), "{call}");
                continue;
            };
            assert_eq!(
                shown.is_none(),
                kinds.contains(&Kind::Auditor),
                "{call}: {shown:?}"
            );
            assert_eq!(wrong.unwrap().code(), Code::Unauthenticated, "{call}");
            if !protected {
                let of_nodes = kinds.contains(&Kind::Node);
                assert_eq!(nothing.is_none(), of_nodes, "{call}: {nothing:?}");
            }
        }
        if protected {
            // The same through our own client, which looks for a leader first.
            let nodes = [node];
            found(&nodes, shop.caller(Kind::Operator)).await;
            let client = Client::builder()
                .endpoints([nodes[0].address().to_string()])
                .token(&*token)
                .tls(shop.caller(Kind::Api))
                .build()
                .unwrap();
            client.check().await.unwrap();
            let refused = client.cluster().remove(7, true).await;
            let Err(Error::Rejected(why)) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(why.reason, Reason::Forbidden, "{why:?}");
            let [node] = nodes;
            node.stop().await;
        } else {
            node.stop().await;
        }
    }
}
