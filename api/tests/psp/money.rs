//! Every road of the API, and the books after it.

use api::payment::simulator::ServerOptions;
use serde_json::json;

use crate::shop::{KEY, Shop, new_payment, text};

#[tokio::test]
async fn a_payment_is_created_confirmed_captured_and_refunded() {
    let shop = Shop::open().await;
    let created = shop
        .post("/v1/payment_intents", "k1", &new_payment("c_1", "pm_card_visa"))
        .await
        .ok();
    assert_eq!(created["status"], "requires_confirmation");
    assert_eq!(created["metadata"], json!({ "claim_id": "c_1", "attempt": "1" }));
    assert_eq!(
        (&created["amount"], &created["currency"]),
        (&json!(4_900), &json!("eur"))
    );
    let id = text(&created["id"]);
    assert!(id.starts_with("pi_"));

    let path = format!("/v1/payment_intents/{id}");
    let form = [
        ("return_url", "http://localhost/back"),
        ("expand[]", "latest_charge"),
    ];
    let confirmed = shop.post(&format!("{path}/confirm"), "k2", &form).await.ok();
    assert_eq!(confirmed["status"], "requires_capture");
    assert_eq!(confirmed["amount_capturable"], 4_900);
    assert_eq!(confirmed["latest_charge"]["captured"], false);
    let charge = text(&confirmed["latest_charge"]["id"]);

    let captured = shop
        .post(&format!("{path}/capture"), "k3", &[("amount_to_capture", "4000")])
        .await
        .ok();
    assert_eq!(captured["status"], "succeeded");
    assert_eq!(
        (&captured["amount_received"], &captured["amount_capturable"]),
        (&json!(4_000), &json!(0))
    );
    assert_eq!(captured["latest_charge"], charge.as_str());

    let form = [
        ("payment_intent", id.as_str()),
        ("amount", "1500"),
        ("reason", "requested_by_customer"),
    ];
    let refund = shop.post("/v1/refunds", "k4", &form).await.ok();
    assert_eq!(
        (&refund["status"], &refund["amount"]),
        (&json!("succeeded"), &json!(1_500))
    );
    let rest = shop.post("/v1/refunds", "k5", &[("charge", &charge)]).await.ok();
    assert_eq!(rest["amount"], 2_500);
    let none = shop.post("/v1/refunds", "k6", &[("charge", &charge)]).await;
    assert_eq!(
        none.error(),
        (400, "invalid_request_error", "charge_already_refunded")
    );

    let charged = shop.get(&format!("/v1/charges/{charge}")).await.ok();
    assert_eq!(
        (&charged["amount_refunded"], &charged["refunded"]),
        (&json!(4_000), &json!(true))
    );
    let read = shop
        .get(&format!("/v1/refunds/{}", text(&refund["id"])))
        .await
        .ok();
    assert_eq!(read, refund);
    let of_payment = shop.get(&format!("/v1/refunds?payment_intent={id}")).await.ok();
    assert_eq!(of_payment["data"].as_array().map(Vec::len), Some(2));

    let ledger = shop.ledger().await;
    let reference = &ledger.references["c_1"];
    assert_eq!((reference.payments, reference.captures), (1, 1));
    assert_eq!(
        (reference.captured_minor, reference.refunded_minor),
        (4_000, 4_000)
    );
    assert_eq!(ledger.payments[0].net_minor, 0);
    assert_eq!(ledger.payments[0].attempt.as_deref(), Some("1"));
    assert!(ledger.double_charged.is_empty());

    let csv = shop.settlement().await;
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(
        lines[0],
        [
            "type",
            "id",
            "source",
            "payment_id",
            "amount_minor",
            "currency",
            "fee_minor",
            "created"
        ]
    );
    let amounts: Vec<_> = lines[1..]
        .iter()
        .map(|line| (line[0], line[3], line[4], line[5]))
        .collect();
    let id = id.as_str();
    assert_eq!(
        amounts,
        [
            ("charge", id, "4000", "EUR"),
            ("refund", id, "-1500", "EUR"),
            ("refund", id, "-2500", "EUR")
        ]
    );
    shop.close().await.unwrap();
}

#[tokio::test]
async fn a_payment_may_be_taken_in_one_call() {
    let shop = Shop::open().await;
    let form = [
        ("amount", "500"),
        ("currency", "JPY"),
        ("payment_method", "pm_card_visa"),
        ("payment_method_types[]", "card"),
        ("confirm", "true"),
        ("return_url", "http://localhost/back"),
    ];
    let paid = shop.post("/v1/payment_intents", "", &form).await.ok();
    assert_eq!(
        (&paid["status"], &paid["amount_received"]),
        (&json!("succeeded"), &json!(500))
    );
    assert_eq!(shop.ledger().await.totals["jpy"].captured_minor, 500);
}

#[tokio::test]
async fn a_payment_is_cancelled_until_it_is_captured() {
    let shop = Shop::open().await;
    for (claim, authorized) in [("c_1", false), ("c_2", true)] {
        let id = if authorized {
            shop.authorize(claim, "pm_card_visa").await
        } else {
            shop.create(claim, "pm_card_visa").await
        };
        let path = format!("/v1/payment_intents/{id}/cancel");
        let form = [("cancellation_reason", "requested_by_customer")];
        let cancelled = shop.post(&path, &format!("{claim}.cancel"), &form).await.ok();
        assert_eq!(cancelled["status"], "canceled");
        assert_eq!(cancelled["amount_capturable"], 0);
        let again = shop
            .post(&format!("/v1/payment_intents/{id}/capture"), "", &[])
            .await;
        assert_eq!(
            again.error(),
            (400, "invalid_request_error", "payment_intent_unexpected_state")
        );
        assert_eq!(again.json["error"]["payment_intent"]["status"], "canceled");
    }
    let id = shop.authorize("c_3", "pm_card_visa").await;
    shop.post(&format!("/v1/payment_intents/{id}/capture"), "", &[])
        .await
        .ok();
    let late = shop
        .post(&format!("/v1/payment_intents/{id}/cancel"), "", &[])
        .await;
    assert_eq!(late.error().2, "payment_intent_unexpected_state");
    let ledger = shop.ledger().await;
    assert_eq!(ledger.totals["eur"].authorized_minor, 0);
    assert_eq!(ledger.totals["eur"].captured_minor, 4_900);
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let shop = Shop::open().await;
    let id = shop.authorize("c_1", "pm_card_visa").await;
    let payment = format!("/v1/payment_intents/{id}");
    let (confirm, capture) = (format!("{payment}/confirm"), format!("{payment}/capture"));
    let create = "/v1/payment_intents";
    let good = [("amount", "4900"), ("currency", "eur")];
    let with = |name, value| [good[0], good[1], (name, value)];
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], u16, &'a str, &'a str);
    let table: &[Row<'_>] = &[
        (create, &good[1..], 400, "parameter_missing", "amount"),
        (create, &good[..1], 400, "parameter_missing", "currency"),
        (create, &with("amount", "10"), 400, "amount_too_small", "amount"),
        (
            create,
            &with("amount", "100000000"),
            400,
            "amount_too_large",
            "amount",
        ),
        (
            create,
            &with("amount", "4.90"),
            400,
            "parameter_invalid_integer",
            "amount",
        ),
        (
            create,
            &[("amount", "4901"), ("currency", "kwd")],
            400,
            "invalid_charge_amount",
            "amount",
        ),
        (
            create,
            &with("currency", "xxx"),
            400,
            "parameter_invalid_enum",
            "currency",
        ),
        (create, &with("colour", "red"), 400, "parameter_unknown", "colour"),
        (
            create,
            &with("confirm", "1"),
            400,
            "parameter_invalid_boolean",
            "confirm",
        ),
        (
            create,
            &with("capture_method", "later"),
            400,
            "parameter_invalid_enum",
            "capture_method",
        ),
        (
            create,
            &with("payment_method", "pm_card_vista"),
            404,
            "resource_missing",
            "payment_method",
        ),
        (
            create,
            &with("return_url", "http://localhost"),
            400,
            "parameter_invalid",
            "return_url",
        ),
        (
            "/v1/payment_intents/pi_none/confirm",
            &[],
            404,
            "resource_missing",
            "intent",
        ),
        (&confirm, &[], 400, "payment_intent_unexpected_state", ""),
        (
            &capture,
            &[("amount_to_capture", "4901")],
            400,
            "amount_too_large",
            "amount_to_capture",
        ),
        (
            &capture,
            &[("amount_to_capture", "0")],
            400,
            "parameter_invalid_integer",
            "amount_to_capture",
        ),
        ("/v1/refunds", &[], 400, "parameter_missing", "payment_intent"),
        (
            "/v1/refunds",
            &[("payment_intent", &id)],
            400,
            "payment_intent_unexpected_state",
            "",
        ),
        (
            "/v1/refunds",
            &[("charge", "ch_none")],
            404,
            "resource_missing",
            "charge",
        ),
        ("/v1/customers", &[], 404, "", ""),
        (
            "/_/faults",
            &[("decline_rate", "7")],
            400,
            "faults_not_understood",
            "",
        ),
        (
            "/_/faults",
            &[("declines", "0.1")],
            400,
            "faults_not_understood",
            "",
        ),
    ];
    for (path, form, status, code, param) in table {
        let told = shop.post(path, "", form).await;
        assert_eq!(
            told.error(),
            (*status, "invalid_request_error", *code),
            "{path} {form:?}: {}",
            told.json
        );
        assert_eq!(
            told.json["error"]["param"].as_str().unwrap_or_default(),
            *param,
            "{path} {form:?}"
        );
        assert!(!told.header("request-id").is_empty());
    }
    let unpaid = shop.create("c_2", "").await;
    let told = shop
        .post(&format!("/v1/payment_intents/{unpaid}/confirm"), "", &[])
        .await;
    assert_eq!(told.error().2, "payment_intent_unexpected_state");
    for path in [
        "/v1/payment_intents/pi_x",
        "/v1/charges/ch_x",
        "/v1/refunds/re_x",
        "/v1/events/evt_x",
        "/v1/x",
    ] {
        assert_eq!(shop.get(path).await.status, 404, "{path}");
    }
    for query in ["limit=0", "limit=101", "starting_after=pi_x", "colour=red"] {
        let told = shop.get(&format!("/v1/payment_intents?{query}")).await;
        assert!(told.status.is_client_error(), "{query}: {}", told.status);
    }
    // Nothing of this left a trace.
    let ledger = shop.ledger().await;
    assert_eq!(ledger.payments.len(), 2);
    assert_eq!(ledger.totals["eur"].authorized_minor, 4_900);
    assert_eq!(ledger.totals["eur"].captured_minor, 0);
}

#[tokio::test]
async fn only_a_key_opens_the_api() {
    let shop = Shop::with(ServerOptions {
        api_key: Some("sk_test_mine".into()),
        ..ServerOptions::default()
    })
    .await;
    let url = format!("{}/v1/payment_intents", shop.base);
    let get = || shop.client.get(&url);
    for (request, status) in [
        (get(), 401),
        (get().bearer_auth(KEY), 401),
        (get().header("authorization", "Bearer"), 401),
        (get().header("authorization", "Basic ???"), 401),
        (get().bearer_auth("sk_test_mine"), 200),
        (get().basic_auth("sk_test_mine"), 200),
    ] {
        let told = request.send().await.unwrap();
        assert_eq!(told.status, status, "{}", told.json);
    }
    let open = Shop::open().await;
    let url = format!("{}/v1/payment_intents", open.base);
    for (key, status) in [("sk_test_any", 200), ("sk_live_any", 401), ("pk_test_any", 401)] {
        let told = open.client.get(&url).bearer_auth(key).send().await.unwrap();
        assert_eq!(told.status, status, "{key}");
    }
    let large = "x".repeat(ServerOptions::default().body_bytes_max);
    let told = open
        .post("/v1/payment_intents", "", &[("description", &large)])
        .await;
    assert_eq!(told.status, 413);
}

#[tokio::test]
async fn a_key_repeats_its_answer_and_nothing_else() {
    let shop = Shop::open().await;
    let form = new_payment("c_1", "pm_card_visa");
    let first = shop.post("/v1/payment_intents", "k1", &form).await;
    let version = [("stripe-version", "2024-06-20"), ("idempotency-key", "k1")];
    let mut again = shop.try_post("/v1/payment_intents", "k1", &form);
    again = again.header(version[0].0, version[0].1);
    let again = again.send().await.unwrap();
    assert_eq!(again.json, first.json);
    assert_eq!(
        (
            first.header("idempotent-replayed"),
            again.header("idempotent-replayed")
        ),
        ("", "true")
    );
    assert_eq!(again.header("original-request"), first.header("request-id"));
    assert_eq!(again.header("idempotency-key"), "k1");
    assert_eq!(again.header("stripe-version"), "2024-06-20");

    let other = shop
        .post("/v1/payment_intents", "k1", &new_payment("c_2", "pm_card_visa"))
        .await;
    assert_eq!(other.error(), (400, "idempotency_error", ""));
    let id = text(&first.json["id"]);
    let elsewhere = shop
        .post(&format!("/v1/payment_intents/{id}/confirm"), "k1", &[])
        .await;
    assert_eq!(elsewhere.error(), (400, "idempotency_error", ""));
    let long = "k".repeat(256);
    assert_eq!(shop.post("/v1/payment_intents", &long, &form).await.status, 400);

    // A refusal by the state is saved; a refusal by shape is not.
    let path = format!("/v1/payment_intents/{id}/capture");
    let early = shop.post(&path, "k2", &[]).await;
    assert_eq!(early.status, 400);
    shop.post(&format!("/v1/payment_intents/{id}/confirm"), "k3", &[])
        .await
        .ok();
    let replayed = shop.post(&path, "k2", &[]).await;
    assert_eq!(
        (replayed.status.as_u16(), replayed.header("idempotent-replayed")),
        (400, "true")
    );
    assert_eq!(shop.post(&path, "k4", &[("colour", "red")]).await.status, 400);
    shop.post(&path, "k4", &[]).await.ok();
    assert_eq!(shop.ledger().await.references["c_1"].captures, 1);
}

#[tokio::test]
async fn lists_turn_pages_both_ways() {
    let shop = Shop::open().await;
    let mut ids = Vec::new();
    for claim in 0..5 {
        ids.push(shop.create(&format!("c_{claim}"), "pm_card_visa").await);
    }
    ids.reverse();
    let page = async |query: String| {
        let page = shop.get(&format!("/v1/payment_intents?{query}")).await.ok();
        let ids: Vec<_> = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|object| text(&object["id"]))
            .collect();
        (ids, page["has_more"].as_bool().unwrap())
    };
    assert_eq!(page("limit=5".into()).await, (ids.clone(), false));
    assert_eq!(page("limit=2".into()).await, (ids[..2].to_vec(), true));
    assert_eq!(
        page(format!("limit=2&starting_after={}", ids[1])).await,
        (ids[2..4].to_vec(), true)
    );
    assert_eq!(
        page(format!("limit=2&starting_after={}", ids[3])).await,
        (ids[4..].to_vec(), false)
    );
    assert_eq!(
        page(format!("limit=2&ending_before={}", ids[3])).await,
        (ids[1..3].to_vec(), true)
    );
    let events = shop
        .get("/v1/events?type=payment_intent.created&limit=100")
        .await
        .ok();
    assert_eq!(events["data"].as_array().map(Vec::len), Some(5));
    let event = &events["data"][0];
    assert_eq!(event["data"]["object"]["id"], ids[0].as_str());
    assert_eq!(
        &shop.get(&format!("/v1/events/{}", text(&event["id"]))).await.ok(),
        event
    );
    assert_eq!(shop.get("/_/events?limit=1").await.ok()["data"][0], *event);
}

#[tokio::test]
async fn disputes_take_money_back_on_demand() {
    let shop = Shop::open().await;
    let id = shop.authorize("c_1", "pm_card_visa").await;
    let early = shop.post("/_/dispute", "", &[("payment_intent", &id)]).await;
    assert_eq!(early.status, 400, "nothing was captured yet");
    shop.post(&format!("/v1/payment_intents/{id}/capture"), "", &[])
        .await
        .ok();
    let dispute = shop
        .post("/_/dispute", "", &[("payment_intent", &id), ("amount", "900")])
        .await
        .ok();
    assert_eq!(
        (&dispute["status"], &dispute["amount"]),
        (&json!("needs_response"), &json!(900))
    );
    assert_eq!(shop.ledger().await.payments[0].net_minor, 4_000);
    let refund = shop.post("/v1/refunds", "", &[("payment_intent", &id)]).await;
    assert_eq!(refund.error().2, "charge_disputed");
    let dispute = text(&dispute["id"]);
    let form = [("dispute", dispute.as_str()), ("outcome", "won")];
    let won = shop.post("/_/dispute/close", "", &form).await.ok();
    assert_eq!(won["status"], "won");
    assert_eq!(shop.post("/_/dispute/close", "", &form).await.status, 400);
    assert_eq!(shop.get(&format!("/v1/disputes/{dispute}")).await.ok(), won);
    assert_eq!(shop.ledger().await.payments[0].net_minor, 4_900);

    let id = shop.authorize("c_2", "pm_card_createDispute").await;
    shop.post(&format!("/v1/payment_intents/{id}/capture"), "", &[])
        .await
        .ok();
    let ledger = shop.ledger().await;
    assert_eq!(ledger.references["c_2"].disputed_minor, 4_900);
    let csv = shop.settlement().await;
    let moved = csv
        .lines()
        .skip(1)
        .map(|line| line.split(',').step_by(4).take(2).collect::<Vec<_>>());
    assert_eq!(
        moved.collect::<Vec<_>>(),
        [
            ["charge", "4900"],
            ["dispute", "-900"],
            ["dispute_reversal", "900"],
            ["charge", "4900"],
            ["dispute", "-4900"]
        ]
    );
}

#[tokio::test]
async fn the_help_is_served() {
    let shop = Shop::open().await;
    let told = shop.client.get(&shop.base).send().await.unwrap();
    assert!(text(&told.json).contains("pm_card_authenticationRequired"));
}
