//! Which answers are final, what is tried again, and when: one call's rules, without any IO.
//!
//! The same key goes out on every attempt, and the store makes at most one effect per key, so trying
//! again can never sell twice. What needs care is what may be *told*:
//! - An effect (granted, repeated, settled, done) is final at once, whatever went before.
//! - While an earlier attempt is unknown, *nothing happened* is not final: a refusal, and also
//!   *already* (another claim of this user fills his limit), was true when it was answered, but the
//!   straggler may still arrive and be granted, for instance when a hold expires. Only when the call's
//!   `not_after` has passed in log time, or `resolve` has fenced the key, may it be told. So a shopper
//!   who was told *no* is never sold to.
//! - All attempts carry the same `not_after`, so *too late* says that every one of them is dead: the call
//!   begins anew, with a later one.
//! - `KeyReused` is final all the same: the key belongs to another request, and the straggler would
//!   be told so too. Resolving would give that other request's outcome.
//! - Failing over costs nothing of the budget, because a call that waits for a leader loads nobody.
//!   What loads a node again (it was overloaded, or the outcome was lost) takes a token.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use fault_points::planted;
use proto::v1::{Grant, Granted, Outcome, Position, Reason, outcome::Kind, resolution, unsubmitted::Cause};

use crate::{
    error::{self, Error, RETRY_AFTER_MS, Rejected},
    queue::{Answer, Failure, QUEUE_FULL},
};

/// First pause before a repeated attempt; doubled for each further one.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause between attempts: about an election.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Retries per call, in percent: an overloaded cluster gets at most this much more load from us.
const RETRY_PERCENT: i64 = 20;
/// Retries allowed in one burst: two windows of frames in flight, so that a failover which loses all
/// of them, twice, turns no call into an unknown.
const RETRY_BURST: i64 = 2 * (crate::queue::FRAMES_IN_FLIGHT_MAX * crate::queue::FRAME_COMMANDS_MAX) as i64;

/// Retries that all calls of a client share, in hundredths of a retry.
#[derive(Debug)]
pub(crate) struct Budget(AtomicI64);

impl Default for Budget {
    fn default() -> Budget {
        Budget(AtomicI64::new(RETRY_BURST * 100))
    }
}

impl Budget {
    /// Calls were made.
    pub(crate) fn earn(&self, calls: usize) {
        // Calls are counted approximately when many earn at once near the limit; never above it for long.
        if self.0.load(Ordering::Relaxed) < RETRY_BURST * 100 {
            let earned = RETRY_PERCENT.saturating_mul(i64::try_from(calls).unwrap_or(i64::MAX));
            let before = self.0.fetch_add(earned, Ordering::Relaxed);
            if before.saturating_add(earned) > RETRY_BURST * 100 {
                self.0.fetch_min(RETRY_BURST * 100, Ordering::Relaxed);
            }
        }
    }

    /// May something be tried again?
    pub(crate) fn spend(&self) -> bool {
        let spent = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left >= 100).then_some(left - 100)
        });
        spent.is_ok()
    }

    #[cfg(test)]
    fn of(retries: i64) -> Budget {
        Budget(AtomicI64::new(retries * 100))
    }
}

/// Jittered exponential pause before attempt `tries` (from one): half fixed, half chance, so that
/// callers who failed together do not come back together. `chance` is in 0..1.
pub(crate) fn pause(tries: u32, chance: f64) -> Duration {
    let full = PAUSE_MIN
        .saturating_mul(1_u32 << tries.saturating_sub(1).min(16))
        .min(PAUSE_MAX);
    full.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

/// What to do next with a call. It lives on the stack for one turn of a loop, so its size costs nothing.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum Step {
    /// Tell the caller.
    Finish(Result<(Kind, Position), Error>),
    /// Send the same command again after a pause.
    Again(Duration),
    /// Too late, and every attempt so far is dead: choose a new `not_after` and begin anew after a pause.
    Renew(Duration),
    /// Resolve the key; then [`Attempts::resolved`].
    Resolve,
}

/// What a call has been through.
#[derive(Debug)]
pub(crate) struct Attempts {
    /// After this log time none of them can apply any more.
    not_after_ms: u64,
    tries: u32,
    /// What became of some attempt is unknown.
    unknown: bool,
    /// An answer that is true but not final yet.
    withheld: Option<(Kind, Position)>,
}

impl Attempts {
    /// None yet, of a command that can apply until this log time.
    pub(crate) fn new(not_after_ms: u64) -> Attempts {
        Attempts {
            not_after_ms,
            tries: 0,
            unknown: false,
            withheld: None,
        }
    }

    /// Takes in the answer to an attempt. `left` is the time the call still has, `chance` is in 0..1.
    pub(crate) fn answered(
        &mut self,
        answer: Answer<Outcome>,
        budget: &Budget,
        left: Duration,
        chance: f64,
    ) -> Step {
        self.tries = self.tries.saturating_add(1);
        match answer {
            Ok((Outcome { kind: Some(kind) }, position)) => self.heard(kind, position, budget, left, chance),
            Ok((Outcome { kind: None }, _)) => {
                self.lost("the node's answer lacks an outcome".into(), budget, left, chance)
            }
            Err(Failure::Full) => Step::Finish(Err(self.failed(QUEUE_FULL.into(), RETRY_AFTER_MS))),
            Err(Failure::NotSent(message)) => Step::Finish(Err(self.failed(message, RETRY_AFTER_MS))),
            Err(Failure::Refused(why)) if self.unknown => {
                Step::Finish(Err(self.failed(why.message, RETRY_AFTER_MS)))
            }
            Err(Failure::Refused(why)) => Step::Finish(Err(Error::Rejected(why))),
            // What went before may yet happen, whatever this node says now.
            Err(Failure::Forbidden(message)) if !self.unknown => {
                let rejected = Rejected::plain(Reason::Forbidden, message);
                Step::Finish(Err(Error::Rejected(Box::new(rejected))))
            }
            Err(Failure::Forbidden(message)) => Step::Finish(Err(self.failed(message, RETRY_AFTER_MS))),
            Err(Failure::Lost(message)) => self.lost(message, budget, left, chance),
        }
    }

    fn heard(
        &mut self,
        kind: Kind,
        position: Position,
        budget: &Budget,
        left: Duration,
        chance: f64,
    ) -> Step {
        match kind {
            Kind::Unsubmitted(refused) => match refused.cause() {
                // The lane has given up that node already, and paces the search for the next.
                Cause::NotLeader | Cause::Starting | Cause::Stopping => Step::Again(Duration::ZERO),
                Cause::Unspecified | Cause::Overloaded | Cause::DiskReserve => {
                    let asked = Duration::from_millis(refused.retry_after_ms);
                    let pause = pause(self.tries, chance).max(asked);
                    if pause >= left || !budget.spend() {
                        let retry_after_ms = refused.retry_after_ms.max(1);
                        return Step::Finish(Err(self.failed(refused.message, retry_after_ms)));
                    }
                    Step::Again(pause)
                }
                // Somebody has to upgrade a node first: nothing to wait for within a call.
                Cause::Upgrade => {
                    Step::Finish(Err(self.failed(refused.message, refused.retry_after_ms.max(1))))
                }
            },
            Kind::Unknown(unknown) => self.lost(unknown.message, budget, left, chance),
            Kind::Rejected(rejected) if rejected.reason() == Reason::KeyReused => {
                Step::Finish(finish(Kind::Rejected(rejected), position))
            }
            Kind::Rejected(rejected) if rejected.reason() == Reason::TooLate => {
                let pause = pause(self.tries, chance);
                if pause >= left || !budget.spend() {
                    return Step::Finish(Err(Error::unavailable(rejected.message)));
                }
                Step::Renew(pause)
            }
            Kind::Rejected(_) => self.nothing_happened(kind, position),
            Kind::Claim(granted) if granted.grant() == Grant::Already => {
                self.nothing_happened(Kind::Claim(granted), position)
            }
            effect => Step::Finish(Ok((effect, position))),
        }
    }

    /// True as answered; final only once no earlier attempt can still apply.
    fn nothing_happened(&mut self, kind: Kind, position: Position) -> Step {
        if self.unknown && position.log_time_ms <= self.not_after_ms && !planted!("refusal-told-too-early") {
            self.withheld = Some((kind, position));
            return Step::Resolve;
        }
        Step::Finish(finish(kind, position))
    }

    fn lost(&mut self, message: String, budget: &Budget, left: Duration, chance: f64) -> Step {
        self.unknown = true;
        let pause = pause(self.tries, chance);
        if pause >= left || !budget.spend() {
            return Step::Finish(Err(self.failed(message, RETRY_AFTER_MS)));
        }
        Step::Again(pause)
    }

    /// The call gives up: what may be said depends on whether any attempt is unknown.
    fn failed(&self, message: String, retry_after_ms: u64) -> Error {
        if self.unknown {
            let not_after_ms = self.not_after_ms;
            return Error::Unknown {
                message,
                not_after_ms,
            };
        }
        Error::Unavailable {
            message,
            retry_after_ms,
        }
    }

    /// Takes in what `resolve` said after [`Step::Resolve`], and what that reflects: later than the answer that was
    /// withheld. `takes`: the command is a claim or decrement.
    pub(crate) fn resolved(
        &mut self,
        resolution: Result<(resolution::Kind, Position), Error>,
        takes: bool,
    ) -> Result<(Kind, Position), Error> {
        let Some((kind, withheld_at)) = self.withheld.take() else {
            return Err(self.failed("resolved without an answer to settle".into(), RETRY_AFTER_MS));
        };
        let (resolution, position) = match resolution {
            Ok(resolved) => resolved,
            Err(error) => {
                let message = format!("could not resolve the key: {error}");
                return Err(self.failed(message, RETRY_AFTER_MS));
            }
        };
        match resolution {
            resolution::Kind::Claim(claim) if takes => {
                let granted = Granted {
                    grant: Grant::Repeated.into(),
                    claim: Some(claim),
                };
                Ok((Kind::Claim(granted), position))
            }
            resolution::Kind::Claim(claim) => Ok((Kind::Settled(claim), position)),
            resolution::Kind::Effect(receipt) => Ok((Kind::Done(receipt), position)),
            resolution::Kind::AbandonedUntilMs(_) => finish(kind, withheld_at),
        }
    }
}

fn finish(kind: Kind, position: Position) -> Result<(Kind, Position), Error> {
    match kind {
        Kind::Rejected(rejected) => Err(Error::Rejected(Box::new(error::rejected(rejected, position)))),
        kind => Ok((kind, position)),
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
