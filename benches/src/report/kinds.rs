//! Everything that can be measured.

use super::kind::{Kind, Unit, kind, peer};

/// Names of figures, in JSON as in the code.
pub mod id {
    /// 4 KiB + fdatasync.
    pub const DISK_4_KIB: &str = "disk-4-kib";
    /// 40 KiB + fdatasync.
    pub const DISK_40_KIB: &str = "disk-40-kib";
    /// Bare raft, entries as large as a full entry of claims.
    pub const RAFT_FULL: &str = "raft-full-entries";
    /// Bare raft, 40-byte entries, 64 in flight.
    pub const RAFT_64: &str = "raft-64-in-flight";
    /// Bare raft, one 40-byte entry at a time.
    pub const RAFT_ONE: &str = "raft-one-in-flight";
    /// A claim's frame and its answer over TCP, one at a time.
    pub const LOOPBACK_ONE: &str = "loopback-one-at-a-time";
    /// The same on 64 connections.
    pub const LOOPBACK_64: &str = "loopback-64-connections";
    /// Bytes one way over TCP.
    pub const LOOPBACK_STREAM: &str = "loopback-stream";
    /// A bare gRPC stream, one frame of one claim at a time.
    pub const GRPC_ONE: &str = "grpc-one-in-flight";
    /// A bare gRPC stream, frames of one claim, 64 in flight.
    pub const GRPC_64: &str = "grpc-64-in-flight";
    /// A bare gRPC stream, full frames.
    pub const GRPC_FULL: &str = "grpc-full-frames";
    /// A constant from axum, under the load of the HTTP scenario.
    pub const HTTP_BARE: &str = "http-bare";
    /// Claims in full frames.
    pub const CLAIMS_BULK: &str = "claims-bulk";
    /// Claims by 8 single callers of one client.
    pub const CLAIMS_8: &str = "claims-8-callers";
    /// The same by 64.
    pub const CLAIMS_64: &str = "claims-64-callers";
    /// The same by 256.
    pub const CLAIMS_256: &str = "claims-256-callers";
    /// The same by 1,024.
    pub const CLAIMS_1024: &str = "claims-1024-callers";
    /// Claims by 8 processes, one call each.
    pub const CLAIMS_8_PROCESSES: &str = "claims-8-processes";
    /// The same by 32.
    pub const CLAIMS_32_PROCESSES: &str = "claims-32-processes";
    /// Claims by 8 processes, batches of 100.
    pub const CLAIMS_8_PROCESSES_BATCHES: &str = "claims-8-processes-batches";
    /// The same by 32.
    pub const CLAIMS_32_PROCESSES_BATCHES: &str = "claims-32-processes-batches";
    /// One claim at a time.
    pub const CLAIMS_ONE: &str = "claims-one-caller";
    /// Refusals in full frames.
    pub const REFUSED_BULK: &str = "refused-bulk";
    /// Refusals by 64 single callers.
    pub const REFUSED_64: &str = "refused-64-callers";
    /// Claims by 256 single callers over 100 sales.
    pub const CLAIMS_100_SALES: &str = "claims-100-sales";
    /// The same over 10,000.
    pub const CLAIMS_10000_SALES: &str = "claims-10000-sales";
    /// Claims in full frames from five nodes.
    pub const FIVE_NODES_BULK: &str = "five-nodes-claims-bulk";
    /// By 64 single callers.
    pub const FIVE_NODES_64: &str = "five-nodes-claims-64-callers";
    /// By one.
    pub const FIVE_NODES_ONE: &str = "five-nodes-claims-one-caller";
    /// Claims in full frames with TLS both ways.
    pub const TLS_BULK: &str = "tls-claims-bulk";
    /// By 64 single callers.
    pub const TLS_64: &str = "tls-claims-64-callers";
    /// By one.
    pub const TLS_ONE: &str = "tls-claims-one-caller";
    /// By 32 processes, one call each.
    pub const TLS_32_PROCESSES: &str = "tls-claims-32-processes";
    /// Refusals in full frames.
    pub const TLS_REFUSED_BULK: &str = "tls-refused-bulk";
    /// The same keys again, in full frames.
    pub const RETRIES_BULK: &str = "retries-bulk";
    /// Confirms.
    pub const CONFIRMS: &str = "confirms";
    /// Releases.
    pub const RELEASES: &str = "releases";
    /// Decrements by 64 single callers.
    pub const DECREMENTS: &str = "decrements-64-callers";
    /// Linearizable reads of a sale.
    pub const READS: &str = "reads-linearizable";
    /// Local reads of a sale.
    pub const READS_LOCAL: &str = "reads-local";
    /// How late one watcher hears of a grant.
    pub const WATCH_LATE_1: &str = "watch-late-1-watcher";
    /// The same of 100.
    pub const WATCH_LATE_100: &str = "watch-late-100-watchers";
    /// The same of 1,000.
    pub const WATCH_LATE_1000: &str = "watch-late-1000-watchers";
    /// Events that one watcher hears at full rate.
    pub const WATCH_EVENTS_1: &str = "watch-events-1-watcher";
    /// Claims meanwhile.
    pub const WATCH_CLAIMS_1: &str = "watch-claims-1-watcher";
    /// Events that 100 hear together.
    pub const WATCH_EVENTS_100: &str = "watch-events-100-watchers";
    /// Claims meanwhile.
    pub const WATCH_CLAIMS_100: &str = "watch-claims-100-watchers";
    /// Events that 1,000 hear together.
    pub const WATCH_EVENTS_1000: &str = "watch-events-1000-watchers";
    /// Claims meanwhile.
    pub const WATCH_CLAIMS_1000: &str = "watch-claims-1000-watchers";
    /// Grants over HTTP.
    pub const HTTP_GRANTS: &str = "http-grants";
    /// Refusals over HTTP.
    pub const HTTP_REFUSED: &str = "http-refused";
    /// A sale's page over HTTP.
    pub const HTTP_PAGE: &str = "http-page";
    /// The same, unchanged since it was last asked for.
    pub const HTTP_PAGE_UNCHANGED: &str = "http-page-unchanged";
    /// A checkout's store writes without the checkout, 100 a second.
    pub const CHECKOUT_WRITES_100: &str = "checkout-100-writes";
    /// A checkout at that rate, all of it.
    pub const CHECKOUT_100: &str = "checkout-100";
    /// What it takes beyond its store writes then.
    pub const CHECKOUT_OVERHEAD_100: &str = "checkout-100-overhead";
    /// The store writes, 250 a second.
    pub const CHECKOUT_WRITES_250: &str = "checkout-250-writes";
    /// A checkout at that rate.
    pub const CHECKOUT_250: &str = "checkout-250";
    /// What it takes beyond its store writes then.
    pub const CHECKOUT_OVERHEAD_250: &str = "checkout-250-overhead";
    /// A checkout's store writes without the checkout, 500 a second.
    pub const CHECKOUT_WRITES: &str = "checkout-writes";
    /// A checkout, all of it.
    pub const CHECKOUT: &str = "checkout";
    /// What a checkout takes beyond its store writes.
    pub const CHECKOUT_OVERHEAD: &str = "checkout-overhead";
    /// Checkouts with a provider that fails: until all are decided.
    pub const FAULTS_ALL: &str = "checkout-faults-all";
    /// The longest of them.
    pub const FAULTS_LONGEST: &str = "checkout-faults-longest";
    /// From the death of the leader to the next grant.
    pub const FAILOVER: &str = "failover";
    /// Longest gap between grants around a transfer of leadership.
    pub const TRANSFER: &str = "leader-transfer";
    /// A node on 1M claims, until it is ready.
    pub const RESTART_READY: &str = "restart-ready";
    /// The same, until it has caught up.
    pub const RESTART_CAUGHT_UP: &str = "restart-caught-up";
    /// Until it is ready, while callers claim.
    pub const RESTART_READY_LOADED: &str = "restart-ready-under-load";
    /// Until it has caught up, while callers claim.
    pub const RESTART_CAUGHT_UP_LOADED: &str = "restart-caught-up-under-load";
    /// Claims before a million holds end.
    pub const EXPIRY_BEFORE: &str = "expiry-before";
    /// Claims while they end.
    pub const EXPIRY_WAVE: &str = "expiry-wave";
    /// Grants until a sale is sold out.
    pub const WAVE_FIRST: &str = "wave-first";
    /// Grants of what came back.
    pub const WAVE_SECOND: &str = "wave-second";
    /// Claims in bulk from 10k live ones of the same sale on.
    pub const GROWTH_10K: &str = "growth-claims-10k";
    /// The same from 1M on.
    pub const GROWTH_1M: &str = "growth-claims-1m";
    /// The same from 10M on.
    pub const GROWTH_10M: &str = "growth-claims-10m";
    /// Processor time of each of those from 10k on.
    pub const GROWTH_COST_10K: &str = "growth-cost-10k";
    /// The same from 1M on.
    pub const GROWTH_COST_1M: &str = "growth-cost-1m";
    /// The same from 10M on.
    pub const GROWTH_COST_10M: &str = "growth-cost-10m";
    /// Memory per live claim.
    pub const GROWTH_MEMORY: &str = "growth-memory-per-claim";
    /// The image on disk, per live claim.
    pub const GROWTH_IMAGE: &str = "growth-image-per-claim";
    /// The image and the snapshots, per live claim.
    pub const GROWTH_DISK: &str = "growth-disk-per-claim";
    /// A node on 10M claims, until it is ready.
    pub const GROWTH_READY: &str = "growth-restart-ready";
    /// The same, until it has caught up.
    pub const GROWTH_CAUGHT_UP: &str = "growth-restart-caught-up";
    /// Claims beside 10M live ones in another sale.
    pub const GROWTH_CALM: &str = "growth-claims-beside";
    /// The same while the leader writes snapshots of them.
    pub const GROWTH_SNAPSHOT: &str = "growth-claims-snapshot";
    /// A node that joins 10M live claims under load, until it has caught up.
    pub const GROWTH_LEARNER: &str = "growth-learner-caught-up";
    /// The claims of that load.
    pub const GROWTH_LEARNER_CLAIMS: &str = "growth-claims-learner";
    /// Memory per claim made at the soak's mixed load.
    pub const SOAK_MEMORY_PER_CLAIM: &str = "soak-memory-per-claim";
    /// Latency in the first quarter of it.
    pub const SOAK_MIXED_FIRST: &str = "soak-mixed-first-quarter";
    /// In the last.
    pub const SOAK_MIXED_LAST: &str = "soak-mixed-last-quarter";
    /// Memory at the load that makes nothing, from first to last quarter.
    pub const SOAK_MEMORY: &str = "soak-memory";
    /// Open descriptors, likewise.
    pub const SOAK_DESCRIPTORS: &str = "soak-descriptors";
    /// Bytes on disk, likewise.
    pub const SOAK_DISK: &str = "soak-disk";
    /// Latency in the first quarter of it.
    pub const SOAK_STEADY_FIRST: &str = "soak-steady-first-quarter";
    /// In the last.
    pub const SOAK_STEADY_LAST: &str = "soak-steady-last-quarter";
    /// Claims from etcd's one counter by 64 single callers.
    pub const ETCD_64: &str = "etcd-claims-64-callers-counter";
    /// The same where every unit is a key of its own.
    pub const ETCD_64_UNITS: &str = "etcd-claims-64-callers-units";
    /// Claims from etcd's one counter, as many as a transaction takes.
    pub const ETCD_BULK: &str = "etcd-claims-bulk-counter";
    /// The same where every unit is a key of its own, 16 transactions in flight.
    pub const ETCD_BULK_UNITS: &str = "etcd-claims-bulk-units";
    /// One claim at a time from etcd.
    pub const ETCD_ONE: &str = "etcd-claims-one-caller";
    /// Refusals by etcd's counter, 64 single callers.
    pub const ETCD_REFUSED_64: &str = "etcd-refused-64-callers";
    /// The same, as many as a transaction takes.
    pub const ETCD_REFUSED_BULK: &str = "etcd-refused-bulk";
    /// Claims from Redis, log and replica, by 64 single callers.
    pub const REDIS_64: &str = "redis-claims-64-callers";
    /// The same in calls of 512.
    pub const REDIS_BULK: &str = "redis-claims-bulk";
    /// One claim at a time.
    pub const REDIS_ONE: &str = "redis-claims-one-caller";
    /// Refusals by it, 64 single callers.
    pub const REDIS_REFUSED_64: &str = "redis-refused-64-callers";
    /// The same in calls of 512.
    pub const REDIS_REFUSED_BULK: &str = "redis-refused-bulk";
    /// Claims from Redis, in memory only, by 64 single callers.
    pub const REDIS_MEMORY_64: &str = "redis-memory-claims-64-callers";
    /// The same in calls of 512.
    pub const REDIS_MEMORY_BULK: &str = "redis-memory-claims-bulk";
    /// One claim at a time.
    pub const REDIS_MEMORY_ONE: &str = "redis-memory-claims-one-caller";
    /// Refusals by it, 64 single callers.
    pub const REDIS_MEMORY_REFUSED_64: &str = "redis-memory-refused-64-callers";
    /// The same in calls of 512.
    pub const REDIS_MEMORY_REFUSED_BULK: &str = "redis-memory-refused-bulk";
    /// Claims from PostgreSQL, alone,, by 64 single callers.
    pub const POSTGRES_64: &str = "postgres-claims-64-callers";
    /// The same in calls of 512.
    pub const POSTGRES_BULK: &str = "postgres-claims-bulk";
    /// One claim at a time.
    pub const POSTGRES_ONE: &str = "postgres-claims-one-caller";
    /// Refusals by it, 64 single callers.
    pub const POSTGRES_REFUSED_64: &str = "postgres-refused-64-callers";
    /// The same in calls of 512.
    pub const POSTGRES_REFUSED_BULK: &str = "postgres-refused-bulk";
}

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
