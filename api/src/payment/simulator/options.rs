//! What a provider is made with: every limit, its unit and its reason.

use serde::{Deserialize, Serialize};

use super::fault::Faults;

/// Every kind of event that this provider tells of.
pub const EVENT_KINDS: [&str; 19] = [
    "charge.captured",
    "charge.dispute.closed",
    "charge.dispute.created",
    "charge.dispute.funds_reinstated",
    "charge.dispute.funds_withdrawn",
    "charge.expired",
    "charge.failed",
    "charge.refund.updated",
    "charge.refunded",
    "charge.succeeded",
    "payment_intent.amount_capturable_updated",
    "payment_intent.canceled",
    "payment_intent.created",
    "payment_intent.payment_failed",
    "payment_intent.requires_action",
    "payment_intent.succeeded",
    "refund.created",
    "refund.failed",
    "refund.updated",
];

/// What a provider is made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Every draw comes from it, ids included.
    pub seed: u64,
    /// Faults to begin with; they may be changed at run time.
    #[serde(skip)]
    pub faults: Faults,
    /// Where shoppers reach the challenge pages, without a slash at the end.
    #[serde(skip)]
    pub base_url: String,
    /// Whether anybody listens to webhooks; if not, none are queued.
    pub webhooks: bool,
    /// The kinds of events that are sent, of [`EVENT_KINDS`], as an endpoint of Stripe's names its own; empty: all.
    #[serde(default)]
    pub webhook_kinds: Vec<String>,
    /// How long an authorization can be captured, in ms. Seven days, as card networks commonly allow.
    pub authorization_ms: u64,
    /// How long a pending refund takes, and how long until one that will fail does, in ms.
    pub refund_ms: u64,
    /// First wait after a webhook was not taken, in ms; doubled each time, up to 30 s.
    pub webhook_retry_ms: u64,
    /// Payments kept, a few KB each with their keys and events: 100,000 need some hundred MB.
    pub payments_max: usize,
    /// Idempotency keys kept at one time, about 2 KB each with the answer; each is kept for 24 h.
    pub keys_max: usize,
    /// Events kept for `GET /v1/events`, about 2 KB each; beyond it the oldest are forgotten.
    pub events_max: usize,
    /// Webhooks waiting to be taken; beyond it new ones are dropped, and counted.
    pub deliveries_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            seed: 0,
            faults: Faults::default(),
            base_url: "http://psp.invalid".into(),
            webhooks: true,
            webhook_kinds: Vec::new(),
            authorization_ms: 7 * 24 * 3_600_000,
            refund_ms: 2_000,
            webhook_retry_ms: 500,
            payments_max: 100_000,
            keys_max: 500_000,
            events_max: 200_000,
            deliveries_max: 200_000,
        }
    }
}

impl Options {
    /// Whether events of this kind are sent.
    pub(super) fn sends(&self, kind: &str) -> bool {
        assert!(EVENT_KINDS.contains(&kind), "{kind} is missing among the kinds");
        self.webhooks && (self.webhook_kinds.is_empty() || self.webhook_kinds.iter().any(|sent| sent == kind))
    }
}
