//! When callers were answered, for watchers who hear of the same claims.

use std::{
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::load::WARM_UP;

/// Where callers write down by rank when they were answered, and watchers look.
pub(super) struct Board {
    began: Instant,
    /// In µs since, by rank less one; zero: nobody was yet.
    answered_us: Vec<AtomicU64>,
    length: Duration,
    window: OnceLock<Range<Instant>>,
}

impl Board {
    /// With room for so many claims, and a window of this length that is not open yet.
    pub fn new(claims_max: u32, length: Duration) -> Board {
        Board {
            began: Instant::now(),
            answered_us: (0..claims_max).map(|_| AtomicU64::new(0)).collect(),
            length,
            window: OnceLock::new(),
        }
    }

    /// Lets the window begin when callers that begin now have warmed up.
    ///
    /// # Panics
    /// When it is open.
    pub fn open_window(&self) {
        let begin = Instant::now() + WARM_UP;
        let opened = self.window.set(begin..begin + self.length);
        opened.expect("a window is opened once");
    }

    /// The window, once it is known.
    pub fn window(&self) -> Option<&Range<Instant>> {
        self.window.get()
    }

    /// Its length.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Notes that the caller with this rank was answered now.
    pub fn answered(&self, rank: u32) {
        let since_us = self.began.elapsed().as_micros() as u64;
        self.answered_us[place_of(rank)].store(since_us.max(1), Ordering::Release);
    }

    /// When that was; `None` while he is not.
    pub fn answered_at(&self, rank: u32) -> Option<Instant> {
        match self.answered_us[place_of(rank)].load(Ordering::Acquire) {
            0 => None,
            us => Some(self.began + Duration::from_micros(us)),
        }
    }
}

/// Ranks are counted from one.
fn place_of(rank: u32) -> usize {
    (rank - 1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_found_by_its_rank_once_there_is_one() {
        let board = Board::new(2, Duration::from_secs(4));
        tokio::time::advance(Duration::from_millis(7)).await;
        board.answered(2);
        tokio::time::advance(Duration::from_millis(5)).await;
        let ago = board.answered_at(2).map(|at| at.elapsed());
        assert_eq!(
            (board.answered_at(1), ago),
            (None, Some(Duration::from_millis(5)))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_window_begins_when_callers_have_warmed_up() {
        let board = Board::new(1, Duration::from_secs(4));
        assert_eq!(board.window(), None);
        let now = Instant::now();
        board.open_window();
        let window = now + WARM_UP..now + WARM_UP + Duration::from_secs(4);
        assert_eq!(board.window(), Some(&window));
    }
}
