//! What a harness sees beside the history.

use std::collections::BTreeMap;

use client::{Claim, EventKind};

/// Everything seen beside the history. Times are in ns of the history's clock.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// Reads that are not linearizable, from any node.
    pub reads: Vec<SeenRead>,
    /// Of operations whose outcome was unknown: until which log time, in ms, it could come about.
    pub alive_until_ms: BTreeMap<u64, u64>,
    /// What watchers saw.
    pub feeds: Vec<SeenFeed>,
    /// State hashes, taken at any time from any node.
    pub hashes: Vec<SeenHash>,
    /// Every replica at the end.
    pub replicas: Vec<Replica>,
    /// The log index of each sale's last change, if the run came to rest: every feed is to reach it.
    pub last_changes: BTreeMap<String, u64>,
    /// The final phase; none: the run ended before it, or has none.
    pub healing: Option<Healing>,
    /// By how much the fastest clock of a node ran ahead of the harness's own, in parts per million.
    pub clock_ahead_ppm: u64,
}

/// A sale's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Units nobody has.
    pub available: u64,
    /// Units in live holds.
    pub held: u64,
    /// Units sold.
    pub sold: u64,
    /// All of them.
    pub total: u64,
}

impl Counters {
    /// Whether every unit is somewhere.
    pub fn add_up(&self) -> bool {
        self.available + self.held + self.sold == self.total
    }
}

impl From<&client::Sale> for Counters {
    fn from(sale: &client::Sale) -> Counters {
        Counters {
            available: sale.units_available.into(),
            held: sale.units_held.into(),
            sold: sale.units_confirmed.into(),
            total: sale.units_total.into(),
        }
    }
}

/// One read that is not linearizable.
#[derive(Clone, Debug)]
pub struct SeenRead {
    /// Which node, as the harness names it; empty: the client chose.
    pub node: String,
    /// How old it might be, in ms; none: any age.
    pub age_ms_max: Option<u64>,
    /// When it was asked.
    pub invoked_ns: u64,
    /// When it was answered.
    pub returned_ns: u64,
    /// Which sale.
    pub sale: String,
    /// What it said.
    pub counters: Counters,
    /// The applied index it reflects.
    pub log_index: u64,
    /// The log time it reflects.
    pub lt: u64,
}

/// What one watcher saw, in the order it saw it.
#[derive(Clone, Debug, Default)]
pub struct SeenFeed {
    /// Who watched.
    pub name: String,
    /// Which sale; none: all.
    pub sale: Option<String>,
    /// The first log index it asked for.
    pub from_index: u64,
    /// Every event.
    pub events: Vec<SeenEvent>,
    /// First indexes it had to go on from because history before them was gone: a gap that was announced.
    pub resumed: Vec<u64>,
    /// It stopped before the end of the run, and need not have seen that.
    pub ends_early: bool,
    /// Newest log index that an update said it reflects: up to here the feed is whole.
    pub reached: u64,
}

/// One event of a feed.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenEvent {
    /// When it was seen.
    pub t: u64,
    /// Log index.
    pub log_index: u64,
    /// Place among the entry's events.
    pub ordinal: u32,
    /// Log time.
    pub lt: u64,
    /// Place in the entry of the command that did it; none: log time did.
    pub command: Option<u32>,
    /// What.
    pub kind: EventKind,
    /// Which sale; empty for documents.
    pub sale: String,
    /// Which claim.
    pub claim: Option<Claim>,
    /// Units, or a version.
    pub value: u64,
}

/// One replica's state hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenHash {
    /// Which node.
    pub node: String,
    /// At which applied index.
    pub log_index: u64,
    /// The hash.
    pub digest: Vec<u8>,
    /// Sales whose records do not add up to their counters, by the node's own recount.
    pub sales_wrong: Vec<String>,
}

/// One replica at the end of a run.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Which node.
    pub node: String,
    /// Sales by id.
    pub sales: BTreeMap<String, ReplicaSale>,
}

/// One sale on one replica.
#[derive(Clone, Debug)]
pub struct ReplicaSale {
    /// Its counters.
    pub counters: Counters,
    /// Every claim it ever made, by rank.
    pub claims: Vec<Claim>,
}

/// The final phase of a run.
#[derive(Clone, Debug, Default)]
pub struct Healing {
    /// When the last fault ended.
    pub healed_ns: u64,
    /// When a command was first answered after that; none: never.
    pub serving_ns: Option<u64>,
    /// How long that may take, in ms.
    pub serving_ms_max: u64,
    /// Operations that could not be resolved.
    pub unresolved: Vec<u64>,
    /// When no sale had a live hold any more; none: never.
    pub holds_ended_ns: Option<u64>,
    /// How long after healing that may take, in ms.
    pub holds_ms_max: u64,
    /// Replicas that could not be asked, and why.
    pub missing: Vec<String>,
}
