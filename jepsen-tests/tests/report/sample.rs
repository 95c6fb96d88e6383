//! Runs made up for reports: a store that answers as the specification says, with faults that make it slow,
//! silent or, if asked for, wrong. Small, and the same for the same seed.

use std::collections::BTreeMap;

use jepsen_tests::{
    history::{Answer, Call, Event, Header, History, Index, Name, Names, Outcome, Phase, What},
    properties::{self, Finding, Observations, Run, Verdict},
    report::{Coverage, Verdicts},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

const MS: u64 = 1_000_000;
/// Hold time, in ms.
const TTL_MS: u64 = 4_000;

/// What to make up.
#[derive(Clone)]
pub struct Sample {
    pub operations: u64,
    pub length_ms: u64,
    pub units: u64,
    /// Units that the store sells beyond what there are.
    pub oversells: u64,
    /// What every user and key begins with.
    pub prefix: String,
    pub faults: bool,
    pub read_percent: u32,
}

impl Default for Sample {
    fn default() -> Sample {
        Sample {
            operations: 24_000,
            length_ms: 60_000,
            units: 3_000,
            oversells: 0,
            prefix: "u".into(),
            faults: true,
            read_percent: 4,
        }
    }
}

/// Name, nodes, from and to in thousandths of the run, whether nobody leads meanwhile.
const FAULTS: &[(&str, &str, u64, u64, bool)] = &[
    ("partition", "1 | 2 3", 90, 160, false),
    ("kill", "2", 250, 275, true),
    ("pause", "1", 300, 330, false),
    ("one-way", "3 -> 1", 400, 470, false),
    ("kill-all", "1 2 3", 520, 550, true),
    ("clock-jump", "3", 580, 640, false),
    ("slow-disk", "1", 610, 700, false),
    ("kill", "1", 760, 780, true),
    ("leader-transfer", "2", 820, 825, false),
    ("partition", "3 | 1 2", 840, 900, false),
];

struct Store {
    units: u64,
    held: u64,
    sold: u64,
    holds: BTreeMap<u64, (Name, u64)>,
    hold_next: u64,
}

impl Sample {
    pub fn run(&self) -> Run {
        let mut rng = StdRng::seed_from_u64(7);
        let mut names = Names::default();
        let mut events: Vec<Event> = Vec::new();
        let sale = names.intern("hot");
        let header = Header::one(TTL_MS, [("hot", self.units)]);
        let mut store = Store {
            units: self.units + self.oversells,
            held: 0,
            sold: 0,
            holds: BTreeMap::new(),
            hold_next: 0,
        };
        let length_ns = self.length_ms * MS;
        let at = |thousandth: u64| length_ns / 1_000 * thousandth;
        let mut push = |t, what| events.push(Event { t, what });
        if self.faults {
            for &(name, node, from, to, _) in FAULTS {
                for (t, phase) in [(at(from), Phase::Start), (at(to), Phase::End)] {
                    push(
                        t,
                        What::Fault {
                            name: name.into(),
                            node: node.into(),
                            phase,
                        },
                    );
                }
            }
        }
        let mut open: Vec<Name> = Vec::new();
        let (mut silent_ns, mut lt) = (0, 0);
        for id in 0..self.operations {
            let t =
                length_ns / self.operations * id + rng.random_range(0..length_ns / self.operations / 2 + 1);
            let p = id % 64;
            let fault = FAULTS
                .iter()
                .find(|(_, _, from, to, _)| self.faults && (at(*from)..at(*to)).contains(&t));
            let key = names.intern(&format!("{}-k{id}", self.prefix));
            let user = names.intern(&format!("{}{id}", self.prefix));
            let call = match rng.random_range(0..100) {
                percent if percent < self.read_percent => Call::Read,
                0..40 if !open.is_empty() => {
                    let hold = open.swap_remove(rng.random_range(0..open.len()));
                    if rng.random_range(0..4) == 0 {
                        Call::Release { hold, key }
                    } else {
                        Call::Confirm { hold, key }
                    }
                }
                _ => Call::claim(user, key),
            };
            push(t, What::Invoke { id, p, sale, call });
            let leaderless = fault.is_some_and(|fault| fault.4);
            if leaderless {
                silent_ns += length_ns / self.operations;
                if rng.random_range(0..3) == 0 {
                    let err = "connection reset while the answer was out".into();
                    push(t + 40 * MS, What::Info { id, err });
                } else {
                    push(t + MS, What::Fail { id });
                }
                continue;
            }
            lt = lt.max((t - silent_ns) / MS);
            let outcome = store.answer(&call, lt, &mut names);
            if let Outcome::Granted { hold, .. } = outcome {
                open.push(hold);
            }
            let idx = Some(Index {
                log_index: 4 + id,
                position: 0,
            });
            let slow = if fault.is_some() { 30 } else { 1 };
            let took =
                MS / 2 * slow + rng.random_range(0..2 * MS * slow) + if id % 997 == 0 { 60 * MS } else { 0 };
            push(
                t + took,
                What::Ok {
                    id,
                    answer: Answer { idx, lt, outcome },
                },
            );
        }
        events.sort_by_key(|event| event.t);
        let history = History {
            header,
            names,
            events,
        };
        Run::new(history, Observations::default())
    }

    /// The run, and what the properties that need nothing but the history say of it.
    pub fn judged(&self) -> (Run, Verdicts) {
        let run = self.run();
        let mut findings: Vec<Finding> = properties::check(&run)
            .into_iter()
            .filter(|finding| {
                [
                    "conservation",
                    "no-oversell",
                    "user-limit",
                    "one-effect-per-key",
                    "log-time",
                ]
                .contains(&&*finding.property)
            })
            .collect();
        findings.insert(
            0,
            Finding {
                property: "linearizable".into(),
                verdict: if self.oversells > 0 {
                    Verdict::Unknown
                } else {
                    Verdict::Valid
                },
                summary: format!("{} operations looked at", run.operations.len()),
                operations: Vec::new(),
            },
        );
        let mut coverage: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, ..) in FAULTS.iter().filter(|_| self.faults) {
            *coverage.entry(name).or_default() += 1;
        }
        let coverage = coverage
            .into_iter()
            .map(|(name, count)| Coverage {
                name: name.into(),
                count,
                leader_hits: (name != "kill-all").then_some(count / 2),
            })
            .collect();
        let verdicts = Verdicts {
            run: "flash, 3 processes, ten faults".into(),
            seed: 7,
            replay: "cargo run --release -p jepsen-tests --bin campaign -- --nodes 3 --minutes 1 --workload flash --seed 7".into(),
            broken: None,
            findings,
            coverage,
        };
        (run, verdicts)
    }
}

impl Store {
    fn answer(&mut self, call: &Call, lt: u64, names: &mut Names) -> Outcome {
        let due: Vec<u64> = self
            .holds
            .iter()
            .take_while(|(_, (_, deadline))| *deadline <= lt)
            .map(|(&number, _)| number)
            .collect();
        for number in due {
            self.holds.remove(&number);
            self.held -= 1;
        }
        match *call {
            Call::Claim { .. } if self.held + self.sold < self.units => {
                self.hold_next += 1;
                let hold = names.intern(&format!("h{}", self.hold_next));
                let deadline = lt + TTL_MS;
                self.holds.insert(self.hold_next, (hold, deadline));
                self.held += 1;
                Outcome::Granted { hold, deadline }
            }
            Call::Claim { .. } => Outcome::SoldOut,
            Call::Confirm { hold, .. } | Call::Release { hold, .. } => {
                let number = names.text(hold)[1..].parse().unwrap();
                if self.holds.remove(&number).is_none() {
                    return Outcome::Gone;
                }
                self.held -= 1;
                if let Call::Confirm { .. } = call {
                    self.sold += 1;
                    return Outcome::Confirmed;
                }
                Outcome::Released
            }
            _ => Outcome::Counters {
                available: self.units - self.held - self.sold,
                held: self.held,
                sold: self.sold,
                total: self.units,
            },
        }
    }
}
