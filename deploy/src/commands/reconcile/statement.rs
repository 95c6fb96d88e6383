//! The provider's settlement file, row by row: its balance transactions as CSV with a header.
//!
//! | column | |
//! |---|---|
//! | `type` | `charge`, `payment`; `refund`, `payment_refund`; `refund_failure`, `payment_failure_refund`; `dispute`, `chargeback`; `dispute_reversal`, `chargeback_reversal`. Others (payouts, fees) are counted and passed over |
//! | `source` | the provider's id of the charge, refund or dispute |
//! | `payment_id` | the provider's id of the payment |
//! | `amount_minor` | whole minor units of the currency, as ISO 4217 counts them; what was taken from us is negative |
//! | `currency` | ISO 4217 |
//! | `created` | Unix seconds, or RFC 3339 in UTC |
//! | `fee_minor` | may be missing; summed up, not compared |
//! | `id` | may be missing; shown only |
//!
//! Columns may stand in any order, and others beside them. One row is read at a time.

use std::{collections::BTreeMap, io::Read};

use api::{ledger::Kind, payment::Currency};
use csv::{ErrorKind, ReaderBuilder, StringRecord, Trim};

/// Columns that must be there.
const NEEDED: [&str; 6] = [
    "type",
    "source",
    "payment_id",
    "amount_minor",
    "currency",
    "created",
];

/// A file that is no settlement file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The header lacks columns.
    #[error(
        "line 1: the header lacks {}; needed are {}, and it has {}",
        list(missing),
        NEEDED.join(", "),
        list(found)
    )]
    Header {
        /// Which.
        missing: Vec<&'static str>,
        /// Those it has.
        found: Vec<String>,
    },
    /// A row that is none.
    #[error("line {line}: {why}")]
    Row {
        /// Where, from one.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
}

fn list(names: &[impl AsRef<str>]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    names.join(", ")
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it stands in the file, from one.
    pub line: u64,
    /// Bytes of the file up to its end.
    pub bytes_read: u64,
    /// The provider's id of the row; empty where there is none.
    pub id: String,
    /// What it is, as the file says.
    pub word: String,
    /// What that is in the ledger; `None`: nothing that is there.
    pub kind: Option<Kind>,
    /// Charge, refund or dispute.
    pub source: String,
    /// Payment.
    pub payment_id: String,
    /// What it changes of what the provider owes us.
    pub minor: i64,
    /// Of which currency.
    pub currency: Currency,
    /// What the provider took for it.
    pub fee_minor: i64,
    /// When, in Unix ms.
    pub created_ms: u64,
}

impl Row {
    /// What tells it from other rows of its payment and kind, as the ledger does.
    pub fn reference(&self) -> Option<&str> {
        self.kind
            .filter(|kind| kind.has_reference())
            .map(|_| self.source.as_str())
    }
}

/// Reads rows.
pub struct Statement<R> {
    reader: csv::Reader<R>,
    columns: BTreeMap<String, usize>,
    record: StringRecord,
    /// Lines that the reader is behind: where lines end with CR LF, it is done with one at the CR.
    lines_behind: u64,
}

impl<R: Read> Statement<R> {
    /// A file from its header on.
    ///
    /// # Errors
    /// It has none, or not the columns that are needed.
    pub fn new(file: R) -> Result<Self, Malformed> {
        let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(file);
        let header = reader.headers().map_err(|error| malformed(&error, 1, 0))?;
        let found: Vec<String> = header.iter().map(str::to_owned).collect();
        let columns: BTreeMap<String, usize> = found.iter().cloned().zip(0..).collect();
        let missing: Vec<&str> = NEEDED
            .into_iter()
            .filter(|name| !columns.contains_key(*name))
            .collect();
        if !missing.is_empty() {
            return Err(Malformed::Header { missing, found });
        }
        Ok(Statement {
            lines_behind: u64::from(reader.position().line() == 1),
            reader,
            columns,
            record: StringRecord::new(),
        })
    }

    fn row(&mut self) -> Result<Option<Row>, Malformed> {
        // Where the reader stands before it reads tells the line of what it cannot read.
        let before = self.reader.position().line();
        let read = self.reader.read_record(&mut self.record);
        if !read.map_err(|error| malformed(&error, before, self.lines_behind))? {
            return Ok(None);
        }
        let line = self.record.position().map_or(before, csv::Position::line) + self.lines_behind;
        let wrong = |why: String| Malformed::Row { line, why };
        let field = |name: &str| {
            let value = self.columns.get(name).and_then(|&place| self.record.get(place));
            value.unwrap_or_default()
        };
        let number = |name: &str| {
            let text = field(name);
            text.parse::<i64>()
                .map_err(|_| wrong(format!("{name} {text:?} is no whole number of minor units")))
        };
        let word = field("type").to_owned();
        if word.is_empty() {
            return Err(wrong("type is empty".to_owned()));
        }
        let kind = kind_of(&word);
        for name in ["payment_id", "source"] {
            let needed = kind.is_some_and(|kind| name == "payment_id" || kind.has_reference());
            if needed && field(name).is_empty() {
                return Err(wrong(format!("a {word} without {name}")));
            }
        }
        let created = field("created");
        let fee_minor = if field("fee_minor").is_empty() {
            0
        } else {
            number("fee_minor")?
        };
        Ok(Some(Row {
            line,
            bytes_read: self.reader.position().byte(),
            id: field("id").to_owned(),
            kind,
            source: field("source").to_owned(),
            payment_id: field("payment_id").to_owned(),
            minor: number("amount_minor")?,
            currency: Currency::from_code(field("currency")).map_err(|error| wrong(error.to_string()))?,
            fee_minor,
            created_ms: time_ms(created).ok_or_else(|| {
                wrong(format!(
                    "created {created:?} is neither Unix seconds nor RFC 3339 in UTC, as in 2030-01-31T20:00:00Z"
                ))
            })?,
            word,
        }))
    }
}

impl<R: Read> Iterator for Statement<R> {
    type Item = Result<Row, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.row().transpose()
    }
}

/// What a type of the provider's is in the ledger.
fn kind_of(word: &str) -> Option<Kind> {
    Some(match word {
        "charge" | "payment" => Kind::Capture,
        "refund" | "payment_refund" => Kind::Refund,
        "refund_failure" | "payment_failure_refund" => Kind::RefundReversed,
        "dispute" | "chargeback" => Kind::Chargeback,
        "dispute_reversal" | "chargeback_reversal" => Kind::ChargebackReversed,
        _ => return None,
    })
}

/// Unix ms of a time.
fn time_ms(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse::<u64>() {
        return seconds.checked_mul(1_000);
    }
    super::super::values::time_ms(text).ok()
}

fn malformed(error: &csv::Error, line: u64, lines_behind: u64) -> Malformed {
    let line = error.position().map_or(line, csv::Position::line).max(1) + lines_behind;
    let why = match error.kind() {
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("{len} fields where the header has {expected_len}; is it cut off, or a comma unquoted?"),
        ErrorKind::Utf8 { .. } => "it is not UTF-8".to_owned(),
        _ => error.to_string(),
    };
    Malformed::Row { line, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "id,type,source,payment_id,amount_minor,currency,fee_minor,created\n";

    fn rows(text: &str) -> Result<Vec<Row>, Malformed> {
        Statement::new(text.as_bytes())?.collect()
    }

    #[test]
    fn rows_are_read_whatever_the_order_of_columns() {
        let text = "\u{feff}created,currency,more,amount_minor,payment_id,source,type\r\n\
                    1700000000,eur,x,4900,pi_1,ch_1,charge\r\n\
                    2023-11-14T22:13:20Z , EUR ,\"a, b\n c\", -4900 , pi_1 , re_1 , refund \r\n";
        let rows = rows(text).unwrap();
        let read: Vec<_> = rows
            .iter()
            .map(|row| (row.line, row.kind, row.reference(), row.minor, row.created_ms))
            .collect();
        let at_ms = 1_700_000_000_000;
        assert_eq!(
            read,
            [
                (2, Some(Kind::Capture), None, 4_900, at_ms),
                (3, Some(Kind::Refund), Some("re_1"), -4_900, at_ms),
            ]
        );
        assert!(
            rows.iter()
                .all(|row| row.currency.code() == "EUR" && row.fee_minor == 0)
        );
        // The reader is done with a line at its CR.
        assert_eq!(rows[1].bytes_read, text.len() as u64 - 1);
    }

    #[test]
    fn what_has_no_place_in_the_ledger_needs_no_payment() {
        let text = format!("{HEADER}txn_1,payout,po_1,,-100,EUR,,1700000000\n");
        let row = rows(&text).unwrap().remove(0);
        assert_eq!((row.kind, row.word.as_str()), (None, "payout"));
    }

    #[test]
    fn malformed_rows_are_named_by_their_lines() {
        let good = "t,charge,ch,pi_1,1,EUR,0,1\n";
        for (row, line, why) in [
            ("t,charge,ch,pi_1,49.00,EUR,0,1", 3, "amount_minor \"49.00\""),
            ("t,charge,ch,pi_1,,EUR,0,1", 3, "amount_minor \"\""),
            ("t,charge,ch,pi_1,1,EUR,x,1", 3, "fee_minor \"x\""),
            ("t,charge,ch,pi_1,1,ZZZ,0,1", 3, "ZZZ"),
            ("t,charge,ch,pi_1,1,EUR,0,soon", 3, "created \"soon\""),
            ("t,charge,ch,,1,EUR,0,1", 3, "a charge without payment_id"),
            ("t,refund,,pi_1,-1,EUR,0,1", 3, "a refund without source"),
            ("t,,ch,pi_1,1,EUR,0,1", 3, "type is empty"),
            ("t,charge,ch,pi_1,1,EUR", 3, "6 fields where the header has 8"),
            ("t,charge,ch,pi_1,99999999999999999999,EUR,0,1", 3, "amount_minor"),
        ] {
            for end in ["\n", "\r\n"] {
                let text = format!("{HEADER}{good}{row}\n").replace('\n', end);
                let error = rows(&text).unwrap_err().to_string();
                assert!(error.starts_with(&format!("line {line}: ")), "{error}");
                assert!(error.contains(why), "{error}");
            }
        }
    }

    #[test]
    fn a_file_that_is_none_is_refused_by_its_header() {
        assert_eq!(
            rows("id,amount\n1,2\n").unwrap_err().to_string(),
            "line 1: the header lacks type, source, payment_id, amount_minor, currency, created; needed are type, \
             source, payment_id, amount_minor, currency, created, and it has id, amount"
        );
        assert!(matches!(rows(""), Err(Malformed::Header { .. })));
        let binary = Statement::new(&b"\xff\xfe\x00\n"[..]).map(|_| ()).unwrap_err();
        assert_eq!(binary.to_string(), "line 1: it is not UTF-8");
        let cut = [HEADER.as_bytes(), b"t,charge,\xff,pi_1,1,EUR,0,1\n"].concat();
        let cut: Result<Vec<Row>, _> = Statement::new(&cut[..]).unwrap().collect();
        assert_eq!(cut.unwrap_err().to_string(), "line 2: it is not UTF-8");
    }
}
