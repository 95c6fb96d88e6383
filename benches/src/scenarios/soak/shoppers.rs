//! The callers of the soak: each makes the calls of its load in turn, at a fixed rate.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use client::{Client, Consistency, Error, Grant};
use hdrhistogram::Histogram;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{super::callers::SingleClaims, Bench, DOING};
use crate::{
    failure::{Doing, Failure},
    load::{Tally, exhaust, histogram},
    names::CallerNames,
    scenarios::callers::{BulkClaims, Held},
};

/// Calls a second, of all callers: a load that leaves two cores room for what else they do.
const RATE: u32 = 2_000;

/// Callers, each with one call at a time: one that is answered late is behind with the next.
const CALLERS: u32 = 32;

/// Calls of a round; one of them claims where claims are made.
const ROUND: u32 = 4;

/// Claims that each caller knows, and asks for again.
const KNOWN_CLAIMS: usize = 100;

pub(super) const HELD_SALE: &str = "soak";
pub(super) const SOLD_OUT_SALE: &str = "soak-sold-out";
pub(super) const KNOWN_SALE: &str = "soak-known";

/// What callers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Claims and what becomes of them, refusals, known keys, reads.
    Mixed,
    /// Nothing that leaves anything.
    Steady,
}

/// Claims that are made at most in so long, with room for a caller who makes up for lost time.
pub(super) fn claims_max(length: Duration) -> u32 {
    let rounds = length.as_secs_f64() * f64::from(RATE / ROUND);
    rounds as u32 + RATE
}

/// Claims that were made before, whose checkout has begun: to ask for again.
pub(super) struct Known {
    /// For each caller, with the names that they were made with.
    claims: Vec<Vec<((String, String), Held)>>,
    pub told: Tally,
}

impl Known {
    pub async fn make(bench: &mut Bench<'_>) -> Result<Known, Failure> {
        let (client, names) = (bench.cluster.client().clone(), bench.names());
        let count = CALLERS * KNOWN_CLAIMS as u32;
        bench.cluster.create_sale(KNOWN_SALE, count).await?;
        let names_of = |caller: usize| names.of_caller(caller).take(KNOWN_CLAIMS);
        let (mut told, mut claims) = (Tally::default(), Vec::new());
        for caller in 0..CALLERS as usize {
            let claiming = BulkClaims::new(client.clone(), KNOWN_SALE, names_of(caller)).keeping();
            let (tally, mut callers) = exhaust(vec![claiming]).await;
            tally.all_answered(DOING)?;
            told.add(tally);
            let held = callers.pop().map(BulkClaims::into_kept).unwrap_or_default();
            let known: Vec<_> = names_of(caller).zip(held).collect();
            for ((_, key), held) in &known {
                extend(&client, key, held).await.doing("beginning a checkout")?;
            }
            claims.push(known);
        }
        Ok(Known { claims, told })
    }
}

/// Begins a checkout, or hears that it began, by the key of its claim.
async fn extend(client: &Client, key: &str, held: &Held) -> Result<(), Error> {
    let extend = client.extend(held.claim_id.as_str(), held.fencing_token);
    extend.key(format!("{key}.x")).send().await.map(drop)
}

/// The load, while it goes on.
pub(super) struct Shoppers {
    shared: Arc<Shared>,
    running: JoinSet<Tally>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    failed: Mutex<Option<Failure>>,
    latency_us: Mutex<Option<Histogram<u64>>>,
}

impl Shoppers {
    /// Begins a load.
    pub fn start(bench: &mut Bench<'_>, load: Load, known: &Known) -> Shoppers {
        let (shared, names) = (Arc::<Shared>::default(), bench.names());
        let (period, begin) = (Duration::from_secs(1) * CALLERS / RATE, Instant::now());
        let mut running = JoinSet::new();
        for (number, known) in (0..CALLERS).zip(&known.claims) {
            let shopper = Shopper {
                client: bench.cluster.client().clone(),
                load,
                names: names.of_caller(number as usize),
                known: known.clone(),
                held: None,
                shared: shared.clone(),
            };
            // One behind the other, and not all at one time.
            running.spawn(shopper.shop(begin + period * number / CALLERS, period));
        }
        Shoppers { shared, running }
    }

    /// Latency of the calls since it was last taken.
    pub fn take_latency(&self) -> Histogram<u64> {
        let mut latency_us = self.shared.latency_us.lock().expect("nobody panics while noting");
        latency_us.take().unwrap_or_else(histogram)
    }

    /// Fails when a call has failed: there is no use in waiting for the end.
    pub fn still_calling(&self) -> Result<(), Failure> {
        let failed = self.shared.failed.lock().expect("nobody panics while noting");
        failed.clone().map_or(Ok(()), Err)
    }

    /// Ends it. Gives what callers were told.
    pub async fn stop(mut self) -> Result<Tally, Failure> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let mut told = Tally::default();
        while let Some(ended) = self.running.join_next().await {
            told.add(ended.doing(DOING)?);
        }
        told.all_answered(DOING)?;
        Ok(told)
    }
}

/// One caller.
struct Shopper {
    client: Client,
    load: Load,
    names: CallerNames,
    known: Vec<((String, String), Held)>,
    /// What it claimed last, under the key, and has not settled.
    held: Option<(String, Held)>,
    shared: Arc<Shared>,
}

impl Shopper {
    async fn shop(mut self, mut due: Instant, period: Duration) -> Tally {
        let mut told = Tally::default();
        let mut call = 0;
        while !self.shared.stopping.load(Ordering::Relaxed) && told.failed + told.unknown == 0 {
            sleep_until(due).await;
            let tally = self.call(call).await;
            self.shared.note(due.elapsed(), &tally);
            told.add(tally);
            call += 1;
            due += period;
        }
        told
    }

    /// The next call of its load.
    async fn call(&mut self, call: usize) -> Tally {
        let (place, round) = (call % ROUND as usize, call / ROUND as usize);
        let (known, held) = &self.known[round % self.known.len()];
        match (self.load, place) {
            (Load::Mixed, 0) => self.claim().await,
            (Load::Mixed, 1) => match self.held.take() {
                Some((key, held)) => self.settle(round, key, held).await,
                None => self.read(Consistency::Local).await,
            },
            (Load::Steady, 0) => told(extend(&self.client, &known.1, held).await, |tally| {
                tally.repeated = 1
            }),
            (Load::Steady, 1) => self.claim_again(known.clone()).await,
            (_, 2) => match self.names.next() {
                Some(name) => {
                    let tally = SingleClaims::claim(&self.client, SOLD_OUT_SALE, name).await;
                    nothing_else(tally, |tally| tally.sold_out)
                }
                None => Tally::default(),
            },
            _ if round.is_multiple_of(2) => self.claim_again(known.clone()).await,
            _ if round % 4 == 1 => self.read(Consistency::Local).await,
            _ => self.read(Consistency::Linearizable).await,
        }
    }

    async fn claim(&mut self) -> Tally {
        let mut tally = Tally::default();
        let Some((user, key)) = self.names.next() else {
            return tally;
        };
        match self.client.claim(HELD_SALE, user).key(&*key).send().await {
            Ok(claimed) if claimed.grant == Grant::Granted => {
                tally.granted = 1;
                let held = Held {
                    claim_id: claimed.claim.claim_id,
                    fencing_token: claimed.claim.fencing_token,
                };
                self.held = Some((key, held));
            }
            Ok(claimed) => tally.fail(|| format!("a new user was answered {:?}", claimed.grant)),
            Err(error) => tally.fail(|| format!("a claim failed: {error}")),
        }
        tally
    }

    /// Confirms one in three, releases one, and leaves one to expire, looking at the sale instead.
    async fn settle(&self, round: usize, key: String, held: Held) -> Tally {
        let (client, key) = (&self.client, format!("{key}.s"));
        match round % 3 {
            0 => {
                let confirm = client.confirm(held.claim_id, held.fencing_token).key(key);
                told(confirm.send().await, |tally| tally.confirmed = 1)
            }
            1 => {
                let release = client.release(held.claim_id, held.fencing_token).key(key);
                told(release.send().await, |tally| tally.released = 1)
            }
            _ => self.read(Consistency::Linearizable).await,
        }
    }

    async fn claim_again(&self, known: (String, String)) -> Tally {
        let tally = SingleClaims::claim(&self.client, KNOWN_SALE, known).await;
        nothing_else(tally, |tally| tally.repeated)
    }

    async fn read(&self, consistency: Consistency) -> Tally {
        let read = self.client.get_sale(HELD_SALE, consistency).await;
        told(read, |tally| tally.read = 1)
    }
}

impl Shared {
    fn note(&self, latency: Duration, tally: &Tally) {
        if let Err(failure) = tally.all_answered(DOING) {
            *self.failed.lock().expect("nobody panics while noting") = Some(failure);
        }
        let mut latency_us = self.latency_us.lock().expect("nobody panics while noting");
        let latency_us = latency_us.get_or_insert_with(histogram);
        latency_us.saturating_record(latency.as_micros() as u64);
    }
}

/// The same, which is a failure when the one call had another answer than this.
fn nothing_else(mut tally: Tally, answer: fn(&Tally) -> u64) -> Tally {
    if answer(&tally) == 0 {
        let why = format!("a call had another answer: {tally:?}");
        tally.fail(|| why);
    }
    tally
}

/// A tally of one call.
fn told<T>(answer: Result<T, Error>, count: impl FnOnce(&mut Tally)) -> Tally {
    let mut tally = Tally::default();
    match answer {
        Ok(_) => count(&mut tally),
        Err(error) => tally.fail(|| error.to_string()),
    }
    tally
}
