//! Webhooks: what they say, once their signature was checked ([`SignatureCheck`](super::SignatureCheck)).
//!
//! An event says what *was*: events come late, twice and in any order. Decide by retrieving the payment,
//! or by what cannot be undone (captured, refunded, disputed). An event whose object cannot be read is
//! still an event ([`WebhookObject::Unreadable`]): it is kept, not lost.

use std::fmt;

use serde_json::Value;

use super::{
    Money, Payment, Refund,
    stripe::objects::{self, amount, minor_or_zero, reference},
};

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
    /// What a webhook endpoint should ask the provider for: every kind that moves a checkout or an order on. Others are
    /// kept and answered all the same, each at the cost of a write.
    pub const WANTED: [&str; 16] = [
        "charge.dispute.closed",
        "charge.dispute.created",
        "charge.dispute.funds_reinstated",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.updated",
        "charge.refund.updated",
        "charge.refunded",
        "payment_intent.amount_capturable_updated",
        "payment_intent.canceled",
        "payment_intent.payment_failed",
        "payment_intent.processing",
        "payment_intent.requires_action",
        "payment_intent.succeeded",
        "refund.created",
        "refund.failed",
        "refund.updated",
    ];

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
    fn every_kind_that_is_wanted_is_known() {
        for kind in WebhookKind::WANTED {
            assert!(!matches!(WebhookKind::of(kind), WebhookKind::Other(_)), "{kind}");
        }
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
        fn no_body_is_too_strange(body: Vec<u8>) {
            let _ = WebhookEvent::parse(&body);
        }
    }
}
