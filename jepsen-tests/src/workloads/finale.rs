//! The final phase of a run, whatever cluster it ran on: every fault is healed, somebody must serve, every unknown
//! becomes known, every hold ends, the watchers see the last change, and the replicas are compared.
//!
//! What does not come about within its bound is an observation, for the properties to judge.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use client::{Client, Consistency, Error, Resolution};
use futures::{StreamExt, future::BoxFuture, stream};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    documents, effects,
    plan::Plan,
    shop::{Effect, Heard, Shop, resolve, stands, told},
    watch::LastChanges,
};
use crate::{
    history::{Answer, Call},
    properties::{Counters, Healing, Observations, Replica, ReplicaSale, Run, SeenFeed, SeenHash},
};

/// Claims asked for at once: as many as a node lists.
const PAGE: u32 = 10_000;

/// How often one looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long things may take once all faults are healed.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Until a command is answered, in ms: an election, and a stuck connection that is given up.
    pub serving_ms_max: u64,
    /// What holds may last beyond their time, in ms: they end with the next entry, at most a second later.
    pub holds_slack_ms: u64,
    /// Until a replica has caught up, an unknown is resolved, a watcher has seen the end, in ms.
    pub recovery_ms_max: u64,
    /// How many unknowns are resolved at once.
    pub resolves_at_once: usize,
}

/// What the final phase needs of a run.
pub struct Finale<'a> {
    /// A client that reaches every node.
    pub client: &'a Client,
    /// The callers' notes.
    pub shop: &'a Shop,
    /// What was for sale.
    pub plan: &'a Plan,
    /// Members by name, with their endpoints.
    pub members: Vec<(String, String)>,
    /// How long things may take.
    pub bounds: Bounds,
    /// Tells the watchers what is left to see.
    pub last_changes: watch::Sender<LastChanges>,
    /// The watchers.
    pub watchers: Vec<JoinHandle<SeenFeed>>,
    /// What was seen by watchers that have stopped before the end.
    pub short_feeds: Vec<SeenFeed>,
    /// Ends when whatever callers have sent has arrived, or never will.
    pub stragglers: BoxFuture<'static, ()>,
    /// State hashes taken so far.
    pub hashes: Vec<SeenHash>,
}

impl Finale<'_> {
    /// Plays it, and puts everything together. All faults are healed.
    pub async fn play(mut self) -> Run {
        let mut healing = Healing {
            healed_ns: self.shop.now_ns(),
            serving_ms_max: self.bounds.serving_ms_max,
            holds_ms_max: self.plan.hold_ms_max() + self.bounds.holds_slack_ms,
            ..Healing::default()
        };
        healing.serving_ns = self.first_answer().await;
        let resolved = self.resolve().await;
        self.place_documents().await;
        // Until then an unknown may still have come, and begun to hold.
        healing.holds_ms_max += self.shop.now_ns().saturating_sub(healing.healed_ns) / 1_000_000;
        healing.holds_ended_ns = self.come_to_rest(&healing).await;
        // What was said of an unknown must stay true when it arrives at last.
        self.stragglers.as_mut().await;
        let (log_index, last_changes) = self.last_reads().await;
        let mut replicas = Vec::new();
        for (name, endpoint) in std::mem::take(&mut self.members) {
            match self.replica(&name, &endpoint, log_index).await {
                Ok(replica) => replicas.push(replica),
                Err(error) => healing.missing.push(format!("{name}: {error}")),
            }
        }
        let feeds = self.gather_feeds(&last_changes).await;
        let (moved, lost) = self.tell_effects(&feeds, &resolved);
        let recorder = &self.shop.recorder;
        let mut history = recorder.finish();
        // What is known to have happened, and may stand in a gap that every feed announced, is resolved.
        let lost = effects::in_gaps(&history, &feeds, &lost);
        // A read that nobody heard had no effect to resolve, and a resolve none that matters any more.
        let unresolved = recorder.unknown().into_iter();
        healing.unresolved = unresolved
            .filter(|(id, _, call)| call.key().is_some() && !lost.contains(id))
            .map(|(id, ..)| id)
            .collect();
        effects::apply_moves(&mut history, &moved);
        let unplaced = effects::unplaced(&history, &feeds, &effects::settled(&feeds));
        let unplaced = effects::in_gaps(&history, &feeds, &unplaced);
        effects::forget(&mut history, &unplaced);
        let notes = self.shop.take_observed();
        let observations = Observations {
            reads: notes.reads,
            alive_until_ms: notes.alive_until_ms,
            feeds,
            hashes: self.hashes,
            replicas,
            last_changes,
            healing: Some(healing),
            clock_ahead_ppm: 0,
        };
        Run::new(history, observations)
    }

    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.bounds.recovery_ms_max)
    }

    /// When a command is answered first.
    async fn first_answer(&self) -> Option<u64> {
        let sale = &self.plan.sales[0].new.sale_id;
        let mut process = self.shop.process(self.client.clone());
        let deadline = self.deadline();
        let mut tries = 0;
        while Instant::now() < deadline {
            tries += 1;
            let call = Call::Decrement {
                user: Some(format!("healed-{tries}")),
                key: format!("healed-{tries}"),
                quantity: 1,
            };
            match process.call(sale, &call, 0).await {
                Heard::Answered | Heard::Hold(..) => return Some(self.shop.now_ns()),
                Heard::Failed | Heard::Unknown => sleep(LOOK_AGAIN).await,
            }
        }
        None
    }

    /// What became of each unknown's key. Those that nobody can tell are missing.
    async fn resolve(&self) -> HashMap<u64, bool> {
        let unknown = self.shop.recorder.unknown().into_iter();
        let unknown = unknown.filter(|(_, _, call)| call.key().is_some());
        let resolutions = unknown.map(|(id, sale, call)| async move {
            let resolution = self.resolution(id, &sale, &call).await?;
            Some((id, sale, call, resolution))
        });
        let resolutions = stream::iter(resolutions).buffered(self.bounds.resolves_at_once);
        let resolutions: Vec<_> = resolutions.collect().await;
        let mut resolved = HashMap::new();
        for (id, sale, call, resolution) in resolutions.into_iter().flatten() {
            resolved.insert(id, !matches!(resolution, Resolution::Abandoned { .. }));
            self.shop.learned(&sale, &call, resolution);
        }
        resolved
    }

    /// What became of a key; nothing when nobody can tell.
    async fn resolution(&self, id: u64, subject: &str, call: &Call<String>) -> Option<Resolution> {
        let deadline = self.deadline();
        loop {
            match resolve(self.client, subject, call).await {
                Ok((resolution, _)) => return Some(resolution),
                Err(Error::Rejected(why)) => {
                    let why = format!("operation {id} cannot be resolved: {why:?}");
                    self.shop.notes().oddities.push(why);
                    return None;
                }
                Err(_) if Instant::now() > deadline => return None,
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Finds out where each effect on a document stands: a client that tried several times heard the last answer,
    /// and no feed says which command changed a document. Its receipt does; and of one that nobody heard, its key
    /// tells again how it left the document.
    async fn place_documents(&self) {
        let changes = self.shop.recorder.document_changes().into_iter();
        let placed = changes.map(|(id, document, call, heard)| async move {
            let Resolution::Effect(receipt) = self.resolution(id, &document, &call).await? else {
                return None;
            };
            let outcome = match heard {
                Some(outcome) => outcome,
                None => {
                    let changed = match documents::change(self.client, &document, &call).await {
                        Ok(changed) => changed,
                        Err(error) => {
                            let why =
                                format!("operation {id}, told again what it did, is answered {error:?}");
                            self.shop.notes().oddities.push(why);
                            return None;
                        }
                    };
                    documents::outcome(&call, &changed)
                }
            };
            Some((call.key()?.clone(), stands(&receipt, outcome)))
        });
        let placed = stream::iter(placed).buffered(self.bounds.resolves_at_once);
        let placed: Vec<_> = placed.collect().await;
        self.shop.notes().effects.extend(placed.into_iter().flatten());
    }

    /// Waits until no sale has a live hold. Gives when that was.
    async fn come_to_rest(&self, healing: &Healing) -> Option<u64> {
        let deadline = Instant::now() + Duration::from_millis(healing.holds_ms_max);
        'looking: while Instant::now() < deadline {
            for sale in &self.plan.sales {
                let sale_id = &sale.new.sale_id;
                let read = self.client.get_sale(sale_id, Consistency::Linearizable).await;
                if !read.is_ok_and(|(sale, _)| sale.units_held == 0) {
                    sleep(LOOK_AGAIN).await;
                    continue 'looking;
                }
            }
            return Some(self.shop.now_ns());
        }
        None
    }

    /// The counters at the end, as part of the history; the leader's index then, and each sale's last change.
    async fn last_reads(&self) -> (u64, BTreeMap<String, u64>) {
        let mut process = self.shop.process(self.client.clone());
        let (mut log_index, mut last_changes) = (0, BTreeMap::new());
        for sale in &self.plan.sales {
            let sale_id = &sale.new.sale_id;
            process.call(sale_id, &Call::Read, 0).await;
            if let Ok((sale, position)) = self.client.get_sale(sale_id, Consistency::Linearizable).await {
                log_index = log_index.max(position.applied_index);
                last_changes.insert(sale_id.clone(), sale.changed_index);
            }
        }
        (log_index, last_changes)
    }

    /// One replica's state at an index, and all its claims.
    async fn replica(&mut self, name: &str, endpoint: &str, log_index: u64) -> Result<Replica, Error> {
        let deadline = self.deadline();
        let cluster = self.client.cluster();
        let hash = loop {
            match cluster.state_hash(endpoint, log_index).await {
                Ok(hash) => break hash,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        };
        self.hashes.push(SeenHash {
            node: name.to_owned(),
            log_index: hash.log_index,
            digest: hash.digest.to_vec(),
            sales_wrong: hash.sales_wrong,
        });
        let mut sales = BTreeMap::new();
        for plan in &self.plan.sales {
            let sale_id = &plan.new.sale_id;
            let (sale, _) = cluster.sale_at(endpoint, sale_id).await?;
            let mut claims = Vec::new();
            loop {
                let from = claims.len() as u32 + 1;
                let page = cluster.claims_at(endpoint, sale_id, from, PAGE).await?;
                let more = page.len() == PAGE as usize;
                claims.extend(page);
                if !more {
                    break;
                }
            }
            let counters = Counters::from(&sale);
            sales.insert(sale_id.clone(), ReplicaSale { counters, claims });
        }
        Ok(Replica {
            node: name.to_owned(),
            sales,
        })
    }

    /// Lets the watchers reach the end, and gives what they saw.
    async fn gather_feeds(&mut self, last_changes: &BTreeMap<String, u64>) -> Vec<SeenFeed> {
        self.last_changes.send_replace(Some(last_changes.clone()));
        let patience = Duration::from_millis(self.bounds.recovery_ms_max);
        let mut feeds = std::mem::take(&mut self.short_feeds);
        for mut watcher in std::mem::take(&mut self.watchers) {
            let seen = match timeout(patience, &mut watcher).await {
                Ok(seen) => seen,
                // What it has not seen by now it will not see.
                Err(_) => {
                    self.last_changes.send_replace(Some(BTreeMap::new()));
                    watcher.await
                }
            };
            feeds.push(seen.expect("a watcher's own mistake"));
        }
        feeds
    }

    /// Tells the history what became of the unknowns; gives the answers whose effects stand elsewhere, and the
    /// unknowns whose effects stand nobody knows where.
    fn tell_effects(
        &self,
        feeds: &[SeenFeed],
        resolved: &HashMap<u64, bool>,
    ) -> (Vec<(u64, Effect)>, Vec<u64>) {
        let recorder = &self.shop.recorder;
        let settled = effects::settled(feeds);
        let places = effects::place(&recorder.finish(), &self.shop.notes().effects, &settled, resolved);
        for effects::Learned { id, effect } in &places.learned {
            let answer = effect.as_ref().map(|effect| Answer {
                idx: Some(effect.idx),
                lt: effect.lt,
                outcome: told(&effect.outcome),
            });
            recorder.resolve(*id, answer);
        }
        (places.moved, places.lost)
    }
}
