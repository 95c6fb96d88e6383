//! Members that come, go, lead, and fall behind.

use std::time::Duration;

use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep};

use super::{Fired, RECOVERY_MAX, yes};
use crate::fleet::{Fleet, Trouble};

/// How long leadership is handed round.
const STORM: Duration = Duration::from_secs(3);

/// A pause between two transfers: a new leader does a little work.
const STORM_PAUSE: Duration = Duration::from_millis(100);

/// Grows by one, then lets the victim go: it may lead.
pub(super) async fn change(fleet: &mut Fleet, victim: u64) -> Result<Fired, Trouble> {
    let id = fleet.start_node().await?;
    fleet.admit(id).await?;
    fleet.expel(victim).await?;
    yes(format!("node {id} in, node {victim} out"))
}

/// The victim's disk is gone: a new node takes its place, under an id that nobody had.
pub(super) async fn replace(fleet: &mut Fleet, victim: u64) -> Result<Fired, Trouble> {
    fleet.node(victim).process.kill()?;
    let id = fleet.start_node().await?;
    fleet.admit(id).await?;
    fleet.expel(victim).await?;
    yes(format!("node {id} in place of node {victim}"))
}

/// Hands leadership to one node after the other.
pub(super) async fn leader_storm(fleet: &mut Fleet, chance: &mut SmallRng) -> Result<Fired, Trouble> {
    let until = Instant::now() + STORM;
    let mut transfers = 0;
    let cluster = fleet.operator.cluster();
    while Instant::now() < until {
        let leader = fleet.await_leader(RECOVERY_MAX).await?;
        // One that is refused, since the other one lags or the leader is new, is tried again.
        if cluster
            .transfer_leader(fleet.another(leader, chance))
            .await
            .is_ok()
        {
            transfers += 1;
        }
        sleep(STORM_PAUSE).await;
    }
    match transfers {
        0 => Ok(Fired::No("every transfer was refused".to_owned())),
        _ => yes(format!("{transfers} transfers")),
    }
}

/// Keeps a node away until the others have purged what it needs.
pub(super) async fn snapshot(fleet: &mut Fleet, victim: u64) -> Result<Fired, Trouble> {
    let last = fleet
        .status(victim)
        .await
        .map_or(u64::MAX, |status| status.last_log_index);
    fleet.node(victim).process.kill()?;
    let deadline = Instant::now() + RECOVERY_MAX / 2;
    let purged = loop {
        let leader = fleet.await_leader(RECOVERY_MAX).await?;
        let purged = fleet.status(leader).await.map_or(0, |status| status.purged_index);
        if purged > last || Instant::now() > deadline {
            break purged;
        }
        sleep(STORM_PAUSE).await;
    };
    fleet.launch(victim)?;
    fleet.await_caught_up(victim, RECOVERY_MAX).await?;
    if purged <= last {
        return Ok(Fired::No(format!(
            "the log it needed was kept: it ends at {last}, purged up to {purged}"
        )));
    }
    yes(format!("ended at {last}, log purged up to {purged}"))
}
