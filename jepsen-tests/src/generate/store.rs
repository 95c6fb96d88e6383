//! The specification a second time, as plainly as it can be said while a run of a million operations is still
//! made in seconds.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Call, Outcome};

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Live(u64),
    Confirmed,
    Over,
}

/// One sale of one-unit claims.
#[derive(Clone, Debug)]
pub struct Store {
    /// Log time, in ms.
    pub lt: u64,
    ttl_ms: u64,
    total: u64,
    held: u64,
    sold: u64,
    /// User and state.
    holds: BTreeMap<String, (String, State)>,
    /// Each user's live or confirmed hold.
    by_user: BTreeMap<String, String>,
    due: BTreeSet<(u64, String)>,
    effects: BTreeMap<String, Outcome<String>>,
}

impl Store {
    /// A sale before its first operation.
    pub fn new(units: u64, ttl_ms: u64) -> Store {
        Store {
            lt: 0,
            ttl_ms,
            total: units,
            held: 0,
            sold: 0,
            holds: BTreeMap::new(),
            by_user: BTreeMap::new(),
            due: BTreeSet::new(),
            effects: BTreeMap::new(),
        }
    }

    /// Does it, at this log time; a new hold gets this id. None: log time would fall, or the id is not new.
    ///
    /// # Panics
    /// The call is of schema 2.
    pub fn apply(&mut self, call: &Call<String>, lt: u64, new_hold: &str) -> Option<Outcome<String>> {
        if lt < self.lt {
            return None;
        }
        self.lt = lt;
        while let Some((deadline, _)) = self.due.first()
            && *deadline <= lt
        {
            let (_, hold) = self.due.pop_first().expect("it is the first");
            self.end(&hold);
        }
        if let Some(outcome) = call.key().and_then(|key| self.effects.get(key)) {
            return Some(outcome.clone());
        }
        let available = self.total - self.held - self.sold;
        let outcome = match call {
            Call::Claim { user, .. } => {
                if let Some(hold) = self.by_user.get(user) {
                    Outcome::Already { hold: hold.clone() }
                } else if available == 0 {
                    Outcome::SoldOut
                } else if self.holds.contains_key(new_hold) {
                    return None;
                } else {
                    let deadline = lt + self.ttl_ms;
                    let hold = new_hold.to_owned();
                    self.holds
                        .insert(hold.clone(), (user.clone(), State::Live(deadline)));
                    self.by_user.insert(user.clone(), hold.clone());
                    self.due.insert((deadline, hold.clone()));
                    self.held += 1;
                    Outcome::Granted { hold, deadline }
                }
            }
            Call::Confirm { hold, .. } | Call::Release { hold, .. } => match self.live_until(hold) {
                None => Outcome::Gone,
                Some(deadline) => {
                    self.due.remove(&(deadline, hold.clone()));
                    if matches!(call, Call::Confirm { .. }) {
                        self.confirm(hold);
                        Outcome::Confirmed
                    } else {
                        self.end(hold);
                        Outcome::Released
                    }
                }
            },
            Call::Decrement { .. } if available == 0 => Outcome::SoldOut,
            Call::Decrement { .. } => {
                self.sold += 1;
                Outcome::Sold { hold: None }
            }
            Call::Read => Outcome::Counters {
                available,
                held: self.held,
                sold: self.sold,
                total: self.total,
            },
            other => unreachable!("{other:?} is of schema 2"),
        };
        if let (true, Some(key)) = (outcome.is_effect(), call.key()) {
            self.effects.insert(key.clone(), outcome.clone());
        }
        Some(outcome)
    }

    fn live_until(&self, hold: &str) -> Option<u64> {
        match self.holds.get(hold) {
            Some(&(_, State::Live(deadline))) => Some(deadline),
            _ => None,
        }
    }

    /// A live hold has its unit for good.
    fn confirm(&mut self, hold: &str) {
        self.holds.get_mut(hold).expect("it is live").1 = State::Confirmed;
        self.held -= 1;
        self.sold += 1;
    }

    /// A live hold gives its unit back.
    fn end(&mut self, hold: &str) {
        let (user, state) = self.holds.get_mut(hold).expect("it is live");
        *state = State::Over;
        self.by_user.remove(user);
        self.held -= 1;
    }
}
