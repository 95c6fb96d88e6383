//! Disks that forget, fail, fill up or drag.

use std::{io, time::Duration};

use rand::{RngExt, rngs::SmallRng};
use tokio::time::{Instant, sleep};

use super::{Fired, RECOVERY_MAX, endure, power, yes};
use crate::fleet::{Fleet, Trouble};

/// How often one looks whether a node has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long a node may live on after an error that it must not survive.
const END_MAX: Duration = Duration::from_secs(20);

/// How long a node that stops in order may take: it answers what it has proposed first.
const STOP_MAX: Duration = Duration::from_secs(4);

/// Kills nodes and takes from their disks what they had not synced.
pub(super) async fn power_cut(
    fleet: &mut Fleet,
    victims: &[u64],
    chance: &mut SmallRng,
) -> Result<Fired, Trouble> {
    for &id in victims {
        fleet.node(id).preload.begin_journal()?;
    }
    endure(chance, 300..1_500).await;
    for &id in victims {
        fleet.node(id).process.kill()?;
    }
    let mut evidence = Vec::new();
    let mut unsynced = 0;
    for &id in victims {
        let lost = lose_unsynced(fleet, id, chance)?;
        unsynced += lost.unsynced;
        evidence.push(format!(
            "node {id} lost {} pages and {} names of {} unsynced changes",
            lost.pages, lost.names, lost.unsynced
        ));
    }
    endure(chance, 50..1_000).await;
    for &id in victims {
        fleet.launch(id)?;
    }
    for &id in victims {
        fleet.await_caught_up(id, RECOVERY_MAX).await?;
    }
    let evidence = evidence.join("; ");
    if unsynced == 0 {
        return Ok(Fired::No(format!("everything was synced: {evidence}")));
    }
    yes(evidence)
}

fn lose_unsynced(fleet: &mut Fleet, id: u64, chance: &mut SmallRng) -> io::Result<power::Lost> {
    let preload = &fleet.node(id).preload;
    let lost = power::cut(preload.data_dir(), preload.journal_dir(), chance)?;
    preload.clear()?;
    Ok(lost)
}

/// Every sync fails, and what was to be synced is lost: the node must stop at once, and come back right.
pub(super) async fn sync_error(
    fleet: &mut Fleet,
    victim: u64,
    chance: &mut SmallRng,
) -> Result<Fired, Trouble> {
    let preload = &fleet.node(victim).preload;
    preload.begin_journal()?;
    preload.set_sync_fails(true)?;
    let deadline = Instant::now() + END_MAX;
    while fleet.node(victim).process.is_running()? {
        if Instant::now() > deadline {
            let hits = fleet.node(victim).preload.hits()?;
            fleet.node(victim).preload.set_sync_fails(false)?;
            return if hits == 0 {
                Ok(Fired::No("it synced nothing meanwhile".to_owned()))
            } else {
                Err(Trouble::Store(format!(
                    "node {victim} lives on {END_MAX:?} after a sync that failed"
                )))
            };
        }
        sleep(LOOK_AGAIN).await;
    }
    fleet.node(victim).process.kill()?;
    let lost = lose_unsynced(fleet, victim, chance)?;
    endure(chance, 50..1_000).await;
    fleet.launch(victim)?;
    fleet.await_caught_up(victim, RECOVERY_MAX).await?;
    yes(format!("stopped; lost {} pages", lost.pages))
}

/// Every sync takes much longer.
pub(super) async fn slow(fleet: &mut Fleet, victim: u64, chance: &mut SmallRng) -> Result<Fired, Trouble> {
    let hits = fleet.node(victim).preload.hits()?;
    let delay_ms = chance.random_range(50..800);
    fleet.node(victim).preload.set_sync_delay_ms(delay_ms)?;
    endure(chance, 1_500..4_000).await;
    let preload = &fleet.node(victim).preload;
    preload.clear()?;
    match preload.hits()? - hits {
        0 => Ok(Fired::No("it synced nothing meanwhile".to_owned())),
        syncs => yes(format!("{syncs} syncs {delay_ms} ms late")),
    }
}

/// No file grows: the node lives on what it has, or stops; with space again it is right again.
pub(super) async fn full(fleet: &mut Fleet, victim: u64, chance: &mut SmallRng) -> Result<Fired, Trouble> {
    let hits = fleet.node(victim).preload.hits()?;
    fleet.node(victim).preload.set_disk_full(true)?;
    let limit = Instant::now() + Duration::from_millis(chance.random_range(2_000..5_000));
    while Instant::now() < limit && fleet.node(victim).process.is_running()? {
        sleep(LOOK_AGAIN).await;
    }
    let preload = &fleet.node(victim).preload;
    preload.clear()?;
    let refused = preload.hits()? - hits;
    // One that stops does so in order, which takes a while.
    let limit = Instant::now() + if refused > 0 { STOP_MAX } else { Duration::ZERO };
    while Instant::now() < limit && fleet.node(victim).process.is_running()? {
        sleep(LOOK_AGAIN).await;
    }
    let stopped = !fleet.node(victim).process.is_running()?;
    if stopped {
        fleet.node(victim).process.kill()?;
        fleet.launch(victim)?;
        fleet.await_caught_up(victim, RECOVERY_MAX).await?;
    }
    match refused {
        0 => Ok(Fired::No("no file grew meanwhile".to_owned())),
        _ => yes(format!(
            "{refused} writes refused{}",
            if stopped { ", stopped" } else { "" }
        )),
    }
}
