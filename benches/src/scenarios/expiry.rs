//! Expiry: a million holds that end as fast as they were made, while single callers claim in another sale.
//!
//! The latency of those callers is measured before the wave and during it. In the sale that the units come back
//! to, one caller reads and claims in turn: while a linearizable read shows units, and nobody else claims, it must
//! not be told that the sale is sold out. Afterwards all units are back but those that this caller was granted.
//!
//! How long the holds are is chosen when the sale is made: long enough for all of them to be made first.

use std::time::Duration;

use client::{Client, Consistency, Position, Sale};
use tokio::time::{Instant, sleep};

use super::{Bench, claims, taker::Taker};
use crate::{
    failure::{Doing, Failure},
    load::WARM_UP,
    report::id,
};

/// Holds that end.
const HOLDS: usize = 1_000_000;

/// Claims made first, to learn how long all of them will take.
const TRIAL: usize = HOLDS / 20;

/// How much longer than the trial promises making the holds may take, and what else happens before they end.
const FILLING_SLACK: u32 = 3;
const PREPARING: Duration = Duration::from_secs(10);

/// Longest the last unit may take to be back after the callers have ended.
const BACK_MAX: Duration = Duration::from_secs(120);

/// Pause between two looks at the holds that are left.
const LOOK_EVERY: Duration = Duration::from_millis(5);

const SALE: &str = "expiry-holds";

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let before = id::EXPIRY_BEFORE;
    bench.endless_sale(before).await?;
    let trying = Instant::now();
    let mut told_before = bench.fill(before, TRIAL).await?;
    let filling = trying.elapsed() * (HOLDS / TRIAL) as u32 * FILLING_SLACK;

    let hold = filling + bench.window + PREPARING;
    bench.cluster.create_held_sale(SALE, HOLDS as u32, hold).await?;
    let mut told = bench.fill(SALE, HOLDS).await?;

    told_before.add(claims::beside(bench, before).await?);

    bench.endless_sale(id::EXPIRY_WAVE).await?;
    let client = bench.cluster.another_client()?;
    let taker = Taker::start(client.clone(), SALE, bench.names().of_caller(0));
    let (sale, position) = holds(&client).await?;
    let (left, last_ms) = deadlines(&sale, &position)?;
    sleep(left.saturating_sub(WARM_UP)).await;
    let told_meanwhile = claims::beside(bench, id::EXPIRY_WAVE).await?;
    let (sale, _) = holds(&client).await?;
    if sale.units_held == sale.units_total {
        return Err(Failure::new(id::EXPIRY_WAVE, "no hold ended in the window"));
    }

    ended(&client, last_ms).await?;
    let taken = taker.stop().await?;
    told.granted += taken;
    let (sale, _) = holds(&client).await?;
    if u64::from(sale.units_held) > taken {
        let why = format!("{} are held, but {taken} were taken again", sale.units_held);
        return Err(Failure::new("counting the units that came back", why));
    }
    // Not before: every replica recounts all its claims for it.
    bench.cluster.check(before, &told_before).await?;
    bench.cluster.check(id::EXPIRY_WAVE, &told_meanwhile).await?;
    bench.cluster.check(SALE, &told).await
}

/// The sale of the holds as it is now.
async fn holds(client: &Client) -> Result<(Sale, Position), Failure> {
    let sale = client.get_sale(SALE, Consistency::Linearizable).await;
    sale.doing("reading the sale of the holds")
}

/// How long until the first hold ends, and the log time at which the last does.
fn deadlines(sale: &Sale, position: &Position) -> Result<(Duration, u64), Failure> {
    let all_held = sale.units_held == sale.units_total;
    let deadlines = sale.first_deadline_ms.zip(sale.last_deadline_ms);
    deadlines
        .filter(|_| all_held)
        .and_then(|(first_ms, last_ms)| Some((first_ms.checked_sub(position.log_time_ms)?, last_ms)))
        .map(|(left_ms, last_ms)| (Duration::from_millis(left_ms), last_ms))
        .ok_or_else(|| {
            Failure::new(
                "waiting for the holds to end",
                "some have already: making them took longer than a trial promised; measure on a quieter machine",
            )
        })
}

/// Waits until no hold is left that ends by then.
async fn ended(client: &Client, last_ms: u64) -> Result<(), Failure> {
    let deadline = Instant::now() + BACK_MAX;
    loop {
        let (sale, _) = holds(client).await?;
        if sale.first_deadline_ms.is_none_or(|first_ms| first_ms > last_ms) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let why = format!("{} units are held after {BACK_MAX:?}", sale.units_held);
            return Err(Failure::new("waiting for all units to be back", why));
        }
        sleep(LOOK_EVERY).await;
    }
}
