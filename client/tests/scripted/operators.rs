//! Operators' calls, and the way to the nodes over real sockets.

use std::collections::HashMap;

use client::{Client, Error, Reason};
use proto::v1::{
    Member, MembershipResponse, cluster_server::ClusterServer, inventory_server::InventoryServer,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

use crate::fake::{Net, granted, service};

#[tokio::test(start_paused = true)]
async fn membership_changes_go_to_the_leader() {
    let net = Net::default();
    let (mut a, mut b) = (net.node("a:1"), net.node("b:1"));
    net.lead("a:1", 1, &["a:1", "b:1"]);
    let cluster = net.client(&["a:1"]).cluster();
    let call = tokio::spawn(async move { cluster.add_learner(4, "d:1").await });
    let mut details = ErrorDetails::new();
    details.set_error_info(
        "NOT_LEADER",
        "holdfast",
        HashMap::from([("leader".into(), "b:1".into())]),
    );
    a.learners.next().await.answer(Err(Status::with_error_details(
        Code::FailedPrecondition,
        "no",
        details,
    )));
    let ask = b.learners.next().await;
    assert_eq!((ask.request.node_id, ask.request.endpoint.as_str()), (4, "d:1"));
    let member = Member {
        node_id: 4,
        endpoint: "d:1".into(),
        ..Member::default()
    };
    ask.answer(Ok(MembershipResponse {
        log_index: 5,
        members: vec![member.clone()],
    }));
    assert_eq!(call.await.unwrap().unwrap(), [member]);
}

#[tokio::test(start_paused = true)]
async fn a_membership_change_whose_answer_is_lost_is_unknown_and_not_repeated() {
    let net = Net::default();
    let mut a = net.node("a:1");
    net.lead("a:1", 1, &["a:1"]);
    let cluster = net.client(&["a:1"]).cluster();
    let call = tokio::spawn(async move { cluster.add_learner(4, "d:1").await });
    let ask = a.learners.next().await;
    net.kill("a:1");
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
    assert!(a.learners.now().is_none());
    drop(ask);
}

#[tokio::test(start_paused = true)]
async fn refusals_keep_the_nodes_own_words() {
    let net = Net::default();
    let _a = net.node("a:1");
    net.lead("a:1", 1, &["a:1"]);
    let cluster = net.client(&["a:1"]).cluster();
    let error = cluster.promote(vec![4]).await.unwrap_err();
    assert_eq!(error.to_string(), "refused: node 4 is 900 entries behind; wait");
    let twice = vec![(1, "a:1".to_string()), (2, "b:1".to_string())];
    assert!(matches!(cluster.init(twice).await, Err(Error::Rejected(_))));
    assert!(matches!(cluster.init(vec![]).await, Err(Error::Rejected(_))));
    assert_eq!(cluster.init(vec![(1, "a:1".to_string())]).await.unwrap(), "feed");
    assert!(cluster.remove(4, false).await.unwrap().is_empty());
    assert_eq!(cluster.transfer_leader(2).await.unwrap(), 9);
}

#[tokio::test(start_paused = true)]
async fn everybody_is_asked_for_their_view_and_the_dead_are_listed() {
    let net = Net::default();
    let members = ["a:1", "b:1", "c:1"];
    let (_a, _b) = (net.node("a:1"), net.node("b:1"));
    net.lead("a:1", 3, &members);
    let cluster = net.client(&["b:1"]).cluster();
    let views = cluster.status_all().await;
    let answered: Vec<_> = views
        .iter()
        .map(|(endpoint, view)| (endpoint.as_str(), view.is_ok()))
        .collect();
    assert_eq!(answered, [("a:1", true), ("b:1", true), ("c:1", false)]);
    assert_eq!(cluster.status("b:1").await.unwrap().leader_endpoint, "a:1");
    assert!(matches!(
        cluster.status("c:1").await,
        Err(Error::Unavailable { .. })
    ));
    assert!(matches!(
        cluster.status("nonsense").await,
        Err(Error::Rejected(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_replica_is_asked_for_its_own_state() {
    let net = Net::default();
    let (_a, mut b) = (net.node("a:1"), net.node("b:1"));
    net.lead("a:1", 3, &["a:1", "b:1"]);
    let cluster = net.client(&["a:1"]).cluster();
    assert_eq!(cluster.state_hash("b:1", 77).await.unwrap().log_index, 77);
    assert_eq!(cluster.claims_at("b:1", "hot", 1, 10).await.unwrap().len(), 1);
    let asked = tokio::spawn(async move { cluster.sale_at("b:1", "cold").await });
    b.sales
        .next()
        .await
        .answer(Err(Status::not_found("no sale `cold`")));
    let error = asked.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Rejected(rejected) if rejected.reason == Reason::SaleUnknown));
}

#[tokio::test]
async fn the_default_connector_speaks_tcp() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let net = Net::default();
    let (service, mut node) = service(&address, net.clone());
    net.lead(&address, 1, &[address.as_str()]);
    tokio::spawn(
        Server::builder()
            .add_service(InventoryServer::new(service.clone()))
            .add_service(ClusterServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let client = Client::connect([address]).await.unwrap();
    let call = tokio::spawn(client.claim("hot", "u").key("k").send());
    node.frames.next().await.answer(granted);
    assert_eq!(call.await.unwrap().unwrap().claim.claim_id, "k");
}

#[tokio::test]
async fn connecting_to_nobody_says_who_was_asked() {
    // A port that was free a moment ago, and that nobody listens on.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Client::connect([address.clone()])
        .await
        .err()
        .expect("nobody is there");
    assert!(matches!(error, Error::Unavailable { .. }));
    assert!(error.to_string().contains(&address), "{error}");
}
