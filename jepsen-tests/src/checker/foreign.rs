//! Checks histories of others: every part by itself, by search.

use super::{
    Contradiction, Lies, Verdict,
    budget::{Budget, Limits},
    explain::shrink,
    search::{Found, Span, search},
};
use crate::{
    formats::{Call, Part},
    models::Model,
};

/// A try to make a contradiction smaller that needs more than this shows nothing.
const SHRINK_LIMITS: Limits = Limits {
    states_max: 1_000,
    tries_max: 5_000,
};

/// Operations tried, over all tries, to make one contradiction smaller: a few seconds.
const SHRINK_OPERATIONS_MAX: usize = 300_000;

/// Operations shown at most, where the set could not be made small.
const SHOWN_MAX: usize = 20;

/// Checks every part with a model of its operations, made of what was done and when.
pub fn check<A, M: Model>(parts: &[Part<A>], model: impl Fn(&[A], &[Span]) -> M, limits: Limits) -> Verdict {
    let mut gave_up = None;
    let mut budget = Budget::new(limits);
    for (index, part) in parts.iter().enumerate() {
        let spans = spans(&part.calls, |_| true);
        let made = model(&part.accesses, &spans);
        match budget.spend(parts.len() - index, |budget| search(&made, &spans, budget)) {
            Found::Order(_) => {}
            Found::Nothing { longest, stuck } => {
                return Verdict::Invalid(Box::new(explain(part, &model, &longest, &stuck)));
            }
            Found::GaveUp(bound) => gave_up = gave_up.or(Some((part, bound))),
        }
    }
    match gave_up {
        None => Verdict::Valid,
        Some((part, bound)) => Verdict::Unknown(format!(
            "{}{bound} before there was an answer ({} operations); raise the limit",
            of(&part.key),
            part.calls.len()
        )),
    }
}

fn of(key: &Option<String>) -> String {
    key.as_ref()
        .map_or_else(String::new, |key| format!("key {key:?}: "))
}

fn spans(calls: &[Call], heard: impl Fn(u32) -> bool) -> Vec<Span> {
    let span = |(index, call): (usize, &Call)| Span {
        began: call.began,
        ended: call.ended.filter(|_| heard(index as u32)),
        rank: 0,
    };
    calls.iter().enumerate().map(span).collect()
}

fn explain<A, M: Model>(
    part: &Part<A>,
    model: impl Fn(&[A], &[Span]) -> M,
    longest: &[usize],
    stuck: &[usize],
) -> Contradiction {
    let calls = &part.calls;
    let all: Vec<u32> = (0..calls.len() as u32)
        .filter(|&index| calls[index as usize].ended.is_some())
        .collect();
    // Nothing that began after the first operation that is stuck has ended can have to do with it.
    let until = stuck
        .iter()
        .filter_map(|&index| calls[index].ended)
        .min()
        .unwrap_or(u32::MAX);
    let before: Vec<u32> = all
        .iter()
        .copied()
        .filter(|&index| calls[index as usize].began <= until)
        .collect();
    let budget = SHRINK_OPERATIONS_MAX / calls.len().max(1);
    // The last few before it are most often enough.
    let mut starts: Vec<Vec<u32>> = Vec::new();
    let mut last = 1;
    while last < before.len() {
        starts.push(before[before.len() - last..].to_vec());
        last *= 4;
    }
    starts.extend([before, all.clone()]);
    let mut kept = shrink(starts, &all, budget, |kept| {
        let fewer = spans(calls, |index| kept.binary_search(&index).is_ok());
        let mut budget = Budget::new(SHRINK_LIMITS);
        let model = model(&part.accesses, &fewer);
        matches!(search(&model, &fewer, &mut budget), Found::Nothing { .. })
    });
    let whole = kept.len();
    let mut why = format!(
        "{}after the longest order that explains itself ({} operations), nothing can come next that must: {}",
        of(&part.key),
        longest.len(),
        stuck
            .first()
            .map_or_else(String::new, |&index| calls[index].show()),
    );
    if whole > SHOWN_MAX {
        kept.retain(|&index| stuck.contains(&(index as usize)));
        kept.truncate(SHOWN_MAX);
        why += &format!(
            " (no fewer than {whole} operations were found to show it; those that are stuck are shown)"
        );
    }
    Contradiction {
        lies: Lies::Values,
        why,
        operations: kept.iter().map(|&index| calls[index as usize].line).collect(),
        shown: kept.iter().map(|&index| calls[index as usize].show()).collect(),
    }
}
