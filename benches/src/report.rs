//! What is measured, against what, and how it is shown: every figure with its spread over the runs, its
//! target, and its share of the limit measured beside it in the same run.

use std::path::Path;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::{
    failure::{Doing, Failure},
    machine,
};

/// Names of figures, in JSON as in the code.
pub mod id {
    /// 4 KiB + fdatasync.
    pub const DISK_4_KIB: &str = "disk-4-kib";
    /// 40 KiB + fdatasync.
    pub const DISK_40_KIB: &str = "disk-40-kib";
    /// Bare raft, entries as large as a full entry of claims.
    pub const RAFT_FULL: &str = "raft-full-entries";
    /// Bare raft, 40-byte entries, 64 in flight.
    pub const RAFT_64: &str = "raft-64-in-flight";
    /// Bare raft, one 40-byte entry at a time.
    pub const RAFT_ONE: &str = "raft-one-in-flight";
    /// Claims in full frames.
    pub const CLAIMS_BULK: &str = "claims-bulk";
    /// Claims by 64 single callers of one client.
    pub const CLAIMS_64: &str = "claims-64-callers";
    /// Claims by 32 clients, one call each.
    pub const CLAIMS_32_CLIENTS: &str = "claims-32-clients";
    /// Claims by 8 clients, batches of 100.
    pub const CLAIMS_8_CLIENTS: &str = "claims-8-clients";
    /// One claim at a time.
    pub const CLAIMS_ONE: &str = "claims-one-caller";
    /// Refusals in full frames.
    pub const REFUSED_BULK: &str = "refused-bulk";
    /// Refusals by 64 single callers.
    pub const REFUSED_64: &str = "refused-64-callers";
    /// The same keys again, in full frames.
    pub const RETRIES_BULK: &str = "retries-bulk";
    /// Confirms.
    pub const CONFIRMS: &str = "confirms";
    /// Grants over HTTP.
    pub const HTTP_GRANTS: &str = "http-grants";
    /// Refusals over HTTP.
    pub const HTTP_REFUSED: &str = "http-refused";
    /// Memory per live claim.
    pub const MEMORY: &str = "memory-per-claim";
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// So many a second: more is better.
    PerSecond,
    /// Milliseconds: less is better.
    Ms,
    /// Bytes: less is better.
    Bytes,
}

impl Unit {
    fn text(self) -> &'static str {
        match self {
            Unit::PerSecond => "/s",
            Unit::Ms => "ms",
            Unit::Bytes => "B",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Unit::PerSecond => thousands(value),
            Unit::Ms => format!("{value:.2}"),
            Unit::Bytes => format!("{value:.0}"),
        }
    }

    fn reaches(self, value: f64, target: f64) -> bool {
        if self == Unit::PerSecond {
            value >= target
        } else {
            value <= target
        }
    }

    /// Which share of the limit this is: 1 at the limit, whichever way is better.
    fn share(self, value: f64, limit: f64) -> f64 {
        if self == Unit::PerSecond {
            value / limit
        } else {
            limit / value
        }
    }
}

/// A kind of figure.
struct Kind {
    id: &'static str,
    title: &'static str,
    unit: Unit,
    target: Option<f64>,
    /// The limit that it is shown beside.
    limit: Option<&'static str>,
}

const fn kind(id: &'static str, title: &'static str, unit: Unit) -> Kind {
    Kind {
        id,
        title,
        unit,
        target: None,
        limit: None,
    }
}

impl Kind {
    const fn target(self, target: f64) -> Kind {
        Kind {
            target: Some(target),
            ..self
        }
    }
    const fn of(self, limit: &'static str) -> Kind {
        Kind {
            limit: Some(limit),
            ..self
        }
    }
}

/// Everything that can be measured, in the order in which it is shown.
const KINDS: [Kind; 17] = [
    kind(id::DISK_4_KIB, "bare disk: write 4 KiB, fdatasync", Unit::Ms),
    kind(id::DISK_40_KIB, "bare disk: write 40 KiB, fdatasync", Unit::Ms),
    kind(
        id::RAFT_FULL,
        "bare raft: full entries of claims, 8 in flight",
        Unit::PerSecond,
    ),
    kind(
        id::RAFT_64,
        "bare raft: a 40 B entry each, 64 in flight",
        Unit::PerSecond,
    ),
    kind(id::RAFT_ONE, "bare raft: one 40 B entry at a time, p50", Unit::Ms).of(id::DISK_4_KIB),
    kind(id::CLAIMS_BULK, "claims in bulk, frames of 512", Unit::PerSecond)
        .target(250_000.0)
        .of(id::RAFT_FULL),
    kind(id::CLAIMS_64, "claims, 64 single callers", Unit::PerSecond)
        .target(50_000.0)
        .of(id::RAFT_64),
    kind(
        id::CLAIMS_32_CLIENTS,
        "claims, 32 clients, one call each",
        Unit::PerSecond,
    )
    .of(id::RAFT_64),
    kind(
        id::CLAIMS_8_CLIENTS,
        "claims, 8 clients, batches of 100",
        Unit::PerSecond,
    )
    .of(id::RAFT_FULL),
    kind(id::CLAIMS_ONE, "claim, one caller, p50", Unit::Ms)
        .target(0.8)
        .of(id::RAFT_ONE),
    kind(
        id::REFUSED_BULK,
        "refusals in bulk, frames of 512",
        Unit::PerSecond,
    )
    .target(500_000.0),
    kind(id::REFUSED_64, "refusals, 64 single callers", Unit::PerSecond),
    kind(
        id::RETRIES_BULK,
        "retries in bulk, frames of 512",
        Unit::PerSecond,
    )
    .of(id::RAFT_FULL),
    kind(id::CONFIRMS, "confirms, 512 single callers", Unit::PerSecond).of(id::RAFT_FULL),
    kind(
        id::HTTP_GRANTS,
        "HTTP grants, one door, 64 connections",
        Unit::PerSecond,
    )
    .target(15_000.0),
    kind(
        id::HTTP_REFUSED,
        "HTTP refusals, one door, 64 connections",
        Unit::PerSecond,
    ),
    kind(id::MEMORY, "memory per live claim, 1M to 4M", Unit::Bytes).target(150.0),
];

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// In the unit of its kind.
    pub value: f64,
    /// Median latency of the calls, in ms.
    pub p50_ms: Option<f64>,
    /// Their 99th percentile, in ms.
    pub p99_ms: Option<f64>,
}

/// The figures of one run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    figures: Vec<(&'static str, Figure)>,
}

impl Run {
    /// Adds a figure, and says it.
    pub fn add(&mut self, id: &'static str, figure: Figure) {
        if let Some(kind) = KINDS.iter().find(|kind| kind.id == id) {
            let latency =
                |name, ms: Option<f64>| ms.map_or(String::new(), |ms| format!("  {name} {ms:.2} ms"));
            eprintln!(
                "  {:<48} {:>12} {:<2}{}{}",
                kind.title,
                kind.unit.show(figure.value),
                kind.unit.text(),
                latency("p50", figure.p50_ms),
                latency("p99", figure.p99_ms),
            );
        }
        self.figures.push((id, figure));
    }

    fn get(&self, id: &str) -> Option<&Figure> {
        self.figures
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, figure)| figure)
    }
}

/// A value over all runs.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Some(Spread { median, min, max })
    }
}

/// All runs of a session.
pub struct Report<'a> {
    runs: &'a [Run],
}

/// One line of it.
struct Line<'a> {
    kind: &'a Kind,
    values: Vec<f64>,
    value: Spread,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// Median of the shares of each run, so that a slow minute slows both.
    share: Option<f64>,
}

impl<'a> Report<'a> {
    /// A report on these runs.
    pub fn new(runs: &'a [Run]) -> Self {
        Report { runs }
    }

    fn lines(&self) -> impl Iterator<Item = Line<'static>> {
        KINDS.iter().filter_map(|kind| {
            let figures: Vec<&Figure> = self.runs.iter().filter_map(|run| run.get(kind.id)).collect();
            let values: Vec<f64> = figures.iter().map(|figure| figure.value).collect();
            let shares = self.runs.iter().filter_map(|run| {
                let (figure, limit) = (run.get(kind.id)?, run.get(kind.limit?)?);
                Some(kind.unit.share(figure.value, limit.value))
            });
            let median = |values: Vec<f64>| Spread::of(values).map(|spread| spread.median);
            Some(Line {
                kind,
                value: Spread::of(values.iter().copied())?,
                values,
                p50_ms: median(figures.iter().filter_map(|figure| figure.p50_ms).collect()),
                p99_ms: median(figures.iter().filter_map(|figure| figure.p99_ms).collect()),
                share: median(shares.collect()),
            })
        })
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_NO_BORDERS);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header([
            "",
            "median",
            "min – max",
            "p50 ms",
            "p99 ms",
            "target",
            "",
            "share of limit",
        ]);
        for Line {
            kind,
            value,
            p50_ms,
            p99_ms,
            share,
            ..
        } in self.lines()
        {
            let (show, unit) = (|value| kind.unit.show(value), kind.unit.text());
            let ms = |ms: Option<f64>| ms.map_or(String::new(), |ms| format!("{ms:.2}"));
            let bound = if kind.unit == Unit::PerSecond {
                "≥"
            } else {
                "≤"
            };
            let target = kind.target.map_or(String::new(), |target| {
                format!("{bound} {}", thousands_or(target))
            });
            let met = kind.target.map_or("", |target| {
                if kind.unit.reaches(value.median, target) {
                    "met"
                } else {
                    "missed"
                }
            });
            let share = share.zip(kind.limit).map_or(String::new(), |(share, limit)| {
                format!("{:.0}% of {limit}", share * 100.0)
            });
            let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            table.add_row([
                Cell::new(kind.title),
                right(format!("{} {unit}", show(value.median))),
                right(format!("{} – {}", show(value.min), show(value.max))),
                right(ms(p50_ms)),
                right(ms(p99_ms)),
                right(target),
                Cell::new(met),
                Cell::new(share),
            ]);
        }
        table.to_string()
    }

    /// The same for programs: every value of every run.
    pub fn json(&self, place: &Path, window_s: u64) -> Value {
        let figures: Vec<Value> = self
            .lines()
            .map(
                |Line {
                     kind,
                     values,
                     value,
                     p50_ms,
                     p99_ms,
                     share,
                 }| {
                    json!({
                        "id": kind.id,
                        "title": kind.title,
                        "unit": kind.unit.text(),
                        "median": value.median,
                        "min": value.min,
                        "max": value.max,
                        "values": values,
                        "p50_ms": p50_ms,
                        "p99_ms": p99_ms,
                        "target": kind.target,
                        "target_met": kind.target.map(|target| kind.unit.reaches(value.median, target)),
                        "limit": kind.limit,
                        "share_of_limit": share,
                    })
                },
            )
            .collect();
        json!({
            "machine": machine::facts(place),
            "runs": self.runs.len(),
            "window_s": window_s,
            "figures": figures,
        })
    }

    /// Writes that.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_json(&self, to: &Path, place: &Path, window_s: u64) -> Result<(), Failure> {
        let text = format!("{:#}\n", self.json(place, window_s));
        std::fs::write(to, text).doing(&format!("writing {}", to.display()))
    }
}

/// A whole number with its thousands apart.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The same, but fractions stay fractions.
fn thousands_or(value: f64) -> String {
    if value.fract() == 0.0 {
        thousands(value)
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(figures: &[(&'static str, f64)]) -> Run {
        let figure = |&(id, value)| {
            (
                id,
                Figure {
                    value,
                    p50_ms: Some(1.5),
                    p99_ms: None,
                },
            )
        };
        Run {
            figures: figures.iter().map(figure).collect(),
        }
    }

    #[test]
    fn medians_take_the_middle() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(
            Spread::of([3.0, 1.0, 2.0]),
            Some(Spread {
                median: 2.0,
                min: 1.0,
                max: 3.0
            })
        );
        assert_eq!(Spread::of([4.0, 1.0]).unwrap().median, 2.5);
    }

    #[test]
    fn thousands_stand_apart() {
        for (value, text) in [
            (0.0, "0"),
            (999.4, "999"),
            (1_000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(thousands(value), text);
        }
    }

    #[test]
    fn shares_are_taken_within_each_run_and_latency_the_other_way_round() {
        let runs = [
            run(&[
                (id::RAFT_FULL, 1_000_000.0),
                (id::CLAIMS_BULK, 300_000.0),
                (id::RAFT_ONE, 0.4),
            ]),
            run(&[
                (id::RAFT_FULL, 500_000.0),
                (id::CLAIMS_BULK, 150_000.0),
                (id::CLAIMS_ONE, 0.8),
            ]),
        ];
        let report = Report::new(&runs);
        let json = report.json(Path::new("/"), 4);
        let figure = |id: &str| {
            json["figures"]
                .as_array()
                .unwrap()
                .iter()
                .find(|figure| figure["id"] == id)
                .unwrap()
                .clone()
        };
        assert_eq!(figure(id::CLAIMS_BULK)["share_of_limit"], 0.3);
        assert_eq!(figure(id::CLAIMS_BULK)["target_met"], false);
        assert_eq!(figure(id::CLAIMS_ONE)["target_met"], true);
        assert_eq!(
            figure(id::CLAIMS_ONE)["share_of_limit"],
            Value::Null,
            "not in the same run"
        );
        assert_eq!(Unit::Ms.share(0.8, 0.4), 0.5);
        let table = report.table();
        assert!(
            table.contains("225,000 /s") && table.contains("missed"),
            "{table}"
        );
    }

    #[test]
    fn every_limit_is_a_kind_and_every_id_is_there_once() {
        for kind in &KINDS {
            assert_eq!(
                KINDS.iter().filter(|other| other.id == kind.id).count(),
                1,
                "{}",
                kind.id
            );
            assert!(
                kind.limit
                    .is_none_or(|limit| KINDS.iter().any(|kind| kind.id == limit))
            );
        }
    }
}
