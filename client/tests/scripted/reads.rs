//! Reads go where their freshness allows.

use std::collections::HashMap;

use client::{Consistency, Error, Reason};
use proto::v1::{GetSaleResponse, Sale, consistency::Level};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::fake::Net;

fn sale(name: &str) -> Result<GetSaleResponse, Status> {
    let sale = Sale {
        sale_id: "hot".into(),
        name: name.into(),
        ..Sale::default()
    };
    Ok(GetSaleResponse {
        sale: Some(sale),
        position: None,
    })
}

#[tokio::test(start_paused = true)]
async fn linearizable_reads_follow_the_leader() {
    let net = Net::default();
    let (mut a, mut b) = (net.node("a:1"), net.node("b:1"));
    net.lead("a:1", 1, &["a:1", "b:1"]);
    let client = net.client(&["a:1", "b:1"]);
    let read = tokio::spawn(async move { client.get_sale("hot", Consistency::Linearizable).await });
    let mut details = ErrorDetails::new();
    details.set_error_info(
        "NOT_LEADER",
        "holdfast",
        HashMap::from([("leader".into(), "b:1".into())]),
    );
    a.sales
        .next()
        .await
        .answer(Err(Status::with_error_details(Code::Unavailable, "no", details)));
    let ask = b.sales.next().await;
    assert_eq!(ask.request.consistency.unwrap().level(), Level::Linearizable);
    ask.answer(sale("from b"));
    assert_eq!(read.await.unwrap().unwrap().0.name, "from b");
}

#[tokio::test(start_paused = true)]
async fn other_reads_take_turns_and_pass_over_nodes_that_cannot_answer() {
    let net = Net::default();
    let (mut a, mut b) = (net.node("a:1"), net.node("b:1"));
    net.lead("a:1", 1, &["a:1", "b:1"]);
    // Nobody listens at c.
    let client = net.client(&["a:1", "b:1", "c:1"]);
    let (mut from_a, mut from_b) = (0, 0);
    for _ in 0..6 {
        let reader = client.clone();
        let read = tokio::spawn(async move { reader.get_sale("hot", Consistency::Bounded(500)).await });
        let ask = tokio::select! {
            ask = a.sales.next() => { from_a += 1; ask }
            ask = b.sales.next() => { from_b += 1; ask }
        };
        assert_eq!(ask.request.consistency.unwrap().max_age_ms, 500);
        ask.answer(sale("some"));
        read.await.unwrap().unwrap();
    }
    assert!(from_a >= 2 && from_b >= 2, "{from_a} and {from_b}");

    // One that is too far behind says so; another is asked.
    let read = tokio::spawn(async move { client.get_sale("hot", Consistency::Bounded(500)).await });
    for _ in 0..2 {
        let ask = tokio::select! { ask = a.sales.next() => ask, ask = b.sales.next() => ask };
        if from_a == 0 {
            ask.answer(sale("fresh"));
        } else {
            let mut details = ErrorDetails::new();
            details.set_error_info("TOO_OLD", "holdfast", HashMap::new());
            let status = Status::with_error_details(Code::FailedPrecondition, "700 ms old", details);
            ask.answer(Err(status));
            from_a = 0;
        }
    }
    assert_eq!(read.await.unwrap().unwrap().0.name, "fresh");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_refused_by_its_name() {
    let net = Net::default();
    let mut a = net.node("a:1");
    net.lead("a:1", 1, &["a:1"]);
    let client = net.client(&["a:1"]);
    let reader = client.clone();
    let read = tokio::spawn(async move { reader.get_sale("cold", Consistency::Local).await });
    a.sales
        .next()
        .await
        .answer(Err(Status::not_found("no sale `cold`")));
    let Err(Error::Rejected(rejected)) = read.await.unwrap() else {
        panic!("found")
    };
    assert_eq!(
        (rejected.reason, rejected.message.as_str()),
        (Reason::SaleUnknown, "no sale `cold`")
    );

    let read = tokio::spawn(async move {
        client
            .get_claim("c_1", Some("u"), Consistency::Linearizable)
            .await
    });
    let ask = a.claims.next().await;
    assert_eq!(
        (ask.request.claim_id.as_str(), ask.request.user.as_str()),
        ("c_1", "u")
    );
    ask.answer(Err(Status::not_found("no such claim")));
    let Err(Error::Rejected(rejected)) = read.await.unwrap() else {
        panic!("found")
    };
    assert_eq!(rejected.reason, Reason::ClaimUnknown);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_nobody_answers_is_unavailable_never_unknown() {
    let net = Net::default();
    let mut a = net.node("a:1");
    net.lead("a:1", 1, &["a:1"]);
    let client = net.client(&["a:1"]);
    let error = client
        .get_sale("hot", Consistency::Linearizable)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(a.sales.now().is_some());
}

#[tokio::test(start_paused = true)]
async fn lists_come_back_with_what_they_reflect() {
    let net = Net::default();
    let _a = net.node("a:1");
    net.lead("a:1", 1, &["a:1"]);
    let client = net.client(&["a:1"]);
    let (sales, _) = client.list_sales(None, 10, Consistency::Local).await.unwrap();
    assert!(sales.is_empty());
    let (claims, _) = client
        .list_claims("hot", 1, 10, Consistency::Local)
        .await
        .unwrap();
    assert_eq!(claims[0].rank, 1);
    let (claims, _) = client
        .list_user_claims("hot", "u", 10, Consistency::Local)
        .await
        .unwrap();
    assert_eq!(claims.len(), 1);
    assert!(
        client
            .list_user_claims("hot", "", 10, Consistency::Local)
            .await
            .is_err()
    );
}
