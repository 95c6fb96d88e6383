//! What comes back, or does not.

use std::time::Duration;

use api::payment::{
    Call, Doubt, Payment, PaymentError, PaymentProvider, PaymentStatus, Unavailability,
    stripe::{Stripe, StripeOptions},
};
use serde_json::json;
use tokio::{net::TcpListener, time::Instant};

use crate::{
    requests::{intent, key, new_payment},
    server::{Act, KEY, Server, answer, answer_with, soon},
};

/// A confirmation that meets this.
async fn meet(act: Act) -> Result<Payment, PaymentError> {
    let server = Server::start([act]).await;
    server
        .stripe()
        .confirm("pi_1", None, &key(Call::Confirm), soon())
        .await
}

fn doubt(result: Result<Payment, PaymentError>) -> Option<Doubt> {
    match result {
        Err(PaymentError::Unknown { cause, .. }) => Some(cause),
        _ => None,
    }
}

#[tokio::test]
async fn silence_is_unknown() {
    let server = Server::start([Act::Hang]).await;
    let deadline = Instant::now() + Duration::from_millis(200);
    let result = server
        .stripe()
        .confirm("pi_1", None, &key(Call::Confirm), deadline)
        .await;
    assert_eq!(doubt(result), Some(Doubt::TimedOut));
}

#[tokio::test]
async fn a_connection_that_breaks_is_unknown_wherever_it_breaks() {
    // Nothing of the answer, a part of its head, its head, a part of its body.
    for bytes in [0, 10, 43, 50] {
        assert_eq!(
            doubt(meet(Act::Cut(bytes)).await),
            Some(Doubt::ConnectionLost),
            "{bytes}"
        );
    }
}

#[tokio::test]
async fn nobody_there_is_never_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let stripe = Stripe::new(&StripeOptions::new(url, KEY.into())).unwrap();
    let error = stripe
        .create(&new_payment(), &key(Call::Create), soon())
        .await
        .unwrap_err();
    let PaymentError::Unavailable { cause, why, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(cause, Unavailability::Unreachable);
    assert!(why.contains("refused") && !why.contains(KEY), "{why}");
}

#[tokio::test]
async fn without_time_nothing_is_sent() {
    let server = Server::start([answer(200, intent("succeeded"))]).await;
    let error = server
        .stripe()
        .capture("pi_1", &key(Call::Capture), Instant::now())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            PaymentError::Unavailable {
                cause: Unavailability::NoTime,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(server.seen(), []);
}

#[tokio::test]
async fn the_content_type_does_not_matter_but_the_content_does() {
    let plain = meet(answer_with(
        200,
        "content-type: text/plain\r\n",
        intent("requires_capture"),
    ))
    .await;
    assert_eq!(plain.unwrap().status, PaymentStatus::RequiresCapture);
    for body in [
        "<html>Welcome</html>",
        "",
        "{\"id\":",
        "null",
        "{\"id\":\"pi_1\"}",
    ] {
        assert_eq!(
            doubt(meet(answer(200, body)).await),
            Some(Doubt::Unreadable),
            "{body}"
        );
    }
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let mut long = intent("requires_capture");
    long["padding"] = "x".repeat(2 * 1024 * 1024).into();
    assert_eq!(doubt(meet(answer(200, long)).await), Some(Doubt::Unreadable));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start([answer(200, intent("succeeded"))]).await;
    let location: &'static str = format!("location: {}\r\n", elsewhere.url).leak();
    for status in [301, 302, 303, 307, 308] {
        assert_eq!(
            doubt(meet(answer_with(status, location, "")).await),
            Some(Doubt::Unreadable)
        );
    }
    assert_eq!(elsewhere.seen(), [], "the key went where it was not sent");
}

#[tokio::test]
async fn a_decline_tells_why_and_what_became_of_the_payment() {
    let declined = json!({"error": {"type": "card_error", "code": "card_declined",
        "decline_code": "insufficient_funds", "message": "Your card has insufficient funds.", "charge": "ch_1",
        "payment_intent": intent("requires_payment_method")}});
    let error = meet(answer(402, declined)).await.unwrap_err();
    let PaymentError::Declined { decline, payment } = error else {
        panic!("{error}");
    };
    assert_eq!(decline.decline_code.as_deref(), Some("insufficient_funds"));
    assert_eq!(payment.unwrap().status, PaymentStatus::RequiresPaymentMethod);
}

#[tokio::test]
async fn a_payment_in_the_wrong_state_is_shown_with_the_refusal() {
    let refused = json!({"error": {"type": "invalid_request_error", "code": "payment_intent_unexpected_state",
        "message": "already captured", "payment_intent": intent("succeeded")}});
    let error = meet(answer(400, refused)).await.unwrap_err();
    let PaymentError::Refused { code, payment, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(code, "payment_intent_unexpected_state");
    assert_eq!(payment.unwrap().status, PaymentStatus::Succeeded);
}
