//! Checkout through the routes, against the real machine in memory and the rehearsal's provider over HTTP.

use std::{sync::Arc, time::Duration};

use axum::http::{Method, StatusCode};
use client::ClaimStatus;
use serde_json::{Value, json};

use super::{Asked, Standing, sweeper::sweep};
use crate::{
    Auth, Keys, Options, documents::Documents, door::Door, ledger, payment::SharedProvider, routes,
    store::Store,
};

mod world;

use world::*;

#[tokio::test]
async fn a_claim_is_paid_for_once() {
    let world = World::new().await;
    let process = world.process();
    let claim_id = world.claim("ada").await;

    let paid = process.pay(&claim_id, "ada", "k1", "pm_card_visa").await;
    assert_eq!(paid.status, 201, "{:#}", paid.json);
    assert_eq!(paid.json["status"], "paid");
    assert_eq!(paid.json["amount_minor"], PRICE_MINOR);
    let order_url = paid.headers["location"].to_str().unwrap().to_owned();
    let order = process.ask(Method::GET, &order_url, "ada", "", Value::Null).await;
    assert_eq!((order.status, &order.json), (StatusCode::OK, &paid.json));

    let again = process.pay(&claim_id, "ada", "k1", "pm_card_visa").await;
    assert_eq!((again.status, &again.json), (StatusCode::CREATED, &paid.json));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let other_body = process.pay(&claim_id, "ada", "k1", "pm_card_mastercard").await;
    assert_eq!(other_body.told(), (422, "key-reused"));
    let other_key = process.pay(&claim_id, "ada", "k2", "pm_card_visa").await;
    assert_eq!(other_key.json, paid.json, "the order that there is");
    let no_key = process.pay(&claim_id, "ada", "", "pm_card_visa").await;
    assert_eq!(no_key.told(), (400, "idempotency-key-missing"));
    let stranger = process.pay(&claim_id, "eve", "k3", "pm_card_visa").await;
    assert_eq!(stranger.told(), (404, "claim-unknown"));

    assert_eq!(world.status_of(&claim_id).await, ClaimStatus::Confirmed);
    assert_eq!(process.status(&claim_id, "ada").await.json["status"], "paid");
    let books = world.books().await;
    assert_eq!(books["totals"]["eur"]["captured_minor"], PRICE_MINOR, "{books:#}");
    world.check_books().await;
    // What is over is gone, and looking for orphans finds none.
    world.store.pass_ms(10);
    assert_eq!(sweep(&process.door.checkouts).await.unwrap(), 0);
    let open = world.store.documents("checkout/", "", 10).await.unwrap();
    assert!(open.documents.is_empty(), "{open:?}");
}

#[tokio::test]
async fn what_cannot_be_paid_is_refused_and_nothing_changes() {
    let world = World::new().await;
    let process = world.process();
    let claim_id = world.claim("ada").await;
    let path = format!("/v1/claims/{claim_id}/checkout");
    for (body, told) in [
        (json!({}), (400, "invalid-request")),
        (
            json!({ "payment_method": "4242424242424242" }),
            (400, "invalid-request"),
        ),
        (json!({ "payment_method": "" }), (400, "invalid-request")),
        (
            json!({ "payment_method": "pm_card_visa", "return_url": "javascript:1" }),
            (400, "invalid-request"),
        ),
        (
            json!({ "payment_method": "pm_card_visa", "amount_minor": 1 }),
            (400, "invalid-request"),
        ),
        (
            json!({ "payment_method": "pm_card_visa", "amount_minor": 1, "currency": "EUR" }),
            (422, "amount-differs"),
        ),
        (
            json!({ "payment_method": "pm_card_visa", "amount_minor": PRICE_MINOR, "currency": "USD" }),
            (422, "amount-differs"),
        ),
    ] {
        let key = format!("k{}", rand::random::<u32>());
        let answer = process.ask(Method::POST, &path, "ada", &key, body.clone()).await;
        assert_eq!(answer.told(), told, "{body}");
    }
    assert_eq!(process.status(&claim_id, "ada").await.told(), (404, "not-found"));
    assert_eq!(world.status_of(&claim_id).await, ClaimStatus::Held);
    assert_eq!(world.books().await["payments"], json!([]));

    // Once the hold is over.
    world.store.pass_ms(181_000);
    let late = process.pay(&claim_id, "ada", "late", "pm_card_visa").await;
    assert_eq!(late.told(), (410, "hold-gone"));
    assert_eq!(world.books().await["payments"], json!([]));
}

#[tokio::test]
async fn a_declined_card_keeps_the_hold_and_another_one_pays() {
    let world = World::new().await;
    let process = world.process();
    let claim_id = world.claim("ada").await;
    let declined = process
        .pay(
            &claim_id,
            "ada",
            "k1",
            "pm_card_visa_chargeDeclinedInsufficientFunds",
        )
        .await;
    assert_eq!(declined.told(), (402, "declined"));
    assert_eq!(declined.json["decline_code"], "insufficient_funds");
    assert_eq!(world.status_of(&claim_id).await, ClaimStatus::Held);
    let again = process
        .pay(
            &claim_id,
            "ada",
            "k1",
            "pm_card_visa_chargeDeclinedInsufficientFunds",
        )
        .await;
    assert_eq!((again.told(), &again.json), ((402, "declined"), &declined.json));
    assert_eq!(process.status(&claim_id, "ada").await.json["status"], "declined");

    world.store.pass_ms(10);
    let paid = process.pay(&claim_id, "ada", "k2", "pm_card_visa").await;
    assert_eq!(paid.status, 201, "{:#}", paid.json);
    let payments = world.books().await["payments"].as_array().unwrap().len();
    assert_eq!(payments, 2, "each attempt has its own");
    world.check_books().await;
}

#[tokio::test]
async fn a_shopper_goes_to_his_bank_and_comes_back() {
    let world = World::new().await;
    let process = world.process();
    let claim_id = world.claim("ada").await;
    let card = "pm_card_authenticationRequired";
    let asked = process.pay(&claim_id, "ada", "k1", card).await;
    assert_eq!(asked.status, 202, "{:#}", asked.json);
    assert_eq!(asked.json["status"], "action-required");
    let url = asked.json["next_action_url"].as_str().unwrap().to_owned();
    // Not back yet: the same key hears the same, another one waits for its turn.
    assert_eq!(process.pay(&claim_id, "ada", "k1", card).await.json, asked.json);
    let other = process.pay(&claim_id, "ada", "k2", "pm_card_visa").await;
    assert_eq!(other.told(), (409, "checkout-in-progress"));

    let passed = world.http.post(&url).send().await.unwrap();
    assert!(passed.status().is_success() || passed.status().is_redirection());
    world.store.pass_ms(5_000);
    let standing = process.see_through(&claim_id, "ada").await;
    assert_eq!(standing.json["status"], "paid", "{:#}", standing.json);
    let paid = process.pay(&claim_id, "ada", "k1", card).await;
    assert_eq!(paid.status, 201, "the same key, decided by now");
    world.check_books().await;
}

#[tokio::test]
async fn a_shopper_who_never_comes_back_is_not_charged() {
    let world = World::new().await;
    let process = world.process();
    let claim_id = world.claim("ada").await;
    let asked = process
        .pay(&claim_id, "ada", "k1", "pm_card_authenticationRequired")
        .await;
    assert_eq!(asked.status, 202);
    // Beyond the cap: 180 s of hold and 60 s of checkout.
    world.store.pass_ms(241_000);
    let standing = process.see_through(&claim_id, "ada").await;
    assert_eq!(standing.json["status"], "hold-gone", "{:#}", standing.json);
    let books = world.books().await;
    assert_eq!(books["payments"][0]["status"], "canceled", "{books:#}");
    assert_eq!(world.status_of(&claim_id).await, ClaimStatus::Expired);
    let same = process
        .pay(&claim_id, "ada", "k1", "pm_card_authenticationRequired")
        .await;
    assert_eq!(same.told(), (410, "hold-gone"));
    world.check_books().await;
}

#[tokio::test]
async fn money_that_cannot_be_taken_gives_the_unit_back() {
    let world = World::new().await;
    let process = world.process();
    let claim_id = world.claim("ada").await;
    let failed = process
        .pay(&claim_id, "ada", "k1", "pm_sim_capture_declined")
        .await;
    assert_eq!(failed.told(), (402, "checkout-failed"), "{:#}", failed.json);
    assert_eq!(world.status_of(&claim_id).await, ClaimStatus::Cancelled);
    let (sale, _) = world
        .store
        .sale("drop-7", client::Consistency::Linearizable)
        .await
        .unwrap();
    assert_eq!((sale.units_available, sale.units_confirmed), (10, 0));
    world.check_books().await;
}

#[tokio::test]
async fn an_answer_that_gets_lost_is_looked_up() {
    for card in [
        "pm_sim_create_lost",
        "pm_sim_confirm_lost",
        "pm_sim_capture_lost",
        "pm_sim_confirm_error_after",
        "pm_sim_capture_error_after",
        "pm_sim_confirm_error_before",
        "pm_sim_capture_hang_after",
        "pm_sim_create_rate_limited",
    ] {
        let world = World::new().await;
        let process = world.process();
        let claim_id = world.claim("ada").await;
        let paid = process.pay(&claim_id, "ada", "k1", card).await;
        assert_eq!(paid.status, 201, "{card}: {:#}", paid.json);
        world.check_books().await;
    }
}

#[tokio::test]
async fn whoever_did_not_wait_hears_of_his_order_under_the_same_key() {
    let world = World::new().await;
    let process = world.process_with(world.provider(), |options| options.budget_ms_max = 300);
    // Longer than he waits.
    let card = "pm_sim_confirm_late";
    let claim_id = world.claim("ada").await;
    let undecided = process.pay(&claim_id, "ada", "k1", card).await;
    assert_eq!(undecided.status, 202, "{:#}", undecided.json);
    let standing = process.see_through(&claim_id, "ada").await;
    assert_eq!(standing.json["status"], "paid", "{:#}", standing.json);
    for replayed in [false, true] {
        let paid = process.pay(&claim_id, "ada", "k1", card).await;
        assert_eq!(paid.status, 201, "{:#}", paid.json);
        assert_eq!(paid.headers.contains_key("idempotent-replayed"), replayed);
    }
    world.check_books().await;
}

#[tokio::test]
async fn the_stores_answers_may_get_lost_as_well() {
    for lost in [1, 2, 3, 5, 8, 20] {
        let world = World::new().await;
        let process = world.process();
        let asked = Asked {
            user: "ada".into(),
            claim_id: world.claim("ada").await,
            key: "k1".into(),
            request: super::journal::Request {
                payment_method: "pm_card_visa".into(),
                return_url: None,
            },
            amount: None,
        };
        world.store.lose_answers(lost);
        let standing = process.door.checkouts.pay(asked, None).await.unwrap();
        assert!(matches!(standing, Standing::Ordered(_)), "{lost}: {standing:?}");
        world.check_books().await;
    }
}

#[tokio::test]
async fn whoever_dies_where_somebody_else_finishes() {
    for (calls, happens) in [
        (1, false),
        (1, true),
        (2, false),
        (2, true),
        (3, false),
        (3, true),
    ] {
        let world = World::new().await;
        let dying = Dying::new(world.provider(), calls, happens);
        let first = world.process_with(Arc::clone(&dying) as SharedProvider, |options| {
            options.budget_ms_max = 600;
            // It is not heard of any more; a deadline would bring it back.
            options.payment_call_ms_max = 3_400_000;
            options.lease_ms = 3_500_000;
        });
        let claim_id = world.claim("ada").await;
        let undecided = first.pay(&claim_id, "ada", "k1", "pm_card_visa").await;
        assert_eq!(undecided.status, 202, "{calls} {happens}: {:#}", undecided.json);
        assert_eq!(undecided.json["status"], "in-progress");
        assert!(*dying.died.lock().unwrap());
        let url = undecided.headers["location"].to_str().unwrap().to_owned();
        assert_eq!(url, format!("/v1/claims/{claim_id}/checkout"));

        let second = world.process();
        assert_eq!(sweep(&second.door.checkouts).await.unwrap(), 0, "it is owned");
        let busy = second.pay(&claim_id, "ada", "k2", "pm_card_visa").await;
        assert_eq!(busy.told(), (409, "checkout-in-progress"));
        // The dead one's lease ends long before its hold would.
        let (_, _, position) = world.store.find_claim(&claim_id, None).await.unwrap();
        let leased = world
            .store
            .document(&super::journal::open_key(&claim_id))
            .await
            .unwrap();
        let lease_ms = leased.unwrap().leased_until_ms - position.log_time_ms;
        assert_eq!(lease_ms, 3_500_000);
        world.store.pass_ms(lease_ms);
        let standing = second.see_through(&claim_id, "ada").await;
        // The hold was shorter than this test's long lease, so what was not captured is undone.
        let captured = (calls, happens) == (3, true) || calls == 3;
        let expected = if captured { "paid" } else { "hold-gone" };
        assert_eq!(
            standing.json["status"], expected,
            "{calls} {happens}: {:#}",
            standing.json
        );
        world.check_books().await;
    }
}

#[tokio::test]
async fn an_orphan_is_finished_while_its_hold_lasts() {
    for (calls, happens) in [(1, true), (2, true), (3, true), (2, false)] {
        let world = World::new().await;
        let dying = Dying::new(world.provider(), calls, happens);
        let first = world.process_with(dying, |options| {
            options.budget_ms_max = 500;
            options.payment_call_ms_max = 19_000;
        });
        let claim_id = world.claim("ada").await;
        let undecided = first.pay(&claim_id, "ada", "k1", "pm_card_visa").await;
        assert_eq!(undecided.status, 202, "{calls}: {:#}", undecided.json);
        world.store.pass_ms(20_000);
        let second = world.process();
        let standing = second.see_through(&claim_id, "ada").await;
        assert_eq!(standing.json["status"], "paid", "{calls}: {:#}", standing.json);
        let same_key = second.pay(&claim_id, "ada", "k1", "pm_card_visa").await;
        assert_eq!(same_key.status, 201);
        world.check_books().await;
    }
}

#[tokio::test]
async fn a_provider_that_is_away_costs_nothing_but_time() {
    let world = World::new().await;
    let process = world.process();
    let claim_id = world.claim("ada").await;
    world.control("/_/faults", &[("rate_limit_rate", "1")]).await;
    let away = process.pay(&claim_id, "ada", "k1", "pm_card_visa").await;
    assert_eq!(away.told(), (503, "provider-unavailable"), "{:#}", away.json);
    assert!(away.headers.contains_key("retry-after"));
    let (claim, _, position) = world.store.find_claim(&claim_id, None).await.unwrap();
    assert!(
        claim.deadline_ms > position.log_time_ms + 180_000,
        "the hold is extended"
    );
    world.control("/_/faults", &[("rate_limit_rate", "0")]).await;
    world.store.pass_ms(10);
    let paid = process.pay(&claim_id, "ada", "k1", "pm_card_visa").await;
    assert_eq!(paid.status, 201, "{:#}", paid.json);
    world.check_books().await;
}

#[tokio::test]
async fn an_order_is_cancelled_once() {
    let world = World::new().await;
    let process = world.process();
    let claim_id = world.claim("ada").await;
    let paid = process.pay(&claim_id, "ada", "k1", "pm_card_visa").await;
    let path = format!("/v1/orders/{}/cancel", paid.json["order_id"].as_str().unwrap());
    world.store.pass_ms(10);
    let stranger = process.ask(Method::POST, &path, "eve", "c0", Value::Null).await;
    assert_eq!(stranger.told(), (404, "order-unknown"));
    let cancelled = process.ask(Method::POST, &path, "ada", "c1", Value::Null).await;
    assert_eq!(cancelled.status, 200, "{:#}", cancelled.json);
    assert_eq!(cancelled.json["status"], "cancelled");
    assert_eq!(cancelled.json["refunded_minor"], PRICE_MINOR);
    for key in ["c1", "c2"] {
        let again = process.ask(Method::POST, &path, "ada", key, Value::Null).await;
        assert_eq!((again.status, &again.json), (StatusCode::OK, &cancelled.json));
    }
    assert_eq!(world.status_of(&claim_id).await, ClaimStatus::Cancelled);
    let (sale, _) = world
        .store
        .sale("drop-7", client::Consistency::Linearizable)
        .await
        .unwrap();
    assert_eq!(sale.units_available, 10);
    let books = world.books().await;
    assert_eq!(books["totals"]["eur"]["refunded_minor"], PRICE_MINOR);
    let eur = crate::payment::Currency::from_code("EUR").unwrap();
    let balances = world.check_books().await;
    assert_eq!(balances.of(eur, ledger::Account::ProviderClearing), 0);
    assert_eq!(process.status(&claim_id, "ada").await.json["status"], "cancelled");
}

fn event(id: &str, kind: &str, object: Value) -> Value {
    json!({ "id": id, "object": "event", "type": kind, "created": 1_700_000_000, "data": { "object": object } })
}

/// A checkout that ends just while its shopper asks was begun all the same.
#[tokio::test]
async fn an_end_between_two_reads_does_not_hide_the_beginning() {
    let world = World::new().await;
    let process = world.process();
    let claim_id = world.claim("ada").await;
    let asked = process
        .pay(&claim_id, "ada", "k1", "pm_card_authenticationRequired")
        .await;
    assert_eq!(asked.json["status"], "action-required", "{:#}", asked.json);
    let order = format!("orders/{}", crate::orders::order_id(&claim_id));
    world
        .store
        .goes_meanwhile(super::journal::open_key(&claim_id), order);
    let standing = process.status(&claim_id, "ada").await;
    assert_eq!(standing.status, 200, "{:#}", standing.json);
}

/// What a checkout costs the store, in rounds. The load harness makes the same writes beside the real checkouts
/// (`benches/src/scenarios/checkout/shoppers.rs`), to tell the store's time from ours: when this changes, so does that.
#[tokio::test]
async fn a_checkout_that_succeeds_goes_to_the_store_four_times() {
    let world = World::new().await;
    let process = world.process();
    let claim_id = world.claim("ada").await;
    let before = world.store.changes();
    let paid = process.pay(&claim_id, "ada", "k1", "pm_card_visa").await;
    assert_eq!(paid.status, 201, "{:#}", paid.json);
    // The key's record and the journal with its lease and the extension; the payment's id before it is confirmed; the
    // journal with the confirmed claim; ledger and order with the journal's end and the key's answer.
    assert_eq!(world.store.changes() - before, 4);
    assert_eq!(world.store.refused(), 0);
}

#[tokio::test]
async fn the_providers_news_are_believed_when_signed_and_acted_on_once() {
    let world = World::new().await;
    let process = world.process();
    let claim_id = world.claim("ada").await;
    let paid = process.pay(&claim_id, "ada", "k1", "pm_card_visa").await;
    let order_url = paid.headers["location"].to_str().unwrap().to_owned();
    let payment_id = paid.json["payment_id"].as_str().unwrap().to_owned();

    let unknown = event("evt_1", "invoice.paid", json!({ "object": "invoice" }));
    assert_eq!(
        process.webhook(&unknown, "whsec_wrong").await.told(),
        (400, "signature-invalid")
    );
    assert_eq!(process.webhook(&unknown, WEBHOOK_SECRET).await.status, 200);
    assert_eq!(process.webhook(&unknown, WEBHOOK_SECRET).await.status, 200);
    let kept = world.store.documents("webhook/", "", 10).await.unwrap();
    assert_eq!(kept.documents.len(), 1, "{kept:?}");
    let noted: Value = serde_json::from_slice(&kept.documents[0].body).unwrap();
    assert_eq!(noted["kind"], "invoice.paid");
    assert!(
        noted.get("event").is_none(),
        "nobody acts on it, so its body is not kept: {noted}"
    );

    // Part of it is refunded by people, and told three times.
    let refund = json!({
        "object": "refund", "id": "re_part", "amount": 900, "currency": "eur", "status": "succeeded",
        "payment_intent": payment_id, "metadata": {},
    });
    for id in ["evt_2", "evt_2", "evt_3"] {
        let told = event(id, "refund.created", refund.clone());
        assert_eq!(process.webhook(&told, WEBHOOK_SECRET).await.status, 200);
    }
    // A dispute, told out of order.
    let dispute = |status: &str| {
        json!({
            "object": "dispute", "id": "dp_1", "amount": PRICE_MINOR, "currency": "eur", "status": status,
            "payment_intent": payment_id, "charge": "ch_1", "reason": "fraudulent",
        })
    };
    for (id, kind, status) in [
        ("evt_4", "charge.dispute.funds_withdrawn", "needs_response"),
        ("evt_5", "charge.dispute.created", "needs_response"),
    ] {
        let told = event(id, kind, dispute(status));
        assert_eq!(process.webhook(&told, WEBHOOK_SECRET).await.status, 200);
    }
    let order = wait_for(&world, &process, &order_url, |order| {
        order["status"] == "disputed"
    })
    .await;
    assert_eq!(order["refunded_minor"], 900);
    assert_eq!(order["refunds"].as_array().unwrap().len(), 1, "{order:#}");
    assert_eq!(order["disputes"].as_array().unwrap().len(), 1, "{order:#}");
    let closed = event("evt_6", "charge.dispute.closed", dispute("won"));
    let back = event("evt_7", "charge.dispute.funds_reinstated", dispute("won"));
    for told in [closed, back] {
        assert_eq!(process.webhook(&told, WEBHOOK_SECRET).await.status, 200);
    }
    wait_for(&world, &process, &order_url, |order| {
        order["status"] == "partially_refunded"
    })
    .await;
    let balances = world.check_books().await;
    let eur = crate::payment::Currency::from_code("EUR").unwrap();
    assert_eq!(balances.of(eur, ledger::Account::Refunds), 900);
    assert_eq!(balances.of(eur, ledger::Account::Chargebacks), 0);
}

/// Acts on what is left of events until an order is as it should be.
async fn wait_for(world: &World, process: &Process, order_url: &str, is: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..200 {
        world.store.pass_ms(1_000);
        let left = process.door.checkouts.sweep_webhooks().await.unwrap();
        let order = process
            .ask(Method::GET, order_url, "ada", "", Value::Null)
            .await
            .json;
        if left == 0 && is(&order) {
            return order;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the order never gets there");
}

#[tokio::test]
async fn a_hint_of_the_provider_brings_a_checkout_on() {
    let world = World::new().await;
    let process = world.process();
    let claim_id = world.claim("ada").await;
    let asked = process
        .pay(&claim_id, "ada", "k1", "pm_card_authenticationRequired")
        .await;
    let url = asked.json["next_action_url"].as_str().unwrap().to_owned();
    world.http.post(&url).send().await.unwrap();
    let payment = json!({
        "object": "payment_intent", "id": "pi_any", "amount": PRICE_MINOR, "currency": "eur",
        "status": "requires_capture", "metadata": { "claim_id": claim_id, "attempt": "1" },
    });
    let told = event("evt_1", "payment_intent.amount_capturable_updated", payment);
    assert_eq!(process.webhook(&told, WEBHOOK_SECRET).await.status, 200);
    // Nobody sweeps, and nobody asks in a way that would bring it on.
    for _ in 0..400 {
        if world.status_of(&claim_id).await == ClaimStatus::Confirmed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let standing = process.see_through(&claim_id, "ada").await;
    assert_eq!(standing.json["status"], "paid", "{:#}", standing.json);
    world.check_books().await;
}

#[tokio::test]
async fn without_a_provider_checkout_says_so() {
    let world = World::new().await;
    let options = Options::new(Auth::Keys(Keys {
        hs256_secrets: vec![SECRET.to_vec()],
        ..Keys::default()
    }));
    let door = Door::new(Arc::clone(&world.store) as Arc<dyn Store>, options).unwrap();
    let process = Process {
        router: routes::router(Arc::clone(&door)),
        door,
    };
    let claim_id = world.claim("ada").await;
    let answer = process.pay(&claim_id, "ada", "k1", "pm_card_visa").await;
    assert_eq!(answer.told(), (503, "checkout-not-configured"));
    let event = event("evt_1", "invoice.paid", json!({}));
    let webhook = process.webhook(&event, WEBHOOK_SECRET).await;
    assert_eq!(webhook.told(), (503, "checkout-not-configured"));
}
