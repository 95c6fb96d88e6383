//! One transaction: its kind says which accounts it moves, its amount how much.

use serde::{Deserialize, Serialize};

use crate::payment::{Currency, Money};

/// Longest payment id, in bytes: Stripe's have some 30. With the longest step it fits a document's key.
const PAYMENT_ID_BYTES_MAX: usize = 56;

/// Longest id of a refund or dispute, in bytes.
const REFERENCE_BYTES_MAX: usize = 40;

/// Format of the documents. Raised when a reader of the old one would misunderstand the new one.
const FORMAT: u32 = 1;

/// Where money is. Debits are positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// What the provider holds for us on shoppers' cards.
    ProviderHold,
    /// The other side of it: what shoppers have promised.
    ShopperHold,
    /// What the provider owes us.
    ProviderClearing,
    /// What was sold.
    Revenue,
    /// What was given back.
    Refunds,
    /// What was taken back.
    Chargebacks,
}

impl Account {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Account; 6] = [
        Account::ProviderHold,
        Account::ShopperHold,
        Account::ProviderClearing,
        Account::Revenue,
        Account::Refunds,
        Account::Chargebacks,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Account::ProviderHold => "provider_hold",
            Account::ShopperHold => "shopper_hold",
            Account::ProviderClearing => "provider_clearing",
            Account::Revenue => "revenue",
            Account::Refunds => "refunds",
            Account::Chargebacks => "chargebacks",
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The bank holds the amount for us.
    Hold,
    /// It does no more.
    Void,
    /// What was held was charged.
    Capture,
    /// Money went back to the shopper.
    Refund,
    /// A refund failed: the money is ours again.
    RefundReversed,
    /// The shopper's bank took money back.
    Chargeback,
    /// We won the dispute: the money is ours again.
    ChargebackReversed,
}

impl Kind {
    /// Its name, in keys as well.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hold => "hold",
            Kind::Void => "void",
            Kind::Capture => "capture",
            Kind::Refund => "refund",
            Kind::RefundReversed => "refund_reversed",
            Kind::Chargeback => "chargeback",
            Kind::ChargebackReversed => "chargeback_reversed",
        }
    }

    /// Whether a payment can have several, told apart by the provider's id of each.
    pub fn has_reference(self) -> bool {
        !matches!(self, Kind::Hold | Kind::Void | Kind::Capture)
    }

    /// Accounts debited (+1) and credited (−1).
    fn sides(self) -> &'static [(Account, i64)] {
        use Account as A;
        match self {
            Kind::Hold => &[(A::ProviderHold, 1), (A::ShopperHold, -1)],
            Kind::Void => &[(A::ProviderHold, -1), (A::ShopperHold, 1)],
            Kind::Capture => &[
                (A::ProviderHold, -1),
                (A::ShopperHold, 1),
                (A::ProviderClearing, 1),
                (A::Revenue, -1),
            ],
            Kind::Refund => &[(A::Refunds, 1), (A::ProviderClearing, -1)],
            Kind::RefundReversed => &[(A::Refunds, -1), (A::ProviderClearing, 1)],
            Kind::Chargeback => &[(A::Chargebacks, 1), (A::ProviderClearing, -1)],
            Kind::ChargebackReversed => &[(A::Chargebacks, -1), (A::ProviderClearing, 1)],
        }
    }
}

/// An amount on one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// Where.
    pub account: Account,
    /// Debit positive, credit negative; minor units.
    pub minor: i64,
}

/// One movement of money. Its postings add up to zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    format: u32,
    kind: Kind,
    payment_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    claim_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order_id: Option<String>,
    at_ms: u64,
    amount: Money,
    postings: Vec<Posting>,
}

/// Why there is no such transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// An id that cannot be part of a document's key.
    #[error(
        "{what} id {id:?} cannot be kept: 1 to {bytes_max} bytes of a-z A-Z 0-9 _ - are possible; look at what the \
         provider sent"
    )]
    Id {
        /// Of what.
        what: &'static str,
        /// As it came.
        id: String,
        /// Longest possible.
        bytes_max: usize,
    },
    /// Nothing was moved, or more than can be counted.
    #[error("a {kind} of {minor} minor units is no transaction")]
    Amount {
        /// Of what.
        kind: &'static str,
        /// How much.
        minor: u64,
    },
    /// A written one does not say what its kind means.
    #[error("the transaction contradicts itself: {0}")]
    Inconsistent(&'static str),
}

impl Transaction {
    /// A transaction about a payment. `reference` is the provider's id of the refund or dispute, for those
    /// kinds that have one; `at_ms` is when it happened, in Unix ms.
    ///
    /// # Errors
    /// An id that cannot be kept; an amount of nothing, or of more than 2^63.
    ///
    /// # Panics
    /// When the kind has a reference and none is given, or the other way round.
    pub fn new(
        kind: Kind,
        payment_id: &str,
        reference: Option<&str>,
        claim_id: &str,
        amount: Money,
        at_ms: u64,
    ) -> Result<Self, TransactionError> {
        assert_eq!(
            kind.has_reference(),
            reference.is_some(),
            "a {} and its reference {reference:?}",
            kind.name()
        );
        check_id("payment", payment_id, PAYMENT_ID_BYTES_MAX)?;
        if let Some(reference) = reference {
            check_id("refund or dispute", reference, REFERENCE_BYTES_MAX)?;
        }
        let postings = postings(kind, amount.minor).ok_or(TransactionError::Amount {
            kind: kind.name(),
            minor: amount.minor,
        })?;
        let transaction = Transaction {
            format: FORMAT,
            kind,
            payment_id: payment_id.to_owned(),
            reference: reference.map(str::to_owned),
            claim_id: claim_id.to_owned(),
            order_id: None,
            at_ms,
            amount,
            postings,
        };
        transaction.assert_balanced();
        Ok(transaction)
    }

    /// The same, as part of an order.
    pub fn of_order(mut self, order_id: &str) -> Self {
        self.order_id = Some(order_id.to_owned());
        self
    }

    /// What happened.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The provider's id of the payment.
    pub fn payment_id(&self) -> &str {
        &self.payment_id
    }

    /// The provider's id of the refund or dispute.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    /// The claim that was paid for.
    pub fn claim_id(&self) -> &str {
        &self.claim_id
    }

    /// The order it belongs to, if there is one.
    pub fn order_id(&self) -> Option<&str> {
        self.order_id.as_deref()
    }

    /// When it happened, in Unix ms.
    pub fn at_ms(&self) -> u64 {
        self.at_ms
    }

    /// How much.
    pub fn amount(&self) -> Money {
        self.amount
    }

    /// Its currency.
    pub fn currency(&self) -> Currency {
        self.amount.currency
    }

    /// What it moved.
    pub fn postings(&self) -> &[Posting] {
        &self.postings
    }

    /// What this changes of what the provider owes us, in minor units: what its settlement file shows.
    pub fn settled_minor(&self) -> i128 {
        let clearing = self
            .postings
            .iter()
            .filter(|posting| posting.account == Account::ProviderClearing);
        clearing.map(|posting| i128::from(posting.minor)).sum()
    }

    /// Whether both say the same, whenever it was written down.
    pub fn agrees_with(&self, other: &Transaction) -> bool {
        let said = |transaction: &Transaction| {
            (
                transaction.kind,
                transaction.payment_id.clone(),
                transaction.reference.clone(),
                transaction.amount,
            )
        };
        said(self) == said(other)
    }

    /// The last part of its key: what it is called within its payment.
    pub fn step(&self) -> String {
        match &self.reference {
            Some(reference) => format!("{}.{reference}", self.kind.name()),
            None => self.kind.name().to_owned(),
        }
    }

    /// Reads what was written.
    ///
    /// # Errors
    /// In words: not a transaction, or one that does not add up.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let transaction: Transaction = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        transaction.check().map_err(|error| error.to_string())?;
        Ok(transaction)
    }

    fn check(&self) -> Result<(), TransactionError> {
        let rules = [
            (
                self.format == FORMAT,
                "its format is unknown; was it written by a newer release?",
            ),
            (
                self.kind.has_reference() == self.reference.is_some(),
                "its kind and its reference do not fit",
            ),
            (
                postings(self.kind, self.amount.minor).as_ref() == Some(&self.postings),
                "its postings are not those of its kind and amount",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, why)) => Err(TransactionError::Inconsistent(why)),
            None => Ok(()),
        }
    }

    /// # Panics
    /// When it does not add up to zero.
    pub(super) fn assert_balanced(&self) {
        let minors = self.postings.iter().map(|posting| i128::from(posting.minor));
        assert_eq!(minors.sum::<i128>(), 0, "a transaction does not add up: {self:?}");
    }
}

/// What a kind moves, of an amount; `None`: nothing, or more than can be counted.
fn postings(kind: Kind, minor: u64) -> Option<Vec<Posting>> {
    let minor = i64::try_from(minor).ok().filter(|minor| *minor > 0)?;
    let side = |&(account, sign): &(Account, i64)| Posting {
        account,
        minor: sign * minor,
    };
    Some(kind.sides().iter().map(side).collect())
}

/// Whether an id of the provider can be part of a document's key.
fn check_id(what: &'static str, id: &str, bytes_max: usize) -> Result<(), TransactionError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=bytes_max).contains(&id.len()) && id.bytes().all(plain) {
        return Ok(());
    }
    Err(TransactionError::Id {
        what,
        id: id.chars().take(2 * bytes_max).collect(),
        bytes_max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 7] = [
        Kind::Hold,
        Kind::Void,
        Kind::Capture,
        Kind::Refund,
        Kind::RefundReversed,
        Kind::Chargeback,
        Kind::ChargebackReversed,
    ];

    fn eur(minor: u64) -> Money {
        Money::new(minor, Currency::from_code("EUR").unwrap())
    }

    fn of(kind: Kind, minor: u64) -> Transaction {
        let reference = kind.has_reference().then_some("re_1");
        Transaction::new(kind, "pi_1", reference, "c_1", eur(minor), 7).unwrap()
    }

    #[test]
    fn every_kind_adds_up_to_zero_and_moves_each_account_once() {
        for kind in KINDS {
            for minor in [1, 4_900, i64::MAX as u64] {
                let postings = of(kind, minor).postings;
                let minors = postings.iter().map(|posting| i128::from(posting.minor));
                assert_eq!(minors.sum::<i128>(), 0, "{kind:?}");
                assert!(
                    postings
                        .iter()
                        .all(|posting| posting.minor.unsigned_abs() == minor)
                );
                let mut accounts: Vec<_> = postings.iter().map(|posting| posting.account).collect();
                accounts.sort_unstable();
                accounts.dedup();
                assert_eq!(accounts.len(), postings.len(), "{kind:?}");
            }
        }
    }

    #[test]
    fn what_the_provider_owes_us_follows_the_money() {
        let settled = KINDS.map(|kind| of(kind, 5).settled_minor());
        assert_eq!(settled, [0, 0, 5, -5, 5, -5, 5]);
    }

    #[test]
    fn transactions_survive_their_documents() {
        for kind in KINDS {
            for minor in [1, 4_900, i64::MAX as u64] {
                let written = of(kind, minor).of_order("o_1");
                let body = serde_json::to_vec(&written).unwrap();
                assert_eq!(Transaction::read(&body), Ok(written));
            }
        }
    }

    #[test]
    fn what_was_changed_afterwards_is_found() {
        let body = String::from_utf8(serde_json::to_vec(&of(Kind::Refund, 4_900)).unwrap()).unwrap();
        for (what, with) in [
            ("4900", "4901"),
            ("-4900", "-4800"),
            ("provider_clearing", "revenue"),
            (r#""kind":"refund""#, r#""kind":"chargeback""#),
            (r#""format":1"#, r#""format":2"#),
            (r#""reference":"re_1","#, ""),
            ("EUR", "ZZZ"),
        ] {
            let changed = body.replacen(what, with, 1);
            assert_ne!(changed, body, "{what}");
            assert!(Transaction::read(changed.as_bytes()).is_err(), "{what} → {with}");
        }
    }

    #[test]
    fn ids_that_could_not_be_part_of_a_key_are_refused() {
        let longest = "p".repeat(PAYMENT_ID_BYTES_MAX);
        let too_long = "p".repeat(PAYMENT_ID_BYTES_MAX + 1);
        for id in ["", "pi/1", "pi 1", "pä", "pi.1", &too_long] {
            let refused = Transaction::new(Kind::Hold, id, None, "c_1", eur(1), 0);
            assert!(matches!(refused, Err(TransactionError::Id { .. })), "{id}");
        }
        let reference = "r".repeat(REFERENCE_BYTES_MAX);
        let longest = Transaction::new(
            Kind::ChargebackReversed,
            &longest,
            Some(&reference),
            "c_1",
            eur(1),
            0,
        )
        .unwrap();
        assert!(super::super::book::key_of(&longest).len() <= 128);
    }

    #[test]
    fn nothing_and_what_cannot_be_counted_are_no_transactions() {
        for minor in [0, i64::MAX as u64 + 1, u64::MAX] {
            let refused = Transaction::new(Kind::Capture, "pi_1", None, "c_1", eur(minor), 0);
            let kind = "capture";
            assert_eq!(refused, Err(TransactionError::Amount { kind, minor }));
        }
    }
}
