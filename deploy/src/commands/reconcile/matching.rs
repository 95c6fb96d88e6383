//! Rows of a settlement file against transactions of the ledger.
//!
//! A row and a transaction are the same when payment, kind and, for refunds and disputes, the provider's
//! id of these are. All rows go in first, then all transactions, in any order; a row is kept as a hash, an
//! amount and a line, some 60 bytes, so a million of them fit anywhere. Whoever needs the text of a row
//! that was left over reads the file again.
//!
//! Left out: whose books are right.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
};

use api::{
    ledger::{Kind, Transaction},
    payment::Currency,
};
use serde::Serialize;

use super::statement::Row;

/// A way in which file and ledger differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `file_only`, `ledger_only`, `amount`, `currency` or `duplicate`.
    pub difference: &'static str,
    /// `capture`, `refund`, `refund_reversed`, `chargeback` or `chargeback_reversed`.
    pub kind: &'static str,
    /// The provider's id of the payment.
    pub payment_id: String,
    /// The provider's id of the refund or dispute.
    pub reference: Option<String>,
    /// The file's amount in minor units, with its sign.
    pub file_minor: Option<i64>,
    /// The file's currency.
    pub file_currency: Option<String>,
    /// The ledger's amount in minor units, with its sign.
    pub ledger_minor: Option<i128>,
    /// The ledger's currency.
    pub ledger_currency: Option<String>,
    /// Where it stands in the file.
    pub line: Option<u64>,
}

/// What was seen of a row.
#[derive(Clone, Copy, Debug)]
struct Seen {
    line: u64,
    minor: i64,
    currency: Currency,
}

/// Counts of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Rows that were compared.
    pub rows: u64,
    /// Rows of types that the ledger does not have, by type.
    pub passed_over: BTreeMap<String, u64>,
    /// Transactions that were compared: those that the provider settles.
    pub transactions: u64,
    /// Transactions that no row matches, outside the file's time.
    pub transactions_outside: u64,
    /// Rows that have their equal transaction.
    pub equal: u64,
    /// Differences of all kinds.
    pub differences: u64,
    /// Fees by currency, in minor units.
    pub fees_minor: BTreeMap<String, i64>,
}

/// The time that a file speaks for, in Unix ms, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its beginning.
    pub from_ms: u64,
    /// Its end.
    pub to_ms: u64,
}

/// A comparison under way.
pub struct Matching {
    /// Two hashes with keys of their own make one that nobody can make meet.
    hashers: [RandomState; 2],
    rows: HashMap<u128, Seen>,
    counts: Counts,
    differences: Vec<Difference>,
    /// Differences kept; the rest is counted.
    kept_max: usize,
    /// First and last time of the rows that are compared.
    span: Option<Period>,
}

impl Matching {
    /// A comparison that keeps so many differences.
    pub fn new(kept_max: usize) -> Self {
        Matching {
            hashers: [RandomState::new(), RandomState::new()],
            rows: HashMap::new(),
            counts: Counts::default(),
            differences: Vec::new(),
            kept_max,
            span: None,
        }
    }

    fn key(&self, kind: Kind, payment_id: &str, reference: Option<&str>) -> u128 {
        let [high, low] = [0, 1].map(|of| self.hashers[of].hash_one((kind, payment_id, reference)));
        u128::from(high) << 64 | u128::from(low)
    }

    fn differs(&mut self, difference: Difference) {
        self.counts.differences += 1;
        if self.differences.len() < self.kept_max {
            self.differences.push(difference);
        }
    }

    /// Takes a row.
    pub fn row(&mut self, row: &Row) {
        if row.fee_minor != 0 {
            let fees = self
                .counts
                .fees_minor
                .entry(row.currency.code().to_owned())
                .or_default();
            *fees = fees.saturating_add(row.fee_minor);
        }
        let Some(kind) = row.kind else {
            *self.counts.passed_over.entry(row.word.clone()).or_default() += 1;
            return;
        };
        self.counts.rows += 1;
        let span = self.span.get_or_insert(Period {
            from_ms: row.created_ms,
            to_ms: row.created_ms,
        });
        span.from_ms = span.from_ms.min(row.created_ms);
        span.to_ms = span.to_ms.max(row.created_ms);
        let key = self.key(kind, &row.payment_id, row.reference());
        let seen = Seen {
            line: row.line,
            minor: row.minor,
            currency: row.currency,
        };
        match self.rows.entry(key) {
            Entry::Vacant(place) => {
                place.insert(seen);
            }
            Entry::Occupied(_) => self.differs(of_row("duplicate", kind, row)),
        }
    }

    /// The time from the first row to the last; `None`: nothing was there to compare.
    pub fn span(&self) -> Option<Period> {
        self.span
    }

    /// Takes a transaction, once all rows are in. Without a row it differs if it lies within the period.
    pub fn transaction(&mut self, transaction: &Transaction, period: Option<Period>) {
        let minor = transaction.settled_minor();
        if minor == 0 {
            return;
        }
        self.counts.transactions += 1;
        let (kind, currency) = (transaction.kind(), transaction.currency());
        let key = self.key(kind, transaction.payment_id(), transaction.reference());
        let mut difference = Difference {
            difference: "ledger_only",
            kind: kind.name(),
            payment_id: transaction.payment_id().to_owned(),
            reference: transaction.reference().map(str::to_owned),
            file_minor: None,
            file_currency: None,
            ledger_minor: Some(minor),
            ledger_currency: Some(currency.to_string()),
            line: None,
        };
        let Some(seen) = self.rows.remove(&key) else {
            let at_ms = transaction.at_ms();
            if period.is_some_and(|period| (period.from_ms..=period.to_ms).contains(&at_ms)) {
                self.differs(difference);
            } else {
                self.counts.transactions_outside += 1;
            }
            return;
        };
        difference.difference = match () {
            () if seen.currency != currency => "currency",
            () if i128::from(seen.minor) != minor => "amount",
            () => {
                self.counts.equal += 1;
                return;
            }
        };
        difference.file_minor = Some(seen.minor);
        difference.file_currency = Some(seen.currency.to_string());
        difference.line = Some(seen.line);
        self.differs(difference);
    }

    /// Takes a row again, once all transactions are in: one that is left over is in the file only.
    /// Gives whether any more of these are left.
    pub fn row_again(&mut self, row: &Row) -> bool {
        if let Some(kind) = row.kind {
            let key = self.key(kind, &row.payment_id, row.reference());
            if self.rows.get(&key).is_some_and(|seen| seen.line == row.line) {
                self.rows.remove(&key);
                self.differs(of_row("file_only", kind, row));
            }
        }
        !self.rows.is_empty()
    }

    /// Rows that no transaction matches.
    pub fn left_over(&self) -> usize {
        self.rows.len()
    }

    /// What came of it.
    pub fn finish(self) -> (Counts, Vec<Difference>) {
        (self.counts, self.differences)
    }
}

fn of_row(difference: &'static str, kind: Kind, row: &Row) -> Difference {
    Difference {
        difference,
        kind: kind.name(),
        payment_id: row.payment_id.clone(),
        reference: row.reference().map(str::to_owned),
        file_minor: Some(row.minor),
        file_currency: Some(row.currency.to_string()),
        ledger_minor: None,
        ledger_currency: None,
        line: Some(row.line),
    }
}

#[cfg(test)]
mod tests {
    use api::payment::Money;

    use super::*;

    fn row(line: u64, kind: Option<Kind>, payment_id: &str, source: &str, minor: i64) -> Row {
        Row {
            line,
            bytes_read: 0,
            id: String::new(),
            word: kind.map_or("payout", Kind::name).to_owned(),
            kind,
            source: source.to_owned(),
            payment_id: payment_id.to_owned(),
            minor,
            currency: Currency::from_code("EUR").unwrap(),
            fee_minor: 30,
            created_ms: 1_000 * line,
        }
    }

    fn transaction(
        kind: Kind,
        payment_id: &str,
        reference: Option<&str>,
        amount: &str,
        at_ms: u64,
    ) -> Transaction {
        let amount: Money = amount.parse().unwrap();
        Transaction::new(kind, payment_id, reference, "c_1", amount, at_ms).unwrap()
    }

    /// A difference, its payment and its line.
    type Named = (&'static str, String, Option<u64>);

    fn compare(rows: &[Row], transactions: &[Transaction]) -> (Counts, Vec<Named>) {
        let mut matching = Matching::new(100);
        rows.iter().for_each(|row| matching.row(row));
        let period = matching.span();
        for transaction in transactions {
            matching.transaction(transaction, period);
        }
        if matching.left_over() > 0 {
            let _ = rows.iter().all(|row| matching.row_again(row));
        }
        let (counts, differences) = matching.finish();
        let named = differences
            .into_iter()
            .map(|found| (found.difference, found.payment_id, found.line));
        (counts, named.collect())
    }

    #[test]
    fn equal_books_do_not_differ() {
        let rows = [
            row(2, Some(Kind::Refund), "pi_1", "re_1", -900),
            row(3, Some(Kind::Capture), "pi_1", "ch_1", 4_900),
            row(4, None, "", "po_1", -4_000),
            row(5, Some(Kind::Refund), "pi_1", "re_2", -4_000),
            row(6, Some(Kind::Chargeback), "pi_2", "dp_1", -100),
            row(7, Some(Kind::ChargebackReversed), "pi_2", "dp_1", 100),
        ];
        let transactions = [
            transaction(Kind::Hold, "pi_1", None, "49.00 EUR", 3_000),
            transaction(Kind::Capture, "pi_1", None, "49.00 EUR", 999_999),
            transaction(Kind::Refund, "pi_1", Some("re_1"), "9.00 EUR", 3_000),
            transaction(Kind::Refund, "pi_1", Some("re_2"), "40.00 EUR", 3_000),
            transaction(Kind::Chargeback, "pi_2", Some("dp_1"), "1.00 EUR", 3_000),
            transaction(Kind::ChargebackReversed, "pi_2", Some("dp_1"), "1.00 EUR", 3_000),
            transaction(Kind::Void, "pi_3", None, "1.00 EUR", 3_000),
        ];
        let (counts, differences) = compare(&rows, &transactions);
        assert_eq!(differences, []);
        assert_eq!((counts.rows, counts.transactions, counts.equal), (5, 5, 5));
        assert_eq!(counts.passed_over, BTreeMap::from([("payout".to_owned(), 1)]));
        assert_eq!(counts.fees_minor, BTreeMap::from([("EUR".to_owned(), 180)]));
    }

    #[test]
    fn every_difference_is_found_and_named() {
        let rows = [
            row(2, Some(Kind::Capture), "pi_file", "ch_1", 100),
            row(3, Some(Kind::Capture), "pi_less", "ch_2", 99),
            row(4, Some(Kind::Capture), "pi_sign", "ch_3", -100),
            row(5, Some(Kind::Capture), "pi_yen", "ch_4", 100),
            row(6, Some(Kind::Capture), "pi_twice", "ch_5", 100),
            row(7, Some(Kind::Capture), "pi_twice", "ch_6", 100),
            row(8, Some(Kind::Refund), "pi_good", "re_1", -100),
            row(9, Some(Kind::Refund), "pi_other", "re_2", -100),
        ];
        let transactions = [
            transaction(Kind::Capture, "pi_less", None, "1.00 EUR", 5_000),
            transaction(Kind::Capture, "pi_sign", None, "1.00 EUR", 5_000),
            transaction(Kind::Capture, "pi_yen", None, "100 JPY", 5_000),
            transaction(Kind::Capture, "pi_twice", None, "1.00 EUR", 5_000),
            transaction(Kind::Refund, "pi_good", Some("re_1"), "1.00 EUR", 5_000),
            transaction(Kind::Refund, "pi_other", Some("re_3"), "1.00 EUR", 5_000),
            transaction(Kind::Capture, "pi_ledger", None, "1.00 EUR", 2_000),
            transaction(Kind::Capture, "pi_last", None, "1.00 EUR", 9_000),
            transaction(Kind::Capture, "pi_before", None, "1.00 EUR", 1_999),
            transaction(Kind::Capture, "pi_after", None, "1.00 EUR", 9_001),
        ];
        let (counts, differences) = compare(&rows, &transactions);
        let named = |difference, payment: &str, line| (difference, payment.to_owned(), line);
        assert_eq!(
            differences,
            [
                named("duplicate", "pi_twice", Some(7)),
                named("amount", "pi_less", Some(3)),
                named("amount", "pi_sign", Some(4)),
                named("currency", "pi_yen", Some(5)),
                named("ledger_only", "pi_other", None),
                named("ledger_only", "pi_ledger", None),
                named("ledger_only", "pi_last", None),
                named("file_only", "pi_file", Some(2)),
                named("file_only", "pi_other", Some(9)),
            ]
        );
        assert_eq!(
            (counts.differences, counts.equal, counts.transactions_outside),
            (9, 2, 2)
        );
    }

    #[test]
    fn what_is_not_kept_is_counted() {
        let mut matching = Matching::new(2);
        let rows: Vec<_> = (2..12)
            .map(|line| row(line, Some(Kind::Capture), &format!("pi_{line}"), "ch", 1))
            .collect();
        rows.iter().for_each(|row| matching.row(row));
        assert!(
            !rows.iter().all(|row| matching.row_again(row)),
            "none is left at the last"
        );
        let (counts, differences) = matching.finish();
        assert_eq!((counts.differences, differences.len()), (10, 2));
    }
}
