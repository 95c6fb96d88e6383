//! Checkout: shoppers who hold a claim pay through one door, so many a second, however long the others take.
//!
//! Shoppers come at a fixed rate and wait for each other nowhere, and their time runs from when they were due; so a
//! door that falls behind cannot hide it. The provider is a process of its own that answers at once and sends its
//! webhooks to the door, on the same two cores: all it costs is counted as ours. Beside it, in the same run and at
//! the same rate, the writes to the store that a checkout is made of, one after the other as it makes them; what a
//! checkout takes beyond them is our side's overhead.
//!
//! With faults, a share of all calls to the provider goes wrong, and shoppers do what shoppers do: they look how it
//! stands, and try again. Afterwards the provider's books are compared with what they were told.

mod shoppers;
mod till;

use std::time::Duration;

use client::Error;
use hdrhistogram::Histogram;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use self::{
    shoppers::{shoppers, write_like_a_checkout},
    till::Till,
};
use super::Bench;
use crate::{
    failure::{Doing, Failure},
    load::histogram,
    report::{Course, Figure, id},
};

/// Checkouts a second, and what is measured at that rate.
struct Pace {
    rate: u32,
    writes: &'static str,
    checkout: &'static str,
    overhead: &'static str,
}

/// The last is what the aim is said for; the others tell from where on there is more to do than cores to do it.
const PACES: [Pace; 3] = [
    Pace {
        rate: 100,
        writes: id::CHECKOUT_WRITES_100,
        checkout: id::CHECKOUT_100,
        overhead: id::CHECKOUT_OVERHEAD_100,
    },
    Pace {
        rate: 250,
        writes: id::CHECKOUT_WRITES_250,
        checkout: id::CHECKOUT_250,
        overhead: id::CHECKOUT_OVERHEAD_250,
    },
    Pace {
        rate: 500,
        writes: id::CHECKOUT_WRITES,
        checkout: id::CHECKOUT,
        overhead: id::CHECKOUT_OVERHEAD,
    },
];

/// The figures of all of them.
pub(super) fn figures() -> Vec<&'static str> {
    let figures = PACES
        .iter()
        .map(|pace| [pace.writes, pace.checkout, pace.overhead]);
    figures.flatten().collect()
}

/// How long checkouts come before those that are measured: connections are up by then.
const WARM_UP: Duration = Duration::from_secs(2);

/// Checkouts with faults, and how many come each second: all are there after two minutes of the three they have.
const FAULTS_COUNT: u32 = 10_000;
const FAULTS_RATE: u32 = 80;

/// One call in twenty goes wrong, in five ways; webhooks are lost and repeated beside that.
const FAULTS: [&str; 9] = [
    "error_before_rate=0.01",
    "error_after_rate=0.01",
    "hang_rate=0.01",
    "lost_answer_rate=0.01",
    "late_effect_rate=0.01",
    "late_effect_ms=3000",
    "webhook_lost_rate=0.05",
    "webhook_twice_rate=0.05",
    "delay_ms=30",
];

/// What a unit costs.
const PRICE_MINOR: u64 = 4_900;

/// Longest that anybody is waited for: one who is stuck must fail the run and not keep it.
const DECIDED_MAX: Duration = Duration::from_secs(170);

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<(), Failure> {
    for pace in &PACES {
        let figures = [pace.writes, pace.checkout, pace.overhead];
        if figures.iter().any(|id| bench.wants(id)) {
            pace.measure(bench).await?;
        }
    }
    Ok(())
}

impl Pace {
    async fn measure(&self, bench: &mut Bench<'_>) -> Result<(), Failure> {
        let count = self.rate * u32::try_from((bench.window + WARM_UP).as_secs()).unwrap_or(u32::MAX);
        let till = Till::open(bench, &[]).await?;

        // Both sales before either is measured: what making claims leaves to be written behind is nobody's.
        let alone = shoppers(bench, self.writes, count).await?;
        let paying = shoppers(bench, self.checkout, count).await?;
        bench.cluster.settled().await?;

        let before = bench.processor_times()?;
        let writes = alone.into_iter().map(|shopper| {
            let client = bench.cluster.client().clone();
            async move { write_like_a_checkout(&client, &shopper).await }
        });
        let writes = at_rate(self.rate, writes).await?;
        let writes = self.told(writes, |error: Error| error.to_string(), self.writes)?;
        self.add(bench, self.writes, &writes, &before)?;

        bench.cluster.settled().await?;
        let before = bench.processor_times()?;
        let checkouts = paying.into_iter().map(|shopper| {
            let till = till.clone();
            async move { till.pays_at_once(&shopper).await }
        });
        let checkouts = at_rate(self.rate, checkouts).await?;
        let checkouts = self.told(checkouts, |why: String| why, self.checkout)?;
        self.add(bench, self.checkout, &checkouts, &before)?;
        let overhead_ms = checkouts.ms(0.99) - writes.ms(0.99);
        bench.run.add(self.overhead, Figure::new(overhead_ms));
        till.close(bench, self.checkout, count, count).await
    }

    /// Checkouts before those that are measured.
    fn warming(&self) -> u64 {
        WARM_UP.as_secs() * u64::from(self.rate)
    }

    /// The latencies, if all went well.
    fn told<E>(
        &self,
        all: Vec<(Duration, Result<(), E>)>,
        why: impl Fn(E) -> String,
        doing: &str,
    ) -> Result<Latency, Failure> {
        let mut latency_us = histogram();
        for (number, (took, came)) in (0..).zip(all) {
            came.map_err(|error| Failure::new(doing, why(error)))?;
            if number >= self.warming() {
                latency_us.saturating_record(took.as_micros() as u64);
            }
        }
        Ok(Latency(latency_us))
    }

    fn add(
        &self,
        bench: &mut Bench<'_>,
        id: &'static str,
        latency: &Latency,
        before: &[Duration],
    ) -> Result<(), Failure> {
        let operations = latency.0.len() + self.warming();
        let figure = Figure {
            p50_ms: Some(latency.ms(0.50)),
            p99_ms: Some(latency.ms(0.99)),
            course: Some(Course::new(&latency.0, &[])),
            processor: Some(bench.processor_since(before, operations)?),
            ..Figure::new(latency.ms(0.99))
        };
        bench.run.add(id, figure);
        Ok(())
    }
}

pub(super) async fn measure_faults(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let door = Till::open(bench, &FAULTS).await?;
    let shoppers = shoppers(bench, id::FAULTS_ALL, FAULTS_COUNT).await?;
    bench.cluster.settled().await?;
    let began = Instant::now();
    let deadline = began + DECIDED_MAX;
    let checkouts = shoppers.into_iter().map(|shopper| {
        let door = door.clone();
        async move { door.pays(&shopper, deadline).await }
    });
    let checkouts = at_rate(FAULTS_RATE, checkouts).await?;
    let all = began.elapsed();
    let (mut paid, mut longest) = (0, Duration::ZERO);
    for (took, decided) in checkouts {
        paid += u32::from(decided.map_err(|why| Failure::new("checking out with faults", why))?);
        longest = longest.max(took);
    }
    bench.run.add(id::FAULTS_ALL, Figure::new(all.as_secs_f64()));
    bench
        .run
        .add(id::FAULTS_LONGEST, Figure::new(longest.as_secs_f64()));
    door.close(bench, id::FAULTS_ALL, FAULTS_COUNT, paid).await
}

/// Begins so many a second, waits for all; each with the time since it was due, in the order in which they were.
async fn at_rate<T: Send + 'static>(
    rate: u32,
    works: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Result<Vec<(Duration, T)>, Failure> {
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for (number, work) in (0_u32..).zip(works) {
        let due = begin + Duration::from_secs_f64(f64::from(number) / f64::from(rate));
        sleep_until(due).await;
        running.spawn(async move {
            let came = work.await;
            (number, due.elapsed(), came)
        });
    }
    let mut all = Vec::with_capacity(running.len());
    while let Some(ended) = running.join_next().await {
        all.push(ended.doing("running a load")?);
    }
    all.sort_by_key(|(number, ..)| *number);
    Ok(all.into_iter().map(|(_, took, came)| (took, came)).collect())
}

/// What was measured after the warming up.
struct Latency(Histogram<u64>);

impl Latency {
    fn ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_delays_nobody_and_his_time_runs_from_when_he_was_due() {
        let slow = |number: u64| async move { sleep(Duration::from_secs(10 * (number % 2))).await };
        let all = at_rate(4, (0..8).map(slow)).await.unwrap();
        let took: Vec<u64> = all.iter().map(|(took, ())| took.as_secs()).collect();
        assert_eq!(took, [0, 10, 0, 10, 0, 10, 0, 10]);
    }

    #[test]
    fn what_the_warming_up_took_is_not_measured_and_a_failure_is_one() {
        let [pace, ..] = PACES;
        let took = |ms| (Duration::from_millis(ms), Ok::<(), &str>(()));
        let all: Vec<_> = (0..pace.warming())
            .map(|_| took(900))
            .chain([took(5), took(7)])
            .collect();
        let latency = pace.told(all.clone(), str::to_owned, "trying").unwrap();
        assert_eq!(
            // A histogram's buckets are a little wide.
            (latency.0.len(), latency.ms(0.5).round(), latency.ms(0.99).round()),
            (2, 5.0, 7.0)
        );
        let failed = [(Duration::ZERO, Err("declined"))]
            .into_iter()
            .chain(all)
            .collect();
        assert!(
            pace.told(failed, str::to_owned, "trying")
                .is_err_and(|why| why.to_string().contains("declined"))
        );
    }
}
