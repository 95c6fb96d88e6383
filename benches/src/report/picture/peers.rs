//! How many times as good ours is as other stores, at the same work: a table in the picture, a column to a store.

use maud::{Markup, html};
use pages::words::short;

use super::{
    super::{Line, kinds::KINDS},
    MARGIN, WIDTH, px,
};

/// Height of the head, which has a store's name in three lines, and of a row, in px; and where columns begin.
const HEAD: f64 = 90.0;
const ROW: f64 = 38.0;
const COLUMNS: f64 = 255.0;

/// Height of a line of small words, in px.
const LINE: f64 = 13.0;

/// Other stores and ours, at the same work.
pub(super) struct Peers<'a> {
    stores: Vec<&'a str>,
    /// What is done, and how many times as good ours is as each store's, where it was measured.
    works: Vec<(&'a str, Vec<Option<f64>>)>,
}

impl<'a> Peers<'a> {
    /// Of these lines: each store, and each work that it and we were measured at.
    pub fn of(lines: &'a [Line<'a>]) -> Peers<'a> {
        let mut peers = Peers {
            stores: Vec::new(),
            works: Vec::new(),
        };
        let measured = |line: &'a Line<'a>| {
            let (store, _) = line.kind.title.split_once(": ")?;
            let ours = line.kind.ours?;
            Some((store, ours, line.ours?))
        };
        let measured: Vec<_> = lines.iter().filter_map(measured).collect();
        for (store, ..) in &measured {
            if !peers.stores.contains(store) {
                peers.stores.push(store);
            }
        }
        for kind in &KINDS {
            let ratio = |store: &&str| {
                let same = measured
                    .iter()
                    .find(|(of, ours, _)| of == store && *ours == kind.id);
                same.map(|(.., ratio)| *ratio)
            };
            let ratios: Vec<Option<f64>> = peers.stores.iter().map(ratio).collect();
            if ratios.iter().any(Option::is_some) {
                peers.works.push((kind.title, ratios));
            }
        }
        peers
    }

    /// The same in words, work by work.
    pub fn described(&self) -> Vec<String> {
        let of_all = |(work, ratios): &(&str, Vec<Option<f64>>)| -> Vec<String> {
            let measured = self.stores.iter().zip(ratios);
            let measured = measured.filter_map(|(store, ratio)| Some((store, (*ratio)?)));
            measured
                .map(|(store, ratio)| format!("{work}: {} times as good as {store}", times(ratio)))
                .collect()
        };
        self.works.iter().flat_map(of_all).collect()
    }

    /// Height of the table, in px; zero where there is none.
    pub fn height(&self) -> f64 {
        match self.works.len() {
            0 => 0.0,
            works => HEAD + ROW * works as f64 + MARGIN / 2.0,
        }
    }

    /// The table, from there down.
    pub fn markup(&self, top: f64) -> Markup {
        if self.works.is_empty() {
            return html! {};
        }
        let column = (WIDTH - MARGIN - COLUMNS) / self.stores.len() as f64;
        let middle = |store: usize| COLUMNS + column * (store as f64 + 0.5);
        let ratios = self.works.iter().flat_map(|(_, ratios)| ratios.iter().flatten());
        // The longest bar is as long whichever way it goes.
        let most = ratios
            .map(|ratio| ratio.ln().abs())
            .fold(f64::MIN_POSITIVE, f64::max);
        let bar_max = column / 2.0 - 8.0;
        html! {
            line.axis x1=(MARGIN) x2=(WIDTH - MARGIN) y1=(px(top)) y2=(px(top)) {}
            text.head x=(MARGIN) y=(px(top + 36.0)) { "Ours ÷ theirs" }
            text.small.dim x=(MARGIN) y=(px(top + 55.0)) { "the same work, one after the other;" }
            text.small.dim x=(MARGIN) y=(px(top + 55.0 + LINE)) { "latency the other way round" }
            @for (store, name) in self.stores.iter().enumerate() {
                @for (number, words) in in_lines(name).iter().enumerate() {
                    @let class = if number == 0 { "small middle strong" } else { "small middle dim" };
                    text class=(class) x=(px(middle(store))) y=(px(top + 32.0 + LINE * number as f64)) { (words) }
                }
            }
            @for (place, (work, ratios)) in self.works.iter().enumerate() {
                @let y = top + HEAD + ROW * (place as f64 + 0.5);
                line.row x1=(MARGIN) x2=(WIDTH - MARGIN) y1=(px(y - ROW / 2.0)) y2=(px(y - ROW / 2.0)) {}
                text x=(MARGIN) y=(px(y + 4.5)) { (work) }
                @for (store, ratio) in ratios.iter().enumerate() {
                    @if let Some(ratio) = ratio {
                        @let (x, bar) = (middle(store), bar_max * ratio.ln() / most);
                        @let class = if *ratio >= 1.0 { "better" } else { "worse" };
                        text.strong.middle.numbers x=(px(x)) y=(px(y)) { "× " (times(*ratio)) }
                        rect class=(class) x=(px(x + bar.min(0.0))) y=(px(y + 7.0)) width=(px(bar.abs())) height="4" rx="2" {}
                        line.even x1=(px(x)) x2=(px(x)) y1=(px(y + 4.0)) y2=(px(y + 14.0)) {}
                    }
                }
            }
        }
    }
}

/// A store's name in lines: the store itself, then how it was set up.
fn in_lines(name: &str) -> Vec<&str> {
    let end = name.find([',', ' ']).unwrap_or(name.len());
    let (store, setup) = name.split_at(end);
    let setup = setup.trim_start_matches([',', ' ']);
    [store]
        .into_iter()
        .chain(setup.split(", "))
        .filter(|line| !line.is_empty())
        .collect()
}

/// A ratio, short: 0.42, 3.1, 27, 1.2k.
fn times(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 0.995 => format!("{ratio:.2}"),
        ratio if ratio < 9.95 => format!("{ratio:.1}"),
        ratio => short(ratio.round()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_and_names_are_short() {
        let said = [0.421, 0.999, 3.11, 9.96, 1_234.0].map(times);
        assert_eq!(said, ["0.42", "1.0", "3.1", "10", "1.23k"]);
        let name = in_lines("PostgreSQL, one machine, no replication");
        assert_eq!(name, ["PostgreSQL", "one machine", "no replication"]);
        assert_eq!(
            in_lines("Redis in memory, not durable"),
            ["Redis", "in memory", "not durable"]
        );
        assert_eq!(in_lines("etcd"), ["etcd"]);
    }
}
