//! Where the money is after the sale: the provider's books, the orders, the ledger.

use std::time::Duration;

use api::{
    ledger::{self, Balances},
    payment::simulator::Ledger,
};
use client::{Client, Consistency};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::verdict::{Charge, Money, Order};
use crate::exit::Failure;

/// Longest until every checkout is decided: a call that hangs, a dead owner's lease, a hold's end, and a margin.
const SETTLED_MAX: Duration = Duration::from_secs(60);
const SETTLED_PAUSE: Duration = Duration::from_millis(200);

/// Documents asked for in one call.
const PAGE: u32 = 1_000;

/// What the keys of undecided checkouts and of orders begin with.
pub const OPEN_CHECKOUTS: &str = "checkout/open/";
const ORDERS: &str = "orders/";

/// An order's document, as far as it matters here.
#[derive(Deserialize)]
struct OrderDocument {
    order_id: String,
    claim_id: String,
    payment_id: String,
    quantity: u32,
    stage: String,
}

/// Reads all three; nothing is under way any more.
pub async fn gather(client: &Client, provider: &str, price_minor: u64) -> Result<Money, Failure> {
    let unread = |error: reqwest::Error| Failure::Failed(format!("the provider's books: {error}"));
    let http = reqwest::Client::builder().no_proxy().build().map_err(unread)?;
    let books = http.get(format!("http://{provider}/_/ledger")).send().await;
    let books: Ledger = books.map_err(unread)?.json().await.map_err(unread)?;
    let charges = books
        .payments
        .into_iter()
        .map(|payment| Charge {
            payment_id: payment.payment_intent,
            claim_id: payment.reference.unwrap_or_default(),
            authorized_minor: payment.authorized_minor,
            captured_minor: payment.captured_minor,
            refunded_minor: payment.refunded_minor,
        })
        .collect();

    let failed = |error: client::Error| Failure::Failed(format!("the orders: {error}"));
    let (mut orders, mut after) = (Vec::new(), Vec::new());
    loop {
        let list = client
            .list_documents(ORDERS, after, PAGE, Consistency::Linearizable)
            .await
            .map_err(failed)?;
        for found in &list.documents {
            let order: OrderDocument = serde_json::from_slice(&found.body)
                .map_err(|error| Failure::Failed(format!("an order cannot be read: {error}")))?;
            orders.push(Order {
                order_id: order.order_id,
                claim_id: order.claim_id,
                payment_id: order.payment_id,
                quantity: order.quantity,
                paid: order.stage == "paid",
            });
        }
        match list.documents.last() {
            Some(last) if list.more => after = last.key.to_vec(),
            _ => break,
        }
    }

    let (mut balances, mut after) = (Balances::default(), String::new());
    loop {
        let page = ledger::page(client, &after)
            .await
            .map_err(|error| Failure::Failed(format!("the ledger: {error}")))?;
        page.transactions
            .iter()
            .for_each(|transaction| balances.add(transaction));
        match page.after {
            Some(next) => after = next,
            None => break,
        }
    }
    Ok(Money {
        price_minor,
        charges,
        orders,
        accounts: balances
            .iter()
            .map(|(_, account, minor)| (account.name(), minor))
            .collect(),
    })
}

/// Waits until no checkout is open.
pub async fn settled(client: &Client) -> Result<(), Failure> {
    let deadline = Instant::now() + SETTLED_MAX;
    loop {
        let open = client
            .list_documents(OPEN_CHECKOUTS, "", PAGE, Consistency::Linearizable)
            .await
            .map_err(|error| Failure::Failed(format!("the open checkouts: {error}")))?;
        if open.documents.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::Violated(format!(
                "{} checkouts were not decided within {} s",
                open.documents.len(),
                SETTLED_MAX.as_secs()
            )));
        }
        sleep(SETTLED_PAUSE).await;
    }
}
