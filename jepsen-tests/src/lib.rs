//! What a correctness reviewer runs.
//!
//! [`simulation`] runs whole clusters of the real node inside one thread, where disk, network, clocks and
//! chance all follow from one seed: a run that failed can be run again, to the byte.

pub mod simulation;
