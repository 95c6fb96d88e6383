//! Watch: one sale's changes heard by 1, 100 and 1,000 watchers while single callers claim, at a pace and as fast as
//! they can.
//!
//! At the pace, the figure is how late a grant is heard; at full rate, how many events all watchers together hear in a
//! second, and what is left of the callers' own rate. Late is counted from when the caller had his answer: watchers and
//! callers are tasks of this one process, so one clock says both. What is heard before its caller is answered is not
//! late at all. Whatever was answered in the window counts, however long behind it the last watcher hears of it.
//!
//! Watchers share clients, so that no connection carries all of them, and a client opens each next watch at the next
//! node: the nodes share them evenly. All are connected before the window, since every one has heard of a first claim
//! by then. Afterwards the sale is paused: between the first claim and that, every watcher has heard of every grant
//! once and in order, as many as the replicas have.
//!
//! Left out: watchers of many sales, and ones so slow that the nodes' history is gone before they ask for it. Should a
//! full load drive watchers that far behind, their watches end, and the run fails.

mod board;
mod history;
mod watchers;

use std::{sync::Arc, time::Duration};

use client::{Client, Consistency, Cursor};
use tokio::time::sleep;

use self::{
    board::Board,
    watchers::{Watched, Watchers},
};
use super::{Bench, callers::count_claim, claims::SINGLE_CALLERS, nothing_but};
use crate::{
    failure::{Doing, Failure},
    load::{Caller, Tally, drive},
    names::CallerNames,
    report::{Figure, id},
};

/// Claims that there is room for, per second of the window: several times what as many callers have reached.
const CLAIMS_PER_SECOND_MAX: u32 = 400_000;

/// Pause of the one who claims at a pace: some 90 claims a second, which a thousand watchers hear without falling
/// behind.
const PACE: Duration = Duration::from_millis(10);

/// How claims are made meanwhile, and what is made of it.
#[derive(Clone, Copy, Debug)]
enum Load {
    /// By one caller with a pause: how late an event is.
    Paced { late: &'static str },
    /// By as many callers as elsewhere: how many events are heard in a second, and claims made.
    Full {
        events: &'static str,
        claims: &'static str,
    },
}

/// Watchers, and the load that they hear of.
const WORKS: [(usize, Load); 6] = [
    (1, paced(id::WATCH_LATE_1)),
    (100, paced(id::WATCH_LATE_100)),
    (1_000, paced(id::WATCH_LATE_1000)),
    (1, full(id::WATCH_EVENTS_1, id::WATCH_CLAIMS_1)),
    (100, full(id::WATCH_EVENTS_100, id::WATCH_CLAIMS_100)),
    (1_000, full(id::WATCH_EVENTS_1000, id::WATCH_CLAIMS_1000)),
];

const fn paced(late: &'static str) -> Load {
    Load::Paced { late }
}

const fn full(events: &'static str, claims: &'static str) -> Load {
    Load::Full { events, claims }
}

impl Load {
    /// Its figures.
    fn figures(self) -> Vec<&'static str> {
        match self {
            Load::Paced { late } => vec![late],
            Load::Full { events, claims } => vec![events, claims],
        }
    }

    /// The sale that it is about.
    fn sale_id(self) -> &'static str {
        match self {
            Load::Paced { late: id } | Load::Full { events: id, .. } => id,
        }
    }

    /// The pauses of its callers.
    fn pauses(self) -> Vec<Duration> {
        match self {
            Load::Paced { .. } => vec![PACE],
            Load::Full { .. } => vec![Duration::ZERO; SINGLE_CALLERS],
        }
    }
}

/// All figures.
pub(super) fn figures() -> Vec<&'static str> {
    WORKS.iter().flat_map(|(_, load)| load.figures()).collect()
}

pub(super) async fn measure(bench: &mut Bench<'_>) -> Result<(), Failure> {
    for (watchers, load) in WORKS {
        if load.figures().into_iter().any(|id| bench.wants(id)) {
            fan_out(bench, watchers, load).await?;
        }
    }
    Ok(())
}

/// Lets so many watch a sale of its own while others claim in it.
async fn fan_out(bench: &mut Bench<'_>, watchers: usize, load: Load) -> Result<(), Failure> {
    let sale_id = load.sale_id();
    let claims_max = CLAIMS_PER_SECOND_MAX * (bench.window.as_secs() as u32 + 1);
    bench.cluster.create_sale(sale_id, claims_max).await?;
    let client = bench.cluster.client().clone();
    let sale = client.get_sale(sale_id, Consistency::Linearizable).await;
    let (sale, _) = sale.doing("reading the sale to watch")?;
    // Behind what made the sale, so that grants are all there is to hear.
    let from = Cursor {
        log_index: sale.changed_index + 1,
        ordinal: 0,
    };
    let board = Arc::new(Board::new(claims_max, bench.window));
    let mut watching = Watchers::start(&bench.cluster, sale_id, from, watchers, &board)?;
    let names = bench.names();
    let caller = |number: usize, pause: Duration| Claims {
        client: client.clone(),
        sale_id,
        names: names.of_caller(number),
        pause,
        board: board.clone(),
    };
    let pauses = load.pauses();
    let mut told = caller(pauses.len(), Duration::ZERO).claim().await;
    told.all_answered("claiming first")?;
    watching.all_have_heard().await?;

    bench.cluster.settled().await?;
    let before = bench.processor_times()?;
    board.open_window();
    let callers = pauses.into_iter().enumerate();
    let callers = callers.map(|(number, pause)| caller(number, pause)).collect();
    let (claimed, tally) = drive(bench.window, callers).await?;
    told.add(tally);
    told.all_answered(sale_id)?;
    nothing_but(told.granted, &told, sale_id)?;
    client
        .pause_sale(sale_id)
        .send()
        .await
        .doing("pausing the sale")?;
    let Watched { heard, measured } = watching.ended(told.granted).await?;
    let processor = bench.processor_since(&before, heard)?;
    bench.cluster.check(sale_id, &told).await?;

    match load {
        Load::Paced { late } => bench.run.add(late, measured.figure(measured.latency_ms(0.99))),
        Load::Full { events, claims } => {
            let watched = Figure {
                processor: Some(processor),
                ..measured.figure(measured.rate())
            };
            bench.run.add(events, watched);
            bench.run.add(claims, claimed.figure(claimed.rate()));
        }
    }
    Ok(())
}

/// Claims one at a time, and writes down when it was answered.
struct Claims {
    client: Client,
    sale_id: &'static str,
    names: CallerNames,
    /// After each answer.
    pause: Duration,
    board: Arc<Board>,
}

impl Claims {
    async fn claim(&mut self) -> Tally {
        let mut tally = Tally::default();
        let Some((user, key)) = self.names.next() else {
            return tally;
        };
        let answer = self.client.claim(self.sale_id, user).key(key).send().await;
        if let Ok(claimed) = &answer {
            self.board.answered(claimed.claim.rank);
        }
        count_claim(answer, &mut tally);
        tally
    }
}

impl Caller for Claims {
    async fn call(&mut self) -> Option<Tally> {
        let tally = self.claim().await;
        if !self.pause.is_zero() {
            sleep(self.pause).await;
        }
        Some(tally)
    }
}
