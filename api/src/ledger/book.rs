//! Transactions in the store: written once, read page by page, added up.

use std::collections::BTreeMap;

use client::Error;

use super::transaction::{Account, Transaction, TransactionError};
use crate::{
    documents::{DocumentWrite, Documents, fresh_key, is_version_mismatch},
    payment::Currency,
};

/// What the keys of transactions begin with.
pub const LEDGER_PREFIX: &str = "ledger/";

/// Transactions asked for in one page.
const PAGE_MAX: u32 = 1_000;

/// Why the ledger cannot say, or does not take, what it should.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store cannot answer, or cannot say whether it was written: the same transaction may be
    /// recorded again.
    #[error(transparent)]
    Store(#[from] Error),
    /// The step is on record with another amount.
    #[error(
        "{document} is on record with {recorded} and was to be recorded with {presented}: nothing was changed; compare \
         both with the provider's books"
    )]
    Contradiction {
        /// Which.
        document: String,
        /// As it stands.
        recorded: String,
        /// As it was said to be.
        presented: String,
    },
    /// A document that is no transaction.
    #[error("{document} is no transaction: {why}")]
    Unreadable {
        /// Which.
        document: String,
        /// What is wrong.
        why: String,
    },
    /// What was said to have happened cannot be written.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
}

/// A transaction's document.
pub(super) fn key_of(transaction: &Transaction) -> String {
    format!(
        "{LEDGER_PREFIX}{}/{}",
        transaction.payment_id(),
        transaction.step()
    )
}

/// The write of a transaction that is not there yet.
pub(crate) fn write_of(transaction: &Transaction) -> DocumentWrite {
    transaction.assert_balanced();
    let body = serde_json::to_vec(transaction).expect("a transaction is a plain map of texts and numbers");
    DocumentWrite {
        document: key_of(transaction),
        body: body.into(),
        ..DocumentWrite::default()
    }
}

/// Writes a transaction down, unless it is already; gives whether it was new.
///
/// # Errors
/// [`LedgerError::Contradiction`]: the step is on record with another amount. [`LedgerError::Store`]:
/// recording it again tells.
pub async fn record(store: &dyn Documents, transaction: &Transaction) -> Result<bool, LedgerError> {
    let write = write_of(transaction);
    let document = write.document.clone();
    match store.write_document(write, fresh_key()).await {
        Ok(_) => Ok(true),
        Err(error) if is_version_mismatch(&error) => {
            // Nobody deletes transactions: what was there a moment ago still is.
            let found = store.document(&document).await?;
            let found = found.ok_or_else(|| unreadable(&document, "it is gone".to_owned()))?;
            let recorded = Transaction::read(&found.body).map_err(|why| unreadable(&document, why))?;
            if recorded.agrees_with(transaction) {
                return Ok(false);
            }
            Err(LedgerError::Contradiction {
                document,
                recorded: recorded.amount().to_string(),
                presented: transaction.amount().to_string(),
            })
        }
        Err(error) => Err(error.into()),
    }
}

fn unreadable(document: &str, why: String) -> LedgerError {
    LedgerError::Unreadable {
        document: document.to_owned(),
        why,
    }
}

/// Some transactions, in order of payment and step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// They.
    pub transactions: Vec<Transaction>,
    /// Where the next page begins; `None`: this is the last.
    pub after: Option<String>,
}

/// A page of the whole ledger after a key that another page gave; empty: the first.
///
/// # Errors
/// The store cannot answer, or something there is no transaction.
pub async fn page(store: &dyn Documents, after: &str) -> Result<Page, LedgerError> {
    page_of(store, LEDGER_PREFIX, after).await
}

/// All transactions of one payment.
///
/// # Errors
/// As [`page`].
pub async fn of_payment(store: &dyn Documents, payment_id: &str) -> Result<Vec<Transaction>, LedgerError> {
    let prefix = format!("{LEDGER_PREFIX}{payment_id}/");
    let (mut transactions, mut after) = (Vec::new(), String::new());
    loop {
        let page = page_of(store, &prefix, &after).await?;
        transactions.extend(page.transactions);
        match page.after {
            Some(next) => after = next,
            None => return Ok(transactions),
        }
    }
}

async fn page_of(store: &dyn Documents, prefix: &str, after: &str) -> Result<Page, LedgerError> {
    let list = store.documents(prefix, after, PAGE_MAX).await?;
    let mut transactions = Vec::with_capacity(list.documents.len());
    let mut last = None;
    for found in list.documents {
        let document = String::from_utf8_lossy(&found.key).into_owned();
        let transaction = Transaction::read(&found.body).map_err(|why| unreadable(&document, why))?;
        if key_of(&transaction) != document {
            return Err(unreadable(&document, "it belongs under another key".to_owned()));
        }
        transactions.push(transaction);
        last = Some(document);
    }
    Ok(Page {
        transactions,
        after: last.filter(|_| list.more),
    })
}

/// Sums by currency and account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balances(BTreeMap<(String, Account), i128>);

impl Balances {
    /// Adds a transaction.
    ///
    /// # Panics
    /// When it does not add up to zero: such a one cannot be made, and is refused when read.
    pub fn add(&mut self, transaction: &Transaction) {
        transaction.assert_balanced();
        let currency = transaction.currency().code().to_owned();
        for posting in transaction.postings() {
            *self.0.entry((currency.clone(), posting.account)).or_default() += i128::from(posting.minor);
        }
    }

    /// What is on an account, in minor units.
    pub fn of(&self, currency: Currency, account: Account) -> i128 {
        let key = (currency.code().to_owned(), account);
        self.0.get(&key).copied().unwrap_or(0)
    }

    /// Every account that anything was posted to, by currency.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Account, i128)> {
        self.0
            .iter()
            .map(|((currency, account), minor)| (currency.as_str(), *account, *minor))
    }

    /// The sum of all accounts of each currency: zero, unless there is a bug.
    pub fn sums(&self) -> BTreeMap<&str, i128> {
        let mut sums = BTreeMap::new();
        for (currency, _, minor) in self.iter() {
            *sums.entry(currency).or_default() += minor;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger::transaction::Kind, machine_store::MachineStore, payment::Money};

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    fn of(kind: Kind, payment_id: &str, reference: Option<&str>, amount: &str, at_ms: u64) -> Transaction {
        Transaction::new(kind, payment_id, reference, "c_1", money(amount), at_ms).unwrap()
    }

    async fn all(store: &MachineStore) -> Vec<Transaction> {
        page(store, "").await.unwrap().transactions
    }

    #[tokio::test]
    async fn a_step_is_on_record_once_whoever_writes_it_and_when() {
        let store = MachineStore::new();
        let first = of(Kind::Capture, "pi_1", None, "49.00 EUR", 5);
        assert!(record(&store, &first).await.unwrap());
        let webhook = of(Kind::Capture, "pi_1", None, "49.00 EUR", 99).of_order("o_1");
        assert!(!record(&store, &webhook).await.unwrap());
        assert_eq!(all(&store).await, [first]);
        for (amount, recorded) in [("48.99 EUR", "49.00 EUR"), ("49.00 USD", "49.00 EUR")] {
            let other = record(&store, &of(Kind::Capture, "pi_1", None, amount, 5)).await;
            let Err(LedgerError::Contradiction {
                recorded: is,
                presented,
                ..
            }) = other
            else {
                panic!("{other:?}")
            };
            assert_eq!((is.as_str(), presented.as_str()), (recorded, amount));
        }
    }

    #[tokio::test]
    async fn a_lost_answer_is_found_out_by_recording_again() {
        let store = MachineStore::new();
        let transaction = of(Kind::Refund, "pi_1", Some("re_1"), "5.00 EUR", 5);
        store.lose_answers(1);
        assert!(matches!(
            record(&store, &transaction).await,
            Err(LedgerError::Store(Error::Unknown { .. }))
        ));
        assert!(!record(&store, &transaction).await.unwrap());
        assert_eq!(all(&store).await.len(), 1);
    }

    #[tokio::test]
    async fn the_books_of_a_sale_with_all_that_can_happen() {
        let store = MachineStore::new();
        for transaction in [
            of(Kind::Hold, "pi_1", None, "49.00 EUR", 1),
            of(Kind::Capture, "pi_1", None, "49.00 EUR", 2),
            of(Kind::Refund, "pi_1", Some("re_1"), "9.00 EUR", 3),
            of(Kind::Refund, "pi_1", Some("re_2"), "40.00 EUR", 4),
            of(Kind::RefundReversed, "pi_1", Some("re_2"), "40.00 EUR", 5),
            of(Kind::Hold, "pi_2", None, "49.00 EUR", 1),
            of(Kind::Void, "pi_2", None, "49.00 EUR", 2),
            of(Kind::Hold, "pi_3", None, "700 JPY", 1),
            of(Kind::Capture, "pi_3", None, "700 JPY", 2),
            of(Kind::Chargeback, "pi_3", Some("dp_1"), "700 JPY", 3),
            of(Kind::ChargebackReversed, "pi_3", Some("dp_1"), "700 JPY", 4),
            of(Kind::Hold, "pi_4", None, "49.00 EUR", 1),
        ] {
            assert!(record(&store, &transaction).await.unwrap());
        }
        let mut balances = Balances::default();
        all(&store)
            .await
            .iter()
            .for_each(|transaction| balances.add(transaction));
        let held: Vec<_> = balances.iter().collect();
        assert_eq!(
            held,
            [
                ("EUR", Account::ProviderHold, 4_900),
                ("EUR", Account::ShopperHold, -4_900),
                ("EUR", Account::ProviderClearing, 4_000),
                ("EUR", Account::Revenue, -4_900),
                ("EUR", Account::Refunds, 900),
                ("JPY", Account::ProviderHold, 0),
                ("JPY", Account::ShopperHold, 0),
                ("JPY", Account::ProviderClearing, 700),
                ("JPY", Account::Revenue, -700),
                ("JPY", Account::Chargebacks, 0),
            ]
        );
        assert_eq!(balances.sums(), BTreeMap::from([("EUR", 0), ("JPY", 0)]));
        // Of one payment alone, and not of the one whose id begins alike.
        record(&store, &of(Kind::Hold, "pi_12", None, "1.00 EUR", 1))
            .await
            .unwrap();
        let own = of_payment(&store, "pi_1").await.unwrap();
        assert_eq!(own.len(), 5);
        assert!(own.iter().all(|transaction| transaction.payment_id() == "pi_1"));
    }

    #[tokio::test]
    async fn the_ledger_is_read_in_pages() {
        let store = MachineStore::new();
        let count = PAGE_MAX as usize + 3;
        for number in 0..count {
            let id = format!("pi_{number:05}");
            record(&store, &of(Kind::Hold, &id, None, "1.00 EUR", 1))
                .await
                .unwrap();
        }
        let first = page(&store, "").await.unwrap();
        assert_eq!(first.transactions.len(), PAGE_MAX as usize);
        let rest = page(&store, &first.after.unwrap()).await.unwrap();
        assert_eq!((rest.transactions.len(), rest.after), (3, None));
        assert_eq!(rest.transactions[0].payment_id(), "pi_01000");
    }

    #[tokio::test]
    async fn what_is_no_transaction_is_named() {
        for (document, body) in [
            ("ledger/pi_1/hold", "{}".to_owned()),
            (
                "ledger/pi_1/capture",
                serde_json::to_string(&of(Kind::Hold, "pi_1", None, "1.00 EUR", 1)).unwrap(),
            ),
        ] {
            let store = MachineStore::new();
            let write = DocumentWrite {
                document: document.to_owned(),
                body: body.into(),
                ..DocumentWrite::default()
            };
            store.write_document(write, "k".into()).await.unwrap();
            let refused = page(&store, "").await;
            assert!(
                matches!(&refused, Err(LedgerError::Unreadable { document: named, .. }) if named == document),
                "{refused:?}"
            );
        }
    }
}
