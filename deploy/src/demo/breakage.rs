//! What the page's buttons break, and how it mends by itself.

use std::time::Duration;

use client::Client;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use super::{
    Fleet,
    control::{Action, Asked},
    processes::Signal,
    strike::who_leads,
};
use crate::exit::Failure;

/// How long a killed leader stays away.
const LEADER_AWAY: Duration = Duration::from_secs(5);

/// How long a node is stopped: longer than any election.
const NODE_PAUSED: Duration = Duration::from_secs(8);

/// How long the provider is slow: long enough to pay twice.
const PROVIDER_SLOW: Duration = Duration::from_secs(20);

/// What the provider then takes for an answer, in ms: longer than the doors wait for one.
const PROVIDER_SLOW_MS: u64 = 4_000;

/// Does what is asked for, until nobody can ask any more.
pub async fn run(fleet: &mut Fleet, client: &Client, delay_ms: u64, mut asked: mpsc::Receiver<Asked>) {
    while let Some((action, reply)) = asked.recv().await {
        let done = match action {
            Action::StopLeader => stop_leader(fleet, client, reply).await,
            Action::SlowProvider => slow_provider(fleet, delay_ms, reply).await,
            Action::PauseNode => pause_node(fleet, client, reply).await,
        };
        if let Err(failure) = done {
            eprintln!("{action:?}: {failure}");
        }
    }
}

async fn stop_leader(
    fleet: &mut Fleet,
    client: &Client,
    reply: oneshot::Sender<String>,
) -> Result<(), Failure> {
    let leader = who_leads(client, None).await?;
    let node = fleet.node(leader)?;
    node.kill().await?;
    let struck = Instant::now();
    let next = who_leads(client, Some(leader)).await?;
    let took = struck.elapsed().as_secs_f64();
    // Whoever asked may be gone; what was done is done.
    let _ = reply.send(format!(
        "Node {leader} led and was killed (SIGKILL). Node {next} leads, {took:.1} s later. Node {leader} comes back in {} s.",
        LEADER_AWAY.as_secs()
    ));
    sleep(LEADER_AWAY).await;
    node.restart().await
}

async fn pause_node(
    fleet: &mut Fleet,
    client: &Client,
    reply: oneshot::Sender<String>,
) -> Result<(), Failure> {
    let leader = who_leads(client, None).await?;
    let paused = (1..=fleet.nodes.len() as u64)
        .rev()
        .find(|id| *id != leader)
        .ok_or_else(|| Failure::Failed("there is no node but the leader".into()))?;
    let node = fleet.node(paused)?;
    node.signal(Signal::STOP)?;
    let _ = reply.send(format!(
        "Node {paused} is stopped (SIGSTOP) for {} s: to the others, as if its cable were cut.",
        NODE_PAUSED.as_secs()
    ));
    sleep(NODE_PAUSED).await;
    node.signal(Signal::CONT)
}

async fn slow_provider(fleet: &Fleet, delay_ms: u64, reply: oneshot::Sender<String>) -> Result<(), Failure> {
    let address = fleet.provider_address();
    set_delay(address, PROVIDER_SLOW_MS).await?;
    let _ = reply.send(format!(
        "The payment provider takes {} s for an answer, for the next {} s: pay now, and see the checkout wait, and \
         its breaker open.",
        PROVIDER_SLOW_MS / 1_000,
        PROVIDER_SLOW.as_secs()
    ));
    sleep(PROVIDER_SLOW).await;
    set_delay(address, delay_ms).await
}

async fn set_delay(provider: &str, delay_ms: u64) -> Result<(), Failure> {
    let failed = |error: reqwest::Error| Failure::Failed(format!("the provider: {error}"));
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .map_err(failed)?
        .post(format!("http://{provider}/_/faults"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("delay_ms={delay_ms}"))
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(failed)?;
    Ok(())
}
