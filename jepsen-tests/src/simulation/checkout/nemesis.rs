//! What happens to doors and to the provider's process, besides all that happens to nodes.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    Notes, bank,
    door::Door,
    plan::{AtDoor, CheckoutPlan},
};
use crate::{
    history::Phase,
    simulation::{Trace, cluster::Machine, coverage::Coverage, nemesis::CALLERS, plan::Fault, stage::Stage},
};

/// How long a door that lost its power by itself stays away, in ms.
const OUTAGE_MS: std::ops::Range<u64> = 50..6_000;

/// Messages that are lost on a bad road.
const LOSS: f64 = 0.05;

/// What ends a fault.
enum Remedy {
    Repair(Vec<(String, String)>),
    Release(Vec<(String, String)>),
    Lossless(Vec<(String, String)>),
    /// A host is started again.
    Start(String),
}

struct Active {
    until: Duration,
    fault: Fault,
    host: String,
    remedy: Remedy,
}

/// The nemesis of one run's doors.
pub(super) struct DoorNemesis {
    stage: Stage,
    notes: Notes,
    trace: Trace,
    chance: SmallRng,
    pending: std::iter::Peekable<std::vec::IntoIter<AtDoor>>,
    active: Vec<Active>,
    healed: bool,
    pub coverage: Coverage,
}

impl DoorNemesis {
    pub fn new(plan: &CheckoutPlan, stage: &Stage, notes: &Notes, trace: &Trace) -> DoorNemesis {
        DoorNemesis {
            stage: stage.clone(),
            notes: notes.clone(),
            trace: trace.clone(),
            chance: SmallRng::seed_from_u64(plan.cluster.seed ^ 0xd00d_0ead_cafe_0001),
            pending: plan.faults.clone().into_iter().peekable(),
            active: Vec::new(),
            healed: false,
            coverage: Coverage::of(&Fault::DOORS),
        }
    }

    /// Does what is due.
    pub fn step(&mut self, sim: &mut turmoil::Sim<'_>, doors: &[Door]) {
        let now = sim.elapsed();
        self.restore(sim, doors, now);
        for door in doors.iter().filter(|door| !door.has_power()) {
            if !self.is_out(&door.name()) {
                sim.crash(door.name());
                self.trace
                    .note_at(now, format_args!("{} lost its power by itself", door.name()));
                let until = now + Duration::from_millis(self.chance.random_range(OUTAGE_MS));
                self.put_out(Fault::DoorKill, door.name(), until);
            }
        }
        let Some(begun) = self.stage.begun() else { return };
        if self.stage.is_over() {
            if !self.healed {
                self.healed = true;
                for active in std::mem::take(&mut self.active) {
                    self.end(sim, doors, active);
                }
            }
            return;
        }
        while let Some(planned) = self
            .pending
            .next_if(|planned| begun + Duration::from_millis(planned.at_ms) <= now)
        {
            self.begin(sim, doors, planned, now);
        }
    }

    fn is_out(&self, host: &str) -> bool {
        let mut active = self.active.iter();
        active.any(|active| matches!(&active.remedy, Remedy::Start(out) if out == host))
    }

    fn put_out(&mut self, fault: Fault, host: String, until: Duration) {
        self.active.push(Active {
            until,
            fault,
            host: host.clone(),
            remedy: Remedy::Start(host),
        });
    }

    fn restore(&mut self, sim: &mut turmoil::Sim<'_>, doors: &[Door], now: Duration) {
        for place in (0..self.active.len()).rev() {
            if self.active[place].until <= now {
                let active = self.active.remove(place);
                self.end(sim, doors, active);
            }
        }
    }

    /// Whom a fault hits: a door that is open, if there is one, and whether it is at something.
    fn victim(&self, doors: &[Door], planned: &AtDoor) -> Option<(usize, bool)> {
        let asked = self.notes.get().asked.clone();
        let open: Vec<usize> = (0..doors.len())
            .filter(|place| !self.is_out(&doors[*place].name()))
            .collect();
        let busy = open.iter().copied().max_by_key(|place| asked[*place]);
        if let Some(busy) = busy.filter(|_| planned.at_busy) {
            return Some((busy, asked[busy] > 0));
        }
        let place = *open.get((planned.draw % open.len().max(1) as u64) as usize)?;
        Some((place, asked[place] > 0))
    }

    fn begin(&mut self, sim: &mut turmoil::Sim<'_>, doors: &[Door], planned: AtDoor, now: Duration) {
        let Some((place, busy)) = self.victim(doors, &planned) else {
            return;
        };
        let door = doors[place].name();
        let until = now + Duration::from_millis(planned.for_ms);
        let nodes: Vec<String> = self.stage.machines().iter().map(Machine::name).collect();
        let to = |hosts: &[String]| -> Vec<(String, String)> {
            hosts.iter().map(|host| (door.clone(), host.clone())).collect()
        };
        let bank = [bank::NAME.to_owned()];
        let (host, remedy) = match planned.fault {
            Fault::DoorKill => {
                sim.crash(door.as_str());
                (door.clone(), Remedy::Start(door))
            }
            Fault::DoorKillAll => {
                for other in doors {
                    let name = other.name();
                    if name != door && !self.is_out(&name) {
                        sim.crash(name.as_str());
                        self.put_out(planned.fault, name, until);
                    }
                }
                sim.crash(door.as_str());
                (door.clone(), Remedy::Start(door))
            }
            Fault::DoorPause => {
                // Whatever it has sent arrives when it goes on, and so does what was sent to it.
                let mut pairs = to(&nodes);
                pairs.extend(to(&bank));
                pairs.extend(to(&[CALLERS.to_owned()]));
                for (one, other) in &pairs {
                    sim.hold(one.as_str(), other.as_str());
                }
                (door, Remedy::Release(pairs))
            }
            Fault::DoorWithoutStore => {
                let pairs = to(&nodes);
                for (one, other) in &pairs {
                    sim.partition(one.as_str(), other.as_str());
                }
                (door, Remedy::Repair(pairs))
            }
            Fault::DoorWithoutBank => {
                let pairs = to(&bank);
                for (one, other) in &pairs {
                    if planned.draw & 1 == 0 {
                        sim.partition(one.as_str(), other.as_str());
                    } else {
                        // Requests arrive, and no answer comes.
                        sim.partition_oneway(other.as_str(), one.as_str());
                    }
                }
                (door, Remedy::Repair(pairs))
            }
            Fault::DoorBankLate => {
                let pairs = to(&bank);
                for (one, other) in &pairs {
                    sim.hold(one.as_str(), other.as_str());
                }
                (door, Remedy::Release(pairs))
            }
            Fault::DoorLoss => {
                let mut pairs = to(&nodes);
                pairs.extend(to(&bank));
                pairs.extend(to(&[CALLERS.to_owned()]));
                for (one, other) in &pairs {
                    sim.set_link_fail_rate(one.as_str(), other.as_str(), LOSS);
                }
                (door, Remedy::Lossless(pairs))
            }
            Fault::BankKill => {
                if self.is_out(bank::NAME) {
                    return;
                }
                sim.crash(bank::NAME);
                (bank::NAME.to_owned(), Remedy::Start(bank::NAME.to_owned()))
            }
            fault => unreachable!("{fault:?} is none of a door"),
        };
        self.coverage.note(planned.fault, busy);
        let at = if busy { ", at work" } else { "" };
        self.trace
            .note_at(now, format_args!("fault {} at {host}{at}", planned.fault.name()));
        self.stage
            .recorder()
            .fault(planned.fault.name(), &host, Phase::Start);
        self.active.push(Active {
            until,
            fault: planned.fault,
            host,
            remedy,
        });
    }

    fn end(&mut self, sim: &mut turmoil::Sim<'_>, doors: &[Door], active: Active) {
        match active.remedy {
            Remedy::Repair(pairs) => {
                for (one, other) in pairs {
                    sim.repair(one.as_str(), other.as_str());
                }
            }
            Remedy::Release(pairs) => {
                for (one, other) in pairs {
                    sim.release(one.as_str(), other.as_str());
                }
            }
            Remedy::Lossless(pairs) => {
                for (one, other) in pairs {
                    sim.set_link_fail_rate(one.as_str(), other.as_str(), 0.0);
                    sim.repair(one.as_str(), other.as_str());
                }
            }
            Remedy::Start(host) => {
                for door in doors.iter().filter(|door| door.name() == host) {
                    door.power_on();
                }
                sim.bounce(host.as_str());
            }
        }
        self.trace.note_at(
            sim.elapsed(),
            format_args!("{} at {} is over", active.fault.name(), active.host),
        );
        self.stage
            .recorder()
            .fault(active.fault.name(), &active.host, Phase::End);
    }
}
