//! Who is believed to be a node of the cluster, and who is not.

use std::{sync::Arc, time::Duration};

use client::{Consistency, Error, NewSale, Reason};
use openraft::async_runtime::watch::WatchReceiver;
use proto::internal::{self as wire, raft_client::RaftClient};
use raft_store::{
    net_tcp::TcpNet,
    network::{Cluster, Forgetful, Identity, METADATA_TARGET, NetworkOptions, Peers},
    node::StartError,
};
use security::{Guard, Kind, Name, issue::Validity};
use tonic::{Code, Request};

use crate::shop::{DAYS, Shop, channel, found, name};

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_certified_nodes_sells() {
    let shop = Shop::new();
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(shop.start(id, shop.guard(id)).await.unwrap());
    }
    found(&nodes, shop.caller(Kind::Operator)).await;
    let operator = shop.client(shop.caller(Kind::Operator), &nodes);
    let sale = NewSale {
        sale_id: "hot".into(),
        units_total: 1,
        open: true,
        ..NewSale::default()
    };
    operator.create_sale(sale).key("create").send().await.unwrap();
    let platform = shop.client(shop.caller(Kind::Platform), &nodes);
    platform.claim("hot", "alice").key("a").send().await.unwrap();
    let refused = platform.claim("hot", "bob").key("b").send().await.unwrap_err();
    assert!(matches!(refused, Error::Rejected(why) if why.reason == Reason::SoldOut));

    // An auditor sees and does not touch: told at once, and which role could.
    let auditor = shop.client(shop.caller(Kind::Auditor), &nodes);
    auditor.get_sale("hot", Consistency::Linearizable).await.unwrap();
    let refused = auditor.claim("hot", "carol").key("c").send().await.unwrap_err();
    let Error::Rejected(why) = refused else {
        panic!("{refused}")
    };
    assert_eq!(why.reason, Reason::Forbidden);
    assert!(
        why.message.contains("platform, operator or api"),
        "{}",
        why.message
    );
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_only_the_one_its_certificate_names() {
    let shop = Shop::new();
    let wrong = shop.start(2, shop.guard(1)).await.map(|_| ()).unwrap_err();
    assert!(
        matches!(wrong, StartError::Certificate { node_id: 2, .. }),
        "{wrong}"
    );
    assert!(wrong.to_string().contains("shop/node/1"), "{wrong}");

    let node = shop.start(1, shop.guard(1)).await.unwrap();
    let address = node.address().to_string();
    // Who means node 2 and reaches node 1 says nothing to it.
    let peers = |tls| {
        let cluster = Cluster::default();
        let identity = Identity::new(3, "127.0.0.1:1", cluster, Arc::new(Forgetful));
        Peers::protected(identity, Arc::new(TcpNet), NetworkOptions::default(), tls)
    };
    let of_three = peers(Some(shop.node(3)));
    let report = wire::ClockReport {
        node_id: 3,
        ..wire::ClockReport::default()
    };
    let error = of_three
        .exchange_clock(2, &address, report, PATIENCE)
        .await
        .unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("node 2 was expected"), "{text}");
    let mut raft = RaftClient::new(channel(address.clone(), Some(shop.node(3))));
    let cluster_id = format!("{:032x}", 0xaa);
    raft.enlist(with_target(wire::EnlistRequest { cluster_id }, "1"))
        .await
        .unwrap();
    of_three
        .exchange_clock(1, &address, report, PATIENCE)
        .await
        .unwrap();

    // Node 3 cannot speak as node 2, in any message that names a sender.
    let candidate = wire::Vote {
        term: 9,
        node_id: 2,
        committed: false,
    };
    let leader = Some(wire::Vote {
        committed: true,
        ..candidate
    });
    let meant = |message| with_target(message, "1");
    let ask = wire::VoteRequest {
        vote: Some(candidate),
        ..wire::VoteRequest::default()
    };
    let refused = [
        raft.vote(meant(ask)).await.unwrap_err(),
        raft.pre_vote(meant(ask)).await.unwrap_err(),
        raft.exchange_clock(with_target(wire::ClockReport { node_id: 2, ..report }, "1"))
            .await
            .unwrap_err(),
        {
            let append = wire::AppendRequest {
                vote: leader,
                ..wire::AppendRequest::default()
            };
            let answers = raft
                .append(with_target(futures::stream::iter([append]), "1"))
                .await;
            answers.unwrap().into_inner().message().await.unwrap_err()
        },
        {
            let transfer = wire::TransferLeaderRequest {
                from_leader: leader,
                to_node_id: 1,
                last_log_id: None,
            };
            raft.transfer_leader(with_target(transfer, "1"))
                .await
                .unwrap_err()
        },
    ];
    for status in refused {
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(
            status.message().contains("node 3") && status.message().contains("node 2"),
            "{status}"
        );
    }
    assert_eq!(
        node.raft().metrics().borrow_watched().current_term,
        0,
        "no vote was moved"
    );
    node.stop().await;
}

fn with_target<T>(message: T, target: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert(METADATA_TARGET, target.parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_plain_text_reach_nothing() {
    let (shop, other) = (Shop::new(), Shop::new());
    let node = shop.start(1, shop.guard(1)).await.unwrap();
    let nodes = [node];
    let ended = Validity {
        from_days: -9,
        to_days: -1,
    };
    let late = shop.issue(&name(Kind::Operator, "late"), ended);
    let neighbour = shop.issue(&Name::new("market", Kind::Operator, "bob").unwrap(), DAYS);
    for (who, tls, says) in [
        ("another authority's", other.caller(Kind::Operator), "certificate"),
        ("ended", late, "certificate"),
        ("another cluster's", neighbour, "another cluster"),
    ] {
        let client = shop.client(tls, &nodes);
        let error = client.check().await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{who}: {error}");
        assert!(error.to_string().contains(says), "{who}: {error}");
    }
    let endpoints = [nodes[0].address().to_string()];
    let plain = client::Client::builder()
        .endpoints(endpoints.clone())
        .build()
        .unwrap();
    assert!(plain.check().await.is_err());
    let [node] = nodes;
    node.stop().await;

    // And the other way round: who has certificates does not speak to a node that has none.
    let open = crate::shop::start(&shop.dir.path().join("open"), 1, Guard::open())
        .await
        .unwrap();
    let client = shop.client(shop.caller(Kind::Operator), std::slice::from_ref(&open));
    assert!(client.check().await.is_err());
    open.stop().await;
}
