//! Those who watch: what each of them must hear, and what they heard together.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use client::{Cursor, Error, Update};
use futures::{StreamExt, stream::BoxStream};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{board::Board, history::History};
use crate::{
    cluster::Cluster,
    failure::{Doing, Failure},
    load::Measured,
    report::TICK,
};

/// Watchers that share a client, and with it a connection to each node: far fewer than a connection has streams.
const WATCHERS_PER_CLIENT: usize = 64;

/// Longest a watcher may take to hear of the first claim, or of the last when that is made: a thousand watchers behind
/// a full load have tens of millions of events to hear.
const HEAR_MAX: Duration = Duration::from_secs(300);

const WATCHING: &str = "watching a sale";

/// Watchers at work.
pub(super) struct Watchers {
    count: usize,
    /// Has a word from each of them who has heard of a claim.
    first_heard: mpsc::UnboundedReceiver<()>,
    running: JoinSet<Result<u64, Failure>>,
    /// What those of each client heard.
    measured: Vec<Arc<Mutex<Measured>>>,
}

/// What all of them heard.
pub(super) struct Watched {
    /// Events, from the first to the last.
    pub heard: u64,
    /// Those heard in the window; and how late those of claims were that were answered in it.
    pub measured: Measured,
}

impl Watchers {
    /// Lets so many watch a sale from there on.
    ///
    /// # Errors
    /// None that a running cluster gives.
    pub fn start(
        cluster: &Cluster,
        sale_id: &str,
        from: Cursor,
        count: usize,
        board: &Arc<Board>,
    ) -> Result<Watchers, Failure> {
        let (first, first_heard) = mpsc::unbounded_channel();
        let mut watchers = Watchers {
            count,
            first_heard,
            running: JoinSet::new(),
            measured: Vec::new(),
        };
        for begin in (0..count).step_by(WATCHERS_PER_CLIENT) {
            let client = cluster.another_client()?;
            let measured = Arc::new(Mutex::new(Measured::new(board.length())));
            for _ in begin..count.min(begin + WATCHERS_PER_CLIENT) {
                let watcher = Watcher {
                    updates: client.watch(from, Some(sale_id)),
                    history: History::default(),
                    board: board.clone(),
                    measured: measured.clone(),
                };
                watchers.running.spawn(watcher.listen(first.clone()));
            }
            watchers.measured.push(measured);
        }
        Ok(watchers)
    }

    /// Waits until every one has heard of a claim.
    ///
    /// # Errors
    /// One has not, or has heard something else.
    pub async fn all_have_heard(&mut self) -> Result<(), Failure> {
        for heard in 0..self.count {
            tokio::select! {
                Some(()) = self.first_heard.recv() => {}
                Some(ended) = self.running.join_next() => {
                    ended.doing(WATCHING)??;
                    return Err(Failure::new(WATCHING, "the sale was paused before its first claim"));
                }
                () = tokio::time::sleep(HEAR_MAX) => {
                    let why = format!("{heard} of {} heard of a claim in {HEAR_MAX:?}", self.count);
                    return Err(Failure::new(WATCHING, why));
                }
            }
        }
        Ok(())
    }

    /// Waits until every one has heard that the sale is paused, and of so many grants before that.
    ///
    /// # Errors
    /// One has not, or has heard something else.
    pub async fn ended(mut self, granted: u64) -> Result<Watched, Failure> {
        let all = async {
            let mut heard = 0;
            while let Some(ended) = self.running.join_next().await {
                let grants = ended.doing(WATCHING)??;
                if grants != granted {
                    let why = format!("a watcher heard of {grants} grants, but {granted} were made");
                    return Err(Failure::new(WATCHING, why));
                }
                heard += grants;
            }
            Ok(heard)
        };
        let heard = timeout(HEAR_MAX, all)
            .await
            .doing("waiting until all is heard")??;
        let mut measured = self.measured[0].lock().expect(NOT_POISONED).clone();
        for part in &self.measured[1..] {
            measured.add(&part.lock().expect(NOT_POISONED));
        }
        Ok(Watched { heard, measured })
    }
}

const NOT_POISONED: &str = "nobody panics while counting";

/// One who watches.
struct Watcher {
    updates: BoxStream<'static, Result<Update, Error>>,
    history: History,
    board: Arc<Board>,
    measured: Arc<Mutex<Measured>>,
}

impl Watcher {
    /// Listens until the sale is paused. Gives how many grants he heard of.
    async fn listen(mut self, first: mpsc::UnboundedSender<()>) -> Result<u64, Failure> {
        while let Some(update) = self.updates.next().await {
            let heard_at = Instant::now();
            let known = self.history.grants();
            self.history
                .take(&update.doing(WATCHING)?)
                .map_err(|why| Failure::new(WATCHING, why))?;
            self.count(known, heard_at);
            if known == 0 && self.history.grants() > 0 {
                // Who waits for it is gone only where he has failed, and says why himself.
                first.send(()).ok();
            }
            if self.history.is_over() {
                return Ok(u64::from(self.history.grants()));
            }
        }
        Err(Failure::new(WATCHING, "the watch ended by itself"))
    }

    /// Counts the grants that he has just heard of, those behind the known ones.
    fn count(&self, known: u32, heard_at: Instant) {
        let Some(window) = self.board.window() else {
            return;
        };
        let ranks = known + 1..=self.history.grants();
        let mut measured = self.measured.lock().expect(NOT_POISONED);
        if window.contains(&heard_at) {
            let events = ranks.clone().count() as u64;
            measured.operations += events;
            let tick = (heard_at - window.start).as_millis() / TICK.as_millis();
            // What remains of the window behind the last whole tick is in none.
            if let Some(count) = measured.per_tick.get_mut(tick as usize) {
                *count += events;
            }
        }
        for rank in ranks {
            let answered_at = self.board.answered_at(rank).unwrap_or(heard_at);
            if window.contains(&answered_at) {
                let late = heard_at.saturating_duration_since(answered_at);
                measured.latency_us.saturating_record(late.as_micros() as u64);
            }
        }
    }
}
