//! A light load that goes on whatever happens to the cluster: single callers, each with a pause after a claim.
//!
//! Every outcome is known in the end: one that a call leaves open is resolved by its key before its caller
//! goes on. Everything granted is kept with when it was heard, so that gaps can be told afterwards, and
//! compared with what the replicas have: ranks that are 1, 2, 3 and so on, each heard of once. The highest rank so
//! far is told while it goes on: what is read after that has to show at least as many claims.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use client::{Claim, Client, Error, Grant, Operation, Resolution};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    failure::{Doing, Failure},
    load::Tally,
    names::{CallerNames, Names},
};

/// Callers that with their pauses make some thousand claims a second, so that a gap is told to a millisecond.
pub(super) const GAP_CALLERS: usize = 16;

/// Pause of each after an answer.
const PAUSE: Duration = Duration::from_millis(10);

/// Longest an outcome may stay open, or no grant may be heard: far beyond any failover.
const OUTAGE_MAX: Duration = Duration::from_secs(60);

/// Pause between two looks at what was heard, and between two questions after an outcome.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a load is about, where it fails.
const DOING: &str = "claiming at a light load";

/// A grant that a caller heard of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// When.
    pub at: Instant,
    /// Term of the leader who granted it.
    pub term: u64,
    /// Its rank in the sale.
    pub rank: u32,
}

/// The load, while it goes on.
pub(super) struct PacedClaims {
    heard: Arc<Mutex<Vec<Heard>>>,
    rank_max: Arc<AtomicU32>,
    stopping: Arc<AtomicBool>,
    running: JoinSet<Result<(), Failure>>,
}

impl PacedClaims {
    /// Begins to claim in a sale that nobody else claims in.
    pub fn start(callers: usize, client: &Client, sale_id: &str, names: Names) -> PacedClaims {
        let mut load = PacedClaims {
            heard: Arc::default(),
            rank_max: Arc::default(),
            stopping: Arc::default(),
            running: JoinSet::new(),
        };
        for caller in 0..callers {
            let caller = Caller {
                client: client.clone(),
                sale_id: sale_id.to_owned(),
                names: names.of_caller(caller),
                heard: load.heard.clone(),
                rank_max: load.rank_max.clone(),
                stopping: load.stopping.clone(),
            };
            load.running.spawn(caller.claim());
        }
        load
    }

    /// The highest rank that a caller has heard of, kept up to date.
    pub fn rank_max(&self) -> Arc<AtomicU32> {
        self.rank_max.clone()
    }

    /// The grants that are heard of, kept up to date. For a load of one caller, who hears of them in order.
    pub fn grants(&self) -> Grants {
        Grants(self.heard.clone())
    }

    /// Everything heard so far.
    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("nobody panics while pushing").clone()
    }

    /// When the first grant of a leader after this term's was heard; waits for it.
    ///
    /// # Errors
    /// None was in time.
    pub async fn first_after(&self, term: u64) -> Result<Instant, Failure> {
        let deadline = Instant::now() + OUTAGE_MAX;
        loop {
            let newer = self.heard().into_iter().filter(|heard| heard.term > term);
            if let Some(first) = newer.map(|heard| heard.at).min() {
                return Ok(first);
            }
            if Instant::now() > deadline {
                let why = format!("no grant of a term after {term} in {OUTAGE_MAX:?}");
                return Err(Failure::new(DOING, why));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The longest time without a grant that has to do with this one.
    pub fn longest_gap(&self, within: Range<Instant>) -> Duration {
        longest_gap(self.heard().into_iter().map(|heard| heard.at).collect(), within)
    }

    /// Ends it, and says how many claims there are when none was lost and none was made that nobody heard of.
    ///
    /// # Errors
    /// A caller failed, or two heard of one rank, or a rank is missing.
    pub async fn stop(mut self) -> Result<Tally, Failure> {
        self.stopping.store(true, Ordering::Relaxed);
        while let Some(ended) = self.running.join_next().await {
            ended.doing(DOING)??;
        }
        let granted = gapless(self.heard().into_iter().map(|heard| heard.rank).collect())?;
        Ok(Tally {
            granted,
            ..Tally::default()
        })
    }
}

/// The grants that one caller has heard of.
#[derive(Clone)]
pub(super) struct Grants(Arc<Mutex<Vec<Heard>>>);

impl Grants {
    /// The highest rank that he had heard of by then; zero: of none.
    pub fn rank_by(&self, then: Instant) -> u32 {
        let heard = self.0.lock().expect("nobody panics while pushing");
        let known = heard.partition_point(|heard| heard.at <= then);
        heard[..known].last().map_or(0, |last| last.rank)
    }
}

/// Who claims one at a time.
struct Caller {
    client: Client,
    sale_id: String,
    names: CallerNames,
    heard: Arc<Mutex<Vec<Heard>>>,
    rank_max: Arc<AtomicU32>,
    stopping: Arc<AtomicBool>,
}

impl Caller {
    async fn claim(mut self) -> Result<(), Failure> {
        while !self.stopping.load(Ordering::Relaxed) {
            let Some((user, key)) = self.names.next() else {
                break;
            };
            if let Some(claim) = self.outcome(&user, &key).await? {
                let at = Instant::now();
                self.rank_max.fetch_max(claim.rank, Ordering::Release);
                self.heard
                    .lock()
                    .expect("nobody panics while pushing")
                    .push(Heard {
                        at,
                        term: claim.receipt.term,
                        rank: claim.rank,
                    });
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// The claim that was made, or `None` if none was and none will be.
    async fn outcome(&self, user: &str, key: &str) -> Result<Option<Claim>, Failure> {
        match self
            .client
            .claim(self.sale_id.as_str(), user)
            .key(key)
            .send()
            .await
        {
            Ok(claimed) if matches!(claimed.grant, Grant::Granted | Grant::Repeated) => {
                Ok(Some(claimed.claim))
            }
            Ok(claimed) => Err(Failure::new(
                DOING,
                format!("a new user was answered {:?}", claimed.grant),
            )),
            // Never proposed.
            Err(Error::Unavailable { .. }) => Ok(None),
            Err(Error::Unknown { .. }) => self.resolve(user, key).await,
            Err(error) => Err(Failure::new(DOING, error.to_string())),
        }
    }

    /// What became of a claim, which nothing can become of any more afterwards.
    async fn resolve(&self, user: &str, key: &str) -> Result<Option<Claim>, Failure> {
        const RESOLVING: &str = "resolving a claim";
        let deadline = Instant::now() + OUTAGE_MAX;
        loop {
            let resolved = self.client.resolve(&self.sale_id, Operation::Claim, key, user);
            match resolved.await {
                Ok((Resolution::Claim(claim), _)) => return Ok(Some(claim)),
                Ok((Resolution::Abandoned { .. }, _)) => return Ok(None),
                Ok((effect @ Resolution::Effect(_), _)) => {
                    return Err(Failure::new(
                        RESOLVING,
                        format!("it had another effect: {effect:?}"),
                    ));
                }
                Err(Error::Unavailable { .. }) if Instant::now() < deadline => sleep(LOOK_EVERY).await,
                Err(error) => return Err(Failure::new(RESOLVING, error.to_string())),
            }
        }
    }
}

/// The longest time between two neighbours, of those times that have a part in the range.
fn longest_gap(mut grants: Vec<Instant>, within: Range<Instant>) -> Duration {
    grants.sort_unstable();
    let gaps = grants.windows(2).filter_map(|pair| {
        let overlaps = pair[1] > within.start && pair[0] < within.end;
        overlaps.then(|| pair[1] - pair[0])
    });
    gaps.max().unwrap_or_default()
}

/// How many ranks there are, when they are 1 to that, each once.
fn gapless(mut ranks: Vec<u32>) -> Result<u64, Failure> {
    ranks.sort_unstable();
    match (1..).zip(&ranks).find(|(rank, heard)| rank != *heard) {
        None => Ok(ranks.len() as u64),
        Some((rank, heard)) => Err(Failure::new(
            "adding up the grants",
            format!("where rank {rank} should have been heard of once, there is {heard}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_one_that_reaches_into_the_range() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        // Longer ones before and after it do not count; in what order they were noted does not matter.
        let grants = || [500, 0, 900, 100, 130, 140, 300, 310].map(at).to_vec();
        let gap = |from, to| longest_gap(grants(), at(from)..at(to)).as_millis();
        assert_eq!(gap(105, 139), 30);
        assert_eq!(gap(135, 150), 160, "it begins in the range");
        assert_eq!(gap(290, 305), 160, "it ends in the range");
        assert_eq!(gap(200, 210), 160, "it spans the range");
        assert_eq!(gap(950, 990), 0, "nothing is known after the last");
    }

    #[test]
    fn what_was_known_at_a_time_is_the_last_rank_heard_by_then() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let heard = [(10, 1), (20, 2), (30, 3)].map(|(ms, rank)| Heard {
            at: at(ms),
            term: 1,
            rank,
        });
        let grants = Grants(Arc::new(Mutex::new(heard.to_vec())));
        let known = [5, 10, 29, 100].map(|ms| grants.rank_by(at(ms)));
        assert_eq!(known, [0, 1, 2, 3]);
    }

    #[test]
    fn ranks_are_complete_or_something_was_lost() {
        assert_eq!(gapless(vec![3, 1, 2]), Ok(3));
        assert_eq!(gapless(vec![]), Ok(0));
        for wrong in [vec![1, 3], vec![1, 2, 2], vec![2, 3], vec![1, 1, 2, 4]] {
            assert!(gapless(wrong).is_err());
        }
    }
}
