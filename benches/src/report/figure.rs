//! What was measured once: figures, and the runs they belong to.

use super::{course::Course, kinds::KINDS};

/// Processor time per operation, in µs: unlike a rate, nearly the same on a busy machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Processor {
    /// Of this process, which makes the load.
    pub harness_us: f64,
    /// Of the busiest server: the leader, or the HTTP door.
    pub busiest_us: f64,
    /// Of the other servers together.
    pub others_us: f64,
}

impl Processor {
    /// From that of each server.
    pub fn new(harness_us: f64, servers_us: Vec<f64>) -> Self {
        let busiest_us = servers_us.iter().copied().fold(0.0, f64::max);
        Processor {
            harness_us,
            busiest_us,
            others_us: servers_us.iter().sum::<f64>() - busiest_us,
        }
    }

    /// Of all processes.
    pub fn sum_us(&self) -> f64 {
        self.harness_us + self.busiest_us + self.others_us
    }
}

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// In the unit of its kind.
    pub value: f64,
    /// Median latency of the calls, in ms.
    pub p50_ms: Option<f64>,
    /// Their 99th percentile, in ms.
    pub p99_ms: Option<f64>,
    /// What an operation cost.
    pub processor: Option<Processor>,
    /// Operations for each log entry written meanwhile; `None` when they were answered without entries.
    pub per_entry: Option<f64>,
    /// How its calls went, for the plots.
    pub course: Option<Course>,
}

impl Figure {
    /// A value and nothing else.
    pub fn new(value: f64) -> Self {
        Figure {
            value,
            p50_ms: None,
            p99_ms: None,
            processor: None,
            per_entry: None,
            course: None,
        }
    }
}

/// The figures of one run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub(super) figures: Vec<(&'static str, Figure)>,
    pub(super) notes: Vec<String>,
}

impl Run {
    /// Adds a figure, and says it.
    pub fn add(&mut self, id: &'static str, figure: Figure) {
        if let Some(kind) = KINDS.iter().find(|kind| kind.id == id) {
            let latency =
                |name, ms: Option<f64>| ms.map_or(String::new(), |ms| format!("  {name} {ms:.2} ms"));
            let processor = figure.processor.map_or(String::new(), |spent| {
                let Processor {
                    harness_us,
                    busiest_us,
                    others_us,
                } = spent;
                format!("  CPU {harness_us:.2} + {busiest_us:.2} + {others_us:.2} µs")
            });
            let per_entry = figure
                .per_entry
                .map_or(String::new(), |count| format!("  {count:.1} an entry"));
            eprintln!(
                "  {:<48} {:>12} {:<2}{}{}{processor}{per_entry}",
                kind.title,
                kind.unit.show(figure.value),
                kind.unit.text(),
                latency("p50", figure.p50_ms),
                latency("p99", figure.p99_ms),
            );
        }
        self.figures.push((id, figure));
    }

    /// Notes what the figures do not tell, and says it: another store's version, or that it is not there.
    pub fn note(&mut self, note: String) {
        eprintln!("  {note}");
        self.notes.push(note);
    }

    /// A figure of this run, if it was measured; the first, if it was measured more than once.
    pub fn get(&self, id: &str) -> Option<&Figure> {
        self.all(id).next()
    }

    /// A figure, and another one as it was first measured after it.
    pub fn followed_by(&self, id: &str, then: &str) -> Option<(&Figure, &Figure)> {
        let at = self.figures.iter().position(|(known, _)| *known == id)?;
        let mut after = self.figures[at..].iter();
        let (_, next) = after.find(|(known, _)| *known == then)?;
        Some((&self.figures[at].1, next))
    }

    /// A figure each time that this run measured it.
    pub fn all(&self, id: &str) -> impl Iterator<Item = &Figure> {
        self.figures
            .iter()
            .filter(move |(known, _)| *known == id)
            .map(|(_, figure)| figure)
    }
}
