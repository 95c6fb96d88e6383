//! What a seed is about: claims at the store itself, or checkouts at doors before it.

use super::{checkout::plan::CheckoutPlan, plan::Plan};

/// Seeds from here on are checkouts: one number says all, in corpora, tables and lines to run again.
pub const CHECKOUT_SEEDS_FROM: u64 = 1_000_000_000;

/// What a seed is about.
#[derive(Clone, Debug)]
pub enum Scenario {
    /// Claims, at the store itself.
    Claims(Plan),
    /// Checkouts, at doors.
    Checkout(Box<CheckoutPlan>),
}

impl Scenario {
    /// What this seed is about.
    pub fn of(seed: u64) -> Scenario {
        if seed < CHECKOUT_SEEDS_FROM {
            Scenario::Claims(Plan::of(seed))
        } else {
            Scenario::Checkout(Box::new(CheckoutPlan::of(seed)))
        }
    }

    /// Its cluster, and what happens to that.
    pub fn cluster(&self) -> &Plan {
        match self {
            Scenario::Claims(plan) => plan,
            Scenario::Checkout(plan) => &plan.cluster,
        }
    }

    /// What it is, in some words.
    pub fn name(&self) -> String {
        let seed = self.cluster().seed;
        let nodes = self.cluster().nodes;
        match self {
            Scenario::Claims(plan) => {
                format!("seed {seed}: {}, {nodes} simulated nodes", plan.workload.name())
            }
            Scenario::Checkout(plan) => {
                let doors = plan.doors;
                format!("seed {seed}: checkout, {doors} simulated doors, {nodes} simulated nodes")
            }
        }
    }

    /// A run with fewer operations says little: nobody was served.
    pub fn operations_min(&self) -> u64 {
        match self {
            Scenario::Claims(_) => 200,
            Scenario::Checkout(_) => 30,
        }
    }
}
