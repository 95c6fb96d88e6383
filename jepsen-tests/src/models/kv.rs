//! One key of a key-value store of strings, at first empty: get, put, append.
//!
//! Appends that run at once can come in any order, and a string remembers which it was, so there are as many
//! states as orders. What a later get found tells which one it was: a state from which nothing leads to that
//! string is given up at once. Without this, a few busy clients are more than any search can do.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use super::{Model, Way};
use crate::checker::search::Span;

/// What was done to a key and what was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// It was read, and this was in it.
    Get(Arc<str>),
    /// It was replaced.
    Put(Arc<str>),
    /// This was added at its end.
    Append(Arc<str>),
}

/// The operations on one key.
pub struct Kv {
    accesses: Vec<Access>,
    /// Gets in the order in which they had ended, and when that was.
    gets: Vec<(u32, usize)>,
    /// Place of a get among these.
    get_places: Vec<usize>,
    /// Puts in the order in which they began, and when that was.
    puts: Vec<(u32, usize)>,
}

/// A key's past.
pub struct State {
    /// Its values, the present one last.
    values: Vec<Arc<str>>,
    /// Which operations are taken, and in which order; beside each, how many values there were before.
    taken: Vec<bool>,
    order: Vec<(usize, usize)>,
    /// All gets before this place are taken.
    gets_from: usize,
}

impl Kv {
    /// What was done, and when.
    pub fn new(accesses: &[Access], spans: &[Span]) -> Kv {
        let is_get = |access: &Access| matches!(access, Access::Get(_));
        let is_put = |access: &Access| matches!(access, Access::Put(_));
        let all = || accesses.iter().zip(spans).enumerate();
        let mut gets: Vec<(u32, usize)> = all()
            .filter(|(_, (access, _))| is_get(access))
            .filter_map(|(index, (_, span))| Some((span.ended?, index)))
            .collect();
        gets.sort_unstable();
        let mut puts: Vec<(u32, usize)> = all()
            .filter(|(_, (access, _))| is_put(access))
            .map(|(index, (_, span))| (span.began, index))
            .collect();
        puts.sort_unstable();
        let mut get_places = vec![usize::MAX; accesses.len()];
        for (place, &(_, index)) in gets.iter().enumerate() {
            get_places[index] = place;
        }
        Kv {
            accesses: accesses.to_vec(),
            gets,
            get_places,
            puts,
        }
    }

    fn take(&self, state: &mut State, operation: usize) -> bool {
        let before = state.values.len();
        let value = &state.values[before - 1];
        match &self.accesses[operation] {
            Access::Get(read) if read != value => return false,
            Access::Get(_) => {}
            Access::Put(new) => state.values.push(new.clone()),
            Access::Append(more) => {
                let longer = [&**value, &**more].concat().into();
                state.values.push(longer);
            }
        }
        state.taken[operation] = true;
        state.order.push((operation, before));
        while let Some(&(_, get)) = self.gets.get(state.gets_from)
            && state.taken[get]
        {
            state.gets_from += 1;
        }
        self.leads_on(state)
    }

    /// Whether the next get can still find what it found: what is there now is the beginning of it, or a put
    /// that can come before it writes one.
    fn leads_on(&self, state: &State) -> bool {
        let Some(&(ended, get)) = self.gets.get(state.gets_from) else {
            return true;
        };
        let Access::Get(read) = &self.accesses[get] else {
            unreachable!("only gets are listed as gets")
        };
        let value = &state.values[state.values.len() - 1];
        let puts = self.puts.iter().take_while(|(began, _)| *began < ended);
        let mut left = puts.filter(|(_, put)| !state.taken[*put]);
        read.starts_with(&**value)
            || left
                .any(|&(_, put)| matches!(&self.accesses[put], Access::Put(new) if read.starts_with(&**new)))
    }
}

impl Model for Kv {
    type State = State;

    fn start(&self) -> State {
        State {
            values: vec!["".into()],
            taken: vec![false; self.accesses.len()],
            order: Vec::new(),
            gets_from: 0,
        }
    }

    fn known(&self, state: &mut State, operation: usize) -> bool {
        self.take(state, operation)
    }

    fn ways(&self, _state: &State, operation: usize, _next: usize, _refused: bool, ways: &mut Vec<Way>) {
        if !matches!(self.accesses[operation], Access::Get(_)) {
            ways.push(Way::default());
        }
    }

    fn unknown(&self, state: &mut State, operation: usize, _way: Way) -> bool {
        self.take(state, operation)
    }

    fn mark(&self, state: &State) -> usize {
        state.order.len()
    }

    fn undo(&self, state: &mut State, mark: usize) {
        for (operation, before) in state.order.drain(mark..).rev() {
            state.taken[operation] = false;
            state.values.truncate(before);
            state.gets_from = state.gets_from.min(self.get_places[operation]);
        }
    }

    fn fingerprint(&self, state: &State) -> u128 {
        xxh3_128(state.values[state.values.len() - 1].as_bytes())
    }
}
