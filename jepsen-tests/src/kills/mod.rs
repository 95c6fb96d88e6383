//! The kill matrix: which planted bug turned which property red, where, and how soon.
//!
//! A bug is hunted with the seeds or campaigns that everything else is tested with, and the properties that
//! everything else must keep: nothing here tells them which bug is planted. What was found is kept in
//! `kills.json`, a hunt at a time; `KILLS.md` is made from that and from the registry, never by hand.

pub mod hunt;

use std::{collections::BTreeMap, fmt::Write, fs, io, path::Path};

use fault_points::registry::PLANTED_BUGS;
use hunt::STOP_SEEDS;
use serde::{Deserialize, Serialize};

pub use crate::simulation::worker::Wrong;

/// Where hunts are kept and shown, in the package's directory.
pub const JSON_NAME: &str = "kills.json";
/// The table for readers.
pub const TABLE_NAME: &str = "KILLS.md";

/// Characters of what a property said that the table shows.
const SAID_CHARS: usize = 160;

/// What a bug is hunted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arena {
    /// The simulation: one seed after the other.
    Simulation,
    /// Processes: one campaign after the other.
    Processes,
}

impl Arena {
    /// Both, as the table shows them.
    pub const ALL: [Arena; 2] = [Arena::Simulation, Arena::Processes];

    fn title(self) -> &'static str {
        match self {
            Arena::Simulation => "simulation",
            Arena::Processes => "processes",
        }
    }
}

/// What a run says that did not come to its end, because a node of the product stopped itself, or somebody panicked.
pub const STOPS: [&str; 2] = ["nodes-stay-up", "comes-to-an-end"];

/// What came of hunting one bug in one arena.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hunt {
    /// The first seed that was run.
    pub first: u64,
    /// How many were, one after the other.
    pub seeds: u64,
    /// How long that took, in seconds.
    pub seconds: f64,
    /// Everything that was red at the last seed; empty: the bug survived.
    pub wrong: Vec<Wrong>,
}

impl Hunt {
    /// Whether the bug was noticed.
    pub fn killed(&self) -> bool {
        !self.wrong.is_empty()
    }

    /// Whether more than the product's own stopping noticed it.
    pub fn killed_by_property(&self) -> bool {
        self.wrong
            .iter()
            .any(|wrong| !STOPS.contains(&wrong.property.as_str()))
    }

    /// The last seed that was run: the one that was red, if any was.
    pub fn last(&self) -> u64 {
        (self.first + self.seeds).saturating_sub(1)
    }
}

/// Everything found so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Matrix {
    /// By bug and arena.
    pub hunts: BTreeMap<String, BTreeMap<Arena, Hunt>>,
    /// Seeds that were run without any bug, and whether all was well.
    pub green: BTreeMap<u64, bool>,
}

impl Matrix {
    /// Reads what was found before; nothing, where nothing is.
    ///
    /// # Errors
    /// The file cannot be read, or is not a matrix.
    pub fn load(dir: &Path) -> io::Result<Matrix> {
        match fs::read(dir.join(JSON_NAME)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Matrix::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes what was found, and the table. Bugs that are no more are dropped.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn store(&mut self, dir: &Path) -> io::Result<()> {
        self.hunts
            .retain(|name, _| PLANTED_BUGS.iter().any(|bug| bug.name == name));
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        fs::write(dir.join(JSON_NAME), json)?;
        fs::write(dir.join(TABLE_NAME), self.table())
    }

    /// What came of hunting a bug.
    pub fn hunt(&self, bug: &str, arena: Arena) -> Option<&Hunt> {
        self.hunts.get(bug)?.get(&arena)
    }

    /// Whether a bug was noticed anywhere.
    pub fn killed(&self, bug: &str) -> bool {
        let hunts = self.hunts.get(bug);
        hunts.is_some_and(|hunts| hunts.values().any(Hunt::killed))
    }

    /// Whether something noticed a bug that is no assertion of the product's own.
    fn killed_by_property(&self, bug: &str) -> bool {
        let hunts = self.hunts.get(bug);
        hunts.is_some_and(|hunts| hunts.values().any(Hunt::killed_by_property))
    }

    /// Seeds that have killed in the simulation: without a bug they must be green.
    pub fn killing_seeds(&self) -> Vec<u64> {
        let hunts = self
            .hunts
            .values()
            .filter_map(|hunts| hunts.get(&Arena::Simulation));
        let mut seeds: Vec<u64> = hunts.filter(|hunt| hunt.killed()).map(Hunt::last).collect();
        seeds.sort_unstable();
        seeds.dedup();
        seeds
    }

    fn table(&self) -> String {
        let killed = PLANTED_BUGS.iter().filter(|bug| self.killed(bug.name)).count();
        let properties = PLANTED_BUGS
            .iter()
            .filter(|bug| self.killed_by_property(bug.name))
            .count();
        let green = self.green.values().filter(|green| **green).count();
        let mut out = String::new();
        let _ = write!(
            out,
            "# Planted bugs, and what noticed them\n\n\
             Made by `cargo run --profile proof -p jepsen-tests --features fault-points --bin planted`, never by hand. \
             A bug is switched on in a test build, and the simulation runs seed after seed (from 1), or the processes \
             campaign after campaign, until a property of theirs turns red. No property and no workload knows any bug.\n\n\
             **{killed} of {} were noticed**: {properties} by properties of what clients heard and replicas hold, the others \
             only because a node stopped itself, by an assertion or before a damaged disk (`nodes-stay-up`, \
             `comes-to-an-end`): better absent than divergent, which a store may count on and its judge should not. A hunt \
             that ends in such a stop goes on for {STOP_SEEDS} seeds to find another witness. Hunts are kept until they are made \
             again: those in processes, a minute or more each, are older as a rule. Of the {} seeds that noticed one in the simulation, {green} have been run \
             without any bug and were green.\n\n\
             | bug | what is wrong | simulation | processes | what the first said, or why none did |\n|---|---|---|---|---|\n",
            PLANTED_BUGS.len(),
            self.killing_seeds().len(),
        );
        for bug in PLANTED_BUGS {
            let cell = |arena| match self.hunt(bug.name, arena) {
                None => "not hunted".to_owned(),
                Some(hunt) if hunt.killed() => {
                    format!(
                        "seed {}, {:.1} s: {}",
                        hunt.last(),
                        hunt.seconds,
                        names(&hunt.wrong)
                    )
                }
                Some(hunt) => format!("survived {} seeds", hunt.seeds),
            };
            let red = Arena::ALL
                .iter()
                .filter_map(|&arena| self.hunt(bug.name, arena))
                .find(|hunt| hunt.killed());
            let red = red.map_or_else(|| bug.survives.to_owned(), |hunt| said(&hunt.wrong));
            let _ = writeln!(
                out,
                "| `{}` | {} | {} | {} | {red} |",
                bug.name,
                bug.what,
                cell(Arena::Simulation),
                cell(Arena::Processes),
            );
        }
        out
    }
}

impl std::fmt::Display for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.title())
    }
}

/// The properties by name.
fn names(wrong: &[Wrong]) -> String {
    let mut names: Vec<&str> = wrong.iter().map(|wrong| wrong.property.as_str()).collect();
    names.dedup();
    names.join(", ")
}

/// The first one's sentence, fit for a table.
fn said(wrong: &[Wrong]) -> String {
    let sentence = wrong.first().map_or("", |wrong| wrong.said.as_str());
    let mut plain = sentence.replace(['\n', '\r'], " ").replace('|', "\\|");
    if let Some((end, _)) = plain.char_indices().nth(SAID_CHARS) {
        plain.truncate(end);
        plain.push('…');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_bug_and_counts_the_killed() {
        let mut matrix = Matrix::default();
        let hunt = |wrong| Hunt {
            first: 1,
            seeds: 7,
            seconds: 1.25,
            wrong,
        };
        let wrong = Wrong {
            property: "conservation".into(),
            said: "a | b\nc".into(),
        };
        let (first, second) = (PLANTED_BUGS[0].name, PLANTED_BUGS[1].name);
        matrix
            .hunts
            .insert(first.into(), [(Arena::Simulation, hunt(vec![wrong]))].into());
        matrix
            .hunts
            .insert(second.into(), [(Arena::Simulation, hunt(vec![]))].into());
        matrix.hunts.insert("no-more".into(), BTreeMap::new());
        let dir = tempfile::tempdir().unwrap();
        matrix.store(dir.path()).unwrap();
        let table = fs::read_to_string(dir.path().join(TABLE_NAME)).unwrap();
        assert!(
            table.contains(&format!(
                "**1 of {} were noticed**: 1 by properties",
                PLANTED_BUGS.len()
            )),
            "{table}"
        );
        assert!(
            table.contains("seed 7, 1.2 s: conservation | not hunted | a \\| b c |"),
            "{table}"
        );
        assert!(table.contains("survived 7 seeds"), "{table}");
        for bug in PLANTED_BUGS {
            assert!(table.contains(bug.name));
        }
        let again = Matrix::load(dir.path()).unwrap();
        assert!(again.killed(first) && !again.killed(second) && !again.hunts.contains_key("no-more"));
        assert_eq!(again.killing_seeds(), [7]);
    }
}
