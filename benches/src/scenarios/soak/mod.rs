//! Soak: whether anything grows, slows down or is left behind while a paced load goes on for a long time.
//!
//! Claims stay as records until their sale is gone, and a key of another effect is remembered for a day of log time: so
//! a node that makes claims must grow, and only one that makes none can be flat. Hence two loads, one after the other,
//! for half of the time each ([`shoppers`]), with a watcher of all that happens beside both ([`watcher`]):
//!
//! - The mixed load makes claims with short holds, a third of which is confirmed, a third released, and a third left to
//!   expire; it is refused by a sold-out sale, asks again with known keys, and reads. The figure is by how many bytes a
//!   node grows for each claim made, the watch feed's part taken off: it keeps so many events, and those
//!   of single claims take more than those of the filling that it begins with, which the watcher can tell. It is to be
//!   compared with what a live claim takes (`growth`).
//! - The second leaves nothing: refusals, known keys again, checkouts begun again, reads. There memory, descriptors and disk
//!   should be as they were. A log that is purged and snapshots that are replaced go up and down by themselves.
//!
//! The nodes are looked at every two seconds ([`samples`]). The first fifth of each load is its warming up; the rest has
//! four quarters, and what is compared are the medians of first and last, of the node that grew most. Latency is from when a
//! call was due.
//!
//! In the end every claim that was made is accounted for: the watcher heard of each grant, confirm and release that
//! callers were told of, and that the others expired, and the replicas have just that.

mod samples;
mod shoppers;
mod watcher;

use std::time::Duration;

use self::{
    samples::{Sample, Stage, median, p99_ms},
    shoppers::{HELD_SALE, KNOWN_SALE, Known, Load, SOLD_OUT_SALE, Shoppers},
    watcher::Watcher,
};
use super::{Bench, callers::BulkClaims};
use crate::{
    failure::Failure,
    load::{Tally, exhaust},
    report::{Figure, Run, id},
};

/// Minutes that both loads take, where nothing else is asked for: snapshots are written every two minutes or so, and the
/// log is purged from the second on, so that each load has its warming up behind it by then. A soak of few minutes is
/// for a quick look: what a node keeps until then counts as the claims'.
pub const MINUTES: u64 = 30;

/// Parts of each load, of equal length: the warming up, and four quarters.
const STAGES: u32 = 5;

/// Claims made first, in a sale that nobody looks at: with so many the image's cache and the watch feed, which are
/// bounded, are full before anything is measured.
const FILLED: usize = 1_000_000;
const FILLED_SALE: &str = "soak-filled";

/// How long a hold is: a caller settles within milliseconds, on a machine that is not overwhelmed.
const HOLD: Duration = Duration::from_secs(10);

/// Of the load that claims.
pub(super) const MIXED_FIGURES: [&str; 3] = [
    id::SOAK_MEMORY_PER_CLAIM,
    id::SOAK_MIXED_FIRST,
    id::SOAK_MIXED_LAST,
];

/// Of the load that leaves nothing.
pub(super) const STEADY_FIGURES: [&str; 5] = [
    id::SOAK_MEMORY,
    id::SOAK_DESCRIPTORS,
    id::SOAK_DISK,
    id::SOAK_STEADY_FIRST,
    id::SOAK_STEADY_LAST,
];

const DOING: &str = "soaking";

/// What a look found of one node.
type OfNode = fn(&Sample, usize) -> u64;

pub(super) async fn measure(bench: &mut Bench<'_>, minutes: u64) -> Result<(), Failure> {
    let stage = Duration::from_secs(minutes * 60) / 2 / STAGES;
    let claims = shoppers::claims_max(stage * STAGES);
    bench.cluster.create_held_sale(HELD_SALE, claims, HOLD).await?;
    let (winner, known) = (winner(bench).await?, Known::make(bench).await?);
    bench.cluster.create_sale(FILLED_SALE, FILLED as u32).await?;
    let (watcher, filled) = Watcher::start(bench, FILLED_SALE, FILLED).await?;
    bench.cluster.settled().await?;

    let mut told = Tally::default();
    for (load, figures) in [
        (Load::Mixed, &MIXED_FIGURES[..]),
        (Load::Steady, &STEADY_FIGURES[..]),
    ] {
        if !figures.iter().any(|id| bench.wants(id)) {
            continue;
        }
        let shoppers = Shoppers::start(bench, load, &known);
        let mut stages = Vec::new();
        for _ in 0..STAGES {
            stages.push(Stage::measure(&bench.cluster, &watcher, &shoppers, stage).await?);
        }
        told.add(shoppers.stop().await?);
        note(bench.run, load, &stages);
        match load {
            Load::Mixed => mixed(bench.run, &stages)?,
            Load::Steady => steady(bench.run, &stages)?,
        }
    }

    // What came back by itself was released as well, as far as units go.
    told.released += watcher.heard_all(&told, HOLD).await?;
    let all = [
        (HELD_SALE, told),
        (SOLD_OUT_SALE, winner),
        (KNOWN_SALE, known.told),
        (FILLED_SALE, filled),
    ];
    let all = all.map(|(sale_id, told)| (sale_id.to_owned(), told));
    bench.cluster.check_all(&all).await
}

/// Who took the one unit of the sale that everybody else is refused by.
async fn winner(bench: &mut Bench<'_>) -> Result<Tally, Failure> {
    bench.cluster.create_sale(SOLD_OUT_SALE, 1).await?;
    let names = bench.names().of_caller(0).take(1);
    let winner = BulkClaims::new(bench.cluster.client().clone(), SOLD_OUT_SALE, names);
    let (told, _) = exhaust(vec![winner]).await;
    told.all_answered("selling out")?;
    Ok(told)
}

fn mixed(run: &mut Run, stages: &[Stage]) -> Result<(), Failure> {
    let (first, last) = quarters(stages);
    let claims = median(last, |sample| sample.granted) - median(first, |sample| sample.granted);
    if claims <= 0.0 {
        return Err(Failure::new(DOING, "no claims were made between the quarters"));
    }
    let feed = median(last, |sample| sample.feed_bytes) - median(first, |sample| sample.feed_bytes);
    let grew = worst(
        first,
        last,
        |sample, node| sample.resident_bytes[node],
        |before, after| after - before,
    );
    run.add(id::SOAK_MEMORY_PER_CLAIM, Figure::new((grew - feed) / claims));
    latency(run, stages, [id::SOAK_MIXED_FIRST, id::SOAK_MIXED_LAST]);
    Ok(())
}

fn steady(run: &mut Run, stages: &[Stage]) -> Result<(), Failure> {
    let (first, last) = quarters(stages);
    let made = last
        .samples
        .iter()
        .chain(&first.samples)
        .map(|sample| sample.granted);
    if made.clone().min() != made.max() {
        return Err(Failure::new(
            DOING,
            "claims were made where none should have been",
        ));
    }
    let percent = |before: f64, after: f64| (after / before - 1.0) * 100.0;
    let grown: [(_, OfNode); 3] = [
        (id::SOAK_MEMORY, |sample, node| sample.resident_bytes[node]),
        (id::SOAK_DESCRIPTORS, |sample, node| sample.descriptors[node]),
        (id::SOAK_DISK, |sample, node| sample.disk_bytes[node]),
    ];
    for (id, of) in grown {
        run.add(id, Figure::new(worst(first, last, of, percent)));
    }
    latency(run, stages, [id::SOAK_STEADY_FIRST, id::SOAK_STEADY_LAST]);
    Ok(())
}

/// The first and the last behind the warming up.
fn quarters(stages: &[Stage]) -> (&Stage, &Stage) {
    (&stages[1], &stages[stages.len() - 1])
}

/// What the growth of the node that grew most is, from the medians of two quarters.
fn worst(first: &Stage, last: &Stage, of: OfNode, grew: fn(f64, f64) -> f64) -> f64 {
    let nodes = 0..first.samples[0].resident_bytes.len();
    let grown = nodes.map(|node| {
        let median = |stage| median(stage, |sample| of(sample, node));
        grew(median(first), median(last))
    });
    grown.fold(f64::NEG_INFINITY, f64::max)
}

fn latency(run: &mut Run, stages: &[Stage], ids: [&'static str; 2]) {
    let (first, last) = quarters(stages);
    for (id, stage) in ids.into_iter().zip([first, last]) {
        run.add(id, stage.figure());
    }
}

/// Notes a line for each stage: what the nodes had most of, and how it went.
fn note(run: &mut Run, load: Load, stages: &[Stage]) {
    for (number, stage) in stages.iter().enumerate() {
        let most = |of: fn(&Sample) -> &Vec<u64>| {
            let most = median(stage, |sample| {
                of(sample).iter().copied().max().unwrap_or_default()
            });
            most.round() as u64
        };
        let name = match number {
            0 => "warming up".to_owned(),
            _ => format!("quarter {number}"),
        };
        run.note(format!(
            "soak, {load:?}, {name}: memory {} MiB, {} descriptors, disk {} MiB, feed {} MiB, {} calls, p99 {:.2} ms",
            most(|sample| &sample.resident_bytes) >> 20,
            most(|sample| &sample.descriptors),
            most(|sample| &sample.disk_bytes) >> 20,
            median(stage, |sample| sample.feed_bytes) as u64 >> 20,
            stage.latency_us.len(),
            p99_ms(&stage.latency_us),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::histogram;

    fn stage(samples: &[(u64, [u64; 2])]) -> Stage {
        let sample = |&(granted, bytes): &(u64, [u64; 2])| Sample {
            granted,
            feed_bytes: granted,
            resident_bytes: bytes.to_vec(),
            descriptors: vec![10, 10],
            disk_bytes: bytes.to_vec(),
        };
        Stage {
            samples: samples.iter().map(sample).collect(),
            latency_us: histogram(),
        }
    }

    fn parts(first: &[(u64, [u64; 2])], last: &[(u64, [u64; 2])]) -> Vec<Stage> {
        vec![stage(&[(0, [1, 1])]), stage(first), stage(last)]
    }

    #[test]
    fn the_node_that_grew_most_counts_and_no_single_look() {
        let first = [
            (100, [1_000, 1_000]),
            (100, [1_000, 9_999]),
            (100, [1_000, 1_000]),
        ];
        let last = [
            (100, [1_000, 1_100]),
            (100, [8_888, 1_100]),
            (100, [1_000, 1_100]),
        ];
        let mut run = Run::default();
        steady(&mut run, &parts(&first, &last)).unwrap();
        let value = |run: &Run, id| run.get(id).unwrap().value.round();
        assert_eq!(value(&run, id::SOAK_MEMORY), 10.0);
        assert_eq!(value(&run, id::SOAK_DESCRIPTORS), 0.0);
        assert_eq!(value(&run, id::SOAK_DISK), 10.0);
        let made = parts(&first, &[(101, [1_000, 1_100])]);
        assert!(steady(&mut run, &made).is_err(), "a claim was made");

        // 1,000 bytes, 100 of which the feed's, for 100 claims.
        let mut run = Run::default();
        mixed(&mut run, &parts(&first, &[(200, [2_000, 1_500])])).unwrap();
        assert_eq!(value(&run, id::SOAK_MEMORY_PER_CLAIM), 9.0);
        assert!(
            mixed(&mut run, &parts(&first, &last)).is_err(),
            "no claims to divide by"
        );
    }
}
