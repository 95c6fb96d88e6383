//! What is sent, to the byte.

use api::payment::{
    Call, NewPayment, PaymentError, PaymentProvider, PaymentStatus, ProviderKey, stripe::STRIPE_VERSION,
};
use serde_json::json;

use crate::server::{KEY, Server, answer, soon};

pub fn intent(status: &str) -> serde_json::Value {
    json!({"id": "pi_1", "object": "payment_intent", "amount": 1999, "currency": "eur", "status": status,
           "metadata": {"claim_id": "c_7f", "attempt": "2"}})
}

pub fn new_payment() -> NewPayment {
    NewPayment {
        amount: "19.99 EUR".parse().unwrap(),
        payment_method: "pm_card_visa".into(),
        reference: "c_7f".into(),
        attempt: 2,
        order_id: None,
    }
}

pub fn key(call: Call) -> ProviderKey {
    ProviderKey::new("c_7f", 2, call)
}

#[tokio::test]
async fn a_payments_whole_life_in_requests() {
    let server = Server::start([
        answer(200, intent("requires_confirmation")),
        answer(200, intent("requires_action")),
        answer(200, intent("requires_capture")),
        answer(200, intent("requires_capture")),
        answer(200, intent("succeeded")),
        answer(200, intent("canceled")),
        answer(
            200,
            json!({"id": "re_1", "object": "refund", "amount": 1999, "currency": "eur", "status": "pending"}),
        ),
        answer(
            200,
            json!({"id": "re_2", "object": "refund", "amount": 5, "currency": "eur", "status": "succeeded"}),
        ),
        answer(
            200,
            json!({"id": "re_1", "object": "refund", "amount": 1999, "currency": "eur", "status": "failed"}),
        ),
    ])
    .await;
    let stripe = server.stripe();
    let order = NewPayment {
        order_id: Some("o_1 & co".into()),
        ..new_payment()
    };
    let created = stripe.create(&order, &key(Call::Create), soon()).await.unwrap();
    assert_eq!(
        (created.status, created.attempt),
        (PaymentStatus::RequiresConfirmation, Some(2))
    );
    let back = Some("https://shop.example/back?claim=c_7f&x=1");
    stripe
        .confirm("pi_1", back, &key(Call::Confirm), soon())
        .await
        .unwrap();
    stripe
        .confirm("pi_1", None, &key(Call::Confirm), soon())
        .await
        .unwrap();
    let seen = stripe.retrieve("pi_1", soon()).await.unwrap();
    assert_eq!(seen.amount_capturable_minor, 1_999);
    stripe.capture("pi_1", &key(Call::Capture), soon()).await.unwrap();
    stripe.cancel("pi_1", &key(Call::Cancel), soon()).await.unwrap();
    stripe
        .refund("pi_1", None, &key(Call::Refund), soon())
        .await
        .unwrap();
    let part = Some("0.05 EUR".parse().unwrap());
    stripe
        .refund(
            "pi_1",
            part,
            &ProviderKey::part("c_7f", 2, Call::Refund, 1),
            soon(),
        )
        .await
        .unwrap();
    stripe.retrieve_refund("re_1", soon()).await.unwrap();

    let seen = server.seen();
    let told: Vec<_> = seen
        .iter()
        .map(|seen| {
            (
                &*seen.line,
                seen.header("idempotency-key").unwrap_or_default(),
                &*seen.body,
            )
        })
        .collect();
    let created = "amount=1999&currency=eur&capture_method=manual&confirm=false&payment_method=pm_card_visa\
                   &payment_method_types%5B0%5D=card&metadata%5Bclaim_id%5D=c_7f&metadata%5Battempt%5D=2\
                   &metadata%5Border_id%5D=o_1+%26+co";
    let back = "return_url=https%3A%2F%2Fshop.example%2Fback%3Fclaim%3Dc_7f%26x%3D1";
    assert_eq!(
        told,
        [
            ("POST /v1/payment_intents", "c_7f.a2.create", created),
            ("POST /v1/payment_intents/pi_1/confirm", "c_7f.a2.confirm", back),
            ("POST /v1/payment_intents/pi_1/confirm", "c_7f.a2.confirm", ""),
            ("GET /v1/payment_intents/pi_1?expand[]=latest_charge", "", ""),
            ("POST /v1/payment_intents/pi_1/capture", "c_7f.a2.capture", ""),
            ("POST /v1/payment_intents/pi_1/cancel", "c_7f.a2.cancel", ""),
            ("POST /v1/refunds", "c_7f.a2.refund", "payment_intent=pi_1"),
            (
                "POST /v1/refunds",
                "c_7f.a2.refund.1",
                "payment_intent=pi_1&amount=5"
            ),
            ("GET /v1/refunds/re_1", "", ""),
        ]
    );
    for seen in &seen {
        assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {KEY}")));
        assert_eq!(seen.header("stripe-version"), Some(STRIPE_VERSION));
        let form = seen
            .line
            .starts_with("POST")
            .then_some("application/x-www-form-urlencoded");
        assert_eq!(seen.header("content-type"), form, "{}", seen.line);
    }
}

#[tokio::test]
async fn amounts_are_sent_in_stripes_units() {
    let server = Server::start([answer(
        200,
        json!({"id": "pi_1", "amount": 500, "currency": "isk", "status": "processing"}),
    )])
    .await;
    let stripe = server.stripe();
    let krona = NewPayment {
        amount: "5 ISK".parse().unwrap(),
        ..new_payment()
    };
    let created = stripe.create(&krona, &key(Call::Create), soon()).await.unwrap();
    assert_eq!(created.amount, krona.amount);
    assert!(server.seen()[0].body.starts_with("amount=500&currency=isk&"));
}

#[tokio::test]
async fn what_must_not_be_sent_is_refused_unsent() {
    let server = Server::start([answer(200, intent("succeeded"))]).await;
    let stripe = server.stripe();
    let card = NewPayment {
        payment_method: "4242424242424242".into(),
        ..new_payment()
    };
    let uganda = NewPayment {
        amount: "5 UGX".parse().unwrap(),
        ..new_payment()
    };
    let dinar = NewPayment {
        amount: "5.125 KWD".parse().unwrap(),
        ..new_payment()
    };
    for (new, code) in [
        (card, "payment_method_invalid"),
        (uganda, "amount_unsupported"),
        (dinar, "amount_unsupported"),
    ] {
        let refused = stripe.create(&new, &key(Call::Create), soon()).await.unwrap_err();
        assert!(
            matches!(&refused, PaymentError::Refused { code: was, .. } if was == code),
            "{refused}"
        );
        assert!(!refused.to_string().contains("4242"), "{refused}");
    }
    for id in [
        "",
        "../refunds",
        "pi_1/capture",
        "pi_1?x",
        "pi 1",
        "..",
        "%2e%2e",
        "pi_ä",
        &"p".repeat(256),
    ] {
        let refused = stripe.retrieve(id, soon()).await.unwrap_err();
        assert!(
            matches!(&refused, PaymentError::Refused { code, .. } if code == "payment_id_invalid"),
            "{id}"
        );
        assert!(stripe.capture(id, &key(Call::Capture), soon()).await.is_err());
        assert!(stripe.refund(id, None, &key(Call::Refund), soon()).await.is_err());
    }
    assert_eq!(server.seen(), []);
}
