//! Callers in a loop, and what a window of time saw of them.
//!
//! Every caller calls, waits for the answer, and calls again: as many calls are open as there are
//! callers. Whatever is answered within the window counts, whenever it was asked; so a window is never
//! filled with work that was finished outside it. Everything, the warming up included, is tallied: the
//! tally is compared with what the servers have.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    failure::{Doing, Failure},
    process::Process,
    report::{Course, Figure, TICK},
};

/// Longest latency that is told apart, in µs; the client gives up long before.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Digits of a latency that are kept.
const LATENCY_DIGITS: u8 = 3;

/// How long before the window the callers begin: connections are up and frames are full by then.
pub const WARM_UP: Duration = Duration::from_millis(500);

/// Longest that callers call while something else goes on: ten million claims reach a new node in less.
const MEANWHILE_MAX: Duration = Duration::from_secs(300);

/// What a process of callers is told when they shall begin.
pub const BEGIN: &str = "begin";

/// What became of operations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// New claims.
    pub granted: u64,
    /// The same claim again, for the same key.
    pub repeated: u64,
    /// Refused because the sale is sold out.
    pub sold_out: u64,
    /// Claims made final.
    pub confirmed: u64,
    /// Claims given back.
    pub released: u64,
    /// New claims, final at once; none of those above.
    pub decremented: u64,
    /// Sales read.
    pub read: u64,
    /// Proposed, outcome not known.
    pub unknown: u64,
    /// Anything else.
    pub failed: u64,
    /// What the first of those said.
    pub first_failure: Option<String>,
}

impl Tally {
    /// Operations that were answered.
    pub fn answered(&self) -> u64 {
        self.asked_of_the_log() + self.read
    }

    /// Those of them that go through the log, or would if they were not refused at its door.
    pub fn asked_of_the_log(&self) -> u64 {
        self.granted + self.repeated + self.sold_out + self.confirmed + self.released + self.decremented
    }

    /// Notes an operation that was not answered as it should have been.
    pub fn fail(&mut self, why: impl FnOnce() -> String) {
        self.failed += 1;
        if self.first_failure.is_none() {
            self.first_failure = Some(why());
        }
    }

    /// Adds another's.
    pub fn add(&mut self, other: Tally) {
        self.granted += other.granted;
        self.repeated += other.repeated;
        self.sold_out += other.sold_out;
        self.confirmed += other.confirmed;
        self.released += other.released;
        self.decremented += other.decremented;
        self.read += other.read;
        self.unknown += other.unknown;
        self.failed += other.failed;
        if self.first_failure.is_none() {
            self.first_failure = other.first_failure;
        }
    }

    /// Fails unless every operation was answered.
    ///
    /// # Errors
    /// Some were not; says what the first said.
    pub fn all_answered(&self, doing: &str) -> Result<(), Failure> {
        if self.unknown == 0 && self.failed == 0 {
            return Ok(());
        }
        let first = self.first_failure.as_deref().unwrap_or("the outcome is unknown");
        let (unknown, failed, answered) = (self.unknown, self.failed, self.answered());
        let why = format!("{unknown} unknown and {failed} failed beside {answered} answered: {first}");
        Err(Failure::new(doing, why))
    }
}

/// Somebody who calls again and again.
pub trait Caller: Send + 'static {
    /// One call, of one or many operations; `None` when there is nothing left to ask for.
    fn call(&mut self) -> impl Future<Output = Option<Tally>> + Send;
}

/// What the window saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Operations answered in it.
    pub operations: u64,
    /// Its length.
    pub window: Duration,
    /// Latency of its calls, in µs.
    #[serde(with = "counts")]
    pub latency_us: Histogram<u64>,
    /// Operations answered in each whole [`TICK`] of it.
    pub per_tick: Vec<u64>,
}

impl Measured {
    /// Of a window of this length that has seen nothing yet.
    pub fn new(window: Duration) -> Measured {
        Measured {
            operations: 0,
            window,
            latency_us: histogram(),
            per_tick: vec![0; ticks(window)],
        }
    }

    /// Adds what the same window saw of others.
    pub fn add(&mut self, other: &Measured) {
        self.operations += other.operations;
        self.latency_us
            .add(&other.latency_us)
            .expect("the bounds are equal");
        for (sum, count) in self.per_tick.iter_mut().zip(&other.per_tick) {
            *sum += count;
        }
    }

    /// Leaves it as long as this. What was counted behind that is of who had not heard that it ended.
    fn cut(&mut self, window: Duration) {
        self.window = window;
        self.per_tick.truncate(ticks(window));
    }

    /// Operations per second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.window.as_secs_f64()
    }

    /// Median latency of a call, in ms.
    pub fn p50_ms(&self) -> f64 {
        self.latency_ms(0.50)
    }

    /// This value, with the latency beside it, and what its plots show.
    pub fn figure(&self, value: f64) -> Figure {
        Figure {
            p50_ms: Some(self.p50_ms()),
            p99_ms: Some(self.latency_ms(0.99)),
            course: Some(Course::new(&self.latency_us, &self.per_tick)),
            ..Figure::new(value)
        }
    }

    /// A quantile of the latency, in ms.
    pub fn latency_ms(&self, quantile: f64) -> f64 {
        self.latency_us.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

/// For latencies in µs.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, LATENCY_DIGITS).expect("constants that fit")
}

/// A histogram as what was counted of each value.
mod counts {
    use hdrhistogram::Histogram;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(counted: &Histogram<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        let recorded = counted.iter_recorded();
        serializer.collect_seq(recorded.map(|value| (value.value_iterated_to(), value.count_at_value())))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Histogram<u64>, D::Error> {
        let mut counted = super::histogram();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            counted.saturating_record_n(value, count);
        }
        Ok(counted)
    }
}

/// What one caller saw.
struct Seen {
    tally: Tally,
    measured: Measured,
    /// When it had nothing left to ask for.
    dry_at: Option<Instant>,
}

/// Lets callers call for this long.
///
/// # Errors
/// They ran out of things to ask for before the window began.
///
/// # Panics
/// When a caller does.
pub async fn drive<C: Caller>(window: Duration, callers: Vec<C>) -> Result<(Measured, Tally), Failure> {
    Driven::start(window, callers).ended().await
}

/// Lets callers call while something else is done: that takes as long as the window. Gives what it came to as well.
///
/// # Errors
/// It failed or took too long, or callers ran out of things to ask for.
///
/// # Panics
/// When a caller does.
pub async fn drive_meanwhile<C: Caller, T>(
    callers: Vec<C>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<(Measured, Tally, T), Failure> {
    let mut driven = Driven::start(MEANWHILE_MAX, callers);
    sleep_until(driven.begin).await;
    let done = timeout_at(driven.end, work)
        .await
        .doing("waiting for what was measured meanwhile")??;
    driven.end = Instant::now();
    driven.dry.store(true, Ordering::Relaxed);
    let (measured, tally) = driven.ended().await?;
    Ok((measured, tally, done))
}

/// Callers at work.
struct Driven {
    begin: Instant,
    end: Instant,
    window: Duration,
    dry: Arc<AtomicBool>,
    running: JoinSet<Seen>,
}

impl Driven {
    fn start<C: Caller>(window: Duration, callers: Vec<C>) -> Driven {
        let begin = Instant::now() + WARM_UP;
        let (end, dry) = (begin + window, Arc::new(AtomicBool::new(false)));
        let mut running = JoinSet::new();
        for caller in callers {
            running.spawn(call_until(caller, begin, end, dry.clone()));
        }
        Driven {
            begin,
            end,
            window,
            dry,
            running,
        }
    }

    /// What they saw, once they have all ended.
    async fn ended(self) -> Result<(Measured, Tally), Failure> {
        let mut measured = Measured::new(self.window);
        let (mut tally, mut last) = (Tally::default(), self.end);
        for seen in self.running.join_all().await {
            measured.add(&seen.measured);
            tally.add(seen.tally);
            last = seen.dry_at.map_or(last, |at| at.min(last));
        }
        measured.cut(last.saturating_duration_since(self.begin));
        if measured.window.is_zero() {
            return Err(Failure::new(
                "measuring",
                "there was nothing left to ask for when the window began",
            ));
        }
        Ok((measured, tally))
    }
}

/// Whole ticks in so long.
fn ticks(window: Duration) -> usize {
    (window.as_millis() / TICK.as_millis()) as usize
}

async fn call_until<C: Caller>(mut caller: C, begin: Instant, end: Instant, dry: Arc<AtomicBool>) -> Seen {
    let (mut tally, mut measured, mut dry_at) = (Tally::default(), Measured::new(end - begin), None);
    let mut asked = Instant::now();
    while asked < end && !dry.load(Ordering::Relaxed) {
        let Some(answered) = caller.call().await else {
            dry.store(true, Ordering::Relaxed);
            dry_at = Some(asked);
            break;
        };
        let now = Instant::now();
        if now >= begin && now < end {
            measured.operations += answered.answered();
            // What remains of the window behind the last whole tick is in none.
            if let Some(count) = measured.per_tick.get_mut(ticks(now - begin)) {
                *count += answered.answered();
            }
            measured
                .latency_us
                .saturating_record((now - asked).as_micros() as u64);
        }
        tally.add(answered);
        asked = now;
    }
    Seen {
        tally,
        measured,
        dry_at,
    }
}

/// Lets the callers of other processes call for this long. They begin within milliseconds of one another, which is
/// nothing beside their warming up; what they ask for does not end.
///
/// # Errors
/// A child fails, or says something else.
pub async fn drive_processes(
    window: Duration,
    callers: &mut [Process],
) -> Result<(Measured, Tally), Failure> {
    let begin = BEGIN.to_owned();
    let told = join_all(callers.iter_mut().map(|caller| caller.ask(&begin))).await;
    let (mut measured, mut tally) = (Measured::new(window), Tally::default());
    for told in told {
        let (seen, some): (Measured, Tally) =
            serde_json::from_str(&told?).doing("reading what a process measured")?;
        measured.add(&seen);
        tally.add(some);
    }
    Ok((measured, tally))
}

/// Lets callers call until they have nothing left to ask for.
///
/// # Panics
/// When a caller does.
pub async fn exhaust<C: Caller>(callers: Vec<C>) -> (Tally, Vec<C>) {
    let mut running = JoinSet::new();
    for mut caller in callers {
        running.spawn(async move {
            let mut tally = Tally::default();
            while let Some(answered) = caller.call().await {
                tally.add(answered);
            }
            (tally, caller)
        });
    }
    let (mut tally, mut callers) = (Tally::default(), Vec::new());
    for (some, caller) in running.join_all().await {
        tally.add(some);
        callers.push(caller);
    }
    (tally, callers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers a millisecond later, so many times.
    struct Few(u64);

    impl Caller for Few {
        async fn call(&mut self) -> Option<Tally> {
            self.0 = self.0.checked_sub(1)?;
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some(Tally {
                granted: 1,
                ..Tally::default()
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_run_dry_are_tallied_to_the_last_answer() {
        let (tally, callers) = exhaust(vec![Few(3), Few(4)]).await;
        assert_eq!((tally.granted, callers.len()), (7, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_without_work_is_no_measurement() {
        assert!(drive(Duration::from_secs(1), vec![Few(0)]).await.is_err());
        assert!(
            drive(Duration::from_secs(1), vec![Few(u64::MAX), Few(3)])
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_the_window_saw_is_measured_and_everything_is_tallied() {
        let (measured, tally) = drive(Duration::from_secs(1), vec![Few(u64::MAX)]).await.unwrap();
        assert_eq!(measured.operations, 1_000);
        assert_eq!(measured.latency_us.len(), 1_000);
        assert_eq!(measured.rate(), 1_000.0);
        assert_eq!(measured.per_tick, [100; 10]);
        assert_eq!(tally.granted, 1_500, "the warming up is in the tally as well");
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_ends_when_a_caller_has_nothing_left_to_ask_for() {
        let (measured, tally) = drive(Duration::from_secs(1), vec![Few(750), Few(u64::MAX)])
            .await
            .unwrap();
        assert_eq!(measured.window, Duration::from_millis(250));
        assert_eq!(measured.per_tick.len(), 2, "the third tick was cut short");
        // One more or less for each caller, at the very edges.
        assert!(measured.operations.abs_diff(500) <= 2, "{}", measured.operations);
        assert!(tally.granted.abs_diff(1_500) <= 2, "{}", tally.granted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_lasts_as_long_as_what_is_done_meanwhile() {
        let work = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            Ok(7)
        };
        let (measured, tally, done) = drive_meanwhile(vec![Few(u64::MAX)], work).await.unwrap();
        assert_eq!((measured.window, done), (Duration::from_millis(700), 7));
        assert!(measured.operations.abs_diff(700) <= 1, "{}", measured.operations);
        assert!(tally.granted.abs_diff(1_200) <= 1, "{}", tally.granted);

        let failing = async { Err::<(), _>(Failure::new("working", "it broke")) };
        assert!(drive_meanwhile(vec![Few(u64::MAX)], failing).await.is_err());
        let stuck = std::future::pending::<Result<(), _>>();
        assert!(drive_meanwhile(vec![Few(u64::MAX)], stuck).await.is_err());
    }

    #[test]
    fn what_was_not_answered_is_a_failure_with_its_reason() {
        let mut tally = Tally {
            granted: 5,
            ..Tally::default()
        };
        assert_eq!(tally.all_answered("claiming"), Ok(()));
        tally.fail(|| "full".to_owned());
        tally.fail(|| "later".to_owned());
        let failure = tally.all_answered("claiming").unwrap_err().to_string();
        assert!(
            failure.contains("2 failed") && failure.ends_with("full"),
            "{failure}"
        );
    }
}
