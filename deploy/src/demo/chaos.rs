//! Chaos: for as long as asked, SIGKILL at random to every kind of process, while shoppers come and pay.
//!
//! Nodes, doors and provider are struck independently of each other, so that they also fall together: any number of
//! a kind at a time, up to all of it. What was killed comes back after a random while, where it was; what does not
//! come back is a failure. Meanwhile the checkouts that are open in the store are watched: none may stay for longer
//! than a shopper's budget and a minute.
//!
//! It is a mode of the demo and no workload of the campaigns, because everything it needs is here: doors and
//! provider as processes, shoppers who pay and keep a journal, and a verdict that knows money.
//!
//! Left out: power cuts. The provider writes its journal without syncing it, which outlives its process and no more.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use api::CheckoutOptions;
use client::{Client, Consistency};
use futures::future::try_join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use tokio::time::sleep;

use super::{
    Fleet, SALE,
    live::Live,
    money::OPEN_CHECKOUTS,
    processes::Process,
    verdict::{Chaos, Kills},
};
use crate::exit::Failure;

/// Shoppers who come each second when nobody says how many: two cores do this with half of their time, so that what
/// is killed finds work under way and what comes back can catch up.
pub const USERS_PER_SECOND: u64 = 40;

/// Holds: longer than the provider stays away, or shoppers would do nothing but claim again.
pub const HOLD: Duration = Duration::from_secs(20);

/// Claims that the sale may make for each unit: whoever cannot pay while his hold lasts claims again.
pub const CLAIMS_PER_UNIT: u32 = 50;

/// How long a kind of process is left in peace between two strikes, in ms: elections and restarts take most of a
/// second, and some work must be done in between to be interrupted.
const PEACE_MS: std::ops::Range<u64> = 2_000..8_000;

/// How long the killed stay away, in ms: from a restart at once to longer than an election.
const AWAY_MS: std::ops::Range<u64> = 50..3_000;

/// How long a checkout may stay open beyond a shopper's budget.
const OPEN_BEYOND_BUDGET: Duration = Duration::from_secs(60);

/// How often the open checkouts are listed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Longest until every hold has ended once all is calm: the longest hold there is, and a margin.
const CALM_MAX: Duration = Duration::from_secs(60);

/// Documents asked for in one call.
const PAGE: u32 = 1_000;

/// A loopback address for this fleet alone, where the system has more than one.
///
/// Whoever is killed comes back at its old port. At 127.0.0.1 that port may meanwhile be the near end of somebody's
/// connection; at an address that nobody connects from it cannot.
pub fn host(random: &mut impl RngExt) -> String {
    if !cfg!(target_os = "linux") {
        return "127.0.0.1".into();
    }
    let [a, b, c] = [(); 3].map(|()| random.random_range(1..=254_u8));
    format!("127.{a}.{b}.{c}")
}

/// Strikes until the time is over; then everything runs again.
pub async fn strike(
    fleet: &mut Fleet,
    seed: u64,
    length: Duration,
    live: &Live,
) -> Result<[Kills; 3], Failure> {
    let began = Instant::now();
    let of = |kind: u64| StdRng::seed_from_u64(seed ^ kind.rotate_left(56));
    let [nodes, doors, provider] = tokio::try_join!(
        strikes("node", &mut fleet.nodes, of(1), began, length, live),
        strikes("door", &mut fleet.doors, of(2), began, length, live),
        strikes("psp", fleet.provider.as_mut_slice(), of(3), began, length, live),
    )
    .map(|(nodes, doors, provider)| [nodes, doors, provider])?;
    live.say("  everything runs again; what is open is being finished");
    Ok([nodes, doors, provider])
}

/// Strikes one kind of process.
async fn strikes(
    kind: &str,
    processes: &mut [Process],
    mut random: StdRng,
    began: Instant,
    length: Duration,
    live: &Live,
) -> Result<Kills, Failure> {
    let mut kills = Kills::default();
    loop {
        sleep(Duration::from_millis(random.random_range(PEACE_MS))).await;
        if began.elapsed() >= length {
            return Ok(kills);
        }
        // All of them first, so that no chaos is too short to have done that.
        let least = if kills.all_at_once == 0 {
            processes.len()
        } else {
            1
        };
        let count = random.random_range(least..=processes.len());
        let mut order: Vec<usize> = (0..processes.len()).collect();
        order.shuffle(&mut random);
        let struck = &order[..count];
        let at = began.elapsed();
        let mut victims: Vec<&mut Process> = (0..)
            .zip(&mut *processes)
            .filter_map(|(place, process)| struck.contains(&place).then_some(process))
            .collect();
        try_join_all(victims.iter_mut().map(|victim| victim.kill())).await?;
        kills.processes += count as u32;
        kills.all_at_once += u32::from(count == order.len());
        sleep(Duration::from_millis(random.random_range(AWAY_MS))).await;
        try_join_all(victims.iter_mut().map(|victim| victim.restart())).await?;
        let names: Vec<String> = struck.iter().map(|place| (place + 1).to_string()).collect();
        live.say(&format!(
            "  {:>5.1} s  {kind} {} killed, back {:.1} s later",
            at.as_secs_f64(),
            names.join(" + "),
            (began.elapsed() - at).as_secs_f64()
        ));
    }
}

/// How long checkouts were open, by a clock that does not stop with the cluster's.
#[derive(Default)]
pub struct OpenCheckouts {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    since: HashMap<Vec<u8>, Instant>,
    longest: Duration,
}

impl OpenCheckouts {
    /// Looks until dropped. While the store cannot be asked, whoever was open counts as open.
    pub async fn watch(&self, client: &Client) {
        loop {
            if let Ok(open) = list(client).await {
                self.saw(open, Instant::now());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn saw(&self, open: Vec<Vec<u8>>, now: Instant) {
        let mut seen = self.seen.lock().expect("nobody panics while looking");
        let before = std::mem::take(&mut seen.since);
        for key in open {
            let since = before.get(&key).copied().unwrap_or(now);
            seen.longest = seen.longest.max(now - since);
            seen.since.insert(key, since);
        }
        // What is gone was there until now, for all we know.
        for (key, since) in before {
            if !seen.since.contains_key(&key) {
                seen.longest = seen.longest.max(now - since);
            }
        }
    }

    /// What the verdict is told.
    pub fn told(&self, [nodes, doors, provider]: [Kills; 3]) -> Chaos {
        let budget = Duration::from_millis(CheckoutOptions::default().budget_ms_max);
        Chaos {
            nodes,
            doors,
            provider,
            open_longest: self.seen.lock().expect("nobody panics while looking").longest,
            open_max: budget + OPEN_BEYOND_BUDGET,
        }
    }
}

/// Keys of the attempts that are open: a claim's next attempt is another one.
async fn list(client: &Client) -> Result<Vec<Vec<u8>>, client::Error> {
    #[derive(serde::Deserialize)]
    struct Attempt {
        attempt: u32,
    }
    let (mut open, mut after) = (Vec::new(), Vec::new());
    loop {
        let page = client
            .list_documents(OPEN_CHECKOUTS, after, PAGE, Consistency::Linearizable)
            .await?;
        for found in &page.documents {
            let attempt = serde_json::from_slice(&found.body).map_or(0, |Attempt { attempt }| attempt);
            open.push([&found.key[..], &attempt.to_be_bytes()].concat());
        }
        match page.documents.last() {
            Some(last) if page.more => after = last.key.to_vec(),
            _ => return Ok(open),
        }
    }
}

/// Waits until nothing changes by itself any more: every checkout decided, every hold over.
pub async fn calm(client: &Client) -> Result<(), Failure> {
    super::money::settled(client).await?;
    let deadline = Instant::now() + CALM_MAX;
    loop {
        let (sale, _) = client
            .get_sale(SALE, Consistency::Linearizable)
            .await
            .map_err(|error| Failure::Failed(format!("read the sale: {error}")))?;
        if sale.units_held == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::Violated(format!(
                "{} units are held still after {} s",
                sale.units_held,
                CALM_MAX.as_secs()
            )));
        }
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_is_open_from_the_first_look_to_the_one_that_misses_it() {
        let open = OpenCheckouts::default();
        let (began, key) = (Instant::now(), |name: &str| name.as_bytes().to_vec());
        let at = |seconds| began + Duration::from_secs(seconds);
        open.saw(vec![key("a"), key("b")], at(0));
        open.saw(vec![key("b"), key("c")], at(3));
        open.saw(vec![key("c"), key("a")], at(7));
        open.saw(vec![key("a")], at(9));
        let told = open.told([Kills::default(); 3]);
        assert_eq!(
            told.open_longest,
            Duration::from_secs(7),
            "b, seen at 0 and missed at 7"
        );
        open.saw(vec![key("a")], at(20));
        assert_eq!(
            open.told([Kills::default(); 3]).open_longest,
            Duration::from_secs(13),
            "a is open still, the second time since 7"
        );
    }

    #[test]
    fn a_fleet_has_an_address_of_its_own() {
        let host = host(&mut StdRng::seed_from_u64(1));
        let address: std::net::Ipv4Addr = host.parse().unwrap();
        assert!(address.is_loopback());
        assert!(cfg!(not(target_os = "linux")) || host != "127.0.0.1");
    }
}
