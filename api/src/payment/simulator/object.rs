//! The objects there are, and how Stripe writes them.
//!
//! Amounts are minor units. What can be computed from other objects (what was refunded, what can be
//! captured) is computed, never kept twice.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{magic::Magic, provider::Provider};

/// Where a payment stands, in Stripe's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    RequiresCapture,
    Canceled,
    Succeeded,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Status::RequiresPaymentMethod => "requires_payment_method",
            Status::RequiresConfirmation => "requires_confirmation",
            Status::RequiresAction => "requires_action",
            Status::RequiresCapture => "requires_capture",
            Status::Canceled => "canceled",
            Status::Succeeded => "succeeded",
        }
    }
}

/// One payment: at most one of its charges ever succeeds.
#[derive(Debug)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) created_ms: u64,
    pub(super) amount: u64,
    pub(super) currency: &'static str,
    pub(super) manual: bool,
    pub(super) status: Status,
    pub(super) payment_method: Option<String>,
    pub(super) magic: Magic,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) description: Option<String>,
    pub(super) return_url: Option<String>,
    /// Positions of its charges, oldest first.
    pub(super) charges: Vec<usize>,
    pub(super) last_error: Option<Value>,
    /// When and why.
    pub(super) canceled: Option<(u64, Option<&'static str>)>,
    /// A call that will take effect later holds it until it did.
    pub(super) locked: bool,
}

/// One attempt to take the money.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) id: String,
    pub(super) intent: usize,
    pub(super) created_ms: u64,
    pub(super) amount: u64,
    pub(super) payment_method: String,
    /// Code, decline code and message, if the bank said no.
    pub(super) failure: Option<(&'static str, Option<&'static str>, String)>,
    /// What was captured; `None` until then.
    pub(super) captured: Option<Captured>,
    /// The authorization was given back, uncaptured.
    pub(super) released: bool,
    /// Until when it can be captured.
    pub(super) capture_before_ms: u64,
    /// Positions of its refunds, oldest first.
    pub(super) refunds: Vec<usize>,
    /// Its dispute: at most one.
    pub(super) dispute: Option<usize>,
}

/// A capture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Captured {
    pub(super) amount: u64,
    pub(super) at_ms: u64,
}

impl Charge {
    /// Whether money could still be, or was, taken.
    pub(super) fn stands(&self) -> bool {
        self.failure.is_none() && !self.released
    }

    pub(super) fn captured_minor(&self) -> u64 {
        self.captured.map_or(0, |captured| captured.amount)
    }
}

/// Where a refund stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefundStatus {
    Pending,
    Succeeded,
    Failed,
}

impl RefundStatus {
    pub(super) fn name(self) -> &'static str {
        match self {
            RefundStatus::Pending => "pending",
            RefundStatus::Succeeded => "succeeded",
            RefundStatus::Failed => "failed",
        }
    }
}

/// Money given back.
#[derive(Debug)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) charge: usize,
    pub(super) created_ms: u64,
    pub(super) amount: u64,
    pub(super) status: RefundStatus,
    /// When it came to its end, if that was not at once.
    pub(super) ended_ms: Option<u64>,
    pub(super) reason: Option<&'static str>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Where a dispute stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DisputeStatus {
    NeedsResponse,
    Won,
    Lost,
}

impl DisputeStatus {
    pub(super) fn name(self) -> &'static str {
        match self {
            DisputeStatus::NeedsResponse => "needs_response",
            DisputeStatus::Won => "won",
            DisputeStatus::Lost => "lost",
        }
    }
}

/// Money taken back by the card's bank.
#[derive(Debug)]
pub(super) struct Dispute {
    pub(super) id: String,
    pub(super) charge: usize,
    pub(super) created_ms: u64,
    pub(super) amount: u64,
    pub(super) reason: String,
    pub(super) status: DisputeStatus,
    /// When it was closed.
    pub(super) ended_ms: Option<u64>,
}

/// Where an id leads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Intent(usize),
    Charge(usize),
    Refund(usize),
    Dispute(usize),
}

/// Times go out in seconds.
pub(super) fn seconds(ms: u64) -> u64 {
    ms / 1_000
}

impl Provider {
    pub(super) fn refunded_minor(&self, charge: &Charge) -> u64 {
        let counted = charge.refunds.iter().map(|refund| &self.refunds[*refund]);
        counted
            .filter(|refund| refund.status != RefundStatus::Failed)
            .map(|refund| refund.amount)
            .sum()
    }

    /// The charge that took, or may still take, the money.
    pub(super) fn standing_charge(&self, intent: &Intent) -> Option<usize> {
        intent
            .charges
            .last()
            .copied()
            .filter(|charge| self.charges[*charge].stands())
    }

    pub(super) fn intent_json(&self, position: usize) -> Value {
        self.intent_json_with(position, false)
    }

    pub(super) fn intent_json_with(&self, position: usize, charge_expanded: bool) -> Value {
        let intent = &self.intents[position];
        let standing = self.standing_charge(intent).map(|charge| &self.charges[charge]);
        let capturable = if intent.status == Status::RequiresCapture {
            intent.amount
        } else {
            0
        };
        let latest_charge = match intent.charges.last() {
            None => Value::Null,
            Some(charge) if charge_expanded => self.charge_json(*charge),
            Some(charge) => json!(self.charges[*charge].id),
        };
        let next_action = (intent.status == Status::RequiresAction).then(|| {
            json!({
                "type": "redirect_to_url",
                "redirect_to_url": {
                    "url": format!("{}/challenge/{}", self.options.base_url, intent.id),
                    "return_url": intent.return_url,
                },
            })
        });
        json!({
            "id": intent.id,
            "object": "payment_intent",
            "amount": intent.amount,
            "amount_capturable": capturable,
            "amount_details": { "tip": {} },
            "amount_received": standing.map_or(0, Charge::captured_minor),
            "application": null,
            "application_fee_amount": null,
            "automatic_payment_methods": null,
            "canceled_at": intent.canceled.map(|(at_ms, _)| seconds(at_ms)),
            "cancellation_reason": intent.canceled.and_then(|(_, reason)| reason),
            "capture_method": if intent.manual { "manual" } else { "automatic" },
            "client_secret": intent.secret,
            "confirmation_method": "automatic",
            "created": seconds(intent.created_ms),
            "currency": intent.currency,
            "customer": null,
            "description": intent.description,
            "last_payment_error": intent.last_error,
            "latest_charge": latest_charge,
            "livemode": false,
            "metadata": intent.metadata,
            "next_action": next_action,
            "on_behalf_of": null,
            "payment_method": intent.payment_method,
            "payment_method_options": {},
            "payment_method_types": ["card"],
            "processing": null,
            "receipt_email": null,
            "setup_future_usage": null,
            "shipping": null,
            "statement_descriptor": null,
            "status": intent.status.name(),
            "transfer_group": null,
        })
    }

    pub(super) fn charge_json(&self, position: usize) -> Value {
        let charge = &self.charges[position];
        let intent = &self.intents[charge.intent];
        let refunded = self.refunded_minor(charge);
        // An authorization given back reads as refunded in full, although nothing was captured.
        let refunded = if charge.released { charge.amount } else { refunded };
        let whole = charge.captured.map_or(charge.amount, |captured| captured.amount);
        let paid = charge.failure.is_none();
        let (code, decline_code, message) = match &charge.failure {
            Some((code, decline_code, message)) => (Some(*code), *decline_code, Some(message.as_str())),
            None => (None, None, None),
        };
        json!({
            "id": charge.id,
            "object": "charge",
            "amount": charge.amount,
            "amount_captured": charge.captured_minor(),
            "amount_refunded": refunded,
            "balance_transaction": charge.captured.map(|_| balance_transaction(&charge.id)),
            "billing_details": { "address": null, "email": null, "name": null, "phone": null },
            "captured": charge.captured.is_some(),
            "created": seconds(charge.created_ms),
            "currency": intent.currency,
            "customer": null,
            "description": intent.description,
            "dispute": charge.dispute.map(|dispute| &self.disputes[dispute].id),
            "disputed": charge.dispute.is_some(),
            "failure_code": code,
            "failure_message": message,
            "livemode": false,
            "metadata": intent.metadata,
            "outcome": {
                "network_status": if paid { "approved_by_network" } else { "declined_by_network" },
                "reason": decline_code.or(code),
                "risk_level": "normal",
                "seller_message": message.unwrap_or("Payment complete."),
                "type": if paid { "authorized" } else { "issuer_declined" },
            },
            "paid": paid,
            "payment_intent": intent.id,
            "payment_method": charge.payment_method,
            "payment_method_details": {
                "type": "card",
                "card": {
                    "brand": "visa",
                    "capture_before": paid.then_some(seconds(charge.capture_before_ms)),
                    "country": "US",
                    "funding": "credit",
                    "last4": "4242",
                },
            },
            "refunded": charge.released || (refunded > 0 && refunded == whole),
            "status": if paid { "succeeded" } else { "failed" },
        })
    }

    pub(super) fn refund_json(&self, position: usize) -> Value {
        let refund = &self.refunds[position];
        let charge = &self.charges[refund.charge];
        let intent = &self.intents[charge.intent];
        let failed = refund.status == RefundStatus::Failed;
        json!({
            "id": refund.id,
            "object": "refund",
            "amount": refund.amount,
            "balance_transaction": balance_transaction(&refund.id),
            "charge": charge.id,
            "created": seconds(refund.created_ms),
            "currency": intent.currency,
            "failure_reason": failed.then_some("expired_or_canceled_card"),
            "metadata": refund.metadata,
            "payment_intent": intent.id,
            "reason": refund.reason,
            "receipt_number": null,
            "status": refund.status.name(),
        })
    }

    pub(super) fn dispute_json(&self, position: usize) -> Value {
        let dispute = &self.disputes[position];
        let charge = &self.charges[dispute.charge];
        let intent = &self.intents[charge.intent];
        json!({
            "id": dispute.id,
            "object": "dispute",
            "amount": dispute.amount,
            "balance_transactions": [],
            "charge": charge.id,
            "created": seconds(dispute.created_ms),
            "currency": intent.currency,
            "evidence_details": { "has_evidence": false, "past_due": false, "submission_count": 0 },
            "is_charge_refundable": false,
            "livemode": false,
            "metadata": {},
            "payment_intent": intent.id,
            "reason": dispute.reason,
            "status": dispute.status.name(),
        })
    }
}

/// The movement on the balance that belongs to an object: its id with another prefix.
pub(super) fn balance_transaction(id: &str) -> String {
    let bare = id.split_once('_').map_or(id, |(_, bare)| bare);
    format!("txn_{bare}")
}
