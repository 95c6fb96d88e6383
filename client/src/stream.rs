//! The one pipelined stream to the leader, shared by all clones of a client.
//!
//! Callers push encoded commands and wait; nothing else is done per call: no task, no timer. The
//! socket's writer pulls: whenever it can take a frame, it gets all that waits by then ([`Queue`]), so
//! a lonely call leaves at once, and a crowd shares frames. One task reads the answers, follows the
//! leader, and sweeps deadlines for everybody.
//!
//! Frames leave only after the node has accepted the stream; so a refused or failed opening is known
//! to have submitted nothing, and the commands simply wait for the next leader. Once a frame has left
//! and its stream breaks, its commands are lost in the sense of [`Failure::Lost`]: they may yet apply.
//!
//! Left out: several streams. One carries more than three nodes on one machine can commit; the frames
//! in flight are what matters, not the streams.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use proto::v1::{Outcome, Reason, SubmitResponse, outcome::Kind, unsubmitted::Cause};
use spans::TraceContext;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};
use tonic::{Request, Streaming, client::Grpc, codegen::http::uri::PathAndQuery};

use crate::{
    Error, chance,
    channel::Channel,
    error::{Verdict, verdict},
    frame::{Frame, FrameCodec, SUBMIT},
    leader::{HINTS_MAX, Nodes},
    queue::{Answer, Deliveries, Done, Failure, Heard, Job, Next, Queue},
    retry::pause,
};

/// How often deadlines are swept: what a timeout may be late by. One timer for all calls.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);

/// How long a node may take to accept a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);

/// How long frames that are still out are waited for after their node has said that it does not lead
/// any more. It knows their fate soon or never; longer, and everybody else waits with them.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// How often the pause between searches for a leader doubles: to at most 160 ms, a fraction of an
/// election, since every caller waits for it and it is one search for all of them.
const SEARCH_DOUBLINGS_MAX: u32 = 5;

/// Largest answer to a frame, in bytes: many times 512 outcomes with messages.
const RESPONSE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The way to the leader.
pub(crate) struct Lane {
    queue: Mutex<Queue>,
    /// Somebody pushed, or the client is gone.
    work: Notify,
    /// The current session is to be given up.
    give_up: Notify,
    lifetime: Mutex<Lifetime>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lifetime {
    Idle,
    Running,
    Closed,
}

impl Lane {
    pub(crate) fn new() -> Lane {
        Lane {
            queue: Mutex::default(),
            work: Notify::new(),
            give_up: Notify::new(),
            lifetime: Mutex::new(Lifetime::Idle),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic inside is a failed assertion before any change: what is there is still whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lifetime(&self) -> MutexGuard<'_, Lifetime> {
        self.lifetime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the reader with the first call, on the runtime that makes it.
    pub(crate) fn start(self: &Arc<Lane>, nodes: &Arc<Nodes>) {
        let mut lifetime = self.lifetime();
        if *lifetime == Lifetime::Idle {
            *lifetime = Lifetime::Running;
            tokio::spawn(run(self.clone(), nodes.clone()));
        }
    }

    /// No client is left: the reader ends, and the stream with it.
    pub(crate) fn close(&self) {
        *self.lifetime() = Lifetime::Closed;
        self.work.notify_one();
        self.give_up.notify_one();
    }

    fn is_closed(&self) -> bool {
        *self.lifetime() == Lifetime::Closed
    }

    /// Sends one command and waits for its outcome, at most about until its deadline.
    pub(crate) async fn submit(
        &self,
        body: bytes::Bytes,
        deadline: Instant,
        trace: Option<TraceContext>,
    ) -> Answer<Outcome> {
        let (done, answer) = oneshot::channel();
        self.push(Job {
            body,
            commands: 1,
            deadline,
            done: Done::One(done),
            trace: trace.map(Box::new),
        })?;
        answer.await.unwrap_or_else(|_| Err(reader_gone()))
    }

    /// Sends several commands, up to a frame of them, and waits for all their outcomes.
    pub(crate) async fn submit_many(
        &self,
        body: bytes::Bytes,
        commands: usize,
        deadline: Instant,
        trace: Option<TraceContext>,
    ) -> Answer<Vec<Outcome>> {
        let (done, answer) = oneshot::channel();
        self.push(Job {
            body,
            commands,
            deadline,
            done: Done::Many(done),
            trace: trace.map(Box::new),
        })?;
        answer.await.unwrap_or_else(|_| Err(reader_gone()))
    }

    fn push(&self, job: Job) -> Result<(), Failure> {
        let pushed = {
            let mut queue = self.queue();
            let was_empty = queue.is_empty();
            queue
                .push(job)
                .map(|writer| (writer, was_empty))
                .map_err(|_| Failure::Full)
        };
        let (writer, was_empty) = pushed?;
        match writer {
            Some(writer) => writer.wake(),
            // Nobody writes now: either a frame is on its way out and will be followed by another, or
            // there is no stream and the reader must make one.
            None if was_empty => self.work.notify_one(),
            None => {}
        }
        Ok(())
    }

    fn sweep(&self) {
        let (overdue, deliveries) = self.queue().sweep(Instant::now());
        deliveries.deliver();
        if overdue {
            self.give_up.notify_one();
        }
    }

    fn end(&self, message: &str) {
        let (deliveries, writer): (Deliveries, _) = self.queue().end(message);
        deliveries.deliver();
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    fn set_open(&self, session: u64, open: bool) {
        let writer = self.queue().set_open(session, open);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

/// The reader was dropped with its runtime: what became of the command nobody can tell.
fn reader_gone() -> Failure {
    Failure::Lost("the client's runtime has stopped".into())
}

/// What the socket's writer pulls frames from.
struct Outgoing {
    lane: Arc<Lane>,
    session: u64,
}

impl Stream for Outgoing {
    type Item = Frame;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        let (next, deliveries) = self
            .lane
            .queue()
            .next(self.session, context.waker(), Instant::now());
        deliveries.deliver();
        match next {
            Next::Frame(frame) => Poll::Ready(Some(frame)),
            Next::Wait => Poll::Pending,
            Next::End => Poll::Ready(None),
        }
    }
}

async fn run(lane: Arc<Lane>, nodes: Arc<Nodes>) {
    let sweep = async {
        loop {
            sleep(SWEEP_INTERVAL).await;
            lane.sweep();
        }
    };
    tokio::select! {
        () = follow(&lane, &nodes) => {}
        () = sweep => {}
        () = nodes.keep_up() => {}
    }
    lane.end("the client was closed");
    let deliveries = lane.queue().abandon();
    deliveries.deliver();
}

/// How a session ended.
#[derive(Debug)]
enum Ended {
    /// No client is left.
    Closed,
    /// The node does not serve now; perhaps it named who does.
    Left(Option<String>),
    /// The node does not let this client submit, and says what it needs.
    Forbidden(String),
    /// It broke, or could not be opened.
    Broken(String),
}

/// Keeps a stream to whoever leads for as long as there is something to send.
async fn follow(lane: &Arc<Lane>, nodes: &Nodes) {
    let mut tries = 0;
    let mut hints = 0;
    while !lane.is_closed() {
        if lane.queue().is_empty() {
            lane.work.notified().await;
            continue;
        }
        let leader = match nodes.leader().await {
            Ok(leader) => leader,
            Err(error) => {
                tracing::debug!(%error, "no leader found");
                match error {
                    Error::Rejected(why) => lane.queue().set_refused(why),
                    error => lane.queue().set_trouble(error.to_string()),
                }
                tries += 1;
                rest(tries).await;
                continue;
            }
        };
        let mut served = false;
        let ended = session(lane, nodes, &leader, &mut served).await;
        if served {
            tries = 0;
            hints = 0;
        }
        let hint = match ended {
            Ended::Closed => return,
            Ended::Left(hint) => {
                lane.queue().set_trouble(format!("{leader} does not lead"));
                hint
            }
            Ended::Forbidden(message) => {
                let deliveries = lane.queue().forbid(message);
                deliveries.deliver();
                None
            }
            Ended::Broken(reason) => {
                tracing::debug!(%leader, %reason, "stream to the leader ended");
                lane.queue().set_trouble(format!("{leader}: {reason}"));
                None
            }
        };
        let named = nodes.not_leader(&leader, hint.as_deref());
        if named && hints < HINTS_MAX {
            hints += 1;
        } else if !served {
            hints = 0;
            tries += 1;
            rest(tries).await;
        }
    }
}

/// Pauses before the search for a leader goes on.
async fn rest(tries: u32) {
    sleep(pause(tries.min(SEARCH_DOUBLINGS_MAX), chance::random())).await;
}

/// One stream to one node, from its opening to its end.
async fn session(lane: &Arc<Lane>, nodes: &Nodes, leader: &str, served: &mut bool) -> Ended {
    let channel = match nodes.channel(leader) {
        Ok(channel) => channel,
        Err(error) => return Ended::Broken(error.to_string()),
    };
    let session = lane.queue().begin();
    let ended = match timeout(OPEN_TIMEOUT, open(lane, session, channel)).await {
        Ok(Ok(responses)) => {
            lane.set_open(session, true);
            read(lane, nodes, session, responses, served).await
        }
        Ok(Err(ended)) => ended,
        Err(_) => Ended::Broken(format!(
            "{leader} did not accept the stream within {OPEN_TIMEOUT:?}"
        )),
    };
    lane.end(match &ended {
        Ended::Closed => "the client was closed",
        Ended::Left(_) => "the node stopped leading before it answered",
        Ended::Forbidden(reason) | Ended::Broken(reason) => reason,
    });
    ended
}

async fn open(lane: &Arc<Lane>, session: u64, channel: Channel) -> Result<Streaming<SubmitResponse>, Ended> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
    grpc.ready()
        .await
        .map_err(|error| Ended::Broken(error.to_string()))?;
    let outgoing = Outgoing {
        lane: lane.clone(),
        session,
    };
    let path = PathAndQuery::from_static(SUBMIT);
    match grpc.streaming(Request::new(outgoing), path, FrameCodec).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(match verdict(&status) {
            Verdict::NotLeader(hint) => Ended::Left(hint),
            Verdict::Final(rejected) if rejected.reason == Reason::Forbidden => {
                Ended::Forbidden(rejected.message)
            }
            _ => Ended::Broken(status.to_string()),
        }),
    }
}

async fn read(
    lane: &Lane,
    nodes: &Nodes,
    session: u64,
    mut responses: Streaming<SubmitResponse>,
    served: &mut bool,
) -> Ended {
    let mut draining: Option<(Instant, Option<String>)> = None;
    loop {
        let drained_by = draining.as_ref().map(|(by, _)| *by);
        let message = tokio::select! {
            message = responses.message() => message,
            () = lane.give_up.notified() => {
                if lane.is_closed() {
                    return Ended::Closed;
                }
                // A wake-up meant for an earlier session is none for this one.
                if lane.queue().is_overdue(Instant::now()) {
                    return Ended::Broken("no answer to a frame within the timeout".into());
                }
                continue;
            }
            () = sleep_until(drained_by.unwrap_or_else(Instant::now)), if drained_by.is_some() => {
                return Ended::Left(draining.and_then(|(_, hint)| hint));
            }
        };
        let response = match message {
            Ok(Some(response)) => response,
            Ok(None) | Err(_) if draining.is_some() => {
                return Ended::Left(draining.and_then(|(_, hint)| hint));
            }
            Ok(None) => return Ended::Broken("the node ended the stream".into()),
            Err(status) => {
                return match verdict(&status) {
                    Verdict::NotLeader(hint) => Ended::Left(hint),
                    _ => Ended::Broken(status.to_string()),
                };
            }
        };
        if let Some(position) = &response.position {
            nodes.saw_log_time(position.log_time_ms);
        }
        match leaves(&response) {
            Some(hint) => {
                // Stopped before anybody is told, so that no one comes back to this node.
                lane.set_open(session, false);
                let by = draining.map_or_else(|| Instant::now() + DRAIN_TIMEOUT, |(by, _)| by);
                draining = Some((by, hint));
            }
            None => *served = true,
        }
        let (heard, deliveries, writer) = lane.queue().answer(session, response);
        deliveries.deliver();
        if let Some(writer) = writer {
            writer.wake();
        }
        if let Heard::Broken(how) = heard {
            return Ended::Broken(how.into());
        }
        if draining.is_some() && lane.queue().is_quiet() {
            return Ended::Left(draining.and_then(|(_, hint)| hint));
        }
    }
}

/// Does the node say that it does not serve any more? Then whom it names, if anybody.
fn leaves(response: &SubmitResponse) -> Option<Option<String>> {
    response.outcomes.iter().find_map(|outcome| match &outcome.kind {
        Some(Kind::Unsubmitted(refused)) => match refused.cause() {
            Cause::NotLeader => {
                Some(Some(refused.leader_endpoint.clone()).filter(|endpoint| !endpoint.is_empty()))
            }
            Cause::Starting | Cause::Stopping => Some(None),
            Cause::Unspecified | Cause::Overloaded | Cause::DiskReserve | Cause::Upgrade => None,
        },
        _ => None,
    })
}
