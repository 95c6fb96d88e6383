//! What a checkout leaves behind: the order and the ledger's transactions.
//!
//! Everything here is written once however often it is tried, and in an order in which the books never
//! show less money than there is: the ledger first, then the order that it belongs to. What the books
//! refuse (another amount, another payment) is for people to look at: it is said loudly, and the
//! checkout goes on, because no repetition would change it.

use client::Error;

use super::{journal::Journal, steps::amount};
use crate::{
    documents::{DocumentWrite, Documents},
    ledger::{self, Kind, LedgerError, Transaction},
    orders::{self, Order, OrderError, OrderRefund, OrderRefundStatus, Sold, order_id},
    payment::Money,
};

/// Rounds in which others may change an order before us.
const ROUNDS_MAX: usize = 8;

/// The writes that [`paid`] makes where nothing is there yet, in their order, and the order; `None`: the ledger does not
/// take them.
pub(crate) fn of_paid(journal: &Journal) -> Option<(Vec<DocumentWrite>, Order)> {
    let order = order_of(journal);
    let transaction = |kind| {
        let at_ms = journal.began_wall_ms;
        let made = Transaction::new(
            kind,
            &order.payment_id,
            None,
            &journal.claim_id,
            order.amount,
            at_ms,
        );
        made.map(|transaction| ledger::write_of(&transaction.of_order(&order.order_id)))
    };
    let writes = vec![
        transaction(Kind::Hold).ok()?,
        transaction(Kind::Capture).ok()?,
        orders::write_of(&order, 0),
    ];
    Some((writes, order))
}

/// The order and what was held and charged; gives the order, unless it is another's.
pub(crate) async fn paid(store: &dyn Documents, journal: &Journal) -> Result<Option<Order>, Error> {
    let order = order_of(journal);
    let order_id = order.order_id.clone();
    // Two documents that do not depend on one another.
    let (hold, capture) = futures::join!(
        book(store, Kind::Hold, None, journal, amount(journal), Some(&order_id)),
        book(
            store,
            Kind::Capture,
            None,
            journal,
            amount(journal),
            Some(&order_id)
        ),
    );
    hold.and(capture)?;
    match orders::create(store, order).await {
        Ok((order, _)) => Ok(Some(order)),
        Err(error) => taken(error).map(|()| None),
    }
}

fn order_of(journal: &Journal) -> Order {
    let payment_id = journal.payment_id.clone();
    Order::paid(Sold {
        claim_id: journal.claim_id.clone(),
        sale_id: journal.sale_id.clone(),
        user: journal.user.clone(),
        quantity: journal.quantity,
        rank: journal.rank,
        receipt: journal.receipt,
        amount: amount(journal),
        payment_id: payment_id.expect("what is paid has a payment"),
        paid_at_ms: journal.began_wall_ms,
    })
}

/// What was held and is not any more; and, where a capture came before the void, its way back.
pub(crate) async fn undone(store: &dyn Documents, journal: &Journal) -> Result<(), Error> {
    let held = journal.authorized || journal.captured;
    if !held || journal.payment_id.is_none() {
        return Ok(());
    }
    let all = amount(journal);
    book(store, Kind::Hold, None, journal, all, None).await?;
    if !journal.captured {
        return book(store, Kind::Void, None, journal, all, None).await;
    }
    book(store, Kind::Capture, None, journal, all, None).await?;
    refunded(store, journal, None).await
}

/// The order as it is after it was cancelled.
pub(crate) async fn cancelled(store: &dyn Documents, journal: &Journal) -> Result<(), Error> {
    let order_id = order_id(&journal.claim_id);
    refunded(store, journal, Some(&order_id)).await?;
    let refund = journal.refund.as_ref().map(|refund| OrderRefund {
        refund_id: refund.refund_id.clone(),
        amount_minor: refund.amount_minor,
        status: OrderRefundStatus::Pending,
        at_ms: journal.began_wall_ms,
    });
    change(store, &order_id, |order| {
        let noted = match refund.clone() {
            Some(refund) => order.note_refund(refund)?,
            None => false,
        };
        Ok(order.advance(orders::Stage::Cancelled, journal.began_wall_ms) || noted)
    })
    .await
}

/// Changes an order, whoever else does so at the same time. `change` says whether it did.
pub(crate) async fn change(
    store: &dyn Documents,
    order_id: &str,
    change: impl Fn(&mut Order) -> Result<bool, OrderError>,
) -> Result<(), Error> {
    for _ in 0..ROUNDS_MAX {
        let (mut order, version) = match orders::load(store, order_id).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                tracing::error!(order_id, "an order is gone");
                return Ok(());
            }
            Err(error) => return taken(error),
        };
        match change(&mut order) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return taken(error),
        }
        match orders::save(store, &order, version).await {
            Ok(_) => return Ok(()),
            Err(OrderError::Changed { .. }) => {}
            Err(error) => return taken(error),
        }
    }
    Err(Error::Unavailable {
        message: format!("order {order_id} is being changed by many at the same time"),
        retry_after_ms: 100,
    })
}

async fn refunded(store: &dyn Documents, journal: &Journal, order_id: Option<&str>) -> Result<(), Error> {
    // Without an id it was given back by people; their event brings it into the books.
    let Some(refund) = &journal.refund else {
        return Ok(());
    };
    let back = Money::new(refund.amount_minor, amount(journal).currency);
    let reference = Some(refund.refund_id.as_str());
    book(store, Kind::Refund, reference, journal, back, order_id).await
}

async fn book(
    store: &dyn Documents,
    kind: Kind,
    reference: Option<&str>,
    journal: &Journal,
    amount: Money,
    order_id: Option<&str>,
) -> Result<(), Error> {
    let payment_id = journal.payment_id.as_deref().unwrap_or_default();
    let entry = Entry {
        kind,
        payment_id,
        reference,
        claim_id: &journal.claim_id,
        order_id,
        amount,
        at_ms: journal.began_wall_ms,
    };
    enter(store, &entry).await
}

/// One transaction to enter.
pub(crate) struct Entry<'a> {
    pub(crate) kind: Kind,
    pub(crate) payment_id: &'a str,
    pub(crate) reference: Option<&'a str>,
    pub(crate) claim_id: &'a str,
    pub(crate) order_id: Option<&'a str>,
    pub(crate) amount: Money,
    pub(crate) at_ms: u64,
}

/// Enters it in the ledger, unless it is there.
pub(crate) async fn enter(store: &dyn Documents, entry: &Entry<'_>) -> Result<(), Error> {
    let transaction = Transaction::new(
        entry.kind,
        entry.payment_id,
        entry.reference,
        entry.claim_id,
        entry.amount,
        entry.at_ms,
    );
    let recorded = match transaction {
        Ok(transaction) => {
            let transaction = match entry.order_id {
                Some(order_id) => transaction.of_order(order_id),
                None => transaction,
            };
            ledger::record(store, &transaction).await
        }
        Err(error) => Err(error.into()),
    };
    match recorded {
        Ok(_) => Ok(()),
        Err(LedgerError::Store(error)) => Err(error),
        Err(error) => {
            tracing::error!(%error, claim_id = entry.claim_id, "the ledger does not take a transaction");
            metrics::counter!(super::metrics::BOOKS_REFUSED).increment(1);
            Ok(())
        }
    }
}

/// An order that does not take what was said of it: nothing that trying again would change.
fn taken(error: OrderError) -> Result<(), Error> {
    match error {
        OrderError::Store(error) => Err(error),
        OrderError::Changed { .. } => Err(Error::Unavailable {
            message: error.to_string(),
            retry_after_ms: 100,
        }),
        error => {
            tracing::error!(%error, "an order does not take what was said of it");
            metrics::counter!(super::metrics::BOOKS_REFUSED).increment(1);
            Ok(())
        }
    }
}
