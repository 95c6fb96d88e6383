//! Who has which units, as the answers say: the effects of one sale in log order, and at each place the least and
//! the most units that can be taken by then.
//!
//! What nobody knows is counted for the store: towards *least* an unknown release has happened at once and an
//! unknown claim never; towards *most* it is the other way round. No model of the machine: an effect is what an
//! answer called one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Run;
use crate::history::{Call, Index, Kind, Name, Outcome};

/// One effect, the first time its key tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub at: Index,
    /// Log time, in ms.
    pub lt: u64,
    /// The operation that tells it.
    pub id: u64,
    pub change: Change,
}

/// What an effect does to the units.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Held {
        hold: Name,
        user: Name,
        quantity: u64,
        deadline: u64,
    },
    /// Confirmed as it was claimed; the user only where the sale counts him.
    Sold {
        key: Name,
        user: Option<Name>,
        quantity: u64,
    },
    Confirmed {
        hold: Name,
    },
    Returned {
        hold: Name,
    },
    Extended {
        hold: Name,
        deadline: u64,
    },
    /// Units came into the sale, or left it.
    Total {
        more: u64,
        fewer: u64,
    },
}

/// One sale's effects, and what is not known of it.
pub(super) struct Ledger {
    pub sale: Name,
    /// In log order.
    pub steps: Vec<Step>,
    /// Units at the beginning.
    pub units: u64,
    /// Most units of one user.
    pub user_units_max: u64,
    may_settle: HashSet<Name>,
    may_return: HashSet<Name>,
    /// Units that unknown claims and decrements may have taken.
    pub may_take: u64,
    /// Units that unknown restocks may have brought, and unknown withdrawals taken out.
    pub may_bring: u64,
    pub may_withdraw: u64,
}

/// Units taken, as far as a place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bound {
    /// At least so many.
    Least,
    /// At most so many, but for what unknown claims may have taken.
    Most,
}

/// The ledgers of all sales.
pub(super) fn ledgers(run: &Run) -> Vec<Ledger> {
    let mut ledgers: BTreeMap<Name, Ledger> = BTreeMap::new();
    // Where in its ledger the effect of a key is.
    let mut told: HashMap<(Name, Kind, Name), usize> = HashMap::new();
    for operation in run
        .operations
        .iter()
        .filter(|operation| !operation.call.is_document())
    {
        let ledger = ledgers.entry(operation.sale).or_insert_with(|| {
            let sale = &run.history.header.sales[run.text(operation.sale)];
            Ledger {
                sale: operation.sale,
                steps: Vec::new(),
                units: sale.units,
                user_units_max: sale.per_user_units_max,
                may_settle: HashSet::new(),
                may_return: HashSet::new(),
                may_take: 0,
                may_bring: 0,
                may_withdraw: 0,
            }
        });
        if operation.is_unknown() {
            ledger.doubt(&operation.call);
            continue;
        }
        let (Some(answer), Some(&key)) = (operation.effect(), operation.call.key()) else {
            continue;
        };
        let Some(at) = answer.idx else { continue };
        let Some(change) = change(&operation.call, &answer.outcome) else {
            continue;
        };
        let step = Step {
            at,
            lt: answer.lt,
            id: operation.id,
            change,
        };
        let place = *(told.entry((operation.sale, operation.call.kind(), key))).or_insert(ledger.steps.len());
        match ledger.steps.get_mut(place) {
            None => ledger.steps.push(step),
            // Told twice: the earlier place is where it happened. Two effects count twice.
            Some(earlier) if same_effect(&earlier.change, &change) => {
                if earlier.at > at {
                    *earlier = step;
                }
            }
            Some(_) => ledger.steps.push(step),
        }
    }
    for ledger in ledgers.values_mut() {
        ledger.steps.sort_by_key(|step| step.at);
    }
    ledgers.into_values().collect()
}

fn same_effect(one: &Change, other: &Change) -> bool {
    match (one, other) {
        (Change::Held { hold, .. }, Change::Held { hold: other, .. })
        | (Change::Confirmed { hold }, Change::Confirmed { hold: other })
        | (Change::Returned { hold }, Change::Returned { hold: other })
        | (Change::Extended { hold, .. }, Change::Extended { hold: other, .. }) => hold == other,
        (Change::Sold { key, .. }, Change::Sold { key: other, .. }) => key == other,
        _ => false,
    }
}

fn change(call: &Call, outcome: &Outcome) -> Option<Change> {
    Some(match (*call, *outcome) {
        (Call::Claim { user, quantity, .. }, Outcome::Granted { hold, deadline }) => Change::Held {
            hold,
            user,
            quantity,
            deadline,
        },
        (Call::Decrement { user, key, quantity }, Outcome::Sold { hold }) => match (hold, user) {
            (Some(hold), Some(user)) => Change::Held {
                hold,
                user,
                quantity,
                deadline: u64::MAX,
            },
            _ => Change::Sold { key, user, quantity },
        },
        (Call::Confirm { hold, .. }, Outcome::Confirmed) => Change::Confirmed { hold },
        (Call::Release { hold, .. }, Outcome::Released) | (Call::Cancel { hold, .. }, Outcome::Done) => {
            Change::Returned { hold }
        }
        (Call::Extend { hold, .. }, Outcome::Extended { deadline }) => Change::Extended { hold, deadline },
        (Call::Restock { units, .. }, Outcome::Done) => Change::Total {
            more: units,
            fewer: 0,
        },
        (Call::Withdraw { units, .. }, Outcome::Done) => Change::Total {
            more: 0,
            fewer: units,
        },
        _ => return None,
    })
}

impl Ledger {
    fn doubt(&mut self, call: &Call) {
        match *call {
            Call::Claim { quantity, .. } | Call::Decrement { quantity, .. } => self.may_take += quantity,
            Call::Confirm { hold, .. } | Call::Extend { hold, .. } => {
                self.may_settle.insert(hold);
            }
            Call::Release { hold, .. } | Call::Cancel { hold, .. } => {
                self.may_return.insert(hold);
            }
            Call::Restock { units, .. } => self.may_bring += units,
            Call::Withdraw { units, .. } => self.may_withdraw += units,
            // Neither moves units.
            Call::Read
            | Call::Open { .. }
            | Call::Pause { .. }
            | Call::Close { .. }
            | Call::Resolve { .. }
            | Call::Put { .. }
            | Call::Delete { .. }
            | Call::Lease { .. }
            | Call::Get => {}
        }
    }
}

/// Walks along a ledger.
pub(super) struct Walk<'a> {
    ledger: &'a Ledger,
    bound: Bound,
    next: usize,
    holds: HashMap<Name, Hold>,
    /// Holds that end by themselves, by deadline.
    ending: BTreeSet<(u64, Name)>,
    /// Units taken from the sale.
    pub taken: u64,
    /// Units in the sale, as far as is known.
    pub total: u64,
    by_user: HashMap<Name, u64>,
}

struct Hold {
    user: Name,
    quantity: u64,
    deadline: u64,
}

impl<'a> Walk<'a> {
    pub fn new(ledger: &'a Ledger, bound: Bound) -> Walk<'a> {
        Walk {
            ledger,
            bound,
            next: 0,
            holds: HashMap::new(),
            ending: BTreeSet::new(),
            taken: 0,
            total: ledger.units,
            by_user: HashMap::new(),
        }
    }

    /// Takes the next step; none: there is no more.
    pub fn step(&mut self) -> Option<&'a Step> {
        let step = self.ledger.steps.get(self.next)?;
        self.next += 1;
        self.pass_time(step.lt);
        match step.change {
            Change::Held {
                hold,
                user,
                quantity,
                deadline,
            } => {
                let gone = self.bound == Bound::Least && self.ledger.may_return.contains(&hold);
                if !gone && deadline > step.lt {
                    self.take(hold, user, quantity, deadline);
                }
            }
            Change::Sold { quantity, user, .. } => {
                self.taken += quantity;
                if let Some(user) = user {
                    *self.by_user.entry(user).or_default() += quantity;
                }
            }
            Change::Confirmed { hold } => self.set_deadline(hold, u64::MAX),
            Change::Extended { hold, deadline } => self.set_deadline(hold, deadline),
            Change::Returned { hold } => self.give_back(hold),
            Change::Total { more, fewer } => {
                self.total = (self.total + more).saturating_sub(fewer);
            }
        }
        Some(step)
    }

    /// Takes all steps before a place, and lets time pass until there.
    pub fn go_to(&mut self, at: Index, lt: u64) {
        while self.ledger.steps.get(self.next).is_some_and(|step| step.at < at) {
            self.step();
        }
        self.pass_time(lt);
    }

    /// A user's units.
    pub fn of_user(&self, user: Name) -> u64 {
        self.by_user.get(&user).copied().unwrap_or_default()
    }

    fn take(&mut self, hold: Name, user: Name, quantity: u64, deadline: u64) {
        let before = self.holds.insert(
            hold,
            Hold {
                user,
                quantity,
                deadline,
            },
        );
        if before.is_some() {
            // A hold told by two keys: another property's business; here it counts once.
            return;
        }
        self.taken += quantity;
        *self.by_user.entry(user).or_default() += quantity;
        self.ending.insert((deadline, hold));
    }

    fn set_deadline(&mut self, hold: Name, deadline: u64) {
        if let Some(held) = self.holds.get_mut(&hold) {
            self.ending.remove(&(held.deadline, hold));
            held.deadline = deadline;
            self.ending.insert((deadline, hold));
        }
    }

    fn give_back(&mut self, hold: Name) {
        if let Some(held) = self.holds.remove(&hold) {
            self.ending.remove(&(held.deadline, hold));
            self.taken -= held.quantity;
            *self.by_user.entry(held.user).or_default() -= held.quantity;
        }
    }

    fn pass_time(&mut self, lt: u64) {
        while let Some(&(deadline, hold)) = self.ending.first()
            && deadline <= lt
        {
            self.ending.pop_first();
            if self.bound == Bound::Most && self.ledger.may_settle.contains(&hold) {
                // It may have been confirmed or extended: then it is taken still.
                continue;
            }
            self.give_back(hold);
        }
    }
}
