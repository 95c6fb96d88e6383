//! What a seed means: the cluster, the workload, the faults and their moments, all drawn before anything runs.

use raft_store::raft_config::RaftOptions;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::workloads::{self, Workload};

/// Grows whenever seeds come to mean something else.
pub const VERSION: u32 = 3;

/// How long callers call, in ms: long enough for several elections, and for a thousand operations.
const LOAD_MS: u64 = 9_000;

/// Faults begin when the cluster is founded and the callers have begun, and end before they do, in ms.
const FAULTS_MS: std::ops::Range<u64> = 300..LOAD_MS - 500;

/// Faults of a seed: several, so that they meet one another; not so many that nothing is ever answered.
const FAULTS: std::ops::Range<usize> = 4..12;

/// How long a fault lasts, in ms: up to several elections.
const FAULT_MS: std::ops::Range<u64> = 50..2_500;

/// Callers; together they make some 1,300 operations at their pace.
const CALLERS: u64 = 48;

/// Pause between two requests of a caller, in ms.
const PACE_MS: u64 = 250;

/// How long a command may apply, where callers are in a hurry, in ms of log time: often shorter than it is late.
const COMMAND_LIFE_MS: std::ops::Range<u64> = 1_000..3_000;

/// One wall clock may be wrong by so much all along, in ms.
const SKEW_MS: std::ops::RangeInclusive<i64> = -3_600_000..=3_600_000;

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// One node is cut off from the others; clients still reach it.
    Partition,
    /// One node is cut off from the others and from the clients.
    Isolate,
    /// The nodes fall into two halves.
    Split,
    /// One node hears the others and is not heard, or the other way round.
    OneWay,
    /// Messages to and from one node are lost, now and then.
    Loss,
    /// Messages to and from one node take long, and overtake one another.
    Slow,
    /// Messages between one node and the others wait, and then come all at once.
    Stall,
    /// What callers send to one node over the connections there are comes seconds late, though it comes; and
    /// more often than not their own ends break, so that they try elsewhere meanwhile.
    Late,
    /// The power of one node goes at any moment; what was not synced is lost, or torn, or not.
    PowerCut,
    /// The same in the middle of an operation of the disk.
    PowerCutInWrite,
    /// The process of one node ends at once; what it wrote is there.
    Kill,
    /// The power of all nodes goes at once.
    KillAll,
    /// A sync of one node fails; it must end, and is started again.
    SyncError,
    /// One wall clock jumps.
    ClockJump,
    /// The lead is handed to another voter.
    TransferLeader,
    /// A node is added and promoted.
    Grow,
    /// A node is removed.
    Remove,
    /// A node loses its disk for good; another is added, promoted, and takes its place.
    Replace,
    /// The process of one door ends at once.
    DoorKill,
    /// The processes of all doors end at once.
    DoorKillAll,
    /// One door stands still: what it sent arrives when it goes on, and so does what was sent to it.
    DoorPause,
    /// One door is cut off from all nodes.
    DoorWithoutStore,
    /// One door is cut off from the provider; or the provider hears it, and it hears no answer.
    DoorWithoutBank,
    /// Messages between one door and the provider wait, and then come all at once.
    DoorBankLate,
    /// Messages to and from one door are lost, now and then.
    DoorLoss,
    /// The provider's process ends at once.
    BankKill,
}

impl Fault {
    /// Those of nodes.
    pub const ALL: [Fault; 18] = [
        Fault::Partition,
        Fault::Isolate,
        Fault::Split,
        Fault::OneWay,
        Fault::Loss,
        Fault::Slow,
        Fault::Stall,
        Fault::Late,
        Fault::PowerCut,
        Fault::PowerCutInWrite,
        Fault::Kill,
        Fault::KillAll,
        Fault::SyncError,
        Fault::ClockJump,
        Fault::TransferLeader,
        Fault::Grow,
        Fault::Remove,
        Fault::Replace,
    ];

    /// Those of doors and of the payment provider, where there are any.
    pub const DOORS: [Fault; 8] = [
        Fault::DoorKill,
        Fault::DoorKillAll,
        Fault::DoorPause,
        Fault::DoorWithoutStore,
        Fault::DoorWithoutBank,
        Fault::DoorBankLate,
        Fault::DoorLoss,
        Fault::BankKill,
    ];

    /// Its name in histories and reports.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Partition => "partition",
            Fault::Isolate => "isolate",
            Fault::Split => "split",
            Fault::OneWay => "one-way",
            Fault::Loss => "loss",
            Fault::Slow => "slow",
            Fault::Stall => "stall",
            Fault::Late => "late",
            Fault::PowerCut => "power-cut",
            Fault::PowerCutInWrite => "power-cut-in-write",
            Fault::Kill => "kill",
            Fault::KillAll => "kill-all",
            Fault::SyncError => "sync-error",
            Fault::ClockJump => "clock-jump",
            Fault::TransferLeader => "transfer-leader",
            Fault::Grow => "grow",
            Fault::Remove => "remove",
            Fault::Replace => "replace",
            Fault::DoorKill => "door-kill",
            Fault::DoorKillAll => "door-kill-all",
            Fault::DoorPause => "door-pause",
            Fault::DoorWithoutStore => "door-without-store",
            Fault::DoorWithoutBank => "door-without-bank",
            Fault::DoorBankLate => "door-bank-late",
            Fault::DoorLoss => "door-loss",
            Fault::BankKill => "bank-kill",
        }
    }
}

/// One fault to come.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// When, in ms since the callers began.
    pub at_ms: u64,
    /// Which.
    pub fault: Fault,
    /// To whoever leads then; else to whom `draw` says.
    pub at_leader: bool,
    /// How long.
    pub for_ms: u64,
    /// Decides whatever else is to be decided.
    pub draw: u64,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What everything was drawn from.
    pub seed: u64,
    /// What the callers do.
    pub workload: Workload,
    /// What is for sale, and how often they do what.
    pub shop: workloads::plan::Plan,
    /// Nodes at the beginning.
    pub nodes: u64,
    /// Heartbeats and elections.
    pub raft: RaftOptions,
    /// Log entries between two snapshots.
    pub snapshot_entries: u64,
    /// How long callers call, in ms.
    pub load_ms: u64,
    /// How long a client goes on with one call, in ms.
    pub call_ms_max: u64,
    /// How long a command of theirs may apply, in ms of log time; none: as long as a client gives it.
    pub command_life_ms: Option<u64>,
    /// Longest delay of a message while nothing is wrong, in ms.
    pub message_ms_max: u64,
    /// How far off the wall clock of the node whose number is the seed's is from the beginning, in ms.
    pub skew_ms: i64,
    /// By time.
    pub faults: Vec<Planned>,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Plan {
        // Another stream than the simulator's own, which is seeded with the same number.
        let mut chance = SmallRng::seed_from_u64(seed ^ 0x5eed_0f91_a4b3_c2d1);
        let workloads = Workload::all();
        let workload = workloads[chance.random_range(0..workloads.len())];
        let fast = chance.random_bool(0.5);
        let mut faults: Vec<Planned> = (0..chance.random_range(FAULTS))
            .map(|_| Planned {
                at_ms: chance.random_range(FAULTS_MS),
                fault: Fault::ALL[chance.random_range(0..Fault::ALL.len())],
                at_leader: chance.random_bool(0.5),
                for_ms: chance.random_range(FAULT_MS),
                draw: chance.random(),
            })
            .collect();
        for planned in &mut faults {
            // Commands go to whoever leads: elsewhere there is little to be late.
            planned.at_leader |= planned.fault == Fault::Late;
        }
        faults.sort_by_key(|planned| planned.at_ms);
        Plan {
            seed,
            workload,
            shop: shop(workload, &mut chance),
            nodes: if chance.random_bool(0.7) { 3 } else { 5 },
            raft: RaftOptions {
                heartbeat_ms: if fast { 50 } else { 100 },
                election_ms_min: if fast { 300 } else { 500 },
                election_ms_max: if fast { 600 } else { 1_000 },
                ..RaftOptions::default()
            },
            snapshot_entries: chance.random_range(40..400),
            load_ms: LOAD_MS,
            call_ms_max: chance.random_range(800..4_000),
            command_life_ms: chance
                .random_bool(0.4)
                .then(|| chance.random_range(COMMAND_LIFE_MS)),
            message_ms_max: chance.random_range(1..10),
            skew_ms: chance.random_range(SKEW_MS),
            faults,
        }
    }
}

/// The workload's own plan, at the size of a simulation: a tenth of the requests, so a tenth of the units.
fn shop(workload: Workload, chance: &mut SmallRng) -> workloads::plan::Plan {
    let mut plan = workloads::plan::Plan::of(workload);
    plan.callers = CALLERS;
    plan.pace_ms = PACE_MS;
    plan.watchers = plan.watchers.min(3);
    for sale in &mut plan.sales {
        let tenth = |units: u32| units.div_ceil(10);
        sale.new.units_total = tenth(sale.new.units_total).min(2_000);
        sale.restock_units = tenth(sale.restock_units);
        // Many holds are to end while callers call.
        sale.new.hold_ms = sale.new.hold_ms.min(chance.random_range(1_000..2_500));
        sale.new.checkout_max_ms = sale.new.checkout_max_ms.min(sale.new.hold_ms / 2);
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_and_workload_is_drawn_and_a_seed_means_one_plan() {
        let plans: Vec<Plan> = (0..300).map(Plan::of).collect();
        let faults: BTreeSet<Fault> = plans
            .iter()
            .flat_map(|plan| &plan.faults)
            .map(|planned| planned.fault)
            .collect();
        assert_eq!(faults.len(), Fault::ALL.len());
        for &workload in Workload::all() {
            assert!(plans.iter().any(|plan| plan.workload == workload));
        }
        let all = Fault::ALL.iter().chain(&Fault::DOORS);
        let names: BTreeSet<&str> = all.map(|fault| fault.name()).collect();
        assert_eq!(names.len(), Fault::ALL.len() + Fault::DOORS.len());
        assert_eq!(format!("{:?}", Plan::of(7)), format!("{:?}", Plan::of(7)));
    }
}
