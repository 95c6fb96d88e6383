//! What a document costs in time and memory: `cargo run --release -p inventory-machine --example documents`
//! with as many documents in each of three steps as its argument says, a million without.
//!
//! Documents like those of a checkout are made and written again, while the state is frozen as often as a
//! node's image writer does under such a load; then lists of them are taken. Memory is the process's resident
//! set. Linux only: it reads `/proc`.

use std::{fs, time::Instant};

use inventory_machine::{
    Applied, DocumentQuery, Machine,
    codec::{Batch, BatchEncoder},
    command::*,
    reply::Reply,
};

/// Commands in one batch.
const BATCH: u64 = 64;

/// Writes between two freezes: half a second of 5,000 writes a second.
const FREEZE_EVERY: u64 = 2_500;

/// A body as large as that of a journal or an order.
const BODY: [u8; 400] = [b'x'; 400];

struct Bench {
    machine: Machine,
    encoder: BatchEncoder,
    log_time_ms: u64,
    key: u128,
    /// Version of each document: its last write.
    versions: Vec<u64>,
}

/// Keys of different kinds, as a checkout makes them: some grow with time, some are spread by an id.
fn key_of(number: u64) -> String {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    match number % 4 {
        0 => format!("order/o_{spread:016x}{number:016x}"),
        1 => format!("ledger/2026-11-22T{number:016}/pi_{spread:016x}.capture"),
        2 => format!("idem/{spread:016x}{number:016x}"),
        _ => format!("webhook/evt_{number:016}{spread:016x}"),
    }
}

impl Bench {
    /// Writes these documents, and gives µs a write and the longest batch in ms.
    fn write(&mut self, numbers: impl Iterator<Item = u64>) -> (f64, f64) {
        let numbers: Vec<u64> = numbers.collect();
        let (mut spent, mut longest) = (0.0, 0.0f64);
        let mut since_freeze = 0;
        let mut frozen = None;
        for numbers in numbers.chunks(BATCH as usize) {
            let keys: Vec<String> = numbers.iter().map(|&number| key_of(number)).collect();
            for (key, &number) in keys.iter().zip(numbers) {
                let body = Body::PutDocument(PutDocument {
                    document: key.as_bytes(),
                    body: &BODY,
                    version_expected: self.versions.get(number as usize).copied().unwrap_or(0),
                    fencing_token: 0,
                    ttl_ms: if number % 4 == 2 { TTL_MS } else { 0 },
                });
                self.push(body);
            }
            let begun = Instant::now();
            let applied = self.apply();
            let took = begun.elapsed().as_secs_f64();
            let index = self.machine.applied_index();
            (spent, longest) = (spent + took, longest.max(took));
            for (position, (reply, &number)) in applied.replies.iter().zip(numbers).enumerate() {
                let version = index << 16 | position as u64;
                assert!(
                    matches!(reply, Reply::Document { version: v, .. } if *v == version),
                    "{reply:?}"
                );
                if self.versions.len() <= number as usize {
                    self.versions.resize(number as usize + 1, 0);
                }
                self.versions[number as usize] = version;
            }
            since_freeze += numbers.len() as u64;
            if since_freeze >= FREEZE_EVERY {
                since_freeze = 0;
                let begun = Instant::now();
                self.machine.take_dirty();
                let next = self.machine.freeze();
                let took = begun.elapsed().as_secs_f64();
                (spent, longest) = (spent + took, longest.max(took));
                frozen = Some(next);
            }
        }
        drop(frozen);
        (spent * 1e6 / numbers.len() as f64, longest * 1e3)
    }

    /// Leases one document and renews it so often, each time with a key that is remembered.
    fn lease(&mut self, renewals: u64) {
        let (document, mut fencing_token) = (key_of(0), 0);
        for _ in 0..renewals.div_ceil(BATCH) {
            let commands = if fencing_token == 0 { 1 } else { BATCH };
            for _ in 0..commands {
                let body = Body::LeaseDocument {
                    document: document.as_bytes(),
                    fencing_token,
                    lease_ms: 1_000,
                };
                self.push(body);
            }
            for reply in self.apply().replies {
                let Reply::Document {
                    fencing_token: token, ..
                } = reply
                else {
                    panic!("{reply:?}");
                };
                fencing_token = token;
            }
        }
    }

    /// Adds a command with a key of its own to the next batch.
    fn push(&mut self, body: Body<'_>) {
        self.key += 1;
        self.encoder.push(&Command {
            follows: false,
            principal: 1,
            key: self.key.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
            not_after_ms: self.log_time_ms,
            body,
        });
    }

    fn apply(&mut self) -> Applied {
        let bytes = self.encoder.finish(self.log_time_ms, 1);
        let batch = Batch::parse(&bytes).expect("a batch");
        let index = self.machine.applied_index() + 1;
        self.machine.apply(index, 1, &batch).expect("commands")
    }

    /// µs to list so many documents of a kind.
    fn list(&self, prefix: &str, limit: usize, keys_only: bool) -> f64 {
        let rounds = 200;
        let begun = Instant::now();
        for _ in 0..rounds {
            let list = self.machine.documents(&DocumentQuery {
                prefix: prefix.as_bytes(),
                after: b"",
                limit,
                bytes_max: 1 << 20,
                keys_only,
            });
            assert!(list.documents.len() <= limit);
        }
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
    }
}

/// Longer than the run.
const TTL_MS: u64 = 86_400_000;

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
        key: 1,
        versions: Vec::new(),
    };
    bench.push(Body::Found(Found {
        cluster_id: 1,
        secret: 42,
        incarnation: 1,
    }));
    bench.apply();

    let many: u64 = std::env::args()
        .nth(1)
        .and_then(|many| many.parse().ok())
        .unwrap_or(1_000_000);
    for stage in 1..=3u64 {
        let (from, to) = ((stage - 1) * many, stage * many);
        let before = resident();
        let (create, longest) = bench.write(from..to);
        let bytes = (resident() - before) as f64 / many as f64;
        println!("{to} documents: create {create:.2} µs, longest stop {longest:.1} ms, {bytes:.0} B each");
        let spread = (0..(many / 5)).map(|n| n.wrapping_mul(7_919_777) % to);
        let mut numbers: Vec<u64> = spread.collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mixed: Vec<u64> = (0..numbers.len())
            .map(|n| numbers[n * 99_991 % numbers.len()])
            .collect();
        let mut seen = std::collections::HashSet::new();
        let (again, longest) = bench.write(mixed.into_iter().filter(|n| seen.insert(*n)));
        println!("  write again {again:.2} µs, longest stop {longest:.1} ms");
        println!(
            "  list: none {:.1} µs, 100 {:.1} µs, 1 MiB {:.1} µs, 1000 keys {:.1} µs",
            bench.list("checkout/open/", 100, false),
            bench.list("order/", 100, false),
            bench.list("ledger/", 10_000, false),
            bench.list("order/", 1_000, true),
        );
    }
    let before = resident();
    bench.lease(many);
    let bytes = (resident() - before) as f64 / many as f64;
    println!("memory per remembered key {bytes:.0} B");
    let begun = Instant::now();
    let frozen = bench.machine.freeze();
    println!("freeze {:.2} ms", begun.elapsed().as_secs_f64() * 1e3);
    drop(frozen);
}
