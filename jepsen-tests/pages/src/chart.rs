//! Plots: geometry in SVG, words in HTML.
//!
//! A plot is stretched to whatever width there is, from a phone's to paper's, so the SVG has no text, which
//! would be stretched with it, and its lines keep their width (`vector-effect` in the style sheet). Axis words
//! are HTML beside it, placed in percent. All numbers are written with one decimal of a thousandth of the plot:
//! finer than a pixel, and short.

use std::fmt::Write as _;

use maud::{Markup, html};

/// Width and height of a plot's own coordinates.
pub const SIZE: f64 = 1_000.0;

/// Words along an axis at most: more run into each other on a phone.
const TICKS_MAX: usize = 6;

/// A value's way onto an axis.
#[derive(Clone, Copy, Debug)]
pub enum Axis {
    /// From zero.
    Linear {
        /// The axis ends here.
        high: f64,
    },
    /// From one value to another, neither zero.
    Range {
        /// It begins here.
        low: f64,
        /// It ends here.
        high: f64,
    },
    /// Decades; from above zero.
    Log {
        /// It begins here, a power of ten.
        low: f64,
        /// It ends here, a power of ten.
        high: f64,
    },
}

impl Axis {
    /// From zero to a little above the greatest value.
    pub fn linear(greatest: f64) -> Axis {
        Axis::Linear {
            high: if greatest > 0.0 { greatest * 1.05 } else { 1.0 },
        }
    }

    /// The decades from the least value to the greatest.
    pub fn log(least: f64, greatest: f64) -> Axis {
        let low = 10f64.powf(least.max(1.0).log10().floor());
        let high = 10f64.powf(greatest.max(1.0).log10().ceil());
        Axis::Log {
            low,
            high: if high > low { high } else { low * 10.0 },
        }
    }

    /// Where a value is, from 0 to 1; what is beyond an end is at the end.
    pub fn share(self, value: f64) -> f64 {
        let share = match self {
            Axis::Linear { high } => value / high,
            Axis::Range { low, high } => (value - low) / (high - low).max(f64::MIN_POSITIVE),
            Axis::Log { low, high } => (value.max(low) / low).log10() / (high / low).log10(),
        };
        share.clamp(0.0, 1.0)
    }

    /// Round values to write along it.
    pub fn ticks(self) -> Vec<f64> {
        match self {
            Axis::Linear { high } => round_steps(0.0, high),
            Axis::Range { low, high } => round_steps(low, high),
            Axis::Log { low, high } => {
                let decades = (high / low).log10().round() as usize;
                if decades * 3 <= TICKS_MAX {
                    let within = |decade: usize| [1.0, 2.0, 5.0].map(|n| n * low * 10f64.powi(decade as i32));
                    return (0..decades).flat_map(within).chain([high]).collect();
                }
                let every = decades.div_ceil(TICKS_MAX).max(1);
                (0..=decades)
                    .step_by(every)
                    .map(|decade| low * 10f64.powi(decade as i32))
                    .collect()
            }
        }
    }
}

fn round_steps(low: f64, high: f64) -> Vec<f64> {
    let raw = (high - low) / TICKS_MAX as f64;
    if raw <= 0.0 {
        return vec![low];
    }
    let magnitude = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * magnitude)
        .into_iter()
        .find(|step| *step >= raw)
        .unwrap_or(magnitude * 10.0);
    let first = (low / step).ceil();
    let steps = ((high - first * step) / step).floor() as i64;
    (0..=steps).map(|number| (first + number as f64) * step).collect()
}

/// A path in a plot's coordinates. Shares run from 0 to 1, upwards.
#[derive(Default)]
pub struct Path(String);

impl Path {
    /// What goes into `d`.
    pub fn d(&self) -> &str {
        &self.0
    }

    /// Whether nothing is drawn.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A line of steps, one to a bin; nothing where a bin has no value.
    pub fn steps(values: impl IntoIterator<Item = Option<f64>>, bins: usize) -> Path {
        let mut path = Path::default();
        let mut drawing = false;
        for (bin, value) in values.into_iter().enumerate() {
            if let Some(share) = value {
                path.step(bin, bins, share, !drawing);
            }
            drawing = value.is_some();
        }
        path
    }

    /// The area between two lines of steps, one to a bin.
    pub fn area(low: &[f64], high: &[f64]) -> Path {
        assert_eq!(low.len(), high.len(), "an area has two edges");
        let bins = high.len();
        let mut path = Path::default();
        // Runs of nothing are left out: an area of no height would still draw its edge.
        let mut bin = 0;
        while bin < bins {
            let end = (bin..bins).find(|&at| high[at] <= low[at]).unwrap_or(bins);
            for (at, &share) in high.iter().enumerate().take(end).skip(bin) {
                path.step(at, bins, share, at == bin);
            }
            for at in (bin..end).rev() {
                let _ = write!(path.0, "V{}H{}", y(low[at]), x(at as f64 / bins as f64));
            }
            if end > bin {
                path.0.push('Z');
            }
            bin = end + 1;
        }
        path
    }

    /// A dot: a line of no length, which a round cap makes round however the plot is stretched.
    pub fn dot(&mut self, across: f64, up: f64) {
        let _ = write!(self.0, "M{} {}h0", x(across), y(up));
    }

    /// A band over the whole height.
    pub fn band(&mut self, from: f64, to: f64) {
        let _ = write!(self.0, "M{} 0H{}V{SIZE}H{}Z", x(from), x(to), x(from));
    }

    /// A line over the whole width.
    pub fn level(up: f64) -> Path {
        Path(format!("M0 {}H{SIZE}", y(up)))
    }

    fn step(&mut self, bin: usize, bins: usize, share: f64, begin: bool) {
        let (from, to) = (bin as f64 / bins as f64, (bin + 1) as f64 / bins as f64);
        let _ = if begin {
            write!(self.0, "M{} {}H{}", x(from), y(share), x(to))
        } else {
            write!(self.0, "V{}H{}", y(share), x(to))
        };
    }
}

fn x(share: f64) -> f64 {
    (share * SIZE * 10.0).round() / 10.0
}

fn y(share: f64) -> f64 {
    ((1.0 - share) * SIZE * 10.0).round() / 10.0
}

/// One thing in a plot: the class that colours it, and the word that a legend says.
pub struct Layer {
    /// Class in the style sheet; its first word says area, line or dots.
    pub class: &'static str,
    /// What it is; empty: the legend leaves it out.
    pub name: &'static str,
    /// Where.
    pub path: Path,
}

/// One plot.
pub struct Plot<'a> {
    /// What it shows.
    pub title: Markup,
    /// All that a reader who cannot see it should know.
    pub described: String,
    /// What is drawn, bottom first.
    pub layers: Vec<Layer>,
    /// Words along the left edge.
    pub up: (Axis, &'a dyn Fn(f64) -> String),
    /// Words along the lower edge.
    pub across: (Axis, &'a dyn Fn(f64) -> String),
    /// Said below.
    pub note: Markup,
}

impl Plot<'_> {
    /// The plot in HTML.
    pub fn markup(&self) -> Markup {
        let named: Vec<&Layer> = self
            .layers
            .iter()
            .filter(|layer| !layer.name.is_empty())
            .collect();
        html! {
            figure.plot {
                figcaption {
                    h3 { (self.title) }
                    ul.legend {
                        @for layer in named {
                            li { span.key aria-hidden="true" { (swatch(layer.class)) } (layer.name) }
                        }
                    }
                }
                div.frame {
                    div.up aria-hidden="true" { (words(self.up, "bottom")) }
                    svg viewBox={ "0 0 " (SIZE) " " (SIZE) } preserveAspectRatio="none" role="img"
                        aria-label=(self.described)
                    {
                        @for tick in self.up.0.ticks() {
                            path.grid d=(Path::level(self.up.0.share(tick)).d()) {}
                        }
                        @for layer in self.layers.iter().filter(|layer| !layer.path.is_empty()) {
                            path class=(layer.class) d=(layer.path.d()) {}
                        }
                    }
                    div.across aria-hidden="true" { (words(self.across, "left")) }
                }
                p.note { (self.note) }
            }
        }
    }
}

/// A small picture of a layer, for a legend.
fn swatch(class: &str) -> Markup {
    let d = match class.split(' ').next() {
        Some("line") => "M0 500H1000",
        Some("dots") => "M500 500h0",
        _ => "M0 0H1000V1000H0Z",
    };
    html! { svg viewBox="0 0 1000 1000" preserveAspectRatio="none" { path class=(class) d=(d) {} } }
}

fn words((axis, word): (Axis, &dyn Fn(f64) -> String), edge: &str) -> Markup {
    html! {
        @for tick in axis.ticks() {
            span style=(format!("{edge}:{:.1}%", axis.share(tick) * 100.0)) { (word(tick)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(
            Axis::Linear { high: 1_000.0 }.ticks(),
            [0.0, 200.0, 400.0, 600.0, 800.0, 1_000.0]
        );
        assert_eq!(
            Axis::Range {
                low: 1_234.0,
                high: 1_300.0
            }
            .ticks(),
            [1_240.0, 1_260.0, 1_280.0, 1_300.0]
        );
        assert_eq!(
            Axis::log(3.0, 2_000.0).ticks(),
            [1.0, 10.0, 100.0, 1_000.0, 10_000.0]
        );
        // Few decades are divided.
        assert_eq!(
            Axis::log(3.0, 60.0).ticks(),
            [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
        );
        assert_eq!(Axis::Range { low: 7.0, high: 7.0 }.ticks(), [7.0]);
        for greatest in [0.0, 1.0, 7.3, 1e3, 9.99e9] {
            let ticks = Axis::linear(greatest).ticks().len();
            assert!((1..=TICKS_MAX + 1).contains(&ticks), "{greatest}: {ticks}");
        }
        assert!(Axis::log(1.0, 1e18).ticks().len() <= TICKS_MAX + 1);
    }

    #[test]
    fn shares_stay_within_the_plot() {
        let log = Axis::log(1e3, 1e6);
        for (value, share) in [(0.0, 0.0), (1e3, 0.0), (1e4, 1.0 / 3.0), (1e6, 1.0), (1e9, 1.0)] {
            assert!((log.share(value) - share).abs() < 1e-9, "{value}");
        }
        assert_eq!(Axis::linear(0.0).share(0.0), 0.0);
        assert_eq!(Axis::Range { low: 7.0, high: 7.0 }.share(7.0), 0.0);
    }

    #[test]
    fn a_line_breaks_where_there_is_no_value() {
        let path = Path::steps([Some(0.0), None, Some(1.0), Some(0.5)], 4);
        assert_eq!(path.d(), "M0 1000H250M500 0H750V500H1000");
    }

    #[test]
    fn an_area_leaves_out_what_has_no_height() {
        let path = Path::area(&[0.0, 0.0, 0.0], &[0.5, 0.0, 1.0]);
        assert_eq!(path.d(), "M0 500H333.3V1000H0ZM666.7 0H1000V1000H666.7Z");
    }
}
