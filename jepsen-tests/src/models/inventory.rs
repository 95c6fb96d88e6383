//! The sequential specification of one sale, written from the history format alone; it shares no code with
//! the machine that it judges.
//!
//! 1. Before anything at log time `lt`, every hold with `deadline <= lt` returns its units.
//! 2. A key whose effect is recorded gives that same answer again, for ever, whatever operation presents it; the
//!    claim that it made is told as it is by then, with the deadline that an extension gave it. Refusals changed
//!    nothing and are not remembered.
//! 3. A claim is granted if its user stays within the limit and enough units are available; a user at the
//!    limit has `already`; deadline = `lt` + hold time; a hold's id was never used before.
//! 4. Confirm and release need a live hold, cancel a confirmed one; else `gone`.
//! 5. A read shows the state exactly.
//!
//! 6. A resolve tells the effect of a key if one is recorded. Else it gives the key up until a log time, itself
//!    included: nothing that presents it until then has an effect, and all of it is told so.
//!
//! Log time never falls. Every change can be taken back ([`Sale::undo`]), so that a search can try.

mod past;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use past::Change;

use crate::history::{self, Call, Outcome};

/// A user, key or hold of one sale: numbered from zero, so that all that is known of it is an array away.
pub type Id = u32;

/// What became of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Its id was never given to anybody.
    Unused,
    /// Holds its units until its deadline.
    Live,
    /// Has its units for good.
    Confirmed,
    /// Gave its units back, or lost them.
    Over,
}

/// One hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What became of it.
    pub status: Status,
    /// Whose, if anybody's limit counts.
    pub user: Option<Id>,
    /// How many units.
    pub quantity: u64,
    /// While live, ends at this log time, in ms.
    pub deadline: u64,
    /// Its deadline was moved before.
    pub extended: bool,
}

const UNUSED: Hold = Hold {
    status: Status::Unused,
    user: None,
    quantity: 0,
    deadline: 0,
    extended: false,
};

/// Whether a sale takes claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doors {
    Open,
    Paused,
    Closed,
}

/// All that is not by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counters {
    available: u64,
    held: u64,
    sold: u64,
    total: u64,
    lt: u64,
    doors: Doors,
}

/// What a key did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Effect {
    outcome: Outcome<Id>,
    /// The hold that it made or settled.
    hold: Option<Id>,
}

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It changed something, for the first time.
    Effect,
    /// Its key had changed something before.
    Repeated,
    /// Nothing.
    Nothing,
}

/// Why an answer cannot have been given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Log time was later before.
    TimeFell {
        /// How late.
        from: u64,
    },
    /// The specification gives another answer.
    Expected(Outcome<Id>),
    /// The key was used, with this answer.
    Remembered(Outcome<Id>),
    /// The hold's id was used before.
    HoldUsed(Id),
    /// The user is at the limit, but not by this hold.
    NotTheirs(Id),
    /// A version or token is not higher than one before.
    NotNewer(u64),
}

/// A sale's state.
pub struct Sale {
    limits: history::Sale,
    counters: Counters,
    holds: Vec<Hold>,
    keys: Vec<Option<Effect>>,
    /// Until when a key is given up, and one more; zero: it is not.
    fences: Vec<u64>,
    /// Units of a user's live and confirmed holds.
    taken: Vec<u64>,
    due: BTreeSet<(u64, Id)>,
    /// What to take back, latest last; only kept when somebody may.
    trail: Option<Vec<Change>>,
    /// Of all that is by id.
    hash: u128,
}

impl Sale {
    /// A sale before its first operation, for ids below `ids`. `undoable`: a search keeps what it changes.
    pub fn new(limits: history::Sale, ids: usize, undoable: bool) -> Sale {
        Sale {
            limits,
            counters: Counters {
                available: limits.units,
                held: 0,
                sold: 0,
                total: limits.units,
                lt: 0,
                doors: Doors::Open,
            },
            holds: vec![UNUSED; ids],
            keys: vec![None; ids],
            fences: vec![0; ids],
            taken: vec![0; ids],
            due: BTreeSet::new(),
            trail: undoable.then(Vec::new),
            hash: 0,
        }
    }

    /// Log time, in ms.
    pub fn lt(&self) -> u64 {
        self.counters.lt
    }

    /// Units nobody has.
    pub fn available(&self) -> u64 {
        self.counters.available
    }

    /// One hold.
    pub fn hold(&self, id: Id) -> &Hold {
        &self.holds[id as usize]
    }

    /// Deadlines of live holds that come after now and not after `until`, in order.
    pub fn deadlines(&self, until: u64) -> impl Iterator<Item = u64> + '_ {
        self.due.range(..=(until, Id::MAX)).map(|&(deadline, _)| deadline)
    }

    /// Moves log time on and returns the units of every hold that is due.
    ///
    /// # Errors
    /// It was later before.
    pub fn advance(&mut self, lt: u64) -> Result<(), Wrong> {
        if lt < self.counters.lt {
            return Err(Wrong::TimeFell {
                from: self.counters.lt,
            });
        }
        if lt > self.counters.lt {
            self.count(|counters| counters.lt = lt);
        }
        while let Some(&(deadline, id)) = self.due.first()
            && deadline <= lt
        {
            let units = self.settle(id, Status::Over);
            self.count(|counters| {
                counters.held -= units;
                counters.available += units;
            });
        }
        Ok(())
    }

    /// Takes an operation with its answer, if it can have been given.
    ///
    /// # Errors
    /// It cannot. The state is then what it was, but for log time and what came due.
    pub fn step(&mut self, call: &Call<Id>, lt: u64, answer: &Outcome<Id>) -> Result<Done, Wrong> {
        self.advance(lt)?;
        if let Call::Resolve { about, .. } = *call {
            return self.resolve(about, answer);
        }
        if self.is_fenced(call) || *answer == Outcome::Fenced {
            return match (self.is_fenced(call), *answer) {
                (true, Outcome::Fenced) => Ok(Done::Nothing),
                (true, _) => Err(Wrong::Expected(Outcome::Fenced)),
                (false, _) => Err(Wrong::Expected(self.expected(call, None))),
            };
        }
        if let Some(remembered) = self.remembered(call) {
            return match remembered == *answer {
                true => Ok(Done::Repeated),
                false => Err(Wrong::Remembered(remembered)),
            };
        }
        let named = match *answer {
            Outcome::Granted { hold, .. } => Some(hold),
            Outcome::Sold { hold } => hold,
            _ => None,
        };
        let expected = self.respond(call, named);
        match (expected, *answer) {
            (Outcome::Already { .. }, Outcome::Already { hold: theirs }) => {
                let user = match call {
                    Call::Claim { user, .. } => Some(*user),
                    Call::Decrement { user, .. } => *user,
                    _ => None,
                };
                let hold = self.hold(theirs);
                if hold.user != user || !matches!(hold.status, Status::Live | Status::Confirmed) {
                    return Err(Wrong::NotTheirs(theirs));
                }
                Ok(Done::Nothing)
            }
            (expected, answer) if expected != answer => Err(Wrong::Expected(expected)),
            (Outcome::Granted { hold, .. } | Outcome::Sold { hold: Some(hold) }, _)
                if self.hold(hold).status != Status::Unused =>
            {
                Err(Wrong::HoldUsed(hold))
            }
            _ if expected.is_effect() => {
                self.take(call, expected);
                Ok(Done::Effect)
            }
            _ => Ok(Done::Nothing),
        }
    }

    fn resolve(&mut self, about: Id, answer: &Outcome<Id>) -> Result<Done, Wrong> {
        match (self.keys[about as usize], *answer) {
            (Some(Effect { hold, .. }), Outcome::Found { hold: told })
                if told.is_none_or(|told| Some(told) == hold) =>
            {
                Ok(Done::Nothing)
            }
            (Some(Effect { hold, .. }), _) => Err(Wrong::Expected(Outcome::Found { hold })),
            (None, Outcome::Abandoned { until }) => {
                self.give_up(about, until);
                Ok(Done::Effect)
            }
            // Until when, nobody but the machine can say.
            (None, _) => Err(Wrong::Expected(Outcome::Abandoned {
                until: self.counters.lt,
            })),
        }
    }

    fn is_fenced(&self, call: &Call<Id>) -> bool {
        call.key()
            .is_some_and(|&key| self.counters.lt < self.fences[key as usize])
    }

    /// What a call whose key is not given up is told.
    fn expected(&self, call: &Call<Id>, hold: Option<Id>) -> Outcome<Id> {
        self.remembered(call).unwrap_or_else(|| self.respond(call, hold))
    }

    /// Takes an operation whose answer nobody heard, if it changes anything now. A new hold gets id `hold`.
    pub fn step_unheard(&mut self, call: &Call<Id>, lt: u64, hold: Option<Id>) -> Option<Outcome<Id>> {
        self.advance(lt).ok()?;
        let outcome = self.would(call, hold)?;
        self.take(call, outcome);
        Some(outcome)
    }

    /// What an operation would change now, if anything.
    pub fn would(&self, call: &Call<Id>, hold: Option<Id>) -> Option<Outcome<Id>> {
        if self.remembered(call).is_some() || self.is_fenced(call) {
            return None;
        }
        if hold.is_some_and(|hold| self.hold(hold).status != Status::Unused) {
            return None;
        }
        Some(self.respond(call, hold)).filter(Outcome::is_effect)
    }

    fn remembered(&self, call: &Call<Id>) -> Option<Outcome<Id>> {
        let effect = call.key().and_then(|&key| self.keys[key as usize])?;
        Some(match effect.outcome {
            Outcome::Granted { hold, .. } => Outcome::Granted {
                hold,
                deadline: self.hold(hold).deadline,
            },
            outcome => outcome,
        })
    }

    /// The specification's answer to a call whose key is new. `hold`: the id that a new hold gets. The hold
    /// of `already` is left open: any that the user has will do.
    fn respond(&self, call: &Call<Id>, hold: Option<Id>) -> Outcome<Id> {
        let Counters {
            available, lt, doors, ..
        } = self.counters;
        match *call {
            Call::Claim { user, quantity, .. } => match self.refuse(Some(user), quantity) {
                Some(refusal) => refusal,
                None => Outcome::Granted {
                    hold: hold.unwrap_or(Id::MAX),
                    deadline: lt.saturating_add(self.limits.ttl_ms),
                },
            },
            Call::Decrement { user, quantity, .. } => {
                self.refuse(user, quantity).unwrap_or(Outcome::Sold { hold })
            }
            Call::Confirm { hold, .. } => match self.hold(hold).status {
                Status::Live => Outcome::Confirmed,
                _ => Outcome::Gone,
            },
            Call::Release { hold, .. } => match self.hold(hold).status {
                Status::Live => Outcome::Released,
                _ => Outcome::Gone,
            },
            Call::Extend { hold, .. } => match self.hold(hold) {
                Hold {
                    status: Status::Live,
                    extended: false,
                    deadline,
                    ..
                } => Outcome::Extended {
                    deadline: deadline.saturating_add(self.limits.extend_ms),
                },
                _ => Outcome::Gone,
            },
            Call::Cancel { hold, .. } => match self.hold(hold).status {
                Status::Confirmed => Outcome::Done,
                _ => Outcome::Gone,
            },
            Call::Read => {
                let Counters {
                    held, sold, total, ..
                } = self.counters;
                Outcome::Counters {
                    available,
                    held,
                    sold,
                    total,
                }
            }
            Call::Restock { .. } => Outcome::Done,
            Call::Withdraw { units, .. } if units <= available => Outcome::Done,
            Call::Withdraw { .. } => Outcome::Short,
            Call::Open { .. } if doors == Doors::Paused => Outcome::Done,
            Call::Pause { .. } if doors == Doors::Open => Outcome::Done,
            Call::Close { .. } if doors != Doors::Closed => Outcome::Done,
            Call::Open { .. } | Call::Pause { .. } | Call::Close { .. } => Outcome::NotOpen,
            Call::Resolve { .. }
            | Call::Put { .. }
            | Call::Delete { .. }
            | Call::Lease { .. }
            | Call::Get => {
                unreachable!("{call:?} is answered elsewhere")
            }
        }
    }

    fn refuse(&self, user: Option<Id>, quantity: u64) -> Option<Outcome<Id>> {
        let taken = user.map_or(0, |user| self.taken[user as usize]);
        let room = self.limits.per_user_units_max.saturating_sub(taken);
        if user.is_some() && room == 0 {
            Some(Outcome::Already { hold: Id::MAX })
        } else if user.is_some() && quantity > room {
            Some(Outcome::UserLimit)
        } else if self.counters.doors != Doors::Open {
            Some(Outcome::NotOpen)
        } else if quantity > self.counters.available {
            Some(Outcome::SoldOut)
        } else {
            None
        }
    }

    fn take(&mut self, call: &Call<Id>, outcome: Outcome<Id>) {
        match (*call, outcome) {
            (Call::Claim { user, quantity, .. }, Outcome::Granted { hold, deadline }) => {
                let new = Hold {
                    status: Status::Live,
                    user: Some(user),
                    quantity,
                    deadline,
                    extended: false,
                };
                self.set_hold(hold, new);
                self.count(|counters| {
                    counters.available -= quantity;
                    counters.held += quantity;
                });
            }
            (Call::Decrement { user, quantity, .. }, Outcome::Sold { hold }) => {
                let new = Hold {
                    status: Status::Confirmed,
                    user,
                    quantity,
                    deadline: 0,
                    extended: false,
                };
                match (hold, user) {
                    (Some(hold), _) => self.set_hold(hold, new),
                    (None, Some(user)) => self.set_taken(user, self.taken[user as usize] + quantity),
                    (None, None) => {}
                }
                self.count(|counters| {
                    counters.available -= quantity;
                    counters.sold += quantity;
                });
            }
            (Call::Confirm { hold, .. }, _) => {
                let units = self.settle(hold, Status::Confirmed);
                self.count(|counters| {
                    counters.held -= units;
                    counters.sold += units;
                });
            }
            (Call::Release { hold, .. }, _) => {
                let units = self.settle(hold, Status::Over);
                self.count(|counters| {
                    counters.held -= units;
                    counters.available += units;
                });
            }
            (Call::Extend { hold: id, .. }, Outcome::Extended { deadline }) => {
                let hold = *self.hold(id);
                let extended = true;
                self.set_hold(
                    id,
                    Hold {
                        deadline,
                        extended,
                        ..hold
                    },
                );
            }
            (Call::Cancel { hold, .. }, _) => {
                let units = self.settle(hold, Status::Over);
                self.count(|counters| {
                    counters.sold -= units;
                    counters.available += units;
                });
            }
            (Call::Restock { units, .. }, _) => self.count(|counters| {
                counters.available += units;
                counters.total += units;
            }),
            (Call::Withdraw { units, .. }, _) => self.count(|counters| {
                counters.available -= units;
                counters.total -= units;
            }),
            (Call::Open { .. }, _) => self.count(|counters| counters.doors = Doors::Open),
            (Call::Pause { .. }, _) => self.count(|counters| counters.doors = Doors::Paused),
            (Call::Close { .. }, _) => self.count(|counters| counters.doors = Doors::Closed),
            (call, outcome) => unreachable!("{call:?} has no effect {outcome:?}"),
        }
        if let Some(&key) = call.key() {
            let made = match outcome {
                Outcome::Granted { hold, .. } => Some(hold),
                Outcome::Sold { hold } => hold,
                _ => None,
            };
            let hold = made.or(call.hold().copied());
            self.set_key(key, Some(Effect { outcome, hold }));
        }
    }
}
