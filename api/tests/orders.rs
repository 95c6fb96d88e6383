//! Orders over HTTP.

mod common;

use api::Role;
use client::Document;
use common::*;
use serde_json::{Value, json};

/// An order as the store has it.
fn document() -> Value {
    json!({
        "format": 1,
        "order_id": "o_abc",
        "claim_id": "c_abc",
        "sale_id": "drop-7",
        "user": "ada",
        "quantity": 2,
        "rank": 41,
        "receipt": {"log_index": 55, "position": 6, "term": 3, "log_time_ms": 910_500},
        "amount": {"minor": 25_800, "currency": "EUR"},
        "payment_id": "pi_1",
        "stage": "paid",
        "refunds": [{"refund_id": "re_1", "amount_minor": 800, "status": "succeeded", "at_ms": WALL_MS}],
        "disputes": [{"dispute_id": "dp_1", "amount_minor": 25_800, "status": "won", "at_ms": WALL_MS}],
        "paid_at_ms": WALL_MS,
    })
}

/// A store that has this order and no other document.
fn store_with(order: Value) -> Shared {
    let store = Shared::default();
    script(&store.document, move |document| {
        let found = Document {
            body: order.to_string().into(),
            version: 9,
            fencing_token: 0,
            leased_until_ms: 0,
            expires_at_ms: 0,
            position: position(),
        };
        Ok((document == "orders/o_abc").then_some(found))
    });
    store
}

#[tokio::test]
async fn a_shopper_sees_his_order() {
    let router = routes(&store_with(document()));
    let auth = bearer("ada", Role::Shopper);
    let answer = get(&router, "/v1/orders/o_abc", &[("authorization", &auth)]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(
        answer.json(),
        json!({
            "order_id": "o_abc",
            "claim_id": "c_abc",
            "sale_id": "drop-7",
            "user": "ada",
            "status": "partially_refunded",
            "quantity": 2,
            "rank": 41,
            "amount_minor": 25_800,
            "currency": "EUR",
            "refunded_minor": 800,
            "payment_id": "pi_1",
            "refunds": [{"refund_id": "re_1", "amount_minor": 800, "status": "succeeded"}],
            "disputes": [{"dispute_id": "dp_1", "amount_minor": 25_800, "status": "won"}],
            "paid_at": "2023-11-14T22:13:20.000Z",
            "receipt": {"log_index": 55, "position": 6, "term": 3, "log_time_ms": 910_500},
        })
    );
}

#[tokio::test]
async fn somebody_elses_order_is_as_unknown_as_none() {
    let router = routes(&store_with(document()));
    let ask = async |user, role, path: &'static str| {
        let auth = bearer(user, role);
        get(&router, path, &[("authorization", &auth)]).await
    };
    let none = ask("ada", Role::Shopper, "/v1/orders/o_none").await;
    none.problem(404, "order-unknown");
    let foreign = ask("bob", Role::Shopper, "/v1/orders/o_abc").await;
    assert_eq!(foreign.body, none.body, "nothing tells the one from the other");
    for impossible in ["/v1/orders/o%2Fabc", "/v1/orders/..", "/v1/orders/%C3%A4"] {
        assert_eq!(
            ask("ada", Role::Shopper, impossible).await.body,
            none.body,
            "{impossible}"
        );
    }
    for role in [Role::Platform, Role::Operator, Role::Auditor] {
        assert_eq!(ask("eve", role, "/v1/orders/o_abc").await.status, 200);
    }
    get(&router, "/v1/orders/o_abc", &[])
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn what_cannot_be_read_is_no_order_of_anybody() {
    let auth = bearer("ada", Role::Shopper);
    let mut newer = document();
    newer["format"] = json!(2);
    for broken in [newer, json!({"format": 1})] {
        let router = routes(&store_with(broken));
        let answer = get(&router, "/v1/orders/o_abc", &[("authorization", &auth)]).await;
        answer.problem(500, "internal");
    }
    let away = routes(&Shared::default());
    let answer = get(&away, "/v1/orders/o_abc", &[("authorization", &auth)]).await;
    answer.problem(503, "unavailable");
}
