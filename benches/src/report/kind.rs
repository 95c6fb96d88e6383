//! Everything that can be measured: its unit, its target, and the limit that it is shown beside.

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
    /// Claims in full frames.
    pub const CLAIMS_BULK: &str = "claims-bulk";
    /// Claims by 64 single callers of one client.
    pub const CLAIMS_64: &str = "claims-64-callers";
    /// Claims by 32 clients, one call each.
    pub const CLAIMS_32_CLIENTS: &str = "claims-32-clients";
    /// Claims by 8 clients, batches of 100.
    pub const CLAIMS_8_CLIENTS: &str = "claims-8-clients";
    /// One claim at a time.
    pub const CLAIMS_ONE: &str = "claims-one-caller";
    /// Refusals in full frames.
    pub const REFUSED_BULK: &str = "refused-bulk";
    /// Refusals by 64 single callers.
    pub const REFUSED_64: &str = "refused-64-callers";
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
    /// Grants over HTTP.
    pub const HTTP_GRANTS: &str = "http-grants";
    /// Refusals over HTTP.
    pub const HTTP_REFUSED: &str = "http-refused";
    /// A checkout's store writes without the checkout.
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
    /// Memory per live claim.
    pub const MEMORY: &str = "memory-per-claim";
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// So many a second: more is better.
    PerSecond,
    /// Milliseconds: less is better.
    Ms,
    /// Seconds: less is better.
    Seconds,
    /// Bytes: less is better.
    Bytes,
}

impl Unit {
    /// As it stands behind a number.
    pub fn text(self) -> &'static str {
        match self {
            Unit::PerSecond => "/s",
            Unit::Ms => "ms",
            Unit::Seconds => "s",
            Unit::Bytes => "B",
        }
    }

    /// A number of it, for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::PerSecond => thousands(value),
            Unit::Ms => format!("{value:.2}"),
            Unit::Seconds => format!("{value:.1}"),
            Unit::Bytes => format!("{value:.0}"),
        }
    }

    /// Whether this is as good as the target.
    pub fn reaches(self, value: f64, target: f64) -> bool {
        if self == Unit::PerSecond {
            value >= target
        } else {
            value <= target
        }
    }

    /// Which share of the limit this is: 1 at the limit, whichever way is better.
    pub fn share(self, value: f64, limit: f64) -> f64 {
        if self == Unit::PerSecond {
            value / limit
        } else {
            limit / value
        }
    }
}

/// A kind of figure.
pub struct Kind {
    /// Its name for programs.
    pub id: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// What it should reach.
    pub target: Option<f64>,
    /// The limit that it is shown beside.
    pub limit: Option<&'static str>,
}

const fn kind(id: &'static str, title: &'static str, unit: Unit) -> Kind {
    Kind {
        id,
        title,
        unit,
        target: None,
        limit: None,
    }
}

impl Kind {
    const fn target(self, target: f64) -> Kind {
        Kind {
            target: Some(target),
            ..self
        }
    }
    const fn of(self, limit: &'static str) -> Kind {
        Kind {
            limit: Some(limit),
            ..self
        }
    }
}

/// Everything that can be measured, in the order in which it is shown.
pub const KINDS: [Kind; 34] = [
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
    kind(id::CLAIMS_BULK, "claims in bulk, frames of 512", Unit::PerSecond)
        .target(250_000.0)
        .of(id::RAFT_FULL),
    kind(id::CLAIMS_64, "claims, 64 single callers", Unit::PerSecond)
        .target(50_000.0)
        .of(id::RAFT_64),
    kind(
        id::CLAIMS_32_CLIENTS,
        "claims, 32 clients, one call each",
        Unit::PerSecond,
    )
    .of(id::RAFT_64),
    kind(
        id::CLAIMS_8_CLIENTS,
        "claims, 8 clients, batches of 100",
        Unit::PerSecond,
    )
    .of(id::RAFT_FULL),
    kind(id::CLAIMS_ONE, "claim, one caller, p50", Unit::Ms)
        .target(0.8)
        .of(id::RAFT_ONE),
    kind(
        id::REFUSED_BULK,
        "refusals in bulk, frames of 512",
        Unit::PerSecond,
    )
    .target(500_000.0),
    kind(id::REFUSED_64, "refusals, 64 single callers", Unit::PerSecond),
    kind(
        id::RETRIES_BULK,
        "retries in bulk, frames of 512",
        Unit::PerSecond,
    )
    .of(id::RAFT_FULL),
    kind(id::CONFIRMS, "confirms, 512 single callers", Unit::PerSecond).of(id::RAFT_FULL),
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
        id::HTTP_GRANTS,
        "HTTP grants, one door, 64 connections",
        Unit::PerSecond,
    )
    .target(15_000.0),
    kind(
        id::HTTP_REFUSED,
        "HTTP refusals, one door, 64 connections",
        Unit::PerSecond,
    ),
    kind(
        id::CHECKOUT_WRITES,
        "store writes of a checkout alone, 500/s, p99",
        Unit::Ms,
    ),
    kind(id::CHECKOUT, "checkout, provider at once, 500/s, p99", Unit::Ms),
    kind(
        id::CHECKOUT_OVERHEAD,
        "checkout beyond its store writes, p99",
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
    kind(id::MEMORY, "memory per live claim, 1M to 4M", Unit::Bytes).target(150.0),
];

/// A whole number with its thousands apart.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The same, but fractions stay fractions.
pub fn thousands_or(value: f64) -> String {
    if value.fract() == 0.0 {
        thousands(value)
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        for (value, text) in [
            (0.0, "0"),
            (999.4, "999"),
            (1_000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(thousands(value), text);
        }
    }

    #[test]
    fn every_limit_is_a_kind_and_every_id_is_there_once() {
        for kind in &KINDS {
            assert_eq!(
                KINDS.iter().filter(|other| other.id == kind.id).count(),
                1,
                "{}",
                kind.id
            );
            assert!(
                kind.limit
                    .is_none_or(|limit| KINDS.iter().any(|kind| kind.id == limit))
            );
        }
    }
}
