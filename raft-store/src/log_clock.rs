//! What time it is in the log.
//!
//! Every batch carries two times, and no single clock decides either:
//! - **log time** is hold time. It advances by the leader's monotonic clock, and only while that leader
//!   hears from a quorum: with nobody in the lead it stands still, so a failover eats no hold time. A new
//!   leader goes on from the newest log time it knows, applied or heard, never below what is applied.
//! - **wall time** is the voters' median, slewed. It opens and closes sales and dates answers. While a
//!   voter is missing, any clock within the bounds that the others allow is kept, so that one wrong clock
//!   among the answering ones moves nothing.
//!
//! This module is arithmetic: the caller says what its monotonic and wall clocks show. Exchanging reports
//! with the peers is the node's business.

use std::{collections::BTreeMap, time::Duration};

use fault_points::planted;

use crate::types::NodeId;

/// How long after a quorum last answered log time still advances. The lease of a leader is about an
/// election timeout; beyond it another one may lead, and two must not both spend hold time.
pub const QUORUM_GRACE: Duration = Duration::from_millis(500);

/// A report older than this says nothing about its sender's clock any more: ten exchanges missed.
pub const REPORT_AGE_MAX: Duration = Duration::from_secs(10);

/// Fastest correction of the agreed wall time, in ms per s of monotonic time: slow enough that a wrong
/// majority shows in the metrics long before a sale opens by it, fast enough to follow any drift.
pub const WALL_SLEW_MS_PER_S: u64 = 100;

/// From this offset on a voter's wall clock is reported as off, in ms.
pub const WALL_OFFSET_REPORTED_MS: i64 = 1_000;

/// The times a batch is stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Hold time, ms.
    pub log_time_ms: u64,
    /// Agreed wall time, ms since the Unix epoch.
    pub wall_time_ms: u64,
}

/// What the local clocks show now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalNow {
    /// Monotonic time since any fixed origin of this process.
    pub monotonic: Duration,
    /// This machine's wall clock, ms since the Unix epoch.
    pub wall_ms: u64,
}

/// Leading: how log time advances.
#[derive(Debug)]
struct Leading {
    term: u64,
    log_time: Duration,
    /// Monotonic time up to which log time has been credited or withheld.
    credited_until: Duration,
}

/// The agreed wall clock as an offset from this process's monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Agreed {
    offset_ms: i64,
    slewed_at: Duration,
    /// Whether the bounds have been known since this term began: the first time it may step.
    stepped: bool,
}

/// One voter's wall clock against this process's monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Report {
    offset_ms: i64,
    heard_at: Duration,
}

/// The log clock of one node.
#[derive(Debug)]
pub struct LogClock {
    node_id: NodeId,
    newest_log_time: Duration,
    newest_wall_ms: u64,
    leading: Option<Leading>,
    agreed: Option<Agreed>,
    reports: BTreeMap<NodeId, Report>,
    voters: Vec<NodeId>,
}

impl LogClock {
    /// The clock of a node that has applied a batch of these times (zero before the first).
    pub fn new(node_id: NodeId, applied: Stamp) -> Self {
        LogClock {
            node_id,
            newest_log_time: Duration::from_millis(applied.log_time_ms),
            newest_wall_ms: applied.wall_time_ms,
            leading: None,
            agreed: None,
            reports: BTreeMap::new(),
            voters: Vec::new(),
        }
    }

    /// Who votes now.
    pub fn set_voters(&mut self, voters: impl IntoIterator<Item = NodeId>) {
        self.voters = voters.into_iter().collect();
        let voters = &self.voters;
        self.reports.retain(|node, _| voters.contains(node));
    }

    /// A batch of these times was applied.
    pub fn applied(&mut self, stamp: Stamp) {
        self.newest_log_time = self.newest_log_time.max(Duration::from_millis(stamp.log_time_ms));
        self.newest_wall_ms = self.newest_wall_ms.max(stamp.wall_time_ms);
    }

    /// A voter said what its wall clock shows.
    pub fn heard_wall(&mut self, node: NodeId, wall_ms: u64, now: LocalNow) {
        if node != self.node_id && self.voters.contains(&node) {
            let offset_ms = offset(wall_ms, now.monotonic);
            self.reports.insert(
                node,
                Report {
                    offset_ms,
                    heard_at: now.monotonic,
                },
            );
        }
    }

    /// The leader of a term not older than ours said what time it is in the log.
    pub fn heard_leader(&mut self, stamp: Stamp, now: LocalNow) {
        if self.leading.is_none() {
            self.newest_log_time = self.newest_log_time.max(Duration::from_millis(stamp.log_time_ms));
            if stamp.wall_time_ms > 0 {
                let offset_ms = offset(stamp.wall_time_ms, now.monotonic);
                self.agreed = Some(Agreed {
                    offset_ms,
                    slewed_at: now.monotonic,
                    stepped: true,
                });
            }
        }
    }

    /// This node leads, and everything from before its term is applied: log time goes on from the newest
    /// it knows, without the time in which nobody led.
    pub fn lead(&mut self, term: u64, now: LocalNow) {
        if self.leading.as_ref().is_some_and(|leading| leading.term == term) {
            return;
        }
        self.leading = Some(Leading {
            term,
            log_time: self.newest_log_time,
            credited_until: now.monotonic,
        });
        if let Some(agreed) = &mut self.agreed {
            agreed.slewed_at = now.monotonic;
            agreed.stepped = false;
        }
    }

    /// This node no longer leads.
    pub fn follow(&mut self) {
        if let Some(leading) = self.leading.take() {
            self.newest_log_time = self.newest_log_time.max(leading.log_time);
        }
    }

    /// Term in which this node leads, if it does.
    pub fn leads(&self) -> Option<u64> {
        self.leading.as_ref().map(|leading| leading.term)
    }

    /// What time it is, for stamping a batch: neither time ever falls. `None` when this node does not lead.
    ///
    /// `quorum_acked` is the monotonic time at which a quorum last confirmed this leader.
    pub fn stamp(&mut self, now: LocalNow, quorum_acked: Duration) -> Option<Stamp> {
        let leading = self.leading.as_mut()?;
        let until = now.monotonic.min(quorum_acked + QUORUM_GRACE);
        leading.log_time += until.saturating_sub(leading.credited_until);
        leading.credited_until = leading.credited_until.max(now.monotonic);
        leading.log_time = leading.log_time.max(self.newest_log_time);
        if planted!("log-time-not-monotone") {
            leading.log_time = now.monotonic;
        }
        self.newest_log_time = leading.log_time;
        let log_time_ms = leading.log_time.as_millis() as u64;

        self.slew(now);
        let agreed_ms = self
            .agreed
            .map_or(0, |agreed| at(agreed.offset_ms, now.monotonic));
        self.newest_wall_ms = self.newest_wall_ms.max(agreed_ms);
        Some(Stamp {
            log_time_ms,
            wall_time_ms: self.newest_wall_ms,
        })
    }

    /// The newest times known, on any node: for answers, and for the next leader.
    pub fn newest(&self) -> Stamp {
        Stamp {
            log_time_ms: self.newest_log_time.as_millis() as u64,
            wall_time_ms: self.newest_wall_ms,
        }
    }

    /// How far this machine's wall clock is ahead of the agreed one, in ms.
    pub fn own_offset_ms(&self, now: LocalNow) -> i64 {
        self.agreed
            .map_or(0, |agreed| offset(now.wall_ms, now.monotonic) - agreed.offset_ms)
    }

    /// Moves the agreed wall time towards what the voters' clocks allow.
    fn slew(&mut self, now: LocalNow) {
        let Some((lowest, highest)) = self.bounds(now) else {
            return;
        };
        // Before the first agreement the applied wall time is the best guess: of what the bounds allow,
        // the nearest to it, so that one clock an hour ahead opens nothing early.
        let applied = offset(self.newest_wall_ms, now.monotonic);
        let agreed = self.agreed.get_or_insert(Agreed {
            offset_ms: applied,
            slewed_at: now.monotonic,
            stepped: false,
        });
        let target = agreed.offset_ms.clamp(lowest, highest);
        let passed = now.monotonic.saturating_sub(agreed.slewed_at);
        if !agreed.stepped {
            agreed.offset_ms = target;
            agreed.stepped = true;
            agreed.slewed_at = now.monotonic;
            return;
        }
        let step_max_ms = (passed.as_millis() as u64 * WALL_SLEW_MS_PER_S / 1_000) as i64;
        if step_max_ms > 0 {
            agreed.offset_ms += (target - agreed.offset_ms).clamp(-step_max_ms, step_max_ms);
            agreed.slewed_at = now.monotonic;
        }
    }

    /// Between which offsets the true one lies if no more than a minority of the voters is wrong.
    /// With every voter heard that is the median alone; `None` when fewer than a majority was heard.
    fn bounds(&self, now: LocalNow) -> Option<(i64, i64)> {
        let mut offsets: Vec<i64> = self
            .reports
            .values()
            .filter(|report| now.monotonic.saturating_sub(report.heard_at) <= REPORT_AGE_MAX)
            .map(|report| report.offset_ms)
            .collect();
        if self.voters.contains(&self.node_id) {
            offsets.push(offset(now.wall_ms, now.monotonic));
        }
        let wrong_max = self.voters.len().saturating_sub(1) / 2;
        if offsets.len() <= wrong_max || offsets.is_empty() {
            return None;
        }
        offsets.sort_unstable();
        let from_below = offsets[wrong_max];
        let from_above = offsets[offsets.len() - 1 - wrong_max];
        Some((from_below.min(from_above), from_below.max(from_above)))
    }
}

fn offset(wall_ms: u64, monotonic: Duration) -> i64 {
    i64::try_from(wall_ms)
        .unwrap_or(i64::MAX)
        .saturating_sub(monotonic.as_millis() as i64)
}

fn at(offset_ms: i64, monotonic: Duration) -> u64 {
    offset_ms.saturating_add(monotonic.as_millis() as i64).max(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const EPOCH_MS: u64 = 1_800_000_000_000;

    fn now(ms: u64) -> LocalNow {
        LocalNow {
            monotonic: Duration::from_millis(ms),
            wall_ms: EPOCH_MS + ms,
        }
    }

    fn clock() -> LogClock {
        let mut clock = LogClock::new(
            1,
            Stamp {
                log_time_ms: 0,
                wall_time_ms: 0,
            },
        );
        clock.set_voters([1, 2, 3]);
        clock
    }

    fn stamp(clock: &mut LogClock, at: LocalNow) -> Stamp {
        clock.stamp(at, at.monotonic).expect("leads")
    }

    #[test]
    fn log_time_follows_the_monotonic_clock_of_the_leader() {
        let mut clock = clock();
        clock.lead(1, now(1_000));
        assert_eq!(stamp(&mut clock, now(1_000)).log_time_ms, 0);
        assert_eq!(stamp(&mut clock, now(1_250)).log_time_ms, 250);
    }

    #[test]
    fn any_one_wall_clock_an_hour_off_moves_neither_time() {
        for wrong in [1u64, 2, 3] {
            for shift in [-(HOUR_MS as i64), HOUR_MS as i64] {
                let mut clock = clock();
                let wall = |node: u64, ms: u64| {
                    let shift = if node == wrong && ms >= 5_000 { shift } else { 0 };
                    (EPOCH_MS + ms).saturating_add_signed(shift)
                };
                for ms in (1_000..20_000).step_by(1_000) {
                    let here = LocalNow {
                        monotonic: Duration::from_millis(ms),
                        wall_ms: wall(1, ms),
                    };
                    clock.heard_wall(2, wall(2, ms), here);
                    // Node 3 falls silent: the wrong clock and one right one are all that is left.
                    if ms < 8_000 || wrong == 3 {
                        clock.heard_wall(3, wall(3, ms), here);
                    }
                    clock.lead(1, here);
                    let stamp = stamp(&mut clock, here);
                    assert_eq!(stamp.log_time_ms, ms - 1_000, "node {wrong} off by {shift} ms");
                    assert_eq!(
                        stamp.wall_time_ms,
                        EPOCH_MS + ms,
                        "node {wrong} off by {shift} ms"
                    );
                }
            }
        }
    }

    #[test]
    fn a_new_leader_with_a_fast_clock_opens_nothing_early() {
        let mut clock = clock();
        clock.applied(Stamp {
            log_time_ms: 5,
            wall_time_ms: EPOCH_MS,
        });
        let fast = LocalNow {
            wall_ms: EPOCH_MS + HOUR_MS,
            ..now(1_000)
        };
        clock.heard_wall(2, EPOCH_MS + 1_000, fast);
        clock.lead(2, fast);
        assert_eq!(stamp(&mut clock, fast).wall_time_ms, EPOCH_MS + 1_000);
    }

    #[test]
    fn failover_eats_no_hold_time() {
        let mut clock = clock();
        clock.heard_leader(
            Stamp {
                log_time_ms: 7_000,
                wall_time_ms: EPOCH_MS,
            },
            now(1_000),
        );
        // Nobody leads for four seconds.
        clock.lead(2, now(5_000));
        assert_eq!(stamp(&mut clock, now(5_000)).log_time_ms, 7_000);
        assert_eq!(stamp(&mut clock, now(5_010)).log_time_ms, 7_010);
    }

    #[test]
    fn log_time_stands_still_for_a_leader_without_a_quorum() {
        let mut clock = clock();
        clock.lead(1, now(0));
        let acked = Duration::from_millis(1_000);
        let grace = QUORUM_GRACE.as_millis() as u64;
        assert_eq!(
            clock.stamp(now(10_000), acked).unwrap().log_time_ms,
            1_000 + grace
        );
        // The quorum is back: time goes on from there, without the nine seconds.
        assert_eq!(stamp(&mut clock, now(10_100)).log_time_ms, 1_100 + grace);
    }

    #[test]
    fn neither_time_falls_whatever_is_heard() {
        let mut clock = clock();
        clock.lead(1, now(1_000));
        let first = stamp(&mut clock, now(2_000));
        clock.heard_wall(2, 0, now(2_000));
        clock.heard_wall(3, 0, now(2_000));
        let second = stamp(&mut clock, now(2_500));
        assert!(second.wall_time_ms >= first.wall_time_ms && second.log_time_ms >= first.log_time_ms);
        clock.follow();
        clock.lead(3, now(2_600));
        let third = stamp(&mut clock, now(2_600));
        assert!(third.wall_time_ms >= second.wall_time_ms && third.log_time_ms >= second.log_time_ms);
    }

    #[test]
    fn a_majority_that_steps_is_followed_slowly() {
        let mut clock = clock();
        clock.lead(1, now(0));
        for ms in (1_000..=11_000).step_by(1_000) {
            let shifted = EPOCH_MS + ms + if ms > 1_000 { HOUR_MS } else { 0 };
            clock.heard_wall(2, shifted, now(ms));
            clock.heard_wall(3, shifted, now(ms));
            let stamp = stamp(&mut clock, now(ms));
            let ahead_ms = stamp.wall_time_ms - (EPOCH_MS + ms);
            assert!(
                ahead_ms <= ms * WALL_SLEW_MS_PER_S / 1_000,
                "{ahead_ms} ms ahead after {ms} ms"
            );
        }
    }

    #[test]
    fn after_a_long_outage_the_wall_time_steps_once() {
        let mut clock = clock();
        clock.applied(Stamp {
            log_time_ms: 9,
            wall_time_ms: EPOCH_MS - 24 * HOUR_MS,
        });
        clock.heard_wall(2, EPOCH_MS + 100, now(100));
        clock.heard_wall(3, EPOCH_MS + 100, now(100));
        clock.lead(4, now(100));
        assert_eq!(
            stamp(&mut clock, now(100)),
            Stamp {
                log_time_ms: 9,
                wall_time_ms: EPOCH_MS + 100
            }
        );
    }
}
