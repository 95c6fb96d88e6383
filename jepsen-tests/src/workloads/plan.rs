//! The plans of the workloads: what is for sale, and what callers do how often.

use client::NewSale;

use super::Workload;
use crate::history;

/// What a caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A new user claims.
    Claim,
    /// A user who came before claims again, under a new key.
    ClaimAgain,
    /// An earlier request once more, under its own key.
    Repeat,
    /// A new request twice at once, under one key.
    Twice,
    /// Asks what became of an earlier request; if nothing did, nothing will for a time.
    Resolve,
    /// Confirms the oldest hold.
    Confirm,
    /// Confirms a hold about when it ends.
    ConfirmLate,
    /// Gives the oldest hold back.
    Release,
    /// Begins a checkout of the oldest hold, which is kept longer.
    Extend,
    /// Takes the oldest confirmed hold back.
    Cancel,
    /// Forgets the oldest hold: it expires.
    Forget,
    /// A new user buys at once.
    Decrement,
    /// Reads the counters, linearizable.
    Read,
    /// Reads the counters from any node, as old as they are.
    ReadStale,
}

/// One sale of a plan.
#[derive(Clone, Debug)]
pub struct SalePlan {
    /// As it is created.
    pub new: NewSale,
    /// Units added now and then: a second wave, and a third.
    pub restock_units: u32,
}

/// What happens in a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is for sale.
    pub sales: Vec<SalePlan>,
    /// What callers do, and how many times in so many.
    pub actions: Vec<(Action, u32)>,
    /// Most units asked for at once.
    pub quantity_max: u32,
    /// Watchers besides the one that every run has.
    pub watchers: usize,
    /// Callers: enough that a few stuck ones do not stop the run.
    pub callers: u64,
    /// Clerks, who write documents.
    pub clerks: u64,
    /// Pause between two requests of a caller or clerk, in ms.
    pub pace_ms: u64,
    /// Callers besides, on clients of their own, who want nothing but the last sale, of which little is left:
    /// they hear that it is sold out, over and over, and wait for no other answer. Whoever is still told so by
    /// a leader that was deposed does not stop asking it. Others leave that sale alone.
    pub latecomers: u64,
}

/// Callers of a run, unless set otherwise: few enough for two cores.
const CALLERS: u64 = 32;

/// Clerks of a run: enough that they meet at their documents.
const CLERKS: u64 = 4;

/// Pause between two requests of a caller, in ms, unless set otherwise: all together ask for some 1,000 a second.
const PACE_MS: u64 = 30;

/// Claims a sale may make: more than any run asks for, so that no run ends in another refusal.
const CLAIMS_MAX: u32 = 4_000_000;

/// A checkout keeps a hold longer by a hold's time divided by this: it is to end while callers call.
const CHECKOUT_PART: u64 = 2;

/// Latecomers, where there are any.
const LATECOMERS: u64 = 16;

fn sale(sale_id: &str, units_total: u32, hold_ms: u64, restock_units: u32) -> SalePlan {
    SalePlan {
        new: NewSale {
            sale_id: sale_id.to_owned(),
            units_total,
            hold_ms,
            claims_max: CLAIMS_MAX,
            checkout_max_ms: hold_ms / CHECKOUT_PART,
            open: true,
            ..NewSale::default()
        },
        restock_units,
    }
}

impl Plan {
    /// The plan of a workload.
    pub fn of(workload: Workload) -> Plan {
        use Action::*;
        let plan = |sales, actions| Plan {
            sales,
            actions,
            quantity_max: 1,
            watchers: 0,
            callers: CALLERS,
            clerks: CLERKS,
            pace_ms: PACE_MS,
            latecomers: 0,
        };
        match workload {
            Workload::Flash => plan(
                vec![sale("hot", 500, 3_000, 200)],
                vec![
                    (Claim, 50),
                    (ClaimAgain, 8),
                    (Confirm, 14),
                    (Release, 8),
                    (Extend, 5),
                    (Cancel, 3),
                    (Forget, 4),
                    (Decrement, 6),
                    (Read, 8),
                    (ReadStale, 2),
                ],
            ),
            Workload::Ttl => plan(
                vec![sale("short", 300, 1_000, 150), sale("shorter", 80, 1_000, 40)],
                vec![
                    (Claim, 40),
                    (ConfirmLate, 20),
                    (Confirm, 5),
                    (Release, 10),
                    (Extend, 10),
                    (Forget, 15),
                    (Read, 10),
                ],
            ),
            Workload::Dedup => plan(
                vec![sale("once", 2_000, 4_000, 500)],
                vec![
                    (Claim, 20),
                    (Twice, 20),
                    (Repeat, 30),
                    (Resolve, 5),
                    (Confirm, 10),
                    (Release, 5),
                    (Extend, 5),
                    (Cancel, 5),
                    (Decrement, 10),
                    (Read, 5),
                ],
            ),
            Workload::Mixed => {
                let mut many = sale("many", 1_000, 2_000, 300);
                many.new.per_user_units_max = 4;
                let sales = vec![
                    many,
                    sale("few", 5, 1_500, 1),
                    sale("long", 400, 5_000, 0),
                    sale("one", 1, 1_000, 0),
                    sale("wide", 100_000, 2_500, 0),
                ];
                let actions = vec![
                    (Claim, 40),
                    (ClaimAgain, 10),
                    (Repeat, 5),
                    (Resolve, 3),
                    (Twice, 3),
                    (Confirm, 12),
                    (ConfirmLate, 3),
                    (Release, 8),
                    (Extend, 5),
                    (Cancel, 4),
                    (Forget, 5),
                    (Decrement, 6),
                    (Read, 7),
                    (ReadStale, 3),
                ];
                Plan {
                    quantity_max: 3,
                    ..plan(sales, actions)
                }
            }
            Workload::Watch => Plan {
                watchers: 6,
                ..plan(
                    vec![sale("seen", 3_000, 1_500, 500), sale("also", 200, 1_000, 50)],
                    vec![
                        (Claim, 40),
                        (Confirm, 15),
                        (Release, 15),
                        (Extend, 8),
                        (Cancel, 6),
                        (Forget, 10),
                        (Decrement, 10),
                        (Read, 5),
                        (ReadStale, 5),
                    ],
                )
            },
        }
    }

    /// With a sale that is as good as sold out, and those who come too late for it.
    pub fn with_latecomers(mut self) -> Plan {
        self.sales.push(sale("gone", 5, 1_000, 1));
        self.latecomers = LATECOMERS;
        self
    }

    /// What others than latecomers buy.
    pub fn sales_of_all(&self) -> &[SalePlan] {
        let late = usize::from(self.latecomers > 0);
        &self.sales[..self.sales.len() - late]
    }

    /// The header of its histories.
    pub fn header(&self) -> history::Header {
        let sales = self.sales.iter().map(|SalePlan { new, .. }| {
            let sale = history::Sale {
                units: new.units_total.into(),
                ttl_ms: new.hold_ms,
                per_user_units_max: new.per_user_units_max.max(1).into(),
                extend_ms: new.checkout_max_ms,
            };
            (new.sale_id.clone(), sale)
        });
        history::Header::two(self.sales[0].new.hold_ms, sales)
    }

    /// The longest hold, in ms, with its checkout.
    pub fn hold_ms_max(&self) -> u64 {
        let longest = self
            .sales
            .iter()
            .map(|sale| sale.new.hold_ms + sale.new.checkout_max_ms);
        longest.max().unwrap_or(0)
    }
}
