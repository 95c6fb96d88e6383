//! What a correctness reviewer runs.
//!
//! [`simulation`] runs whole clusters of the real node inside one thread, where disk, network, clocks and
//! chance all follow from one seed: a run that failed can be run again, to the byte. [`processes`] runs
//! nodes of the shipped binary, to be killed. [`history`] is what the clients of either heard, and
//! [`properties`] what must be true of it; [`report`] shows both. [`proof`] runs all of it in one command.

pub mod campaign;
pub mod checker;
pub mod fleet;
pub mod formats;
pub mod generate;
pub mod history;
pub mod judge;
#[cfg(feature = "fault-points")]
pub mod kills;
pub mod models;
pub mod nemeses;
pub mod processes;
pub mod proof;
pub mod properties;
pub mod report;
pub mod simulation;
pub mod workloads;
