//! Whole clusters in one thread: the real node, batcher, log clock and client, on simulated disk, network
//! and clocks. Everything that happens follows from one seed.
//!
//! A run starts three nodes, sells a small sale to many users from a client that retries by the rules, and
//! meanwhile cuts the network and the power as the seed says. At the end everything is healed, every unknown
//! is resolved, and the replicas are compared. What happened is a [`Trace`]: two runs of one seed give equal
//! traces, to the byte.
//!
//! Left out: sled, which has threads of its own; a simulated node rebuilds its state from snapshot and log.

pub mod cluster;
#[cfg(feature = "fault-points")]
pub mod crash_points;
pub mod flash;
pub mod net;
pub mod power;

use std::{
    fmt::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

/// What happened in a run, a line each, with simulated time. Cheap to clone.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<String>>);

impl Trace {
    /// Notes one thing that happened, now: called on a simulated host.
    pub fn note(&self, what: impl std::fmt::Display) {
        self.note_at(turmoil::sim_elapsed().unwrap_or_default(), what);
    }

    /// Notes one thing that happened at this simulated time: called from outside the simulation.
    pub fn note_at(&self, at: Duration, what: impl std::fmt::Display) {
        if std::env::var_os("HOLDFAST_TRACE").is_some() {
            eprintln!("{:>12} us  {what}", at.as_micros());
        }
        let mut lines = self.0.lock().expect("no code panics while noting");
        writeln!(lines, "{:>12} us  {what}", at.as_micros()).expect("a String takes all");
    }

    /// All of it.
    pub fn text(&self) -> String {
        self.0.lock().expect("no code panics while noting").clone()
    }
}
