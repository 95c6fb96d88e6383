//! The commands, one file each. Each says what it takes and does it; how it ends is [`crate::exit`]'s.

pub mod api;
pub mod backup;
pub mod certs;
pub mod checkout;
pub mod claim;
pub mod cluster;
pub mod completions;
pub mod config;
pub mod demo;
pub mod document;
mod health;
pub mod member;
pub mod node;
pub mod psp;
pub mod readiness;
pub mod ready;
pub mod reconcile;
pub mod rehearse;
pub mod sale;
pub mod snapshot;
pub mod token;
pub mod values;
pub mod verify;
pub mod watch;

use std::future::Future;

use raft_store::{config::worker_threads_default, runtime::serving};
use tokio::runtime::Builder;

use crate::{cli::Command, context::Context, exit::Failure, logging::Filter};

/// Runs one command to its end.
pub fn run(command: Command, context: Context, filter: Filter) -> Result<(), Failure> {
    match command {
        Command::Node(args) => {
            let threads = context.settings.node.worker_threads();
            block_on(Threads::Many(threads), node::run(args, context, filter))
        }
        Command::Api(args) => block_on(
            Threads::Many(worker_threads_default()),
            api::run(args, context, filter),
        ),
        Command::Psp(args) => block_on(Threads::Many(worker_threads_default()), psp::run(*args, context)),
        Command::Demo(args) => block_on(Threads::Many(worker_threads_default()), demo::run(args, context)),
        Command::Cluster(command) => block_on(Threads::One, cluster::run(command, context)),
        Command::Member(command) => block_on(Threads::One, member::run(command, context)),
        Command::Snapshot(command) => block_on(Threads::One, snapshot::run(command, context)),
        Command::Backup(command) => block_on(Threads::One, backup::run(command, context)),
        Command::Sale(command) => block_on(Threads::One, sale::run(command, context)),
        Command::Claim(command) => block_on(Threads::One, claim::run(command, context)),
        Command::Checkout(command) => block_on(Threads::One, checkout::run(command, context)),
        Command::Document(command) => block_on(Threads::One, document::run(command, context)),
        Command::Rehearse(args) => block_on(
            Threads::Many(worker_threads_default()),
            rehearse::run(args, context),
        ),
        Command::Readiness(args) => block_on(Threads::One, readiness::run(args, context)),
        Command::Verify => block_on(Threads::One, verify::run(context)),
        Command::Reconcile(args) => block_on(Threads::One, reconcile::run(args, context)),
        Command::Watch(args) => block_on(Threads::One, watch::run(args, context)),
        Command::Certs(command) => certs::run(command, context),
        Command::Token(command) => token::run(command, context),
        Command::Config(command) => config::run(command, context),
        Command::Completions(args) => completions::run(args),
    }
}

/// A command that makes one call needs no second thread; a server does.
enum Threads {
    One,
    Many(usize),
}

fn block_on(threads: Threads, command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let mut builder = match threads {
        Threads::One => Builder::new_current_thread(),
        Threads::Many(threads) => serving(threads),
    };
    let runtime = builder.enable_all().build()?;
    runtime.block_on(command)
}
