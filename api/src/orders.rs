//! Orders: what a shopper has bought, for as long as anybody may ask.
//!
//! One document per order, `orders/{order_id}`. An order's id follows from its claim's, so a claim has one
//! order however often its checkout was taken over, and the id is as hard to guess. The document is the
//! only place where a user's own id is kept.
//!
//! What is written is what happened: paid once, cancelled or not, refunds and disputes as the provider
//! told them, in whatever order and however often he did. The status that is shown follows from these.
//!
//! Left out: who may do what with an order, which is the routes'; the money's own books, which are the
//! ledger's.

use client::{Error, Receipt};
use serde::{Deserialize, Serialize};

use crate::{
    documents::{DocumentWrite, Documents, fresh_key, is_version_mismatch},
    payment::Money,
};

/// What the keys of orders begin with.
const ORDERS_PREFIX: &str = "orders/";

/// What an order's id begins with, so that it is recognised in mails and logs.
const ORDER_ID_PREFIX: &str = "o_";

/// What a claim's id begins with.
const CLAIM_ID_PREFIX: &str = "c_";

/// Most refunds of an order. With the disputes they fit its document.
const REFUNDS_MAX: usize = 64;

/// Most disputes of an order.
const DISPUTES_MAX: usize = 16;

/// Format of the documents. Raised when a reader of the old one would misunderstand the new one.
const FORMAT: u32 = 1;

/// The id of the order that a claim becomes.
pub(crate) fn order_id(claim_id: &str) -> String {
    let tail = claim_id.strip_prefix(CLAIM_ID_PREFIX).unwrap_or(claim_id);
    format!("{ORDER_ID_PREFIX}{tail}")
}

/// The document of an order.
pub(crate) fn key_of(order_id: &str) -> String {
    format!("{ORDERS_PREFIX}{order_id}")
}

/// When a claim was granted, as it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Granted {
    pub(crate) log_index: u64,
    pub(crate) position: u32,
    pub(crate) term: u64,
    pub(crate) log_time_ms: u64,
}

impl From<&Receipt> for Granted {
    fn from(receipt: &Receipt) -> Self {
        Granted {
            log_index: receipt.log_index,
            position: receipt.position,
            term: receipt.term,
            log_time_ms: receipt.log_time_ms,
        }
    }
}

/// How far an order has come by our own doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// Paid and sold.
    Paid,
    /// Its refund is under way; its units are not back yet.
    Cancelling,
    /// Refunded, and its units are back.
    Cancelled,
}

/// Money given back, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrderRefund {
    /// The provider's id.
    pub(crate) refund_id: String,
    pub(crate) amount_minor: u64,
    pub(crate) status: OrderRefundStatus,
    /// When it was first heard of, Unix ms.
    pub(crate) at_ms: u64,
}

/// Where a refund is. Goes one way: news that come late change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OrderRefundStatus {
    Pending,
    Succeeded,
    /// The money did not arrive and is ours again; this may follow a success.
    Failed,
}

/// A shopper's bank takes the money back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrderDispute {
    /// The provider's id.
    pub(crate) dispute_id: String,
    pub(crate) amount_minor: u64,
    pub(crate) status: OrderDisputeStatus,
    /// When it was first heard of, Unix ms.
    pub(crate) at_ms: u64,
}

/// Where a dispute is. Goes one way: news that come late change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OrderDisputeStatus {
    Open,
    Won,
    Lost,
}

/// One order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) format: u32,
    pub(crate) order_id: String,
    pub(crate) claim_id: String,
    pub(crate) sale_id: String,
    /// As in his token.
    pub(crate) user: String,
    pub(crate) quantity: u32,
    pub(crate) rank: u32,
    /// When the claim was granted.
    pub(crate) receipt: Granted,
    /// All of it: price times quantity.
    pub(crate) amount: Money,
    /// The provider's id of the payment.
    pub(crate) payment_id: String,
    pub(crate) stage: Stage,
    #[serde(default)]
    pub(crate) refunds: Vec<OrderRefund>,
    #[serde(default)]
    pub(crate) disputes: Vec<OrderDispute>,
    /// Unix ms.
    pub(crate) paid_at_ms: u64,
    /// Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cancelled_at_ms: Option<u64>,
}

/// What an order is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sold {
    pub(crate) claim_id: String,
    pub(crate) sale_id: String,
    pub(crate) user: String,
    pub(crate) quantity: u32,
    pub(crate) rank: u32,
    pub(crate) receipt: Granted,
    pub(crate) amount: Money,
    pub(crate) payment_id: String,
    pub(crate) paid_at_ms: u64,
}

/// Why an order cannot be read, or does not take what was said of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    /// The store cannot answer, or cannot say whether it was written.
    #[error(transparent)]
    Store(#[from] Error),
    /// Somebody else changed it meanwhile: read it and decide again.
    #[error("order {order_id} was changed by somebody else meanwhile")]
    Changed { order_id: String },
    /// Another payment has made this claim's order.
    #[error("order {order_id} was paid with {recorded}, not with {presented}")]
    PaidOtherwise {
        order_id: String,
        recorded: String,
        presented: String,
    },
    /// More was refunded or disputed than was paid, or oftener than anybody would.
    #[error("order {order_id}: {why}")]
    Implausible { order_id: String, why: &'static str },
    /// A document that is no order.
    #[error("order {order_id} cannot be read: {why}")]
    Unreadable { order_id: String, why: String },
}

impl Order {
    /// A paid order.
    pub(crate) fn paid(sold: Sold) -> Self {
        Order {
            format: FORMAT,
            order_id: order_id(&sold.claim_id),
            claim_id: sold.claim_id,
            sale_id: sold.sale_id,
            user: sold.user,
            quantity: sold.quantity,
            rank: sold.rank,
            receipt: sold.receipt,
            amount: sold.amount,
            payment_id: sold.payment_id,
            stage: Stage::Paid,
            refunds: Vec::new(),
            disputes: Vec::new(),
            paid_at_ms: sold.paid_at_ms,
            cancelled_at_ms: None,
        }
    }

    /// Minor units that went back, or are on their way: failed refunds do not count.
    pub(crate) fn refunded_minor(&self) -> u64 {
        let under_way = self
            .refunds
            .iter()
            .filter(|refund| refund.status != OrderRefundStatus::Failed);
        under_way.map(|refund| refund.amount_minor).sum()
    }

    /// In one word, as it is shown.
    pub(crate) fn status(&self) -> &'static str {
        let disputed = self
            .disputes
            .iter()
            .any(|dispute| dispute.status != OrderDisputeStatus::Won);
        match self.stage {
            Stage::Cancelled => "cancelled",
            Stage::Cancelling => "cancelling",
            Stage::Paid if disputed => "disputed",
            Stage::Paid if self.refunded_minor() == self.amount.minor => "refunded",
            Stage::Paid if self.refunded_minor() > 0 => "partially_refunded",
            Stage::Paid => "paid",
        }
    }

    /// Goes on to a later stage; one that it has left behind changes nothing. Gives whether it changed.
    pub(crate) fn advance(&mut self, stage: Stage, at_ms: u64) -> bool {
        if stage <= self.stage {
            return false;
        }
        self.stage = stage;
        if stage == Stage::Cancelled {
            self.cancelled_at_ms = Some(at_ms);
        }
        true
    }

    /// Takes down what is known of a refund. Gives whether that was news.
    ///
    /// # Errors
    /// [`OrderError::Implausible`]: nothing is changed.
    pub(crate) fn note_refund(&mut self, news: OrderRefund) -> Result<bool, OrderError> {
        let known = self
            .refunds
            .iter_mut()
            .find(|refund| refund.refund_id == news.refund_id);
        if let Some(known) = known {
            if known.amount_minor != news.amount_minor {
                return Err(self.implausible("a refund has changed its amount"));
            }
            let is_news = news.status > known.status;
            if is_news {
                known.status = news.status;
            }
            return Ok(is_news);
        }
        if self.refunds.len() >= REFUNDS_MAX {
            return Err(self.implausible("it has as many refunds as an order may have"));
        }
        let left_minor = self.amount.minor - self.refunded_minor();
        if news.status != OrderRefundStatus::Failed && news.amount_minor > left_minor {
            return Err(self.implausible("more was refunded than was paid"));
        }
        self.refunds.push(news);
        Ok(true)
    }

    /// Takes down what is known of a dispute. Gives whether that was news.
    ///
    /// # Errors
    /// [`OrderError::Implausible`]: nothing is changed.
    pub(crate) fn note_dispute(&mut self, news: OrderDispute) -> Result<bool, OrderError> {
        let known = self
            .disputes
            .iter_mut()
            .find(|dispute| dispute.dispute_id == news.dispute_id);
        if let Some(known) = known {
            // An outcome may be revised on appeal; only "open" is never news again.
            let is_news = known.status != news.status && news.status != OrderDisputeStatus::Open;
            if is_news {
                known.status = news.status;
            }
            return Ok(is_news);
        }
        if self.disputes.len() >= DISPUTES_MAX {
            return Err(self.implausible("it has as many disputes as an order may have"));
        }
        if news.amount_minor > self.amount.minor {
            return Err(self.implausible("more is disputed than was paid"));
        }
        self.disputes.push(news);
        Ok(true)
    }

    fn implausible(&self, why: &'static str) -> OrderError {
        OrderError::Implausible {
            order_id: self.order_id.clone(),
            why,
        }
    }
}

/// An order and its version.
///
/// # Errors
/// The store cannot answer, or the document is no order of this release.
pub(crate) async fn load(store: &dyn Documents, order_id: &str) -> Result<Option<(Order, u64)>, OrderError> {
    let Some(found) = store.document(&key_of(order_id)).await? else {
        return Ok(None);
    };
    let unreadable = |why: String| OrderError::Unreadable {
        order_id: order_id.to_owned(),
        why,
    };
    let order: Order = serde_json::from_slice(&found.body).map_err(|error| unreadable(error.to_string()))?;
    if order.format != FORMAT || order.order_id != order_id {
        return Err(unreadable("it is of another format or another order".to_owned()));
    }
    Ok(Some((order, found.version)))
}

/// Writes a new order, unless it is there: then gives the one that is, with its version.
///
/// # Errors
/// [`OrderError::PaidOtherwise`]: what is there was paid with another payment.
pub(crate) async fn create(store: &dyn Documents, order: Order) -> Result<(Order, u64), OrderError> {
    match save(store, &order, 0).await {
        Ok(version) => Ok((order, version)),
        Err(OrderError::Changed { order_id }) => {
            // Nobody deletes orders: what was there a moment ago still is.
            let found = load(store, &order_id).await?;
            let (known, version) = found.ok_or(OrderError::Changed { order_id })?;
            if (&known.payment_id, known.amount) != (&order.payment_id, order.amount) {
                return Err(OrderError::PaidOtherwise {
                    order_id: known.order_id,
                    recorded: format!("{} ({})", known.payment_id, known.amount),
                    presented: format!("{} ({})", order.payment_id, order.amount),
                });
            }
            Ok((known, version))
        }
        Err(error) => Err(error),
    }
}

/// The write of an order over a version of it.
pub(crate) fn write_of(order: &Order, version_expected: u64) -> DocumentWrite {
    let body = serde_json::to_vec(order).expect("an order is a plain map of texts and numbers");
    DocumentWrite {
        document: key_of(&order.order_id),
        body: body.into(),
        version_expected,
        ..DocumentWrite::default()
    }
}

/// Writes an order over a version of it; gives its new one.
///
/// # Errors
/// [`OrderError::Changed`]: it has another version now.
pub(crate) async fn save(
    store: &dyn Documents,
    order: &Order,
    version_expected: u64,
) -> Result<u64, OrderError> {
    match store
        .write_document(write_of(order, version_expected), fresh_key())
        .await
    {
        Ok(changed) => Ok(changed.version),
        Err(error) if is_version_mismatch(&error) => Err(OrderError::Changed {
            order_id: order.order_id.clone(),
        }),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[path = "orders_tests.rs"]
mod tests;
