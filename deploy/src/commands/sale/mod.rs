//! `sale`: make and steer sales, check them, report on them.

mod latency;
mod report;
pub mod verify;

use clap::{Args, Subcommand};
use client::{Consistency, NewSale, Receipt, Sale};

use super::values;
use crate::{
    ask,
    context::{Connection, Context, fresh_key},
    exit::{Failure, Subject},
    output,
    views::{ChangeView, ReceiptView, SaleView, sale_status},
};

/// Sales asked for in one call of `sale list`.
const LIST_PAGE: u32 = 500;

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum SaleCommand {
    /// Make a sale
    Create(CreateArgs),
    /// Open a sale, or open it again after a pause
    Open(ChangeArgs),
    /// Take no new claims; held ones may still be confirmed
    Pause(ChangeArgs),
    /// Close a sale for good; held claims may still be confirmed
    Close(ChangeArgs),
    /// Add units
    Restock(UnitsArgs),
    /// Take available units out; never below what is held and sold
    Withdraw(UnitsArgs),
    /// Show one sale
    Get {
        /// The sale
        #[arg(value_parser = values::sale_id)]
        sale: String,
    },
    /// Show all sales
    List {
        /// Rehearsed ones, too
        #[arg(long)]
        rehearsals: bool,
    },
    /// Count a sale's units from its records, on every replica and from here, and compare
    Verify {
        /// The sale
        #[arg(value_parser = values::sale_id)]
        sale: String,
    },
    /// Show how a sale went: grants, expiries, the second wave, how long claims took
    Report {
        /// The sale
        #[arg(value_parser = values::sale_id)]
        sale: String,
        /// Metrics page of a door, for how long claims took; may be repeated
        #[arg(long, value_name = "URL")]
        metrics: Vec<String>,
    },
}

/// A sale to make.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// Its id: 1 to 64 of a-z A-Z 0-9 . _ - ; never reused
    #[arg(value_parser = values::new_sale_id)]
    sale: String,
    /// Units to sell
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=values::UNITS_MAX))]
    units: u32,
    /// Display name [default: the id]
    #[arg(long)]
    name: Option<String>,
    /// How long a claim is held, 1s to 24h [default: 3m]
    #[arg(long, value_parser = values::hold_ms, value_name = "DURATION")]
    hold: Option<u64>,
    /// Most units of one user
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=values::QUANTITY_MAX))]
    per_user: u32,
    /// Open at once
    #[arg(long, conflicts_with = "opens_at")]
    open: bool,
    /// Open by itself at this time, as in 2030-01-31T20:00:00Z
    #[arg(long, value_parser = values::time_ms, value_name = "TIME")]
    opens_at: Option<u64>,
    /// Close by itself at this time
    #[arg(long, value_parser = values::time_ms, value_name = "TIME")]
    closes_at: Option<u64>,
    /// Price of a unit in minor units, as cents
    #[arg(long, default_value_t = 0, value_name = "MINOR")]
    price: u64,
    /// ISO 4217 code of the price
    #[arg(long, default_value = "EUR", value_parser = values::currency)]
    currency: String,
    /// Most claim records the sale may make [default: 4 x units, at least 10000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    claims_max: Option<u32>,
    /// Idempotency key [default: a fresh one]
    #[arg(long, value_parser = values::name)]
    key: Option<String>,
}

/// A sale to change.
#[derive(Args, Debug)]
pub struct ChangeArgs {
    /// The sale
    #[arg(value_parser = values::sale_id)]
    sale: String,
    /// Idempotency key [default: a fresh one]
    #[arg(long, value_parser = values::name)]
    key: Option<String>,
}

/// Units to add or take out.
#[derive(Args, Debug)]
pub struct UnitsArgs {
    /// The sale
    #[arg(value_parser = values::sale_id)]
    sale: String,
    /// How many
    #[arg(value_parser = clap::value_parser!(u32).range(1..=values::UNITS_MAX))]
    units: u32,
    /// Idempotency key [default: a fresh one]
    #[arg(long, value_parser = values::name)]
    key: Option<String>,
}

impl CreateArgs {
    fn new_sale(&self) -> NewSale {
        NewSale {
            sale_id: self.sale.clone(),
            name: self.name.clone().unwrap_or_else(|| self.sale.clone()),
            units_total: self.units,
            per_user_units_max: self.per_user,
            hold_ms: self.hold.unwrap_or(0),
            checkout_max_ms: 0,
            opens_at_ms: self.opens_at.unwrap_or(0),
            closes_at_ms: self.closes_at.unwrap_or(0),
            price_minor: self.price,
            currency: self.currency.clone(),
            claims_max: self.claims_max.unwrap_or(0),
            open: self.open,
        }
    }
}

/// Runs it.
pub async fn run(command: SaleCommand, context: Context) -> Result<(), Failure> {
    let connection = context.connect()?;
    let client = &connection.client;
    match command {
        SaleCommand::Create(args) => {
            let request = client.create_sale(args.new_sale());
            let what = format!("create sale `{}` of {} units", args.sale, args.units);
            change(
                &context,
                &connection,
                "create",
                what,
                args.sale,
                args.key,
                request,
            )
            .await
        }
        SaleCommand::Open(args) => {
            let request = client.open_sale(&args.sale);
            let what = format!("open sale `{}`", args.sale);
            change(&context, &connection, "open", what, args.sale, args.key, request).await
        }
        SaleCommand::Pause(args) => {
            let request = client.pause_sale(&args.sale);
            let what = format!("pause sale `{}`", args.sale);
            change(&context, &connection, "pause", what, args.sale, args.key, request).await
        }
        SaleCommand::Close(args) => {
            let plan = format!(
                "close sale `{}` for good: it takes no further claims, ever",
                args.sale
            );
            if !ask::proceed(&context, &[plan])? {
                return Ok(());
            }
            let request = client.close_sale(&args.sale);
            let what = format!("close sale `{}`", args.sale);
            change(&context, &connection, "close", what, args.sale, args.key, request).await
        }
        SaleCommand::Restock(args) => {
            let request = client.restock(&args.sale, args.units);
            let what = format!("add {} units to sale `{}`", args.units, args.sale);
            change(
                &context,
                &connection,
                "restock",
                what,
                args.sale,
                args.key,
                request,
            )
            .await
        }
        SaleCommand::Withdraw(args) => {
            let request = client.withdraw(&args.sale, args.units);
            let what = format!("withdraw {} units from sale `{}`", args.units, args.sale);
            change(
                &context,
                &connection,
                "withdraw",
                what,
                args.sale,
                args.key,
                request,
            )
            .await
        }
        SaleCommand::Get { sale } => {
            let answer = client.get_sale(&sale, Consistency::Linearizable).await;
            let (sale, _) = connection
                .told(Subject::read(format!("read sale `{sale}`")), answer)
                .await?;
            output::print(context.format, &SaleView::from(&sale), sale_table)
        }
        SaleCommand::Verify { sale } => verify::run(&context, &connection, &sale).await,
        SaleCommand::Report { sale, metrics } => report::run(&context, &connection, &sale, &metrics).await,
        SaleCommand::List { rehearsals } => {
            let sales = all_sales(&connection, rehearsals).await?;
            let views: Vec<SaleView> = sales.iter().map(SaleView::from).collect();
            output::print(context.format, &serde_json::json!({ "sales": views }), |_| {
                sales_table(&sales)
            })
        }
    }
}

async fn change(
    context: &Context,
    connection: &Connection,
    change: &'static str,
    what: String,
    sale_id: String,
    key: Option<String>,
    request: client::SaleRequest,
) -> Result<(), Failure> {
    if ask::dry(context, &what) {
        return Ok(());
    }
    let key = key.unwrap_or_else(fresh_key);
    let answer = request.key(&key).send().await;
    let receipt: Receipt = connection.told(Subject::write(what, &key), answer).await?;
    let view = ChangeView {
        sale_id,
        change,
        key,
        receipt: ReceiptView::from(&receipt),
    };
    output::print(context.format, &view, |view| {
        output::fields([
            ("sale", view.sale_id.clone()),
            ("done", view.change.to_owned()),
            ("receipt", receipt_text(&view.receipt)),
            ("key", view.key.clone()),
        ])
    })
}

/// Where in the log something happened, in words.
pub fn receipt_text(receipt: &ReceiptView) -> String {
    format!(
        "index {} position {} term {}",
        receipt.log_index, receipt.position, receipt.term
    )
}

async fn all_sales(connection: &Connection, rehearsals: bool) -> Result<Vec<Sale>, Failure> {
    let mut sales: Vec<Sale> = Vec::new();
    loop {
        let after = sales.last().map(|sale| sale.sale_id.clone());
        let (client, after) = (&connection.client, after.as_deref());
        let answer = match rehearsals {
            true => {
                client
                    .list_sales_and_rehearsals(after, LIST_PAGE, Consistency::Linearizable)
                    .await
            }
            false => {
                client
                    .list_sales(after, LIST_PAGE, Consistency::Linearizable)
                    .await
            }
        };
        let (page, _) = connection.told(Subject::read("list sales"), answer).await?;
        // The server may cap a page below what was asked: only an empty one is the end.
        if page.is_empty() {
            return Ok(sales);
        }
        sales.extend(page);
    }
}

fn sale_table(sale: &SaleView) -> comfy_table::Table {
    output::fields([
        ("sale", sale.sale_id.clone()),
        ("name", sale.name.clone()),
        ("status", sale.status.to_owned()),
        ("total", output::grouped(sale.units_total.into())),
        ("available", output::grouped(sale.units_available.into())),
        ("held", output::grouped(sale.units_held.into())),
        ("sold", output::grouped(sale.units_confirmed.into())),
        ("per user", output::grouped(sale.per_user_units_max.into())),
        (
            "hold",
            humantime::format_duration(std::time::Duration::from_millis(sale.hold_ms)).to_string(),
        ),
        (
            "opens",
            sale.opens_at.clone().unwrap_or_else(|| "by command".into()),
        ),
        (
            "closes",
            sale.closes_at.clone().unwrap_or_else(|| "by command".into()),
        ),
        (
            "price",
            format!("{} {} (minor units)", sale.price_minor, sale.currency),
        ),
        (
            "claims made",
            format!(
                "{} of {}",
                output::grouped(sale.claims_made.into()),
                output::grouped(sale.claims_max.into())
            ),
        ),
        ("changed at", format!("index {}", sale.changed_index)),
    ])
}

fn sales_table(sales: &[Sale]) -> comfy_table::Table {
    let mut table = output::table(&["SALE", "STATUS", "TOTAL", "AVAILABLE", "HELD", "SOLD", "CLAIMS"]);
    for sale in sales {
        table.add_row(vec![
            comfy_table::Cell::new(&sale.sale_id),
            comfy_table::Cell::new(sale_status(sale.status)),
            output::number(sale.units_total),
            output::number(sale.units_available),
            output::number(sale.units_held),
            output::number(sale.units_confirmed),
            output::number(sale.claims_made),
        ]);
    }
    table
}

#[cfg(test)]
pub fn verify_example() -> verify::SaleVerifyView {
    verify::SaleVerifyView {
        sale_id: String::new(),
        sound: true,
        verify: super::verify::VerifyView::example(),
        walk: Some(verify::WalkView::default()),
    }
}

#[cfg(test)]
pub fn report_example() -> report::ReportView {
    report::ReportView::example()
}
