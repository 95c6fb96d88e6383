//! Reads the books of checkouts once nothing is under way any more: the provider's, the store's orders, claims and ended
//! attempts, and the ledger.
//!
//! What shoppers were told, and how it came to rest, whoever ran them adds himself.

use api::{ledger, payment::simulator::Ledger};
use client::{Client, Consistency, Error, ListedDocument};
use serde::Deserialize;
use serde_json::Value;

use crate::properties::checkout::{Attempt, Books, Claim, Order, OrderStage, Payment};

/// Documents and claims asked for in one call.
const PAGE: u32 = 256;

/// What the keys of orders, of ended attempts, of checkouts in progress and of events that wait begin with.
const ORDERS: &str = "orders/";
const CLOSED: &str = "checkout/closed/";
const OPEN: &str = "checkout/open/";
const EVENTS: &str = "webhook/open/";

/// Ends that leave their key free for another try.
const NOT_FINAL: [&str; 4] = [
    "begun_elsewhere",
    "provider_unavailable",
    "superseded",
    "cancel_refused",
];

/// Why the books could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The store does not answer.
    #[error("the store: {0}")]
    Store(#[from] Error),
    /// The ledger cannot be read.
    #[error("the ledger: {0}")]
    Ledger(#[from] ledger::LedgerError),
    /// A document is not what it should be.
    #[error("{0}")]
    Document(String),
}

/// Reads them. `provider` is what the provider says of itself.
///
/// # Errors
/// The store does not answer, or something in it cannot be read.
pub async fn read(client: &Client, sales: &[String], provider: Ledger) -> Result<Books, Unread> {
    let mut books = Books {
        payments: provider.payments.into_iter().map(payment).collect(),
        ..Books::default()
    };
    for sale_id in sales {
        claims(client, sale_id, &mut books.claims).await?;
    }
    for found in documents(client, ORDERS).await? {
        books.orders.push(order(&found)?);
    }
    for found in documents(client, CLOSED).await? {
        let closed: Closed = parsed(&found)?;
        let attempts = closed.attempts.into_iter();
        books.attempts.extend(attempts.map(|ended| {
            let ending = name(&ended.ending);
            Attempt {
                claim_id: closed.claim_id.clone(),
                attempt: ended.attempt,
                key: ended.key,
                is_final: !NOT_FINAL.contains(&ending.as_str()),
                ending,
            }
        }));
    }
    let mut after = String::new();
    loop {
        let page = ledger::page(client, &after).await?;
        for transaction in &page.transactions {
            let currency = transaction.currency();
            for posting in transaction.postings() {
                let account = (currency.code().to_owned(), posting.account.name().to_owned());
                *books.balances.entry(account).or_default() += i128::from(posting.minor);
            }
        }
        match page.after {
            Some(next) => after = next,
            None => return Ok(books),
        }
    }
}

/// Keys of what is under way still: checkouts in progress, events that wait.
///
/// # Errors
/// The store does not answer.
pub async fn under_way(client: &Client) -> Result<(Vec<String>, Vec<String>), Error> {
    let keys = |found: Vec<ListedDocument>| -> Vec<String> {
        let keys = found
            .iter()
            .map(|found| String::from_utf8_lossy(&found.key).into_owned());
        keys.collect()
    };
    Ok((
        keys(documents(client, OPEN).await?),
        keys(documents(client, EVENTS).await?),
    ))
}

fn payment(row: api::payment::simulator::PaymentRow) -> Payment {
    Payment {
        payment_id: row.payment_intent,
        claim_id: row.reference.unwrap_or_default(),
        attempt: row.attempt.unwrap_or_default(),
        currency: row.currency.to_ascii_uppercase(),
        charges: row.charges,
        authorized_minor: row.authorized_minor,
        captured_minor: row.captured_minor,
        refunded_minor: row.refunded_minor,
        disputed_minor: row.disputed_minor,
    }
}

async fn claims(client: &Client, sale_id: &str, claims: &mut Vec<Claim>) -> Result<(), Error> {
    let (sale, _) = client.get_sale(sale_id, Consistency::Linearizable).await?;
    let mut rank_from = 1;
    loop {
        let (page, _) = client
            .list_claims(sale_id, rank_from, PAGE, Consistency::Linearizable)
            .await?;
        let Some(last) = page.last() else { return Ok(()) };
        rank_from = last.rank.saturating_add(1);
        claims.extend(page.iter().map(|claim| Claim {
            claim_id: claim.claim_id.clone(),
            status: claim.status,
            quantity: claim.quantity,
            amount_minor: sale.price_minor * u64::from(claim.quantity),
            confirmed_unpaid: false,
        }));
    }
}

async fn documents(client: &Client, prefix: &str) -> Result<Vec<ListedDocument>, Error> {
    let (mut documents, mut after) = (Vec::new(), Vec::new());
    loop {
        let list = client
            .list_documents(prefix.to_owned(), after, PAGE, Consistency::Linearizable)
            .await?;
        let last = list.documents.last().map(|last| last.key.to_vec());
        documents.extend(list.documents);
        match last {
            Some(last) if list.more => after = last,
            _ => return Ok(documents),
        }
    }
}

fn parsed<T: serde::de::DeserializeOwned>(found: &ListedDocument) -> Result<T, Unread> {
    serde_json::from_slice(&found.body)
        .map_err(|error| Unread::Document(format!("{}: {error}", String::from_utf8_lossy(&found.key))))
}

/// An order's document, as far as it matters here.
#[derive(Deserialize)]
struct OrderDocument {
    order_id: String,
    claim_id: String,
    payment_id: String,
    quantity: u32,
    amount: Amount,
    stage: String,
}

#[derive(Deserialize)]
struct Amount {
    minor: u64,
    currency: String,
}

fn order(found: &ListedDocument) -> Result<Order, Unread> {
    let order: OrderDocument = parsed(found)?;
    let stage = match order.stage.as_str() {
        "paid" => OrderStage::Paid,
        "cancelling" => OrderStage::Cancelling,
        "cancelled" => OrderStage::Cancelled,
        other => return Err(Unread::Document(format!("{} is {other}", order.order_id))),
    };
    Ok(Order {
        order_id: order.order_id,
        claim_id: order.claim_id,
        payment_id: order.payment_id,
        quantity: order.quantity,
        amount_minor: order.amount.minor,
        currency: order.amount.currency.to_ascii_uppercase(),
        stage,
    })
}

/// The record of ended attempts, as far as it matters here.
#[derive(Deserialize)]
struct Closed {
    claim_id: String,
    attempts: Vec<Ended>,
}

#[derive(Deserialize)]
struct Ended {
    attempt: u32,
    key: String,
    ending: Value,
}

/// The word for an end: its tag, whatever it carries.
fn name(ending: &Value) -> String {
    let tag = ending.as_object().and_then(|fields| fields.keys().next());
    tag.map(String::as_str)
        .or(ending.as_str())
        .unwrap_or("unknown")
        .to_owned()
}
