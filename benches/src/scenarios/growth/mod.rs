//! Growth: one sale from ten thousand to ten million live claims, and what that many cost.
//!
//! Claims in bulk are measured from each of three sizes on, in the sale that grows; what they make themselves belongs
//! to it, so each is measured on as many claims and a window's more, which a note tells. Their processor time says
//! whether a claim costs the same there, since rates swing with the machine's other work.
//!
//! Memory is the slope between the two larger sizes, each looked at when every replica has applied and written all of
//! them; the replica that grew most is the figure. On disk stand the image and two snapshots of all claims ([`disk`]);
//! then a follower is started again, as in [`super::restart`]; at last, single callers claim in another sale beside all
//! that: alone, while the leader writes snapshots, and while a new node joins ([`beside`]).
//!
//! A smaller number of claims is for a quick look: a note says so, since the figures' names do not.

mod beside;
mod disk;

use inventory_machine::command::UNITS_MAX;

use super::{Bench, claims, endless_units, nothing_but, restart};
use crate::{
    failure::Failure,
    load::{Measured, Tally},
    report::{Figure, Processor, id},
};

/// Live claims in the end, where nothing else is asked for.
pub const CLAIMS: u64 = 10_000_000;

/// Rounds of starting a node again in a run: each loads ten million claims.
const RESTARTS: usize = 3;

pub(super) const FIGURES: [&str; 15] = [
    id::GROWTH_10K,
    id::GROWTH_1M,
    id::GROWTH_10M,
    id::GROWTH_COST_10K,
    id::GROWTH_COST_1M,
    id::GROWTH_COST_10M,
    id::GROWTH_MEMORY,
    id::GROWTH_IMAGE,
    id::GROWTH_DISK,
    id::GROWTH_READY,
    id::GROWTH_CAUGHT_UP,
    id::GROWTH_CALM,
    id::GROWTH_SNAPSHOT,
    id::GROWTH_LEARNER,
    id::GROWTH_LEARNER_CLAIMS,
];

const SALE: &str = "growth";
const DOING: &str = "growing";

/// A size at which is measured.
struct Step {
    /// One in so many of all claims are live.
    one_in: u64,
    rate: &'static str,
    cost: &'static str,
}

const STEPS: [Step; 3] = [
    Step {
        one_in: 1_000,
        rate: id::GROWTH_10K,
        cost: id::GROWTH_COST_10K,
    },
    Step {
        one_in: 10,
        rate: id::GROWTH_1M,
        cost: id::GROWTH_COST_1M,
    },
    Step {
        one_in: 1,
        rate: id::GROWTH_10M,
        cost: id::GROWTH_COST_10M,
    },
];

/// What a size was found to take before it was measured.
struct Look {
    live: u64,
    /// Of each node.
    resident_bytes: Vec<u64>,
}

pub(super) async fn measure(bench: &mut Bench<'_>, claims: u64) -> Result<(), Failure> {
    if claims != CLAIMS {
        bench.run.note(format!(
            "growth: {claims} claims instead of {CLAIMS}: what is said of 10M, 1M and 10k is of {claims}, a tenth and a thousandth of that"
        ));
    }
    let windows = STEPS.len() as u64 * u64::from(endless_units(bench.window));
    let units = (claims + windows).min(u64::from(UNITS_MAX));
    bench.cluster.create_sale(SALE, units as u32).await?;

    let (mut told, mut looks) = (Tally::default(), Vec::new());
    for step in &STEPS {
        // A window before this one may have made more already.
        let missing = (claims / step.one_in).saturating_sub(told.granted);
        told.add(bench.fill(SALE, missing as usize).await?);
        bench.cluster.settled().await?;
        looks.push(Look {
            live: told.granted,
            resident_bytes: bench.cluster.resident_bytes()?,
        });
        if bench.wants(step.rate) || bench.wants(step.cost) {
            told.add(step.measure(bench, told.granted).await?);
        }
    }
    if bench.wants(id::GROWTH_MEMORY) {
        let per_claim = slope(&looks[1], &looks[2])?;
        bench.run.add(id::GROWTH_MEMORY, Figure::new(per_claim));
    }
    told.add(disk::measure(bench, told.granted).await?);
    restart::rounds(bench, RESTARTS, [id::GROWTH_READY, id::GROWTH_CAUGHT_UP]).await?;
    let mut all = beside::measure(bench).await?;
    all.push((SALE.to_owned(), told));
    bench.cluster.check_all(&all).await
}

impl Step {
    /// Claims in bulk with so many live. Gives those made.
    async fn measure(&self, bench: &mut Bench<'_>, live: u64) -> Result<Tally, Failure> {
        let callers = claims::bulk(&bench.cluster.client().clone(), SALE, bench.names());
        let tally = bench.figure(self.rate, callers, Measured::rate).await?;
        nothing_but(tally.granted, &tally, DOING)?;
        let measured = bench.run.get(self.rate).and_then(|figure| figure.processor);
        let cost_us = measured.as_ref().map(Processor::sum_us);
        let cost_us = cost_us.ok_or_else(|| Failure::new(DOING, "nobody's processor time is known"))?;
        bench.run.add(self.cost, Figure::new(cost_us));
        let ended = live + tally.granted;
        bench
            .run
            .note(format!("{}: from {live} live claims to {ended}", self.rate));
        Ok(tally)
    }
}

/// Bytes by which the node that grew most grew for each claim between two looks.
fn slope(before: &Look, after: &Look) -> Result<f64, Failure> {
    let made = after.live - before.live;
    // Else what a node keeps in bounded buffers would count as the claims'.
    if made < after.live / 2 {
        let why = format!("{} of {} claims were live too early", before.live, after.live);
        return Err(Failure::new(
            DOING,
            format!("{why}: ask for more, or a shorter window"),
        ));
    }
    let nodes = before.resident_bytes.iter().zip(&after.resident_bytes);
    let grew = nodes.map(|(before, after)| after.saturating_sub(*before)).max();
    Ok(grew.unwrap_or_default() as f64 / made as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_of_the_node_that_grew_most_and_of_claims_that_were_made_between() {
        let look = |live, resident_bytes: [u64; 2]| Look {
            live,
            resident_bytes: resident_bytes.to_vec(),
        };
        let (before, after) = (look(1_000, [50_000, 90_000]), look(10_000, [950_000, 900_000]));
        assert_eq!(slope(&before, &after), Ok(100.0));
        assert!(
            slope(&look(6_000, [0, 0]), &after).is_err(),
            "too few of them between"
        );
    }
}
