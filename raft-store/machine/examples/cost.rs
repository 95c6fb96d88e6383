//! What a claim costs in time and memory: `cargo run --release -p inventory-machine --example cost`.
//!
//! Memory is the process's resident set, so the allocator and every index are in it; the slope
//! between one million and four million live claims leaves out what is there anyway. Time is this
//! thread's time on a processor, so that a busy machine does not count. Linux only: it reads `/proc`.

use std::fs;

use inventory_machine::{
    Machine,
    codec::{Batch, BatchEncoder},
    command::*,
    hash::{key_hash, user_hash},
};

/// Claims in one batch, as a busy leader makes them.
const BATCH: u64 = 512;

/// Longest hold, so that nothing expires before it should.
const HOLD_MS: u64 = HOLD_MS_MAX;

const SECRET: u128 = 42;

struct Bench {
    machine: Machine,
    encoder: BatchEncoder,
    log_time_ms: u64,
}

impl Bench {
    fn apply(&mut self, commands: &[Command<'_>]) -> f64 {
        self.encoder.sale(0, "bench");
        commands.iter().for_each(|command| self.encoder.push(command));
        let bytes = self.encoder.finish(self.log_time_ms, 1);
        let batch = Batch::parse(&bytes).expect("a batch");
        let begun = Instant::now();
        let applied = self
            .machine
            .apply(self.machine.applied_index() + 1, 1, &batch)
            .expect("commands");
        let spent = begun.elapsed_s();
        assert_eq!(applied.replies.len(), commands.len());
        spent
    }

    /// Seconds that applying claims of these users took, and the longest batch.
    fn claims(&mut self, users: std::ops::Range<u64>) -> (f64, f64) {
        let (mut spent, mut longest) = (0.0, 0.0f64);
        for first in users.clone().step_by(BATCH as usize) {
            let commands: Vec<_> = (first..users.end.min(first + BATCH))
                .map(|user| self.claim(user))
                .collect();
            let batch = self.apply(&commands);
            spent += batch;
            longest = longest.max(batch);
        }
        (spent, longest)
    }

    fn claim(&self, user: u64) -> Command<'static> {
        let name = user.to_le_bytes();
        let principal = user_hash(SECRET, 0, &name);
        let key = key_hash(SECRET, 0, b"bench", principal, Operation::Claim, &name);
        let body = Body::Claim(Take {
            sale: 0,
            user: principal,
            quantity: 1,
        });
        Command {
            follows: false,
            principal,
            key,
            not_after_ms: self.log_time_ms + 60_000,
            body,
        }
    }
}

/// A point in this thread's time on a processor.
struct Instant(f64);

impl Instant {
    fn now() -> Instant {
        let line = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
        let nanos: f64 = line
            .split_whitespace()
            .next()
            .and_then(|nanos| nanos.parse().ok())
            .expect("a number");
        Instant(nanos / 1e9)
    }

    fn elapsed_s(&self) -> f64 {
        Instant::now().0 - self.0
    }
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("a resident set");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a number");
    kib * 1024
}

fn main() {
    let mut bench = Bench {
        machine: Machine::default(),
        encoder: BatchEncoder::new(),
        log_time_ms: 0,
    };
    let create = CreateSale {
        sale: 0,
        name: "bench",
        units_total: 10_000_000,
        per_user_units_max: 1,
        hold_ms: HOLD_MS,
        checkout_max_ms: 0,
        opens_at_ms: 0,
        closes_at_ms: 0,
        price_minor: 1,
        currency: *b"EUR",
        claims_max: 0,
    };
    let at = |key, body| Command {
        follows: false,
        principal: 1,
        key,
        not_after_ms: 0,
        body,
    };
    bench.apply(&[
        at(
            1,
            Body::Found(Found {
                cluster_id: 1,
                secret: SECRET,
                incarnation: 1,
            }),
        ),
        at(2, Body::CreateSale(create)),
        at(3, Body::OpenSale { sale: 0 }),
    ]);

    let micros = |seconds: f64, count: u64| seconds * 1e6 / count as f64;
    let million = 1_000_000;
    let (first, longest) = bench.claims(0..million);
    let (bytes_1m, one) = (resident(), million);
    println!(
        "claim, first million       {:.3} µs, longest batch {:.2} ms",
        micros(first, one),
        longest * 1e3
    );
    let begun = Instant::now();
    let frozen = bench.machine.freeze();
    println!("freeze at 1M               {:.3} ms", begun.elapsed_s() * 1e3);
    drop(frozen);
    let (more, longest) = bench.claims(one..4 * one);
    println!(
        "claim, next three millions {:.3} µs, longest batch {:.2} ms",
        micros(more, 3 * one),
        longest * 1e3
    );
    let slope = (resident() - bytes_1m) as f64 / (3 * one) as f64;
    println!("memory per live claim      {slope:.0} B (slope, 1M to 4M)");
    let (again, _) = bench.claims(0..one);
    println!("the same claim again       {:.3} µs", micros(again, one));

    let begun = Instant::now();
    let frozen = bench.machine.freeze();
    let froze = begun.elapsed_s();
    let begun = Instant::now();
    let mut rows = Vec::new();
    for row in frozen.rows() {
        let (key, mut value) = (row.key(), Vec::new());
        assert!(frozen.row(&row, &key, &mut value));
        rows.push((key, value));
    }
    let written = begun.elapsed_s();
    let begun = Instant::now();
    let mut loader = Machine::loader();
    for (key, value) in &rows {
        loader.row(key, value).expect("a row");
    }
    let loaded = loader.finish().expect("a state");
    let load = begun.elapsed_s();
    assert_eq!(loaded.digest(), bench.machine.digest());
    println!(
        "4M claims: freeze {:.2} ms, rows {written:.2} s, load {load:.2} s",
        froze * 1e3
    );
    drop((rows, loaded, frozen));

    bench.log_time_ms = HOLD_MS;
    let spent = bench.apply(&[]);
    println!(
        "expiry                     {:.3} µs, 4M in one batch",
        micros(spent, 4 * one)
    );
    assert!(bench.machine.recount().are_sound());
}
