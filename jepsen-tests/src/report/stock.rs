//! Available, held and sold over the log, one plot a sale, from two sources that must agree: areas are what the
//! acknowledged effects add up to, in log order; dots are what reads were told.
//!
//! This is a picture, not a check: an effect that nobody heard of is missing in the areas, so after an unknown
//! that was never resolved dots may lie beside them. What is marked as oversold is so whatever became of the
//! unknowns. The verdicts come from elsewhere.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, HashSet},
};

use maud::html;

use super::{
    chart::{Axis, Layer, Path, Plot, SIZE},
    words::{counted, grouped, short},
};
use crate::{
    history::{Answer, Call, Name, Outcome},
    properties::{Operation, Run},
};

/// Bins along the log: about the pixels of a plot on a desktop.
pub const BINS: usize = 500;

/// Places along and heights up a plot that dots are told apart by: so few that a dot stays a dot on a phone.
const DOTS: (f64, f64) = (100.0, 100.0);

/// A sale's units at one point of the log, as the effects heard of add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Sold for good.
    pub sold: u64,
    /// Held.
    pub held: u64,
    /// For sale at all.
    pub total: u64,
}

/// A sale's units along the log.
pub struct Stock {
    /// Which sale.
    pub sale: Name,
    /// First and last log index heard of.
    pub indexes: (u64, u64),
    /// Units at the end of each bin.
    pub bins: Vec<Units>,
    /// First log index at which more units were taken than there are.
    pub oversold: Option<u64>,
    /// What reads were told: log index, sold, sold and held together.
    reads: Vec<(u64, u64, u64)>,
    /// Reads that did not add up: log index, and the total that they should have.
    wrong: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Held,
    Sold,
    Over,
}

struct Hold {
    quantity: u64,
    deadline: u64,
    life: Life,
}

/// Adds up effects, each once.
struct Count {
    units: Units,
    /// Units taken that no unknown can have given back.
    taken_least: u64,
    /// Units for sale if every unknown restock happened.
    total_most: u64,
    /// Holds that an unknown may have ended.
    doubtful: HashSet<Name>,
    holds: HashMap<Name, Hold>,
    deadlines: BinaryHeap<Reverse<(u64, Name)>>,
    /// Keys whose effect is no hold's, and is counted.
    done: HashSet<Name>,
}

impl Stock {
    /// Adds up one sale's part of a run; none if no answer tells its log index.
    pub fn new(run: &Run, sale: Name, units_total: u64) -> Option<Stock> {
        let mut answers: Vec<(&Operation, &Answer, u64)> = run
            .operations
            .iter()
            .filter(|operation| operation.sale == sale)
            .filter_map(|operation| {
                let answer = operation.answer()?;
                Some((operation, answer, answer.idx?.log_index))
            })
            .collect();
        answers.sort_by_key(|(_, answer, _)| answer.idx);
        let indexes = (answers.first()?.2, answers.last()?.2);
        let mut stock = Stock {
            sale,
            indexes,
            bins: vec![Units::default(); BINS],
            oversold: None,
            reads: Vec::new(),
            wrong: Vec::new(),
        };
        let mut count = Count {
            units: Units {
                total: units_total,
                ..Units::default()
            },
            taken_least: 0,
            total_most: units_total,
            doubtful: HashSet::new(),
            holds: HashMap::new(),
            deadlines: BinaryHeap::new(),
            done: HashSet::new(),
        };
        for operation in run.operations.iter().filter(|operation| operation.sale == sale) {
            count.doubt(operation);
        }
        let mut filled = 0;
        for (operation, answer, index) in answers {
            let bin = stock.bin(index);
            stock.bins[filled..bin].fill(count.units);
            filled = bin;
            count.expire(answer.lt);
            count.take(&operation.call, &answer.outcome);
            if count.taken_least > count.total_most {
                stock.oversold.get_or_insert(index);
            }
            if let Outcome::Counters {
                available,
                held,
                sold,
                total,
            } = answer.outcome
            {
                stock.reads.push((index, sold, sold + held));
                if available + held + sold != total {
                    stock.wrong.push((index, total));
                }
            }
        }
        stock.bins[filled..].fill(count.units);
        Some(stock)
    }

    fn share(&self, index: u64) -> f64 {
        let (first, last) = self.indexes;
        (index - first) as f64 / (last - first).max(1) as f64
    }

    fn bin(&self, index: u64) -> usize {
        ((self.share(index) * BINS as f64) as usize).min(BINS - 1)
    }

    /// The plot.
    pub fn markup(&self, run: &Run) -> maud::Markup {
        let taken = self.bins.iter().map(|units| units.sold + units.held);
        let told = self.reads.iter().map(|(_, _, taken)| *taken);
        let totals = self.bins.iter().map(|units| units.total);
        let axis = Axis::linear(totals.chain(taken).chain(told).max().unwrap_or(1) as f64);
        let shares = |of: fn(&Units) -> u64| -> Vec<f64> {
            self.bins
                .iter()
                .map(|units| axis.share(of(units) as f64))
                .collect()
        };
        let floor = vec![0.0; BINS];
        let (sold, total) = (shares(|units| units.sold), shares(|units| units.total));
        let taken = shares(|units| units.sold + units.held);
        let layer = |class, name, path| Layer { class, name, path };
        let across = Axis::Range {
            low: self.indexes.0 as f64,
            high: self.indexes.1 as f64,
        };
        let mut layers = vec![
            layer("area available", "available", Path::area(&taken, &total)),
            layer("area held", "held", Path::area(&sold, &taken)),
            layer("area sold", "sold", Path::area(&floor, &sold)),
            layer("area oversold", "", Path::area(&total, &taken)),
            layer(
                "line total",
                "all units",
                Path::steps(total.into_iter().map(Some), BINS),
            ),
            self.dots(axis),
            self.crosses(axis),
        ];
        if let Some(index) = self.oversold {
            let mut path = Path::default();
            path.band(self.share(index), self.share(index) + 1.0 / SIZE);
            layers.push(layer("area mark", "more taken than there are", path));
        }
        let last = self.bins[BINS - 1];
        Plot {
            title: html! { "Sale " code { (run.history.names.text(self.sale)) } },
            described: format!(
                "Units over the log index; at the end {} sold, {} held of {}",
                grouped(last.sold),
                grouped(last.held),
                grouped(last.total)
            ),
            layers,
            up: (axis, &short),
            across: (across, &|index| grouped(index as u64)),
            note: html! {
                "Log index " (grouped(self.indexes.0)) " to " (grouped(self.indexes.1)) ". At the end "
                (grouped(last.sold)) " sold and " (grouped(last.held)) " held of " (grouped(last.total)) "; "
                (counted(self.reads.len() as u64, "read")) "."
                @if let Some(index) = self.oversold {
                    strong { " More units taken than there are from log index " (grouped(index)) " on." }
                }
                @if !self.wrong.is_empty() {
                    strong { " " (counted(self.wrong.len() as u64, "read")) " did not add up." }
                }
            },
        }
        .markup()
    }

    /// Reads, one of those that would cover each other. One that differs is far from them, so it is seen.
    fn dots(&self, axis: Axis) -> Layer {
        let mut seen = BTreeSet::new();
        let mut path = Path::default();
        for &(index, sold, taken) in &self.reads {
            let across = self.share(index);
            for up in [sold, taken].map(|level| axis.share(level as f64)) {
                if seen.insert(((across * DOTS.0) as u32, (up * DOTS.1) as u32)) {
                    path.dot(across, up);
                }
            }
        }
        Layer {
            class: "dots read",
            name: if path.is_empty() { "" } else { "as reads were told" },
            path,
        }
    }

    fn crosses(&self, axis: Axis) -> Layer {
        let seen: BTreeSet<(usize, u64)> = self
            .wrong
            .iter()
            .map(|&(index, total)| (self.bin(index), total))
            .collect();
        let mut path = Path::default();
        for (bin, total) in seen {
            path.dot((bin as f64 + 0.5) / BINS as f64, axis.share(total as f64));
        }
        Layer {
            class: "dots wrong",
            name: if path.is_empty() {
                ""
            } else {
                "a read that does not add up"
            },
            path,
        }
    }
}

impl Count {
    /// Takes note of what an unknown may have done.
    fn doubt(&mut self, operation: &Operation) {
        match operation.call {
            Call::Release { hold, .. } | Call::Cancel { hold, .. } if operation.is_unknown() => {
                self.doubtful.insert(hold);
            }
            Call::Restock { units, .. } if operation.is_unknown() => self.total_most += units,
            _ => {}
        }
    }

    fn expire(&mut self, lt: u64) {
        while let Some(&Reverse((deadline, name))) = self.deadlines.peek()
            && deadline <= lt
        {
            self.deadlines.pop();
            // A hold that was extended is in the heap with both of its deadlines.
            if self.holds[&name].deadline == deadline {
                self.end(name, Life::Held, Life::Over);
            }
        }
    }

    fn take(&mut self, call: &Call, outcome: &Outcome) {
        match (*call, *outcome) {
            (Call::Claim { quantity, .. }, Outcome::Granted { hold, deadline })
                if !self.holds.contains_key(&hold) =>
            {
                self.begin(hold, quantity, deadline, Life::Held);
                self.deadlines.push(Reverse((deadline, hold)));
            }
            (Call::Decrement { key, quantity, .. }, Outcome::Sold { hold }) if self.done.insert(key) => {
                self.begin(hold.unwrap_or(key), quantity, u64::MAX, Life::Sold);
            }
            (Call::Confirm { hold, .. }, Outcome::Confirmed) => self.end(hold, Life::Held, Life::Sold),
            (Call::Release { hold, .. }, Outcome::Released) => self.end(hold, Life::Held, Life::Over),
            (Call::Cancel { hold, .. }, Outcome::Done) => self.end(hold, Life::Sold, Life::Over),
            (Call::Extend { hold: name, .. }, Outcome::Extended { deadline }) => {
                if let Some(hold) = self.holds.get_mut(&name) {
                    hold.deadline = deadline;
                    self.deadlines.push(Reverse((deadline, name)));
                }
            }
            (Call::Restock { units, key }, Outcome::Done) if self.done.insert(key) => {
                self.units.total += units;
                self.total_most += units;
            }
            (Call::Withdraw { units, key }, Outcome::Done) if self.done.insert(key) => {
                self.units.total = self.units.total.saturating_sub(units);
                self.total_most = self.total_most.saturating_sub(units);
            }
            _ => {}
        }
    }

    fn begin(&mut self, name: Name, quantity: u64, deadline: u64, life: Life) {
        self.add(name, life, quantity);
        let hold = Hold {
            quantity,
            deadline,
            life,
        };
        self.holds.insert(name, hold);
    }

    /// Moves a hold on, once; one whose claim nobody heard of is not counted.
    fn end(&mut self, name: Name, from: Life, to: Life) {
        let Some(hold) = self.holds.get_mut(&name).filter(|hold| hold.life == from) else {
            return;
        };
        hold.life = to;
        let quantity = hold.quantity;
        match from {
            Life::Held => self.units.held -= quantity,
            Life::Sold => self.units.sold -= quantity,
            Life::Over => {}
        }
        if from != Life::Over && !self.doubtful.contains(&name) {
            self.taken_least -= quantity;
        }
        self.add(name, to, quantity);
    }

    fn add(&mut self, name: Name, life: Life, quantity: u64) {
        match life {
            Life::Held => self.units.held += quantity,
            Life::Sold => self.units.sold += quantity,
            Life::Over => {}
        }
        if life != Life::Over && !self.doubtful.contains(&name) {
            self.taken_least += quantity;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::{Header, Index, Recorder},
        properties::Observations,
    };

    /// A sale of two units, and what its clients did.
    struct Story {
        recorder: Recorder,
        index: u64,
    }

    impl Story {
        fn new() -> Story {
            Story {
                recorder: Recorder::new(Header::one(100, [("s0", 2)]), || 0),
                index: 10,
            }
        }

        fn tell(&mut self, lt: u64, call: Call<&str>, outcome: Outcome<&str>) -> &mut Story {
            let id = self.recorder.invoke(self.recorder.process(), "s0", call);
            self.index += 10;
            let idx = Some(Index {
                log_index: self.index,
                position: 0,
            });
            self.recorder.ok(id, Answer { idx, lt, outcome });
            self
        }

        fn claim(&mut self, lt: u64, hold: &str) -> &mut Story {
            let deadline = lt + 100;
            self.tell(lt, Call::claim(hold, hold), Outcome::Granted { hold, deadline })
        }

        fn unknown(&mut self, call: Call<&str>) -> &mut Story {
            let id = self.recorder.invoke(self.recorder.process(), "s0", call);
            self.recorder.info(id, "lost");
            self
        }

        fn stock(&self) -> Stock {
            let run = Run::new(self.recorder.finish(), Observations::default());
            let sale = run.history.names.find("s0").unwrap();
            Stock::new(&run, sale, 2).unwrap()
        }

        /// Sold and held at the end.
        fn end(&self) -> (u64, u64) {
            let units = self.stock().bins[BINS - 1];
            (units.sold, units.held)
        }
    }

    #[test]
    fn effects_add_up_once() {
        let mut story = Story::new();
        story.claim(1, "h1").claim(2, "h1").claim(3, "h2");
        assert_eq!(story.end(), (0, 2));
        let confirm = Call::Confirm {
            hold: "h1",
            key: "c1",
        };
        story
            .tell(4, confirm, Outcome::Confirmed)
            .tell(5, confirm, Outcome::Confirmed);
        assert_eq!(story.end(), (1, 1));
        let release = Call::Release {
            hold: "h2",
            key: "r1",
        };
        story.tell(6, release, Outcome::Released);
        assert_eq!(story.end(), (1, 0));
        story
            .tell(7, Call::decrement("d1"), Outcome::Sold { hold: None })
            .tell(8, Call::decrement("d1"), Outcome::Sold { hold: None });
        assert_eq!(story.end(), (2, 0));
        assert_eq!(story.stock().oversold, None);
    }

    #[test]
    fn a_hold_ends_at_its_deadline() {
        let mut story = Story::new();
        let counters = Outcome::Counters {
            available: 0,
            held: 1,
            sold: 0,
            total: 2,
        };
        story.claim(1, "h1").tell(100, Call::Read, counters);
        assert_eq!(story.end(), (0, 1));
        assert_eq!(story.stock().wrong, [(30, 2)]);
        story.tell(101, Call::Read, counters);
        assert_eq!(story.end(), (0, 0));
    }

    #[test]
    fn oversold_is_said_only_where_no_unknown_explains_it() {
        let mut story = Story::new();
        story.claim(1, "h1").claim(2, "h2").claim(3, "h3");
        assert_eq!(story.stock().oversold, Some(40));
        story.unknown(Call::Release {
            hold: "h1",
            key: "r1",
        });
        assert_eq!(story.stock().oversold, None);
        story.claim(4, "h4");
        assert_eq!(story.stock().oversold, Some(50));
    }

    #[test]
    fn bins_follow_the_log_index() {
        let mut story = Story::new();
        story.claim(1, "h1").claim(2, "h2");
        story.index = 1_000;
        story.claim(101, "h3");
        let stock = story.stock();
        assert_eq!(stock.indexes, (20, 1_010));
        let held = |share: f64| stock.bins[(share * BINS as f64) as usize].held;
        assert_eq!((held(0.0), held(0.02), held(0.5), held(0.999)), (1, 2, 2, 2));
    }
}
