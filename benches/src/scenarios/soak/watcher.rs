//! Who hears of all that happens, from the first call on, and adds it up: what the callers were told must be among it,
//! and what a node's watch feed keeps follows from it.

use std::{
    collections::VecDeque,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use client::{Client, Cursor, Event, EventKind};
use futures::StreamExt;
use inventory_machine::event::{EntryEvents, Kept};
use raft_store::storage::feed::{FEED_BYTES_MAX, FEED_EVENTS_MAX};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{Bench, shoppers::HELD_SALE};
use crate::{failure::Failure, load::Tally};

/// What the feed keeps for an entry beside its events: it, two counters, and the pointer to it.
const ENTRY_BYTES: usize = size_of::<EntryEvents>() + 3 * size_of::<usize>();

/// Pause between two looks at what was heard.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Longest the watcher may be behind.
const BEHIND_MAX: Duration = Duration::from_secs(60);

const DOING: &str = "watching";

/// The watcher, while it watches.
pub(super) struct Watcher {
    heard: Arc<Mutex<Heard>>,
    running: JoinHandle<Failure>,
}

/// What was heard.
#[derive(Default)]
struct Heard {
    /// Of the sale in which claims are made.
    granted: u64,
    confirmed: u64,
    released: u64,
    expired: u64,
    /// Log index of each entry that the feed keeps, and how many events it has; the newest last.
    entries: VecDeque<(u64, usize)>,
    events: usize,
    /// Why it ended, if it has.
    ended: Option<Failure>,
}

impl Watcher {
    /// Fills the feed with so many claims of a sale that is not watched, and begins behind that.
    pub async fn start(
        bench: &mut Bench<'_>,
        sale_id: &str,
        claims: usize,
    ) -> Result<(Watcher, Tally), Failure> {
        let before = bench.cluster.applied_index().await?;
        let told = bench.fill(sale_id, claims).await?;
        let applied = bench.cluster.applied_index().await?;
        let from = Cursor {
            log_index: applied + 1,
            ordinal: 0,
        };
        let heard = Heard::filled(before + 1..=applied, claims as u64);
        let heard = Arc::new(Mutex::new(heard));
        let watcher = Watcher {
            running: tokio::spawn(watch(bench.cluster.another_client()?, from, heard.clone())),
            heard,
        };
        Ok((watcher, told))
    }

    /// Claims heard of so far, of those that callers make.
    pub fn granted(&self) -> u64 {
        self.heard().granted
    }

    /// What a node's feed keeps of what was heard.
    pub fn feed_bytes(&self) -> u64 {
        self.heard().bytes() as u64
    }

    /// Fails when the watch has ended, which it never does by itself.
    pub fn still_watching(&self) -> Result<(), Failure> {
        match &self.heard().ended {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        }
    }

    /// Waits until nothing is held any more, and compares what was heard with what callers were told. Gives how many
    /// claims expired.
    ///
    /// # Errors
    /// Something was not heard of, or heard of twice, or by nobody else.
    pub async fn heard_all(self, told: &Tally, hold: Duration) -> Result<u64, Failure> {
        let deadline = Instant::now() + hold + BEHIND_MAX;
        loop {
            self.still_watching()?;
            let wrong = self.heard().wrong(told);
            match wrong {
                None => break,
                Some(why) if Instant::now() > deadline => return Err(Failure::new(DOING, why)),
                Some(_) => sleep(LOOK_EVERY).await,
            }
        }
        // Whatever is too much would have come with the rest.
        self.running.abort();
        Ok(self.heard().expired)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().expect("nobody panics while adding up")
    }
}

async fn watch(client: Client, from: Cursor, heard: Arc<Mutex<Heard>>) -> Failure {
    let mut updates = client.watch(from, None);
    let why = loop {
        let update = match updates.next().await {
            Some(Ok(update)) => update,
            Some(Err(error)) => break Failure::new(DOING, error.to_string()),
            None => break Failure::new(DOING, "it ended"),
        };
        let mut heard = heard.lock().expect("nobody panics while adding up");
        for event in &update.events {
            heard.add(event);
        }
    };
    heard.lock().expect("nobody panics while adding up").ended = Some(why.clone());
    why
}

impl Heard {
    /// Of nothing but a filling, whose events are spread over its entries evenly.
    fn filled(entries: RangeInclusive<u64>, events: u64) -> Heard {
        let mut heard = Heard::default();
        let count = entries.clone().count() as u64;
        for (number, log_index) in entries.enumerate() {
            let upto = |number: u64| events * number / count;
            for _ in upto(number as u64)..upto(number as u64 + 1) {
                heard.keep(log_index);
            }
        }
        heard
    }

    fn add(&mut self, event: &Event) {
        if event.sale_id == HELD_SALE {
            match event.kind {
                EventKind::ClaimGranted => self.granted += 1,
                EventKind::ClaimConfirmed => self.confirmed += 1,
                EventKind::ClaimReleased => self.released += 1,
                EventKind::ClaimExpired => self.expired += 1,
                _ => {}
            }
        }
        self.keep(event.log_index);
    }

    /// Keeps an event as the feed does: the oldest entry goes when there is too much of them.
    fn keep(&mut self, log_index: u64) {
        match self.entries.back_mut() {
            Some((newest, events)) if *newest == log_index => *events += 1,
            _ => self.entries.push_back((log_index, 1)),
        }
        self.events += 1;
        while self.entries.len() > 1 && (self.events > FEED_EVENTS_MAX || self.bytes() > FEED_BYTES_MAX) {
            let (_, events) = self.entries.pop_front().unwrap_or_default();
            self.events -= events;
        }
    }

    fn bytes(&self) -> usize {
        self.events * size_of::<Kept>() + self.entries.len() * ENTRY_BYTES
    }

    /// What is wrong with it when callers were told this, and no claim is held any more.
    fn wrong(&self, told: &Tally) -> Option<String> {
        let expired = told.granted.checked_sub(told.confirmed + told.released);
        let heard = [self.granted, self.confirmed, self.released, self.expired];
        let wanted = [
            told.granted,
            told.confirmed,
            told.released,
            expired.unwrap_or_default(),
        ];
        (heard != wanted).then(|| {
            format!("heard of {heard:?} claims granted, confirmed, released and expired; callers make that {wanted:?}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callers_were_told_is_heard_once_and_the_rest_expired() {
        let told = Tally {
            granted: 10,
            confirmed: 4,
            released: 3,
            ..Tally::default()
        };
        let heard = |granted, expired| Heard {
            granted,
            confirmed: 4,
            released: 3,
            expired,
            ..Heard::default()
        };
        assert_eq!(heard(10, 3).wrong(&told), None);
        for (granted, expired) in [(9, 3), (11, 3), (10, 2), (10, 4)] {
            assert!(heard(granted, expired).wrong(&told).is_some());
        }
    }

    #[test]
    fn the_feed_keeps_the_newest_events_by_whole_entries() {
        let mut heard = Heard::default();
        for log_index in 0..FEED_EVENTS_MAX as u64 / 2 {
            heard.keep(log_index);
            heard.keep(log_index);
        }
        let full = heard.bytes();
        assert_eq!(
            (heard.events, heard.entries.len()),
            (FEED_EVENTS_MAX, FEED_EVENTS_MAX / 2)
        );
        let filled = Heard::filled(0..=FEED_EVENTS_MAX as u64 - 1, 2 * FEED_EVENTS_MAX as u64);
        assert_eq!((filled.events, filled.bytes()), (heard.events, full));
        heard.keep(u64::MAX);
        assert_eq!(
            heard.events,
            FEED_EVENTS_MAX - 1,
            "the oldest goes with both of its events"
        );
        assert!(heard.bytes() < full);
    }
}
