//! Ways to break a run that was right.

use jepsen_tests::{
    generate::{Operation, POSITION_BEYOND},
    history::{Call, Outcome},
};
use rand::{RngExt, rngs::SmallRng, seq::IndexedRandom};

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
    pub fn tell(self, operations: &mut [Operation], chance: &mut SmallRng) -> bool {
        let holds: Vec<String> = operations.iter().filter_map(granted).collect();
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
        operations: &mut [Operation],
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
            (Lie::RepetitionWithANewHold, _, Outcome::Granted { deadline, .. })
                if idx.1 == POSITION_BEYOND =>
            {
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
            (Lie::SharedPlace, ..) if outcome.is_effect() && idx.1 != POSITION_BEYOND => {
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

fn granted(operation: &Operation) -> Option<String> {
    match operation.answer.as_ref()? {
        (_, _, _, Outcome::Granted { hold, .. }) => Some(hold.clone()),
        _ => None,
    }
}
