//! `holdfast`: the one binary. Nodes, the HTTP door, the operators' commands and the demo.
//!
//! `main` only reads the command line, layers the settings, starts logging and runs one command; each
//! command is a file under [`commands`]. Exit codes are decided in [`exit`] alone. Nothing here knows raft
//! or storage, except `commands/node.rs`, which starts a node.

mod ask;
mod cli;
mod commands;
mod config;
mod context;
mod demo;
mod exit;
#[cfg(test)]
mod fuzz_tests;
mod lifetime;
mod logging;
mod metrics;
mod output;
mod reload;
#[cfg(test)]
mod testing;
mod traces;
mod views;

use std::process::ExitCode;

use clap::Parser;

/// jemalloc measured a little faster still, but its build runs `make` and autoconf; Holdfast builds with a
/// Rust toolchain and a C compiler alone.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anybody asks for an HTTP client.
    api::payment::use_ring();
    let cli = cli::Cli::parse();
    let format = cli.global.output.unwrap_or_default();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(format),
    }
}

fn run(cli: cli::Cli) -> Result<(), exit::Failure> {
    // Nothing at all, but in test builds.
    fault_points::from_environment().map_err(|error| exit::Failure::Usage(error.to_string()))?;
    let context = context::Context::new(&cli)?;
    let filter = logging::start(&context.settings.log)?;
    commands::run(cli.command, context, filter)
}
