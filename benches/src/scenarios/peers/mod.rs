//! Other stores at the same work, on the same machine in the same run: claims of one unit of a single hot sale, each by
//! a new user under a new idempotency key, against what [`rules`] asks of everybody. Ours is measured right after
//! each of them, by as many callers for as long, and every row of theirs ends with how many times as good ours is then.
//!
//! Each store runs alone while it is measured, on the same disk as ours, spoken to over TCP on loopback without TLS, as
//! ours is, and as it is usually run: a client library that its users have, or, where that is heavy, the same calls. What
//! it is given, beside its defaults, is what its own documentation says for that durability; snapshots,
//! compactions and rewrites that would fall into the window by chance are put off, which favours it.
//!
//! | | how | against ours |
//! |---|---|---|
//! | etcd | three members, a data directory each; fsync and majority, as always there; the largest quota that is recommended; callers share one HTTP/2 connection to the leader, as ours do | the same durability. No hold that ends by itself, no order of claims beside the revision |
//! | — one counter | one transaction a claim: if the counter is at the revision last heard of, and neither user nor key is there, put all three. In bulk as many claims as its limit of 128 operations leaves room for: 63, one transaction at a time, since two would only spoil one another | what is written first for it: everybody but one loses each round |
//! | — a key per unit | if the unit is free, and neither user nor key is there, put all three; in bulk 125 of them nested in one transaction. Which unit to try is handed out in this process | faster than the counter, and weaker: who finds no unit to try has to count the keys to know, so its refusals are not measured; callers in several processes would try the same units |
//! | Redis, AOF always, WAIT 1 | a script by EVALSHA; `appendonly yes`, `appendfsync always`, the same on one replica; each call followed by WAIT 1; no RDB, no rewrite; a connection a caller, because WAIT holds up whatever comes behind it on its own | weaker: WAIT promises memory of the replica, not its disk; no election: a failover may lose what was acknowledged, and a claim can be seen before it is safe |
//! | Redis in memory | the same script, no file, no replica | not durable at all |
//! | PostgreSQL | one function call; `fsync`, `synchronous_commit` and `full_page_writes` on, 1 GiB of `shared_buffers`, no checkpoint in the window, `wal_level=minimal` because nobody replicates; a connection a caller; the hot row is locked last, behind an advisory lock to queue for | weaker: one machine and its disk, no replication |
//!
//! Left out: tuning that gives up what the row says (asynchronous commit, `appendfsync everysec`, etcd without fsync),
//! other layouts of the hot row, and proxies that merge callers; a client that merges is what the rows in bulk are.

mod etcd;
mod load;
mod postgres;
mod redis;
mod rules;
mod server;

use std::{path::Path, time::Duration};

use self::load::Peers;
use super::wanted;
use crate::{
    failure::Failure,
    report::{Run, peers},
};

/// A store, and how it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Etcd,
    /// With log and replica.
    Redis,
    RedisInMemory,
    PostgreSql,
}

impl Peer {
    /// All of them.
    pub(super) const ALL: [Peer; 4] = [Peer::Etcd, Peer::Redis, Peer::RedisInMemory, Peer::PostgreSql];

    /// Measures it, and says whether it was: if it was asked for, and is installed. Which package would bring it is
    /// noted otherwise.
    pub(super) async fn measure(
        self,
        place: &Path,
        window: Duration,
        only: &[String],
        run: &mut Run,
    ) -> Result<bool, Failure> {
        let mut peers = Peers::new(place, window, only, run);
        let measured = match self {
            Peer::Etcd => etcd::measure(&mut peers).await?,
            Peer::Redis => redis::measure_durable(&mut peers).await?,
            Peer::RedisInMemory => redis::measure_in_memory(&mut peers).await?,
            Peer::PostgreSql => postgres::measure(&mut peers).await?,
        };
        // Its files are gone; what that costs the disk is not for the next one to carry.
        rustix::fs::sync();
        Ok(measured)
    }
}

/// Our figures that are measured beside them: those of the same work as what was asked for.
pub(super) fn ours(only: &[String]) -> Vec<String> {
    peers()
        .filter(|(peer, ours)| wanted(only, peer) || wanted(only, ours))
        .map(|(_, ours)| ours.to_owned())
        .collect()
}

/// Tries the rules out, singly and in bulk, on a store that a test started.
#[cfg(test)]
async fn keeps_the_rules(store: &impl rules::Store, claims_per_call: usize) {
    for (measurement, claims_per_call) in (1..).zip([1, claims_per_call]) {
        let names = crate::names::Names::new(measurement);
        rules::try_out(store, claims_per_call, names).await.unwrap();
    }
}
