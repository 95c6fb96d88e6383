//! A run over time: latency and rate in bins, and the faults beside them.
//!
//! However long the history, a plot has [`BINS`] bins, so a report's size does not depend on it. An operation
//! counts where it ended: that is when its client knew.

use std::collections::BTreeMap;

use maud::html;

use super::{
    chart::{Axis, Layer, Path, Plot},
    words::{counted, grouped, short, span},
};
use crate::{
    history::{Phase, What},
    properties::{End, Run},
};

/// Bins of a plot over time: about as many as a phone has points, and enough to see a fault of a second in a
/// run of five minutes.
pub const BINS: usize = 240;

/// Kinds of faults that get a lane of their own; the nemesis has fewer.
const LANES_MAX: usize = 40;

/// What ended in one bin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bin {
    /// Answers that say that something changed.
    pub effects: u64,
    /// Answers that changed nothing: reads, refusals.
    pub answers: u64,
    /// Definitely did not happen.
    pub failed: u64,
    /// Nobody knew.
    pub unknown: u64,
    /// Half of the answers took at most so long, in ns; none: there were none.
    pub p50_ns: Option<u64>,
    /// 99 of 100 took at most so long, in ns.
    pub p99_ns: Option<u64>,
    /// The slowest, in ns.
    pub max_ns: Option<u64>,
}

/// A count of a bin.
type OfBin = fn(&Bin) -> u64;

/// One fault, from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it began, in ns of the history.
    pub from_ns: u64,
    /// When it was healed.
    pub to_ns: u64,
    /// What it hit.
    pub node: String,
}

/// A run over time.
pub struct Timeline {
    /// First moment of the history, in ns.
    pub start_ns: u64,
    /// Its length, in ns; at least 1.
    pub length_ns: u64,
    /// What ended when.
    pub bins: Vec<Bin>,
    /// Faults by kind, in order of first use.
    pub lanes: Vec<(String, Vec<Span>)>,
}

impl Timeline {
    /// Bins a run.
    pub fn new(run: &Run) -> Timeline {
        let events = &run.history.events;
        let start_ns = events.first().map_or(0, |event| event.t);
        let length_ns = events.last().map_or(0, |event| event.t - start_ns).max(1);
        let mut timeline = Timeline {
            start_ns,
            length_ns,
            bins: vec![Bin::default(); BINS],
            lanes: lanes(run),
        };
        timeline.fill(run);
        timeline
    }

    /// Where a moment is, from 0 to 1.
    pub fn share(&self, ns: u64) -> f64 {
        (ns.saturating_sub(self.start_ns) as f64 / self.length_ns as f64).min(1.0)
    }

    /// Length of a bin, in s.
    fn bin_s(&self) -> f64 {
        self.length_ns as f64 / 1e9 / BINS as f64
    }

    fn bin(&self, ns: u64) -> usize {
        ((self.share(ns) * BINS as f64) as usize).min(BINS - 1)
    }

    fn fill(&mut self, run: &Run) {
        let mut took: Vec<Vec<u64>> = vec![Vec::new(); BINS];
        for operation in &run.operations {
            let at = self.bin(operation.returned_ns);
            match &operation.end {
                End::Answered(answer) => {
                    took[at].push(operation.returned_ns - operation.invoked_ns);
                    let bin = &mut self.bins[at];
                    if answer.outcome.is_effect() {
                        bin.effects += 1;
                    } else {
                        bin.answers += 1;
                    }
                }
                End::Failed => self.bins[at].failed += 1,
                // What became of it was learned much later; its client gave up when the history says so.
                End::Unknown | End::Learned(_) | End::Abandoned => {}
            }
        }
        for event in &run.history.events {
            if let What::Info { .. } = event.what {
                let at = self.bin(event.t);
                self.bins[at].unknown += 1;
            }
        }
        for (bin, mut took) in self.bins.iter_mut().zip(took) {
            took.sort_unstable();
            let at = |percent: usize| {
                let rank = (took.len() * percent).div_ceil(100).max(1) - 1;
                took.get(rank).copied()
            };
            (bin.p50_ns, bin.p99_ns, bin.max_ns) = (at(50), at(99), at(100));
        }
    }

    /// Shades of all faults together, for a plot: those that touch become one, so none is darker.
    fn bands(&self) -> Layer {
        let mut spans: Vec<(f64, f64)> = self
            .lanes
            .iter()
            .flat_map(|(_, spans)| spans)
            .map(|span| self.width(span))
            .collect();
        spans.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut path = Path::default();
        let mut open: Option<(f64, f64)> = None;
        for (from, to) in spans {
            match &mut open {
                Some(band) if from <= band.1 => band.1 = band.1.max(to),
                _ => {
                    if let Some((from, to)) = open.replace((from, to)) {
                        path.band(from, to);
                    }
                }
            }
        }
        if let Some((from, to)) = open {
            path.band(from, to);
        }
        Layer {
            class: "area fault",
            name: if path.is_empty() { "" } else { "a fault is on" },
            path,
        }
    }

    /// Faults that were on at some time between two moments, in words.
    pub fn faults_within(&self, from_ns: u64, to_ns: u64) -> Vec<String> {
        self.lanes
            .iter()
            .flat_map(|(name, spans)| spans.iter().map(move |span| (name, span)))
            .filter(|(_, span)| span.from_ns <= to_ns && span.to_ns >= from_ns)
            .map(|(name, span)| format!("{name} {}", span.node))
            .collect()
    }

    /// From where to where a fault is drawn; a short one is still seen.
    pub fn width(&self, span: &Span) -> (f64, f64) {
        let (from, to) = (self.share(span.from_ns), self.share(span.to_ns));
        let least = 1.0 / BINS as f64 / 2.0;
        let from = from.min(1.0 - least);
        (from, to.max(from + least))
    }

    /// How long answers took.
    pub fn latency(&self) -> maud::Markup {
        let answered = || self.bins.iter().filter_map(|bin| bin.p50_ns.zip(bin.max_ns));
        let least = answered().map(|(p50, _)| p50).min().unwrap_or(1);
        let most = answered().map(|(_, max)| max).max().unwrap_or(1);
        let axis = Axis::log(least as f64, most as f64);
        let line = |of: fn(&Bin) -> Option<u64>| {
            let shares = self
                .bins
                .iter()
                .map(|bin| of(bin).map(|ns| axis.share(ns as f64)));
            Path::steps(shares, BINS)
        };
        let layer = |class, name, path| Layer { class, name, path };
        let layers = vec![
            self.bands(),
            layer("line slowest", "slowest", line(|bin| bin.max_ns)),
            layer("line p99", "99 of 100", line(|bin| bin.p99_ns)),
            layer("line p50", "half", line(|bin| bin.p50_ns)),
        ];
        Plot {
            title: html! { "How long answers took" },
            described: format!(
                "Latency over time, logarithmic; the slowest answer took {}",
                span(most as f64)
            ),
            layers,
            up: (axis, &span),
            across: (self.seconds(), &|s| span(s * 1e9)),
            note: html! {
                "Answers that ended within " (span(self.bin_s() * 1e9)) " are one step; none in it, no line. \
                 The slowest of all took " (span(most as f64)) "."
            },
        }
        .markup()
    }

    /// How many operations ended, and how.
    pub fn rate(&self) -> maud::Markup {
        let parts: [(&'static str, &'static str, OfBin); 4] = [
            ("area unknown", "unknown", |bin| bin.unknown),
            ("area failed", "failed", |bin| bin.failed),
            ("area effects", "changed something", |bin| bin.effects),
            ("area answers", "changed nothing", |bin| bin.answers),
        ];
        let total = |bin: &Bin| parts.iter().map(|(_, _, of)| of(bin)).sum::<u64>();
        let per_second = |count: u64| count as f64 / self.bin_s();
        let most = self.bins.iter().map(total).max().unwrap_or(0);
        let axis = Axis::linear(per_second(most));
        let mut low = vec![0.0; BINS];
        let mut sums = vec![0; BINS];
        let mut layers = vec![self.bands()];
        for (class, name, of) in parts {
            for (sum, bin) in sums.iter_mut().zip(&self.bins) {
                *sum += of(bin);
            }
            let high: Vec<f64> = sums.iter().map(|&sum| axis.share(per_second(sum))).collect();
            let path = Path::area(&low, &high);
            layers.push(Layer {
                class,
                name: if path.is_empty() { "" } else { name },
                path,
            });
            low = high;
        }
        let all: u64 = self.bins.iter().map(total).sum();
        let unknown: u64 = self.bins.iter().map(|bin| bin.unknown).sum();
        Plot {
            title: html! { "Operations a second" },
            described: format!(
                "Rate over time; {} ended, {} of them unknown",
                counted(all, "operation"),
                grouped(unknown)
            ),
            layers,
            up: (axis, &short),
            across: (self.seconds(), &|s| span(s * 1e9)),
            note: html! { (counted(all, "operation")) " ended, " (grouped(unknown)) " of them with nobody knowing how." },
        }
        .markup()
    }

    fn seconds(&self) -> Axis {
        Axis::Linear {
            high: self.length_ns as f64 / 1e9,
        }
    }
}

/// Faults by kind. One that was never healed lasts to the end; an end without a start is a moment.
fn lanes(run: &Run) -> Vec<(String, Vec<Span>)> {
    let end_ns = run.history.events.last().map_or(0, |event| event.t);
    let mut lanes: Vec<(String, Vec<Span>)> = Vec::new();
    let mut open: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for event in &run.history.events {
        let What::Fault { name, node, phase } = &event.what else {
            continue;
        };
        let lane = lanes.iter().position(|(known, _)| **known == **name);
        let lane = match lane {
            Some(lane) => lane,
            None if lanes.len() == LANES_MAX => continue,
            None => {
                lanes.push((name.to_string(), Vec::new()));
                lanes.len() - 1
            }
        };
        let spans = &mut lanes[lane].1;
        match (phase, open.remove(&(lane, &**node))) {
            (Phase::End, Some(span)) => spans[span].to_ns = event.t,
            (Phase::End, None) => spans.push(Span {
                from_ns: event.t,
                to_ns: event.t,
                node: node.to_string(),
            }),
            (Phase::Start, before) => {
                if let Some(span) = before {
                    spans[span].to_ns = event.t;
                }
                open.insert((lane, &**node), spans.len());
                spans.push(Span {
                    from_ns: event.t,
                    to_ns: end_ns,
                    node: node.to_string(),
                });
            }
        }
    }
    lanes
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;
    use crate::{
        history::{Answer, Call, Header, Outcome, Recorder},
        properties::Observations,
    };

    /// A recorder whose clock the test sets.
    fn recorder() -> (Recorder, Arc<AtomicU64>) {
        let clock = Arc::new(AtomicU64::new(1_000));
        let now = Arc::clone(&clock);
        let header = Header::one(100, [("s0", 1_000)]);
        (Recorder::new(header, move || now.load(Ordering::Relaxed)), clock)
    }

    fn timeline(recorder: &Recorder) -> Timeline {
        Timeline::new(&Run::new(recorder.finish(), Observations::default()))
    }

    #[test]
    fn what_ended_is_counted_where_it_ended() {
        let (recorder, clock) = recorder();
        let invoke = |key: &str| recorder.invoke(recorder.process(), "s0", Call::claim(key, key));
        let ok = |id, outcome| {
            recorder.ok(
                id,
                Answer {
                    idx: None,
                    lt: 0,
                    outcome,
                },
            )
        };
        // A run of 240 bins of 1,000 ns.
        let slow = invoke("slow");
        for number in 0..99 {
            let id = invoke(&format!("k{number}"));
            clock.fetch_add(10, Ordering::Relaxed);
            ok(id, Outcome::SoldOut);
        }
        let (failed, lost) = (invoke("failed"), invoke("lost"));
        clock.store(1_999, Ordering::Relaxed);
        ok(
            slow,
            Outcome::Granted {
                hold: "h",
                deadline: 9,
            },
        );
        clock.store(101_000, Ordering::Relaxed);
        recorder.fail(failed);
        recorder.info(lost, "reset");
        clock.store(241_000, Ordering::Relaxed);
        recorder.resolve(lost, None);
        let timeline = timeline(&recorder);
        assert_eq!((timeline.start_ns, timeline.length_ns), (1_000, 240_000));
        let first = Bin {
            effects: 1,
            answers: 99,
            failed: 0,
            unknown: 0,
            p50_ns: Some(10),
            p99_ns: Some(10),
            max_ns: Some(999),
        };
        assert_eq!(timeline.bins[0], first);
        let hundredth = Bin {
            failed: 1,
            unknown: 1,
            ..Bin::default()
        };
        assert_eq!(timeline.bins[100], hundredth);
        let ended: u64 = timeline
            .bins
            .iter()
            .map(|bin| bin.effects + bin.answers + bin.failed + bin.unknown)
            .sum();
        assert_eq!(ended, 102, "every operation once");
    }

    #[test]
    fn faults_last_from_start_to_end() {
        let (recorder, clock) = recorder();
        let at = |t, name, node, phase| {
            clock.store(t, Ordering::Relaxed);
            recorder.fault(name, node, phase);
        };
        at(1_000, "kill", "1", Phase::Start);
        at(2_000, "kill", "2", Phase::Start);
        at(3_000, "kill", "1", Phase::End);
        at(4_000, "pause", "3", Phase::Start);
        at(5_000, "heal", "3", Phase::End);
        let timeline = timeline(&recorder);
        let span = |from_ns, to_ns, node: &str| Span {
            from_ns,
            to_ns,
            node: node.into(),
        };
        assert_eq!(
            timeline.lanes,
            [
                (
                    "kill".to_owned(),
                    vec![span(1_000, 3_000, "1"), span(2_000, 5_000, "2")]
                ),
                ("pause".to_owned(), vec![span(4_000, 5_000, "3")]),
                ("heal".to_owned(), vec![span(5_000, 5_000, "3")]),
            ]
        );
        assert_eq!(timeline.faults_within(3_500, 3_600), ["kill 2"]);
        // All of them touch, so there is one band; its end is where the moment of the last is seen.
        assert_eq!(timeline.bands().path.d().matches('M').count(), 1);
        assert_eq!(timeline.width(&timeline.lanes[2].1[0]).1, 1.0);
    }
}
