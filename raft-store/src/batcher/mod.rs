//! From waiting frames to log entries and back.
//!
//! One task owns every waiting caller. It gathers whatever waits, up to a count and a byte limit, while
//! only a few entries are in flight; it never lingers, so one lonely claim commits at raft's own latency.
//! Commands stay in order within their frame; frames are unordered.
//!
//! - Full queues, a missing lead, a full disk and commands that a member does not know yet are refused at the door
//!   ([`Door`]), before anything is proposed;
//!   a full queue refuses first those who fill it, and those who wait are served in turns (`shares`).
//! - A frame whose every claim would be refused by the applied state is answered without a log entry: after
//!   a ReadIndex round shared by all that wait, and only while no claim of the same user or key is in flight.
//! - Entries are proposed under the term they were stamped in. Once appended, every failure is unknown; what
//!   raft refuses to append, as before a quorum has confirmed a new leader, was never submitted.
//! - Deadlines and sale hours that come due are proposed as entries without commands.
//!
//! Left out on purpose: retries. The caller has the key; he knows when to stop.

mod door;
mod flight;
pub mod frame;
mod shares;
mod tally;
mod trace;

use std::{
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use fault_points::{crash_point, planted};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};
use inventory_machine::{
    Machine,
    codec::{BatchEncoder, MACHINE_VERSION_FIRST},
    command::Body,
};
use openraft::{
    async_runtime::watch::WatchReceiver,
    errors::{ClientWriteError, ForwardReason},
    impls::OneshotResponder,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};

pub use self::door::{Door, LeadState};
use self::{
    door::{Lane, Submission},
    flight::InFlight,
    frame::{Answer, FrameAnswer, Position, PreparedBody, Run, SaleNumbers, Unsubmitted, Waiting},
    shares::Turns,
    tally::{Claims, Tally},
    trace::EntryTrace,
};
use crate::{
    HoldfastRaft,
    clock::NodeClock,
    limits::{
        CLOCK_ENTRY_MS, DEADLINE_TICK_MS, ENTRIES_IN_FLIGHT_MAX, ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX,
        ENTRY_SETTLE_SHARE_PERCENT,
    },
    log_clock::Stamp,
    machine_versions::MachineVersions,
    reads::Reads,
    storage::state::SharedState,
    types::{BatchBytes, EntryReply, LogId, TypeConfig},
};

/// The term this node leads in, once everything from before it is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// What raft calls this leader; entries are proposed under it.
    pub leader: openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>,
}

/// What the batcher stands on.
pub struct Parts {
    /// Consensus.
    pub raft: HoldfastRaft,
    /// Applied state.
    pub shared: SharedState,
    /// What the applied state may speak for.
    pub reads: Reads,
    /// The log clock.
    pub clock: NodeClock,
    /// Whether this node leads.
    pub lead: watch::Receiver<Option<Lead>>,
    /// What each node can apply.
    pub versions: MachineVersions,
}

/// Starts the batcher: the door to it, and the task, which ends when the door is told to stop and
/// everything proposed has been answered.
pub fn start(parts: Parts) -> (Door, JoinHandle<()>) {
    let (raft, versions, shared) = (parts.raft.clone(), parts.versions.clone(), parts.shared.clone());
    // Never less than it was, so a state that is being applied to is asked only once for each version.
    let entered = AtomicU16::new(MACHINE_VERSION_FIRST);
    let (door, inbox) = door::open(Box::new(move |needed| {
        if needed > entered.load(Ordering::Relaxed) {
            entered.fetch_max(shared.read(Machine::version_needed), Ordering::Relaxed);
        }
        let members = raft.metrics().borrow_watched().membership_config.clone();
        let members = members.nodes().map(|(id, _)| *id);
        versions.behind(needed, entered.load(Ordering::Relaxed), members)
    }));
    let batcher = Batcher {
        door: door.clone(),
        parts,
        frames: slab::Slab::new(),
        lanes: Default::default(),
        flying: FuturesOrdered::new(),
        in_flight: InFlight::default(),
        encoder: BatchEncoder::new(),
        claims: Claims::new(),
        reading: None,
        reading_frames: Vec::new(),
        unread_frames: Vec::new(),
        lead: None,
        stamped: Stamp {
            log_time_ms: 0,
            wall_time_ms: 0,
        },
        proposed_at: Instant::now(),
        followed: false,
    };
    (door, tokio::spawn(batcher.run(inbox)))
}

/// A frame in the slab.
type FrameId = usize;

/// Some commands of one frame in one entry.
struct Slice {
    frame: FrameId,
    first: usize,
    count: usize,
}

/// One entry's way home.
struct Landed {
    slices: Vec<Slice>,
    /// What it was stamped with.
    stamp: Stamp,
    fate: Fate,
    /// Its spans, if somebody follows one of its commands.
    trace: Option<EntryTrace>,
}

/// What became of an entry.
enum Fate {
    Applied(LogId, EntryReply),
    /// Raft did not append it, here or anywhere.
    Refused(Unsubmitted),
    /// It may yet apply.
    Unknown,
}

struct Batcher {
    door: Door,
    parts: Parts,
    frames: slab::Slab<Waiting>,
    lanes: [Turns; 2],
    flying: FuturesOrdered<BoxFuture<'static, Landed>>,
    in_flight: InFlight,
    encoder: BatchEncoder,
    claims: Claims,
    reading: Option<BoxFuture<'static, bool>>,
    reading_frames: Vec<FrameId>,
    unread_frames: Vec<FrameId>,
    lead: Option<Lead>,
    stamped: Stamp,
    proposed_at: Instant,
    /// Whether somebody follows a frame of which the encoder holds commands.
    followed: bool,
}

impl Batcher {
    async fn run(mut self, mut inbox: mpsc::Receiver<Submission>) {
        let mut tick = tokio::time::interval(Duration::from_millis(DEADLINE_TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lead = self.parts.lead.clone();
        let mut arrived = Vec::new();
        loop {
            tokio::select! {
                biased;
                Some(landed) = self.flying.next() => self.land(landed),
                Ok(()) = lead.changed() => {
                    let now = *lead.borrow_and_update();
                    self.follow(now);
                }
                read = async { self.reading.as_mut().expect("guarded").await }, if self.reading.is_some() => {
                    self.reading = None;
                    self.answer_refusals(read);
                }
                _ = inbox.recv_many(&mut arrived, 256) => self.admit(&mut arrived),
                _ = tick.tick() => self.propose_due_time().await,
            }
            // Take all that has come meanwhile, so that it travels together.
            while arrived.len() < 4_096
                && let Ok(submission) = inbox.try_recv()
            {
                arrived.push(submission);
            }
            self.admit(&mut arrived);
            self.begin_read();
            self.propose().await;
            if self.door.is_stopping() && self.frames.is_empty() && self.flying.is_empty() {
                return;
            }
        }
    }

    /// The lead came or went. Without it, whatever was not proposed never will be.
    fn follow(&mut self, lead: Option<Lead>) {
        if lead == self.lead {
            return;
        }
        self.lead = lead;
        self.stamped = Stamp {
            log_time_ms: 0,
            wall_time_ms: 0,
        };
        for lane in Lane::ALL {
            while let Some(frame) = self.lanes[lane as usize].pop() {
                self.give_up(frame, Unsubmitted::NotLeader);
            }
        }
        for frame in std::mem::take(&mut self.unread_frames) {
            self.give_up(frame, Unsubmitted::NotLeader);
        }
    }

    /// Takes new frames in: refusable ones wait for a read, the others for a place in an entry.
    fn admit(&mut self, arrived: &mut Vec<Submission>) {
        if arrived.is_empty() {
            return;
        }
        let log_now_ms = self.stamp().map(|stamp| stamp.log_time_ms);
        let shared = self.parts.shared.clone();
        // One look at the state for all of them.
        shared.read(|machine| {
            for Submission { frame, place, reply } in arrived.drain(..) {
                let refusable = log_now_ms.is_some_and(|log_now_ms| {
                    let sales = SaleNumbers::of(&frame, machine);
                    sales.prefetch(&frame, machine);
                    frame.commands.iter().all(|command| match &command.body {
                        // What follows a refusal hears that, and nothing of its own.
                        PreparedBody::Plain(Body::Claim(take)) if !command.follows => {
                            !self.in_flight.may_know(take.user, command.key)
                                && sales.refusal(command, take, log_now_ms, machine).is_some()
                        }
                        _ => false,
                    })
                });
                let answers = Vec::with_capacity(frame.commands.len());
                let frame = self.frames.insert(Waiting {
                    frame,
                    place,
                    reply,
                    answers,
                    runs: Vec::new(),
                    proposed: 0,
                    stamp: None,
                    given_up: None,
                });
                if log_now_ms.is_none() {
                    self.give_up(frame, Unsubmitted::NotLeader);
                } else if refusable {
                    self.unread_frames.push(frame);
                } else {
                    self.lanes[place.lane as usize].push(place.source, frame);
                }
            }
        });
    }

    /// Begins a ReadIndex round for the frames that wait for one, unless one is on its way.
    fn begin_read(&mut self) {
        if self.reading.is_some() || self.unread_frames.is_empty() {
            return;
        }
        std::mem::swap(&mut self.reading_frames, &mut self.unread_frames);
        let reads = self.parts.reads.clone();
        let read = async move { planted!("sold-out-from-stale-state") || reads.linearized().await.is_ok() };
        self.reading = Some(read.boxed());
    }

    /// The round is over: the applied state may speak for all commands that waited for it.
    fn answer_refusals(&mut self, leads: bool) {
        let mut waiting = std::mem::take(&mut self.reading_frames);
        let log_now_ms = self.stamp().map(|stamp| stamp.log_time_ms).filter(|_| leads);
        let Some(log_now_ms) = log_now_ms else {
            for frame in waiting.drain(..) {
                self.give_up(frame, Unsubmitted::NotLeader);
            }
            return;
        };
        let shared = self.parts.shared.clone();
        let mut tally = Tally::default();
        shared.read(|machine| {
            let position = Position {
                applied_index: machine.applied_index(),
                term: self.term(),
                log_time_ms: machine.log_time_ms(),
                wall_time_ms: machine.wall_time_ms(),
            };
            for id in waiting.drain(..) {
                let Waiting {
                    frame,
                    place,
                    answers,
                    ..
                } = &mut self.frames[id];
                let sales = SaleNumbers::of(frame, machine);
                sales.prefetch(frame, machine);
                let refused = frame.commands.iter().all(|command| {
                    let PreparedBody::Plain(Body::Claim(take)) = &command.body else {
                        return false;
                    };
                    sales
                        .refusal(command, take, log_now_ms, machine)
                        .map(|reply| answers.push(Answer::Reply(reply)))
                        .is_some()
                });
                if refused {
                    for answer in answers.iter() {
                        if let Answer::Reply(reply) = answer {
                            tally.add(reply);
                        }
                    }
                    let waiting = self.frames.remove(id);
                    self.door.left(waiting.place, waiting.frame.commands.len());
                    send(waiting, position);
                } else {
                    answers.clear();
                    self.lanes[place.lane as usize].push(place.source, id);
                }
            }
        });
        self.claims.count(&tally);
        self.reading_frames = waiting;
    }

    /// Proposes entries while there is something to say and room in flight.
    async fn propose(&mut self) {
        while self.flying.len() < ENTRIES_IN_FLIGHT_MAX && self.lanes.iter().any(|lane| !lane.is_empty()) {
            let Some(stamp) = self.stamp() else { return };
            let mut slices = Vec::new();
            let settle_max = if self.lanes[Lane::Claims as usize].is_empty() {
                ENTRY_COMMANDS_MAX
            } else {
                ENTRY_COMMANDS_MAX * ENTRY_SETTLE_SHARE_PERCENT / 100
            };
            self.pack(Lane::Settles, settle_max, &mut slices);
            self.pack(Lane::Claims, ENTRY_COMMANDS_MAX, &mut slices);
            self.pack(Lane::Settles, ENTRY_COMMANDS_MAX, &mut slices);
            self.send(stamp, slices).await;
        }
    }

    /// Moves commands from a lane into the entry, in turns of their sources, until the entry has
    /// `commands_max` of them.
    fn pack(&mut self, lane: Lane, commands_max: usize, slices: &mut Vec<Slice>) {
        while let Some((id, turn)) = self.lanes[lane as usize].next() {
            let Waiting {
                frame,
                place,
                proposed,
                ..
            } = &mut self.frames[id];
            let first = *proposed;
            let end = frame.commands.len().min(first.saturating_add(turn));
            while *proposed < end && self.encoder.bytes() < ENTRY_BYTES_MAX {
                // A chain goes whole, even beyond its turn.
                let chain = &frame.commands[*proposed..frame.chain_end(*proposed)];
                if self.encoder.count() + chain.len() > commands_max {
                    break;
                }
                for command in chain {
                    command.encode(&frame.sales, &mut self.encoder);
                    self.in_flight.add(command);
                }
                *proposed += chain.len();
            }
            let count = *proposed - first;
            if count == 0 {
                return;
            }
            self.followed |= !frame.followed.is_empty();
            slices.push(Slice {
                frame: id,
                first,
                count,
            });
            self.door.left(*place, count);
            let was_last = *proposed == frame.commands.len();
            self.lanes[lane as usize].served(count, was_last);
        }
    }

    /// Proposes what the encoder holds, under the term it is stamped in.
    async fn send(&mut self, stamp: Stamp, slices: Vec<Slice>) {
        let lead = self.lead.expect("stamped only while leading");
        metrics::histogram!("holdfast_batch_commands").record(self.encoder.count() as f64);
        crash_point!("batch-begins");
        let trace = std::mem::take(&mut self.followed)
            .then(|| EntryTrace::begin(&slices, &mut self.frames, self.encoder.count()))
            .flatten();
        self.door.count_entry(self.encoder.count());
        let bytes = self.encoder.finish(stamp.log_time_ms, stamp.wall_time_ms);
        let (responder, receiver) = OneshotResponder::<TypeConfig, _>::new_pair();
        self.stamped = stamp;
        self.proposed_at = Instant::now();
        // An error here means that raft has stopped: the receiver then fails as well.
        let _ = self
            .parts
            .raft
            .write(BatchBytes(bytes.into()))
            .with_leader(lead.leader)
            .responder(responder)
            .await;
        crash_point!("batch-proposed");
        let landed = receiver.map(move |result| {
            let fate = match result {
                Ok(Ok(response)) => Fate::Applied(response.log_id, response.data),
                // "Rejected before its entry was appended": the responder of an appended entry is only
                // ever answered by applying, or with `LogEntryDiscarded`.
                Ok(Err(ClientWriteError::ForwardToLeader(forward))) => Fate::Refused(match forward.reason {
                    ForwardReason::LeaseExpired => Unsubmitted::NoQuorum,
                    ForwardReason::NotLeader | ForwardReason::LeadershipTransfer => Unsubmitted::NotLeader,
                }),
                // Whatever else raft says, the entry may yet commit.
                Ok(Err(_)) | Err(_) => Fate::Unknown,
            };
            Landed {
                slices,
                stamp,
                fate,
                trace,
            }
        });
        self.flying.push_back(landed.boxed());
        self.in_flight.propose();
    }

    /// An entry came home: its replies go to the frames they belong to.
    fn land(&mut self, landed: Landed) {
        if let Some(trace) = landed.trace {
            trace.land(&landed.fate, &landed.slices, &mut self.frames);
        }
        let (applied_index, mut replies, refused) = match landed.fate {
            Fate::Applied(log_id, mut reply) => {
                if planted!("replies-to-wrong-callers") {
                    reply.replies.reverse();
                }
                (log_id.index, reply.replies.into_iter(), None)
            }
            Fate::Refused(why) => (0, Vec::new().into_iter(), Some(why)),
            Fate::Unknown => (0, Vec::new().into_iter(), None),
        };
        self.in_flight.land();
        let mut position = 0;
        let mut tally = Tally::default();
        for slice in landed.slices {
            let waiting = &mut self.frames[slice.frame];
            waiting.stamp.get_or_insert(landed.stamp);
            waiting.runs.push(Run {
                log_index: applied_index,
                position,
                commands: slice.count as u32,
                log_time_ms: landed.stamp.log_time_ms,
            });
            position += slice.count as u32;
            for command in &waiting.frame.commands[slice.first..slice.first + slice.count] {
                waiting.answers.push(match (replies.next(), refused) {
                    (Some(reply), _) => {
                        if command.takes_units() {
                            tally.add(&reply);
                        }
                        Answer::Reply(reply)
                    }
                    (None, Some(why)) => Answer::Unsubmitted(why),
                    (None, None) if planted!("unknown-told-as-refused") => {
                        Answer::Unsubmitted(Unsubmitted::NotLeader)
                    }
                    (None, None) => Answer::Unknown {
                        not_after_ms: command.not_after_ms,
                    },
                });
            }
            if waiting.answers.len() == waiting.frame.commands.len() {
                let waiting = self.frames.remove(slice.frame);
                let position = self.position(&waiting, applied_index);
                send(waiting, position);
            } else if let Some(why) = waiting.given_up {
                self.give_up(slice.frame, why);
            }
        }
        self.claims.count(&tally);
    }

    /// Answers the rest of a frame, which was not proposed; commands in flight are waited for first.
    fn give_up(&mut self, id: FrameId, why: Unsubmitted) {
        let waiting = &mut self.frames[id];
        let missing = waiting.frame.commands.len() - waiting.proposed;
        waiting.given_up = Some(why);
        if waiting.answers.len() < waiting.proposed {
            return;
        }
        waiting
            .answers
            .extend(std::iter::repeat_n(Answer::Unsubmitted(why), missing));
        let waiting = self.frames.remove(id);
        self.door.left(waiting.place, missing);
        let position = self.position(&waiting, 0);
        send(waiting, position);
    }

    /// What the answers to a frame reflect.
    fn position(&self, waiting: &Waiting, applied_index: u64) -> Position {
        let stamp = waiting.stamp.unwrap_or_else(|| self.parts.clock.newest());
        Position {
            applied_index,
            term: self.term(),
            log_time_ms: stamp.log_time_ms,
            wall_time_ms: stamp.wall_time_ms,
        }
    }

    /// Lets the log know what time it is when a deadline or an hour is due, and once a second while
    /// anything waits for log time.
    async fn propose_due_time(&mut self) {
        let Some(stamp) = self.stamp() else { return };
        let (deadline_ms, hour_ms, waits) = self.parts.shared.read(|machine| {
            (
                machine.next_deadline_ms(),
                machine.next_hour_ms(),
                machine.waits_for_time(),
            )
        });
        let due = |due_ms: Option<u64>, stamped_ms: u64, now_ms: u64| {
            due_ms.is_some_and(|due_ms| due_ms <= now_ms && stamped_ms < due_ms)
        };
        let due = due(deadline_ms, self.stamped.log_time_ms, stamp.log_time_ms)
            || due(hour_ms, self.stamped.wall_time_ms, stamp.wall_time_ms);
        let idle = self.proposed_at.elapsed() >= Duration::from_millis(CLOCK_ENTRY_MS);
        if (due || (waits && idle)) && self.flying.len() < ENTRIES_IN_FLIGHT_MAX {
            self.send(stamp, Vec::new()).await;
        }
    }

    /// The times now, if this node leads.
    fn stamp(&self) -> Option<Stamp> {
        self.lead?;
        self.parts.clock.stamp(&self.parts.raft)
    }

    fn term(&self) -> u64 {
        self.lead.map_or(0, |lead| lead.leader.term)
    }
}

fn send(waiting: Waiting, position: Position) {
    crash_point!("frame-answered");
    for mut followed in waiting.frame.followed {
        if let Answer::Unsubmitted(why) = &waiting.answers[followed.place] {
            followed.span.fail(why);
        }
    }
    // A caller that went away needs no answer.
    let _ = waiting.reply.send(FrameAnswer {
        answers: waiting.answers,
        position,
        runs: waiting.runs,
    });
}
