//! Commands that wait for a frame, and frames that wait for their answer.
//!
//! The state behind [`crate::stream`], without any IO. A caller pushes a job and waits; whoever writes
//! to the socket takes the next frame, which is whatever waits by then; whoever reads from it hands
//! answers back. Nothing waits for a frame to fill: it fills by itself while others are in flight.
//!
//! Invariants: a job is in the queue or in flight, never both, and is answered exactly once. A frame
//! leaves only on the session that is current, and a session's frames are lost with it. A job that
//! never left is answered `NotSent`; one that did is never answered so.

use std::{collections::VecDeque, task::Waker, time::Duration};

use bytes::Bytes;
use proto::v1::{Outcome, Position, Run, SubmitResponse, Trace};
use spans::{FRAME_TRACES_MAX, TraceContext};
use tokio::{sync::oneshot, time::Instant};

use crate::{Rejected, frame::Frame};

/// Most commands in a frame: an entry near 512 commands is where replication is cheapest per command.
pub(crate) const FRAME_COMMANDS_MAX: usize = 512;

/// Most bytes in a frame: far above 512 claims (some 100 KB at their longest), far below the 4 MiB
/// that gRPC servers accept by default.
pub(crate) const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Most frames in flight: enough to keep the leader's batcher and its disk busy together (it keeps 4
/// to 8 entries in flight itself); more would only wait there instead of here.
pub(crate) const FRAMES_IN_FLIGHT_MAX: usize = 8;

/// Most commands waiting here: 64 full frames, about a quarter of a second of the leader's bulk rate.
/// A longer queue would only turn an overload into timeouts.
pub(crate) const QUEUE_COMMANDS_MAX: usize = 64 * FRAME_COMMANDS_MAX;

/// What a call is told that finds no place to wait in.
pub(crate) const QUEUE_FULL: &str =
    "too many calls wait in this client already; slow down, or use more clients";

/// How long a frame may stay unanswered before its stream is given up: far longer than a slow disk
/// or an election, and short enough to try elsewhere within the default timeout of a call.
pub(crate) const FRAME_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a job has no outcome.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure {
    /// The queue is full: refused at once.
    Full,
    /// It waited for a leader until its deadline and never left; says what kept it.
    NotSent(String),
    /// It waited until its deadline and never left: all that answers is of another cluster.
    Refused(Box<Rejected>),
    /// It never left: the node does not let this client submit. Says what it needs.
    Forbidden(String),
    /// It left, and no answer came: it may yet happen. Says what happened.
    Lost(String),
}

/// An answer and what it reflects.
pub(crate) type Answer<T> = Result<(T, Position), Failure>;

/// Who waits for a job.
#[derive(Debug)]
pub(crate) enum Done {
    /// One command.
    One(oneshot::Sender<Answer<Outcome>>),
    /// Several commands in order, answered together.
    Many(oneshot::Sender<Answer<Vec<Outcome>>>),
}

impl Done {
    /// Fails; whether anybody still listens is the listener's business.
    fn fail(self, failure: Failure) {
        match self {
            Done::One(done) => drop(done.send(Err(failure))),
            Done::Many(done) => drop(done.send(Err(failure))),
        }
    }

    fn is_abandoned(&self) -> bool {
        match self {
            Done::One(done) => done.is_closed(),
            Done::Many(done) => done.is_closed(),
        }
    }
}

/// Commands that leave together.
#[derive(Debug)]
pub(crate) struct Job {
    /// The commands as they stand in a frame.
    pub(crate) body: Bytes,
    /// How many, 1..=[`FRAME_COMMANDS_MAX`].
    pub(crate) commands: usize,
    /// When its caller stops waiting.
    pub(crate) deadline: Instant,
    /// Who waits.
    pub(crate) done: Done,
    /// The step that its first command is part of, if anybody follows it: boxed, so that the others, nearly all,
    /// are not larger for it.
    pub(crate) trace: Option<Box<TraceContext>>,
}

/// A job in flight; `done` is gone once its caller has stopped waiting.
#[derive(Debug)]
struct Waiting {
    commands: usize,
    deadline: Instant,
    done: Option<Done>,
}

#[derive(Debug)]
struct Flight {
    frame_id: u64,
    sent: Instant,
    commands: usize,
    jobs: Vec<Waiting>,
}

/// Answers to hand out once the lock is released, because a wake-up may run anything.
#[derive(Debug, Default)]
#[must_use = "callers wait for these"]
pub(crate) struct Deliveries {
    failed: Vec<(Done, Failure)>,
    answered: Option<(Vec<Waiting>, Vec<Outcome>, Places)>,
}

impl Deliveries {
    /// Wakes the callers.
    pub(crate) fn deliver(self) {
        for (done, failure) in self.failed {
            done.fail(failure);
        }
        let Some((jobs, outcomes, mut places)) = self.answered else {
            return;
        };
        let mut outcomes = outcomes.into_iter();
        for job in jobs {
            match job.done {
                Some(Done::One(done)) => {
                    // `Queue::answer` checked that there are as many outcomes as commands.
                    let position = places.next();
                    if let Some(outcome) = outcomes.next() {
                        drop(done.send(Ok((outcome, position))));
                    }
                }
                Some(Done::Many(done)) => {
                    let some = outcomes.by_ref().take(job.commands).collect();
                    drop(done.send(Ok((some, places.frame))));
                    places.skip(job.commands);
                }
                None => {
                    places.skip(job.commands);
                    outcomes.by_ref().take(job.commands).for_each(drop);
                }
            }
        }
    }
}

/// Where the commands of an answered frame stand in the log, walked through in order.
#[derive(Debug)]
struct Places {
    /// What the answers reflect as a whole.
    frame: Position,
    runs: std::vec::IntoIter<Run>,
    /// What is left of the run reached so far.
    run: Run,
}

impl Places {
    fn new(frame: Position, runs: Vec<Run>) -> Places {
        Places {
            frame,
            runs: runs.into_iter(),
            run: Run::default(),
        }
    }

    /// What the answer to the next command reflects.
    fn next(&mut self) -> Position {
        while self.run.commands == 0
            && let Some(run) = self.runs.next()
        {
            self.run = run;
        }
        let mut position = self.frame;
        if self.run.commands > 0 {
            if self.run.log_index > 0 {
                position.applied_index = self.run.log_index;
                position.log_time_ms = self.run.log_time_ms;
                position.command = Some(self.run.position);
            }
            self.run.commands -= 1;
            self.run.position = self.run.position.saturating_add(1);
        }
        position
    }

    fn skip(&mut self, commands: usize) {
        for _ in 0..commands {
            self.next();
        }
    }
}

/// What a response did to the session.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    /// Some frame is answered.
    Answer,
    /// Nobody waits for it: an answer too late.
    Nothing,
    /// It breaks the protocol; says how.
    Broken(&'static str),
}

/// What the writer of a session should do.
#[derive(Debug)]
pub(crate) enum Next {
    /// Send this.
    Frame(Frame),
    /// Wait to be woken.
    Wait,
    /// Send no more on this session.
    End,
}

/// Jobs, frames and the session they travel on.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    jobs: VecDeque<Job>,
    /// Commands in `jobs`.
    waiting: usize,
    in_flight: Vec<Flight>,
    frame_id_last: u64,
    session: u64,
    /// May frames leave on the current session?
    open: bool,
    writer: Option<Waker>,
    /// What last kept commands from a leader, for the errors of those that never left.
    trouble: Option<Failure>,
}

impl Queue {
    /// Takes a job, or gives it back when full. Wake the waker, if any, after unlocking.
    pub(crate) fn push(&mut self, job: Job) -> Result<Option<Waker>, Job> {
        assert!(
            (1..=FRAME_COMMANDS_MAX).contains(&job.commands),
            "a job of {} commands",
            job.commands
        );
        if self.waiting + job.commands > QUEUE_COMMANDS_MAX {
            return Err(job);
        }
        self.waiting += job.commands;
        self.jobs.push_back(job);
        Ok(self.writer_if_due())
    }

    /// The writer to wake, if there is something it may do.
    fn writer_if_due(&mut self) -> Option<Waker> {
        let due = self.open && self.in_flight.len() < FRAMES_IN_FLIGHT_MAX && !self.jobs.is_empty();
        if due { self.writer.take() } else { None }
    }

    /// Nothing waits to be sent?
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Nothing waits for an answer?
    pub(crate) fn is_quiet(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Starts a session; frames leave once it is opened.
    pub(crate) fn begin(&mut self) -> u64 {
        assert!(self.in_flight.is_empty(), "a session's frames end with it");
        self.session += 1;
        self.open = false;
        self.session
    }

    /// Lets frames leave, or stops them.
    pub(crate) fn set_open(&mut self, session: u64, open: bool) -> Option<Waker> {
        if session == self.session {
            self.open = open;
        }
        self.writer.take()
    }

    /// Ends the current session: what was in flight on it is lost.
    pub(crate) fn end(&mut self, message: &str) -> (Deliveries, Option<Waker>) {
        self.session += 1;
        self.open = false;
        let mut deliveries = Deliveries::default();
        let failure = Failure::Lost(message.to_string());
        for flight in std::mem::take(&mut self.in_flight) {
            let waiting = flight.jobs.into_iter().filter_map(|job| job.done);
            deliveries
                .failed
                .extend(waiting.map(|done| (done, failure.clone())));
        }
        (deliveries, self.writer.take())
    }

    /// The next frame of a session: whatever waits now, in order, up to the limits.
    pub(crate) fn next(&mut self, session: u64, waker: &Waker, now: Instant) -> (Next, Deliveries) {
        let mut deliveries = Deliveries::default();
        if session != self.session {
            return (Next::End, deliveries);
        }
        if self.open
            && self.in_flight.len() < FRAMES_IN_FLIGHT_MAX
            && let Some(frame) = self.gather(now, &mut deliveries)
        {
            return (Next::Frame(frame), deliveries);
        }
        self.writer = Some(waker.clone());
        (Next::Wait, deliveries)
    }

    fn gather(&mut self, now: Instant, deliveries: &mut Deliveries) -> Option<Frame> {
        let mut bodies = Vec::new();
        let mut traces = Vec::new();
        let mut flight = Flight {
            frame_id: self.frame_id_last + 1,
            sent: now,
            commands: 0,
            jobs: Vec::new(),
        };
        let mut bytes = 0;
        while let Some(job) = self.jobs.pop_front() {
            let full = flight.commands + job.commands > FRAME_COMMANDS_MAX
                || (bytes > 0 && bytes + job.body.len() > FRAME_BYTES_MAX);
            if full {
                self.jobs.push_front(job);
                break;
            }
            self.waiting -= job.commands;
            if job.done.is_abandoned() {
                continue;
            }
            if job.deadline <= now {
                deliveries.failed.push((job.done, self.not_sent()));
                continue;
            }
            bytes += job.body.len();
            if let Some(trace) = job.trace
                && traces.len() < FRAME_TRACES_MAX
            {
                traces.push(Trace {
                    command: flight.commands as u32,
                    traceparent: trace.to_string(),
                });
            }
            flight.commands += job.commands;
            bodies.push(job.body);
            flight.jobs.push(Waiting {
                commands: job.commands,
                deadline: job.deadline,
                done: Some(job.done),
            });
        }
        if bodies.is_empty() {
            return None;
        }
        let frame_id = flight.frame_id;
        self.frame_id_last = frame_id;
        self.in_flight.push(flight);
        Some(Frame {
            frame_id,
            bodies,
            traces,
        })
    }

    /// Takes in an answer.
    pub(crate) fn answer(
        &mut self,
        session: u64,
        response: SubmitResponse,
    ) -> (Heard, Deliveries, Option<Waker>) {
        let mut deliveries = Deliveries::default();
        if session != self.session {
            return (Heard::Nothing, deliveries, None);
        }
        let found = self
            .in_flight
            .iter()
            .position(|flight| flight.frame_id == response.frame_id);
        let Some(place) = found else {
            return (
                Heard::Broken("an answer to a frame that is not in flight"),
                deliveries,
                None,
            );
        };
        if self.in_flight[place].commands != response.outcomes.len() {
            return (
                Heard::Broken("an answer with more or fewer outcomes than commands"),
                deliveries,
                None,
            );
        }
        let flight = self.in_flight.swap_remove(place);
        let position = response.position.unwrap_or_default();
        deliveries.answered = Some((
            flight.jobs,
            response.outcomes,
            Places::new(position, response.runs),
        ));
        self.trouble = None;
        (Heard::Answer, deliveries, self.writer_if_due())
    }

    /// Answers everybody whose deadline has come. True when some frame is overdue: give the stream up.
    pub(crate) fn sweep(&mut self, now: Instant) -> (bool, Deliveries) {
        let mut deliveries = Deliveries::default();
        if self.jobs.iter().any(|job| job.deadline <= now) {
            for job in std::mem::take(&mut self.jobs) {
                if job.deadline <= now {
                    self.waiting -= job.commands;
                    deliveries.failed.push((job.done, self.not_sent()));
                } else {
                    self.jobs.push_back(job);
                }
            }
        }
        let failure = Failure::Lost("no answer within the timeout".to_string());
        for job in self.in_flight.iter_mut().flat_map(|flight| &mut flight.jobs) {
            if job.deadline <= now {
                deliveries
                    .failed
                    .extend(job.done.take().map(|done| (done, failure.clone())));
            }
        }
        (self.is_overdue(now), deliveries)
    }

    /// Is some frame of this session unanswered for too long?
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.in_flight
            .iter()
            .any(|flight| now.duration_since(flight.sent) >= FRAME_TIMEOUT)
    }

    /// Fails whatever waits: nobody will send it any more.
    pub(crate) fn abandon(&mut self) -> Deliveries {
        let failure = self.not_sent();
        self.fail_waiting(&failure)
    }

    /// Fails whatever waits: the node lets this client submit nothing.
    pub(crate) fn forbid(&mut self, message: String) -> Deliveries {
        self.fail_waiting(&Failure::Forbidden(message))
    }

    fn fail_waiting(&mut self, failure: &Failure) -> Deliveries {
        self.waiting = 0;
        let failed = self
            .jobs
            .drain(..)
            .map(|job| (job.done, failure.clone()))
            .collect();
        Deliveries {
            failed,
            answered: None,
        }
    }

    /// Remembers what keeps commands from a leader.
    pub(crate) fn set_trouble(&mut self, trouble: String) {
        self.trouble = Some(Failure::NotSent(trouble));
    }

    /// Remembers that all that answers refuses them.
    pub(crate) fn set_refused(&mut self, why: Box<Rejected>) {
        self.trouble = Some(Failure::Refused(why));
    }

    fn not_sent(&self) -> Failure {
        let trouble = match &self.trouble {
            Some(Failure::NotSent(trouble)) => trouble,
            Some(refused) => return refused.clone(),
            None => "the frames before it took too long",
        };
        Failure::NotSent(format!("not sent within the timeout: {trouble}"))
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
