//! Random runs, right by construction, and ways to break them.

use jepsen_tests::history::{Answer, Call, Event, Header, History, Index, Names, Outcome, What};
use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use super::plain::{Plain, PlainCall, PlainOperation, PlainOutcome};

/// What kind of run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub operations: usize,
    pub sales: usize,
    pub units: u64,
    pub users: usize,
    pub ttl_ms: u64,
    /// Of a hundred operations, so many are never heard of.
    pub unheard_percent: u32,
    /// How many others an operation may overlap.
    pub overlap: u64,
    /// Log time between two operations is below this, in ms.
    pub step_ms: u64,
}

/// A run that follows the specification, operations in the order in which they happened.
pub fn run(plan: Plan, seed: u64) -> Vec<PlainOperation> {
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut sales: Vec<Plain> = (0..plan.sales)
        .map(|_| Plain::new(plan.units, plan.ttl_ms))
        .collect();
    let mut holds: Vec<Vec<String>> = vec![Vec::new(); plan.sales];
    let mut asked: Vec<Vec<PlainCall>> = vec![Vec::new(); plan.sales];
    let (mut lt, mut log_index, mut position) = (1, 1, 0);
    let mut operations = Vec::new();
    for number in 0..plan.operations {
        let sale = chance.random_range(0..plan.sales);
        let key = format!("k{number}");
        let hold = |chance: &mut SmallRng| holds[sale].choose(chance).cloned().unwrap_or_else(|| "h?".into());
        let call = match chance.random_range(0..100) {
            // A retry: the same again.
            0..12 if !asked[sale].is_empty() => asked[sale].choose(&mut chance).expect("not empty").clone(),
            0..60 => Call::claim(format!("u{}", chance.random_range(0..plan.users)), key),
            60..72 => Call::Confirm {
                hold: hold(&mut chance),
                key,
            },
            72..84 => Call::Release {
                hold: hold(&mut chance),
                key,
            },
            84..90 => Call::decrement(key),
            _ => Call::Read,
        };
        asked[sale].push(call.clone());
        // Times of what happens are far apart, so that beginnings and ends fit between.
        let happened = 1_000 * (number as u64 + 1_000);
        let before = chance.random_range(1..1_000 * plan.overlap + 1);
        let after = chance.random_range(1..1_000 * plan.overlap + 1);
        let mut operation = PlainOperation {
            sale,
            call: call.clone(),
            began: happened - before,
            answer: None,
            failed: false,
            resolved: None,
        };
        let fate = chance.random_range(0..100);
        if fate < plan.unheard_percent / 4 {
            operation.failed = chance.random();
            operation.resolved = (!operation.failed && chance.random()).then_some(None);
            operations.push(operation);
            continue;
        }
        let wait = chance.random_range(0..plan.step_ms);
        lt += wait;
        // A new entry, or the next command of the same.
        if wait > 0 || chance.random_ratio(1, 3) {
            (log_index, position) = (log_index + 1, 0);
        }
        let outcome = sales[sale]
            .apply(&call, lt, &format!("h{number}"))
            .expect("time never falls, ids are new");
        let repeated = matches!(&outcome, Outcome::Granted { hold, .. } if *hold != format!("h{number}"));
        if let Outcome::Granted { hold, .. } = &outcome {
            holds[sale].push(hold.clone());
        }
        let idx = if !outcome.is_effect() || repeated {
            (log_index, 1_000)
        } else {
            position += 1;
            (log_index, position)
        };
        // What follows an answer that needed no entry is in a later one.
        if idx.1 == 1_000 {
            (log_index, position) = (log_index + 1, 0);
        }
        if fate < plan.unheard_percent {
            operation.resolved = chance.random::<bool>().then(|| Some((idx, lt, outcome)));
        } else {
            operation.answer = Some((happened + after, idx, lt, outcome));
        }
        operations.push(operation);
    }
    operations
}

/// The same as a history.
pub fn history(plan: Plan, operations: &[PlainOperation]) -> History {
    let names = (0..plan.sales).map(|sale| (format!("s{sale}"), plan.units));
    let header = Header::one(plan.ttl_ms, names);
    let mut names = Names::default();
    let mut events: Vec<Event> = Vec::new();
    let end = 1_000 * (operations.len() as u64 + 10_000);
    let answered = |names: &mut Names, idx: (u64, u64), lt: u64, outcome: &PlainOutcome| Answer {
        idx: Some(Index {
            log_index: idx.0,
            position: idx.1,
        }),
        lt,
        outcome: outcome.clone().map(|text| names.intern(&text)),
    };
    for (number, operation) in operations.iter().enumerate() {
        let id = number as u64;
        let call = operation.call.clone().map(|text| names.intern(&text));
        let sale = names.intern(&format!("s{}", operation.sale));
        let mut push = |t, what| events.push(Event { t, what });
        push(
            operation.began,
            What::Invoke {
                id,
                p: id,
                sale,
                call,
            },
        );
        if let Some((ended, idx, lt, outcome)) = &operation.answer {
            let answer = answered(&mut names, *idx, *lt, outcome);
            push(*ended, What::Ok { id, answer });
            continue;
        }
        if operation.failed {
            push(operation.began + 1, What::Fail { id });
            continue;
        }
        push(
            operation.began + 1,
            What::Info {
                id,
                err: "timed out".into(),
            },
        );
        if let Some(resolved) = &operation.resolved {
            let applied = resolved.as_ref();
            let applied = applied.map(|(idx, lt, outcome)| answered(&mut names, *idx, *lt, outcome));
            push(end, What::Resolve { id, applied });
        }
    }
    events.sort_by_key(|event| event.t);
    History {
        header,
        names,
        events,
    }
}

/// Ways to break a run, each of them a lie that a store could tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    GrantedThoughSoldOut,
    SoldOutThoughGranted,
    AlreadyThoughGranted,
    AnothersHold,
    AnotherDeadline,
    GoneThoughConfirmed,
    ConfirmedThoughGone,
    ReleasedThoughGone,
    ReadOffByOne,
    RepetitionWithANewHold,
    EarlierIndex,
    SwappedIndices,
    EarlierLogTime,
    SharedPlace,
    AnswerBeforeItHappened,
    BeganAfterItHappened,
}

impl Lie {
    pub const ALL: [Lie; 16] = [
        Lie::GrantedThoughSoldOut,
        Lie::SoldOutThoughGranted,
        Lie::AlreadyThoughGranted,
        Lie::AnothersHold,
        Lie::AnotherDeadline,
        Lie::GoneThoughConfirmed,
        Lie::ConfirmedThoughGone,
        Lie::ReleasedThoughGone,
        Lie::ReadOffByOne,
        Lie::RepetitionWithANewHold,
        Lie::EarlierIndex,
        Lie::SwappedIndices,
        Lie::EarlierLogTime,
        Lie::SharedPlace,
        Lie::AnswerBeforeItHappened,
        Lie::BeganAfterItHappened,
    ];

    /// Tells it somewhere in a run, if there is a place for it.
    pub fn tell(self, operations: &mut [PlainOperation], chance: &mut SmallRng) -> bool {
        let holds: Vec<String> = operations
            .iter()
            .filter_map(|operation| granted(operation))
            .collect();
        let indices: Vec<(u64, u64)> = operations
            .iter()
            .filter_map(|operation| operation.answer.as_ref())
            .map(|answer| answer.1)
            .collect();
        let heard = |index: &usize| operations[*index].answer.is_some();
        let mut places: Vec<usize> = (0..operations.len()).filter(heard).collect();
        for index in (1..places.len()).rev() {
            places.swap(index, chance.random_range(0..=index));
        }
        places
            .into_iter()
            .any(|place| self.tell_at(operations, place, &holds, &indices, chance))
    }

    fn tell_at(
        self,
        operations: &mut [PlainOperation],
        place: usize,
        holds: &[String],
        indices: &[(u64, u64)],
        chance: &mut SmallRng,
    ) -> bool {
        let previous = operations[..place]
            .iter()
            .rev()
            .find_map(|operation| operation.answer.clone());
        let began = operations[place].began;
        let call = operations[place].call.clone();
        let Some((ended, idx, lt, outcome)) = &mut operations[place].answer else {
            return false;
        };
        let new = match (self, &call, &*outcome) {
            (Lie::GrantedThoughSoldOut, Call::Claim { .. }, Outcome::SoldOut) => Outcome::Granted {
                hold: "h-new".into(),
                deadline: *lt + 10,
            },
            (Lie::SoldOutThoughGranted, _, Outcome::Granted { .. } | Outcome::Sold { .. }) => {
                Outcome::SoldOut
            }
            (Lie::AlreadyThoughGranted, Call::Claim { .. }, Outcome::Granted { .. }) if !holds.is_empty() => {
                Outcome::Already {
                    hold: holds.choose(chance).expect("not empty").clone(),
                }
            }
            (Lie::AnothersHold, _, Outcome::Already { hold }) => {
                let Some(other) = holds.iter().find(|other| *other != hold) else {
                    return false;
                };
                Outcome::Already { hold: other.clone() }
            }
            (Lie::AnotherDeadline, _, Outcome::Granted { hold, deadline }) => Outcome::Granted {
                hold: hold.clone(),
                deadline: deadline + 1,
            },
            (Lie::GoneThoughConfirmed, _, Outcome::Confirmed | Outcome::Released) => Outcome::Gone,
            (Lie::ConfirmedThoughGone, Call::Confirm { .. }, Outcome::Gone) => Outcome::Confirmed,
            (Lie::ReleasedThoughGone, Call::Release { .. }, Outcome::Gone) => Outcome::Released,
            (
                Lie::ReadOffByOne,
                _,
                Outcome::Counters {
                    available,
                    held,
                    sold,
                    total,
                },
            ) => {
                let (available, held, sold, total) = (*available, *held, *sold, *total);
                match chance.random_range(0..3) {
                    0 if held > 0 => Outcome::Counters {
                        available: available + 1,
                        held: held - 1,
                        sold,
                        total,
                    },
                    1 if sold > 0 => Outcome::Counters {
                        available,
                        held: held + 1,
                        sold: sold - 1,
                        total,
                    },
                    _ => Outcome::Counters {
                        available: available + 1,
                        held,
                        sold,
                        total,
                    },
                }
            }
            (Lie::RepetitionWithANewHold, _, Outcome::Granted { deadline, .. }) if idx.1 == 1_000 => {
                Outcome::Granted {
                    hold: "h-new".into(),
                    deadline: *deadline,
                }
            }
            (Lie::EarlierIndex, ..) if idx.0 > 3 => {
                idx.0 -= chance.random_range(1..3);
                return true;
            }
            (Lie::SwappedIndices, ..) => {
                let Some(other) = indices.iter().find(|other| **other != *idx) else {
                    return false;
                };
                *idx = *other;
                return true;
            }
            (Lie::EarlierLogTime, ..) if *lt > 3 => {
                *lt -= chance.random_range(1..3);
                return true;
            }
            (Lie::SharedPlace, ..) if outcome.is_effect() && idx.1 != 1_000 => {
                let Some(previous) = previous.filter(|(_, _, _, outcome)| outcome.is_effect()) else {
                    return false;
                };
                *idx = previous.1;
                return true;
            }
            (Lie::AnswerBeforeItHappened, ..) => {
                *ended = began + 1;
                return true;
            }
            (Lie::BeganAfterItHappened, ..) => {
                operations[place].began = *ended - 1;
                return true;
            }
            _ => return false,
        };
        *outcome = new;
        true
    }
}

fn granted(operation: &PlainOperation) -> Option<String> {
    match operation.answer.as_ref()? {
        (_, _, _, Outcome::Granted { hold, .. }) => Some(hold.clone()),
        _ => None,
    }
}
