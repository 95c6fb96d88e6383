//! What the child processes do: the other end of [`crate::process`].

pub mod api;
pub mod bare_grpc;
pub mod bare_http;
pub mod bare_raft;
pub mod bare_tcp;
pub mod callers;
mod empty_machine;
pub mod node;
pub mod psp;

use std::future::Future;

use raft_store::{config::worker_threads_default, runtime::serving};
use tokio::{runtime::Runtime, sync::mpsc};

use crate::failure::{Doing, Failure};

/// A child's runtime: as many threads as the shipped binary takes, for a node and for bare raft alike.
fn runtime() -> Result<Runtime, Failure> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    serving(worker_threads_default())
        .enable_all()
        .build()
        .doing("starting a runtime")
}

/// The lines that the harness says; they end when the harness does.
fn requests() -> mpsc::Receiver<String> {
    let (sender, requests) = mpsc::channel(1);
    // A thread of its own, because a runtime waits for its reads, and this one may never return.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    requests
}

/// Serves until the harness has said all, or until what is served ends by itself, which is a failure.
async fn until_told(serving: impl Future<Output = Failure>) -> Result<(), Failure> {
    let mut requests = requests();
    let told = async { while requests.recv().await.is_some() {} };
    tokio::select! {
        () = told => Ok(()),
        failure = serving => Err(failure),
    }
}
