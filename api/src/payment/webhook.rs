//! Webhooks: who sent them, and what they say.
//!
//! The signature is checked over the raw body, before anything is read from it: HMAC-SHA256 of
//! `timestamp.body` under a shared secret, in `Stripe-Signature: t=…,v1=…`. Several signatures and several
//! secrets are allowed, so that secrets can be rotated without losing an event. A signature that is right
//! but old, or from the future, is refused: it may be a recording.
//!
//! An event says what *was*: events come late, twice and in any order. Decide by retrieving the payment,
//! or by what cannot be undone (captured, refunded, disputed). An event whose object cannot be read is
//! still an event ([`WebhookObject::Unreadable`]): it is kept, not lost.

use std::{fmt, time::Duration};

use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::Sha256;

use super::{
    Money, Payment, Refund,
    stripe::objects::{self, amount, minor_or_zero, reference},
};

/// How far a signature's time may lie from now by default, both ways: Stripe's own default.
pub const SIGNATURE_TOLERANCE: Duration = Duration::from_secs(300);

/// Most signatures of one header that are looked at: a rotation has two.
const SIGNATURES_MAX: usize = 16;

/// Bytes of a SHA-256 MAC.
const MAC_BYTES: usize = 32;

/// Checks signatures.
#[derive(Clone, Debug)]
pub struct SignatureCheck {
    secrets: Vec<SecretString>,
    tolerance: Duration,
}

/// Why a webhook is not believed. None of them says anything about the secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No header.
    #[error("Stripe-Signature is missing")]
    Missing,
    /// Not `t=…,v1=…`.
    #[error("Stripe-Signature is malformed: {0}")]
    Malformed(&'static str),
    /// No signature by any secret.
    #[error("no signature in Stripe-Signature matches; was the endpoint's secret changed?")]
    Mismatch,
    /// Rightly signed, but not now.
    #[error("the webhook was signed {age_s} s ago, and {tolerance_s} s are allowed; is a clock wrong?")]
    Stale {
        /// Seconds; negative: signed in the future.
        age_s: i64,
        /// Seconds.
        tolerance_s: u64,
    },
}

impl SignatureCheck {
    /// By any of these secrets (`whsec_…`, as the provider shows them); none of them: nothing matches.
    pub fn new(secrets: Vec<SecretString>, tolerance: Duration) -> Self {
        SignatureCheck { secrets, tolerance }
    }

    /// Whether the body was signed by one who knows a secret, and just now.
    ///
    /// # Errors
    /// What is wrong with it; nothing of the body may be used then.
    pub fn verify(&self, header: Option<&str>, body: &[u8], now_s: u64) -> Result<(), SignatureError> {
        let signed = SignatureHeader::parse(header.ok_or(SignatureError::Missing)?)?;
        // Every secret is tried against every signature; each comparison takes constant time.
        let mut matches = false;
        for secret in &self.secrets {
            let key = secret.expose_secret().as_bytes();
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
            mac.update(signed.time.as_bytes());
            mac.update(b".");
            mac.update(body);
            for signature in &signed.signatures {
                matches |= mac.clone().verify_slice(signature).is_ok();
            }
        }
        if !matches {
            return Err(SignatureError::Mismatch);
        }
        if signed.time_s.abs_diff(now_s) > self.tolerance.as_secs() {
            return Err(SignatureError::Stale {
                age_s: i64::try_from(i128::from(now_s) - i128::from(signed.time_s)).unwrap_or(i64::MAX),
                tolerance_s: self.tolerance.as_secs(),
            });
        }
        Ok(())
    }
}

/// `t=…,v1=…,v1=…`; other schemes are passed over.
#[derive(Debug, PartialEq)]
struct SignatureHeader<'a> {
    /// As signed.
    time: &'a str,
    time_s: u64,
    signatures: Vec<[u8; MAC_BYTES]>,
}

impl<'a> SignatureHeader<'a> {
    fn parse(header: &'a str) -> Result<Self, SignatureError> {
        let mut time = None;
        let mut signatures = Vec::new();
        for part in header.split(',') {
            match part.trim().split_once('=') {
                Some(("t", _)) if time.is_some() => return Err(SignatureError::Malformed("two times")),
                Some(("t", value)) => time = Some(value),
                // What is no MAC cannot match; it is no reason to refuse those that can.
                Some(("v1", value)) if signatures.len() < SIGNATURES_MAX => {
                    signatures.extend(mac_bytes(value))
                }
                _ => {}
            }
        }
        let time = time.ok_or(SignatureError::Malformed("no time"))?;
        let time_s = Some(time)
            .filter(|time| time.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|time| time.parse().ok())
            .ok_or(SignatureError::Malformed("the time is no number of seconds"))?;
        if signatures.is_empty() {
            return Err(SignatureError::Malformed("no v1 signature"));
        }
        Ok(SignatureHeader {
            time,
            time_s,
            signatures,
        })
    }
}

/// 64 hexadecimal digits.
fn mac_bytes(hex: &str) -> Option<[u8; MAC_BYTES]> {
    let digits = hex.as_bytes();
    let mut bytes = [0; MAC_BYTES];
    if digits.len() != 2 * MAC_BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

/// What an event is about, by its type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WebhookKind {
    /// `payment_intent.succeeded`: charged.
    PaymentSucceeded,
    /// `payment_intent.payment_failed`: a card was declined.
    PaymentFailed,
    /// `payment_intent.amount_capturable_updated`: reserved.
    PaymentCapturable,
    /// `payment_intent.requires_action`: the shopper must act.
    PaymentRequiresAction,
    /// `payment_intent.canceled`: given up; also by the provider, when a reservation ends.
    PaymentCanceled,
    /// `payment_intent.processing`.
    PaymentProcessing,
    /// `charge.refunded`: given back, in part or whole; the sums say how much in all.
    ChargeRefunded,
    /// `refund.created`.
    RefundCreated,
    /// `refund.updated`, `charge.refund.updated`.
    RefundUpdated,
    /// `refund.failed`: the money is ours again.
    RefundFailed,
    /// `charge.dispute.created`: a chargeback began.
    DisputeCreated,
    /// `charge.dispute.updated`.
    DisputeUpdated,
    /// `charge.dispute.closed`: won or lost.
    DisputeClosed,
    /// `charge.dispute.funds_withdrawn`: the money was taken back.
    DisputeFundsWithdrawn,
    /// `charge.dispute.funds_reinstated`: and returned.
    DisputeFundsReinstated,
    /// Anything else: to be kept and answered, not acted on.
    Other(String),
}

impl WebhookKind {
    fn of(kind: &str) -> Self {
        match kind {
            "payment_intent.succeeded" => WebhookKind::PaymentSucceeded,
            "payment_intent.payment_failed" => WebhookKind::PaymentFailed,
            "payment_intent.amount_capturable_updated" => WebhookKind::PaymentCapturable,
            "payment_intent.requires_action" => WebhookKind::PaymentRequiresAction,
            "payment_intent.canceled" => WebhookKind::PaymentCanceled,
            "payment_intent.processing" => WebhookKind::PaymentProcessing,
            "charge.refunded" => WebhookKind::ChargeRefunded,
            "refund.created" => WebhookKind::RefundCreated,
            "refund.updated" | "charge.refund.updated" => WebhookKind::RefundUpdated,
            "refund.failed" => WebhookKind::RefundFailed,
            "charge.dispute.created" => WebhookKind::DisputeCreated,
            "charge.dispute.updated" => WebhookKind::DisputeUpdated,
            "charge.dispute.closed" => WebhookKind::DisputeClosed,
            "charge.dispute.funds_withdrawn" => WebhookKind::DisputeFundsWithdrawn,
            "charge.dispute.funds_reinstated" => WebhookKind::DisputeFundsReinstated,
            other => WebhookKind::Other(other.to_owned()),
        }
    }
}

/// An event, as the provider tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEvent {
    /// The provider's id: the same event keeps it, however often it comes.
    pub id: String,
    /// What happened.
    pub kind: WebhookKind,
    /// When, Unix seconds.
    pub created_s: u64,
    /// To which payment.
    pub payment_id: Option<String>,
    /// Our claim, where the object carries our metadata.
    pub reference: Option<String>,
    /// Our attempt, likewise.
    pub attempt: Option<u32>,
    /// What it was like then.
    pub object: WebhookObject,
}

/// What an event carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookObject {
    /// A payment.
    Payment(Payment),
    /// A charge.
    Charge(Charge),
    /// A refund.
    Refund(Refund),
    /// A dispute.
    Dispute(Dispute),
    /// Nothing that we act on.
    Other,
    /// Something that we would act on and cannot read: an operator must look.
    Unreadable {
        /// What is wrong with it.
        why: String,
    },
}

/// A charge: what a payment took from a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The provider's id.
    pub id: String,
    /// Of which payment.
    pub payment_id: Option<String>,
    /// How much was reserved.
    pub amount: Money,
    /// How much of it was charged, minor units.
    pub amount_captured_minor: u64,
    /// How much of it was given back in all, minor units.
    pub amount_refunded_minor: u64,
}

/// A dispute: the card's bank takes the money back unless it can be convinced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispute {
    /// The provider's id.
    pub id: String,
    /// Of which payment.
    pub payment_id: Option<String>,
    /// Of which charge.
    pub charge_id: Option<String>,
    /// How much.
    pub amount: Money,
    /// Where it is: `needs_response`, `under_review`, `won`, `lost`, …
    pub status: String,
    /// Why: `fraudulent`, `product_not_received`, …
    pub reason: Option<String>,
}

/// Not an event at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnEvent(String);

impl fmt::Display for NotAnEvent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the webhook's body is no event: {}", self.0)
    }
}

impl std::error::Error for NotAnEvent {}

impl WebhookEvent {
    /// Reads a body whose signature was checked.
    ///
    /// # Errors
    /// No JSON, or without an id or a type.
    pub fn parse(body: &[u8]) -> Result<Self, NotAnEvent> {
        let event: Value = serde_json::from_slice(body).map_err(|error| NotAnEvent(error.to_string()))?;
        let id = objects::id(&event).map_err(NotAnEvent)?;
        let kind = event["type"]
            .as_str()
            .ok_or_else(|| NotAnEvent(format!("{id} has no type")))?;
        let kind = WebhookKind::of(kind);
        let carried = &event["data"]["object"];
        let object = match &kind {
            WebhookKind::Other(_) => WebhookObject::Other,
            _ => read(carried).unwrap_or_else(|why| WebhookObject::Unreadable { why }),
        };
        let (claim, attempt) = objects::ours(carried);
        Ok(WebhookEvent {
            id,
            kind,
            created_s: event["created"].as_u64().unwrap_or_default(),
            payment_id: match carried["object"].as_str() {
                Some("payment_intent") => reference(carried),
                _ => reference(&carried["payment_intent"]),
            },
            reference: claim,
            attempt,
            object,
        })
    }
}

/// By what the object says it is, not by the event's type: those that share a prefix do not always carry
/// the same.
fn read(carried: &Value) -> Result<WebhookObject, String> {
    match carried["object"].as_str() {
        Some("payment_intent") => objects::payment(carried).map(WebhookObject::Payment),
        Some("refund") => objects::refund(carried).map(WebhookObject::Refund),
        Some("charge") => charge(carried).map(WebhookObject::Charge),
        Some("dispute") => dispute(carried).map(WebhookObject::Dispute),
        other => Err(format!("it carries {}", other.unwrap_or("no object"))),
    }
}

fn charge(carried: &Value) -> Result<Charge, String> {
    Ok(Charge {
        id: objects::id(carried)?,
        payment_id: reference(&carried["payment_intent"]),
        amount: amount(carried, "amount")?,
        amount_captured_minor: minor_or_zero(carried, "amount_captured")?,
        amount_refunded_minor: amount(carried, "amount_refunded")?.minor,
    })
}

fn dispute(carried: &Value) -> Result<Dispute, String> {
    Ok(Dispute {
        id: objects::id(carried)?,
        payment_id: reference(&carried["payment_intent"]),
        charge_id: reference(&carried["charge"]),
        amount: amount(carried, "amount")?,
        status: carried["status"].as_str().unwrap_or("unknown").to_owned(),
        reason: carried["reason"].as_str().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const BODY: &[u8] = br#"{"id":"evt_1","type":"payment_intent.succeeded"}"#;
    const TIME_S: u64 = 1_700_000_000;
    // printf '%s' '1700000000.{"id":"evt_1","type":"payment_intent.succeeded"}' | openssl dgst -sha256 -hmac …
    const BY_ONE: &str = "24fe241f221a575fd1298febdae3d1ac74ad0d3d4a0094c0c5c695b87016ec37";
    const BY_TWO: &str = "8df76e44c4f9bde7a24a1e0368b8bf7da813184e71196cf926c0c4220b162715";

    fn check(secrets: &[&str]) -> SignatureCheck {
        let secrets = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
        SignatureCheck::new(secrets, SIGNATURE_TOLERANCE)
    }

    fn verify(secrets: &[&str], header: &str, now_s: u64) -> Result<(), SignatureError> {
        check(secrets).verify(Some(header), BODY, now_s)
    }

    #[test]
    fn what_openssl_signed_is_believed() {
        for (secrets, header) in [
            (&["whsec_one"][..], format!("t={TIME_S},v1={BY_ONE}")),
            (&["whsec_two"], format!("t={TIME_S},v1={BY_TWO}")),
            (&["whsec_two", "whsec_one"], format!("t={TIME_S},v1={BY_ONE}")),
            (
                &["whsec_one"],
                format!("t={TIME_S},v1={BY_TWO},v1={BY_ONE},v0=abc"),
            ),
            (
                &["whsec_one"],
                format!(" v1={} , t={TIME_S} ,v1=short", BY_ONE.to_uppercase()),
            ),
        ] {
            assert_eq!(verify(secrets, &header, TIME_S), Ok(()), "{header}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        let header = format!("t={TIME_S},v1={BY_ONE}");
        let mismatch = Err(SignatureError::Mismatch);
        assert_eq!(verify(&["whsec_two"], &header, TIME_S), mismatch);
        assert_eq!(verify(&[], &header, TIME_S), mismatch);
        assert_eq!(
            verify(&["whsec_one"], &format!("t=1700000001,v1={BY_ONE}"), TIME_S),
            mismatch
        );
        assert_eq!(
            verify(&["whsec_one"], &format!("t=01700000000,v1={BY_ONE}"), TIME_S),
            mismatch
        );
        let other_body = check(&["whsec_one"]).verify(Some(&header), &[BODY, b" "].concat(), TIME_S);
        assert_eq!(other_body, mismatch);
        assert_eq!(
            check(&["whsec_one"]).verify(None, BODY, TIME_S),
            Err(SignatureError::Missing)
        );
        for header in [
            "",
            "nonsense",
            &format!("v1={BY_ONE}"),
            &format!("t={TIME_S}"),
            &format!("t={TIME_S},v0={BY_ONE}"),
            &format!("t={TIME_S},v1={}", &BY_ONE[1..]),
            &format!("t={TIME_S},v1={}g", &BY_ONE[1..]),
            &format!("t={TIME_S},t={TIME_S},v1={BY_ONE}"),
            &format!("t=,v1={BY_ONE}"),
            &format!("t=+{TIME_S},v1={BY_ONE}"),
            &format!("t=-1,v1={BY_ONE}"),
            &format!("t=99999999999999999999,v1={BY_ONE}"),
        ] {
            let refused = verify(&["whsec_one"], header, TIME_S);
            assert!(
                matches!(refused, Err(SignatureError::Malformed(_))),
                "{header}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_recording_is_refused_both_ways() {
        let header = format!("t={TIME_S},v1={BY_ONE}");
        let at = |now_s| verify(&["whsec_one"], &header, now_s);
        assert_eq!((at(TIME_S + 300), at(TIME_S - 300)), (Ok(()), Ok(())));
        let stale = |age_s| {
            Err(SignatureError::Stale {
                age_s,
                tolerance_s: 300,
            })
        };
        assert_eq!(at(TIME_S + 301), stale(301));
        assert_eq!(at(TIME_S - 301), stale(-301));
        assert_eq!(at(0), stale(-1_700_000_000));
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", check(&["whsec_one"]));
        assert!(!shown.contains("whsec_one"), "{shown}");
    }

    fn event(kind: &str, object: Value) -> WebhookEvent {
        let event = json!({"id": "evt_1", "object": "event", "api_version": "2020-01-01", "created": 7,
                           "type": kind, "data": {"object": object, "previous_attributes": {}}});
        WebhookEvent::parse(event.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_payments_event_names_claim_and_attempt() {
        let intent = json!({"id": "pi_1", "object": "payment_intent", "amount": 5, "currency": "eur",
                            "status": "requires_capture", "metadata": {"claim_id": "c_1", "attempt": "2"}});
        let event = event("payment_intent.amount_capturable_updated", intent);
        assert_eq!((event.id.as_str(), event.created_s), ("evt_1", 7));
        assert_eq!(event.kind, WebhookKind::PaymentCapturable);
        assert_eq!(event.payment_id.as_deref(), Some("pi_1"));
        assert_eq!(
            (event.reference.as_deref(), event.attempt),
            (Some("c_1"), Some(2))
        );
        assert!(
            matches!(event.object, WebhookObject::Payment(payment) if payment.amount_capturable_minor == 5)
        );
    }

    #[test]
    fn charges_refunds_and_disputes_name_their_payment() {
        let refunded = json!({"id": "ch_1", "object": "charge", "amount": 500, "amount_captured": 500,
                              "amount_refunded": 200, "currency": "isk", "payment_intent": "pi_1"});
        let refunded = event("charge.refunded", refunded);
        assert_eq!(refunded.payment_id.as_deref(), Some("pi_1"));
        assert!(
            matches!(refunded.object, WebhookObject::Charge(charge) if charge.amount_refunded_minor == 2)
        );

        let failed = json!({"id": "re_1", "object": "refund", "amount": 5, "currency": "eur", "status": "failed",
                            "payment_intent": {"id": "pi_2", "object": "payment_intent"}});
        let failed = event("refund.failed", failed);
        assert_eq!(
            (&failed.kind, failed.payment_id.as_deref()),
            (&WebhookKind::RefundFailed, Some("pi_2"))
        );

        let dispute = json!({"id": "dp_1", "object": "dispute", "amount": 5, "currency": "eur", "charge": "ch_1",
                             "payment_intent": "pi_1", "reason": "fraudulent", "status": "lost"});
        let dispute = event("charge.dispute.closed", dispute);
        assert!(matches!(dispute.object, WebhookObject::Dispute(dispute) if dispute.status == "lost"));
    }

    #[test]
    fn an_event_that_we_cannot_act_on_is_kept() {
        let unknown = event("customer.created", json!({"id": "cus_1", "object": "customer"}));
        assert_eq!(unknown.kind, WebhookKind::Other("customer.created".into()));
        assert_eq!(unknown.object, WebhookObject::Other);
        let intent = json!({"id": "pi_1", "object": "payment_intent", "amount": -1, "currency": "eur"});
        let unreadable = event("payment_intent.succeeded", intent);
        assert!(matches!(unreadable.object, WebhookObject::Unreadable { .. }));
        assert_eq!(unreadable.payment_id.as_deref(), Some("pi_1"));
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for body in [
            &b""[..],
            b"[]",
            b"{}",
            b"{\"id\":\"evt_1\"}",
            b"{\"type\":\"x\"}",
            b"\xff\xfe",
        ] {
            assert!(WebhookEvent::parse(body).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_header_is_too_strange(header in "[tv01=, a-f\\PC]{0,80}") {
            let _ = verify(&["whsec_one"], &header, TIME_S);
        }

        #[test]
        fn what_was_not_signed_never_matches(time: u64, mac in "[0-9a-f]{64}", now_s: u64) {
            let refused = verify(&["whsec_one", "whsec_two"], &format!("t={time},v1={mac}"), now_s);
            prop_assert_eq!(refused, Err(SignatureError::Mismatch));
        }

        #[test]
        fn parts_may_come_in_any_order(time: u32, macs in prop::collection::vec(any::<[u8; 32]>(), 1..4), front: bool) {
            let hex = |mac: &[u8; 32]| mac.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let mut parts: Vec<_> = macs.iter().map(|mac| format!("v1={}", hex(mac))).collect();
            parts.insert(if front { 0 } else { parts.len() }, format!("t={time}"));
            let header = parts.join(",");
            let parsed = SignatureHeader::parse(&header).unwrap();
            prop_assert_eq!((parsed.time_s, parsed.signatures), (u64::from(time), macs));
        }

        #[test]
        fn no_body_is_too_strange(body: Vec<u8>) {
            let _ = WebhookEvent::parse(&body);
        }
    }
}
