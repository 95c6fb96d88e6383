//! Carries out a plan's faults: what needs the simulator itself here, from outside; what an operator would do by
//! calls is ordered from [`super::operator`], inside.
//!
//! Faults may overlap. Each is healed when its time is over, and all are healed when the callers have finished.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    Trace,
    cluster::Machine,
    coverage::Coverage,
    operator::Order,
    plan::{Fault, Plan, Planned},
    run::register,
    stage::Stage,
};
use crate::history::Phase;

/// The host of the callers.
pub(super) const CALLERS: &str = "callers";

/// How long a machine stays without power, in ms, when nothing else is said.
const OUTAGE_MS: std::ops::Range<u64> = 50..2_000;

/// Messages that are lost while a link loses messages.
const LOSS: f64 = 0.02;

/// Longest delay of a message on a slow link.
const SLOW_MAX: Duration = Duration::from_millis(400);

/// How late what callers send is, in ms: a node disconnects those who do not answer its pings for ten seconds.
const LATE_MS: std::ops::Range<u64> = 500..9_000;

/// How often the callers' ends of late connections break, and how soon, in ms.
const LATE_BREAKS: f64 = 0.65;
const LATE_BREAKS_MS: std::ops::Range<u64> = 1..1_500;

/// Farthest jump of a wall clock, in ms.
const JUMP_MS: std::ops::RangeInclusive<i64> = -3_600_000..=3_600_000;

/// What ends a fault.
enum Remedy {
    /// Directed pairs of hosts hear one another again.
    Repair(Vec<(String, String)>),
    Release(Vec<(String, String)>),
    Lossless(Vec<(String, String)>),
    Quick(Vec<(String, String)>),
    Clock(Machine),
    None,
}

struct Active {
    until: Duration,
    fault: Fault,
    node: String,
    remedy: Remedy,
}

/// A machine without power, and when it comes back.
struct Outage {
    until: Duration,
    machine: Machine,
    survival: u64,
    fault: Fault,
}

/// The nemesis of one run.
pub(super) struct Nemesis<'a> {
    plan: &'a Plan,
    stage: &'a Stage,
    trace: Trace,
    chance: SmallRng,
    pending: std::iter::Peekable<std::slice::Iter<'a, Planned>>,
    active: Vec<Active>,
    outages: Vec<Outage>,
    /// Faults that only show when a machine goes down by itself: which, and whether it led when it was armed.
    armed: BTreeMap<u64, (Fault, bool)>,
    /// Hosts that call nodes.
    callers: Vec<String>,
    pub coverage: Coverage,
}

impl<'a> Nemesis<'a> {
    pub fn new(plan: &'a Plan, stage: &'a Stage, trace: Trace) -> Nemesis<'a> {
        Nemesis {
            plan,
            stage,
            trace,
            chance: SmallRng::seed_from_u64(plan.seed ^ 0x7e3e_5150_0bad_cafe),
            pending: plan.faults.iter().peekable(),
            active: Vec::new(),
            outages: Vec::new(),
            armed: BTreeMap::new(),
            callers: vec![CALLERS.to_owned()],
            coverage: Coverage::new(),
        }
    }

    /// These hosts call nodes as well.
    pub fn and_callers(mut self, hosts: Vec<String>) -> Nemesis<'a> {
        self.callers.extend(hosts);
        self
    }

    /// Does what is due. Called between two steps of the simulation.
    pub fn step(&mut self, sim: &mut turmoil::Sim<'_>) {
        let now = sim.elapsed();
        self.restore(sim, now);
        self.fallen(sim, now);
        self.settle();
        let Some(begun) = self.stage.begun() else {
            return;
        };
        if self.stage.is_over() {
            if !self.stage.is_healed() {
                self.heal_all(sim, now);
            }
            return;
        }
        while let Some(planned) = self
            .pending
            .next_if(|planned| begun + Duration::from_millis(planned.at_ms) <= now)
        {
            self.begin(sim, *planned, now);
        }
    }

    /// Ends the faults whose time is over.
    fn restore(&mut self, sim: &mut turmoil::Sim<'_>, now: Duration) {
        for place in (0..self.active.len()).rev() {
            if self.active[place].until <= now {
                let active = self.active.remove(place);
                self.end(sim, active);
            }
        }
        for place in (0..self.outages.len()).rev() {
            if self.outages[place].until <= now {
                let outage = self.outages.remove(place);
                self.power_on(sim, outage);
            }
        }
    }

    /// Takes over what the operator has done.
    pub fn settle(&mut self) {
        for (fault, id, leader) in self.stage.take_done() {
            let node = format!("n{id}");
            self.note(fault, &node, leader);
            self.stage.recorder().fault(fault.name(), &node, Phase::End);
        }
    }

    /// Drops the machines that went down by themselves, as was arranged.
    fn fallen(&mut self, sim: &mut turmoil::Sim<'_>, now: Duration) {
        for machine in self.stage.machines() {
            let is_out = self.outages.iter().any(|outage| outage.machine.id == machine.id);
            if is_out || !machine.is_down() || self.stage.is_gone(machine.id) {
                continue;
            }
            sim.crash(machine.name());
            if machine.is_removed() {
                self.stage.set_gone(machine.id);
                continue;
            }
            // Whatever else brings a machine down by itself ends the run.
            let (fault, led) = self
                .armed
                .remove(&machine.id)
                .unwrap_or((Fault::PowerCutInWrite, false));
            self.note(fault, &machine.name(), led);
            let outage_ms = self.chance.random_range(OUTAGE_MS);
            self.outage(fault, machine, now + Duration::from_millis(outage_ms), None);
        }
    }

    fn outage(&mut self, fault: Fault, machine: Machine, until: Duration, survival: Option<u64>) {
        let survival = survival.unwrap_or_else(|| self.chance.random());
        self.outages.push(Outage {
            until,
            machine,
            survival,
            fault,
        });
    }

    fn power_on(&mut self, sim: &mut turmoil::Sim<'_>, outage: Outage) {
        let Outage {
            machine,
            survival,
            fault,
            ..
        } = outage;
        machine.cut_power(survival);
        sim.bounce(machine.name());
        self.trace
            .note_at(sim.elapsed(), format_args!("{} has power again", machine.name()));
        self.stage
            .recorder()
            .fault(fault.name(), &machine.name(), Phase::End);
    }

    fn note(&mut self, fault: Fault, node: &str, at_leader: bool) {
        self.coverage.note(fault, at_leader);
        let leader = if at_leader { ", who led" } else { "" };
        self.trace.note_at(
            self.stage.now(),
            format_args!("fault {} at {node}{leader}", fault.name()),
        );
        self.stage.recorder().fault(fault.name(), node, Phase::Start);
    }

    /// Whom a fault hits: a machine that has power and is a member.
    fn victim(&self, planned: &Planned) -> Option<Machine> {
        let candidates = self.up();
        let leader = candidates.iter().find(|machine| machine.leads());
        if planned.at_leader
            && let Some(leader) = leader
        {
            return Some(leader.clone());
        }
        let count = candidates.len() as u64;
        (count > 0).then(|| candidates[(planned.draw % count) as usize].clone())
    }

    /// A new machine, started.
    fn hire(&self, sim: &mut turmoil::Sim<'_>) -> Option<u64> {
        let machine = self
            .stage
            .hire(|id| Machine::new(id, 0).with_raft(self.plan.raft))?;
        register(sim, machine.clone(), &self.trace, self.plan.snapshot_entries);
        Some(machine.id)
    }

    /// Members that have power.
    fn up(&self) -> Vec<Machine> {
        let is_out = |id| self.outages.iter().any(|outage| outage.machine.id == id);
        self.stage
            .machines()
            .into_iter()
            .filter(|machine| {
                !is_out(machine.id)
                    && !machine.is_down()
                    && !self.stage.is_gone(machine.id)
                    && self.stage.is_member(machine.id)
            })
            .collect()
    }

    fn begin(&mut self, sim: &mut turmoil::Sim<'_>, planned: Planned, now: Duration) {
        let Some(victim) = self.victim(&planned) else {
            return;
        };
        let (fault, node, led) = (planned.fault, victim.name(), victim.leads());
        let until = now + Duration::from_millis(planned.for_ms);
        let nodes = self.stage.machines();
        let others: Vec<String> = nodes
            .iter()
            .map(Machine::name)
            .filter(|name| *name != node)
            .collect();
        let both_ways = |others: &[String]| -> Vec<(String, String)> {
            others.iter().map(|other| (node.clone(), other.clone())).collect()
        };
        let remedy = match fault {
            Fault::Partition => {
                let pairs = both_ways(&others);
                cut(sim, &pairs);
                Remedy::Repair(pairs)
            }
            Fault::Isolate => {
                let mut pairs = both_ways(&others);
                pairs.extend(both_ways(&self.callers));
                cut(sim, &pairs);
                Remedy::Repair(pairs)
            }
            Fault::Split => {
                // Any half, with the victim in the first.
                let (mut ours, mut theirs) = (vec![node.clone()], Vec::new());
                for (place, other) in others.iter().enumerate() {
                    if planned.draw >> (place + 8) & 1 == 0 {
                        ours.push(other.clone());
                    } else {
                        theirs.push(other.clone());
                    }
                }
                let pairs: Vec<(String, String)> = ours
                    .iter()
                    .flat_map(|one| theirs.iter().map(move |other| (one.clone(), other.clone())))
                    .collect();
                cut(sim, &pairs);
                Remedy::Repair(pairs)
            }
            Fault::OneWay => {
                let outwards = planned.draw >> 8 & 1 == 0;
                for other in &others {
                    let (from, to) = if outwards { (&node, other) } else { (other, &node) };
                    sim.partition_oneway(from.as_str(), to.as_str());
                }
                Remedy::Repair(both_ways(&others))
            }
            Fault::Loss => {
                let pairs = both_ways(&others);
                for (one, other) in &pairs {
                    sim.set_link_fail_rate(one.as_str(), other.as_str(), LOSS);
                }
                Remedy::Lossless(pairs)
            }
            Fault::Slow => {
                let pairs = both_ways(&others);
                for (one, other) in &pairs {
                    sim.set_link_max_message_latency(one.as_str(), other.as_str(), SLOW_MAX);
                }
                Remedy::Quick(pairs)
            }
            Fault::Stall => {
                let pairs = both_ways(&others);
                for (one, other) in &pairs {
                    sim.hold(one.as_str(), other.as_str());
                }
                Remedy::Release(pairs)
            }
            Fault::Late => {
                let by = Duration::from_millis(self.chance.random_range(LATE_MS));
                let breaks = self.chance.random_bool(LATE_BREAKS).then(|| {
                    let soon = self.chance.random_range(LATE_BREAKS_MS);
                    now + Duration::from_millis(soon)
                });
                let late = self.stage.wires().be_late(&victim.endpoint(), until, by, breaks);
                if late > 0 {
                    self.note(fault, &node, led);
                    self.active.push(Active {
                        until,
                        fault,
                        node,
                        remedy: Remedy::None,
                    });
                }
                return;
            }
            Fault::PowerCut | Fault::Kill => {
                sim.crash(node.as_str());
                // A killed process leaves what it wrote: seeds that are 1 modulo 4 keep all of it.
                let survival = (fault == Fault::Kill).then_some(planned.draw / 4 * 4 + 1);
                self.outage(fault, victim.clone(), until, survival);
                Remedy::None
            }
            Fault::KillAll => {
                for machine in self.up() {
                    sim.crash(machine.name());
                    self.outage(fault, machine, until, None);
                }
                Remedy::None
            }
            Fault::PowerCutInWrite | Fault::SyncError => {
                // It has come about when the machine is down.
                let soon = planned.draw % 40 + 1;
                if fault == Fault::SyncError {
                    victim.fail_sync(soon);
                } else {
                    victim.lose_power_in_write(soon);
                }
                self.armed.insert(victim.id, (fault, led));
                return;
            }
            Fault::ClockJump => {
                victim.set_wall_offset_ms(self.chance.random_range(JUMP_MS));
                Remedy::Clock(victim.clone())
            }
            Fault::TransferLeader => {
                self.stage.order(Order::Transfer {
                    draw: planned.draw,
                    leader: led,
                });
                return;
            }
            Fault::Grow => {
                if let Some(id) = self.hire(sim) {
                    self.stage.order(Order::Grow { id, leader: led });
                }
                return;
            }
            Fault::Remove => {
                self.stage.order(Order::Remove {
                    id: victim.id,
                    leader: led,
                });
                return;
            }
            Fault::Replace => {
                // A second lost disk might be the last one with something on it.
                if !self.stage.has_lost_member()
                    && let Some(id) = self.hire(sim)
                {
                    // Its disk is lost: it never comes back.
                    sim.crash(node.as_str());
                    self.stage.set_gone(victim.id);
                    self.stage.order(Order::Replace {
                        dead: victim.id,
                        id,
                        leader: led,
                    });
                }
                return;
            }
            fault => unreachable!("{fault:?} is none of a node"),
        };
        self.note(fault, &node, led);
        if !matches!(remedy, Remedy::None) {
            self.active.push(Active {
                until,
                fault,
                node,
                remedy,
            });
        }
    }

    fn end(&mut self, sim: &mut turmoil::Sim<'_>, active: Active) {
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
            Remedy::Quick(pairs) => {
                let usual = Duration::from_millis(self.plan.message_ms_max);
                for (one, other) in pairs {
                    sim.set_link_max_message_latency(one.as_str(), other.as_str(), usual);
                }
            }
            Remedy::Clock(machine) => machine.set_wall_offset_ms(0),
            Remedy::None => {}
        }
        self.trace.note_at(
            sim.elapsed(),
            format_args!("{} at {} is over", active.fault.name(), active.node),
        );
        self.stage
            .recorder()
            .fault(active.fault.name(), &active.node, Phase::End);
    }

    /// The callers have finished: every fault ends, every machine gets its power back.
    fn heal_all(&mut self, sim: &mut turmoil::Sim<'_>, now: Duration) {
        for active in std::mem::take(&mut self.active) {
            self.end(sim, active);
        }
        // Traps that have not sprung are taken away with the power, which is soon back.
        for (id, (fault, _)) in std::mem::take(&mut self.armed) {
            let machine = self.stage.machine(id);
            let is_out = self.outages.iter().any(|outage| outage.machine.id == id);
            if !is_out && !self.stage.is_gone(id) {
                sim.crash(machine.name());
                self.outage(fault, machine, now, None);
            }
        }
        for outage in std::mem::take(&mut self.outages) {
            self.power_on(sim, outage);
        }
        self.stage.set_healed();
        self.trace.note_at(now, "healed");
    }
}

fn cut(sim: &turmoil::Sim<'_>, pairs: &[(String, String)]) {
    for (one, other) in pairs {
        sim.partition(one.as_str(), other.as_str());
    }
}
