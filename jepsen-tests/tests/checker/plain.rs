//! Small histories tried in every way that there is: slow, and nothing to get wrong.

use jepsen_tests::{
    generate::{Operation, Store},
    history::{Call, Outcome},
};

/// Whether any order explains these operations of one sale, tried in every way; with `by_index`, only orders
/// that keep to the index.
pub fn explained(operations: &[Operation], units: u64, ttl_ms: u64, by_index: bool) -> bool {
    let mut names: Vec<String> = Vec::new();
    for operation in operations {
        let mut note = |name: &String| names.push(name.clone());
        if let Call::Confirm { hold, .. } | Call::Release { hold, .. } = &operation.call {
            note(hold);
        }
        if let Some((_, _, _, Outcome::Granted { hold, .. } | Outcome::Already { hold })) = &operation.answer
        {
            note(hold);
        }
    }
    names.sort();
    names.dedup();
    let left: Vec<usize> = (0..operations.len())
        .filter(|&index| !operations[index].failed)
        .collect();
    try_all(operations, &left, &Store::new(units, ttl_ms), by_index, &names)
}

fn try_all(
    operations: &[Operation],
    left: &[usize],
    state: &Store,
    by_index: bool,
    names: &[String],
) -> bool {
    let heard = |&&index: &&usize| operations[index].answer.is_some();
    if !left.iter().any(|index| heard(&index)) {
        return true;
    }
    let first_end = left
        .iter()
        .filter(heard)
        .map(|&index| ended(&operations[index]))
        .min()
        .unwrap_or(u64::MAX);
    let place = |index: usize| {
        operations[index]
            .answer
            .as_ref()
            .map(|(_, idx, lt, _)| (*idx, *lt))
    };
    let first_place = left
        .iter()
        .filter_map(|&index| place(index))
        .min()
        .map(|(idx, _)| idx);
    let next_lt = left
        .iter()
        .filter_map(|&index| place(index))
        .map(|(_, lt)| lt)
        .max()
        .unwrap_or(0);
    for (at, &index) in left.iter().enumerate() {
        let operation = &operations[index];
        if operation.began > first_end {
            continue;
        }
        let mut rest = left.to_vec();
        rest.remove(at);
        if let Some((_, idx, lt, answer)) = &operation.answer {
            if by_index && (Some(*idx) != first_place || waits(operations, left, index)) {
                continue;
            }
            let mut next = state.clone();
            let named = match answer {
                Outcome::Granted { hold, .. } => hold.as_str(),
                _ => "",
            };
            if next.apply(&operation.call, *lt, named).as_ref() == Some(answer)
                && try_all(operations, &rest, &next, by_index, names)
            {
                return true;
            }
            continue;
        }
        let own = format!("nobody's {index}");
        for lt in state.lt..=next_lt {
            for hold in names.iter().chain([&own]) {
                let mut next = state.clone();
                let effect = next
                    .apply(&operation.call, lt, hold)
                    .is_some_and(|outcome| outcome.is_effect());
                if effect && try_all(operations, &rest, &next, by_index, names) {
                    return true;
                }
                if !matches!(operation.call, Call::Claim { .. }) {
                    break;
                }
            }
        }
    }
    false
}

/// Whether an answer without effect has to let an effect at its place in the log come first.
fn waits(operations: &[Operation], left: &[usize], index: usize) -> bool {
    let place = |operation: &Operation| operation.answer.as_ref().map(|(_, idx, ..)| *idx);
    let is_effect = |operation: &Operation| {
        let told = operation
            .answer
            .as_ref()
            .is_some_and(|(.., outcome)| outcome.is_effect());
        let same_key = |other: &&Operation| other.call.key() == operation.call.key();
        // Of several with one key, nobody knows which it was.
        told && operations.iter().filter(same_key).count() == 1
    };
    let own = &operations[index];
    !own.answer
        .as_ref()
        .is_some_and(|(.., outcome)| outcome.is_effect())
        && left
            .iter()
            .map(|&other| &operations[other])
            .any(|other| place(other) == place(own) && is_effect(other))
}

fn ended(operation: &Operation) -> u64 {
    operation.answer.as_ref().map_or(u64::MAX, |(ended, ..)| *ended)
}
