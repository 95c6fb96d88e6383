//! The picture for a README: our main rates at a glance, beside their aims and limits, and, where other stores were
//! measured, how many times as good ours are.
//!
//! One SVG that needs nothing else. It has words of its own, since nobody can put any beside it: it is drawn for 800
//! pixels and scaled from there. Colours follow the reader's system, so it brings its own paper: the page around it may
//! have another scheme. Whoever cannot see it is told the same in its description. A figure is a dot, not a bar: its axis
//! is logarithmic, and has no zero that a bar could stand on.

mod peers;

use maud::{Markup, PreEscaped, html};
use pages::{
    chart::Axis,
    words::{counted, short},
};

use self::peers::Peers;
use super::{Line, Report, id, kinds::KINDS};

/// What is shown, in this order, as far as it was measured.
const SHOWN: [&str; 17] = [
    id::CLAIMS_BULK,
    id::CLAIMS_64,
    id::CLAIMS_32_PROCESSES,
    id::CLAIMS_8_PROCESSES_BATCHES,
    id::REFUSED_BULK,
    id::REFUSED_64,
    id::RETRIES_BULK,
    id::CONFIRMS,
    id::RELEASES,
    id::DECREMENTS,
    id::READS,
    id::READS_LOCAL,
    id::WATCH_EVENTS_1000,
    id::HTTP_GRANTS,
    id::HTTP_REFUSED,
    id::HTTP_PAGE,
    id::HTTP_PAGE_UNCHANGED,
];

const STYLE: &str = include_str!("style.css");

/// Width in px: what a README is shown at.
const WIDTH: f64 = 800.0;

/// Edge of the paper to what is on it, in px.
const MARGIN: f64 = 20.0;

/// Where the axis of rates begins and ends, in px: titles are left of it, numbers right.
const AXIS: [f64; 2] = [340.0, 580.0];

/// Where numbers begin, in px.
const NUMBERS: f64 = 596.0;

/// Height of the words above the first row, of a row of rates, and of what is below the last, in px.
const HEAD: f64 = 96.0;
const ROW: f64 = 34.0;
const FOOT: f64 = 34.0;

/// Whether a figure is in the picture.
pub fn shows(figure: &str) -> bool {
    SHOWN.contains(&figure)
}

/// One of our rates.
struct Rate<'a> {
    line: &'a Line<'a>,
    /// Median of its limit.
    limit: Option<f64>,
}

/// The picture; `None` where nothing was measured that it shows.
pub fn svg(report: &Report<'_>) -> Option<Markup> {
    let lines: Vec<Line<'_>> = report.lines().collect();
    let rates = rates(&lines);
    if rates.is_empty() {
        return None;
    }
    let peers = Peers::of(&lines);
    let rates_bottom = HEAD + ROW * rates.len() as f64 + FOOT;
    let height = rates_bottom + peers.height();
    let all = rates.iter().flat_map(|rate| {
        [rate.line.value.min, rate.line.value.max]
            .into_iter()
            .chain(rate.line.kind.target)
            .chain(rate.limit)
    });
    let (least, most) = all.fold((f64::MAX, 0.0_f64), |(least, most), rate| {
        (least.min(rate), most.max(rate))
    });
    let axis = Axis::log(least, most);
    let title = "Holdfast: operations a second";
    Some(html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (WIDTH) " " (px(height)) } width=(WIDTH) height=(px(height))
            role="img" aria-labelledby="title desc"
        {
            title #title { (title) }
            desc #desc { (described(&rates, &peers)) }
            style { (PreEscaped(STYLE)) }
            rect.paper x="0.5" y="0.5" width=(WIDTH - 1.0) height=(px(height - 1.0)) rx="10" {}
            text.head x=(MARGIN) y="34" { (title) }
            text.small.dim x=(MARGIN) y="53" { (measured(report)) }
            (legend())
            (grid(axis, rates_bottom))
            @for (place, rate) in rates.iter().enumerate() {
                (row(rate, axis, HEAD + ROW * (place as f64 + 0.5)))
            }
            (peers.markup(rates_bottom))
        }
    })
}

fn rates<'a>(lines: &'a [Line<'a>]) -> Vec<Rate<'a>> {
    let line = |id: &str| lines.iter().find(|line| line.kind.id == id);
    let shown = SHOWN.iter().filter_map(|id| line(id));
    shown
        .map(|shown| Rate {
            line: shown,
            limit: shown.kind.limit.and_then(line).map(|limit| limit.value.median),
        })
        .collect()
}

/// When, on what, how often.
fn measured(report: &Report<'_>) -> String {
    let (machine, session) = (&report.machine, &report.session);
    let ended = session.ended();
    let day = ended.split('T').next().unwrap_or_default();
    let cores = machine.cores.map(|cores| counted(cores as u64, "core"));
    let processor = machine.processor.clone();
    let commit = session.commit.as_ref().map(|commit| format!("commit {commit}"));
    let facts = [
        Some(format!("median of {}", counted(report.runs.len() as u64, "run"))),
        (!session.optimised).then(|| "NOT OPTIMISED".to_owned()),
        cores,
        processor,
        Some(day.to_owned()),
        commit,
    ];
    facts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// The same in words, figure by figure.
fn described(rates: &[Rate<'_>], peers: &Peers<'_>) -> String {
    let mut sentences = Vec::new();
    for Rate { line, limit } in rates {
        let value = &line.value;
        let mut sentence = format!(
            "{}: {} a second, {} to {}",
            line.kind.title,
            short(value.median.round()),
            short(value.min.round()),
            short(value.max.round())
        );
        if let Some((aim, met)) = line.kind.target.zip(line.aim_met()) {
            let word = if met { "met" } else { "missed" };
            sentence.push_str(&format!(", aim {} {word}", short(aim)));
        }
        if let (Some(limit), Some(title)) = (limit, limit_title(line)) {
            sentence.push_str(&format!(", {title} {}", short(limit.round())));
        }
        sentences.push(sentence);
    }
    sentences.extend(peers.described());
    sentences.join(". ") + "."
}

fn limit_title(line: &Line<'_>) -> Option<&'static str> {
    let limit = line.kind.limit?;
    KINDS.iter().find(|kind| kind.id == limit).map(|kind| kind.title)
}

/// What the marks mean.
fn legend() -> Markup {
    let y = 75.0;
    let words = y + 4.0;
    html! {
        g.small {
            line.runs x1="24" x2="46" y1=(y) y2=(y) {}
            circle.ours cx="35" cy=(y) r="5" {}
            text.small.dim x="58" y=(words) { "median, slowest to fastest run" }
            line.aim x1="240" x2="240" y1=(y - 8.0) y2=(y + 8.0) {}
            text.small.dim x="248" y=(words) { "aim" }
            circle.limit cx="290" cy=(y) r="4" {}
            text.small.dim x="300" y=(words) { "its limit: what bare raft, gRPC or HTTP did in the same run" }
        }
    }
}

fn grid(axis: Axis, bottom: f64) -> Markup {
    let foot = bottom - FOOT;
    html! {
        @for tick in axis.ticks() {
            @let x = px(along(axis, tick));
            line.grid x1=(x) x2=(x) y1=(HEAD) y2=(px(foot)) {}
            text.small.dim.middle.numbers x=(x) y=(px(foot + 16.0)) { (short(tick)) }
        }
        line.axis x1=(AXIS[0]) x2=(AXIS[1]) y1=(px(foot)) y2=(px(foot)) {}
    }
}

/// A rate around this height.
fn row(rate: &Rate<'_>, axis: Axis, y: f64) -> Markup {
    let Rate { line, limit } = rate;
    let at = |rate: f64| px(along(axis, rate));
    let (value, aim) = (&line.value, line.kind.target.zip(line.aim_met()));
    let share = line
        .share
        .map(|share| format!("{:.0}% of the limit", share * 100.0));
    let alone = aim.is_none() && share.is_none();
    let (upper, lower) = (px(if alone { y + 4.5 } else { y - 2.0 }), px(y + 12.0));
    html! {
        line.row x1=(MARGIN) x2=(WIDTH - MARGIN) y1=(px(y + ROW / 2.0)) y2=(px(y + ROW / 2.0)) {}
        text x=(MARGIN) y=(px(y + 4.5)) { (line.kind.title) }
        @if let Some(limit) = limit {
            line.way x1=(at(value.median)) x2=(at(*limit)) y1=(px(y)) y2=(px(y)) {}
        }
        line.runs x1=(at(value.min)) x2=(at(value.max)) y1=(px(y)) y2=(px(y)) {}
        @if let Some(limit) = limit {
            circle.limit cx=(at(*limit)) cy=(px(y)) r="4" {}
        }
        @if let Some((aim, _)) = aim {
            line.aim x1=(at(aim)) x2=(at(aim)) y1=(px(y - 9.0)) y2=(px(y + 9.0)) {}
        }
        circle.ours cx=(at(value.median)) cy=(px(y)) r="5" {}
        text.numbers x=(NUMBERS) y=(upper) {
            tspan.strong { (short(value.median.round())) "/s" }
            tspan.small.dim dx="6" { (short(value.min.round())) "–" (short(value.max.round())) }
        }
        text.small.numbers x=(NUMBERS) y=(lower) {
            @if let Some((aim, met)) = aim {
                @let (word, class) = if met { ("✓ aim", "met") } else { ("✕ aim", "missed") };
                tspan class=(class) { (word) " " (short(aim)) }
                @if share.is_some() { tspan.dim { " · " } }
            }
            @if let Some(share) = share { tspan.dim { (share) } }
        }
    }
}

/// Where a rate is across the picture, in px.
fn along(axis: Axis, rate: f64) -> f64 {
    AXIS[0] + axis.share(rate) * (AXIS[1] - AXIS[0])
}

/// A tenth of a pixel is finer than a screen.
fn px(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::*;
    use crate::report::{Figure, Run, kind::Unit};

    fn picture(change: impl Fn(&mut Report<'_>), figures: &[(&'static str, f64)]) -> Option<String> {
        let mut run = Run::default();
        for &(id, value) in figures {
            run.add(id, Figure::new(value));
        }
        let runs = [run];
        let mut report = Report::new(&runs, Path::new("/"), Duration::from_secs(4));
        change(&mut report);
        svg(&report).map(Markup::into_string)
    }

    #[test]
    fn whatever_is_shown_is_a_rate() {
        for id in SHOWN {
            let unit = KINDS.iter().find(|kind| kind.id == id).map(|kind| kind.unit);
            assert_eq!(unit, Some(Unit::PerSecond), "{id}");
        }
        assert!(shows(id::CLAIMS_BULK) && !shows(id::CLAIMS_ONE));
        assert_eq!(
            picture(|_| (), &[(id::CLAIMS_ONE, 1.0), (id::RAFT_FULL, 1.0)]),
            None
        );
    }

    #[test]
    fn rates_stand_beside_their_aims_and_limits_and_are_told_in_words() {
        let figures = [(id::RAFT_FULL, 1e6), (id::CLAIMS_BULK, 5e5), (id::CLAIMS_64, 4e4)];
        let text = picture(|_| (), &figures).unwrap();
        assert_eq!(
            text.matches("class=\"ours\" cx").count(),
            3,
            "one of them in the legend"
        );
        assert_eq!(
            text.matches("class=\"limit\" cx").count(),
            2,
            "bare raft with 64 in flight was not measured"
        );
        assert!(text.contains("✓ aim 400k") && text.contains("✕ aim 75k"));
        assert!(text.contains("50% of the limit") && !text.contains("Ours ÷ theirs"));
        let told = "claims, 64 single callers: 40k a second, 40k to 40k, aim 75k missed.";
        assert!(text.contains(told), "{text}");
    }

    #[test]
    fn other_stores_have_a_column_each_and_works_a_row() {
        let figures = [
            (id::ETCD_64, 5e3),
            (id::CLAIMS_64, 4e4),
            (id::REDIS_ONE, 0.2),
            (id::CLAIMS_ONE, 0.5),
        ];
        let text = picture(|_| (), &figures).unwrap();
        assert_eq!(text.matches("class=\"even\"").count(), 2);
        assert!(text.contains("× 8.0<") && text.contains("× 0.40<"));
        assert!(text.contains("claims, 64 single callers: 8.0 times as good as etcd, one counter."));
    }

    #[test]
    fn nothing_that_comes_from_outside_is_markup_and_nothing_comes_from_elsewhere() {
        let hostile = "<script>alert(1)</script>\"'&";
        let change = |report: &mut Report<'_>| {
            report.session.commit = Some(hostile.to_owned());
            report.machine.processor = Some(hostile.to_owned());
        };
        let text = picture(change, &[(id::CLAIMS_BULK, 1.0)]).unwrap();
        assert_eq!(text.matches("&lt;script&gt;alert(1)").count(), 2);
        let text = text.replace("http://www.w3.org/2000/svg", "");
        for foreign in [
            "<script", "http://", "https://", "src=", "href", "@import", "url(",
        ] {
            assert!(!text.contains(foreign), "{foreign}");
        }
    }
}
