//! The adapter and the rehearsal's provider, which share no code: what one says the other must understand,
//! and what the adapter claims must be so in the provider's books.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use api::payment::{
    Call, GuardOptions, Guarded, NewPayment, Payment, PaymentError, PaymentProvider, PaymentStatus,
    ProviderKey, SIGNATURE_TOLERANCE, SignatureCheck, SignatureError,
    simulator::{Ledger, Reference, ServerOptions, Webhooks, serve},
    stripe::{Stripe, StripeOptions},
    webhook::{WebhookEvent, WebhookKind, WebhookObject},
};
use axum::{Router, body::Bytes, http::HeaderMap, routing::post};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

use crate::server::{KEY, soon};

/// How long the provider keeps a call hanging before it cuts it, in ms.
const HANG_MS: u64 = 50;

/// A running provider and the adapter before it.
struct Rehearsal {
    url: String,
    provider: Guarded<Stripe>,
    served: JoinHandle<()>,
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        self.served.abort();
    }
}

impl Rehearsal {
    async fn start(webhooks: Option<Webhooks>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut options = ServerOptions {
            hang_ms_max: HANG_MS,
            webhooks,
            ..ServerOptions::default()
        };
        options.provider.base_url = String::new();
        let served = tokio::spawn(async move {
            serve(listener, options, std::future::pending()).await.unwrap();
        });
        let stripe = Stripe::new(&StripeOptions::new(&*url, KEY.into())).unwrap();
        let guard = GuardOptions {
            retry_wait_ms_min: 1,
            retry_wait_ms_max: 2,
            breaker: None,
            ..GuardOptions::default()
        };
        Rehearsal {
            url,
            provider: Guarded::new(Arc::new(stripe), guard).unwrap(),
            served,
        }
    }

    async fn create(&self, claim: &str, amount: &str, method: &str) -> Result<Payment, PaymentError> {
        let new = NewPayment {
            amount: amount.parse().unwrap(),
            payment_method: method.into(),
            reference: claim.into(),
            attempt: 1,
            order_id: Some(format!("o_{claim}")),
        };
        self.provider
            .create(&new, &ProviderKey::new(claim, 1, Call::Create), soon())
            .await
    }

    async fn confirm(&self, claim: &str, id: &str) -> Result<Payment, PaymentError> {
        let back = Some("https://shop.example/back");
        self.provider
            .confirm(id, back, &ProviderKey::new(claim, 1, Call::Confirm), soon())
            .await
    }

    async fn capture(&self, claim: &str, id: &str) -> Result<Payment, PaymentError> {
        self.provider
            .capture(id, &ProviderKey::new(claim, 1, Call::Capture), soon())
            .await
    }

    async fn ledger(&self) -> Ledger {
        let page = reqwest::get(format!("{}/_/ledger", self.url)).await.unwrap();
        page.json().await.unwrap()
    }

    async fn books(&self, claim: &str) -> Reference {
        self.ledger().await.references.remove(claim).unwrap_or_default()
    }
}

#[tokio::test]
async fn a_payments_whole_life_is_understood() {
    let rehearsal = Rehearsal::start(None).await;
    for (claim, amount) in [
        ("c_eur", "19.99 EUR"),
        ("c_jpy", "500 JPY"),
        ("c_isk", "5 ISK"),
        ("c_kwd", "5.120 KWD"),
    ] {
        let created = rehearsal.create(claim, amount, "pm_card_visa").await.unwrap();
        assert_eq!(created.status, PaymentStatus::RequiresConfirmation);
        assert_eq!(
            (created.amount.to_string(), created.reference),
            (amount.to_owned(), Some(claim.to_owned()))
        );
        let id = created.id;
        let confirmed = rehearsal.confirm(claim, &id).await.unwrap();
        assert_eq!(confirmed.status, PaymentStatus::RequiresCapture);
        assert_eq!(confirmed.amount_capturable_minor, created.amount.minor);
        let captured = rehearsal.capture(claim, &id).await.unwrap();
        assert_eq!(
            (captured.status, captured.amount_received_minor),
            (PaymentStatus::Succeeded, created.amount.minor)
        );
        let key = ProviderKey::new(claim, 1, Call::Refund);
        let refund = rehearsal.provider.refund(&id, None, &key, soon()).await.unwrap();
        assert_eq!(
            (refund.amount, refund.payment_id.as_deref()),
            (created.amount, Some(&*id))
        );
        let seen = rehearsal
            .provider
            .retrieve_refund(&refund.id, soon())
            .await
            .unwrap();
        assert_eq!(seen.amount, refund.amount);
    }
}

#[tokio::test]
async fn a_payment_is_voided() {
    let rehearsal = Rehearsal::start(None).await;
    let id = rehearsal
        .create("c_1", "19.99 EUR", "pm_card_visa")
        .await
        .unwrap()
        .id;
    rehearsal.confirm("c_1", &id).await.unwrap();
    let key = ProviderKey::new("c_1", 1, Call::Cancel);
    let cancelled = rehearsal.provider.cancel(&id, &key, soon()).await.unwrap();
    assert_eq!(cancelled.status, PaymentStatus::Canceled);
    let refused = rehearsal.capture("c_1", &id).await.unwrap_err();
    let PaymentError::Refused { code, payment, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!(code, "payment_intent_unexpected_state");
    assert_eq!(payment.unwrap().status, PaymentStatus::Canceled);
    let books = rehearsal.books("c_1").await;
    assert_eq!((books.captures, books.authorizations), (0, 0));
}

#[tokio::test]
async fn a_decline_and_a_challenge_are_understood() {
    let rehearsal = Rehearsal::start(None).await;
    let id = rehearsal
        .create("c_1", "19.99 EUR", "pm_card_visa_chargeDeclinedInsufficientFunds")
        .await
        .unwrap()
        .id;
    let declined = rehearsal.confirm("c_1", &id).await.unwrap_err();
    let PaymentError::Declined { decline, payment } = declined else {
        panic!("{declined}");
    };
    assert_eq!(decline.decline_code.as_deref(), Some("insufficient_funds"));
    assert_eq!(payment.unwrap().status, PaymentStatus::RequiresPaymentMethod);
    let seen = rehearsal.provider.retrieve(&id, soon()).await.unwrap();
    assert_eq!(
        seen.decline.unwrap().decline_code.as_deref(),
        Some("insufficient_funds")
    );

    let id = rehearsal
        .create("c_2", "19.99 EUR", "pm_card_authenticationRequired")
        .await
        .unwrap()
        .id;
    let challenged = rehearsal.confirm("c_2", &id).await.unwrap();
    assert_eq!(challenged.status, PaymentStatus::RequiresAction);
    let shopper = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let sent_back = shopper
        .get(challenged.next_action_url.unwrap())
        .send()
        .await
        .unwrap();
    assert!(sent_back.status().is_redirection());
    let seen = rehearsal.provider.retrieve(&id, soon()).await.unwrap();
    assert_eq!(
        (seen.status, seen.next_action_url),
        (PaymentStatus::RequiresCapture, None)
    );
}

/// What a step's result claims, and whether the books may show its effect then.
fn is_honest(result: &Result<Payment, PaymentError>, happened: bool) -> bool {
    match result {
        Ok(_) => happened,
        Err(PaymentError::Unknown { .. }) => true,
        Err(_) => !happened,
    }
}

#[tokio::test]
async fn whatever_goes_wrong_no_claim_is_false_and_nothing_happens_twice() {
    let rehearsal = Rehearsal::start(None).await;
    for mishap in [
        "rate_limited",
        "error_before",
        "error_after",
        "hang_before",
        "hang_after",
        "lost",
        "late",
    ] {
        for step in ["create", "confirm", "capture"] {
            let claim = &*format!("c_{step}_{mishap}");
            let method = format!("pm_sim_{step}_{mishap}");
            let created = rehearsal.create(claim, "19.99 EUR", &method).await;
            assert!(
                is_honest(&created, rehearsal.books(claim).await.payments == 1),
                "{claim}: {created:?}"
            );
            let Ok(created) = created else {
                assert_eq!(step, "create", "{claim}: {created:?}");
                continue;
            };
            let confirmed = rehearsal.confirm(claim, &created.id).await;
            assert!(
                is_honest(&confirmed, rehearsal.books(claim).await.authorizations == 1),
                "{claim}: {confirmed:?}"
            );
            // Whoever is in doubt looks, and asks again with the same key until it is settled.
            let mut seen = rehearsal.provider.retrieve(&created.id, soon()).await.unwrap();
            while mishap == "late" && seen.status == PaymentStatus::RequiresConfirmation {
                let _ = rehearsal.confirm(claim, &created.id).await;
                seen = rehearsal.provider.retrieve(&created.id, soon()).await.unwrap();
            }
            if seen.status != PaymentStatus::RequiresCapture {
                assert_eq!(
                    (step, rehearsal.books(claim).await.authorizations),
                    ("confirm", 0),
                    "{claim}: {seen:?}"
                );
                continue;
            }
            let captured = rehearsal.capture(claim, &created.id).await;
            assert!(
                is_honest(&captured, rehearsal.books(claim).await.captures == 1),
                "{claim}: {captured:?}"
            );
        }
    }
    let ledger = rehearsal.ledger().await;
    assert_eq!(ledger.double_charged, Vec::<String>::new());
    assert!(
        ledger
            .references
            .values()
            .all(|books| books.payments == 1 && books.captures <= 1),
        "{ledger:?}"
    );
}

#[tokio::test]
async fn webhooks_are_believed_and_read() {
    let (letters, mut inbox) = mpsc::unbounded_channel();
    let door = Router::new().route(
        "/hook",
        post(move |headers: HeaderMap, body: Bytes| {
            let signature = headers["stripe-signature"].to_str().unwrap().to_owned();
            // The test may have seen enough.
            let _ = letters.send((signature, body));
            async {}
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let answering = tokio::spawn(async move { axum::serve(listener, door).await });
    let webhooks = Webhooks {
        urls: vec![url],
        secret: b"whsec_rehearsal".to_vec(),
    };
    let rehearsal = Rehearsal::start(Some(webhooks)).await;
    let id = rehearsal.create("c_1", "5 ISK", "pm_card_visa").await.unwrap().id;
    rehearsal.confirm("c_1", &id).await.unwrap();
    rehearsal.capture("c_1", &id).await.unwrap();

    let check = |secret: &str| SignatureCheck::new(vec![secret.into()], SIGNATURE_TOLERANCE);
    loop {
        let (signature, body) = inbox.recv().await.unwrap();
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(
            check("whsec_rehearsal").verify(Some(&signature), &body, now_s),
            Ok(())
        );
        let forged = check("whsec_another").verify(Some(&signature), &body, now_s);
        assert_eq!(forged, Err(SignatureError::Mismatch));
        let event = WebhookEvent::parse(&body).unwrap();
        assert!(
            !matches!(event.object, WebhookObject::Unreadable { .. }),
            "{event:?}"
        );
        if event.kind != WebhookKind::PaymentSucceeded {
            continue;
        }
        assert_eq!(event.payment_id.as_deref(), Some(&*id));
        assert_eq!(
            (event.reference.as_deref(), event.attempt),
            (Some("c_1"), Some(1))
        );
        let WebhookObject::Payment(payment) = event.object else {
            panic!("{event:?}");
        };
        assert_eq!(
            (payment.status, payment.amount_received_minor),
            (PaymentStatus::Succeeded, 5)
        );
        break;
    }
    answering.abort();
}
