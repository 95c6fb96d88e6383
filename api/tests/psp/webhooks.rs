//! Webhooks: signed, sent again, doubled, early, lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use api::payment::simulator::{Faults, ServerOptions, Webhooks, signature};
use axum::{Router, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use serde_json::Value;
use tokio::{net::TcpListener, sync::mpsc};

use crate::shop::{Shop, text};

const SECRET: &[u8] = b"whsec_rehearsal";

/// A webhook as it came in.
struct Letter {
    signature: String,
    body: String,
    event: Value,
}

impl Letter {
    fn kind(&self) -> String {
        text(&self.event["type"])
    }
}

struct Door {
    letters: mpsc::UnboundedSender<Letter>,
    /// How many are still refused.
    refusals: AtomicUsize,
}

async fn take(State(door): State<Arc<Door>>, headers: HeaderMap, body: String) -> StatusCode {
    let refused = door
        .refusals
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
        .is_ok();
    let letter = Letter {
        signature: headers["stripe-signature"].to_str().unwrap().to_owned(),
        event: serde_json::from_str(&body).unwrap(),
        body,
    };
    // The test may have seen enough.
    let _ = door.letters.send(letter);
    if refused {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    }
}

/// A receiver that refuses the first `refusals` webhooks, and a shop that sends to it.
async fn post_office(refusals: usize, faults: Faults) -> (Shop, mpsc::UnboundedReceiver<Letter>) {
    let (letters, inbox) = mpsc::unbounded_channel();
    let door = Door {
        letters,
        refusals: AtomicUsize::new(refusals),
    };
    let router = Router::new()
        .route("/hook", post(take))
        .with_state(Arc::new(door));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    let mut options = ServerOptions {
        webhooks: Some(Webhooks {
            urls: vec![url],
            secret: SECRET.to_vec(),
        }),
        ..ServerOptions::default()
    };
    options.provider.faults = faults;
    options.provider.webhook_retry_ms = 1;
    (Shop::with(options).await, inbox)
}

/// How long a webhook is waited for before it counts as missing: only a failing test waits so long.
const MISSING: Duration = Duration::from_secs(20);

async fn next(inbox: &mut mpsc::UnboundedReceiver<Letter>) -> Letter {
    let letter = tokio::time::timeout(MISSING, inbox.recv()).await;
    letter.expect("a webhook is missing").expect("the receiver lives")
}

/// Webhooks up to and including the first of a kind.
async fn until(inbox: &mut mpsc::UnboundedReceiver<Letter>, kind: &str) -> Vec<Letter> {
    let mut letters = Vec::new();
    while letters.last().is_none_or(|letter: &Letter| letter.kind() != kind) {
        letters.push(next(inbox).await);
    }
    letters
}

/// `count` webhooks, by kind, sorted.
async fn kinds(inbox: &mut mpsc::UnboundedReceiver<Letter>, count: usize) -> Vec<String> {
    let mut kinds = Vec::new();
    for _ in 0..count {
        kinds.push(next(inbox).await.kind());
    }
    kinds.sort();
    kinds
}

#[tokio::test]
async fn every_effect_is_told_and_signed() {
    let (shop, mut inbox) = post_office(0, Faults::default()).await;
    let id = shop.create("c_1", "pm_card_visa").await;
    let letter = next(&mut inbox).await;
    assert_eq!(letter.kind(), "payment_intent.created");
    assert_eq!(letter.event["data"]["object"]["id"], id.as_str());
    assert_eq!(letter.event["data"]["object"]["metadata"]["claim_id"], "c_1");
    assert_eq!(letter.event["request"]["idempotency_key"], "c_1.create");
    let at = letter
        .signature
        .strip_prefix("t=")
        .and_then(|rest| rest.split_once(','))
        .unwrap()
        .0;
    assert_eq!(
        letter.signature,
        signature(SECRET, at.parse().unwrap(), &letter.body)
    );
    assert_ne!(
        letter.signature,
        signature(b"whsec_other", at.parse().unwrap(), &letter.body)
    );

    let verb = |verb: &str| format!("/v1/payment_intents/{id}/{verb}");
    shop.post(&verb("confirm"), "", &[]).await.ok();
    assert_eq!(
        kinds(&mut inbox, 2).await,
        ["charge.succeeded", "payment_intent.amount_capturable_updated"]
    );
    shop.post(&verb("capture"), "", &[]).await.ok();
    assert_eq!(
        kinds(&mut inbox, 2).await,
        ["charge.captured", "payment_intent.succeeded"]
    );
    shop.post("/v1/refunds", "", &[("payment_intent", &id), ("amount", "900")])
        .await
        .ok();
    assert_eq!(kinds(&mut inbox, 2).await, ["charge.refunded", "refund.created"]);
    shop.post("/_/dispute", "", &[("payment_intent", &id)]).await.ok();
    assert_eq!(
        kinds(&mut inbox, 2).await,
        ["charge.dispute.created", "charge.dispute.funds_withdrawn"]
    );
    shop.post(
        "/v1/payment_intents",
        "",
        &[
            ("amount", "990001"),
            ("currency", "eur"),
            ("payment_method", "pm_card_visa"),
            ("confirm", "true"),
        ],
    )
    .await;
    assert_eq!(
        kinds(&mut inbox, 3).await,
        [
            "charge.failed",
            "payment_intent.created",
            "payment_intent.payment_failed"
        ]
    );
    let id = shop.authorize("c_2", "pm_card_visa").await;
    kinds(&mut inbox, 3).await;
    shop.post(&format!("/v1/payment_intents/{id}/cancel"), "", &[])
        .await
        .ok();
    assert_eq!(
        kinds(&mut inbox, 2).await,
        ["charge.refunded", "payment_intent.canceled"]
    );
    let ledger = shop.ledger().await;
    assert_eq!(ledger.webhooks.events, 17);
    assert_eq!((ledger.webhooks.dropped, ledger.webhooks.given_up), (0, 0));
}

#[tokio::test]
async fn what_is_not_taken_is_sent_again() {
    let (shop, mut inbox) = post_office(3, Faults::default()).await;
    shop.create("c_1", "pm_card_visa").await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(text(&next(&mut inbox).await.event["id"]));
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "the same event each time");
    while shop.ledger().await.webhooks.waiting > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn webhooks_come_twice_early_or_never() {
    let (shop, mut inbox) = post_office(0, Faults::default()).await;
    shop.create("c_1", "pm_sim_webhook_twice").await;
    let (first, second) = (next(&mut inbox).await, next(&mut inbox).await);
    assert_eq!(first.event["id"], second.event["id"]);

    shop.create("c_2", "pm_sim_webhook_lost").await;
    shop.create("c_3", "pm_card_visa").await;
    let after = next(&mut inbox).await;
    assert_eq!(
        after.event["data"]["object"]["metadata"]["claim_id"], "c_3",
        "c_2 never comes"
    );
    let told = shop.get("/v1/events?limit=100").await.ok();
    assert_eq!(
        told["data"].as_array().map(Vec::len),
        Some(3),
        "but it did happen"
    );

    // Early: the answer is held back until long after the webhook was taken.
    shop.post("/_/faults", "", &[("webhook_early_ms", "600000")])
        .await
        .ok();
    let waits = tokio::spawn(shop.post(
        "/v1/payment_intents",
        "k4",
        &crate::shop::new_payment("c_4", "pm_sim_webhook_early"),
    ));
    let letters = until(&mut inbox, "payment_intent.created").await;
    assert_eq!(letters[0].event["data"]["object"]["metadata"]["claim_id"], "c_4");
    assert!(!waits.is_finished(), "the webhook came before the answer");
    let again = shop
        .post(
            "/v1/payment_intents",
            "k4",
            &crate::shop::new_payment("c_4", "pm_sim_webhook_early"),
        )
        .await;
    assert_eq!(again.status, 409, "and the call is still in flight");
    shop.close().await.unwrap();
    waits.await.unwrap().ok();
}
