//! `generate`: writes a random history that is right, to try a checker on and to measure it with.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use jepsen_tests::generate::{self, Plan};

/// Writes a random run of an honest store as a history of schema 1; the same seed writes the same bytes
#[derive(Parser)]
#[command(after_help = "Exit codes: 0 written, 2 usage, 3 cannot be written.")]
struct Arguments {
    /// How many operations
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    operations: u64,
    /// On how many sales
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    sales: u64,
    /// Units of each sale [default: a tenth of its operations]
    #[arg(long)]
    units: Option<u64>,
    /// How long a claim holds its unit, in ms of log time
    #[arg(long, default_value_t = 2_000)]
    ttl_ms: u64,
    /// Of a hundred operations, so many are never heard of
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    unheard_percent: u32,
    /// Of a hundred such, so many are resolved at the end
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100))]
    resolved_percent: u32,
    /// How many others an operation may overlap
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    overlap: u64,
    /// What the run follows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to: compressed if its name ends in .gz or .zst
    file: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let each = arguments.operations / arguments.sales;
    let plan = Plan {
        operations: arguments.operations as usize,
        sales: arguments.sales as usize,
        units: arguments.units.unwrap_or(each / 10 + 1),
        users: (arguments.operations / 5 + 1) as usize,
        ttl_ms: arguments.ttl_ms,
        unheard_percent: arguments.unheard_percent,
        resolved_percent: arguments.resolved_percent,
        overlap: arguments.overlap,
        step_ms: 3,
    };
    let history = generate::history(plan, &generate::run(plan, arguments.seed));
    match history.write_file(&arguments.file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {} cannot be written: {error}", arguments.file.display());
            ExitCode::from(3)
        }
    }
}
