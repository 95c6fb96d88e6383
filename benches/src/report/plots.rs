//! How calls went, drawn: latency by percentile and throughput over the window, all runs in one plot; and where a
//! value stands between nothing and its aim.
//!
//! A line is the median of the runs, the band around it reaches from the lowest to the highest.

use maud::{Markup, html};
use pages::{
    chart::{Axis, Layer, Path, Plot, SIZE},
    words::{short, span},
};

use super::{
    Line, Spread,
    course::{Course, ONE_IN_MAX, PERCENTILES, POINTS, TICK},
};

/// Room beyond the greatest value of a strip, so that its dot is whole.
const STRIP_HEADROOM: f64 = 1.06;

fn ns(ms: f64) -> f64 {
    ms * 1e6
}

/// One axis for the latencies of all these, so that plots of a page can be compared.
pub fn latency_axis<'a>(courses: impl Iterator<Item = &'a Course>) -> Axis {
    let all = courses.flat_map(|course| course.latency_ms.iter().flatten());
    let spread = Spread::of(all.copied());
    let (least, most) = spread.map_or((1.0, 1.0), |spread| (spread.min, spread.max));
    Axis::log(ns(least), ns(most))
}

/// Latency by percentile. An order of magnitude of the rare is as wide as the one before.
pub fn latency(line: &Line<'_>, up: Axis) -> Markup {
    let across = Axis::Log {
        low: 1.0,
        high: ONE_IN_MAX,
    };
    let points = (0..POINTS).map(|point| line.in_all(|course| course.latency_ms[point]));
    let told = (PERCENTILES.into_iter().enumerate()).filter_map(|(place, percentile)| {
        let within = span(ns(line.percentile_ms(place)?));
        Some(match percentile {
            50.0 => format!("half {within}"),
            100.0 => format!("slowest {within}"),
            _ => format!("{percentile}% {within}"),
        })
    });
    let told = told.collect::<Vec<_>>().join(" · ");
    Plot {
        title: html! { "Latency " span.axes { "of a call, by percentile of calls" } },
        described: format!("Latency by percentile, both logarithmic: {told}"),
        layers: layers(points, POINTS, |ms| up.share(ns(ms))),
        up: (up, &span),
        across: (across, &|one_in| match one_in {
            one_in if one_in <= 1.0 => "0%".to_owned(),
            one_in => format!("{}%", ((1.0 - 1.0 / one_in) * 1e6).round() / 1e4),
        }),
        note: html! { (told) },
    }
    .markup()
}

/// Operations a second, over the window; nothing where they were not counted.
pub fn rate(courses: &[&Course]) -> Option<Markup> {
    let ticks = courses.iter().map(|course| course.rates.len()).max()?;
    let bins = (0..ticks).map(|tick| {
        let all = courses
            .iter()
            .filter_map(move |course| course.rates.get(tick).copied());
        Spread::of(all)
    });
    let bins: Vec<Option<Spread>> = bins.collect();
    let all = Spread::of(courses.iter().flat_map(|course| course.rates.iter().copied()))?;
    let up = Axis::linear(all.max);
    let seconds = Axis::Linear {
        high: ticks as f64 * TICK.as_secs_f64(),
    };
    let told = format!(
        "In a tenth of a second: {}/s to {}/s, half of them above {}/s",
        short(all.min.round()),
        short(all.max.round()),
        short(all.median.round())
    );
    let plot = Plot {
        title: html! { "Throughput " span.axes { "in operations a second, over the window" } },
        described: told.clone(),
        layers: layers(bins.into_iter(), ticks, |rate| up.share(rate)),
        up: (up, &|rate| format!("{}/s", short(rate))),
        across: (seconds, &|s| span(s * 1e9)),
        note: html! { (told) },
    };
    Some(plot.markup())
}

/// The band of all runs, and their median on it.
fn layers(
    values: impl Iterator<Item = Option<Spread>>,
    bins: usize,
    share: impl Fn(f64) -> f64,
) -> Vec<Layer> {
    let values: Vec<Option<Spread>> = values.collect();
    let edge = |edge: fn(&Spread) -> f64| -> Vec<f64> {
        let shares = values
            .iter()
            .map(|value| value.as_ref().map_or(0.0, |value| share(edge(value))));
        shares.collect()
    };
    let layer = |class, path| Layer {
        class,
        name: "",
        path,
    };
    let line = values
        .iter()
        .map(|value| value.as_ref().map(|value| share(value.median)));
    vec![
        layer(
            "area runs",
            Path::area(&edge(|spread| spread.min), &edge(|spread| spread.max)),
        ),
        layer("line p50", Path::steps(line, bins)),
    ]
}

/// A dot for each value on a line from zero, and a mark where the aim is.
pub fn strip(values: &[f64], aim: Option<f64>) -> Markup {
    let greatest = values.iter().copied().chain(aim).fold(0.0, f64::max);
    let axis = Axis::Linear {
        high: (greatest * STRIP_HEADROOM).max(f64::MIN_POSITIVE),
    };
    let mut dots = Path::default();
    for &value in values {
        dots.dot(axis.share(value), 0.5);
    }
    let mut mark = Path::default();
    if let Some(aim) = aim {
        mark.band(axis.share(aim), axis.share(aim));
    }
    html! {
        svg.strip viewBox={ "0 0 " (SIZE) " " (SIZE) } preserveAspectRatio="none" aria-hidden="true" {
            path.grid d=(Path::level(0.5).d()) {}
            path.aim d=(mark.d()) {}
            path.dots d=(dots.d()) {}
        }
    }
}
