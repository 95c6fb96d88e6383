//! How one batch moves the state.
//!
//! Before the commands, the clock: log time moves, every hold that is due returns its units, then
//! documents' ends, then what is no longer remembered, then sale hours. No command ever sees a hold
//! that is past its deadline. Then the commands in order, each whole or not at all; one that follows
//! another, only if that one had its effect.
//!
//! Every command is judged in the same order: a fenced key is refused; a key that had an effect is
//! answered from memory, even when it comes late, because that is what turns an unknown outcome into
//! a known one; then `not_after`; then what the command means.

mod claims;
mod documents;
mod sales;

pub(crate) use claims::{judge_repeat, judge_take};
pub use sales::{CHECKOUT_MAX_MS_MAX, SALES_MAX};

use alloc::vec::Vec;

use fault_points::planted;

use crate::{
    codec::{Batch, DecodeError},
    command::{Body, Command, Found, LogMs, NOT_AFTER_MS_MAX, Namespace, Operation, Resolve, WallMs},
    effect::{Effect, Outcome},
    event::{BY_TIME, Change, EntryEvents, Kept},
    machine::{Applied, Machine},
    reply::{Field, Grant, Receipt, Rejection, Reply, Resolution},
    rows::{self, Row},
    sale::Sale,
};

impl Machine {
    /// Moves the state by one entry. Entries without commands (blank, membership) are applied with
    /// [`Machine::skip`].
    ///
    /// # Errors
    /// The bytes are not a batch: the node must stop. The state is unchanged: all commands are read
    /// before the first is applied.
    ///
    /// # Panics
    /// When an invariant does not hold: contiguous indexes, time that never falls, conservation.
    pub fn apply(&mut self, log_index: u64, term: u64, batch: &Batch<'_>) -> Result<Applied, DecodeError> {
        let mut replies = Vec::with_capacity(batch.count as usize);
        let events = self.run(log_index, term, batch, Some(&mut replies))?;
        Ok(Applied { replies, events })
    }

    /// Like [`Machine::apply`], where nobody waits for the replies: gives the events alone.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn follow(
        &mut self,
        log_index: u64,
        term: u64,
        batch: &Batch<'_>,
    ) -> Result<EntryEvents, DecodeError> {
        self.run(log_index, term, batch, None)
    }

    fn run(
        &mut self,
        log_index: u64,
        term: u64,
        batch: &Batch<'_>,
        mut replies: Option<&mut Vec<Reply>>,
    ) -> Result<EntryEvents, DecodeError> {
        let places = batch.sales().map(|(namespace, sale_id)| Place {
            namespace,
            sale_id,
            number: self.number_of(namespace, sale_id),
        });
        let places: Vec<Place<'_>> = places.collect();
        // All of them are read once before the first is applied; reading is cheaper than keeping them.
        for command in batch.commands() {
            self.prefetch_for(&command?, &places);
        }
        let clock = &self.clock;
        assert!(
            batch.log_time_ms >= clock.log_time_ms,
            "log time fell from {clock:?} to {}",
            batch.log_time_ms
        );
        assert!(
            batch.wall_time_ms >= clock.wall_time_ms,
            "wall time fell from {clock:?} to {}",
            batch.wall_time_ms
        );
        assert!(term <= u64::from(u32::MAX), "term {term} does not fit a record");
        self.step_to(log_index);
        self.clock.log_time_ms = batch.log_time_ms;
        self.clock.wall_time_ms = batch.wall_time_ms;
        self.clock.version = self.clock.version.max(batch.version);
        if planted!("wall-clock-in-apply") {
            self.clock.wall_time_ms = fault_points::host_wall_ms();
        }

        let at = Receipt {
            log_index,
            position: 0,
            term,
            log_time_ms: batch.log_time_ms,
        };
        let mut entry = Entry {
            machine: self,
            at,
            wall_time_ms: batch.wall_time_ms,
            version: batch.version,
            places,
            command: BY_TIME,
        };
        entry.pass_time();
        let mut refused: Option<Rejection> = None;
        // Nothing comes before the first command: one that follows cannot be it.
        let mut goes_on = false;
        for (position, command) in (0..).zip(batch.commands()) {
            let command = command.expect("it was read before");
            entry.at.position = position;
            entry.command = position;
            if planted!("hash-order-in-state") {
                entry.at.position ^= fault_points::host_number();
            }
            let answer = match refused {
                None if command.follows && !goes_on => Err(Rejection::NotReached),
                None => entry.judge(&command),
                Some(rejection) => Err(rejection),
            };
            goes_on = had_effect(&answer);
            if planted!("half-applied-batch") {
                refused = answer.as_ref().err().copied();
            }
            if let Some(replies) = &mut replies {
                replies.push(entry.reply(answer));
            }
        }
        let events = EntryEvents {
            log_index,
            log_time_ms: batch.log_time_ms,
            kept: self.events.as_slice().into(),
        };
        self.events.clear();
        for sale_number in core::mem::take(&mut self.touched) {
            self.close_sale_books(sale_number);
        }
        Ok(events)
    }

    /// Fetches the memory that a command will need, while those after it are still being read.
    fn prefetch_for(&self, command: &Command<'_>, places: &[Place<'_>]) {
        match &command.body {
            Body::Claim(take) | Body::Decrement(take) => {
                self.prefetch(places[usize::from(take.sale)].number, take.user, command.key);
            }
            Body::Confirm(settle) | Body::Release(settle) => {
                if let Some(sale) = self.numbered(settle.claim.sale_number()) {
                    sale.index.keys.prefetch(&sale.arena, command.key);
                    sale.arena.prefetch(settle.claim.slot());
                }
            }
            _ => {}
        }
    }
}

/// One sale of the batch's table.
struct Place<'a> {
    namespace: Namespace,
    sale_id: &'a str,
    number: Option<u32>,
}

/// One entry while it is being applied.
struct Entry<'a> {
    machine: &'a mut Machine,
    /// Where in the log the current command is.
    at: Receipt,
    wall_time_ms: WallMs,
    /// The version that the batch needs: its commands mean what they meant then.
    version: u16,
    places: Vec<Place<'a>>,
    /// Place of the current command; [`BY_TIME`] while the clock moves.
    command: u32,
}

/// What came of a command. About claims it says which, and no more: most replicas answer nobody.
enum Verdict {
    /// To claim and decrement.
    Claim {
        grant: Grant,
        sale_number: u32,
        slot: u32,
    },
    /// To confirm, release, extend and cancel.
    Settled { sale_number: u32, slot: u32 },
    /// To everything else.
    Reply(Reply),
}

/// What came of a command, or why nothing did.
type Answer = Result<Verdict, Rejection>;

/// Whether a command had its effect, now or when its key was used first: a chain goes on only then. To hear of another
/// claim, because the user is at his limit, is no effect.
fn had_effect(answer: &Answer) -> bool {
    match answer {
        Ok(Verdict::Claim { grant, .. }) => *grant != Grant::Already,
        Ok(Verdict::Settled { .. } | Verdict::Reply(_)) => true,
        Err(_) => false,
    }
}

impl Entry<'_> {
    fn now_ms(&self) -> LogMs {
        self.at.log_time_ms
    }

    /// What log time and wall time bring about before any command.
    fn pass_time(&mut self) {
        let now_ms = self.now_ms();
        let due = self
            .machine
            .deadlines
            .range(..=(now_ms, u32::MAX))
            .map(|&(_, sale_number)| sale_number);
        let mut due: Vec<u32> = due.collect();
        due.sort_unstable();
        for sale_number in due {
            self.expire_claims(sale_number);
        }
        self.expire_documents();
        for (effects, table) in [
            (&mut self.machine.memory.common, rows::EFFECT_COMMON),
            (&mut self.machine.memory.sales, rows::EFFECT_SALE),
        ] {
            while let Some((number, key)) = effects.expire(now_ms) {
                self.machine
                    .changes
                    .effects
                    .push(Row::Effect { table, key, number });
            }
        }
        while let Some(key) = self.machine.fences.expire(now_ms) {
            self.machine.changes.fences.insert(key);
        }
        self.pass_hours();
    }

    /// An answer as its caller hears it: before the next command changes what it speaks of.
    fn reply(&self, answer: Answer) -> Reply {
        let claim = |sale_number: u32, slot| {
            self.machine.sales[sale_number as usize - 1].claim(slot, self.machine.secret())
        };
        match answer {
            Ok(Verdict::Claim {
                grant,
                sale_number,
                slot,
            }) => Reply::Claim {
                grant,
                claim: claim(sale_number, slot),
            },
            Ok(Verdict::Settled { sale_number, slot }) => Reply::Settled(claim(sale_number, slot)),
            Ok(Verdict::Reply(reply)) => reply,
            Err(rejection) => Reply::Rejected(rejection),
        }
    }

    fn judge(&mut self, command: &Command<'_>) -> Answer {
        match &command.body {
            Body::Found(found) => return self.found(command, *found).map(Verdict::Reply),
            _ if self.machine.founding.is_none() => return Err(Rejection::Founding),
            Body::Resolve(resolve) => return self.resolve(command, resolve).map(Verdict::Reply),
            _ => {}
        }
        if self.machine.fences.get(command.key).is_some() && !planted!("fence-ignored") {
            return Err(Rejection::KeyFenced);
        }
        match &command.body {
            Body::Claim(take) => self.take(command, take, false),
            Body::Decrement(take) => self.take(command, take, true),
            Body::Confirm(settle) => self.confirm(command, settle),
            Body::Release(settle) => self.release(command, settle),
            Body::Extend(settle) => self.extend(command, settle),
            Body::Cancel(settle) => self.cancel(command, settle),
            Body::PutDocument(_)
            | Body::DeleteDocument { .. }
            | Body::LeaseDocument { .. }
            | Body::CheckDocument { .. } => self.change_document(command).map(Verdict::Reply),
            _ => self.change_sale(command).map(Verdict::Reply),
        }
    }

    /// Whether a command comes in time.
    fn in_time(&self, command: &Command<'_>) -> Result<(), Rejection> {
        let log_time_ms = self.now_ms();
        if planted!("not-after-ignored") {
            return Ok(());
        }
        if command.not_after_ms < log_time_ms {
            return Err(Rejection::TooLate { log_time_ms });
        }
        if command.not_after_ms > log_time_ms + NOT_AFTER_MS_MAX {
            return Err(Rejection::OutOfRange {
                field: Field::NotAfter,
            });
        }
        Ok(())
    }

    fn found(&mut self, command: &Command<'_>, found: Found) -> Result<Reply, Rejection> {
        self.in_time(command)?;
        if self.machine.founding.is_some() {
            return Err(Rejection::Founding);
        }
        self.machine.founding = Some(found);
        self.machine.documents.key_with(found.secret);
        Ok(Reply::Done(self.at))
    }

    /// Says what became of a key; if nothing did, sees to it that nothing will. Has no memory of its
    /// own: asked again, it looks again.
    fn resolve(&mut self, command: &Command<'_>, resolve: &Resolve) -> Result<Reply, Rejection> {
        self.in_time(command)?;
        let place = &self.places[usize::from(resolve.sale)];
        let number = place
            .number
            .or_else(|| self.machine.number_of(place.namespace, place.sale_id));
        if let Some(reply) = self
            .machine
            .effect(number.unwrap_or(0), resolve.operation, resolve.key)
        {
            return Ok(Reply::Resolved(match reply {
                Reply::Claim { claim, .. } | Reply::Settled(claim) => Resolution::Claim(claim),
                _ => {
                    let effect = self.machine.memory.of(resolve.operation).get(resolve.key);
                    Resolution::Effect(effect.expect("an effect that was answered is remembered").receipt)
                }
            }));
        }
        let now_ms = self.now_ms();
        let latest_ms = now_ms + NOT_AFTER_MS_MAX;
        let asked_ms = if resolve.fence_until_ms == 0 {
            latest_ms
        } else {
            resolve.fence_until_ms.min(latest_ms)
        };
        let fenced = self.machine.fences.get(resolve.key);
        let fenced_until_ms = asked_ms.max(fenced.unwrap_or(0));
        // A command whose `not_after` has passed is dead already: nothing to remember.
        if fenced_until_ms >= now_ms && fenced != Some(fenced_until_ms) {
            if fenced.is_none() && self.machine.fences.is_full() {
                return Err(Rejection::TableFull);
            }
            self.machine.fences.insert(resolve.key, fenced_until_ms);
            self.machine.changes.fences.insert(resolve.key);
        }
        Ok(Reply::Resolved(Resolution::Abandoned { fenced_until_ms }))
    }

    /// What is remembered of a key outside the claims' records: the effect, if the request is the
    /// same; a refusal, if it is another.
    fn remembered(&self, operation: Operation, key: u128, request: u64) -> Result<Option<Effect>, Rejection> {
        match self.machine.memory.of(operation).get(key) {
            Some(effect) if effect.request == request => Ok(Some(*effect)),
            Some(_) => Err(Rejection::KeyReused),
            None => Ok(None),
        }
    }

    /// Remembers what a key did.
    fn remember(&mut self, operation: Operation, key: u128, request: u64, outcome: Outcome) {
        let effect = Effect {
            request,
            receipt: self.at,
            outcome,
        };
        let (number, forgotten) = self.machine.memory.of_mut(operation).insert(key, effect);
        let table = rows::effect_tag(operation);
        for (number, key) in forgotten.into_iter().chain([(number, key)]) {
            self.machine
                .changes
                .effects
                .push(Row::Effect { table, key, number });
        }
    }

    /// The sale at a place of the batch's table.
    fn sale_at(&mut self, place: u16) -> Option<u32> {
        let place = &mut self.places[usize::from(place)];
        if place.number.is_none() {
            // It may have been created earlier in this very batch.
            place.number = self.machine.number_of(place.namespace, place.sale_id);
        }
        place.number
    }

    /// A sale that is about to change.
    fn touch(&mut self, sale_number: u32) -> &mut Sale {
        let sale = &mut self.machine.sales[sale_number as usize - 1];
        if !sale.touched {
            sale.touched = true;
            sale.counters.changed_index = self.at.log_index;
            self.machine.touched.push(sale_number);
        }
        sale
    }

    fn event(&mut self, sale_number: u32, change: Change) {
        self.machine.events.push(Kept {
            change,
            sale_number,
            command: self.command,
        });
    }
}
