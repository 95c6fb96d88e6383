//! `claim`: claim, confirm and release by hand; find out what became of a key.

use clap::{Args, Subcommand, ValueEnum};
use client::{Claim, Consistency, Operation, Position, Resolution};

use super::{sale::receipt_text, values};
use crate::{
    ask,
    context::{Connection, Context, PRINCIPAL, fresh_key},
    exit::{Failure, Subject},
    output,
    views::{ClaimView, ReceiptView, ResolutionView, grant},
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum ClaimCommand {
    /// Claim units for a user
    Create(CreateArgs),
    /// Show one claim
    Get {
        /// The claim
        claim: String,
    },
    /// Make a held claim final
    Confirm(SettleArgs),
    /// Give a held claim back
    Release(SettleArgs),
    /// What became of an idempotency key; if nothing, it is fenced and never will
    Resolve(ResolveArgs),
    /// Show a sale's claims in rank order
    List(ListArgs),
}

/// A claim to make.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// The sale
    #[arg(value_parser = values::sale_id)]
    sale: String,
    /// The user, 1 to 64 bytes
    #[arg(value_parser = values::name)]
    user: String,
    /// Units, all or nothing
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=values::QUANTITY_MAX))]
    quantity: u32,
    /// Confirm at once, without a hold
    #[arg(long)]
    decrement: bool,
    /// Idempotency key [default: a fresh one]
    #[arg(long, value_parser = values::name)]
    key: Option<String>,
}

/// A claim to confirm or release.
#[derive(Args, Debug)]
pub struct SettleArgs {
    /// The claim
    claim: String,
    /// Its fencing token [default: the current one, read first]
    #[arg(long)]
    token: Option<u64>,
    /// Idempotency key [default: a fresh one]
    #[arg(long, value_parser = values::name)]
    key: Option<String>,
}

/// A key to ask about.
#[derive(Args, Debug)]
pub struct ResolveArgs {
    /// The sale
    #[arg(value_parser = values::sale_id)]
    sale: String,
    /// What the key was used for
    #[arg(long, value_enum)]
    operation: OperationArg,
    /// The key
    #[arg(long, value_parser = values::name)]
    key: String,
    /// Who used it: the user for claims [default: this command line's own]
    #[arg(long, value_parser = values::name)]
    principal: Option<String>,
}

/// What a key may have been used for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OperationArg {
    /// A claim
    Claim,
    /// A claim confirmed at once
    Decrement,
    /// A confirm
    Confirm,
    /// A release
    Release,
    /// The start of a checkout
    Extend,
    /// A refund
    Cancel,
    /// A change of the sale
    Sale,
}

/// Claims to show.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// The sale
    #[arg(value_parser = values::sale_id)]
    sale: String,
    /// First rank shown
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    from_rank: u32,
    /// Most claims shown
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// Runs it.
pub async fn run(command: ClaimCommand, context: Context) -> Result<(), Failure> {
    let connection = context.connect()?;
    match command {
        ClaimCommand::Create(args) => create(&context, &connection, args).await,
        ClaimCommand::Get { claim } => {
            let (claim, sale, position) = read(&connection, &claim).await?;
            let mut view = ClaimView::new(&claim, &position);
            view.sale_id = Some(sale);
            output::print(context.format, &view, claim_table)
        }
        ClaimCommand::Confirm(args) => settle(&context, &connection, args, "confirm").await,
        ClaimCommand::Release(args) => settle(&context, &connection, args, "release").await,
        ClaimCommand::Resolve(args) => resolve(&context, &connection, args).await,
        ClaimCommand::List(args) => {
            let answer = connection
                .client
                .list_claims(&args.sale, args.from_rank, args.limit, Consistency::Linearizable)
                .await;
            let subject = Subject::read(format!("list claims of `{}`", args.sale));
            let (claims, position) = connection.told(subject, answer).await?;
            let views: Vec<ClaimView> = claims
                .iter()
                .map(|claim| ClaimView::new(claim, &position))
                .collect();
            output::print(context.format, &serde_json::json!({ "claims": views }), |_| {
                claims_table(&views)
            })
        }
    }
}

async fn create(context: &Context, connection: &Connection, args: CreateArgs) -> Result<(), Failure> {
    let what = format!("claim {} of `{}` for {}", args.quantity, args.sale, args.user);
    if ask::dry(context, &what) {
        return Ok(());
    }
    let key = args.key.unwrap_or_else(fresh_key);
    let request = if args.decrement {
        connection.client.decrement(&args.sale, &args.user)
    } else {
        connection.client.claim(&args.sale, &args.user)
    };
    let answer = request.quantity(args.quantity).key(&key).send().await;
    let claimed = connection.told(Subject::write(what, &key), answer).await?;
    let mut view = ClaimView::new(&claimed.claim, &claimed.position);
    view.sale_id = Some(args.sale);
    view.outcome = Some(grant(claimed.grant));
    view.key = Some(key);
    output::print(context.format, &view, claim_table)
}

async fn read(connection: &Connection, claim_id: &str) -> Result<(Claim, String, Position), Failure> {
    let answer = connection
        .client
        .get_claim(claim_id, None, Consistency::Linearizable)
        .await;
    connection
        .told(Subject::read(format!("read claim `{claim_id}`")), answer)
        .await
}

async fn settle(
    context: &Context,
    connection: &Connection,
    args: SettleArgs,
    step: &'static str,
) -> Result<(), Failure> {
    let what = format!("{step} claim `{}`", args.claim);
    if ask::dry(context, &what) {
        return Ok(());
    }
    let token = match args.token {
        Some(token) => token,
        None => read(connection, &args.claim).await?.0.fencing_token,
    };
    let key = args.key.unwrap_or_else(fresh_key);
    let request = match step {
        "confirm" => connection.client.confirm(&args.claim, token),
        _ => connection.client.release(&args.claim, token),
    };
    let (claim, position) = connection
        .told(Subject::write(what, &key), request.key(&key).send().await)
        .await?;
    let mut view = ClaimView::new(&claim, &position);
    view.key = Some(key);
    output::print(context.format, &view, claim_table)
}

async fn resolve(context: &Context, connection: &Connection, args: ResolveArgs) -> Result<(), Failure> {
    let operation = match args.operation {
        OperationArg::Claim => Operation::Claim,
        OperationArg::Decrement => Operation::Decrement,
        OperationArg::Confirm => Operation::Confirm,
        OperationArg::Release => Operation::Release,
        OperationArg::Extend => Operation::Extend,
        OperationArg::Cancel => Operation::Cancel,
        OperationArg::Sale => Operation::Sale,
    };
    let what = format!("resolve key `{}` of `{}`", args.key, args.sale);
    if ask::dry(context, &what) {
        return Ok(());
    }
    let principal = args.principal.as_deref().unwrap_or(PRINCIPAL);
    let answer = connection
        .client
        .resolve(&args.sale, operation, &args.key, principal)
        .await;
    let (resolution, position) = connection.told(Subject::read(what), answer).await?;
    let view = match resolution {
        Resolution::Claim(claim) => ResolutionView::Claim {
            claim: ClaimView::new(&claim, &position),
        },
        Resolution::Effect(receipt) => ResolutionView::Effect {
            receipt: ReceiptView::from(&receipt),
        },
        Resolution::Abandoned { fenced_until_ms } => ResolutionView::Abandoned { fenced_until_ms },
    };
    output::print(context.format, &view, |view| match view {
        ResolutionView::Claim { claim } => claim_table(claim),
        ResolutionView::Effect { receipt } => {
            output::fields([("took effect", "yes".into()), ("receipt", receipt_text(receipt))])
        }
        ResolutionView::Abandoned { fenced_until_ms } => output::fields([
            ("took effect", "no, and it never will".into()),
            ("fenced until", format!("log time {fenced_until_ms} ms")),
        ]),
    })
}

fn claim_table(claim: &ClaimView) -> comfy_table::Table {
    let mut rows = vec![("claim", claim.claim_id.clone())];
    if let Some(sale) = &claim.sale_id {
        rows.push(("sale", sale.clone()));
    }
    if let Some(outcome) = claim.outcome {
        rows.push(("outcome", outcome.to_owned()));
    }
    rows.push(("status", claim.status.to_owned()));
    rows.push(("quantity", claim.quantity.to_string()));
    rows.push(("rank", output::grouped(claim.rank.into())));
    if let (Some(until), Some(seconds)) = (&claim.held_until, claim.seconds_remaining) {
        rows.push(("held until", format!("{until} ({seconds} s)")));
    }
    rows.push(("token", claim.fencing_token.to_string()));
    rows.push(("receipt", receipt_text(&claim.receipt)));
    if let Some(key) = &claim.key {
        rows.push(("key", key.clone()));
    }
    output::fields(rows)
}

fn claims_table(claims: &[ClaimView]) -> comfy_table::Table {
    let mut table = output::table(&["RANK", "CLAIM", "STATUS", "QUANTITY", "HELD UNTIL", "INDEX"]);
    for claim in claims {
        table.add_row(vec![
            output::number(claim.rank),
            comfy_table::Cell::new(&claim.claim_id),
            comfy_table::Cell::new(claim.status),
            output::number(claim.quantity),
            comfy_table::Cell::new(claim.held_until.as_deref().unwrap_or("-")),
            output::number(claim.receipt.log_index),
        ]);
    }
    table
}
