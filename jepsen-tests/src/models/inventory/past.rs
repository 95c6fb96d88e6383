//! How a sale's state changes, and how it is what it was again: every change goes through here, is noted while
//! somebody may take it back, and moves the fingerprint.

use super::{Counters, Effect, Hold, Id, Sale, Status};
use crate::models::fingerprint::{COUNTERS, FENCE, USER, hash, hash_hold, hash_key};

/// One thing that was changed, as it was before.
pub(super) enum Change {
    Counters(Counters),
    Hold(Id, Hold),
    Key(Id, Option<Effect>),
    User(Id, u64),
    Fence(Id, u64),
}

impl Sale {
    pub(super) fn count(&mut self, change: impl FnOnce(&mut Counters)) {
        if let Some(trail) = &mut self.trail {
            trail.push(Change::Counters(self.counters));
        }
        change(&mut self.counters);
    }

    /// Moves a hold on; gives its units.
    pub(super) fn settle(&mut self, id: Id, status: Status) -> u64 {
        let hold = self.holds[id as usize];
        self.set_hold(id, Hold { status, ..hold });
        hold.quantity
    }

    pub(super) fn set_hold(&mut self, id: Id, new: Hold) {
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

    pub(super) fn set_key(&mut self, id: Id, new: Option<Effect>) {
        let old = std::mem::replace(&mut self.keys[id as usize], new);
        if let Some(trail) = &mut self.trail {
            trail.push(Change::Key(id, old));
            self.hash ^= hash_effect(id, old) ^ hash_effect(id, new);
        }
    }

    pub(super) fn set_taken(&mut self, id: Id, new: u64) {
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
                    self.hash ^= hash_effect(id, old) ^ hash_effect(id, new);
                }
                Change::Fence(id, old) => {
                    let new = std::mem::replace(&mut self.fences[id as usize], old);
                    self.hash ^= hash(FENCE, id, [old, 0, 0]) ^ hash(FENCE, id, [new, 0, 0]);
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

    /// Gives a key up until this log time, or as long as it was given up before.
    pub fn give_up(&mut self, key: Id, until: u64) {
        let old = self.fences[key as usize];
        let new = old.max(until.saturating_add(1));
        if let Some(trail) = &mut self.trail {
            trail.push(Change::Fence(key, old));
            self.hash ^= hash(FENCE, key, [old, 0, 0]) ^ hash(FENCE, key, [new, 0, 0]);
        }
        self.fences[key as usize] = new;
    }
}

fn hash_effect(key: Id, effect: Option<Effect>) -> u128 {
    hash_key(
        key,
        effect.as_ref().map(|effect| &effect.outcome),
        effect.and_then(|effect| effect.hold),
    )
}
