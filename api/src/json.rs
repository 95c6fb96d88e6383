//! The JSON that goes out and comes in: the shapes of the HTTP contract, and how they are made from
//! the client's types.
//!
//! Decides nothing. Shapes that come in refuse unknown fields, so that a misspelt one is noticed
//! before the sale rather than during it.

use client::{Claim, ClaimStatus, EventKind, Grant, NewSale, Position, Receipt, Sale, SaleStatus};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    checkout::Standing,
    error::Problem,
    orders::{Order, OrderDispute, OrderDisputeStatus, OrderRefund, OrderRefundStatus},
    time,
};

/// Name of a sale's status.
pub(crate) fn sale_status(status: SaleStatus) -> &'static str {
    match status {
        SaleStatus::Scheduled => "scheduled",
        SaleStatus::Open => "open",
        SaleStatus::Paused => "paused",
        SaleStatus::Closed => "closed",
        SaleStatus::Unspecified => "unknown",
    }
}

/// Name of what happened to a sale; `None` for what is not about one.
pub(crate) fn event_kind(kind: EventKind) -> Option<&'static str> {
    Some(match kind {
        EventKind::SaleCreated => "sale-created",
        EventKind::SaleOpened => "sale-opened",
        EventKind::SalePaused => "sale-paused",
        EventKind::SaleClosed => "sale-closed",
        EventKind::SaleRestocked => "sale-restocked",
        EventKind::SaleWithdrawn => "sale-withdrawn",
        EventKind::ClaimGranted => "claim-granted",
        EventKind::ClaimConfirmed => "claim-confirmed",
        EventKind::ClaimReleased => "claim-released",
        EventKind::ClaimExpired => "claim-expired",
        EventKind::ClaimExtended => "claim-extended",
        EventKind::ClaimCancelled => "claim-cancelled",
        EventKind::DocumentChanged | EventKind::Unspecified => return None,
    })
}

/// Name of a claim's status.
pub(crate) fn claim_status(status: ClaimStatus) -> &'static str {
    match status {
        ClaimStatus::Held => "held",
        ClaimStatus::Confirmed => "confirmed",
        ClaimStatus::Released => "released",
        ClaimStatus::Expired => "expired",
        ClaimStatus::Cancelled => "cancelled",
        ClaimStatus::Unspecified => "unknown",
    }
}

/// Name of how a claim was answered.
pub(crate) fn outcome(grant: Grant) -> &'static str {
    match grant {
        Grant::Granted => "granted",
        Grant::Repeated => "repeated",
        Grant::Already => "already",
        Grant::Unspecified => "unknown",
    }
}

/// When and where in the log something happened: its place in the one order of everything.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReceiptJson {
    /// Log index of the entry.
    log_index: u64,
    /// Position of the command in its entry, from zero.
    position: u32,
    /// Raft term of the entry.
    term: u64,
    /// Log time of the entry, in ms.
    log_time_ms: u64,
}

impl From<&Receipt> for ReceiptJson {
    fn from(receipt: &Receipt) -> Self {
        ReceiptJson {
            log_index: receipt.log_index,
            position: receipt.position,
            term: receipt.term,
            log_time_ms: receipt.log_time_ms,
        }
    }
}

/// One claim.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClaimJson<'a> {
    /// Opaque id.
    claim_id: &'a str,
    /// The sale it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    sale_id: Option<&'a str>,
    /// `granted` now, `repeated` (this key made it before) or `already` (you are at your limit and
    /// this is the claim you have); only in answers to a claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    /// `held`, `confirmed`, `released`, `expired` or `cancelled`.
    status: &'static str,
    /// Units.
    quantity: u32,
    /// When the hold ends, RFC 3339; only while held. A failover does not eat hold time, so it may
    /// turn out later, never earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_until: Option<String>,
    /// Whole seconds left of the hold; only while held.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_remaining: Option<u64>,
    /// Rank in the sale, in the order of the log, from one.
    rank: u32,
    /// What a confirm must present.
    fencing_token: u64,
    /// Where to pay for it; only while held.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkout_url: Option<String>,
    /// When it was granted.
    receipt: ReceiptJson,
}

impl<'a> ClaimJson<'a> {
    /// A claim as of a position.
    pub(crate) fn new(
        claim: &'a Claim,
        sale_id: Option<&'a str>,
        grant: Option<Grant>,
        position: &Position,
    ) -> Self {
        let held = claim.status == ClaimStatus::Held;
        ClaimJson {
            claim_id: &claim.claim_id,
            sale_id,
            outcome: grant.map(outcome),
            status: claim_status(claim.status),
            quantity: claim.quantity,
            held_until: held.then(|| time::rfc3339(time::wall_of(claim.deadline_ms, position))),
            seconds_remaining: held.then(|| time::remaining_ms(claim.deadline_ms, position) / 1_000),
            rank: claim.rank,
            fencing_token: claim.fencing_token,
            checkout_url: held.then(|| format!("/v1/claims/{}/checkout", claim.claim_id)),
            receipt: ReceiptJson::from(&claim.receipt),
        }
    }
}

/// One order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrderJson<'a> {
    /// Opaque id.
    order_id: &'a str,
    /// The claim it was made from.
    claim_id: &'a str,
    /// The sale.
    sale_id: &'a str,
    /// Who bought.
    user: &'a str,
    /// `paid`, `partially_refunded`, `refunded`, `disputed` (until the dispute is won), `cancelling` or
    /// `cancelled`.
    status: &'static str,
    /// Units.
    quantity: u32,
    /// Rank of the claim in the sale.
    rank: u32,
    /// All of it, in minor units.
    amount_minor: u64,
    /// ISO 4217.
    currency: String,
    /// Minor units that went back or are on their way back.
    refunded_minor: u64,
    /// The provider's id of the payment.
    payment_id: &'a str,
    /// Money given back, in the order in which it was heard of.
    refunds: Vec<OrderRefundJson<'a>>,
    /// Disputes with the shopper's bank.
    disputes: Vec<OrderDisputeJson<'a>>,
    /// When it was paid, RFC 3339.
    paid_at: String,
    /// When it was cancelled, RFC 3339; only then.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<String>,
    /// When the claim was granted.
    receipt: ReceiptJson,
}

/// A refund of an order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrderRefundJson<'a> {
    /// The provider's id.
    refund_id: &'a str,
    /// In minor units.
    amount_minor: u64,
    /// `pending`, `succeeded` or `failed`.
    status: &'static str,
}

/// A dispute about an order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrderDisputeJson<'a> {
    /// The provider's id.
    dispute_id: &'a str,
    /// In minor units.
    amount_minor: u64,
    /// `open`, `won` or `lost`.
    status: &'static str,
}

impl<'a> OrderJson<'a> {
    /// An order.
    pub(crate) fn new(order: &'a Order) -> Self {
        let refund = |refund: &'a OrderRefund| OrderRefundJson {
            refund_id: &refund.refund_id,
            amount_minor: refund.amount_minor,
            status: match refund.status {
                OrderRefundStatus::Pending => "pending",
                OrderRefundStatus::Succeeded => "succeeded",
                OrderRefundStatus::Failed => "failed",
            },
        };
        let dispute = |dispute: &'a OrderDispute| OrderDisputeJson {
            dispute_id: &dispute.dispute_id,
            amount_minor: dispute.amount_minor,
            status: match dispute.status {
                OrderDisputeStatus::Open => "open",
                OrderDisputeStatus::Won => "won",
                OrderDisputeStatus::Lost => "lost",
            },
        };
        OrderJson {
            order_id: &order.order_id,
            claim_id: &order.claim_id,
            sale_id: &order.sale_id,
            user: &order.user,
            status: order.status(),
            quantity: order.quantity,
            rank: order.rank,
            amount_minor: order.amount.minor,
            currency: order.amount.currency.to_string(),
            refunded_minor: order.refunded_minor(),
            payment_id: &order.payment_id,
            refunds: order.refunds.iter().map(refund).collect(),
            disputes: order.disputes.iter().map(dispute).collect(),
            paid_at: time::rfc3339(order.paid_at_ms),
            cancelled_at: order.cancelled_at_ms.map(time::rfc3339),
            receipt: ReceiptJson {
                log_index: order.receipt.log_index,
                position: order.receipt.position,
                term: order.receipt.term,
                log_time_ms: order.receipt.log_time_ms,
            },
        }
    }
}

/// A price.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PriceJson<'a> {
    /// In minor units (cents).
    amount_minor: u64,
    /// ISO 4217.
    currency: &'a str,
}

/// One sale and its counters; `units_available + units_held + units_confirmed = units_total`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SaleJson<'a> {
    /// Id.
    sale_id: &'a str,
    /// Display name.
    name: &'a str,
    /// `scheduled`, `open`, `paused` or `closed`.
    status: &'static str,
    /// Units in the sale.
    units_total: u32,
    /// Units nobody has.
    units_available: u32,
    /// Units in held claims: they may come back.
    units_held: u32,
    /// Units sold.
    units_confirmed: u32,
    /// Most units a user may have.
    per_user_units_max: u32,
    /// How long a claim is held, in ms.
    hold_ms: u64,
    /// When it opens by itself, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    opens_at: Option<String>,
    /// When it closes by itself, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    closes_at: Option<String>,
    /// Price of one unit.
    price: PriceJson<'a>,
    /// Log index of its last change: also its `ETag`.
    changed_index: u64,
}

impl<'a> From<&'a Sale> for SaleJson<'a> {
    fn from(sale: &'a Sale) -> Self {
        let instant = |ms: u64| (ms > 0).then(|| time::rfc3339(ms));
        SaleJson {
            sale_id: &sale.sale_id,
            name: &sale.name,
            status: sale_status(sale.status),
            units_total: sale.units_total,
            units_available: sale.units_available,
            units_held: sale.units_held,
            units_confirmed: sale.units_confirmed,
            per_user_units_max: sale.per_user_units_max,
            hold_ms: sale.hold_ms,
            opens_at: instant(sale.opens_at_ms),
            closes_at: instant(sale.closes_at_ms),
            price: PriceJson {
                amount_minor: sale.price_minor,
                currency: &sale.currency,
            },
            changed_index: sale.changed_index,
        }
    }
}

/// A page of sales, in id order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SalesJson<'a> {
    /// The sales.
    pub(crate) sales: Vec<SaleJson<'a>>,
    /// Pass as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_after: Option<&'a str>,
}

/// Live counters of a sale.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CountersJson<'a> {
    sale_id: &'a str,
    status: &'static str,
    units_total: u32,
    units_available: u32,
    units_held: u32,
    units_confirmed: u32,
    claims_made: u32,
    changed_index: u64,
}

impl<'a> From<&'a Sale> for CountersJson<'a> {
    fn from(sale: &'a Sale) -> Self {
        CountersJson {
            sale_id: &sale.sale_id,
            status: sale_status(sale.status),
            units_total: sale.units_total,
            units_available: sale.units_available,
            units_held: sale.units_held,
            units_confirmed: sale.units_confirmed,
            claims_made: sale.claims_made,
            changed_index: sale.changed_index,
        }
    }
}

/// That a sale was changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SaleChangedJson<'a> {
    /// Which.
    pub(crate) sale_id: &'a str,
    /// When it took effect.
    pub(crate) receipt: ReceiptJson,
}

/// What to claim. The whole body may be left out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TakeJson {
    /// Units, all or nothing; default 1.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 65_535, default = 1)]
    pub(crate) quantity: u32,
}

fn one() -> u32 {
    1
}

/// How to pay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckoutJson {
    /// The provider's token for the card or account (`pm_…`); never a card number.
    pub(crate) payment_method: String,
    /// Where the provider sends the shopper back to, should his bank want to see him.
    pub(crate) return_url: Option<String>,
    /// What the shopper believes to pay, in minor units; if that is not the price, nothing is charged.
    pub(crate) amount_minor: Option<u64>,
    /// ISO 4217; with `amount_minor`.
    pub(crate) currency: Option<String>,
}

/// How a checkout stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StandingJson {
    claim_id: String,
    /// `in-progress`, `action-required`, `paid`, `cancelling`, or how it ended without an order:
    /// `declined`, `refused`, `hold-gone`, `capture-failed`, …
    status: &'static str,
    /// Number of the attempt, from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// Where the shopper has to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_action_url: Option<String>,
    /// The order, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<String>,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    order_url: Option<String>,
    /// The provider's word for why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_code: Option<String>,
    /// The bank's.
    #[serde(skip_serializing_if = "Option::is_none")]
    decline_code: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl StandingJson {
    pub(crate) fn new(claim_id: &str, standing: &Standing) -> Self {
        let mut json = StandingJson {
            claim_id: claim_id.to_owned(),
            status: "in-progress",
            attempt: None,
            next_action_url: None,
            order_id: None,
            order_url: None,
            payment_code: None,
            decline_code: None,
            detail: None,
        };
        match standing {
            Standing::Pending { attempt } => json.attempt = Some(*attempt).filter(|attempt| *attempt > 0),
            Standing::Cancelling => json.status = "cancelling",
            Standing::ActionRequired { attempt, url } => {
                json.status = "action-required";
                json.attempt = Some(*attempt);
                json.next_action_url.clone_from(url);
            }
            Standing::Ordered(order) => {
                json.status = match order.status() {
                    "cancelled" => "cancelled",
                    _ => "paid",
                };
                json.order_url = Some(format!("/v1/orders/{}", order.order_id));
                json.order_id = Some(order.order_id.clone());
            }
            Standing::Ended { attempt, ending } => {
                json.status = ending.name();
                json.attempt = Some(*attempt);
                if let Some(refusal) = ending.refusal() {
                    json.payment_code = Some(refusal.code.clone());
                    json.decline_code.clone_from(&refusal.decline_code);
                    json.detail = Some(refusal.message.clone());
                }
            }
        }
        json
    }
}

/// What a confirm presents.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmJson {
    /// The claim's current token.
    pub(crate) fencing_token: u64,
}

/// Units to add or take out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnitsJson {
    /// How many.
    #[schema(minimum = 1, maximum = 100_000_000)]
    pub(crate) units: u32,
}

/// A sale to make. What is left out, the store decides.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSaleJson {
    /// 1–64 of `a-z A-Z 0-9 . _ -`.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    pub(crate) sale_id: String,
    /// Display name, up to 256 bytes.
    #[serde(default)]
    name: String,
    /// Units in the sale.
    #[schema(minimum = 1, maximum = 100_000_000)]
    units_total: u32,
    /// Most units a user may have; default 1.
    per_user_units_max: Option<u32>,
    /// How long a claim is held, in ms, 1,000 to 86,400,000; default 180,000.
    hold_ms: Option<u64>,
    /// How far beyond its deadline a checkout may carry a hold, in ms; default 60,000.
    checkout_max_ms: Option<u64>,
    /// When it opens by itself, RFC 3339 in UTC; without it, by command.
    #[schema(format = DateTime)]
    opens_at: Option<String>,
    /// When it closes by itself, RFC 3339 in UTC; without it, by command.
    #[schema(format = DateTime)]
    closes_at: Option<String>,
    /// Price of one unit in minor units; default 0.
    #[serde(default)]
    price_minor: u64,
    /// ISO 4217; default EUR.
    currency: Option<String>,
    /// Claim records it may make; default 4 × units, at least 10,000.
    claims_max: Option<u32>,
    /// Opens it at once; default false.
    #[serde(default)]
    open: bool,
}

impl TryFrom<NewSaleJson> for NewSale {
    type Error = Problem;

    fn try_from(sale: NewSaleJson) -> Result<Self, Problem> {
        Ok(NewSale {
            sale_id: sale.sale_id,
            name: sale.name,
            units_total: sale.units_total,
            per_user_units_max: chosen("per_user_units_max", sale.per_user_units_max)?,
            hold_ms: chosen("hold_ms", sale.hold_ms)?,
            checkout_max_ms: chosen("checkout_max_ms", sale.checkout_max_ms)?,
            opens_at_ms: instant("opens_at", sale.opens_at.as_deref())?,
            closes_at_ms: instant("closes_at", sale.closes_at.as_deref())?,
            price_minor: sale.price_minor,
            currency: sale.currency.unwrap_or_default(),
            claims_max: chosen("claims_max", sale.claims_max)?,
            open: sale.open,
        })
    }
}

/// Zero means "the store decides" on the wire behind; here leaving it out does, and a zero is a mistake.
fn chosen<N: Default + PartialEq>(field: &str, value: Option<N>) -> Result<N, Problem> {
    match value {
        Some(value) if value == N::default() => Err(Problem::invalid(format!(
            "{field} is 0; leave it out for the default"
        ))),
        value => Ok(value.unwrap_or_default()),
    }
}

fn instant(field: &str, text: Option<&str>) -> Result<u64, Problem> {
    match text {
        None => Ok(0),
        Some(text) => time::parse_rfc3339(text).filter(|ms| *ms > 0).ok_or_else(|| {
            Problem::invalid(format!(
                "{field} is not an RFC 3339 time in UTC, like 2026-11-27T09:00:00Z"
            ))
        }),
    }
}

/// An RFC 9457 problem. Members beyond the first four are present where they say something.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the schema of what error.rs writes")]
pub(crate) struct ProblemJson {
    /// `urn:holdfast:problem:…`; never changes its meaning.
    #[schema(rename = "type", example = "urn:holdfast:problem:sold-out")]
    kind: String,
    /// For people.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened here, for people.
    detail: Option<String>,
    /// Sold out: true when the leader said so at a linearizable point.
    authoritative: Option<bool>,
    /// Units available (fewer than asked for).
    units_available: Option<u64>,
    /// Sold out: units may come back until then, RFC 3339; absent when nothing is held any more.
    maybe_more_until: Option<String>,
    /// When the sale opens, RFC 3339.
    opens_at: Option<String>,
    /// Status of the sale.
    sale_status: Option<String>,
    /// Status of the claim.
    claim_status: Option<String>,
    /// The limit that was reached.
    limit: Option<u64>,
    /// The payment provider's word for why not.
    payment_code: Option<String>,
    /// The bank's.
    decline_code: Option<String>,
    /// Whether the same Idempotency-Key may be sent again without fear of a second effect.
    same_key_safe: Option<bool>,
    /// Log index that the answer reflects.
    log_index: Option<u64>,
    /// As in the Retry-After header.
    retry_after_seconds: Option<u64>,
}
