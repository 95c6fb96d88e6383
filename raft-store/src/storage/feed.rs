//! The watch feed: what applied entries did, in order, resumable, in memory.
//!
//! Events are an outcome of apply. The feed keeps the newest of them, bounded by count and bytes, without
//! what can be looked up in the state; every entry's are stored once and shared by all who read. A reader
//! holds a [`Cursor`], a place in the log, and pulls; nothing is queued per reader, so a slow one costs
//! nothing and delays nobody. When the history it still needs is gone, it hears [`Compacted`] with the first
//! index there is.
//!
//! Invariants: from `first_index` on, the history is complete; entries are stored in log order, each
//! once. After a restart the history begins behind the state that was loaded, and the replayed log
//! fills it again; a state installed from a peer's snapshot begins it anew.
//!
//! Left out: durability. A reader that must not lose anything resumes by its own cursor, and on
//! [`Compacted`] reads the state and goes on from there.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use inventory_machine::{Machine, event::EntryEvents, reply::Event};
use tokio::sync::watch;

/// Most events kept, whatever their size: half a million holds expiring at once still fit.
pub const FEED_EVENTS_MAX: usize = 1 << 19;

/// Most bytes of events kept: what as many events take when every one has an entry of its own.
pub const FEED_BYTES_MAX: usize = 96 << 20;

/// Most entries handed out by one pull: keeps the time the feed's lock is held to microseconds.
pub const PULL_ENTRIES_MAX: usize = 256;

/// The bounds of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedLimits {
    /// Most events kept.
    pub events_max: usize,
    /// Most bytes of events kept.
    pub bytes_max: usize,
}

impl Default for FeedLimits {
    fn default() -> Self {
        FeedLimits {
            events_max: FEED_EVENTS_MAX,
            bytes_max: FEED_BYTES_MAX,
        }
    }
}

/// The history that was asked for is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the feed begins at log index {first_index}")]
pub struct Compacted {
    /// First log index from which history is complete.
    pub first_index: u64,
}

/// Events of one entry, from some place on.
#[derive(Clone, Debug)]
pub struct FeedChunk {
    entry: Arc<EntryEvents>,
    skip: usize,
}

impl FeedChunk {
    /// The events, in order, as they were when they happened; there is at least one. The state must have
    /// applied the entry, as that beside the feed has.
    pub fn events<'a>(&'a self, machine: &'a Machine) -> impl ExactSizeIterator<Item = Event> + 'a {
        machine.events(&self.entry, self.skip)
    }

    /// Where they stand: log index and ordinal of each.
    pub fn places(&self) -> impl ExactSizeIterator<Item = (u64, u32)> + '_ {
        (self.skip..self.entry.kept.len()).map(|ordinal| (self.entry.log_index, ordinal as u32))
    }
}

/// The feed. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    inner: Arc<Inner>,
}

struct Inner {
    limits: FeedLimits,
    history: Mutex<History>,
    /// Changes whenever there is something new to look at.
    moved: watch::Sender<()>,
}

struct History {
    entries: VecDeque<Arc<EntryEvents>>,
    /// From here on nothing is missing.
    first_index: u64,
    /// The entry that comes next.
    next_index: u64,
    events: usize,
    bytes: usize,
}

impl Feed {
    /// A feed whose history begins behind the entry `applied_index`.
    pub fn new(applied_index: u64, limits: FeedLimits) -> Feed {
        let next_index = applied_index + 1;
        let history = Mutex::new(History {
            entries: VecDeque::new(),
            first_index: next_index,
            next_index,
            events: 0,
            bytes: 0,
        });
        Feed {
            inner: Arc::new(Inner {
                limits,
                history,
                moved: watch::Sender::new(()),
            }),
        }
    }

    /// Takes what the entries after the last ones did; entries without events only move the end.
    ///
    /// # Panics
    /// When an entry is out of order.
    pub(crate) fn push(&self, applied: impl IntoIterator<Item = EntryEvents>) {
        let mut history = self.lock();
        for entry in applied {
            let log_index = entry.log_index;
            assert!(
                log_index >= history.next_index,
                "the feed takes entry {log_index} out of order"
            );
            history.next_index = log_index + 1;
            if !entry.kept.is_empty() {
                history.events += entry.kept.len();
                history.bytes += bytes_of(&entry);
                history.entries.push_back(Arc::new(entry));
            }
        }
        // The newest entry stays whatever its size: somebody must be able to read it.
        while history.entries.len() > 1
            && (history.events > self.inner.limits.events_max || history.bytes > self.inner.limits.bytes_max)
        {
            history.forget_first();
        }
        drop(history);
        self.inner.moved.send_replace(());
    }

    /// Starts over behind `applied_index`: the state came from elsewhere, and nobody knows what
    /// happened on the way.
    pub(crate) fn restart(&self, applied_index: u64) {
        let mut history = self.lock();
        history.entries.clear();
        history.events = 0;
        history.bytes = 0;
        history.first_index = applied_index + 1;
        history.next_index = applied_index + 1;
        drop(history);
        self.inner.moved.send_replace(());
    }

    /// First log index from which history is complete.
    pub fn first_index(&self) -> u64 {
        self.lock().first_index
    }

    /// Log index of the entry that comes next: subscribe from here to see only what is new.
    pub fn next_index(&self) -> u64 {
        self.lock().next_index
    }

    /// A cursor at the event `from_ordinal` of the entry `from_index`; later than the end means
    /// waiting for it. Index zero means the first entry.
    ///
    /// # Errors
    /// [`Compacted`] when history does not reach back that far.
    pub fn subscribe(&self, from_index: u64, from_ordinal: u32) -> Result<Cursor, Compacted> {
        // Entry zero is raft's own first membership; the machine's events begin with entry one.
        let (next_index, next_ordinal) = if from_index == 0 {
            (1, 0)
        } else {
            (from_index, from_ordinal)
        };
        let first_index = self.first_index();
        if next_index < first_index {
            return Err(Compacted { first_index });
        }
        Ok(Cursor {
            feed: self.clone(),
            moved: self.inner.moved.subscribe(),
            next_index,
            next_ordinal,
        })
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        // A panic under this lock can only be the assertion on order, which leaves the history whole.
        self.inner.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn forget_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.events -= entry.kept.len();
            self.bytes -= bytes_of(&entry);
            self.first_index = entry.log_index + 1;
        }
    }
}

/// What an entry's events take in memory, with what keeps them.
fn bytes_of(entry: &EntryEvents) -> usize {
    // The two counters of an `Arc` go with the entry.
    size_of_val(&*entry.kept)
        + size_of::<EntryEvents>()
        + 2 * size_of::<usize>()
        + size_of::<Arc<EntryEvents>>()
}

/// A reader's place in the feed.
pub struct Cursor {
    feed: Feed,
    moved: watch::Receiver<()>,
    next_index: u64,
    next_ordinal: u32,
}

impl Cursor {
    /// The entry and the event in it that come next: what to [`Feed::subscribe`] with to go on
    /// exactly here.
    pub fn position(&self) -> (u64, u32) {
        (self.next_index, self.next_ordinal)
    }

    /// What has happened since, in order, at most [`PULL_ENTRIES_MAX`] entries; waits until there is
    /// something. May be dropped while it waits without losing anything.
    ///
    /// # Errors
    /// [`Compacted`] when the cursor has fallen out of history.
    pub async fn next(&mut self) -> Result<Vec<FeedChunk>, Compacted> {
        loop {
            // Marked before looking, so that what comes after the look ends the wait.
            self.moved.mark_unchanged();
            let chunks = self.pull()?;
            if !chunks.is_empty() {
                return Ok(chunks);
            }
            // The sender lives in the feed this cursor holds, so waiting cannot fail.
            let _ = self.moved.changed().await;
        }
    }

    /// What there is now, without waiting; empty when there is nothing new.
    ///
    /// # Errors
    /// [`Compacted`] when the cursor has fallen out of history.
    pub fn pull(&mut self) -> Result<Vec<FeedChunk>, Compacted> {
        let history = self.feed.lock();
        if self.next_index < history.first_index {
            return Err(Compacted {
                first_index: history.first_index,
            });
        }
        let start = history
            .entries
            .partition_point(|entry| entry.log_index < self.next_index);
        let mut chunks = Vec::new();
        for entry in history.entries.range(start..) {
            if chunks.len() == PULL_ENTRIES_MAX {
                return Ok(chunks);
            }
            let skip = if entry.log_index == self.next_index {
                self.next_ordinal as usize
            } else {
                0
            };
            if skip < entry.kept.len() {
                chunks.push(FeedChunk {
                    entry: entry.clone(),
                    skip,
                });
            }
            self.next_index = entry.log_index + 1;
            self.next_ordinal = 0;
        }
        // Everything there is has been seen, also entries without events: a reader of a quiet feed
        // does not fall behind.
        if history.next_index > self.next_index {
            self.next_index = history.next_index;
            self.next_ordinal = 0;
        }
        Ok(chunks)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use inventory_machine::event::{Change, Kept};

    use super::*;

    fn events(log_index: u64, count: u32) -> EntryEvents {
        let kept = |command| Kept {
            change: Change::SaleOpened,
            sale_number: 1,
            command,
        };
        EntryEvents {
            log_index,
            log_time_ms: log_index,
            kept: (0..count).map(kept).collect(),
        }
    }

    fn seen(chunks: &[FeedChunk]) -> Vec<(u64, u32)> {
        chunks.iter().flat_map(FeedChunk::places).collect()
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime")
            .block_on(future)
    }

    #[test]
    fn a_cursor_sees_every_event_once_and_in_order() {
        let feed = Feed::new(0, FeedLimits::default());
        let mut cursor = feed.subscribe(0, 0).expect("history from the start");
        feed.push([events(1, 2), events(2, 0), events(3, 1)]);
        assert_eq!(seen(&cursor.pull().unwrap()), [(1, 0), (1, 1), (3, 0)]);
        assert_eq!(seen(&cursor.pull().unwrap()), []);
        feed.push([events(4, 0)]);
        assert_eq!(seen(&cursor.pull().unwrap()), []);
        assert_eq!(cursor.position(), (5, 0));
        feed.push([events(5, 1)]);
        assert_eq!(seen(&cursor.pull().unwrap()), [(5, 0)]);
    }

    #[test]
    fn a_cursor_resumes_inside_an_entry() {
        let feed = Feed::new(0, FeedLimits::default());
        feed.push([events(1, 3), events(2, 1)]);
        assert_eq!(
            seen(&feed.subscribe(1, 2).unwrap().pull().unwrap()),
            [(1, 2), (2, 0)]
        );
        assert_eq!(seen(&feed.subscribe(1, 3).unwrap().pull().unwrap()), [(2, 0)]);
        assert_eq!(
            seen(&feed.subscribe(1, u32::MAX).unwrap().pull().unwrap()),
            [(2, 0)]
        );
        let mut ahead = feed.subscribe(9, 1).unwrap();
        feed.push([events(3, 1), events(9, 2), events(10, 1)]);
        assert_eq!(seen(&ahead.pull().unwrap()), [(9, 1), (10, 0)]);
    }

    #[test]
    fn pulls_are_bounded_and_go_on_where_they_stopped() {
        let feed = Feed::new(0, FeedLimits::default());
        let count = PULL_ENTRIES_MAX as u64 * 2 + 7;
        feed.push((1..=count).map(|index| events(index, 1)));
        let mut cursor = feed.subscribe(1, 0).unwrap();
        let mut all = Vec::new();
        loop {
            let chunks = cursor.pull().unwrap();
            assert!(chunks.len() <= PULL_ENTRIES_MAX);
            if chunks.is_empty() {
                break;
            }
            all.extend(seen(&chunks));
        }
        assert_eq!(all, (1..=count).map(|index| (index, 0)).collect::<Vec<_>>());
    }

    #[test]
    fn slow_readers_fall_out_and_are_told_where_history_begins() {
        let feed = Feed::new(
            0,
            FeedLimits {
                events_max: 4,
                bytes_max: usize::MAX,
            },
        );
        let mut slow = feed.subscribe(1, 0).unwrap();
        feed.push([events(1, 2), events(2, 2), events(3, 0), events(4, 1)]);
        assert_eq!(slow.pull().unwrap_err(), Compacted { first_index: 2 });
        assert_eq!(feed.subscribe(1, 0).err(), Some(Compacted { first_index: 2 }));
        assert_eq!(
            seen(&feed.subscribe(2, 0).unwrap().pull().unwrap()),
            [(2, 0), (2, 1), (4, 0)]
        );
        // One entry larger than the whole feed is still readable.
        feed.push([events(5, 9)]);
        assert_eq!(feed.first_index(), 5);
        assert_eq!(seen(&feed.subscribe(5, 8).unwrap().pull().unwrap()), [(5, 8)]);
    }

    #[test]
    fn bytes_bound_the_feed_too() {
        let one = events(1, 8);
        let feed = Feed::new(
            0,
            FeedLimits {
                events_max: usize::MAX,
                bytes_max: 3 * bytes_of(&one),
            },
        );
        feed.push((1..=10).map(|index| events(index, 8)));
        assert_eq!(feed.first_index(), 8);
    }

    #[test]
    fn a_restart_compacts_everyone_who_was_behind() {
        let feed = Feed::new(10, FeedLimits::default());
        assert_eq!(feed.subscribe(0, 0).err(), Some(Compacted { first_index: 11 }));
        let mut behind = feed.subscribe(11, 0).unwrap();
        let mut ahead = feed.subscribe(51, 0).unwrap();
        feed.push([events(11, 1)]);
        feed.restart(50);
        assert_eq!(behind.pull().unwrap_err(), Compacted { first_index: 51 });
        feed.push([events(51, 1)]);
        assert_eq!(seen(&ahead.pull().unwrap()), [(51, 0)]);
    }

    #[test]
    fn a_waiting_cursor_wakes_for_what_comes() {
        let feed = Feed::new(0, FeedLimits::default());
        let mut cursor = feed.subscribe(1, 0).unwrap();
        block_on(async {
            let waiting = tokio::spawn(async move { cursor.next().await.map(|chunks| seen(&chunks)) });
            tokio::task::yield_now().await;
            feed.push([events(1, 0)]);
            tokio::task::yield_now().await;
            feed.push([events(2, 1)]);
            assert_eq!(waiting.await.expect("reader"), Ok(vec![(2, 0)]));
        });
    }

    #[test]
    #[should_panic(expected = "out of order")]
    fn entries_out_of_order_are_our_own_mistake() {
        let feed = Feed::new(5, FeedLimits::default());
        feed.push([events(5, 1)]);
    }
}
