//! The final phase of a run: all faults are healed, somebody must lead, every unknown becomes known, every hold
//! ends, and the replicas are compared.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    time::Duration,
};

use client::{Consistency, Error, Operation, Resolution};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::run::Stage;
use crate::{
    history::{Answer, Call},
    nemeses::RECOVERY_MAX,
    properties::{Counters, Healing, Observations, Replica, ReplicaSale, Run, SeenFeed, SeenHash},
    workloads::{
        effects,
        shop::{Effect, Heard, PRINCIPAL, taken, told},
    },
};

/// Until when after healing a command must be answered, in ms: an election, and a stuck connection that is
/// given up. Generous for a loaded machine, and far from never.
const SERVING_MS_MAX: u64 = 20_000;

/// How long after their time holds may last, in ms: they end with the next entry, at most a second later,
/// once somebody leads.
const HOLDS_SLACK_MS: u64 = 20_000;

/// Claims asked for at once: as many as a node lists.
const PAGE: u32 = 10_000;

/// How often one looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Plays it, and puts everything together.
///
/// # Errors
/// The harness failed. A cluster that does not come back is an observation, not an error.
pub(super) async fn play(
    stage: &mut Stage,
    last_index: watch::Sender<Option<u64>>,
    watchers: Vec<JoinHandle<SeenFeed>>,
) -> io::Result<Run> {
    stage.fleet.links.heal();
    let mut healing = Healing {
        healed_ns: stage.shop.now_ns(),
        serving_ms_max: SERVING_MS_MAX,
        holds_ms_max: stage.plan.hold_ms_max() + HOLDS_SLACK_MS,
        ..Healing::default()
    };
    healing.serving_ns = first_answer(stage).await?;
    let resolved = resolve(stage).await?;
    healing.holds_ended_ns = quiesce(stage, &healing).await;
    last_reads(stage).await?;

    let (replicas, hashes) = compare(stage, &mut healing).await;
    let feeds = gather_feeds(last_index, watchers).await?;
    let mut history = tell_effects(stage, &feeds, &resolved, &mut healing);
    let places = std::mem::take(&mut history.1);
    effects::apply_moves(&mut history.0, &places);

    let mut observations = Observations {
        feeds,
        hashes,
        replicas,
        healing: Some(healing),
        ..Observations::default()
    };
    observations.reads = std::mem::take(&mut stage.shop.notes().reads);
    Ok(Run::new(history.0, observations))
}

/// When a command is answered first.
async fn first_answer(stage: &Stage) -> io::Result<Option<u64>> {
    let sale = &stage.plan.sales[0].new.sale_id;
    let mut process = stage.shop.process(stage.client().map_err(io::Error::other)?);
    let deadline = Instant::now() + RECOVERY_MAX;
    let mut tries = 0;
    while Instant::now() < deadline {
        tries += 1;
        let call = Call::Decrement {
            user: Some(format!("healed-{tries}")),
            key: format!("healed-{tries}"),
            quantity: 1,
        };
        if let Heard::Answered | Heard::Hold(..) = process.call(sale, &call, 0).await {
            return Ok(Some(stage.shop.now_ns()));
        }
    }
    Ok(None)
}

/// What became of each unknown's key. Those that nobody can tell are missing.
async fn resolve(stage: &Stage) -> io::Result<HashMap<u64, bool>> {
    let mut resolved = HashMap::new();
    let client = &stage.fleet.operator;
    for (id, sale, call) in stage.shop.recorder.unknown() {
        let (operation, key, principal) = match &call {
            Call::Claim { key, user, .. } => (Operation::Claim, key, user.as_str()),
            Call::Decrement { key, user, .. } => {
                (Operation::Decrement, key, user.as_deref().unwrap_or_default())
            }
            Call::Confirm { key, .. } => (Operation::Confirm, key, PRINCIPAL),
            Call::Release { key, .. } => (Operation::Release, key, PRINCIPAL),
            Call::Restock { key, .. } => (Operation::Sale, key, PRINCIPAL),
            _ => continue,
        };
        let deadline = Instant::now() + RECOVERY_MAX;
        let resolution = loop {
            match client.resolve(&sale, operation, key, principal).await {
                Ok(resolution) => break Some(resolution),
                Err(Error::Rejected(why)) => {
                    let why = format!("operation {id} cannot be resolved: {why:?}");
                    stage.shop.notes().oddities.push(why);
                    break None;
                }
                Err(_) if Instant::now() > deadline => break None,
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        };
        let Some(resolution) = resolution else { continue };
        resolved.insert(id, !matches!(resolution, Resolution::Abandoned { .. }));
        let effect = match (&call, resolution) {
            (Call::Claim { .. }, Resolution::Claim(claim)) => taken(&claim, false),
            (Call::Decrement { .. }, Resolution::Claim(claim)) => taken(&claim, true),
            (Call::Restock { .. }, Resolution::Effect(receipt)) => Effect {
                idx: crate::history::Index {
                    log_index: receipt.log_index,
                    position: receipt.position.into(),
                },
                lt: receipt.log_time_ms,
                outcome: crate::history::Outcome::Done,
            },
            // Settled holds stand in the feed.
            _ => continue,
        };
        stage.shop.notes().effects.entry(key.clone()).or_insert(effect);
    }
    Ok(resolved)
}

/// Waits until no sale has a live hold. Gives when that was.
async fn quiesce(stage: &Stage, healing: &Healing) -> Option<u64> {
    let deadline = Instant::now() + Duration::from_millis(healing.holds_ms_max);
    'looking: while Instant::now() < deadline {
        for sale in &stage.plan.sales {
            let read = stage
                .fleet
                .operator
                .get_sale(&sale.new.sale_id, Consistency::Linearizable)
                .await;
            if !read.is_ok_and(|(sale, _)| sale.units_held == 0) {
                sleep(LOOK_AGAIN).await;
                continue 'looking;
            }
        }
        return Some(stage.shop.now_ns());
    }
    None
}

/// The counters at the end, as part of the history.
async fn last_reads(stage: &Stage) -> io::Result<()> {
    let mut process = stage.shop.process(stage.client().map_err(io::Error::other)?);
    for sale in &stage.plan.sales {
        process.call(&sale.new.sale_id, &Call::Read, 0).await;
    }
    Ok(())
}

/// Every replica's state at one index, and all its claims.
async fn compare(stage: &mut Stage, healing: &mut Healing) -> (Vec<Replica>, Vec<SeenHash>) {
    let mut hashes = std::mem::take(&mut stage.hashes);
    let mut replicas = Vec::new();
    let leader = stage.fleet.leader().await;
    let status = match leader {
        Some(leader) => stage.fleet.status(leader).await,
        None => None,
    };
    let log_index = status.map_or(0, |status| status.applied_index);
    let cluster = stage.fleet.operator.cluster();
    for (id, node) in &stage.fleet.nodes {
        let (name, endpoint) = (format!("n{id}"), &node.process.endpoint);
        match cluster.state_hash(endpoint, log_index).await {
            Ok(hash) => hashes.push(SeenHash {
                node: name.clone(),
                log_index: hash.log_index,
                digest: hash.digest.to_vec(),
                sales_wrong: hash.sales_wrong,
            }),
            Err(error) => {
                healing.missing.push(format!("{name}: {error}"));
                continue;
            }
        }
        match sales_of(stage, endpoint).await {
            Ok(sales) => replicas.push(Replica { node: name, sales }),
            Err(error) => healing.missing.push(format!("{name}: {error}")),
        }
    }
    (replicas, hashes)
}

async fn sales_of(stage: &Stage, endpoint: &str) -> Result<BTreeMap<String, ReplicaSale>, Error> {
    let cluster = stage.fleet.operator.cluster();
    let mut sales = BTreeMap::new();
    for plan in &stage.plan.sales {
        let sale_id = &plan.new.sale_id;
        let (sale, _) = cluster.sale_at(endpoint, sale_id).await?;
        let mut claims = Vec::new();
        loop {
            let page = cluster
                .claims_at(endpoint, sale_id, claims.len() as u32 + 1, PAGE)
                .await?;
            let more = page.len() == PAGE as usize;
            claims.extend(page);
            if !more {
                break;
            }
        }
        let counters = Counters::from(&sale);
        sales.insert(sale_id.clone(), ReplicaSale { counters, claims });
    }
    Ok(sales)
}

/// Lets the watchers reach the end, and gives what they saw.
async fn gather_feeds(
    last_index: watch::Sender<Option<u64>>,
    watchers: Vec<JoinHandle<SeenFeed>>,
) -> io::Result<Vec<SeenFeed>> {
    // Nothing is left to happen: what a watcher has not seen within this time it will not see.
    let quiet = Duration::from_secs(3);
    sleep(quiet).await;
    last_index.send_replace(Some(0));
    let mut feeds = Vec::new();
    for watcher in watchers {
        let feed = timeout(RECOVERY_MAX, watcher).await;
        feeds.push(feed.map_err(io::Error::other)?.map_err(io::Error::other)?);
    }
    Ok(feeds)
}

/// Tells the history what became of the unknowns, and says which answers stand elsewhere.
#[allow(clippy::type_complexity)]
fn tell_effects(
    stage: &Stage,
    feeds: &[SeenFeed],
    resolved: &HashMap<u64, bool>,
    healing: &mut Healing,
) -> (crate::history::History, Vec<(u64, crate::history::Index, u64)>) {
    let recorder = &stage.shop.recorder;
    let settled = effects::settled(feeds);
    let places = effects::place(
        &recorder.finish(),
        &stage.shop.notes().effects,
        &settled,
        resolved,
    );
    for effects::Learned { id, effect } in &places.learned {
        let answer = effect.as_ref().map(|effect| Answer {
            idx: Some(effect.idx),
            lt: effect.lt,
            outcome: told(&effect.outcome),
        });
        recorder.resolve(*id, answer);
    }
    let unresolved = recorder.unknown().into_iter();
    healing.unresolved = unresolved
        // A read that nobody heard had no effect to resolve.
        .filter(|(_, _, call)| !matches!(call, Call::Read))
        .map(|(id, ..)| id)
        .collect();
    (recorder.finish(), places.moved)
}
