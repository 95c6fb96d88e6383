//! Why a history is invalid, in one sentence, and the fewest operations that show it.
//!
//! A set of operations contradicts itself if nothing explains their answers even when every other operation
//! is taken as one that nobody heard back from: it may then have happened in any way, or not. Such a set is
//! made small by delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input",
//! 2002), within a budget.

use std::{collections::HashSet, fmt};

use super::{
    Answer, along,
    budget::{Budget, Limits},
    operations::{Operation, Partition, describe_call, describe_outcome},
    searched,
    witness::{self, OrderLies, Place},
};
use crate::{
    history::{Call, History, Outcome},
    models::inventory::{Id, Wrong},
};

/// Operations replayed, over all tries, to make one set smaller: about a second.
const SHRINK_OPERATIONS_MAX: usize = 5_000_000;

/// Operations shown at most, where the set could not be made small.
const SHOWN_MAX: usize = 20;

/// A try that needs more than this is taken as one that shows nothing.
const SHRINK_LIMITS: Limits = Limits {
    states_max: 200,
    tries_max: 1_000,
};

/// What is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lies {
    /// The answers have an order, but not the one that the history names.
    Order,
    /// No order explains the answers.
    Values,
    /// One of the two; the search for another order reached its limits.
    Either,
}

impl fmt::Display for Lies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lies::Order => "the order lies",
            Lies::Values => "the values lie",
            Lies::Either => "the order or the values lie",
        })
    }
}

/// Why a history is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// What is at fault.
    pub lies: Lies,
    /// In one sentence.
    pub why: String,
    /// The fewest operations found that contradict each other, by id.
    pub operations: Vec<u64>,
    /// The same in words, in the order in which they began.
    pub shown: Vec<String>,
}

/// Explains an order that contradicts time.
pub fn order_lies(history: &History, partitions: &[Partition], lie: OrderLies) -> Contradiction {
    let at = |(partition, index): Place| &partitions[partition as usize].operations[index as usize];
    let idx = |place: Place| {
        let index = at(place)
            .answer
            .and_then(|answer| answer.idx)
            .expect("they are in the order");
        format!("[{},{}]", index.log_index, index.position)
    };
    let lt = |place: Place| at(place).answer.expect("they are in the order").lt;
    let (OrderLies::TimeFalls(first, second)
    | OrderLies::RealTime(first, second)
    | OrderLies::PlaceShared(first, second)) = lie;
    let (one, other) = (at(first).id, at(second).id);
    let why = match lie {
        OrderLies::TimeFalls(..) => format!(
            "log time falls along the log: operation {one} at {} has lt {}, operation {other} at {} after it has lt {}",
            idx(first),
            lt(first),
            idx(second),
            lt(second)
        ),
        OrderLies::RealTime(..) => format!(
            "operation {other} had returned before operation {one} began, yet stands at {} after it at {}",
            idx(second),
            idx(first)
        ),
        OrderLies::PlaceShared(..) => {
            format!(
                "operations {one} and {other} both had an effect at {}, where there is room for one",
                idx(first)
            )
        }
    };
    let mut places = [first, second];
    places.sort_by_key(|&place| at(place).began);
    Contradiction {
        lies: Lies::Order,
        why,
        operations: places.iter().map(|&place| at(place).id).collect(),
        shown: places
            .iter()
            .map(|&place| show(history, &partitions[place.0 as usize], at(place)))
            .collect(),
    }
}

/// Explains answers of one sale that no order explains, or not the one that the history names.
pub fn values_lie(
    history: &History,
    partition: &Partition,
    order: Option<&[u32]>,
    operation: Option<u32>,
    lies: Lies,
) -> Contradiction {
    let all: Vec<u32> = match order {
        Some(order) => order.to_vec(),
        None => super::heard(partition).collect(),
    };
    let failure = order.and_then(|order| witness::replay(partition, order.iter().copied()).err());
    let blamed = operation.or(failure.map(|failure| failure.operation));
    let budget = SHRINK_OPERATIONS_MAX / partition.operations.len().max(1);
    let mut kept = shrink(start(partition, &all, blamed), &all, budget, |kept| {
        let fewer = only(partition, kept);
        let answer = match order {
            Some(_) => along(&fewer, kept, &mut Budget::new(SHRINK_LIMITS)),
            None => searched(&fewer, &mut Budget::new(SHRINK_LIMITS)),
        };
        matches!(answer, Answer::No(_))
    });
    let whole = kept.len();
    if kept.len() > SHOWN_MAX {
        // No small set was found: what has to do with the one that cannot be explained, and the last before.
        let near = blamed.map_or_else(Vec::new, |blamed| neighbours(partition, &kept, blamed));
        let place = blamed.and_then(|blamed| kept.iter().position(|&index| index == blamed));
        let until = place.map_or(kept.len(), |place| place + 1);
        let mut shown: Vec<u32> = kept[until.saturating_sub(SHOWN_MAX / 2)..until].to_vec();
        shown.extend(
            near.into_iter()
                .filter(|index| !shown.contains(index))
                .take(SHOWN_MAX / 2)
                .collect::<Vec<_>>(),
        );
        kept = shown;
    }
    kept.sort_unstable();
    let mut why = format!("{}: ", partition.describe(history));
    why += &match (failure, blamed) {
        (Some(failure), _) if Some(failure.operation) == blamed => {
            let own = &partition.operations[failure.operation as usize];
            format!(
                "operation {} {}",
                own.id,
                reason(history, partition, own, failure.wrong)
            )
        }
        (_, Some(blamed)) => {
            let own = &partition.operations[blamed as usize];
            let call = describe_call(&own.call.map(|id| text(history, partition, id)));
            format!(
                "nothing explains the answer to operation {} ({call}), whatever the unknowns did",
                own.id
            )
        }
        _ => "no order explains these answers".into(),
    };
    if whole > SHOWN_MAX {
        why += &format!(" (no fewer than {whole} operations were found to show it; the nearest are shown)");
    }
    Contradiction {
        lies,
        why,
        operations: kept
            .iter()
            .map(|&index| partition.operations[index as usize].id)
            .collect(),
        shown: kept
            .iter()
            .map(|&index| show(history, partition, &partition.operations[index as usize]))
            .collect(),
    }
}

/// The sale as if only these operations had been heard.
fn only(partition: &Partition, kept: &[u32]) -> Partition {
    let kept: HashSet<u32> = kept.iter().copied().collect();
    let mut fewer = partition.clone();
    for (index, operation) in fewer.operations.iter_mut().enumerate() {
        if operation.answer.is_some() && !kept.contains(&(index as u32)) {
            operation.answer = None;
            operation.ended = super::NEVER;
            fewer.spare_ids += usize::from(matches!(operation.call, Call::Claim { .. }));
        }
    }
    fewer
}

/// Sets to begin with, the smallest first: what has to do with the operation at fault, all before it, all.
fn start(partition: &Partition, all: &[u32], blamed: Option<u32>) -> Vec<Vec<u32>> {
    let mut starts = Vec::new();
    if let Some(blamed) = blamed {
        starts.push(neighbours(partition, all, blamed));
        if let Some(place) = all.iter().position(|&index| index == blamed) {
            starts.push(all[..=place].to_vec());
        }
    }
    starts.push(all.to_vec());
    starts
}

/// Operations that share a user, a key or a hold with this one, in the same order.
fn neighbours(partition: &Partition, all: &[u32], blamed: u32) -> Vec<u32> {
    let ids = |operation: &Operation| {
        let mut ids: Vec<Id> = Vec::new();
        operation.call.map(|id| ids.push(id));
        if let Some(answer) = operation.answer {
            answer.outcome.map(|id| ids.push(id));
        }
        ids
    };
    let own = ids(&partition.operations[blamed as usize]);
    let near = |index: &&u32| {
        let other = &partition.operations[**index as usize];
        **index == blamed || ids(other).iter().any(|id| own.contains(id))
    };
    all.iter().filter(near).copied().collect()
}

/// A small subset of the first of these sets that passes; `all` if none is tried within the budget.
pub fn shrink(
    starts: Vec<Vec<u32>>,
    all: &[u32],
    budget: usize,
    mut test: impl FnMut(&[u32]) -> bool,
) -> Vec<u32> {
    let mut left = budget;
    let mut try_set = |set: &[u32]| {
        left = left.checked_sub(1)?;
        Some(test(set))
    };
    let mut kept = None;
    for set in starts {
        match try_set(&set) {
            Some(true) => {
                kept = Some(set);
                break;
            }
            Some(false) => {}
            None => break,
        }
    }
    let Some(mut kept) = kept else { return all.to_vec() };
    let mut parts = 2;
    while kept.len() > 1 {
        let size = kept.len().div_ceil(parts);
        let mut smaller = None;
        for start in (0..kept.len()).step_by(size) {
            let mut rest = kept.clone();
            rest.drain(start..(start + size).min(kept.len()));
            match try_set(&rest) {
                Some(true) => {
                    smaller = Some(rest);
                    break;
                }
                Some(false) => {}
                None => return kept,
            }
        }
        match smaller {
            Some(rest) => {
                kept = rest;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (2 * parts).min(kept.len()),
        }
    }
    kept
}

fn text<'a>(history: &'a History, partition: &Partition, id: Id) -> &'a str {
    // Holds that nobody heard of have no name.
    partition
        .names
        .get(id as usize)
        .map_or("", |&name| history.names.text(name))
}

fn reason(history: &History, partition: &Partition, operation: &Operation, wrong: Wrong) -> String {
    let name = |id| text(history, partition, id);
    let outcome = |outcome: Outcome<Id>| describe_outcome(&outcome.map(name));
    let call = describe_call(&operation.call.map(name));
    let heard = operation
        .answer
        .map_or_else(String::new, |answer| outcome(answer.outcome));
    match wrong {
        Wrong::TimeFell { from } => format!("({call}) has a log time before {from}, which had come"),
        Wrong::Expected(expected) => format!(
            "({call}) heard «{heard}», where the specification says «{}»",
            outcome(expected)
        ),
        Wrong::Remembered(before) => {
            format!(
                "({call}) heard «{heard}», though its key had the effect «{}» before",
                outcome(before)
            )
        }
        Wrong::HoldUsed(hold) => format!(
            "({call}) was given hold {}, which had been given before",
            name(hold)
        ),
        Wrong::NotNewer(before) => {
            format!("({call}) heard «{heard}», which is not higher than {before} before it")
        }
        Wrong::NotTheirs(hold) => {
            format!(
                "({call}) heard «{heard}», but hold {} is not a live or confirmed one of that user",
                name(hold)
            )
        }
    }
}

/// An operation on one line.
fn show(history: &History, partition: &Partition, operation: &Operation) -> String {
    let name = |id| text(history, partition, id);
    let t = |event: u32| history.events[event as usize].t;
    let mut line = format!(
        "operation {} at {} ns: {}",
        operation.id,
        t(operation.began),
        describe_call(&operation.call.map(name))
    );
    match operation.answer {
        Some(answer) => {
            line += &format!(
                " -> {}, lt {}",
                describe_outcome(&answer.outcome.map(name)),
                answer.lt
            );
            if let Some(idx) = answer.idx {
                line += &format!(", idx [{},{}]", idx.log_index, idx.position);
            }
            line += &format!(", at {} ns", t(operation.ended));
        }
        None => line += " -> unknown",
    }
    line
}
