//! What a seed means for checkouts: the cluster and its faults, the doors and theirs, the provider's temper, the
//! shoppers.

use api::{
    CheckoutOptions,
    payment::simulator::{Faults, Rate},
};
use client::NewSale;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{
    simulation::plan::{Fault, Plan, Planned},
    workloads::plan::SalePlan,
};

/// How long shoppers shop, in ms: several holds, leases and sweeps.
const LOAD_MS: u64 = 20_000;

/// Faults begin when the shoppers do, and end before, in ms.
const FAULTS_MS: std::ops::Range<u64> = 300..LOAD_MS - 500;

/// Faults of nodes in a seed: fewer than where they are all that happens.
const NODE_FAULTS: std::ops::Range<usize> = 0..5;

/// Faults of doors and of the provider's process in a seed.
const DOOR_FAULTS: std::ops::Range<usize> = 3..14;

/// How long a fault of a door lasts, in ms: often longer than its lease.
const DOOR_FAULT_MS: std::ops::Range<u64> = 100..9_000;

/// One fault of a door to come.
#[derive(Clone, Copy, Debug)]
pub struct AtDoor {
    /// When, in ms since the shoppers began.
    pub at_ms: u64,
    /// Which.
    pub fault: Fault,
    /// To a door that is at something then; else to whom `draw` says.
    pub at_busy: bool,
    /// How long.
    pub for_ms: u64,
    /// Decides whatever else is to be decided.
    pub draw: u64,
}

/// What a seed means for checkouts.
#[derive(Clone, Debug)]
pub struct CheckoutPlan {
    /// The cluster, its faults, and the sale.
    pub cluster: Plan,
    /// Doors.
    pub doors: u64,
    /// Shoppers at one time.
    pub shoppers: u64,
    /// Longest pause of a shopper between two purchases, in ms.
    pub pace_ms: u64,
    /// The doors' settings.
    pub options: CheckoutOptions,
    /// The provider's temper while shoppers shop.
    pub temper: Faults,
    /// Faults of doors, by time.
    pub faults: Vec<AtDoor>,
}

impl CheckoutPlan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> CheckoutPlan {
        let mut chance = SmallRng::seed_from_u64(seed ^ 0xc4ec_0a7b_511e_d0f3);
        let mut cluster = Plan::of(seed);
        cluster.load_ms = LOAD_MS;
        cluster.faults = node_faults(&mut chance);
        cluster.shop.sales = vec![SalePlan {
            new: sale(&mut chance),
            restock_units: 0,
        }];
        let mut faults: Vec<AtDoor> = (0..chance.random_range(DOOR_FAULTS))
            .map(|_| AtDoor {
                at_ms: chance.random_range(FAULTS_MS),
                fault: Fault::DOORS[chance.random_range(0..Fault::DOORS.len())],
                at_busy: chance.random_bool(0.7),
                for_ms: chance.random_range(DOOR_FAULT_MS),
                draw: chance.random(),
            })
            .collect();
        faults.sort_by_key(|planned| planned.at_ms);
        CheckoutPlan {
            cluster,
            doors: chance.random_range(2..=3),
            shoppers: chance.random_range(6..=16),
            pace_ms: chance.random_range(200..2_000),
            options: options(&mut chance),
            temper: temper(&mut chance),
            faults,
        }
    }
}

fn node_faults(chance: &mut SmallRng) -> Vec<Planned> {
    let mut faults: Vec<Planned> = (0..chance.random_range(NODE_FAULTS))
        .map(|_| Planned {
            at_ms: chance.random_range(FAULTS_MS),
            fault: Fault::ALL[chance.random_range(0..Fault::ALL.len())],
            at_leader: chance.random_bool(0.6),
            for_ms: chance.random_range(50..2_500),
            draw: chance.random(),
        })
        .collect();
    faults.sort_by_key(|planned| planned.at_ms);
    faults
}

/// Holds that often end while somebody pays, in money with two digits, and with none.
fn sale(chance: &mut SmallRng) -> NewSale {
    NewSale {
        sale_id: "street".to_owned(),
        units_total: chance.random_range(30..600),
        per_user_units_max: 3,
        hold_ms: chance.random_range(1_500..9_000),
        checkout_max_ms: chance.random_range(1_000..9_000),
        price_minor: chance.random_range(1..100_000),
        currency: ["EUR", "USD", "JPY"][chance.random_range(0..3)].to_owned(),
        claims_max: 100_000,
        open: true,
        ..NewSale::default()
    }
}

/// Shorter than as shipped, in proportion, so that a lease ends while shoppers shop.
fn options(chance: &mut SmallRng) -> CheckoutOptions {
    let payment_call_ms_max = chance.random_range(1_000..4_000);
    let store_call_ms_max = chance.random_range(1_500..4_000);
    let longest = payment_call_ms_max.max(store_call_ms_max);
    CheckoutOptions {
        payment_call_ms_max,
        store_call_ms_max,
        budget_ms_max: chance.random_range(4_000..9_000),
        lease_ms: longest + chance.random_range(200..2_000),
        sweep_ms: chance.random_range(300..2_000),
        ..CheckoutOptions::default()
    }
}

/// A provider that is mostly itself, or one on a bad day.
fn temper(chance: &mut SmallRng) -> Faults {
    let bad = chance.random_bool(0.5);
    let mut rate = |usual: f64, worst: f64| {
        let most = if bad { worst } else { usual };
        let share = if chance.random_bool(0.6) {
            chance.random_range(0.0..most)
        } else {
            0.0
        };
        Rate::try_from(share).expect("a share of one")
    };
    let mut temper = Faults {
        decline_rate: rate(0.05, 0.2),
        challenge_rate: rate(0.05, 0.2),
        capture_decline_rate: rate(0.02, 0.1),
        refund_pending_rate: rate(0.2, 0.5),
        rate_limit_rate: rate(0.05, 0.2),
        error_before_rate: rate(0.05, 0.2),
        error_after_rate: rate(0.05, 0.15),
        hang_rate: rate(0.05, 0.15),
        lost_answer_rate: rate(0.05, 0.2),
        late_effect_rate: rate(0.03, 0.15),
        webhook_twice_rate: rate(0.3, 0.9),
        webhook_late_rate: rate(0.1, 0.4),
        webhook_early_rate: rate(0.1, 0.4),
        webhook_lost_rate: rate(0.05, 0.4),
        late_effect_ms: chance.random_range(1_000..6_000),
        delay_ms: chance.random_range(5..120),
        delay_p99_ms: chance.random_range(120..2_500),
        webhook_late_ms: chance.random_range(500..5_000),
        webhook_early_ms: chance.random_range(20..500),
        webhook_shuffle_ms: chance.random_range(0..300),
    };
    if chance.random_bool(0.5) {
        temper.webhook_lost_rate = Rate::NEVER;
    }
    if temper.webhook_lost_rate > Rate::NEVER {
        // The id of a refund whose answer is an error for good is only ever told by its webhook: where both are
        // gone the ledger cannot know, and `reconcile` is what tells.
        temper.error_after_rate = Rate::NEVER;
    }
    temper
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_of_a_door_is_drawn_and_a_seed_means_one_plan() {
        let plans: Vec<CheckoutPlan> = (0..200).map(CheckoutPlan::of).collect();
        let faults: BTreeSet<Fault> = plans
            .iter()
            .flat_map(|plan| &plan.faults)
            .map(|planned| planned.fault)
            .collect();
        assert_eq!(faults.len(), Fault::DOORS.len());
        assert_eq!(
            format!("{:?}", CheckoutPlan::of(7)),
            format!("{:?}", CheckoutPlan::of(7))
        );
    }
}
