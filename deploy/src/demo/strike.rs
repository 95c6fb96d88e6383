//! The strikes: SIGKILL to the leader in the middle of the sale, then to a door full of payments, and their return.

use std::{cell::Cell, time::Duration};

use client::Client;
use tokio::time::{Instant, sleep};

use super::{live::Live, processes::Process, shoppers::Tally};
use crate::{commands::cluster::leader_view, exit::Failure};

/// Longest until another node leads.
const ELECTION_MAX: Duration = Duration::from_secs(30);
/// How often the survivors are asked who leads.
const ASK_PAUSE: Duration = Duration::from_millis(20);
/// How long the killed node stays away once another leads: long enough to have missed much of the sale.
const AWAY: Duration = Duration::from_secs(2);

/// How long a killed door stays away: shoppers go to the other one, which finds what this one left half done.
const DOOR_AWAY: Duration = Duration::from_secs(1);

/// Waits until many are paying, kills a door in the middle of it, starts it again.
pub async fn door(door: &mut Process, tally: &Tally, live: &Live) -> Result<(), Failure> {
    tally.door_strike.reached().await;
    door.kill().await?;
    live.say("  a door was killed (SIGKILL) with payments under way; the other one will finish them");
    sleep(DOOR_AWAY).await;
    door.restart().await?;
    live.say("  the door is back");
    Ok(())
}

/// Waits for the middle of the sale, kills the leader, waits for the next one, starts the killed one again.
pub async fn leader(
    nodes: &mut [Process],
    client: &Client,
    tally: &Tally,
    live: &Live,
) -> Result<(), Failure> {
    // Whoever leads is known beforehand, so that the blow falls in the middle and not after it.
    let leads = Cell::new(who_leads(client, None).await?);
    let watch = async {
        loop {
            sleep(ASK_PAUSE).await;
            match who_leads(client, None).await {
                Ok(id) => leads.set(id),
                Err(failure) => return failure,
            }
        }
    };
    tokio::select! {
        () = tally.leader_strike.reached() => {}
        failure = watch => return Err(failure),
    }
    let killed = leads.get();
    let index = usize::try_from(killed).ok().and_then(|id| id.checked_sub(1));
    let node = index
        .and_then(|index| nodes.get_mut(index))
        .ok_or_else(|| Failure::Failed(format!("node {killed} leads, but it is none of ours")))?;
    let granted = tally.granted.load(std::sync::atomic::Ordering::Relaxed);
    node.kill().await?;
    let struck = Instant::now();
    live.say(&format!(
        "  node {killed} led and was killed (SIGKILL) after {granted} grants"
    ));
    let next = who_leads(client, Some(killed)).await?;
    live.say(&format!(
        "  node {next} leads, {:.2} s later",
        struck.elapsed().as_secs_f64()
    ));
    sleep(AWAY).await;
    node.restart().await?;
    live.say(&format!("  node {killed} is back and catches up"));
    Ok(())
}

/// Who leads, other than `not`.
pub async fn who_leads(client: &Client, not: Option<u64>) -> Result<u64, Failure> {
    let deadline = Instant::now() + ELECTION_MAX;
    loop {
        let views = client.cluster().status_all().await;
        let others: Vec<_> = views
            .into_iter()
            .filter(|(_, answer)| answer.as_ref().is_ok_and(|status| Some(status.node_id) != not))
            .collect();
        if let Some(status) = leader_view(&others) {
            return Ok(status.node_id);
        }
        if Instant::now() > deadline {
            return Err(Failure::Failed(format!(
                "nobody leads after {} s",
                ELECTION_MAX.as_secs()
            )));
        }
        sleep(ASK_PAUSE).await;
    }
}
