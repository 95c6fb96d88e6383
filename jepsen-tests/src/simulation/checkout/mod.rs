//! A street of doors before a simulated cluster: shoppers pay through the real doors, at the payment provider's own
//! simulator, and everything between them can be lost, late, doubled or dead.
//!
//! A [`plan`] is drawn from the seed. The [`door`]s run the product's routes, sagas, leases, sweeps and webhooks as
//! they are shipped, over the real client; the [`bank`] is `holdfast psp` with its journal, so that killing it makes
//! it forget nothing. They and the [`shopper`]s talk HTTP over the simulator's network ([`road`]), which the
//! [`nemesis`] of the doors cuts, holds up and lets go, besides all that happens to the nodes. When the [`load`] is
//! over everything is healed, the books are read, and the properties of checkouts judge them.
//!
//! Left out: the breaker and its retries, which count in the process's own time; TLS.

mod bank;
mod door;
mod load;
mod nemesis;
pub mod plan;
mod road;
mod shopper;

use std::sync::{Arc, Mutex, MutexGuard};

use self::{bank::Bank, door::Door, nemesis::DoorNemesis, plan::CheckoutPlan};
use super::{Trace, coverage::Coverage, nemesis::CALLERS, stage::Stage};
use crate::properties::{
    Finding,
    checkout::{self, Answer, Books},
};

/// What shoppers' tokens are signed with, and webhooks.
const TOKEN_SECRET: &[u8] = b"the secret of a street that is only simulated";
const WEBHOOK_SECRET: &str = "whsec_simulated";

/// What the shoppers, and who runs them, leave behind.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    answers: Vec<Answer>,
    /// Requests that a door is at, by door.
    asked: Vec<u64>,
    requests: usize,
    books: Option<Books>,
}

impl Notes {
    fn get(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().expect("nothing panics while holding it")
    }
}

/// Everything that a run of checkouts has besides nodes.
pub(super) struct Street {
    plan: Arc<CheckoutPlan>,
    stage: Stage,
    trace: Trace,
    notes: Notes,
    doors: Vec<Door>,
    bank: Bank,
    nemesis: DoorNemesis,
}

impl Street {
    pub fn new(plan: &CheckoutPlan, stage: &Stage, trace: &Trace) -> Street {
        let plan = Arc::new(plan.clone());
        let notes = Notes::default();
        notes.get().asked = vec![0; plan.doors as usize];
        let doors: Vec<Door> = (1..=plan.doors).map(Door::new).collect();
        Street {
            bank: Bank::new(&plan),
            nemesis: DoorNemesis::new(&plan, stage, &notes, trace),
            stage: stage.clone(),
            trace: trace.clone(),
            plan,
            notes,
            doors,
        }
    }

    /// Hosts that talk to nodes, besides the callers'.
    pub fn hosts(&self) -> Vec<String> {
        self.doors.iter().map(Door::name).collect()
    }

    /// Opens all of it.
    pub fn open(&self, sim: &mut turmoil::Sim<'_>) {
        let bank = self.bank.clone();
        sim.host(bank::NAME, move || bank.clone().run());
        for door in &self.doors {
            let (door, plan) = (door.clone(), self.plan.clone());
            let (stage, trace) = (self.stage.clone(), self.trace.clone());
            sim.host(door.name(), move || {
                door.clone().run(plan.clone(), stage.clone(), trace.clone())
            });
        }
        let load = load::load(
            self.plan.clone(),
            self.stage.clone(),
            self.notes.clone(),
            self.trace.clone(),
        );
        sim.client(CALLERS, load);
    }

    /// Does what is due. Called between two steps of the simulation.
    pub fn step(&mut self, sim: &mut turmoil::Sim<'_>) {
        self.nemesis.step(sim, &self.doors);
    }

    /// What the properties say; nothing, if the run did not come to its end.
    pub fn findings(&self) -> Vec<Finding> {
        let noted = self.notes.get();
        noted.books.as_ref().map_or_else(Vec::new, checkout::check)
    }

    /// Requests that shoppers made.
    pub fn requests(&self) -> usize {
        self.notes.get().requests
    }

    /// What came about.
    pub fn coverage(&self) -> &Coverage {
        &self.nemesis.coverage
    }
}
