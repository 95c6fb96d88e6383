//! The ledger: what happened to the money, in double entry, never changed once it is written.
//!
//! A [`Transaction`] moves one amount between accounts; its postings add up to zero, which is asserted
//! when it is made and checked when it is read. Each is a document of its own,
//! `ledger/{payment id}/{step}`: whoever learns of a step first writes it (checkout, webhook, sweeper),
//! and whoever comes later finds it. Writing it twice is nothing; writing it with another amount is a
//! [`LedgerError::Contradiction`], which somebody has to look into.
//!
//! The order of keys is by payment and step, not by time: a payment's book is one short listing, and no
//! clock is part of a name that must be the same from wherever it is written. Times are in the
//! transactions.
//!
//! | step | provider hold | shopper hold | provider clearing | revenue | refunds | chargebacks |
//! |---|---|---|---|---|---|---|
//! | `hold` | + | − | | | | |
//! | `void` | − | + | | | | |
//! | `capture` | − | + | + | − | | |
//! | `refund.{id}` | | | − | | + | |
//! | `refund_reversed.{id}` | | | + | | − | |
//! | `chargeback.{id}` | | | − | | | + |
//! | `chargeback_reversed.{id}` | | | + | | | − |
//!
//! The two hold accounts are a memorandum: money that is promised, not moved. They are zero again once a
//! payment is captured or voided. A capture takes the whole of what was held.
//!
//! Left out: fees and payouts, which only the provider's settlement file tells (`holdfast reconcile`), and
//! exchange: a transaction has one currency.

mod book;
mod transaction;

pub(crate) use book::write_of;
pub use book::{Balances, LEDGER_PREFIX, LedgerError, Page, of_payment, page, record};
pub use transaction::{Account, Kind, Posting, Transaction, TransactionError};
