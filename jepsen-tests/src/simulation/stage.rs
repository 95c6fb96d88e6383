//! What the parts of one run share: machines, who is a member, how far the run has come.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use super::{cluster::Machine, operator::Order, plan::Fault, wires::Wires};
use crate::{history::Recorder, properties::Run};

/// Nodes that may come to those at the beginning.
const SPARES: u64 = 4;

/// Shared by the nemesis outside of the simulation and everybody inside.
#[derive(Clone)]
pub(super) struct Stage {
    recorder: Recorder,
    wires: Wires,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    machines: Vec<Machine>,
    spares: u64,
    /// Nodes that are members, or may be.
    members: BTreeSet<u64>,
    /// Machines that never come back.
    gone: BTreeSet<u64>,
    orders: VecDeque<Order>,
    /// Orders carried out: what, to whom, and whether he led.
    done: Vec<(Fault, u64, bool)>,
    now: Duration,
    begun: Option<Duration>,
    over: bool,
    healed: bool,
    run: Option<Run>,
}

impl Stage {
    pub fn new(recorder: Recorder, machines: Vec<Machine>) -> Stage {
        let members = machines.iter().map(|machine| machine.id).collect();
        let state = State {
            machines,
            spares: SPARES,
            members,
            ..State::default()
        };
        Stage {
            recorder,
            wires: Wires::default(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding it")
    }

    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The callers' connections.
    pub fn wires(&self) -> &Wires {
        &self.wires
    }

    /// Simulated time, as of the last step.
    pub fn now(&self) -> Duration {
        self.state().now
    }

    pub fn set_now(&self, now: Duration) {
        self.state().now = now;
    }

    pub fn machines(&self) -> Vec<Machine> {
        self.state().machines.clone()
    }

    pub fn machine(&self, id: u64) -> Machine {
        self.state().machines[id as usize - 1].clone()
    }

    /// Takes a new machine in, if there are spares.
    pub fn hire(&self, machine: impl FnOnce(u64) -> Machine) -> Option<Machine> {
        let mut state = self.state();
        state.spares = state.spares.checked_sub(1)?;
        let machine = machine(state.machines.len() as u64 + 1);
        state.machines.push(machine.clone());
        Some(machine)
    }

    pub fn members(&self) -> Vec<u64> {
        self.state().members.iter().copied().collect()
    }

    pub fn is_member(&self, id: u64) -> bool {
        self.state().members.contains(&id)
    }

    pub fn set_member(&self, id: u64, member: bool) {
        let mut state = self.state();
        if member {
            state.members.insert(id);
        } else {
            state.members.remove(&id);
        }
    }

    pub fn is_gone(&self, id: u64) -> bool {
        self.state().gone.contains(&id)
    }

    pub fn set_gone(&self, id: u64) {
        self.state().gone.insert(id);
    }

    /// Whether some member has lost its disk for good: another loss could be one too many.
    pub fn has_lost_member(&self) -> bool {
        let state = self.state();
        state.members.intersection(&state.gone).next().is_some()
    }

    pub fn order(&self, order: Order) {
        self.state().orders.push_back(order);
    }

    pub fn take_order(&self) -> Option<Order> {
        self.state().orders.pop_front()
    }

    pub fn done(&self, fault: Fault, id: u64, leader: bool) {
        self.state().done.push((fault, id, leader));
    }

    pub fn take_done(&self) -> Vec<(Fault, u64, bool)> {
        std::mem::take(&mut self.state().done)
    }

    /// When the callers began.
    pub fn begun(&self) -> Option<Duration> {
        self.state().begun
    }

    pub fn begin(&self, now: Duration) {
        self.state().begun = Some(now);
    }

    /// The callers have finished: no more faults, no more orders.
    pub fn is_over(&self) -> bool {
        self.state().over
    }

    pub fn set_over(&self) {
        let mut state = self.state();
        state.over = true;
        state.orders.clear();
    }

    pub fn is_healed(&self) -> bool {
        self.state().healed
    }

    pub fn set_healed(&self) {
        self.state().healed = true;
    }

    pub fn set_run(&self, run: Run) {
        self.state().run = Some(run);
    }

    pub fn take_run(&self) -> Option<Run> {
        self.state().run.take()
    }
}
