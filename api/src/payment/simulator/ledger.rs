//! The provider's own books: what a rehearsal's verdict is held against.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    currency::iso_minor,
    object::{Charge, DisputeStatus, RefundStatus, Status, balance_transaction, seconds},
    provider::Provider,
};

/// Metadata under which the caller says what a payment is for, first match first.
const REFERENCE_KEYS: [&str; 3] = ["claim_id", "order_id", "reference"];

/// Everything there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Every payment, oldest first.
    pub payments: Vec<PaymentRow>,
    /// The same by what they were for.
    pub references: BTreeMap<String, Reference>,
    /// By currency, in lower case.
    pub totals: BTreeMap<String, Totals>,
    /// References that were captured more than once: must be empty.
    pub double_charged: Vec<String>,
    /// Webhooks.
    pub webhooks: WebhookCounts,
}

/// One payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRow {
    /// `pi_…`
    pub payment_intent: String,
    /// What it was for, as its metadata says.
    pub reference: Option<String>,
    /// Metadata `attempt`.
    pub attempt: Option<String>,
    /// In Stripe's words.
    pub status: String,
    /// Minor units asked for.
    pub amount_minor: u64,
    /// Lower case.
    pub currency: String,
    /// The charge that stands, or the last that failed.
    pub charge: Option<String>,
    /// Charges made, declined ones included.
    pub charges: usize,
    /// Minor units held and not yet captured or given back.
    pub authorized_minor: u64,
    /// Minor units captured.
    pub captured_minor: u64,
    /// Of these, refunded or about to be.
    pub refunded_minor: u64,
    /// Of these, pending.
    pub refund_pending_minor: u64,
    /// Of these, taken back in a dispute that is open or lost.
    pub disputed_minor: u64,
    /// Captured less refunded less disputed.
    pub net_minor: u64,
}

/// One thing paid for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Payments made for it.
    pub payments: usize,
    /// Of these, captured: more than one is a double charge.
    pub captures: usize,
    /// Of these, holding money uncaptured.
    pub authorizations: usize,
    /// Minor units captured.
    pub captured_minor: u64,
    /// Minor units refunded or about to be.
    pub refunded_minor: u64,
    /// Minor units taken back in disputes.
    pub disputed_minor: u64,
}

/// One currency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Minor units held.
    pub authorized_minor: u64,
    /// Minor units captured.
    pub captured_minor: u64,
    /// Minor units refunded or about to be.
    pub refunded_minor: u64,
    /// Minor units taken back in disputes.
    pub disputed_minor: u64,
}

/// What became of webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookCounts {
    /// Events made.
    pub events: u64,
    /// Deliveries taken.
    pub delivered: u64,
    /// Deliveries that wait for their time, or for another attempt.
    pub waiting: usize,
    /// Deliveries dropped for want of room.
    pub dropped: u64,
    /// Deliveries given up after the last attempt.
    pub given_up: u64,
}

impl Provider {
    /// The books as of now.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger {
            webhooks: WebhookCounts {
                events: self.mail.forgotten + self.mail.events.len() as u64,
                delivered: self.mail.delivered,
                waiting: self.mail.waiting(),
                dropped: self.mail.dropped,
                given_up: self.mail.given_up,
            },
            ..Ledger::default()
        };
        for position in 0..self.intents.len() {
            let row = self.row(position);
            let totals = ledger.totals.entry(row.currency.clone()).or_default();
            totals.authorized_minor += row.authorized_minor;
            totals.captured_minor += row.captured_minor;
            totals.refunded_minor += row.refunded_minor;
            totals.disputed_minor += row.disputed_minor;
            if let Some(reference) = &row.reference {
                let reference = ledger.references.entry(reference.clone()).or_default();
                reference.payments += 1;
                reference.captures += usize::from(row.captured_minor > 0);
                reference.authorizations += usize::from(row.authorized_minor > 0);
                reference.captured_minor += row.captured_minor;
                reference.refunded_minor += row.refunded_minor;
                reference.disputed_minor += row.disputed_minor;
            }
            ledger.payments.push(row);
        }
        let doubled = ledger
            .references
            .iter()
            .filter(|(_, reference)| reference.captures > 1);
        ledger.double_charged = doubled.map(|(name, _)| name.clone()).collect();
        ledger
    }

    fn row(&self, position: usize) -> PaymentRow {
        let intent = &self.intents[position];
        let standing = self.standing_charge(intent);
        let charge = standing.map(|charge| &self.charges[charge]);
        let captured_minor = charge.map_or(0, Charge::captured_minor);
        let refunded_minor = charge.map_or(0, |charge| self.refunded_minor(charge));
        let disputed_minor = standing.map_or(0, |charge| self.taken_back_minor(charge));
        let pending = charge.into_iter().flat_map(|charge| &charge.refunds);
        let pending = pending.map(|refund| &self.refunds[*refund]);
        let pending = pending.filter(|refund| refund.status == RefundStatus::Pending);
        let waits = intent.status == Status::RequiresCapture;
        PaymentRow {
            payment_intent: intent.id.clone(),
            reference: REFERENCE_KEYS
                .iter()
                .find_map(|key| intent.metadata.get(*key).cloned()),
            attempt: intent.metadata.get("attempt").cloned(),
            status: intent.status.name().to_owned(),
            amount_minor: intent.amount,
            currency: intent.currency.to_owned(),
            charge: intent
                .charges
                .last()
                .map(|charge| self.charges[*charge].id.clone()),
            charges: intent.charges.len(),
            authorized_minor: if waits { intent.amount } else { 0 },
            captured_minor,
            refunded_minor,
            refund_pending_minor: pending.map(|refund| refund.amount).sum(),
            disputed_minor,
            net_minor: captured_minor
                .checked_sub(refunded_minor + disputed_minor)
                .expect("no more goes back than was captured"),
        }
    }

    /// What the provider would settle: one line per movement of money, in the order in which it happened.
    /// Columns: `type,id,source,payment_id,amount_minor,currency,fee_minor,created`; amounts are what the
    /// merchant gets, so refunds and disputes are negative, and are counted as ISO 4217 does; fees are zero
    /// here; times are Unix seconds. A refund that is pending has not moved yet; one that failed, and a
    /// dispute that was won, moved there and back.
    pub fn settlement_csv(&self) -> String {
        let mut lines: Vec<(u64, String)> = Vec::new();
        let mut line = |at_ms: u64, kind: &str, charge: &Charge, id: &str, gets: &str, amount: u64| {
            let intent = &self.intents[charge.intent];
            let (amount, currency) = (
                iso_minor(amount, intent.currency),
                intent.currency.to_ascii_uppercase(),
            );
            let (transaction, payment, at_s) = (balance_transaction(id), &intent.id, seconds(at_ms));
            let text = format!("{kind},{transaction},{id},{payment},{gets}{amount},{currency},0,{at_s}\n");
            lines.push((at_ms, text));
        };
        for charge in &self.charges {
            if let Some(captured) = charge.captured {
                line(captured.at_ms, "charge", charge, &charge.id, "", captured.amount);
            }
        }
        for refund in &self.refunds {
            let (charge, id, amount) = (&self.charges[refund.charge], &refund.id, refund.amount);
            let ended_ms = refund.ended_ms.unwrap_or(refund.created_ms);
            match refund.status {
                RefundStatus::Pending => {}
                RefundStatus::Succeeded => line(ended_ms, "refund", charge, id, "-", amount),
                RefundStatus::Failed => {
                    line(refund.created_ms, "refund", charge, id, "-", amount);
                    line(ended_ms, "refund_failure", charge, id, "", amount);
                }
            }
        }
        for dispute in &self.disputes {
            let (charge, id, amount) = (&self.charges[dispute.charge], &dispute.id, dispute.amount);
            line(dispute.created_ms, "dispute", charge, id, "-", amount);
            if let (DisputeStatus::Won, Some(ended_ms)) = (dispute.status, dispute.ended_ms) {
                line(ended_ms, "dispute_reversal", charge, id, "", amount);
            }
        }
        lines.sort_by_key(|(at_ms, _)| *at_ms);
        let mut csv = String::from("type,id,source,payment_id,amount_minor,currency,fee_minor,created\n");
        csv.extend(lines.into_iter().map(|(_, line)| line));
        csv
    }
}
