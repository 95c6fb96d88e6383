//! What a search needs to know of a sale's operations: those that were heard, with their answers, and those
//! that nobody heard back from, in all the ways in which they can have taken effect.
//!
//! An unheard claim has an effect at an unknown log time, on which its deadline depends, and its hold has an
//! unknown id. Where the same key was answered elsewhere, both are known. Elsewhere only those log times are
//! tried that anybody could tell apart: now, when a hold comes due, and each that puts the deadline just
//! after a log time of which the history speaks.

use std::collections::{BTreeMap, BTreeSet};

use super::operations::{Operation, Partition};
use crate::{
    history::{Call, Outcome},
    models::{
        Model, Way,
        inventory::{Id, Sale, Status},
    },
};

/// Deadlines within one stretch that nobody can tell apart may still need an order among themselves; so many
/// are tried. More unheard claims than this in one stretch of equal deadlines make [`Unheard::is_complete`]
/// false.
pub const EQUAL_DEADLINES_MAX: usize = 4;

/// Which ways are offered to a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// All: finding nothing means that there is nothing.
    All,
    /// Only where the next operation would fail without it and it has to do with it, or where the chance goes
    /// by: quick, and finding nothing means nothing.
    Needed,
}

/// A sale's operations as a model.
pub struct Unheard<'a> {
    partition: &'a Partition,
    offer: Offer,
    /// What was answered to each key, where it was an effect.
    by_key: BTreeMap<Id, Outcome<Id>>,
    /// Holds that nobody was granted in so many words, and whose they are if anybody said.
    orphans: Vec<(Id, Option<Id>)>,
    /// All log times and deadlines of which the history speaks, in order.
    times: Vec<u64>,
    /// Each unheard claim's own hold.
    spare: BTreeMap<usize, Id>,
    /// Unheard claims whose deadline nobody ever told.
    open_claims: usize,
    /// Up to which log time a key was told to be given up.
    given_up: BTreeMap<Id, u64>,
}

impl<'a> Unheard<'a> {
    /// A model of a sale.
    pub fn new(partition: &'a Partition, offer: Offer) -> Unheard<'a> {
        let mut by_key = BTreeMap::new();
        let mut spoken: BTreeMap<Id, Option<Id>> = BTreeMap::new();
        let mut granted = BTreeSet::new();
        let mut times = BTreeSet::new();
        let mut spare = BTreeMap::new();
        let mut given_up: BTreeMap<Id, u64> = BTreeMap::new();
        let unheard = partition
            .operations
            .iter()
            .any(|operation| operation.answer.is_none());
        for (index, Operation { call, answer, .. }) in partition.operations.iter().enumerate() {
            if !unheard {
                break;
            }
            if let Some(&hold) = call.hold() {
                spoken.entry(hold).or_default();
            }
            let Some(answer) = answer else {
                if matches!(call, Call::Claim { .. }) {
                    spare.insert(index, partition.spare(spare.len()));
                }
                continue;
            };
            times.insert(answer.lt);
            if let (true, Some(&key)) = (answer.outcome.is_effect(), call.key()) {
                by_key.insert(key, answer.outcome);
            }
            match answer.outcome {
                Outcome::Granted { hold, deadline } => {
                    granted.insert(hold);
                    times.insert(deadline);
                }
                Outcome::Extended { deadline } => {
                    times.insert(deadline);
                }
                Outcome::Sold { hold: Some(hold) } => {
                    granted.insert(hold);
                }
                Outcome::Already { hold } => {
                    let user = match *call {
                        Call::Claim { user, .. } => Some(user),
                        Call::Decrement { user, .. } => user,
                        _ => None,
                    };
                    spoken.insert(hold, user);
                }
                Outcome::Found { hold: Some(hold) } => {
                    spoken.entry(hold).or_default();
                }
                Outcome::Fenced => {
                    if let Some(&key) = call.key() {
                        let until = given_up.entry(key).or_default();
                        *until = answer.lt.max(*until);
                    }
                }
                _ => {}
            }
        }
        let keys = spare
            .keys()
            .filter_map(|&index: &usize| partition.operations[index].call.key());
        let open_claims = keys.filter(|key| !by_key.contains_key(key)).count();
        Unheard {
            partition,
            offer,
            open_claims,
            given_up,
            by_key,
            orphans: spoken
                .into_iter()
                .filter(|(hold, _)| !granted.contains(hold))
                .collect(),
            times: times.into_iter().collect(),
            spare,
        }
    }

    /// Whether a search that finds nothing has tried everything.
    pub fn is_complete(&self) -> bool {
        self.offer == Offer::All && self.open_claims <= EQUAL_DEADLINES_MAX
    }

    fn claim_ways(&self, sale: &Sale, index: usize, user: Id, key: Id, until: u64, ways: &mut Vec<Way>) {
        let now = sale.lt();
        let ttl_ms = self.partition.sale().ttl_ms;
        if let Some(Outcome::Granted { hold, deadline }) = self.by_key.get(&key) {
            // Told as it was made, or as it was extended by then.
            let mut lasted_ms = vec![ttl_ms, ttl_ms.saturating_add(self.partition.sale().extend_ms)];
            lasted_ms.dedup();
            let times = lasted_ms.iter().filter_map(|&ms| deadline.checked_sub(ms));
            ways.extend(times.filter(|lt| (now..=until).contains(lt)).map(|lt| Way {
                lt,
                hold: Some(*hold),
                ..Way::default()
            }));
            return;
        }
        let mut times = BTreeSet::from([now]);
        times.extend(sale.deadlines(until));
        let from = self
            .times
            .partition_point(|&time| time < now.saturating_add(ttl_ms));
        let ranks = self.open_claims.clamp(1, EQUAL_DEADLINES_MAX) as u64;
        let told = self.times[from..]
            .iter()
            .take_while(|&&time| time <= until.saturating_add(ttl_ms));
        for time in told {
            times.extend((1..=ranks).map(|rank| time + rank - ttl_ms));
        }
        let nobodys = self.spare[&index];
        let theirs = self.orphans.iter().filter(|(hold, whose)| {
            whose.is_none_or(|whose| whose == user) && sale.hold(*hold).status == Status::Unused
        });
        // An id that somebody spoke of comes first: most often it is the one.
        let mut holds: Vec<Id> = theirs.map(|&(hold, _)| hold).collect();
        holds.push(nobodys);
        for &lt in times.range(now..=until) {
            ways.extend(holds.iter().map(|&hold| Way {
                lt,
                hold: Some(hold),
                ..Way::default()
            }));
        }
    }

    /// Whether an unheard call has to do with the operation that was refused, or cannot wait longer.
    fn is_needed(&self, sale: &Sale, call: &Call<Id>, next: &Operation, until: u64, refused: bool) -> bool {
        // The key's effect was told, so it happened; a claim's at a time that is known.
        if call.key().is_some_and(|key| self.by_key.contains_key(key)) {
            return refused || matches!(call, Call::Claim { .. }) || self.is_last_chance(sale, call, until);
        }
        if self.is_last_chance(sale, call, until) {
            return true;
        }
        if !refused {
            return false;
        }
        let Some(answer) = next.answer else { return true };
        match (call, &next.call) {
            (Call::Resolve { about, .. }, next) => return next.key() == Some(about),
            (call, Call::Resolve { about, .. }) => return call.key() == Some(about),
            _ => {}
        }
        let same = |one: Option<&Id>, other: Option<&Id>| one.is_some() && one == other;
        let user = |call: &Call<Id>| match *call {
            Call::Claim { user, .. } => Some(user),
            Call::Decrement { user, .. } => user,
            _ => None,
        };
        let named = match &answer.outcome {
            Outcome::Already { hold } | Outcome::Granted { hold, .. } => Some(hold),
            _ => None,
        };
        if same(call.key(), next.call.key())
            || user(call).is_some() && user(call) == user(&next.call)
            || same(call.hold(), next.call.hold())
            || same(call.hold(), named)
        {
            return true;
        }
        match next.call {
            // They need the units, so only what gives some back helps.
            Call::Claim { .. } | Call::Decrement { .. } | Call::Withdraw { .. }
                if answer.outcome.is_effect() =>
            {
                matches!(
                    call,
                    Call::Release { .. } | Call::Cancel { .. } | Call::Restock { .. } | Call::Open { .. }
                )
            }
            // The hold may come from any unheard claim.
            Call::Confirm { .. } | Call::Release { .. } | Call::Extend { .. } | Call::Cancel { .. } => {
                matches!(call, Call::Claim { .. })
            }
            _ => true,
        }
    }

    /// Whether the hold that it needs comes due before the next operation.
    fn is_last_chance(&self, sale: &Sale, call: &Call<Id>, until: u64) -> bool {
        call.hold().is_some_and(|&hold| {
            let hold = sale.hold(hold);
            hold.status == Status::Live && hold.deadline <= until
        })
    }
}

impl Model for Unheard<'_> {
    type State = Sale;

    fn start(&self) -> Sale {
        Sale::new(self.partition.sale(), self.partition.ids(), true)
    }

    fn known(&self, sale: &mut Sale, operation: usize) -> bool {
        let Operation { call, answer, .. } = &self.partition.operations[operation];
        let answer = answer.expect("a search takes as known what has an answer");
        sale.step(call, answer.lt, &answer.outcome).is_ok()
    }

    fn ways(&self, sale: &Sale, operation: usize, next: usize, refused: bool, ways: &mut Vec<Way>) {
        let call = &self.partition.operations[operation].call;
        let next = &self.partition.operations[next];
        let (now, until) = (sale.lt(), next.answer.map_or(u64::MAX, |answer| answer.lt));
        if now > until || self.offer == Offer::Needed && !self.is_needed(sale, call, next, until, refused) {
            return;
        }
        // Now, or at one of these times.
        let at = |hold, times: Vec<u64>, ways: &mut Vec<Way>| {
            let times = [now].into_iter().chain(times);
            ways.extend(times.map(|lt| Way {
                lt,
                hold,
                ..Way::default()
            }));
        };
        match *call {
            Call::Claim { user, key, .. } => self.claim_ways(sale, operation, user, key, until, ways),
            Call::Resolve { about, .. } if !self.given_up.contains_key(&about) => {}
            Call::Decrement { key, .. } => {
                let hold = match self.by_key.get(&key) {
                    Some(Outcome::Sold { hold }) => *hold,
                    _ => None,
                };
                at(hold, sale.deadlines(until).collect(), ways);
            }
            Call::Withdraw { .. } => at(None, sale.deadlines(until).collect(), ways),
            // For all others one moment is as good as the next, as long as the hold is live.
            _ => at(None, Vec::new(), ways),
        }
    }

    fn unknown(&self, sale: &mut Sale, operation: usize, way: Way) -> bool {
        let call = &self.partition.operations[operation].call;
        if let Call::Resolve { about, .. } = call {
            sale.give_up(*about, self.given_up[about]);
            return true;
        }
        sale.step_unheard(call, way.lt, way.hold).is_some()
    }

    fn mark(&self, sale: &Sale) -> usize {
        sale.mark()
    }

    fn undo(&self, sale: &mut Sale, mark: usize) {
        sale.undo(mark);
    }

    fn fingerprint(&self, sale: &Sale) -> u128 {
        sale.fingerprint()
    }
}
