//! Whole clusters in one thread: the real node, batcher, log clock and client, on simulated disk, network
//! and clocks. Everything that happens follows from one seed.
//!
//! A [`plan`] is drawn from the seed before anything runs: cluster, workload, faults and their moments. A [`run`]
//! founds the cluster, lets the workload's callers call through the real client while the nemesis cuts networks
//! and power, jumps clocks, hands the lead over and changes the membership; then everything is healed, every
//! unknown is resolved, and history and observations go to the checker and the properties. Two runs of one seed
//! are equal to the byte. A [`scenario`] is either that, or a street of doors before the cluster at which shoppers
//! pay: [`checkout`].
//!
//! Left out: sled, which has threads of its own; a simulated node rebuilds its state from snapshot and log.

pub mod checkout;
pub mod cluster;
pub mod corpus;
pub mod coverage;
#[cfg(feature = "fault-points")]
pub mod crash_points;
mod load;
mod nemesis;
pub mod net;
mod operator;
pub mod plan;
pub mod power;
pub mod run;
pub mod scenario;
mod stage;
mod wires;
pub mod worker;

use std::{
    fmt::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Has traces printed, whoever runs the seed.
const TRACE_VARIABLE: &str = "HOLDFAST_TRACE";

/// What happened in a run, a line each, with simulated time. Cheap to clone.
#[derive(Clone)]
pub struct Trace {
    lines: Option<Arc<Mutex<String>>>,
    printed: bool,
}

impl Default for Trace {
    /// Taken down; printed as well if `HOLDFAST_TRACE` is set.
    fn default() -> Self {
        Trace {
            lines: Some(Arc::default()),
            printed: std::env::var_os(TRACE_VARIABLE).is_some(),
        }
    }
}

impl Trace {
    /// A trace that takes nothing down: writing is a good part of a run.
    pub fn silent() -> Trace {
        Trace {
            lines: None,
            printed: false,
        }
    }

    /// Printed as it happens if `HOLDFAST_TRACE` is set, else silent.
    pub fn if_asked_for() -> Trace {
        match std::env::var_os(TRACE_VARIABLE) {
            Some(_) => Trace::printed(),
            None => Trace::silent(),
        }
    }

    /// A trace that is printed as it happens.
    pub fn printed() -> Trace {
        Trace {
            lines: None,
            printed: true,
        }
    }

    /// Notes one thing that happened, now: called on a simulated host.
    pub fn note(&self, what: impl std::fmt::Display) {
        self.note_at(turmoil::sim_elapsed().unwrap_or_default(), what);
    }

    /// Notes one thing that happened at this simulated time: called from outside the simulation.
    pub fn note_at(&self, at: Duration, what: impl std::fmt::Display) {
        if self.printed {
            eprintln!("{:>12} us  {what}", at.as_micros());
        }
        let Some(lines) = &self.lines else { return };
        let mut lines = lines.lock().expect("no code panics while noting");
        writeln!(lines, "{:>12} us  {what}", at.as_micros()).expect("a String takes all");
    }

    /// All of it.
    pub fn text(&self) -> String {
        let lines = self.lines.as_ref();
        lines.map_or_else(String::new, |lines| {
            lines.lock().expect("no code panics while noting").clone()
        })
    }
}
