//! How far the searches of one history go, and what they say when they go no further.

use std::fmt;

/// How much may be done before a search gives up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most states that one search remembers: 16 bytes each and as much again while the table grows.
    pub states_max: usize,
    /// Most operations tried or looked at, over all searches of a history.
    pub tries_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // About half a gigabyte.
            states_max: 12_000_000,
            // Some twenty seconds.
            tries_max: 60_000_000,
        }
    }
}

/// What is left of the limits for the searches of one history.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    limits: Limits,
    pub(super) tries: u64,
}

impl Budget {
    /// All of it.
    pub fn new(limits: Limits) -> Budget {
        Budget { limits, tries: 0 }
    }

    /// The same, but no more than these limits.
    pub fn at_most(self, limits: Limits) -> Budget {
        Budget::new(Limits {
            states_max: self.limits.states_max.min(limits.states_max),
            tries_max: self.limits.tries_max.min(limits.tries_max),
        })
    }

    /// Spends at most one of so many equal parts of the tries; what is not used stays for others.
    pub fn spend<T>(&mut self, parts: usize, search: impl FnOnce(&mut Budget) -> T) -> T {
        let tries_max = (self.limits.tries_max - self.tries) / parts.max(1) as u64;
        let mut part = Budget::new(Limits {
            tries_max,
            ..self.limits
        });
        let found = search(&mut part);
        self.tries += part.tries.min(tries_max);
        found
    }

    /// The limit that is reached, if one is.
    pub(super) fn reached(&self, states: usize) -> Option<Bound> {
        if states >= self.limits.states_max {
            Some(Bound::States(self.limits.states_max))
        } else if self.tries >= self.limits.tries_max {
            Some(Bound::Tries(self.limits.tries_max))
        } else {
            None
        }
    }
}

/// The limit that ended a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// So many states were remembered.
    States(usize),
    /// So many operations were tried.
    Tries(u64),
    /// More unheard claims than this may have equal deadlines, and not all their orders were tried.
    EqualDeadlines(usize),
    /// More unheard operations than this set an end of a lease or document, and not all orders were tried.
    OpenEnds(usize),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::States(states) => write!(f, "{states} states were remembered (--states-max)"),
            Bound::Tries(tries) => write!(f, "its share of {tries} tries was used up (--tries-max)"),
            Bound::OpenEnds(ends) => {
                write!(
                    f,
                    "only {ends} unheard end of a lease or document is tried in every order,"
                )
            }
            Bound::EqualDeadlines(claims) => {
                write!(
                    f,
                    "only {claims} unheard claims are tried in every order of equal deadlines,"
                )
            }
        }
    }
}
