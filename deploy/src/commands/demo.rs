//! `demo`: a flash sale on three nodes of this machine, the leader killed in the middle of it.

use std::{ops::RangeInclusive, time::Duration};

use clap::Args;

use crate::{context::Context, demo, exit::Failure};

/// Units and shoppers of the usual sale.
const UNITS: u32 = 1_000;
const USERS: u32 = 20_000;

/// How long chaos may last: long enough that every kind of process falls, and not for days, because the shoppers'
/// journal is kept in memory, some 300 bytes an answer.
const CHAOS: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(2 * 3_600);

/// What it takes.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Nodes: 3 or 5
    #[arg(long, default_value = "3", value_parser = ["3", "5"])]
    nodes: String,
    /// Units for sale [default: 1000; with --chaos three for five shoppers]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    units: Option<u32>,
    /// Shoppers; at least twice the units and twenty more, so that the sale sells out although some never pay
    /// [default: 20000; with --chaos 40 a second, and any number is enough]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=500_000))]
    users: Option<u32>,
    /// Draws every shopper's choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Spoil what was observed after the sale: the verdict must turn red, and the exit code 6
    #[arg(long)]
    sabotage: bool,
    /// Leave everything running after the verdict, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Instead of one leader and one door, kill every kind of process at random for so long, as in 10m
    #[arg(long, value_name = "DURATION")]
    chaos: Option<humantime::Duration>,
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
        chaos,
    } = args;
    let chaos = chaos.map(Duration::from);
    if chaos.is_some_and(|chaos| !CHAOS.contains(&chaos)) {
        return Err(Failure::Usage(format!(
            "--chaos lasts from {} s to {} h",
            CHAOS.start().as_secs(),
            CHAOS.end().as_secs() / 3_600
        )));
    }
    let users = users.unwrap_or_else(|| {
        let of_chaos = |chaos: Duration| chaos.as_secs() * demo::USERS_PER_SECOND;
        chaos.map_or(USERS, |chaos| u32::try_from(of_chaos(chaos)).unwrap_or(u32::MAX))
    });
    let units = units.unwrap_or(chaos.map_or(UNITS, |_| users / 5 * 3));
    let least = u64::from(units) * 2 + 20;
    if chaos.is_none() && u64::from(users) < least {
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
        chaos,
    })
    .await
}
