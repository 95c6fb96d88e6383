//! `demo`: a flash sale on three nodes of this machine, the leader killed in the middle of it.

use clap::Args;

use crate::{context::Context, demo, exit::Failure};

/// What it takes.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Nodes: 3 or 5
    #[arg(long, default_value = "3", value_parser = ["3", "5"])]
    nodes: String,
    /// Units for sale
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    units: u32,
    /// Shoppers; at least twice the units and twenty more, so that the sale sells out although some never pay
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=500_000))]
    users: u32,
    /// Draws every shopper's choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Spoil what was observed after the sale: the verdict must turn red, and the exit code 6
    #[arg(long)]
    sabotage: bool,
    /// Leave everything running after the verdict, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// Runs it.
pub async fn run(args: DemoArgs, context: Context) -> Result<(), Failure> {
    let DemoArgs {
        nodes,
        units,
        users,
        seed,
        sabotage,
        keep,
    } = args;
    let least = u64::from(units) * 2 + 20;
    if u64::from(users) < least {
        return Err(Failure::Usage(format!(
            "--users {users} is too few for --units {units}: some never pay, and the sale would not sell out; use \
             at least {least}"
        )));
    }
    let nodes = if nodes == "5" { 5 } else { 3 };
    if context.dry_run {
        eprintln!(
            "would run {nodes} nodes and a door, and sell {units} units to {users} shoppers; nothing done (--dry-run)"
        );
        return Ok(());
    }
    demo::run(demo::Options {
        nodes,
        units,
        users,
        seed,
        sabotage,
        keep,
    })
    .await
}
