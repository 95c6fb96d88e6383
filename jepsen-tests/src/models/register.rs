//! What models of one small value share: a state is that value, and to undo is to remember the last one.

use std::hash::Hash;

use xxhash_rust::xxh3::Xxh3Default;

use super::{Model, Way};

/// A specification of one value.
pub trait Register {
    /// The value.
    type Value: Clone + PartialEq + Hash;

    /// Before the first operation.
    fn start(&self) -> Self::Value;

    /// The value after an operation with its answer, if that answer is right.
    fn known(&self, value: &Self::Value, operation: usize) -> Option<Self::Value>;

    /// The value after an operation whose answer nobody heard.
    fn unknown(&self, value: &Self::Value, operation: usize) -> Self::Value;
}

/// Values, the present one last.
pub struct Past<V>(Vec<V>);

impl<V> Past<V> {
    fn now(&self) -> &V {
        self.0.last().expect("there is always a present value")
    }
}

impl<R: Register> Model for R {
    type State = Past<R::Value>;

    fn start(&self) -> Self::State {
        Past(vec![Register::start(self)])
    }

    fn known(&self, state: &mut Self::State, operation: usize) -> bool {
        match Register::known(self, state.now(), operation) {
            Some(value) if value == *state.now() => true,
            Some(value) => {
                state.0.push(value);
                true
            }
            None => false,
        }
    }

    fn ways(&self, state: &Self::State, operation: usize, _next: usize, _refused: bool, ways: &mut Vec<Way>) {
        if Register::unknown(self, state.now(), operation) != *state.now() {
            ways.push(Way::default());
        }
    }

    fn unknown(&self, state: &mut Self::State, operation: usize, _way: Way) -> bool {
        let value = Register::unknown(self, state.now(), operation);
        state.0.push(value);
        true
    }

    fn mark(&self, state: &Self::State) -> usize {
        state.0.len()
    }

    fn undo(&self, state: &mut Self::State, mark: usize) {
        state.0.truncate(mark);
    }

    fn fingerprint(&self, state: &Self::State) -> u128 {
        let mut hasher = Xxh3Default::new();
        state.now().hash(&mut hasher);
        hasher.digest128()
    }
}
