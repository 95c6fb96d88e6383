//! Processes that die, stand still and start again.

use rand::rngs::SmallRng;
use rustix::process::Signal;

use super::{Fired, RECOVERY_MAX, endure, yes};
use crate::fleet::{Fleet, Trouble};

/// SIGKILL, a while of absence, start.
pub(super) async fn kill(fleet: &mut Fleet, victim: u64, chance: &mut SmallRng) -> Result<Fired, Trouble> {
    fleet.node(victim).process.kill()?;
    endure(chance, 100..2_500).await;
    fleet.launch(victim)?;
    fleet.await_caught_up(victim, RECOVERY_MAX).await?;
    yes("killed")
}

/// SIGKILL to all, then all start, one after the other.
pub(super) async fn kill_all(fleet: &mut Fleet) -> Result<Fired, Trouble> {
    let ids = fleet.ids();
    for &id in &ids {
        fleet.node(id).process.kill()?;
    }
    for &id in &ids {
        fleet.launch(id)?;
    }
    yes("all killed")
}

/// SIGSTOP for longer than an election takes: it wakes up believing what is no longer so.
pub(super) async fn pause(fleet: &mut Fleet, victim: u64, chance: &mut SmallRng) -> Result<Fired, Trouble> {
    fleet.node(victim).process.signal(Signal::STOP)?;
    endure(chance, 1_200..3_500).await;
    fleet.node(victim).process.signal(Signal::CONT)?;
    yes("stopped and continued")
}

/// As an upgrade does it: each node is back and caught up before the next one goes.
pub(super) async fn rolling_restart(fleet: &mut Fleet) -> Result<Fired, Trouble> {
    for id in fleet.ids() {
        tokio::task::block_in_place(|| fleet.node(id).process.stop())?;
        fleet.launch(id)?;
        fleet.await_caught_up(id, RECOVERY_MAX).await?;
    }
    yes("each restarted")
}
