//! Names of figures, in JSON as in the code.

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
