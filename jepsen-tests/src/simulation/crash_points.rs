//! Named crash points in a simulation: the machine that comes to one loses its power right there.
//!
//! All machines of a simulation share a thread; which of them runs is known by its runtime. The passings
//! of a point are counted over all machines, so that the seed decides who is hit.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    ops::Range,
    rc::Rc,
    time::Duration,
};

use fault_points::{Simulator, registry::CRASH_POINTS};
use tokio::runtime::{Handle, Id};

use super::cluster::Machine;

/// Whoever can lose its power at a crash point.
pub(super) trait Victim {
    /// A number that nobody else has.
    fn id(&self) -> u64;
    /// Whether it has power.
    fn has_power(&self) -> bool;
    /// Takes its power away: nothing that it does from here on has an effect outside of it.
    fn lose_power(&self);
    /// What its wall clock shows.
    fn wall_ms(&self) -> u64;
}

impl Victim for Machine {
    fn id(&self) -> u64 {
        self.id
    }

    fn has_power(&self) -> bool {
        self.has_power()
    }

    fn lose_power(&self) {
        self.lose_power();
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms()
    }
}

/// This thread's machines at their crash points; gone when dropped.
pub struct CrashPoints(Rc<Machines>);

#[derive(Default)]
struct Machines {
    running: RefCell<Vec<(Id, Rc<dyn Victim>)>>,
    armed: Cell<Option<(usize, u32)>>,
    /// Simulated time in which passings count.
    window: RefCell<Range<Duration>>,
    passed: RefCell<BTreeMap<usize, u32>>,
    crashed: RefCell<Vec<(u64, &'static str)>>,
}

std::thread_local! {
    static MACHINES: RefCell<Option<Rc<Machines>>> = const { RefCell::new(None) };
}

impl CrashPoints {
    /// Counts the passings of this thread's machines from now on.
    pub fn new() -> CrashPoints {
        let machines = Rc::new(Machines::default());
        MACHINES.with(|slot| *slot.borrow_mut() = Some(machines.clone()));
        fault_points::simulate(Some(machines.clone()));
        CrashPoints(machines)
    }

    /// The machine to make the `passing`th passing of this point within this simulated time loses its power
    /// there.
    ///
    /// # Panics
    /// There is no such point, or `passing` is zero.
    pub fn arm(&self, point: &str, passing: u32, window: Range<Duration>) {
        assert!(passing > 0, "passings are counted from 1");
        let index = fault_points::point_named(point).unwrap_or_else(|error| panic!("{error}"));
        self.0.armed.set(Some((index, passing)));
        *self.0.window.borrow_mut() = window;
    }

    /// Nobody crashes any more. True when nobody has since the point was armed.
    pub fn disarm(&self) -> bool {
        self.0.armed.take().is_some()
    }

    /// Who has lost its power where, since this was last asked.
    pub fn take_crashed(&self) -> Vec<(u64, &'static str)> {
        std::mem::take(&mut self.0.crashed.borrow_mut())
    }

    /// How often each point was passed.
    pub fn passed(&self) -> BTreeMap<&'static str, u32> {
        let passed = self.0.passed.borrow();
        passed
            .iter()
            .map(|(&point, &count)| (CRASH_POINTS[point].name, count))
            .collect()
    }
}

impl Default for CrashPoints {
    fn default() -> CrashPoints {
        CrashPoints::new()
    }
}

impl Drop for CrashPoints {
    fn drop(&mut self) {
        MACHINES.with(|slot| *slot.borrow_mut() = None);
        fault_points::simulate(None);
    }
}

/// What runs in this runtime from now on is this machine.
pub(super) fn enter(machine: Rc<dyn Victim>) {
    MACHINES.with(|slot| {
        if let Some(machines) = &*slot.borrow() {
            let mut running = machines.running.borrow_mut();
            running.retain(|(_, other)| other.id() != machine.id());
            running.push((Handle::current().id(), machine));
        }
    });
}

impl Machines {
    fn here(&self) -> Option<Rc<dyn Victim>> {
        let here = Handle::try_current().ok()?.id();
        let running = self.running.borrow();
        running
            .iter()
            .find(|(id, _)| *id == here)
            .map(|(_, machine)| machine.clone())
    }
}

impl Simulator for Machines {
    fn pass(&self, point: usize) {
        // A machine without power passes nothing, whatever its code still runs into.
        let Some(machine) = self.here().filter(|machine| machine.has_power()) else {
            return;
        };
        *self.passed.borrow_mut().entry(point).or_default() += 1;
        let now = turmoil::sim_elapsed().unwrap_or_default();
        let armed = self.armed.get().filter(|_| self.window.borrow().contains(&now));
        match armed {
            Some((armed, 1)) if armed == point => {
                self.armed.set(None);
                machine.lose_power();
                self.crashed
                    .borrow_mut()
                    .push((machine.id(), CRASH_POINTS[point].name));
            }
            Some((armed, passing)) if armed == point => self.armed.set(Some((armed, passing - 1))),
            _ => {}
        }
    }

    fn wall_ms(&self) -> u64 {
        self.here().map_or(0, |machine| machine.wall_ms())
    }

    fn number(&self) -> u32 {
        self.here().map_or(0, |machine| machine.id() as u32)
    }
}
