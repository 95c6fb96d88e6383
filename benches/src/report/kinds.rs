//! Everything that can be measured.

use super::{
    id,
    kind::{Kind, Unit, kind, peer},
};

/// Everything that can be measured, in the order in which it is shown.
pub const KINDS: [Kind; 119] = [
    kind(id::DISK_4_KIB, "bare disk: write 4 KiB, fdatasync", Unit::Ms),
    kind(id::DISK_40_KIB, "bare disk: write 40 KiB, fdatasync", Unit::Ms),
    kind(
        id::RAFT_FULL,
        "bare raft: full entries of claims, 8 in flight",
        Unit::PerSecond,
    ),
    kind(
        id::RAFT_64,
        "bare raft: a 40 B entry each, 64 in flight",
        Unit::PerSecond,
    ),
    kind(id::RAFT_ONE, "bare raft: one 40 B entry at a time, p50", Unit::Ms).of(id::DISK_4_KIB),
    kind(
        id::LOOPBACK_ONE,
        "bare loopback: a claim's bytes and back, p50",
        Unit::Ms,
    ),
    kind(
        id::LOOPBACK_64,
        "bare loopback: the same, 64 connections",
        Unit::PerSecond,
    ),
    kind(
        id::LOOPBACK_STREAM,
        "bare loopback: bytes one way, one connection",
        Unit::MibPerSecond,
    ),
    kind(
        id::GRPC_ONE,
        "bare gRPC stream: one claim at a time, p50",
        Unit::Ms,
    )
    .of(id::LOOPBACK_ONE),
    kind(
        id::GRPC_64,
        "bare gRPC stream: a claim each, 64 in flight",
        Unit::PerSecond,
    ),
    kind(
        id::GRPC_FULL,
        "bare gRPC stream: 512 claims each, 8 in flight",
        Unit::PerSecond,
    ),
    kind(
        id::HTTP_BARE,
        "bare axum: a constant refusal, 64 connections",
        Unit::PerSecond,
    )
    .of(id::LOOPBACK_64),
    kind(id::CLAIMS_BULK, "claims in bulk, frames of 512", Unit::PerSecond)
        .target(400_000.0)
        .of(id::RAFT_FULL),
    kind(id::CLAIMS_8, "claims, 8 single callers", Unit::PerSecond).of(id::RAFT_64),
    kind(id::CLAIMS_64, "claims, 64 single callers", Unit::PerSecond)
        .target(75_000.0)
        .of(id::RAFT_64),
    kind(id::CLAIMS_256, "claims, 256 single callers", Unit::PerSecond).of(id::RAFT_FULL),
    kind(id::CLAIMS_1024, "claims, 1,024 single callers", Unit::PerSecond).of(id::RAFT_FULL),
    kind(
        id::CLAIMS_8_PROCESSES,
        "claims, 8 processes, one call each",
        Unit::PerSecond,
    )
    .of(id::RAFT_64),
    kind(
        id::CLAIMS_32_PROCESSES,
        "claims, 32 processes, one call each",
        Unit::PerSecond,
    )
    .target(25_000.0)
    .of(id::RAFT_64),
    kind(
        id::CLAIMS_8_PROCESSES_BATCHES,
        "claims, 8 processes, batches of 100",
        Unit::PerSecond,
    )
    .target(200_000.0)
    .of(id::RAFT_FULL),
    kind(
        id::CLAIMS_32_PROCESSES_BATCHES,
        "claims, 32 processes, batches of 100",
        Unit::PerSecond,
    )
    .of(id::RAFT_FULL),
    kind(id::CLAIMS_ONE, "claim, one caller, p50", Unit::Ms)
        .target(0.6)
        .of(id::RAFT_ONE),
    kind(
        id::REFUSED_BULK,
        "refusals in bulk, frames of 512",
        Unit::PerSecond,
    )
    .target(800_000.0)
    .of(id::GRPC_FULL),
    kind(id::REFUSED_64, "refusals, 64 single callers", Unit::PerSecond).of(id::GRPC_64),
    kind(
        id::CLAIMS_100_SALES,
        "claims over 100 sales, 256 callers",
        Unit::PerSecond,
    )
    .of(id::CLAIMS_256),
    kind(
        id::CLAIMS_10000_SALES,
        "claims over 10,000 sales, 256 callers",
        Unit::PerSecond,
    )
    .of(id::CLAIMS_256),
    kind(id::FIVE_NODES_BULK, "five nodes: claims in bulk", Unit::PerSecond).of(id::CLAIMS_BULK),
    kind(
        id::FIVE_NODES_64,
        "five nodes: claims, 64 callers",
        Unit::PerSecond,
    )
    .of(id::CLAIMS_64),
    kind(id::FIVE_NODES_ONE, "five nodes: claim, one caller, p50", Unit::Ms).of(id::CLAIMS_ONE),
    kind(id::TLS_BULK, "TLS both ways: claims in bulk", Unit::PerSecond).of(id::CLAIMS_BULK),
    kind(id::TLS_64, "TLS both ways: claims, 64 callers", Unit::PerSecond).of(id::CLAIMS_64),
    kind(id::TLS_ONE, "TLS both ways: claim, one caller, p50", Unit::Ms).of(id::CLAIMS_ONE),
    kind(
        id::TLS_32_PROCESSES,
        "TLS both ways: claims, 32 processes",
        Unit::PerSecond,
    )
    .of(id::CLAIMS_32_PROCESSES),
    kind(
        id::TLS_REFUSED_BULK,
        "TLS both ways: refusals in bulk",
        Unit::PerSecond,
    )
    .of(id::REFUSED_BULK),
    kind(
        id::RETRIES_BULK,
        "retries in bulk, frames of 512",
        Unit::PerSecond,
    )
    .target(500_000.0)
    .of(id::RAFT_FULL),
    kind(id::CONFIRMS, "confirms, 512 single callers", Unit::PerSecond)
        .target(185_000.0)
        .of(id::RAFT_FULL),
    kind(id::RELEASES, "releases, 512 single callers", Unit::PerSecond).of(id::RAFT_FULL),
    kind(id::DECREMENTS, "decrements, 64 single callers", Unit::PerSecond).of(id::RAFT_64),
    kind(
        id::READS,
        "linearizable reads of a sale, 256 callers",
        Unit::PerSecond,
    )
    .target(300_000.0),
    kind(
        id::READS_LOCAL,
        "local reads of a sale, 256 callers",
        Unit::PerSecond,
    ),
    kind(
        id::WATCH_LATE_1,
        "watch, 1 watcher, 90 claims/s: late, p99",
        Unit::Ms,
    ),
    kind(
        id::WATCH_LATE_100,
        "watch, 100 watchers, 90 claims/s: late, p99",
        Unit::Ms,
    ),
    kind(
        id::WATCH_LATE_1000,
        "watch, 1,000 watchers, 90 claims/s: late, p99",
        Unit::Ms,
    ),
    kind(
        id::WATCH_EVENTS_1,
        "watch, 1 watcher, 64 callers: events heard",
        Unit::PerSecond,
    ),
    kind(
        id::WATCH_CLAIMS_1,
        "claims, 64 callers, before 1 watcher",
        Unit::PerSecond,
    )
    .of(id::CLAIMS_64),
    kind(
        id::WATCH_EVENTS_100,
        "watch, 100 watchers, 64 callers: events heard",
        Unit::PerSecond,
    ),
    kind(
        id::WATCH_CLAIMS_100,
        "claims, 64 callers, before 100 watchers",
        Unit::PerSecond,
    )
    .of(id::CLAIMS_64),
    kind(
        id::WATCH_EVENTS_1000,
        "watch, 1,000 watchers, 64 callers: events heard",
        Unit::PerSecond,
    ),
    kind(
        id::WATCH_CLAIMS_1000,
        "claims, 64 callers, before 1,000 watchers",
        Unit::PerSecond,
    )
    .of(id::CLAIMS_64),
    kind(
        id::HTTP_GRANTS,
        "HTTP grants, one door, 64 connections",
        Unit::PerSecond,
    )
    .target(25_000.0)
    .of(id::HTTP_BARE),
    kind(
        id::HTTP_REFUSED,
        "HTTP refusals, one door, 64 connections",
        Unit::PerSecond,
    )
    .target(50_000.0)
    .of(id::HTTP_BARE),
    kind(
        id::HTTP_PAGE,
        "HTTP sale page, one door, 64 connections",
        Unit::PerSecond,
    )
    .of(id::HTTP_BARE),
    kind(
        id::HTTP_PAGE_UNCHANGED,
        "HTTP sale page unchanged, 64 connections",
        Unit::PerSecond,
    )
    .of(id::HTTP_BARE),
    kind(
        id::CHECKOUT_WRITES_100,
        "store writes of a checkout alone, 100/s, p99",
        Unit::Ms,
    ),
    kind(
        id::CHECKOUT_100,
        "checkout, provider at once, 100/s, p99",
        Unit::Ms,
    ),
    kind(
        id::CHECKOUT_OVERHEAD_100,
        "checkout beyond its store writes, 100/s, p99",
        Unit::Ms,
    ),
    kind(
        id::CHECKOUT_WRITES_250,
        "store writes of a checkout alone, 250/s, p99",
        Unit::Ms,
    ),
    kind(
        id::CHECKOUT_250,
        "checkout, provider at once, 250/s, p99",
        Unit::Ms,
    ),
    kind(
        id::CHECKOUT_OVERHEAD_250,
        "checkout beyond its store writes, 250/s, p99",
        Unit::Ms,
    ),
    kind(
        id::CHECKOUT_WRITES,
        "store writes of a checkout alone, 500/s, p99",
        Unit::Ms,
    ),
    kind(id::CHECKOUT, "checkout, provider at once, 500/s, p99", Unit::Ms),
    kind(
        id::CHECKOUT_OVERHEAD,
        "checkout beyond its store writes, 500/s, p99",
        Unit::Ms,
    )
    .target(15.0),
    kind(
        id::FAULTS_ALL,
        "10,000 checkouts, 5% faults: all decided",
        Unit::Seconds,
    )
    .target(180.0),
    kind(
        id::FAULTS_LONGEST,
        "10,000 checkouts, 5% faults: the longest",
        Unit::Seconds,
    )
    .target(85.0),
    kind(id::FAILOVER, "leader killed: to the next grant", Unit::Ms).target(1_000.0),
    kind(
        id::TRANSFER,
        "leadership handed over: longest gap in grants",
        Unit::Ms,
    )
    .target(50.0),
    kind(id::RESTART_READY, "node restarted on 1M claims: ready", Unit::Ms).target(500.0),
    kind(
        id::RESTART_CAUGHT_UP,
        "node restarted on 1M claims: caught up",
        Unit::Ms,
    )
    .target(500.0),
    kind(
        id::RESTART_READY_LOADED,
        "the same at a light load: ready",
        Unit::Ms,
    ),
    kind(
        id::RESTART_CAUGHT_UP_LOADED,
        "the same at a light load: caught up",
        Unit::Ms,
    ),
    kind(
        id::EXPIRY_BEFORE,
        "claim, 64 callers, beside 1M holds, p99",
        Unit::Ms,
    ),
    kind(id::EXPIRY_WAVE, "the same while the 1M holds end, p99", Unit::Ms).of(id::EXPIRY_BEFORE),
    kind(
        id::WAVE_FIRST,
        "first wave: grants until sold out, 64 callers",
        Unit::PerSecond,
    ),
    kind(
        id::WAVE_SECOND,
        "second wave: grants of what was released",
        Unit::PerSecond,
    )
    .of(id::WAVE_FIRST),
    kind(
        id::GROWTH_10K,
        "claims in bulk, 10k live in the sale",
        Unit::PerSecond,
    ),
    kind(
        id::GROWTH_1M,
        "claims in bulk, 1M live in the sale",
        Unit::PerSecond,
    ),
    kind(
        id::GROWTH_10M,
        "claims in bulk, 10M live in the sale",
        Unit::PerSecond,
    ),
    kind(
        id::GROWTH_COST_10K,
        "CPU of a claim, 10k live in the sale",
        Unit::Us,
    ),
    kind(
        id::GROWTH_COST_1M,
        "CPU of a claim, 1M live in the sale",
        Unit::Us,
    ),
    kind(
        id::GROWTH_COST_10M,
        "CPU of a claim, 10M live in the sale",
        Unit::Us,
    )
    .of(id::GROWTH_COST_1M),
    kind(id::GROWTH_MEMORY, "memory per live claim, 1M to 10M", Unit::Bytes).target(130.0),
    kind(
        id::GROWTH_IMAGE,
        "disk per live claim of 10M: the image",
        Unit::Bytes,
    ),
    kind(
        id::GROWTH_DISK,
        "disk per live claim of 10M: image and two snapshots",
        Unit::Bytes,
    )
    .target(450.0),
    kind(id::GROWTH_READY, "node restarted on 10M claims: ready", Unit::Ms).target(3_000.0),
    kind(
        id::GROWTH_CAUGHT_UP,
        "node restarted on 10M claims: caught up",
        Unit::Ms,
    ),
    kind(
        id::GROWTH_CALM,
        "claim, 64 callers, beside 10M claims, p99",
        Unit::Ms,
    ),
    kind(
        id::GROWTH_SNAPSHOT,
        "the same while the leader writes a snapshot, p99",
        Unit::Ms,
    )
    .of(id::GROWTH_CALM),
    kind(
        id::GROWTH_LEARNER,
        "learner of 10M claims under that load: caught up",
        Unit::Seconds,
    ),
    kind(
        id::GROWTH_LEARNER_CLAIMS,
        "claim, 64 callers, meanwhile, p99",
        Unit::Ms,
    )
    .of(id::GROWTH_CALM),
    kind(
        id::SOAK_MEMORY_PER_CLAIM,
        "soak, mixed load: memory per claim made",
        Unit::Bytes,
    ),
    kind(
        id::SOAK_MIXED_FIRST,
        "soak, mixed load: first quarter, p99",
        Unit::Ms,
    ),
    kind(
        id::SOAK_MIXED_LAST,
        "soak, mixed load: last quarter, p99",
        Unit::Ms,
    )
    .of(id::SOAK_MIXED_FIRST),
    kind(
        id::SOAK_MEMORY,
        "soak, nothing new: memory grew by",
        Unit::Percent,
    ),
    kind(
        id::SOAK_DESCRIPTORS,
        "soak, nothing new: descriptors grew by",
        Unit::Percent,
    ),
    kind(id::SOAK_DISK, "soak, nothing new: disk grew by", Unit::Percent),
    kind(
        id::SOAK_STEADY_FIRST,
        "soak, nothing new: first quarter, p99",
        Unit::Ms,
    ),
    kind(
        id::SOAK_STEADY_LAST,
        "soak, nothing new: last quarter, p99",
        Unit::Ms,
    )
    .of(id::SOAK_STEADY_FIRST),
    peer(
        id::ETCD_64,
        "etcd, one counter: claims, 64 callers",
        id::CLAIMS_64,
    ),
    peer(
        id::ETCD_64_UNITS,
        "etcd, a key per unit: claims, 64 callers",
        id::CLAIMS_64,
    ),
    peer(
        id::ETCD_BULK,
        "etcd, one counter: claims, 63 a Txn",
        id::CLAIMS_BULK,
    ),
    peer(
        id::ETCD_BULK_UNITS,
        "etcd, a key per unit: claims, 16 × 125 a Txn",
        id::CLAIMS_BULK,
    ),
    peer(
        id::ETCD_ONE,
        "etcd, one counter: claim, one caller, p50",
        id::CLAIMS_ONE,
    )
    .in_ms(),
    peer(
        id::ETCD_REFUSED_64,
        "etcd, one counter: refusals, 64 callers",
        id::REFUSED_64,
    ),
    peer(
        id::ETCD_REFUSED_BULK,
        "etcd, one counter: refusals, 16 × 63 a Txn",
        id::REFUSED_BULK,
    ),
    peer(
        id::REDIS_64,
        "Redis, AOF always, WAIT 1: claims, 64 callers",
        id::CLAIMS_64,
    ),
    peer(
        id::REDIS_BULK,
        "Redis, AOF always, WAIT 1: claims, 16 × 512",
        id::CLAIMS_BULK,
    ),
    peer(
        id::REDIS_ONE,
        "Redis, AOF always, WAIT 1: claim, one caller, p50",
        id::CLAIMS_ONE,
    )
    .in_ms(),
    peer(
        id::REDIS_REFUSED_64,
        "Redis, AOF always, WAIT 1: refusals, 64 callers",
        id::REFUSED_64,
    ),
    peer(
        id::REDIS_REFUSED_BULK,
        "Redis, AOF always, WAIT 1: refusals, 16 × 512",
        id::REFUSED_BULK,
    ),
    peer(
        id::REDIS_MEMORY_64,
        "Redis in memory, not durable: claims, 64 callers",
        id::CLAIMS_64,
    ),
    peer(
        id::REDIS_MEMORY_BULK,
        "Redis in memory, not durable: claims, 16 × 512",
        id::CLAIMS_BULK,
    ),
    peer(
        id::REDIS_MEMORY_ONE,
        "Redis in memory, not durable: claim, one caller, p50",
        id::CLAIMS_ONE,
    )
    .in_ms(),
    peer(
        id::REDIS_MEMORY_REFUSED_64,
        "Redis in memory, not durable: refusals, 64 callers",
        id::REFUSED_64,
    ),
    peer(
        id::REDIS_MEMORY_REFUSED_BULK,
        "Redis in memory, not durable: refusals, 16 × 512",
        id::REFUSED_BULK,
    ),
    peer(
        id::POSTGRES_64,
        "PostgreSQL, one machine, no replication: claims, 64 callers",
        id::CLAIMS_64,
    ),
    peer(
        id::POSTGRES_BULK,
        "PostgreSQL, one machine, no replication: claims, 16 × 512",
        id::CLAIMS_BULK,
    ),
    peer(
        id::POSTGRES_ONE,
        "PostgreSQL, one machine, no replication: claim, one caller, p50",
        id::CLAIMS_ONE,
    )
    .in_ms(),
    peer(
        id::POSTGRES_REFUSED_64,
        "PostgreSQL, one machine, no replication: refusals, 64 callers",
        id::REFUSED_64,
    ),
    peer(
        id::POSTGRES_REFUSED_BULK,
        "PostgreSQL, one machine, no replication: refusals, 16 × 512",
        id::REFUSED_BULK,
    ),
];

/// Kinds that are other stores'.
const PEERS: usize = 22;

/// Each of those, and ours for the same work behind it.
pub const PEER_FIGURES: [&str; 2 * PEERS] = {
    let mut figures = [""; 2 * PEERS];
    let (mut found, mut at) = (0, 0);
    while at < KINDS.len() {
        if let Some(ours) = KINDS[at].ours {
            figures[2 * found] = KINDS[at].id;
            figures[2 * found + 1] = ours;
            found += 1;
        }
        at += 1;
    }
    assert!(found == PEERS);
    figures
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_and_every_figure_of_ours_is_a_kind_and_every_id_is_there_once() {
        for kind in &KINDS {
            assert_eq!(
                KINDS.iter().filter(|other| other.id == kind.id).count(),
                1,
                "{}",
                kind.id
            );
            for id in kind.limit.iter().chain(&kind.ours) {
                assert!(
                    KINDS
                        .iter()
                        .any(|other| other.id == *id && other.unit == kind.unit),
                    "{id}"
                );
            }
        }
    }
}
