//! The sequential specification of one document, written from the rules of documents alone; it shares no code
//! with the machine that it judges.
//!
//! 1. Before anything at log time `lt`: a document with an end at or before `lt` is gone, and a lease that ends at
//!    or before `lt` is over.
//! 2. A key whose effect is recorded gives that same answer again to the same request, for ever, and `key_reused`
//!    to any other. Refusals changed nothing and are not remembered.
//! 3. Whoever writes, renews or gives back presents the lease's token, and none for a free document; else `busy`
//!    without a token, `stale_token` with another. A leased document cannot be deleted.
//! 4. Then the version must be the expected one, zero for a document that is not there; else `wrong_version`. A
//!    lease is on a document that is there, whatever its version; that comes before its token.
//! 5. A put gives a version higher than any before, and leaves the lease; a lease that is taken has a token higher
//!    than any before, one that is renewed keeps its own; neither changes version or body.
//! 6. A get shows the document exactly.
//! 7. A resolve tells whether a key had an effect, or gives it up until a log time, as for sales.

use super::{
    fingerprint::{DOCUMENT, FENCE, hash, hash_key},
    inventory::{Done, Id, Wrong},
};
use crate::history::{Call, Outcome};

/// What there is of a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Now {
    lt: u64,
    /// Zero: there is none.
    version: u64,
    body: Option<Id>,
    /// Zero: it is free.
    token: u64,
    leased_until: u64,
    /// Zero: never.
    ends_at: u64,
    /// Highest that there were.
    version_max: u64,
    token_max: u64,
}

/// What a key did: which request had which effect.
type Effect = (Call<Id>, Outcome<Id>);

/// One thing that was changed, as it was before.
enum Change {
    Now(Now),
    Key(Id, Option<Effect>),
    Fence(Id, u64),
}

/// A document's state. Every change can be taken back.
pub struct Document {
    now: Now,
    keys: Vec<Option<Effect>>,
    /// Until when a key is given up, and one more; zero: it is not.
    fences: Vec<u64>,
    trail: Vec<Change>,
    /// Of keys and fences.
    hash: u128,
}

impl Document {
    /// A document before its first operation, for ids below `ids`.
    pub fn new(ids: usize) -> Document {
        Document {
            now: Now::default(),
            keys: vec![None; ids],
            fences: vec![0; ids],
            trail: Vec::new(),
            hash: 0,
        }
    }

    /// Log time, in ms.
    pub fn lt(&self) -> u64 {
        self.now.lt
    }

    /// A version and a token that nobody can tell from any other new one.
    pub fn next(&self) -> (u64, u64) {
        (self.now.version_max + 1, self.now.token_max + 1)
    }

    /// When log time next changes it, ends of lease and of document.
    pub fn ends(&self) -> impl Iterator<Item = u64> {
        [self.now.leased_until, self.now.ends_at]
            .into_iter()
            .filter(|&at| at != 0)
    }

    /// Moves log time on, ending what is due.
    ///
    /// # Errors
    /// It was later before.
    pub fn advance(&mut self, lt: u64) -> Result<(), Wrong> {
        if lt < self.now.lt {
            return Err(Wrong::TimeFell { from: self.now.lt });
        }
        if lt == self.now.lt {
            return Ok(());
        }
        let mut now = Now { lt, ..self.now };
        if now.token != 0 && now.leased_until <= lt {
            (now.token, now.leased_until) = (0, 0);
        }
        if now.ends_at != 0 && now.ends_at <= lt {
            now = gone(now);
        }
        self.set(now);
        Ok(())
    }

    /// Takes an operation with its answer, if it can have been given.
    ///
    /// # Errors
    /// It cannot. The state is then what it was, but for log time and what came due.
    pub fn step(&mut self, call: &Call<Id>, lt: u64, answer: &Outcome<Id>) -> Result<Done, Wrong> {
        self.advance(lt)?;
        if let Call::Resolve { about, .. } = *call {
            return match (self.keys[about as usize], *answer) {
                (Some(_), Outcome::Found { .. }) => Ok(Done::Nothing),
                (Some(_), _) => Err(Wrong::Expected(Outcome::Found { hold: None })),
                (None, Outcome::Abandoned { until }) => {
                    self.give_up(about, until);
                    Ok(Done::Effect)
                }
                (None, _) => Err(Wrong::Expected(Outcome::Abandoned { until: lt })),
            };
        }
        let told = match *answer {
            Outcome::Written { version } => version,
            Outcome::Leased { token, .. } => token,
            _ => 0,
        };
        let (expected, after) = self.respond(call, told);
        if expected != *answer {
            return Err(match call.key().and_then(|&key| self.keys[key as usize]) {
                Some((_, effect)) if effect == expected => Wrong::Remembered(effect),
                _ => Wrong::Expected(expected),
            });
        }
        let Some(after) = after else {
            return Ok(if answer.is_effect() {
                Done::Repeated
            } else {
                Done::Nothing
            });
        };
        if after.version != self.now.version && after.version != 0 && after.version <= self.now.version_max {
            return Err(Wrong::NotNewer(self.now.version_max));
        }
        if after.token != self.now.token && after.token != 0 && after.token <= self.now.token_max {
            return Err(Wrong::NotNewer(self.now.token_max));
        }
        self.take(call, expected, after);
        Ok(Done::Effect)
    }

    /// Takes an operation whose answer nobody heard, if it changes anything now. A put makes this version, a lease
    /// that is taken this token.
    pub fn step_unheard(&mut self, call: &Call<Id>, lt: u64, told: u64) -> Option<Outcome<Id>> {
        self.advance(lt).ok()?;
        let (outcome, after) = self.respond(call, told);
        self.take(call, outcome, after?);
        Some(outcome)
    }

    /// Gives a key up until this log time, or as long as it was given up before.
    pub fn give_up(&mut self, key: Id, until: u64) {
        let old = self.fences[key as usize];
        let new = old.max(until.saturating_add(1));
        self.trail.push(Change::Fence(key, old));
        self.hash ^= hash(FENCE, key, [old, 0, 0]) ^ hash(FENCE, key, [new, 0, 0]);
        self.fences[key as usize] = new;
    }

    /// The specification's answer, and the document after it if it changes. `told`: the version or token that a
    /// change gives it.
    fn respond(&self, call: &Call<Id>, told: u64) -> (Outcome<Id>, Option<Now>) {
        let now = self.now;
        let refuse = |outcome| (outcome, None);
        if let Some(&key) = call.key() {
            if now.lt < self.fences[key as usize] {
                return refuse(Outcome::Fenced);
            }
            match self.keys[key as usize] {
                Some((request, outcome)) if request == *call => return refuse(outcome),
                Some(_) => return refuse(Outcome::KeyReused),
                None => {}
            }
        }
        let wrong_version = Outcome::WrongVersion { version: now.version };
        let of_token = |token: u64| match token {
            _ if token == now.token => None,
            0 => Some(Outcome::Busy {
                until: now.leased_until,
            }),
            _ => Some(Outcome::StaleToken { token: now.token }),
        };
        match *call {
            Call::Get => refuse(Outcome::Document {
                version: now.version,
                body: now.body,
                token: now.token,
                until: now.leased_until,
            }),
            Call::Put {
                body,
                version,
                token,
                ttl_ms,
                ..
            } => match of_token(token) {
                Some(refusal) => refuse(refusal),
                None if version != now.version => refuse(wrong_version),
                None => {
                    let ends_at = if ttl_ms == 0 {
                        0
                    } else {
                        now.lt.saturating_add(ttl_ms)
                    };
                    let after = Now {
                        version: told,
                        body: Some(body),
                        ends_at,
                        ..now
                    };
                    (Outcome::Written { version: told }, Some(after))
                }
            },
            Call::Delete { version, .. } => match of_token(0) {
                _ if now.version == 0 => refuse(wrong_version),
                Some(refusal) => refuse(refusal),
                None if version != now.version => refuse(wrong_version),
                None => (Outcome::Deleted, Some(gone(now))),
            },
            Call::Lease { token, lease_ms, .. } => match of_token(token) {
                _ if now.version == 0 => refuse(wrong_version),
                Some(refusal) => refuse(refusal),
                None => {
                    let (token, leased_until) = match (lease_ms, token) {
                        (0, _) => (0, 0),
                        (_, 0) => (told, now.lt.saturating_add(lease_ms)),
                        (_, own) => (own, now.lt.saturating_add(lease_ms)),
                    };
                    let outcome = Outcome::Leased {
                        token,
                        until: leased_until,
                    };
                    let after = Now {
                        token,
                        leased_until,
                        ..now
                    };
                    (outcome, Some(after))
                }
            },
            _ => unreachable!("{call:?} is not about a document"),
        }
    }

    fn take(&mut self, call: &Call<Id>, outcome: Outcome<Id>, after: Now) {
        self.set(Now {
            version_max: self.now.version_max.max(after.version),
            token_max: self.now.token_max.max(after.token),
            ..after
        });
        if let Some(&key) = call.key() {
            let new = Some((*call, outcome));
            let old = std::mem::replace(&mut self.keys[key as usize], new);
            self.trail.push(Change::Key(key, old));
            self.hash ^= hash_effect(key, old) ^ hash_effect(key, new);
        }
    }

    fn set(&mut self, now: Now) {
        self.trail.push(Change::Now(self.now));
        self.now = now;
    }

    /// Where [`Document::undo`] can come back to.
    pub fn mark(&self) -> usize {
        self.trail.len()
    }

    /// Takes back everything since the mark.
    pub fn undo(&mut self, mark: usize) {
        while self.trail.len() > mark {
            match self.trail.pop().expect("longer than the mark") {
                Change::Now(old) => self.now = old,
                Change::Key(key, old) => {
                    let new = std::mem::replace(&mut self.keys[key as usize], old);
                    self.hash ^= hash_effect(key, old) ^ hash_effect(key, new);
                }
                Change::Fence(key, old) => {
                    let new = std::mem::replace(&mut self.fences[key as usize], old);
                    self.hash ^= hash(FENCE, key, [old, 0, 0]) ^ hash(FENCE, key, [new, 0, 0]);
                }
            }
        }
    }

    /// Equal states have equal fingerprints; unequal ones have not, but for one chance in 2^128.
    pub fn fingerprint(&self) -> u128 {
        let Now {
            lt,
            version,
            body,
            token,
            leased_until,
            ends_at,
            version_max,
            token_max,
        } = self.now;
        let body = body.unwrap_or(Id::MAX);
        self.hash
            ^ hash(DOCUMENT, body, [lt, version, token])
            ^ hash(DOCUMENT + 1, body, [leased_until, ends_at, version_max])
            ^ hash(DOCUMENT + 2, body, [token_max, 0, 0])
    }
}

/// A document that is not there any more; what it was still counts.
fn gone(now: Now) -> Now {
    Now {
        lt: now.lt,
        version_max: now.version_max,
        token_max: now.token_max,
        ..Now::default()
    }
}

fn hash_effect(key: Id, effect: Option<Effect>) -> u128 {
    let Some((request, outcome)) = effect else {
        return hash_key(key, None, None);
    };
    let words = match request {
        Call::Put {
            body, version, token, ..
        } => [version, token, u64::from(body)],
        Call::Delete { version, .. } => [version, u64::MAX, 0],
        Call::Lease { token, lease_ms, .. } => [token, lease_ms, u64::MAX],
        _ => [0; 3],
    };
    hash_key(key, Some(&outcome), None) ^ hash(DOCUMENT + 3, key, words)
}
