//! `watch`: committed changes in order, one a line, over failovers without gap or repeat.

use clap::Args;
use client::{Cursor, Event};
use futures::StreamExt;

use super::values;
use crate::{
    context::Context,
    exit::{Failure, Subject},
    output,
    views::EventView,
};

/// What it takes.
#[derive(Args, Debug)]
pub struct WatchArgs {
    /// Only this sale's
    #[arg(long, value_parser = values::sale_id)]
    sale: Option<String>,
    /// First change wanted, as index or index.ordinal [default: from now on]
    #[arg(long, value_parser = values::cursor, value_name = "INDEX")]
    from: Option<Cursor>,
    /// End after this many changes
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// Runs until Ctrl-C, the count, or an error.
pub async fn run(args: WatchArgs, context: Context) -> Result<(), Failure> {
    let connection = context.connect()?;
    let mut updates = connection
        .client
        .watch(args.from.unwrap_or_default(), args.sale.as_deref());
    let mut left = args.count.unwrap_or(u64::MAX);
    loop {
        let update = tokio::select! {
            update = updates.next() => update,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let Some(update) = update else {
            return Err(Failure::Failed(
                "the feed ended; run the command again to go on".into(),
            ));
        };
        let update = connection.told(Subject::read("watch"), update).await?;
        for event in &update.events {
            output::print_line(context.format, &EventView::from(event), |view| words(view, event))?;
            left -= 1;
            if left == 0 {
                return Ok(());
            }
        }
    }
}

fn words(view: &EventView, event: &Event) -> String {
    let place = format!("{}.{}", view.log_index, view.ordinal);
    let mut line = format!("{place:>10}  {:<16}  {}", view.kind, view.sale_id);
    if let Some(claim) = &event.claim {
        line.push_str(&format!(
            "  rank {} x{}  {}",
            claim.rank, claim.quantity, claim.claim_id
        ));
    } else if event.value > 0 {
        line.push_str(&format!("  {}", event.value));
    }
    line
}
