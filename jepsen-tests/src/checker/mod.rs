//! The checker: is there an order of all operations that explains every answer and respects real time?
//!
//! Two ways to decide, which must agree where both can answer. The [`witness`] takes the order that the
//! history names. The [`search`] looks for one of its own, for each sale by itself, whose operations only log
//! time and real time order. When the witness fails and the search does not, the order lies; when both do,
//! the values lie.
//!
//! Unknowns without an answer may have happened at any time after they began, or never. [`bounds`] finds what
//! contradicts itself whatever they did; a search along the history's own order finds how they explain the
//! rest. What neither decides within its limits is unknown, never valid.

pub mod bounds;
pub mod budget;
pub mod explain;
pub mod foreign;
pub mod operations;
pub mod search;
pub mod unheard;
pub mod unheard_document;
pub mod witness;

use crate::history::History;
use budget::{Bound, Budget, Limits};
pub use explain::{Contradiction, Lies};
pub use operations::Resolves;
use operations::{NEVER, Partition, Subject};
use search::{Found, Span};
use unheard::{Offer, Unheard};
use unheard_document::UnheardDocument;

/// Histories with at most this many operations are searched though the witness has passed: both must agree.
/// More would double the time of big histories for a second opinion.
pub const CROSS_CHECK_OPERATIONS_MAX: usize = 50_000;

/// Once the witness has spoken, the search is a second opinion, or only says what is at fault: some seconds,
/// for all sales together.
const OPINION_LIMITS: Limits = Limits {
    states_max: 1_000_000,
    tries_max: 5_000_000,
};

/// What the checker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An order explains every answer.
    Valid,
    /// None does.
    Invalid(Box<Contradiction>),
    /// Neither was found within the limits; why.
    Unknown(String),
    /// Witness and search contradict each other: a bug of the checker itself.
    Disagreement(String),
}

/// How to check.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether what was learned of unknowns later is used.
    pub resolves: Resolves,
    /// How far a search goes.
    pub limits: Limits,
    /// Histories with at most this many operations are searched though the witness has passed.
    pub cross_check_operations_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            resolves: Resolves::default(),
            limits: Limits::default(),
            cross_check_operations_max: CROSS_CHECK_OPERATIONS_MAX,
        }
    }
}

/// What one of the two ways says of one sale or document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is an order.
    Yes,
    /// There is none. An operation that cannot have been answered so, if it is one.
    No(Option<u32>),
    /// This limit came first.
    GaveUp(Bound),
}

/// Checks a history of the inventory.
pub fn check(history: &History, options: Options) -> Verdict {
    let partitions = operations::partitions(history, options.resolves);
    let Some(order) = witness::order(&partitions) else {
        return by_search(history, &partitions, options);
    };
    if let Err(lie) = witness::check_order(&partitions, &order) {
        return Verdict::Invalid(Box::new(explain::order_lies(history, &partitions, lie)));
    }
    let orders = by_sale(&partitions, &order.places);
    let known: usize = partitions
        .iter()
        .map(|partition| partition.operations.len())
        .sum();
    let mut budget = Budget::new(options.limits);
    let mut opinions = budget.at_most(OPINION_LIMITS);
    let mut gave_up = None;
    for (index, (partition, order)) in partitions.iter().zip(&orders).enumerate() {
        let left = partitions.len() - index;
        match budget.spend(left, |budget| along(partition, order, budget)) {
            Answer::Yes if known > options.cross_check_operations_max => {}
            Answer::Yes => {
                if let Answer::No(_) = opinions.spend(left, |budget| searched(partition, budget)) {
                    return Verdict::Disagreement(format!(
                        "the witness explains {}, and the search finds no order for it",
                        partition.describe(history)
                    ));
                }
            }
            Answer::No(operation) => {
                let lies = match opinions.spend(1, |budget| searched(partition, budget)) {
                    Answer::Yes => Lies::Order,
                    Answer::No(_) => Lies::Values,
                    Answer::GaveUp(_) => Lies::Either,
                };
                let contradiction = explain::values_lie(history, partition, Some(order), operation, lies);
                return Verdict::Invalid(Box::new(contradiction));
            }
            Answer::GaveUp(bound) => gave_up = gave_up.or(Some((partition, bound))),
        }
    }
    decided(history, gave_up)
}

/// Checks a history that names no order.
fn by_search(history: &History, partitions: &[Partition], options: Options) -> Verdict {
    let mut budget = Budget::new(options.limits);
    let mut gave_up = None;
    for (index, partition) in partitions.iter().enumerate() {
        match budget.spend(partitions.len() - index, |budget| searched(partition, budget)) {
            Answer::Yes => {}
            Answer::No(operation) => {
                let contradiction = explain::values_lie(history, partition, None, operation, Lies::Values);
                return Verdict::Invalid(Box::new(contradiction));
            }
            Answer::GaveUp(bound) => gave_up = gave_up.or(Some((partition, bound))),
        }
    }
    decided(history, gave_up)
}

/// No sale is invalid; whether all are valid.
fn decided(history: &History, gave_up: Option<(&Partition, Bound)>) -> Verdict {
    let Some((partition, bound)) = gave_up else {
        return Verdict::Valid;
    };
    Verdict::Unknown(format!(
        "{}: {bound} before there was an answer ({} operations, {} of them unknown); \
         resolve the unknowns, or raise the limit",
        partition.describe(history),
        partition.operations.len(),
        partition.operations.len() - heard(partition).count(),
    ))
}

/// A sale's operations with an answer, by when they began.
fn heard(partition: &Partition) -> impl Iterator<Item = u32> + '_ {
    let operations = partition.operations.iter().enumerate();
    operations
        .filter(|(_, operation)| operation.answer.is_some())
        .map(|(index, _)| index as u32)
}

/// The order of all operations, as one for each sale.
fn by_sale(partitions: &[Partition], order: &[witness::Place]) -> Vec<Vec<u32>> {
    let mut orders: Vec<Vec<u32>> = partitions.iter().map(|_| Vec::new()).collect();
    for &(partition, index) in order {
        orders[partition as usize].push(index);
    }
    orders
}

/// Whether a sale's answers can be explained in this order of its known operations.
pub fn along(partition: &Partition, order: &[u32], budget: &mut Budget) -> Answer {
    let Err(failure) = witness::replay(partition, order.iter().copied()) else {
        return Answer::Yes;
    };
    if order.len() == partition.operations.len() {
        return Answer::No(Some(failure.operation));
    }
    let earliest = witness::earliest(partition, order);
    if let Subject::Sale(_) = partition.subject
        && let Some(operation) = bounds::contradiction(partition, order, &earliest)
    {
        return Answer::No(Some(operation));
    }
    // The place in the order takes the part of real time: known operations follow each other, and an unheard
    // one may come anywhere after those that had surely come before it.
    let mut spans = vec![
        Span {
            began: 0,
            ended: None,
            rank: 0,
        };
        partition.operations.len()
    ];
    for (place, &index) in order.iter().enumerate() {
        let place = place as u32;
        spans[index as usize] = Span {
            began: 3 * place + 1,
            ended: Some(3 * place + 2),
            rank: u64::from(place),
        };
    }
    for (index, place) in earliest {
        spans[index as usize].began = 3 * place as u32;
    }
    found(partition, &spans, budget)
}

/// Whether a sale's answers can be explained in any order that respects real time and log time.
pub fn searched(partition: &Partition, budget: &mut Budget) -> Answer {
    let spans: Vec<Span> = (partition.operations.iter())
        .map(|operation| Span {
            began: operation.began,
            ended: operation
                .answer
                .map(|_| operation.ended)
                .filter(|&ended| ended != NEVER),
            rank: operation.answer.map_or(0, |answer| answer.lt),
        })
        .collect();
    found(partition, &spans, budget)
}

fn found(partition: &Partition, spans: &[Span], budget: &mut Budget) -> Answer {
    if partition.subject == Subject::Document {
        let document = UnheardDocument::new(partition);
        let found = search::search(&document, spans, budget);
        let open_ends = Bound::OpenEnds(unheard_document::OPEN_ENDS_MAX);
        return answer(found, document.is_complete(), open_ends);
    }
    let needed = Unheard::new(partition, Offer::Needed);
    let unheard = spans.iter().any(|span| span.ended.is_none());
    let parts = if unheard { 2 } else { 1 };
    match budget.spend(parts, |budget| search::search(&needed, spans, budget)) {
        Found::Order(_) => return Answer::Yes,
        Found::Nothing { stuck, .. } if !unheard => return Answer::No(one(&stuck)),
        Found::GaveUp(bound) if !unheard => return Answer::GaveUp(bound),
        Found::Nothing { .. } | Found::GaveUp(_) => {}
    }
    let all = Unheard::new(partition, Offer::All);
    let found = budget.spend(1, |budget| search::search(&all, spans, budget));
    let equal_deadlines = Bound::EqualDeadlines(unheard::EQUAL_DEADLINES_MAX);
    answer(found, all.is_complete(), equal_deadlines)
}

/// What a search's end means; where it has not tried everything, because of what.
fn answer(found: Found, is_complete: bool, incomplete: Bound) -> Answer {
    match found {
        Found::Order(_) => Answer::Yes,
        Found::Nothing { stuck, .. } if is_complete => Answer::No(one(&stuck)),
        Found::Nothing { .. } => Answer::GaveUp(incomplete),
        Found::GaveUp(bound) => Answer::GaveUp(bound),
    }
}

fn one(stuck: &[usize]) -> Option<u32> {
    stuck.first().map(|&operation| operation as u32)
}
