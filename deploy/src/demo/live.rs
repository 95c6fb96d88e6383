//! The live line: what the sale looks like while it runs. A bar and two lines that fit the terminal, from 60
//! columns on; plain lines elsewhere. Shown, never judged: the verdict has its own sources.

use std::{
    io::IsTerminal,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use client::{Client, Consistency};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::shoppers::Tally;
use crate::{
    commands::cluster::leader_view,
    output::{grouped, leave_standing},
};

/// How often the bar is drawn: smooth, and little work.
const DRAW: Duration = Duration::from_millis(100);
/// How often a plain line is printed where no bar can be.
const PLAIN: Duration = Duration::from_secs(2);
/// How often counters and leader are read.
const READ: Duration = Duration::from_millis(250);
/// Claims per second are over this span.
const RATE: Duration = Duration::from_secs(1);

/// A sale that did not end leaves its last line to be read.
impl Drop for Live {
    fn drop(&mut self) {
        leave_standing(&self.bar);
    }
}

/// What is shown.
#[derive(Clone, Default)]
struct Pulse {
    available: u32,
    held: u32,
    sold: u32,
    leader: Option<u64>,
    per_entry: f64,
}

/// The line, and the place where everything else is said meanwhile.
pub struct Live {
    bar: ProgressBar,
    terminal: bool,
    units: u32,
    sale_id: String,
    pulse: Arc<Mutex<Pulse>>,
}

impl Live {
    /// A line for a sale of so many units; not shown before [`Live::run`].
    pub fn new(sale_id: &str, units: u32) -> Live {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(units.into()), ProgressDrawTarget::hidden()).with_style(
            ProgressStyle::with_template("  sold {wide_bar:.green/dim} {prefix}\n  {wide_msg}")
                .expect("the template is a constant")
                .progress_chars("━━─"),
        );
        Live {
            bar,
            terminal,
            units,
            sale_id: sale_id.into(),
            pulse: Arc::new(Mutex::new(Pulse {
                available: units,
                ..Pulse::default()
            })),
        }
    }

    /// Says a line on stdout, above the bar.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }

    /// Draws until dropped.
    pub async fn run(&self, client: &Client, tally: &Tally) {
        if self.terminal {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        tokio::join!(self.read_sale(client), self.read_leader(client), self.draw(tally));
    }

    /// Takes the line away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }

    async fn read_sale(&self, client: &Client) {
        let mut tick = ticks(READ);
        loop {
            tick.tick().await;
            // A failed read leaves the last one standing: this is only a picture.
            if let Ok((sale, _)) = client.get_sale(&self.sale_id, Consistency::Local).await {
                let mut pulse = self.pulse.lock().expect("nobody panics while holding it");
                (pulse.available, pulse.held, pulse.sold) =
                    (sale.units_available, sale.units_held, sale.units_confirmed);
            }
        }
    }

    async fn read_leader(&self, client: &Client) {
        let mut tick = ticks(READ);
        loop {
            tick.tick().await;
            let views = client.cluster().status_all().await;
            let leader = leader_view(&views);
            let mut pulse = self.pulse.lock().expect("nobody panics while holding it");
            pulse.leader = leader.map(|status| status.node_id);
            if let Some(status) = leader.filter(|status| status.commands_per_entry > 0.0) {
                pulse.per_entry = status.commands_per_entry;
            }
        }
    }

    async fn draw(&self, tally: &Tally) {
        let mut tick = ticks(if self.terminal { DRAW } else { PLAIN });
        let (mut since, mut counted, mut rate) = (Instant::now(), 0, 0.0);
        // The first tick comes at once, when there is nothing to show.
        tick.tick().await;
        loop {
            tick.tick().await;
            let answered = tally.answered.load(Ordering::Relaxed);
            if since.elapsed() >= RATE {
                rate = (answered - counted) as f64 / since.elapsed().as_secs_f64();
                (since, counted) = (Instant::now(), answered);
            }
            let pulse = self.pulse.lock().expect("nobody panics while holding it").clone();
            let (counts, speed) = (pulse.counts(self.units), pulse.speed(rate, tally.latency_ms()));
            if self.terminal {
                self.bar.set_position(pulse.sold.into());
                self.bar.set_prefix(counts);
                self.bar.set_message(speed);
            } else {
                println!("  sold {counts} | {speed}");
            }
        }
    }
}

impl Pulse {
    fn counts(&self, units: u32) -> String {
        let [sold, units, held, available] =
            [self.sold, units, self.held, self.available].map(|count| grouped(count.into()));
        format!("{sold}/{units}  held {held}  available {available}")
    }

    /// Most telling first: a narrow terminal cuts the end.
    fn speed(&self, rate: f64, (p50, p99): (f64, f64)) -> String {
        let leader = self
            .leader
            .map_or("nobody leads".into(), |id| format!("node {id} leads"));
        let mut speed = format!(
            "{} claims/s, {leader}, p50 {p50:.1} ms, p99 {p99:.0} ms",
            grouped(rate as u64),
        );
        if self.per_entry > 0.0 {
            speed += &format!(", {:.0}/entry", self.per_entry);
        }
        speed
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lines_fit_narrow_terminals() {
        let pulse = Pulse {
            available: 1_000,
            held: 1_000,
            sold: 1_000,
            leader: Some(5),
            per_entry: 512.0,
        };
        let bar_min = "  sold ".len() + 8 + 1;
        assert!(
            bar_min + pulse.counts(1_000).len() <= 60,
            "{}",
            pulse.counts(1_000)
        );
        let speed = pulse.speed(123_456.0, (1_234.5, 12_345.0));
        assert!(2 + speed.len() <= 80, "{speed}");
        assert_eq!(
            pulse.speed(1_500.0, (1.25, 40.0)),
            "1,500 claims/s, node 5 leads, p50 1.2 ms, p99 40 ms, 512/entry"
        );
    }
}
