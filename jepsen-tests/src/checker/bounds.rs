//! What contradicts itself whatever the unknowns did.
//!
//! An unheard operation may have happened at any time after it began, or never. Instead of trying when, this
//! replay keeps for every counter the least and the most that it can be, and of every hold whether its state
//! is certain. What it finds contradicts every possibility at once, in O(n log n); what it does not find
//! proves nothing. It is also how a contradiction is made small: an operation whose answer does not matter
//! may as well not have been heard.

use std::collections::BTreeSet;

use super::operations::{Operation, Partition};
use crate::{
    history::{Answer, Call, Outcome},
    models::inventory::Id,
};

/// What is certain of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certain {
    /// Nothing yet.
    Unused,
    /// It holds its units.
    Live,
    /// It has them for good.
    Confirmed,
    /// It has none.
    Over,
    /// It may have its units or not.
    Nothing,
}

/// What may be done to a hold by operations that nobody heard back from.
#[derive(Clone, Copy, Debug, Default)]
struct Loose {
    /// It may be confirmed or extended, and so outlast its deadline.
    outlasts: bool,
    /// It may be released or cancelled.
    ends: bool,
}

/// What unheard operations have to do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// Nothing: its first answer is its effect.
    Heard,
    /// They ask the same with it: its effect may have come before it was first told.
    Loose,
    /// They ask something else with it: whose effect is told with it, nobody knows.
    Mixed,
}

struct Hold {
    certain: Certain,
    user: Option<Id>,
    quantity: u64,
    deadline: u64,
    loose: Loose,
    /// Somebody heard that it was granted; and whether that was then, not before.
    granted: Option<bool>,
}

/// The least and the most that a sale's state can be.
struct Bounds<'a> {
    partition: &'a Partition,
    holds: Vec<Hold>,
    keys: Vec<Key>,
    remembered: Vec<Option<Outcome<Id>>>,
    /// Units that a user has for certain.
    taken: Vec<u64>,
    due: BTreeSet<(u64, Id)>,
    /// Units taken for certain, how many of them live, and how many more may be.
    sure: u64,
    sure_live: u64,
    sure_sold: u64,
    maybe: u64,
    total_min: u64,
    total_max: u64,
    total_loose: bool,
}

/// An operation whose answer contradicts those before it in this order, whatever the unheard operations did.
/// `earliest`: for each of those, how many of the order come surely before.
pub fn contradiction(partition: &Partition, order: &[u32], earliest: &[(u32, usize)]) -> Option<u32> {
    let mut bounds = Bounds::new(partition, order);
    let mut begins: Vec<(usize, u32)> = earliest.iter().map(|&(index, place)| (place, index)).collect();
    begins.sort_unstable();
    let mut begins = begins.into_iter().peekable();
    for (place, &index) in order.iter().enumerate() {
        while let Some((_, unheard)) = begins.next_if(|&(begin, _)| begin <= place) {
            bounds.may_happen(&partition.operations[unheard as usize].call);
        }
        let Operation { call, answer, .. } = &partition.operations[index as usize];
        let answer = answer.as_ref().expect("an order is of heard operations");
        if bounds.happen(call, answer).is_none() {
            return Some(index);
        }
    }
    None
}

/// Goes on only where this can be.
fn can(be: bool) -> Option<()> {
    be.then_some(())
}

impl<'a> Bounds<'a> {
    fn new(partition: &'a Partition, order: &[u32]) -> Bounds<'a> {
        let ids = partition.ids();
        let mut keys = vec![Key::Heard; ids];
        let mut calls: Vec<Option<Call<Id>>> = vec![None; ids];
        let hold = || Hold {
            certain: Certain::Unused,
            user: None,
            quantity: 0,
            deadline: u64::MAX,
            loose: Loose::default(),
            granted: None,
        };
        let mut holds: Vec<Hold> = std::iter::repeat_with(hold).take(ids).collect();
        for Operation { call, .. } in partition
            .operations
            .iter()
            .filter(|operation| operation.answer.is_none())
        {
            if let Some(&key) = call.key() {
                let same = calls[key as usize].get_or_insert(*call) == call;
                let key = &mut keys[key as usize];
                *key = if same && *key != Key::Mixed {
                    Key::Loose
                } else {
                    Key::Mixed
                };
            }
            if let Some(&hold) = call.hold() {
                let loose = &mut holds[hold as usize].loose;
                match call {
                    Call::Release { .. } | Call::Cancel { .. } => loose.ends = true,
                    _ => loose.outlasts = true,
                }
            }
        }
        for &index in order {
            let Operation { call, answer, .. } = &partition.operations[index as usize];
            let (Some(answer), Some(&key)) = (answer, call.key()) else {
                continue;
            };
            if calls[key as usize].is_some_and(|unheard| unheard != *call) {
                keys[key as usize] = Key::Mixed;
            }
            if let Outcome::Granted { hold, .. } | Outcome::Sold { hold: Some(hold) } = answer.outcome {
                holds[hold as usize].granted = Some(keys[key as usize] == Key::Heard);
            }
        }
        let total = partition.sale().units;
        Bounds {
            partition,
            holds,
            keys,
            remembered: vec![None; ids],
            taken: vec![0; ids],
            due: BTreeSet::new(),
            sure: 0,
            sure_live: 0,
            sure_sold: 0,
            maybe: 0,
            total_min: total,
            total_max: total,
            total_loose: false,
        }
    }

    fn available_max(&self) -> u64 {
        self.total_max.saturating_sub(self.sure)
    }

    fn available_min(&self) -> u64 {
        self.total_min.saturating_sub(self.sure + self.maybe)
    }

    /// From now on, this may happen.
    fn may_happen(&mut self, call: &Call<Id>) {
        match *call {
            Call::Claim { quantity, .. } | Call::Decrement { quantity, .. } => self.maybe += quantity,
            Call::Restock { units, .. } => {
                self.total_max += units;
                self.total_loose = true;
            }
            Call::Withdraw { units, .. } => {
                self.total_min = self.total_min.saturating_sub(units);
                self.total_loose = true;
            }
            _ => {}
        }
    }

    /// Changes what is certain of a hold, and with it what is of the counters.
    fn set(&mut self, id: Id, certain: Certain) {
        let hold = &mut self.holds[id as usize];
        let (old, quantity, user) = (
            std::mem::replace(&mut hold.certain, certain),
            hold.quantity,
            hold.user,
        );
        let stays_live = !hold.loose.outlasts;
        if old == Certain::Live {
            self.due.remove(&(hold.deadline, id));
        }
        if certain == Certain::Live {
            self.due.insert((hold.deadline, id));
        }
        let has = |certain| matches!(certain, Certain::Live | Certain::Confirmed);
        let count = |counter: &mut u64, was: bool, is: bool| {
            *counter = *counter + u64::from(is) * quantity - u64::from(was) * quantity;
        };
        count(&mut self.sure, has(old), has(certain));
        let live = |certain| stays_live && certain == Certain::Live;
        count(&mut self.sure_live, live(old), live(certain));
        count(
            &mut self.sure_sold,
            old == Certain::Confirmed,
            certain == Certain::Confirmed,
        );
        count(
            &mut self.maybe,
            old == Certain::Nothing,
            certain == Certain::Nothing,
        );
        if let Some(user) = user {
            count(&mut self.taken[user as usize], has(old), has(certain));
        }
    }

    fn advance(&mut self, lt: u64) {
        while let Some(&(deadline, id)) = self.due.first()
            && deadline <= lt
        {
            let outlasts = self.holds[id as usize].loose.outlasts;
            self.set(id, if outlasts { Certain::Nothing } else { Certain::Over });
        }
    }

    /// Takes an answer, if it is possible at all.
    fn happen(&mut self, call: &Call<Id>, answer: &Answer<Id>) -> Option<()> {
        let Answer { lt, outcome, .. } = *answer;
        self.advance(lt);
        let Some(&key) = call.key() else {
            return self.read(&outcome);
        };
        if let Some(remembered) = self.remembered[key as usize] {
            return can(remembered.is_same_effect(&outcome));
        }
        let first = self.keys[key as usize] == Key::Heard;
        if outcome.is_effect() {
            self.remembered[key as usize] = Some(outcome);
            if self.keys[key as usize] == Key::Mixed {
                self.may_happen(call);
                return Some(());
            }
        }
        let available_max = self.available_max();
        match (*call, outcome) {
            (Call::Claim { user, quantity, .. }, Outcome::Granted { hold, deadline }) => {
                let own = lt.saturating_add(self.partition.sale().ttl_ms);
                // A repetition may tell it as it was extended.
                let latest = own.saturating_add(self.partition.sale().extend_ms);
                can(if first {
                    deadline == own
                } else {
                    deadline <= latest
                })?;
                if first {
                    can(self.holds[hold as usize].certain == Certain::Unused)?;
                    can(quantity <= available_max)?;
                    can(self.taken[user as usize] + quantity <= self.partition.sale().per_user_units_max)?;
                }
                self.granted(hold, user, quantity, deadline, lt)
            }
            (Call::Decrement { user, quantity, .. }, Outcome::Sold { hold }) => {
                can(!first || quantity <= available_max)?;
                if let Some(user) = user {
                    let taken = &mut self.taken[user as usize];
                    can(!first || *taken + quantity <= self.partition.sale().per_user_units_max)?;
                    if hold.is_none() {
                        *taken += quantity;
                    }
                }
                match hold {
                    Some(hold) => {
                        can(self.holds[hold as usize].certain == Certain::Unused || !first)?;
                        let own = &mut self.holds[hold as usize];
                        if own.certain == Certain::Unused {
                            (own.user, own.quantity) = (user, quantity);
                            let ends = own.loose.ends;
                            self.set(
                                hold,
                                if ends {
                                    Certain::Nothing
                                } else {
                                    Certain::Confirmed
                                },
                            );
                        }
                    }
                    None => {
                        self.sure += quantity;
                        self.sure_sold += quantity;
                    }
                }
                Some(())
            }
            (Call::Claim { user, .. }, Outcome::Already { hold }) => self.already(Some(user), hold),
            (Call::Decrement { user, .. }, Outcome::Already { hold }) => self.already(user, hold),
            (Call::Claim { user, quantity, .. }, Outcome::SoldOut) => {
                can(self.available_min() < quantity)?;
                can(self.taken[user as usize] + quantity <= self.partition.sale().per_user_units_max)
            }
            (Call::Decrement { quantity, .. }, Outcome::SoldOut) => can(self.available_min() < quantity),
            (Call::Confirm { hold, .. }, Outcome::Confirmed) => {
                self.settled(hold, first, lt, Certain::Confirmed)
            }
            (Call::Release { hold, .. }, Outcome::Released) => self.settled(hold, first, lt, Certain::Over),
            (Call::Confirm { hold, .. } | Call::Release { hold, .. }, Outcome::Gone) => {
                let Hold { certain, loose, .. } = self.holds[hold as usize];
                can(certain != Certain::Live || loose.outlasts || loose.ends)
            }
            (Call::Extend { hold, .. }, Outcome::Extended { deadline }) => {
                let certain = self.holds[hold as usize].certain;
                can(!first || certain != Certain::Over)?;
                self.set(hold, Certain::Nothing);
                self.holds[hold as usize].deadline = deadline;
                self.holds[hold as usize].loose.outlasts = true;
                if certain == Certain::Live && first {
                    self.set(hold, Certain::Live);
                }
                Some(())
            }
            (Call::Cancel { hold, .. }, Outcome::Done) => {
                can(!first || self.holds[hold as usize].certain != Certain::Live)?;
                self.set(hold, Certain::Over);
                Some(())
            }
            (Call::Restock { units, .. }, Outcome::Done) => {
                // Unheard restocks count from when they began, so this one does not again.
                if first {
                    self.total_max += units;
                    self.total_min += units;
                }
                Some(())
            }
            (Call::Withdraw { units, .. }, Outcome::Done) => {
                if first {
                    can(units <= available_max)?;
                    self.total_max -= units;
                    self.total_min = self.total_min.saturating_sub(units);
                }
                Some(())
            }
            (Call::Withdraw { units, .. }, Outcome::Short) => can(self.available_min() < units),
            _ => Some(()),
        }
    }

    fn granted(&mut self, id: Id, user: Id, quantity: u64, deadline: u64, lt: u64) -> Option<()> {
        let hold = &mut self.holds[id as usize];
        if hold.certain != Certain::Unused {
            return Some(());
        }
        (hold.user, hold.quantity, hold.deadline) = (Some(user), quantity, deadline);
        let Loose { ends, outlasts } = hold.loose;
        let certain = match (ends, deadline <= lt) {
            (true, _) => Certain::Nothing,
            (false, false) => Certain::Live,
            (false, true) if outlasts => Certain::Nothing,
            (false, true) => Certain::Over,
        };
        self.set(id, certain);
        Some(())
    }

    /// Somebody was told that the user has this hold.
    fn already(&self, user: Option<Id>, id: Id) -> Option<()> {
        let hold = &self.holds[id as usize];
        match hold.certain {
            Certain::Live | Certain::Confirmed => can(hold.user == user),
            Certain::Over => None,
            Certain::Nothing => can(hold.user.is_none() || hold.user == user),
            // Nobody unheard can have it, and it was not granted yet.
            Certain::Unused => can(hold.granted != Some(true)),
        }
    }

    /// A hold was confirmed or released.
    fn settled(&mut self, id: Id, first: bool, lt: u64, to: Certain) -> Option<()> {
        let hold = &self.holds[id as usize];
        if first {
            can(match hold.certain {
                Certain::Live => true,
                Certain::Unused => hold.granted != Some(true),
                Certain::Nothing => lt < hold.deadline || hold.loose.outlasts,
                Certain::Confirmed | Certain::Over => false,
            })?;
        } else if to == Certain::Confirmed {
            // It was confirmed once, by whomever, and may have been cancelled since.
            can(hold.certain != Certain::Over || hold.loose.ends || hold.loose.outlasts)?;
        }
        // Whoever was granted it unheard counts for as much as he may, so its own quantity stays zero.
        let unsure = hold.certain == Certain::Unused || hold.loose.ends;
        let to = if to == Certain::Confirmed && unsure {
            Certain::Nothing
        } else {
            to
        };
        self.set(id, to);
        Some(())
    }

    fn read(&self, outcome: &Outcome<Id>) -> Option<()> {
        let Outcome::Counters {
            available,
            held,
            sold,
            total,
        } = *outcome
        else {
            return Some(());
        };
        can(self.available_min() <= available && available <= self.available_max())?;
        can(available
            .checked_add(held)
            .and_then(|units| units.checked_add(sold))
            == Some(total))?;
        can(self.total_loose || total == self.total_max)?;
        can(self.sure_live <= held && self.sure_sold <= sold)
    }
}
