//! The crowd: shoppers who arrive, claim, think, pay or walk away, and come back while there is hope.
//!
//! Each shopper is a task with random numbers of its own, drawn from the demo's seed. One shopper has one
//! idempotency key for claiming, kept over every refusal, silence and unknown outcome, because a key makes
//! at most one claim. He takes a new key only when the old one is spent for certain: its hold ran out before
//! it was paid, or the store says that it was given up without effect.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use api::Role;
use hdrhistogram::Histogram;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    door::Doors,
    journal::{Answer, Journal, Step, Told},
};
use crate::exit::Failure;

/// Shoppers' HTTP requests under way at one time.
pub const CALLERS_MAX: usize = 256;

/// Payments under way at one time. They do not queue behind claims, or on a slow machine holds would run out
/// in that queue and nothing would ever be sold.
pub const PAYERS_MAX: usize = 128;

/// The card everybody has; whether it is good today, the provider draws.
const CARD: &str = "pm_card_visa";

/// Time over which the crowd builds up: slowly at first, so that the leader is killed in the middle of it.
const ARRIVAL: Duration = Duration::from_secs(4);

/// Shoppers out of a hundred who never pay.
const ABANDON_PERCENT: u32 = 30;

/// How long a shopper takes to find his card, in ms; always within the hold.
const THINK_MS: Range<u64> = 100..1_500;

/// Longest a shopper waits for units to return before he looks again.
const PATIENCE_MAX: Duration = Duration::from_secs(3);

/// How late a shopper comes back after units were due to return, in ms: people are not clocks.
const RETURN_MS: Range<u64> = 50..1_000;

/// How long he watches "please wait" before he looks again, in ms.
const LOOK_MS: Range<u64> = 200..500;

/// Wait after no answer came, in ms.
const SILENCE_MS: Range<u64> = 100..400;

/// Latencies are kept up to this, in µs; longer ones count as this.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Seconds for which the demo's tokens are good: longer than anybody keeps it open.
pub const TOKEN_S: u64 = 24 * 60 * 60;

/// A number of acknowledged grants, signalled when it is reached.
pub struct Mark {
    grants: u64,
    reached: Notify,
}

impl Mark {
    fn new(grants: u64) -> Mark {
        Mark {
            grants,
            reached: Notify::new(),
        }
    }

    /// Waits until so many grants are acknowledged. For one to wait.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }
}

/// What the live line and the killers look at.
pub struct Tally {
    /// Claims answered, granted or refused.
    pub answered: AtomicU64,
    /// Grants acknowledged.
    pub granted: AtomicU64,
    /// When to kill the leader.
    pub leader_strike: Mark,
    /// When to kill a door.
    pub door_strike: Mark,
    latency_us: Mutex<Histogram<u64>>,
}

impl Tally {
    /// A tally that signals two numbers of grants.
    pub fn new(leader_strike: u64, door_strike: u64) -> Tally {
        Tally {
            answered: AtomicU64::new(0),
            granted: AtomicU64::new(0),
            leader_strike: Mark::new(leader_strike),
            door_strike: Mark::new(door_strike),
            latency_us: Mutex::new(
                Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are constants"),
            ),
        }
    }

    /// Median and 99th percentile of claims over HTTP so far, in ms.
    pub fn latency_ms(&self) -> (f64, f64) {
        let latency = self.latency_us.lock().expect("nobody panics while recording");
        let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1_000.0;
        (ms(0.5), ms(0.99))
    }

    fn answer(&self, took: Duration, answer: &Answer) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency_us
            .lock()
            .expect("nobody panics while recording")
            .saturating_record(us);
        match answer {
            Answer::Claim(_) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                let granted = self.granted.fetch_add(1, Ordering::Relaxed) + 1;
                for mark in [&self.leader_strike, &self.door_strike] {
                    if granted == mark.grants {
                        mark.reached.notify_one();
                    }
                }
            }
            Answer::SoldOut { .. } => {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// Everything the shoppers share.
pub struct Crowd {
    /// Where they knock.
    pub doors: Doors,
    /// Where their answers are written.
    pub journal: Journal,
    /// What is counted on the way.
    pub tally: Arc<Tally>,
    /// Signs their tokens.
    pub secret: Vec<u8>,
    /// Draws every choice.
    pub seed: u64,
    /// At most so many claims at a time.
    pub gate: Semaphore,
    /// At most so many payments at a time.
    pub payers: Semaphore,
}

/// When this share of the crowd has arrived: the square root makes a crowd that grows, with arrivals per second that
/// rise with time.
pub fn growing(share: f64) -> Duration {
    ARRIVAL.mul_f64(share.sqrt())
}

/// Runs a crowd of these users; ends when everybody has a unit, walked away, or was told that nothing will return.
/// `arrival` says how long after the opening a share of them, from 0 to 1, has come.
pub async fn run(
    crowd: &Arc<Crowd>,
    users: Range<u32>,
    arrival: impl Fn(f64) -> Duration,
) -> Result<(), Failure> {
    let opened = Instant::now();
    let mut shoppers = JoinSet::new();
    let count = f64::from(users.end - users.start);
    for (place, user) in (0_u32..).zip(users) {
        let crowd = Arc::clone(crowd);
        let arrival = opened + arrival(f64::from(place) / count);
        shoppers.spawn(async move { Shopper::new(&crowd, user).visit(arrival).await });
    }
    while let Some(ended) = shoppers.join_next().await {
        ended.map_err(|error| Failure::Failed(format!("a shopper's task failed: {error}")))??;
    }
    Ok(())
}

struct Shopper<'a> {
    crowd: &'a Crowd,
    user: u32,
    /// His `Authorization` header.
    token: String,
    /// The door he knocks at; another one after no answer came.
    door: usize,
    random: StdRng,
}

/// How claiming ended.
enum Claimed {
    Held(Told),
    /// Not with this key: it had no effect and never will.
    Spent,
    /// Nothing will return.
    Never,
}

impl<'a> Shopper<'a> {
    fn new(crowd: &'a Crowd, user: u32) -> Self {
        let random = StdRng::seed_from_u64(crowd.seed ^ (u64::from(user) << 32));
        Shopper {
            crowd,
            user,
            token: bearer(&crowd.secret, &format!("shopper-{user}"), Role::Shopper),
            door: user as usize,
            random,
        }
    }

    async fn visit(mut self, arrival: Instant) -> Result<(), Failure> {
        sleep_until(arrival).await;
        let abandons = self.random.random_ratio(ABANDON_PERCENT, 100);
        for attempt in 1_u32.. {
            let key = format!("s{}-u{}-claim-{attempt}", self.crowd.seed, self.user);
            let claim = match self.claim(&key).await? {
                Claimed::Held(claim) => claim,
                Claimed::Spent => continue,
                Claimed::Never => return Ok(()),
            };
            if abandons {
                return Ok(());
            }
            self.wait(THINK_MS).await;
            if self.pay(attempt, &claim).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn claim(&mut self, key: &str) -> Result<Claimed, Failure> {
        loop {
            let crowd = self.crowd;
            let answer = {
                let _turn = crowd.gate.acquire().await.map_err(|_| closed())?;
                let asked = Instant::now();
                let (status, answer) = crowd.doors.claim(self.door, &self.token, key).await;
                crowd.tally.answer(asked.elapsed(), &answer);
                crowd
                    .journal
                    .add(self.user, Step::Claim, key, status, answer.clone());
                answer
            };
            match answer {
                Answer::Claim(told) => return Ok(Claimed::Held(told)),
                Answer::Fenced => return Ok(Claimed::Spent),
                Answer::SoldOut { more_until: None } => return Ok(Claimed::Never),
                Answer::SoldOut {
                    more_until: Some(until),
                } => {
                    sleep(time_until(&until).min(PATIENCE_MAX)).await;
                    self.wait(RETURN_MS).await;
                }
                other => self.wait_after(&other, "claim").await?,
            }
        }
    }

    /// Whether the claim is paid for; if not, its hold is over. After a decline he tries again under a new
    /// key; in every doubt he repeats the old one.
    async fn pay(&mut self, attempt: u32, claim: &Told) -> Result<bool, Failure> {
        for card in 1_u32.. {
            let key = format!("s{}-u{}-pay-{attempt}-{card}", self.crowd.seed, self.user);
            loop {
                match self.settled(&key, claim).await? {
                    Answer::Paid(_) => return Ok(true),
                    Answer::Gone => return Ok(false),
                    Answer::Declined => break,
                    other => self.wait_after(&other, "checkout").await?,
                }
            }
            self.wait(THINK_MS).await;
        }
        Ok(false)
    }

    /// Asks to pay, and looks until that is decided.
    async fn settled(&mut self, key: &str, claim: &Told) -> Result<Answer, Failure> {
        let crowd = self.crowd;
        let mut answer = {
            let _turn = crowd.payers.acquire().await.map_err(|_| closed())?;
            let (status, answer) = crowd
                .doors
                .pay(self.door, &self.token, key, &claim.claim_id, CARD)
                .await;
            crowd
                .journal
                .add(self.user, Step::Pay, key, status, answer.clone());
            answer
        };
        while let Answer::Pending { next_action_url } = &answer {
            if let Some(url) = next_action_url {
                crowd.doors.see_bank(url).await;
            }
            self.wait(LOOK_MS).await;
            let (status, seen) = crowd.doors.look(self.door, &self.token, &claim.claim_id).await;
            crowd
                .journal
                .add(self.user, Step::Look, key, status, seen.clone());
            answer = seen;
        }
        Ok(answer)
    }

    /// Waits before the same key is sent again. An answer that no shopper should get ends the demo.
    async fn wait_after(&mut self, answer: &Answer, step: &str) -> Result<(), Failure> {
        match answer {
            Answer::Unknown { retry_after_s } | Answer::Later { retry_after_s } => {
                sleep(Duration::from_secs(*retry_after_s)).await;
                self.wait(SILENCE_MS).await;
                Ok(())
            }
            Answer::Silence { .. } => {
                self.door += 1;
                self.wait(SILENCE_MS).await;
                Ok(())
            }
            odd => Err(Failure::Failed(format!(
                "shopper {}: unexpected answer to a {step}: {odd:?}",
                self.user
            ))),
        }
    }

    async fn wait(&mut self, range_ms: Range<u64>) {
        let ms = self.random.random_range(range_ms);
        sleep(Duration::from_millis(ms)).await;
    }
}

fn closed() -> Failure {
    Failure::Failed("the crowd was sent home".into())
}

/// An `Authorization` header for a user.
pub fn bearer(secret: &[u8], user: &str, role: Role) -> String {
    let now_s = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    format!("Bearer {}", api::mint_hs256(secret, user, role, now_s + TOKEN_S))
}

/// How long until a time of day; zero when it is past or unreadable.
fn time_until(time: &str) -> Duration {
    humantime::parse_rfc3339(time)
        .ok()
        .and_then(|time| time.duration_since(SystemTime::now()).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_past_or_odd_is_no_wait() {
        assert_eq!(time_until("2001-01-01T00:00:00Z"), Duration::ZERO);
        assert_eq!(time_until("soon"), Duration::ZERO);
        assert!(time_until("2200-01-01T00:00:00Z") > Duration::from_secs(3_600));
    }

    #[tokio::test]
    async fn a_strike_is_signalled_once_it_is_due() {
        let tally = Tally::new(2, 9);
        let granted = Answer::Claim(Told {
            claim_id: "c".into(),
            status: "held".into(),
            quantity: 1,
            rank: 1,
            fencing_token: 1,
            receipt: super::super::journal::ToldReceipt {
                log_index: 1,
                position: 0,
                term: 1,
                log_time_ms: 0,
            },
        });
        tally.answer(Duration::from_millis(3), &granted);
        tally.answer(Duration::from_millis(3), &Answer::SoldOut { more_until: None });
        assert_eq!(tally.granted.load(Ordering::Relaxed), 1);
        tally.answer(Duration::from_millis(5), &granted);
        tally.leader_strike.reached().await;
        assert_eq!(tally.answered.load(Ordering::Relaxed), 3);
        let (p50, p99) = tally.latency_ms();
        assert!(
            (2.9..3.1).contains(&p50) && (4.9..5.1).contains(&p99),
            "{p50} {p99}"
        );
    }
}
