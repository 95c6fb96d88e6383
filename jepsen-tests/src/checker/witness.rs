//! The witness: the history names an order itself, by `idx`. Replaying the specification in that order and
//! comparing every answer proves linearizability without trusting whoever named it, in O(n log n).
//!
//! First the order alone is checked ([`order`]): log time never falls along it, an operation that had returned
//! before another began does not come after it, and no two effects share a place. Then each sale is replayed
//! ([`replay`]). Unknowns are left out of the replay: where it passes without them, they may never have
//! happened; where it does not, more is to be tried than this module does.

use super::operations::{Partition, Subject};
use crate::{
    history::{Call, Index, Outcome},
    models::{
        document::Document,
        inventory::{Done, Id, Sale, Wrong},
    },
};

/// An operation: of which sale, and which of its operations.
pub type Place = (u32, u32);

/// What is wrong with the order itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderLies {
    /// Log time falls from the first operation to the second, which comes later in the order.
    TimeFalls(Place, Place),
    /// The second comes later in the order, but had returned before the first began.
    RealTime(Place, Place),
    /// Both had an effect, at one place in the log.
    PlaceShared(Place, Place),
}

/// The known operations of all sales, in the order that the history names.
#[derive(Debug)]
pub struct Order {
    /// One after the other.
    pub places: Vec<Place>,
    /// Two effects at one place in the log.
    shared: Option<(Place, Place)>,
}

/// The order that the history names; none if it names none.
///
/// A key's first answer is its effect and has its place in the log alone, unless some unknown of the same key
/// may have had it before. Answers without effect may share a place. They commute as long as log time stands
/// still, so they may as well have come as they began, and after an effect that stands there too.
pub fn order(partitions: &[Partition]) -> Option<Order> {
    let mut keyed: Vec<(Index, u64, u32, Place)> = Vec::new();
    let mut remembered: Vec<Vec<bool>> = Vec::new();
    for (number, partition) in partitions.iter().enumerate() {
        let mut keys = vec![false; partition.ids()];
        for (index, operation) in partition.operations.iter().enumerate() {
            if let Some(answer) = operation.answer {
                keyed.push((
                    answer.idx?,
                    answer.lt,
                    operation.began,
                    (number as u32, index as u32),
                ));
            } else if let Some(&key) = operation.call.key() {
                keys[key as usize] = true;
            }
        }
        remembered.push(keys);
    }
    keyed.sort_unstable();
    let mut first_of_its_key = |(number, index): Place| {
        let operation = &partitions[number as usize].operations[index as usize];
        let effect = operation.answer.is_some_and(|answer| answer.outcome.is_effect());
        let key = operation.call.key();
        effect
            && key
                .is_some_and(|&key| !std::mem::replace(&mut remembered[number as usize][key as usize], true))
    };
    let mut order = Order {
        places: Vec::with_capacity(keyed.len()),
        shared: None,
    };
    for group in keyed.chunk_by(|one, other| one.0 == other.0) {
        let from = order.places.len();
        let mut effect = None;
        for &(.., place) in group {
            if !first_of_its_key(place) {
                order.places.push(place);
                continue;
            }
            match effect {
                Some(before) => order.shared = order.shared.or(Some((before, place))),
                None => effect = Some(place),
            }
            order.places.insert(from, place);
        }
    }
    Some(order)
}

/// Checks the order against time, in which it may not go back.
///
/// # Errors
/// It does, or two effects share a place.
pub fn check_order(partitions: &[Partition], order: &Order) -> Result<(), OrderLies> {
    if let Some((before, place)) = order.shared {
        return Err(OrderLies::PlaceShared(before, place));
    }
    let at = |(partition, index): Place| &partitions[partition as usize].operations[index as usize];
    let answer = |place: Place| at(place).answer.expect("only known operations are in the order");
    for pair in order.places.windows(2) {
        if answer(pair[1]).lt < answer(pair[0]).lt {
            return Err(OrderLies::TimeFalls(pair[0], pair[1]));
        }
    }
    // From the end: the operation after this place that returned first.
    let mut first: Option<Place> = None;
    for &place in order.places.iter().rev() {
        if let Some(later) = first
            && at(later).ended < at(place).began
        {
            return Err(OrderLies::RealTime(place, later));
        }
        if first.is_none_or(|first| at(place).ended < at(first).ended) {
            first = Some(place);
        }
    }
    Ok(())
}

/// What an order of one sale cannot explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The operation.
    pub operation: u32,
    /// What is wrong with its answer.
    pub wrong: Wrong,
}

/// Replays the known operations of one sale or document in this order.
///
/// # Errors
/// The first answer that cannot have been given.
pub fn replay(partition: &Partition, order: impl Iterator<Item = u32>) -> Result<(), Failure> {
    match partition.subject {
        Subject::Sale(sale) => {
            let mut sale = Sale::new(sale, partition.ids(), false);
            replay_with(partition, order, |call, lt, outcome| sale.step(call, lt, outcome))
        }
        Subject::Document => {
            let mut document = Document::new(partition.ids());
            replay_with(partition, order, |call, lt, outcome| {
                document.step(call, lt, outcome)
            })
        }
    }
}

fn replay_with(
    partition: &Partition,
    order: impl Iterator<Item = u32>,
    mut step: impl FnMut(&Call<Id>, u64, &Outcome<Id>) -> Result<Done, Wrong>,
) -> Result<(), Failure> {
    for operation in order {
        let known = &partition.operations[operation as usize];
        let answer = known.answer.expect("only known operations are replayed");
        step(&known.call, answer.lt, &answer.outcome).map_err(|wrong| Failure { operation, wrong })?;
    }
    Ok(())
}

/// For each unheard operation of a sale, by when they began: how many of the order's operations had surely
/// come before it.
pub fn earliest(partition: &Partition, order: &[u32]) -> Vec<(u32, usize)> {
    let ended = |index: u32| partition.operations[index as usize].ended;
    // By when they ended; beside each, how far in the order any that ended so early stands.
    let mut by_end: Vec<(u32, usize)> = Vec::with_capacity(order.len());
    by_end.extend(
        order
            .iter()
            .enumerate()
            .map(|(place, &index)| (ended(index), place + 1)),
    );
    by_end.sort_unstable();
    let mut furthest = 0;
    for (_, place) in &mut by_end {
        furthest = furthest.max(*place);
        *place = furthest;
    }
    let unheard = partition
        .operations
        .iter()
        .enumerate()
        .filter(|(_, operation)| operation.answer.is_none());
    let places = unheard.map(|(index, operation)| {
        let before = by_end.partition_point(|&(ended, _)| ended < operation.began);
        (
            index as u32,
            before.checked_sub(1).map_or(0, |last| by_end[last].1),
        )
    });
    places.collect()
}
