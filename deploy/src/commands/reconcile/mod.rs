//! `reconcile`: a settlement file of the payment provider against the ledger.
//!
//! Lists what differs and changes nothing: which of the two is right is for people to find out.

mod matching;
pub mod statement;

use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use api::ledger::{self, Balances, LedgerError};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use self::{
    matching::{Counts, Difference, Matching, Period},
    statement::{Malformed, Row, Statement},
};
use super::values;
use crate::{
    context::{Connection, Context},
    exit::{Failure, Subject},
    output,
    views::wall_time,
};

/// What it takes.
#[derive(Args, Debug)]
#[command(after_help = "\
The file is CSV with a header: the provider's balance transactions. Columns, in any order, others are ignored:
  type          charge|payment, refund|payment_refund, refund_failure|payment_failure_refund,
                dispute|chargeback, dispute_reversal|chargeback_reversal; other types are counted only
  source        the provider's id of the charge, refund or dispute
  payment_id    the provider's id of the payment
  amount_minor  whole minor units as ISO 4217 counts them; negative: taken from us
  currency      ISO 4217
  created       Unix seconds, or RFC 3339 in UTC
  fee_minor     may be missing; summed up, not compared
  id            may be missing

Exit codes: 0 file and ledger agree, 6 they differ, 2 the file is malformed (the line is named).")]
pub struct ReconcileArgs {
    /// The settlement file
    file: PathBuf,
    /// From when on a transaction of the ledger must be in the file [default: its first row's time]
    #[arg(long, value_parser = values::time_ms, value_name = "TIME")]
    from: Option<u64>,
    /// Until when [default: its last row's time]
    #[arg(long, value_parser = values::time_ms, value_name = "TIME")]
    to: Option<u64>,
    /// Differences listed; all are counted
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    limit: u64,
}

/// What it prints.
#[derive(Debug, Serialize)]
pub struct ReconcileView {
    /// Whether file and ledger agree.
    pub agree: bool,
    /// From when on the ledger was held to be in the file.
    pub from: Option<String>,
    /// Until when.
    pub to: Option<String>,
    #[serde(flatten)]
    pub counts: Counts,
    /// What differs, as much of it as is listed.
    pub listed: Vec<Difference>,
    /// All of the ledger, by account.
    pub balances: Vec<BalanceView>,
}

#[cfg(test)]
impl ReconcileView {
    /// One with every field in it.
    pub fn example() -> Self {
        ReconcileView {
            agree: false,
            from: None,
            to: None,
            counts: Counts::default(),
            listed: vec![Difference::default()],
            balances: vec![BalanceView {
                account: "revenue",
                currency: "EUR".to_owned(),
                minor: -1,
            }],
        }
    }
}

/// What is on an account.
#[derive(Debug, Serialize)]
pub struct BalanceView {
    /// Which.
    pub account: &'static str,
    /// ISO 4217.
    pub currency: String,
    /// Debit positive, credit negative.
    pub minor: i128,
}

/// Runs it.
pub async fn run(args: ReconcileArgs, context: Context) -> Result<(), Failure> {
    let connection = context.connect()?;
    let mut matching = Matching::new(usize::try_from(args.limit).unwrap_or(usize::MAX));
    read_file(&args.file, "reading", |row| {
        matching.row(row);
        true
    })?;
    let period = period(&args, matching.span())?;
    let balances = read_ledger(&connection, |transaction| {
        matching.transaction(transaction, period)
    })
    .await?;
    if matching.left_over() > 0 {
        read_file(&args.file, "reading again", |row| matching.row_again(row))?;
        if matching.left_over() > 0 {
            let path = args.file.display();
            return Err(Failure::Failed(format!(
                "{path} was changed while it was read; nothing is said about it: run the command again"
            )));
        }
    }
    let (counts, listed) = matching.finish();
    let time = |ms: u64| wall_time(ms);
    let view = ReconcileView {
        agree: counts.differences == 0,
        from: period.map(|period| time(period.from_ms)),
        to: period.map(|period| time(period.to_ms)),
        counts,
        listed,
        balances: balances
            .iter()
            .map(|(currency, account, minor)| BalanceView {
                account: account.name(),
                currency: currency.to_owned(),
                minor,
            })
            .collect(),
    };
    output::print(context.format, &view, table)?;
    verdict(&view)
}

/// The time in which the ledger must be in the file.
fn period(args: &ReconcileArgs, span: Option<Period>) -> Result<Option<Period>, Failure> {
    let ends = (
        args.from.or(span.map(|span| span.from_ms)),
        args.to.or(span.map(|span| span.to_ms)),
    );
    let (Some(from_ms), Some(to_ms)) = ends else {
        return Ok(None);
    };
    if from_ms > to_ms {
        let (from, to) = (wall_time(from_ms), wall_time(to_ms));
        return Err(Failure::Usage(format!(
            "the period ends ({to}) before it begins ({from}): look at --from and --to"
        )));
    }
    Ok(Some(Period { from_ms, to_ms }))
}

/// Gives every row to `take`, until it wants no more.
fn read_file(path: &Path, what: &str, mut take: impl FnMut(&Row) -> bool) -> Result<(), Failure> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| Failure::Usage(format!("{shown}: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}, {eta} left");
    let bar = ProgressBar::new(bytes)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(format!("{what} {shown}"));
    for (count, row) in rows(BufReader::new(file)).enumerate() {
        let row =
            row.map_err(|malformed| Failure::Usage(format!("{shown}: {malformed}; nothing was compared")))?;
        if count % ROWS_PER_TICK == 0 {
            bar.set_position(row.bytes_read);
        }
        if !take(&row) {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Rows between two moves of the bar.
const ROWS_PER_TICK: usize = 4_096;

/// The rows of a file; a header that is none is the first and only item.
fn rows<'a>(file: impl Read + 'a) -> Box<dyn Iterator<Item = Result<Row, Malformed>> + 'a> {
    match Statement::new(file) {
        Ok(statement) => Box::new(statement),
        Err(malformed) => Box::new(std::iter::once(Err(malformed))),
    }
}

/// Gives every transaction to `take`, page by page, and sums them up.
async fn read_ledger(
    connection: &Connection,
    mut take: impl FnMut(&ledger::Transaction),
) -> Result<Balances, Failure> {
    let bar = ProgressBar::new_spinner().with_message("reading the ledger");
    let (mut balances, mut after) = (Balances::default(), String::new());
    loop {
        let page = match ledger::page(&connection.client, &after).await {
            Ok(page) => page,
            Err(LedgerError::Store(error)) => {
                let subject = Subject::read("read the ledger");
                return Err(subject
                    .failed(error, &connection.client, &connection.endpoints)
                    .await);
            }
            Err(error) => return Err(Failure::Failed(format!("read the ledger: {error}"))),
        };
        for transaction in &page.transactions {
            balances.add(transaction);
            take(transaction);
        }
        bar.inc(page.transactions.len() as u64);
        match page.after {
            Some(next) => after = next,
            None => break,
        }
    }
    bar.finish_and_clear();
    Ok(balances)
}

fn table(view: &ReconcileView) -> comfy_table::Table {
    if view.listed.is_empty() {
        let counts = &view.counts;
        return output::fields([
            ("rows", output::grouped(counts.rows)),
            ("transactions", output::grouped(counts.transactions)),
            ("equal", output::grouped(counts.equal)),
            ("outside the period", output::grouped(counts.transactions_outside)),
            ("differences", "none".to_owned()),
        ]);
    }
    let mut table = output::table(&[
        "DIFFERENCE",
        "KIND",
        "PAYMENT",
        "REFERENCE",
        "FILE",
        "LEDGER",
        "LINE",
    ]);
    let amount = |minor: Option<String>, currency: &Option<String>| match (minor, currency) {
        (Some(minor), Some(currency)) => format!("{minor} {currency}"),
        _ => "-".to_owned(),
    };
    for found in &view.listed {
        table.add_row([
            found.difference.replace('_', " "),
            found.kind.replace('_', " "),
            found.payment_id.clone(),
            found.reference.clone().unwrap_or_else(|| "-".to_owned()),
            amount(
                found.file_minor.map(|minor| minor.to_string()),
                &found.file_currency,
            ),
            amount(
                found.ledger_minor.map(|minor| minor.to_string()),
                &found.ledger_currency,
            ),
            found.line.map_or_else(|| "-".to_owned(), |line| line.to_string()),
        ]);
    }
    table
}

fn verdict(view: &ReconcileView) -> Result<(), Failure> {
    if view.agree {
        return Ok(());
    }
    let counts = &view.counts;
    let listed = view.listed.len() as u64;
    let rest = if listed < counts.differences {
        format!(" ({} are listed; --limit lists more)", output::grouped(listed))
    } else {
        String::new()
    };
    Err(Failure::Violated(format!(
        "file and ledger differ in {} places{rest}; amounts are in minor units, nothing was changed: find out which of \
         the two is right",
        output::grouped(counts.differences)
    )))
}
