//! Second wave: the units of a sale that is sold out come back, and another crowd claims them.
//!
//! A crowd asks for twice the units of a sale: all are held, and the rest is refused. Then every other hold is released,
//! and meanwhile one caller reads and claims in turn, alone, who must not be told that the sale is sold out while a
//! linearizable read shows units. What he left a second crowd asks for, twice again. The figures are the grants of each
//! crowd, from its first question to the last grant that is answered.
//!
//! Exactly what came back is granted. And no refusal was answered before the last claim that was granted had been
//! asked: there would have been a unit.

use std::time::Duration;

use client::{Client, Consistency};
use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::{
    Bench,
    callers::{Held, Settles, Settling, count_claim},
    claims::SINGLE_CALLERS,
    nothing_but,
    taker::Taker,
};
use crate::{
    failure::{Doing, Failure},
    load::{Caller, Tally, exhaust, histogram},
    names::{CallerNames, Names},
    report::{Course, Figure, id},
};

/// Units for each second of the window: about what as many callers are granted in it.
const UNITS_PER_SECOND: u32 = 40_000;

/// How many times what there is a crowd asks for.
const ASKED_PER_UNIT: usize = 2;

/// Callers who release at one time.
const RELEASERS: usize = 512;

/// Longer than any run, so that units come back only when they are released.
const HOLD: Duration = Duration::from_secs(24 * 3_600);

const SALE: &str = "second-wave";

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let units = UNITS_PER_SECOND * bench.window.as_secs() as u32;
    bench.cluster.create_held_sale(SALE, units, HOLD).await?;
    let (mut told, held) = wave(bench, id::WAVE_FIRST, units).await?;

    let client = bench.cluster.another_client()?;
    let taker = Taker::start(client.clone(), SALE, bench.names().of_caller(0));
    let released = release(bench, held.into_iter().step_by(2).collect()).await?;
    let taken = taker.stop().await?;
    let back = released.released - taken;
    told.add(released);
    told.granted += taken;

    let (sale, _) = client
        .get_sale(SALE, Consistency::Linearizable)
        .await
        .doing("reading the sale between the waves")?;
    if u64::from(sale.units_available) != back {
        let why = format!("{} units are there, but {back} came back", sale.units_available);
        return Err(Failure::new(SALE, why));
    }
    let (second, _) = wave(bench, id::WAVE_SECOND, sale.units_available).await?;
    told.add(second);
    bench.cluster.check(SALE, &told).await
}

/// Lets a crowd claim the units that there are, and writes down how fast they went. Gives what it was told, and holds.
async fn wave(bench: &mut Bench<'_>, id: &'static str, units: u32) -> Result<(Tally, Vec<Held>), Failure> {
    bench.cluster.settled().await?;
    let names = bench.names();
    let crowd = Visitor::crowd(bench.cluster.client(), units, names);
    let before = bench.processor_times()?;
    let begin = Instant::now();
    let (tally, crowd) = exhaust(crowd).await;
    let processor = bench.processor_since(&before, tally.answered())?;
    tally.all_answered(id)?;
    nothing_but(tally.granted + tally.sold_out, &tally, id)?;
    if tally.granted != u64::from(units) {
        let why = format!("{} were granted of {units} units", tally.granted);
        return Err(Failure::new(id, why));
    }
    let (mut seen, mut held) = (Seen::default(), Vec::new());
    let mut latency_us = histogram();
    for visitor in crowd {
        seen.add(&visitor.seen);
        latency_us.add(visitor.latency_us).expect("the bounds are equal");
        held.extend(visitor.held);
    }
    let last = seen.last_grant(id)?;
    let quantile = |quantile| Some(latency_us.value_at_quantile(quantile) as f64 / 1_000.0);
    let rate = tally.granted as f64 / (last - begin).as_secs_f64();
    let figure = Figure {
        p50_ms: quantile(0.50),
        p99_ms: quantile(0.99),
        processor: Some(processor),
        course: Some(Course::new(&latency_us, &[])),
        ..Figure::new(rate)
    };
    bench.run.add(id, figure);
    Ok((tally, held))
}

/// Gives holds back.
async fn release(bench: &mut Bench<'_>, held: Vec<Held>) -> Result<Tally, Failure> {
    const DOING: &str = "releasing";
    let (client, names) = (bench.cluster.client().clone(), bench.names());
    let chunks = held.chunks(held.len().div_ceil(RELEASERS)).enumerate();
    let callers = chunks.map(|(caller, held)| {
        Settles::new(
            client.clone(),
            Settling::Release,
            held.to_vec(),
            names.of_caller(caller),
        )
    });
    let (tally, _) = exhaust(callers.collect()).await;
    tally.all_answered(DOING)?;
    nothing_but(tally.released, &tally, DOING)?;
    Ok(tally)
}

/// When units were asked for and refused.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// When the last claim was asked that was granted.
    granted_asked: Option<Instant>,
    /// When the last such was answered.
    granted_answered: Option<Instant>,
    /// When the first refusal was answered.
    refused_answered: Option<Instant>,
}

impl Seen {
    fn granted(&mut self, asked: Instant, answered: Instant) {
        self.granted_asked = self.granted_asked.max(Some(asked));
        self.granted_answered = self.granted_answered.max(Some(answered));
    }

    fn refused(&mut self, answered: Instant) {
        self.refused_answered = Some(
            self.refused_answered
                .map_or(answered, |first| first.min(answered)),
        );
    }

    /// Adds another's.
    fn add(&mut self, other: &Seen) {
        self.granted_asked = self.granted_asked.max(other.granted_asked);
        self.granted_answered = self.granted_answered.max(other.granted_answered);
        if let Some(answered) = other.refused_answered {
            self.refused(answered);
        }
    }

    /// When the last grant was answered, when nobody had been refused a unit that was there.
    fn last_grant(&self, doing: &str) -> Result<Instant, Failure> {
        let (Some(asked), Some(answered), Some(refused)) =
            (self.granted_asked, self.granted_answered, self.refused_answered)
        else {
            return Err(Failure::new(
                doing,
                "a crowd without a grant, or without a refusal",
            ));
        };
        if refused < asked {
            let why = format!(
                "somebody was told sold out {:?} before a claim was asked that was granted",
                asked - refused
            );
            return Err(Failure::new(doing, why));
        }
        Ok(answered)
    }
}

/// One of a crowd: claims for one new user after the other, whatever it is told, until it has asked often enough.
struct Visitor {
    client: Client,
    names: std::iter::Take<CallerNames>,
    seen: Seen,
    /// Of calls that were granted.
    latency_us: Histogram<u64>,
    held: Vec<Held>,
}

impl Visitor {
    /// A crowd that asks for this many units, more than once.
    fn crowd(client: &Client, units: u32, names: Names) -> Vec<Visitor> {
        let asked = (units as usize * ASKED_PER_UNIT).div_ceil(SINGLE_CALLERS);
        let visitor = |caller| Visitor {
            client: client.clone(),
            names: names.of_caller(caller).take(asked),
            seen: Seen::default(),
            latency_us: histogram(),
            held: Vec::new(),
        };
        (0..SINGLE_CALLERS).map(visitor).collect()
    }
}

impl Caller for Visitor {
    async fn call(&mut self) -> Option<Tally> {
        let (user, key) = self.names.next()?;
        let mut tally = Tally::default();
        let asked = Instant::now();
        let answer = self.client.claim(SALE, user).key(key).send().await;
        let answered = Instant::now();
        if let Ok(claimed) = &answer {
            self.held.push(Held {
                claim_id: claimed.claim.claim_id.clone(),
                fencing_token: claimed.claim.fencing_token,
            });
        }
        count_claim(answer, &mut tally);
        if tally.granted > 0 {
            self.seen.granted(asked, answered);
            self.latency_us
                .saturating_record((answered - asked).as_micros() as u64);
        }
        if tally.sold_out > 0 {
            self.seen.refused(answered);
        }
        Some(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_refused_before_the_last_unit_was_asked_for() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut seen = Seen::default();
        assert!(seen.last_grant("").is_err(), "nothing was seen");
        seen.granted(at(10), at(30));
        seen.granted(at(5), at(12));
        assert!(seen.last_grant("").is_err(), "nobody was refused");
        let mut other = Seen::default();
        other.refused(at(25));
        other.refused(at(20));
        seen.add(&other);
        assert_eq!(
            seen.last_grant("").unwrap(),
            at(30),
            "they may overtake each other"
        );
        // Asked when somebody had been refused already: the unit that it got was there.
        seen.granted(at(21), at(22));
        let said = seen.last_grant("").unwrap_err().to_string();
        assert!(said.contains("sold out 1ms before"), "{said}");
    }
}
