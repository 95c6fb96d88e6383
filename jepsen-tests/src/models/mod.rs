//! Sequential specifications: what a thing does when one operation happens after the other.

pub mod cas_register;
pub mod document;
mod fingerprint;
pub mod inventory;
pub mod kv;
pub mod mutex;
pub mod register;

/// How an operation that nobody heard back from may take effect now. What it means is the model's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Log time of the effect, in ms.
    pub lt: u64,
    /// Id of a hold that it makes.
    pub hold: Option<u32>,
    /// Version or token that it makes.
    pub made: u64,
}

/// What a search needs of a specification. Operations are numbered by the caller; their answers are part of
/// the model.
pub trait Model {
    /// Everything that the past means for the future.
    type State;

    /// Before the first operation.
    fn start(&self) -> Self::State;

    /// Takes an operation whose answer is known, if that answer is right now. When it is not, the state may be
    /// anything until [`Model::undo`].
    fn known(&self, state: &mut Self::State, operation: usize) -> bool;

    /// In which ways an operation whose answer is not known would change something now. `next`: the earliest
    /// operation with a known answer that has not been taken. `refused`: an operation that may come now was
    /// refused without this one.
    fn ways(&self, state: &Self::State, operation: usize, next: usize, refused: bool, ways: &mut Vec<Way>);

    /// Takes it in this way.
    fn unknown(&self, state: &mut Self::State, operation: usize, way: Way) -> bool;

    /// Where [`Model::undo`] can come back to.
    fn mark(&self, state: &Self::State) -> usize;

    /// Takes back everything since the mark.
    fn undo(&self, state: &mut Self::State, mark: usize);

    /// Equal states have equal fingerprints; unequal ones have not, but for one chance in 2^128.
    fn fingerprint(&self, state: &Self::State) -> u128;
}
