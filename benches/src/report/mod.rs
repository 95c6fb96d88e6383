//! What is measured, against what, and how it is shown: every figure with its spread over the runs, its
//! target, and its share of the limit measured beside it in the same run. What a run measures in several rounds
//! counts by the round: median and extremes are over all rounds of all runs.

mod course;
mod figure;
pub mod id;
mod kind;
mod kinds;
mod page;
mod picture;
mod plots;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Value, json};

pub use self::{
    course::{Course, TICK},
    figure::{Figure, Processor, Run},
    kinds::PEER_FIGURES,
    picture::shows,
};
use self::{
    course::{PERCENTILES, percentiles_json},
    kind::{Kind, thousands_or},
    kinds::KINDS,
};
use crate::{
    failure::{Doing, Failure},
    machine::{Machine, Session},
};

/// The names of all figures, for the command line.
pub fn figure_ids() -> [&'static str; KINDS.len()] {
    KINDS.each_ref().map(|kind| kind.id)
}

/// The limit that a figure is shown beside, if it is beside any.
pub fn limit_of(figure: &str) -> Option<&'static str> {
    KINDS.iter().find(|kind| kind.id == figure)?.limit
}

/// The figures of other stores, each with ours for the same work.
pub fn peers() -> impl Iterator<Item = (&'static str, &'static str)> {
    PEER_FIGURES.chunks_exact(2).map(|pair| (pair[0], pair[1]))
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
    window: Duration,
    machine: Machine,
    session: Session,
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
    /// How many times as good ours is as this other store's, likewise: as it was measured next.
    ours: Option<f64>,
    /// How the calls went, each time that they were counted.
    courses: Vec<&'a Course>,
}

impl Line<'_> {
    /// What it should reach, with the sign before it.
    fn aim(&self) -> Option<String> {
        let bound = if self.kind.unit.more_is_better() {
            "≥"
        } else {
            "≤"
        };
        self.kind
            .target
            .map(|target| format!("{bound} {}", thousands_or(target)))
    }

    /// What all courses have there; `None` where one has not: without it, the others' would stand for all.
    fn in_all(&self, there: impl Fn(&Course) -> Option<f64>) -> Option<Spread> {
        let all: Option<Vec<f64>> = self.courses.iter().map(|course| there(course)).collect();
        Spread::of(all?)
    }

    /// Median of one of the percentiles; `None` where there were too few calls.
    fn percentile_ms(&self, place: usize) -> Option<f64> {
        self.in_all(|course| course.percentiles_ms[place])
            .map(|spread| spread.median)
    }

    /// Whether it does, where it should.
    fn aim_met(&self) -> Option<bool> {
        self.kind
            .target
            .map(|target| self.kind.unit.reaches(self.value.median, target))
    }
}

impl<'a> Report<'a> {
    /// A report on these runs, made of windows of this length with the data under `place`.
    pub fn new(runs: &'a [Run], place: &Path, window: Duration) -> Self {
        Report {
            runs,
            window,
            machine: Machine::new(place),
            session: Session::new(),
        }
    }

    fn lines(&self) -> impl Iterator<Item = Line<'a>> {
        KINDS.iter().filter_map(|kind| {
            let figures: Vec<&Figure> = self.runs.iter().flat_map(|run| run.all(kind.id)).collect();
            let values: Vec<f64> = figures.iter().map(|figure| figure.value).collect();
            let shares = self.runs.iter().filter_map(|run| {
                let (figure, limit) = (run.get(kind.id)?, run.get(kind.limit?)?);
                Some(kind.unit.share(figure.value, limit.value))
            });
            let ratios = self.runs.iter().filter_map(|run| {
                let (peer, ours) = run.followed_by(kind.id, kind.ours?)?;
                Some(kind.unit.share(ours.value, peer.value))
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
                ours: median(ratios.collect()),
                courses: figures
                    .iter()
                    .filter_map(|figure| figure.course.as_ref())
                    .collect(),
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
            "share of limit, or ours ÷ peer",
        ]);
        for line in self.lines() {
            let Line {
                kind,
                value,
                p50_ms,
                p99_ms,
                processor_us,
                per_entry,
                share,
                ours,
                ..
            } = line;
            let (show, unit) = (|value| kind.unit.show(value), kind.unit.text());
            let ms = |ms: Option<f64>| ms.map_or(String::new(), |ms| format!("{ms:.2}"));
            let met = line
                .aim_met()
                .map_or("", |met| if met { "met" } else { "missed" });
            let share = share
                .zip(kind.limit)
                .map(|(share, limit)| format!("{:.0}% of {limit}", share * 100.0));
            let ours = ours
                .zip(kind.ours)
                .map(|(ratio, ours)| format!("{ours} × {ratio:.1}"));
            let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            table.add_row([
                Cell::new(kind.title),
                right(format!("{} {unit}", show(value.median))),
                right(format!("{} – {}", show(value.min), show(value.max))),
                right(ms(p50_ms)),
                right(ms(p99_ms)),
                right(processor_us[0].map_or(String::new(), |us| format!("{us:.1}"))),
                right(per_entry.map_or(String::new(), |count| format!("{count:.1}"))),
                right(line.aim().unwrap_or_default()),
                Cell::new(met),
                Cell::new(share.or(ours).unwrap_or_default()),
            ]);
        }
        let notes = self.notes().into_iter().map(|note| format!("\n{note}"));
        table.to_string() + &notes.collect::<String>()
    }

    /// What the runs noted, each thing once.
    fn notes(&self) -> Vec<&str> {
        let mut notes = Vec::new();
        for note in self.runs.iter().flat_map(|run| &run.notes) {
            if !notes.contains(&note.as_str()) {
                notes.push(note.as_str());
            }
        }
        notes
    }

    /// The same for programs: every value of every run.
    pub fn json(&self) -> Value {
        let figures: Vec<Value> = self
            .lines()
            .map(|line| {
                let percentiles_ms = (0..PERCENTILES.len()).map(|place| line.percentile_ms(place));
                let rates: Vec<_> = line.courses.iter().map(|course| &course.rates).collect();
                json!({
                    "id": line.kind.id,
                    "title": line.kind.title,
                    "unit": line.kind.unit.text(),
                    "median": line.value.median,
                    "min": line.value.min,
                    "max": line.value.max,
                    "values": line.values,
                    "p50_ms": line.p50_ms,
                    "p99_ms": line.p99_ms,
                    "percentiles_ms": percentiles_json(percentiles_ms),
                    "rates_per_100_ms": rates,
                    "processor_us": line.processor_us[0],
                    "processor_us_harness": line.processor_us[1],
                    "processor_us_busiest_server": line.processor_us[2],
                    "per_entry": line.per_entry,
                    "target": line.kind.target,
                    "target_met": line.aim_met(),
                    "limit": line.kind.limit,
                    "share_of_limit": line.share,
                    "ours": line.kind.ours,
                    "ours_to_this": line.ours,
                })
            })
            .collect();
        json!({
            "machine": self.machine,
            "session": self.session,
            "runs": self.runs.len(),
            "window_s": self.window.as_secs(),
            "figures": figures,
            "notes": self.notes(),
        })
    }

    /// Writes that, and the page for people beside it; gives the page's path.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, json: &Path) -> Result<PathBuf, Failure> {
        let page = json.with_extension("html");
        if page == json {
            return Err(Failure::new(
                format!("writing {}", json.display()),
                "the page beside it would have the same name: choose another for --json",
            ));
        }
        for (path, text) in [
            (json, format!("{:#}\n", self.json())),
            (&page, page::markup(self).into_string()),
        ] {
            std::fs::write(path, text).doing(&format!("writing {}", path.display()))?;
        }
        Ok(page)
    }

    /// Writes the picture for a README.
    ///
    /// # Errors
    /// Nothing was measured that it shows, or the file cannot be written.
    pub fn write_picture(&self, file: &Path) -> Result<(), Failure> {
        let doing = format!("writing {}", file.display());
        let Some(picture) = picture::svg(self) else {
            return Err(Failure::new(doing, "nothing was measured that it shows"));
        };
        std::fs::write(file, picture.into_string() + "\n").doing(&doing)
    }
}

#[cfg(test)]
mod tests {
    use super::{kind::Unit, *};

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
            notes: vec!["seen".to_owned()],
        }
    }

    fn report(runs: &[Run]) -> Report<'_> {
        Report::new(runs, Path::new("/"), Duration::from_secs(4))
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
    fn a_percentile_that_one_run_has_too_few_calls_for_is_not_told() {
        let run = |calls: u64| {
            let mut latency_us = crate::load::histogram();
            (0..calls).for_each(|_| latency_us.record(1_000).unwrap());
            let course = Some(Course::new(&latency_us, &[]));
            let mut run = Run::default();
            run.add(
                id::CLAIMS_ONE,
                Figure {
                    course,
                    ..Figure::new(1.0)
                },
            );
            run
        };
        let runs = [run(20_000), run(2_000)];
        let percentiles = &report(&runs).json()["figures"][0]["percentiles_ms"];
        assert!(
            percentiles["99.9"].is_number() && percentiles["99.99"].is_null(),
            "{percentiles}"
        );
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
        let json = report(&runs).json();
        let figure = &json["figures"][0];
        assert_eq!(figure["values"].as_array().unwrap().len(), 5);
        assert_eq!(
            (&figure["median"], &figure["max"]),
            (&json!(500.0), &json!(1_500.0))
        );
    }

    #[test]
    fn ours_is_as_many_times_as_good_as_the_peer_before_it_latency_the_other_way_round() {
        let runs = [
            run(&[
                (id::CLAIMS_64, 20_000.0),
                (id::REDIS_64, 15_000.0),
                (id::REDIS_ONE, 1.0),
                (id::CLAIMS_64, 60_000.0),
                (id::CLAIMS_ONE, 0.5),
                (id::CLAIMS_64, 40_000.0),
            ]),
            run(&[(id::REDIS_64, 5_000.0), (id::CLAIMS_64, 30_000.0)]),
        ];
        let report = Report::new(&runs, Path::new("/"), Duration::from_secs(4));
        let json = report.json();
        let figures = json["figures"].as_array().unwrap();
        let ratio = |id| &figures.iter().find(|figure| figure["id"] == id).unwrap()["ours_to_this"];
        assert_eq!(ratio(id::REDIS_64), 5.0);
        assert_eq!(ratio(id::REDIS_ONE), 2.0);
        assert_eq!(ratio(id::CLAIMS_64), &Value::Null);
        assert_eq!(json["notes"], json!(["seen"]), "once");
        let table = report.table();
        assert!(table.contains("claims-64-callers × 5.0"), "{table}");
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
                (id::CLAIMS_ONE, 0.5),
            ]),
        ];
        let report = report(&runs);
        let json = report.json();
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
