//! What the machine takes in time: applying claims, confirms, releases and the end of holds; the bytes of a batch,
//! both ways; the rows of the durable form.
//!
//! criterion, because this runs on machines that others use: it tells a change from noise, against the run before or a
//! saved one (`-- --save-baseline before`, `-- --baseline before`). What does not vary at all is beside it, in
//! `instructions.rs`.

#[allow(dead_code, reason = "the other bench uses the rest")]
mod common;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use common::{BATCH, Work, World, batch, claims, decode, encode, rows};
use criterion::{Criterion, Throughput};
use inventory_machine::codec::BatchEncoder;

/// Live claims: more than any cache has room for.
const LIVE: usize = 200_000;

/// Samples of each; a new world now and then costs more than what is measured.
const SAMPLES: usize = 20;

fn main() {
    let mut criterion = Criterion::default().sample_size(SAMPLES).configure_from_args();
    apply(&mut criterion);
    bytes(&mut criterion);
    durable(&mut criterion);
    criterion.final_summary();
}

/// Worlds of one kind of work, one after the other.
struct Worlds {
    work: Work,
    world: Option<World>,
}

impl Worlds {
    /// How long the next batch took, and the operations in it.
    fn batch(&mut self) -> (Duration, usize) {
        loop {
            let work = self.work;
            let world = self.world.get_or_insert_with(|| World::new(work, LIVE));
            let Some((bytes, operations)) = world.next() else {
                self.world = None;
                continue;
            };
            let begun = Instant::now();
            let applied = black_box(world.apply(black_box(&bytes)));
            let spent = begun.elapsed();
            world.check(&applied);
            return (spent, operations);
        }
    }
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    for work in Work::ALL {
        let mut worlds = Worlds { work, world: None };
        let operations = if work == Work::Expire { LIVE } else { BATCH };
        group.throughput(Throughput::Elements(operations as u64));
        group.bench_function(work.name(), |bencher| {
            bencher.iter_custom(|batches| {
                let mut spent_all = Duration::ZERO;
                for _ in 0..batches {
                    let (spent, did) = worlds.batch();
                    // The last batch of a world may be shorter.
                    spent_all += spent.mul_f64(operations as f64 / did as f64);
                }
                spent_all
            });
        });
    }
    group.finish();
}

fn bytes(criterion: &mut Criterion) {
    let commands = claims(0..BATCH);
    let bytes = batch(&commands, 1);
    let mut encoder = BatchEncoder::new();
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| encode(&mut encoder, black_box(&commands), 1));
    });
    assert_eq!(decode(&bytes), BATCH);
    group.bench_function("decode", |bencher| bencher.iter(|| decode(black_box(&bytes))));
    group.finish();
}

fn durable(criterion: &mut Criterion) {
    let world = World::new(Work::Grant, LIVE);
    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements(LIVE as u64));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| rows(black_box(&world.machine)));
    });
    group.finish();
}
