//! What is measured, against what, and how it is shown: every figure with its spread over the runs, its
//! target, and its share of the limit measured beside it in the same run. What a run measures in several rounds
//! counts by the round: median and extremes are over all rounds of all runs.

mod figure;
mod kind;

use std::path::Path;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Value, json};

use self::kind::{KINDS, Kind, Unit, thousands_or};
pub use self::{
    figure::{Figure, Processor, Run},
    kind::id,
};
use crate::{
    failure::{Doing, Failure},
    machine,
};

/// The names of all figures, for the command line.
pub fn figure_ids() -> [&'static str; KINDS.len()] {
    KINDS.each_ref().map(|kind| kind.id)
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
    /// Of all processes, of the harness, and of the busiest server.
    processor_us: [Option<f64>; 3],
    per_entry: Option<f64>,
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
            let figures: Vec<&Figure> = self.runs.iter().flat_map(|run| run.all(kind.id)).collect();
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
                processor_us: [
                    Processor::sum_us,
                    |processor: &Processor| processor.harness_us,
                    |processor: &Processor| processor.busiest_us,
                ]
                .map(|part| {
                    let spent = figures.iter().filter_map(|figure| figure.processor.as_ref());
                    median(spent.map(part).collect())
                }),
                per_entry: median(figures.iter().filter_map(|figure| figure.per_entry).collect()),
                share: median(shares.collect()),
            })
        })
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header([
            "",
            "median",
            "min – max",
            "p50 ms",
            "p99 ms",
            "CPU µs",
            "an entry",
            "target",
            "",
            "share of limit",
        ]);
        for Line {
            kind,
            value,
            p50_ms,
            p99_ms,
            processor_us,
            per_entry,
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
                right(processor_us[0].map_or(String::new(), |us| format!("{us:.1}"))),
                right(per_entry.map_or(String::new(), |count| format!("{count:.1}"))),
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
                     processor_us,
                     per_entry,
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
                    "processor_us": processor_us[0],
                    "processor_us_harness": processor_us[1],
                    "processor_us_busiest_server": processor_us[2],
                    "per_entry": per_entry,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn run(figures: &[(&'static str, f64)]) -> Run {
        let processor = Some(Processor::new(1.0, vec![0.5, 2.0, 0.25]));
        let figure = |&(id, value): &(&'static str, f64)| {
            (
                id,
                Figure {
                    p50_ms: Some(1.5),
                    processor,
                    ..Figure::new(value)
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
    fn rounds_count_each_for_themselves() {
        let runs = [
            run(&[
                (id::FAILOVER, 300.0),
                (id::FAILOVER, 900.0),
                (id::FAILOVER, 500.0),
            ]),
            run(&[(id::FAILOVER, 400.0), (id::FAILOVER, 1_500.0)]),
        ];
        let json = Report::new(&runs).json(Path::new("/"), 4);
        let figure = &json["figures"][0];
        assert_eq!(figure["values"].as_array().unwrap().len(), 5);
        assert_eq!(
            (&figure["median"], &figure["max"]),
            (&json!(500.0), &json!(1_500.0))
        );
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
        assert_eq!(figure(id::CLAIMS_BULK)["processor_us"], 3.75);
        assert_eq!(figure(id::CLAIMS_BULK)["processor_us_busiest_server"], 2.0);
        let table = report.table();
        assert!(
            table.contains("225,000 /s") && table.contains("missed"),
            "{table}"
        );
    }
}
