//! The specification a second time, as plainly as it can be said, for runs to come from and for small histories
//! to be tried in every way that there is. Slow, and shares nothing with the checker but the types.

use jepsen_tests::history::{Call, Outcome};

/// Names are strings here, as in the file.
pub type PlainCall = Call<String>;
/// Names are strings here, as in the file.
pub type PlainOutcome = Outcome<String>;

#[derive(Clone, Debug, PartialEq)]
enum State {
    Live(u64),
    Confirmed,
    Over,
}

/// One sale of one-unit claims.
#[derive(Clone, Debug)]
pub struct Plain {
    pub lt: u64,
    ttl_ms: u64,
    total: u64,
    holds: Vec<(String, String, State)>,
    decremented: u64,
    effects: Vec<(String, PlainOutcome)>,
}

impl Plain {
    pub fn new(units: u64, ttl_ms: u64) -> Plain {
        Plain {
            lt: 0,
            ttl_ms,
            total: units,
            holds: Vec::new(),
            decremented: 0,
            effects: Vec::new(),
        }
    }

    fn count(&self, which: impl Fn(&State) -> bool) -> u64 {
        self.holds.iter().filter(|(_, _, state)| which(state)).count() as u64
    }

    /// Does it, at this log time; a new hold gets this id. Log time never falls, and ids are new.
    pub fn apply(&mut self, call: &PlainCall, lt: u64, new_hold: &str) -> Option<PlainOutcome> {
        if lt < self.lt {
            return None;
        }
        self.lt = lt;
        for (_, _, state) in &mut self.holds {
            if matches!(state, State::Live(deadline) if *deadline <= lt) {
                *state = State::Over;
            }
        }
        if let Some((_, outcome)) = self.effects.iter().find(|(key, _)| Some(key) == call.key()) {
            return Some(outcome.clone());
        }
        let held = self.count(|state| matches!(state, State::Live(_)));
        let sold = self.count(|state| *state == State::Confirmed) + self.decremented;
        let available = self.total - held - sold;
        let find = |hold: &str| self.holds.iter().position(|(id, _, _)| id == hold);
        let outcome = match call {
            Call::Claim { user, .. } => {
                let own =
                    |(_, whose, state): &&(String, String, State)| whose == user && *state != State::Over;
                if let Some((hold, _, _)) = self.holds.iter().find(own) {
                    Outcome::Already { hold: hold.clone() }
                } else if available == 0 {
                    Outcome::SoldOut
                } else if find(new_hold).is_some() {
                    return None;
                } else {
                    let deadline = lt + self.ttl_ms;
                    self.holds
                        .push((new_hold.into(), user.clone(), State::Live(deadline)));
                    Outcome::Granted {
                        hold: new_hold.into(),
                        deadline,
                    }
                }
            }
            Call::Confirm { hold, .. } | Call::Release { hold, .. } => match find(hold) {
                Some(at) if matches!(self.holds[at].2, State::Live(_)) => {
                    let confirm = matches!(call, Call::Confirm { .. });
                    self.holds[at].2 = if confirm { State::Confirmed } else { State::Over };
                    if confirm {
                        Outcome::Confirmed
                    } else {
                        Outcome::Released
                    }
                }
                _ => Outcome::Gone,
            },
            Call::Decrement { .. } if available == 0 => Outcome::SoldOut,
            Call::Decrement { .. } => {
                self.decremented += 1;
                Outcome::Sold { hold: None }
            }
            Call::Read => Outcome::Counters {
                available,
                held,
                sold,
                total: self.total,
            },
            other => unreachable!("{other:?} is of schema 2"),
        };
        if let (true, Some(key)) = (outcome.is_effect(), call.key()) {
            self.effects.push((key.clone(), outcome.clone()));
        }
        Some(outcome)
    }
}

/// An operation: what was asked and heard, and when.
#[derive(Clone, Debug)]
pub struct PlainOperation {
    pub sale: usize,
    pub call: PlainCall,
    pub began: u64,
    /// Its answer came then; none: nobody heard.
    pub answer: Option<(u64, (u64, u64), u64, PlainOutcome)>,
    /// It definitely did not happen.
    pub failed: bool,
    /// For an unheard one, what is learned of it in the end.
    pub resolved: Option<Option<((u64, u64), u64, PlainOutcome)>>,
}

impl PlainOperation {
    fn ended(&self) -> u64 {
        self.answer.as_ref().map_or(u64::MAX, |(ended, ..)| *ended)
    }
}

/// Whether any order explains these operations of one sale, tried in every way; with `by_index`, only orders
/// that keep to the index.
pub fn explained(operations: &[PlainOperation], units: u64, ttl_ms: u64, by_index: bool) -> bool {
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
    try_all(operations, &left, &Plain::new(units, ttl_ms), by_index, &names)
}

fn try_all(
    operations: &[PlainOperation],
    left: &[usize],
    state: &Plain,
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
        .map(|&index| operations[index].ended())
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
            if by_index && Some(*idx) != first_place {
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
