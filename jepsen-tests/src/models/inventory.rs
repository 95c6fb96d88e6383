//! The sequential specification of one sale, written from the history format alone; it shares no code with
//! the machine that it judges.
//!
//! 1. Before anything at log time `lt`, every hold with `deadline <= lt` returns its units.
//! 2. A key whose effect is recorded gives that same answer again, for ever, whatever operation presents it.
//!    Refusals changed nothing and are not remembered.
//! 3. A claim is granted if its user stays within the limit and enough units are available; a user at the
//!    limit has `already`; deadline = `lt` + hold time; a hold's id was never used before.
//! 4. Confirm and release need a live hold, cancel a confirmed one; else `gone`.
//! 5. A read shows the state exactly.
//!
//! Log time never falls. Every change can be taken back ([`Sale::undo`]), so that a search can try.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_128_with_seed;

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

/// One thing that was changed, as it was before.
enum Change {
    Counters(Counters),
    Hold(Id, Hold),
    Key(Id, Option<Outcome<Id>>),
    User(Id, u64),
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
}

/// A sale's state.
pub struct Sale {
    limits: history::Sale,
    counters: Counters,
    holds: Vec<Hold>,
    keys: Vec<Option<Outcome<Id>>>,
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
            let hold = self.holds[id as usize];
            self.set_hold(
                id,
                Hold {
                    status: Status::Over,
                    ..hold
                },
            );
            self.count(|counters| {
                counters.held -= hold.quantity;
                counters.available += hold.quantity;
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

    /// Takes an operation whose answer nobody heard, if it changes anything now. A new hold gets id `hold`.
    pub fn step_unheard(&mut self, call: &Call<Id>, lt: u64, hold: Option<Id>) -> Option<Outcome<Id>> {
        self.advance(lt).ok()?;
        let outcome = self.would(call, hold)?;
        self.take(call, outcome);
        Some(outcome)
    }

    /// What an operation would change now, if anything.
    pub fn would(&self, call: &Call<Id>, hold: Option<Id>) -> Option<Outcome<Id>> {
        if self.remembered(call).is_some() {
            return None;
        }
        if hold.is_some_and(|hold| self.hold(hold).status != Status::Unused) {
            return None;
        }
        Some(self.respond(call, hold)).filter(Outcome::is_effect)
    }

    fn remembered(&self, call: &Call<Id>) -> Option<Outcome<Id>> {
        call.key().and_then(|&key| self.keys[key as usize])
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
            (Call::Confirm { hold: id, .. }, _) => {
                let hold = *self.hold(id);
                self.set_hold(
                    id,
                    Hold {
                        status: Status::Confirmed,
                        ..hold
                    },
                );
                self.count(|counters| {
                    counters.held -= hold.quantity;
                    counters.sold += hold.quantity;
                });
            }
            (Call::Release { hold: id, .. }, _) => {
                let hold = *self.hold(id);
                self.set_hold(
                    id,
                    Hold {
                        status: Status::Over,
                        ..hold
                    },
                );
                self.count(|counters| {
                    counters.held -= hold.quantity;
                    counters.available += hold.quantity;
                });
            }
            (Call::Extend { hold: id, .. }, Outcome::Extended { deadline }) => {
                let hold = *self.hold(id);
                self.set_hold(
                    id,
                    Hold {
                        deadline,
                        extended: true,
                        ..hold
                    },
                );
            }
            (Call::Cancel { hold: id, .. }, _) => {
                let hold = *self.hold(id);
                self.set_hold(
                    id,
                    Hold {
                        status: Status::Over,
                        ..hold
                    },
                );
                self.count(|counters| {
                    counters.sold -= hold.quantity;
                    counters.available += hold.quantity;
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
            self.set_key(key, Some(outcome));
        }
    }

    fn count(&mut self, change: impl FnOnce(&mut Counters)) {
        if let Some(trail) = &mut self.trail {
            trail.push(Change::Counters(self.counters));
        }
        change(&mut self.counters);
    }

    fn set_hold(&mut self, id: Id, new: Hold) {
        let old = self.holds[id as usize];
        if old.status == Status::Live {
            self.due.remove(&(old.deadline, id));
        }
        if new.status == Status::Live {
            self.due.insert((new.deadline, id));
        }
        let units = |hold: &Hold| match hold.status {
            Status::Live | Status::Confirmed => hold.quantity,
            Status::Unused | Status::Over => 0,
        };
        if let Some(user) = new.user
            && units(&old) != units(&new)
        {
            self.set_taken(user, self.taken[user as usize] - units(&old) + units(&new));
        }
        self.holds[id as usize] = new;
        if let Some(trail) = &mut self.trail {
            trail.push(Change::Hold(id, old));
            self.hash ^= hash_hold(id, &old) ^ hash_hold(id, &new);
        }
    }

    fn set_key(&mut self, id: Id, new: Option<Outcome<Id>>) {
        let old = std::mem::replace(&mut self.keys[id as usize], new);
        if let Some(trail) = &mut self.trail {
            trail.push(Change::Key(id, old));
            self.hash ^= hash_key(id, &old) ^ hash_key(id, &new);
        }
    }

    fn set_taken(&mut self, id: Id, new: u64) {
        let old = std::mem::replace(&mut self.taken[id as usize], new);
        if let Some(trail) = &mut self.trail {
            trail.push(Change::User(id, old));
            self.hash ^= hash(USER, id, [old, 0, 0]) ^ hash(USER, id, [new, 0, 0]);
        }
    }

    /// Where [`Sale::undo`] can come back to.
    pub fn mark(&self) -> usize {
        self.trail.as_ref().map_or(0, Vec::len)
    }

    /// Takes back everything since the mark.
    ///
    /// # Panics
    /// The sale is not undoable.
    pub fn undo(&mut self, mark: usize) {
        let mut trail = self.trail.take().expect("only an undoable sale is undone");
        while trail.len() > mark {
            match trail.pop().expect("longer than the mark") {
                Change::Counters(old) => self.counters = old,
                Change::Hold(id, old) => {
                    let new = std::mem::replace(&mut self.holds[id as usize], old);
                    if new.status == Status::Live {
                        self.due.remove(&(new.deadline, id));
                    }
                    if old.status == Status::Live {
                        self.due.insert((old.deadline, id));
                    }
                    self.hash ^= hash_hold(id, &old) ^ hash_hold(id, &new);
                }
                Change::Key(id, old) => {
                    let new = std::mem::replace(&mut self.keys[id as usize], old);
                    self.hash ^= hash_key(id, &old) ^ hash_key(id, &new);
                }
                Change::User(id, old) => {
                    let new = std::mem::replace(&mut self.taken[id as usize], old);
                    self.hash ^= hash(USER, id, [old, 0, 0]) ^ hash(USER, id, [new, 0, 0]);
                }
            }
        }
        self.trail = Some(trail);
    }

    /// Equal states have equal fingerprints; unequal ones have not, but for one chance in 2^128.
    pub fn fingerprint(&self) -> u128 {
        let Counters {
            available,
            held,
            sold,
            total,
            lt,
            doors,
        } = self.counters;
        self.hash
            ^ hash(COUNTERS, doors as u32, [available, held, sold])
            ^ hash(COUNTERS + 1, doors as u32, [total, lt, 0])
    }
}

// What a hash is of.
const COUNTERS: u64 = 0;
const HOLD: u64 = 2;
const KEY: u64 = 3;
const USER: u64 = 4;

fn hash(of: u64, id: u32, words: [u64; 3]) -> u128 {
    let mut bytes = [0; 28];
    bytes[..4].copy_from_slice(&id.to_le_bytes());
    for (chunk, word) in bytes[4..].chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    xxh3_128_with_seed(&bytes, of)
}

fn hash_hold(id: Id, hold: &Hold) -> u128 {
    let status = hold.status as u64 | u64::from(hold.extended) << 8;
    // Who and how many never change; when a hold is over, nobody asks until when it lasted.
    let deadline = if hold.status == Status::Live {
        hold.deadline
    } else {
        0
    };
    hash(
        HOLD,
        id,
        [status, deadline, u64::from(hold.user.unwrap_or(Id::MAX))],
    )
}

fn hash_key(id: Id, outcome: &Option<Outcome<Id>>) -> u128 {
    let words = match *outcome {
        None => [0, 0, 0],
        Some(Outcome::Granted { hold, deadline }) => [1, u64::from(hold), deadline],
        Some(Outcome::Sold { hold }) => [2, hold.map_or(u64::MAX, u64::from), 0],
        Some(Outcome::Extended { deadline }) => [3, deadline, 0],
        Some(Outcome::Confirmed) => [4, 0, 0],
        Some(Outcome::Released) => [5, 0, 0],
        Some(_) => [6, 0, 0],
    };
    hash(KEY, id, words)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;

    fn sale() -> Sale {
        let limits = history::Sale {
            units: 4,
            ttl_ms: 5,
            per_user_units_max: 2,
            extend_ms: 3,
        };
        Sale::new(limits, 40, true)
    }

    fn some_call(chance: &mut SmallRng) -> Call<Id> {
        let key = chance.random_range(0..20);
        let hold = chance.random_range(20..40);
        let user = chance.random_range(0..4);
        match chance.random_range(0..9) {
            0..3 => Call::Claim {
                user,
                key,
                quantity: chance.random_range(1..3),
            },
            3 => Call::Confirm { hold, key },
            4 => Call::Release { hold, key },
            5 => Call::Extend { hold, key },
            6 => Call::Cancel { hold, key },
            7 => Call::Decrement {
                user: Some(user),
                key,
                quantity: 1,
            },
            _ => Call::Pause { key },
        }
    }

    /// Everything that is kept, so that two sales can be compared.
    fn all(sale: &Sale) -> impl PartialEq + std::fmt::Debug + use<> {
        let due: Vec<(u64, Id)> = sale.due.iter().copied().collect();
        (
            sale.counters,
            sale.holds.clone(),
            sale.keys.clone(),
            sale.taken.clone(),
            due,
            sale.fingerprint(),
        )
    }

    #[test]
    fn what_is_undone_never_was() {
        for seed in 0..200 {
            let mut chance = SmallRng::seed_from_u64(seed);
            let (mut sale, mut lt) = (sale(), 1);
            let mut past = vec![(sale.mark(), lt, all(&sale))];
            for _ in 0..60 {
                if chance.random_ratio(1, 3) {
                    let back = chance.random_range(0..past.len());
                    let (mark, then, before) = &past[back];
                    sale.undo(*mark);
                    lt = *then;
                    assert_eq!(all(&sale), *before, "seed {seed}");
                    past.truncate(back + 1);
                    continue;
                }
                lt += chance.random_range(0..3);
                let call = some_call(&mut chance);
                sale.step_unheard(&call, lt, Some(chance.random_range(20..40)));
                past.push((sale.mark(), lt, all(&sale)));
            }
        }
    }

    #[test]
    fn different_states_have_different_fingerprints() {
        let mut seen = std::collections::BTreeMap::new();
        for seed in 0..500 {
            let mut chance = SmallRng::seed_from_u64(seed);
            let (mut sale, mut lt) = (sale(), 1);
            for _ in 0..8 {
                lt += chance.random_range(0..2);
                let call = some_call(&mut chance);
                sale.step_unheard(&call, lt, Some(chance.random_range(20..40)));
                // An extension of a hold that is over, and who had it, mean nothing any more.
                let kept = (
                    sale.counters,
                    sale.keys.clone(),
                    sale.taken.clone(),
                    sale.due.clone(),
                );
                let before = seen
                    .entry(sale.fingerprint())
                    .or_insert_with(|| format!("{kept:?}"));
                assert_eq!(*before, format!("{kept:?}"));
            }
        }
        assert!(seen.len() > 1_000, "{}", seen.len());
    }
}
