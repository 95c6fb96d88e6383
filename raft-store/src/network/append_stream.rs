//! Appends to one peer: one ordered stream each way, pipelined.
//!
//! openraft opens a *session* (a stream of requests, for as long as it has something to replicate, or
//! one heartbeat) and wants an answer to each request, in order. A session borrows the *wire*: the
//! gRPC stream, which outlives it when every request was answered, so that a heartbeat or a ReadIndex
//! round costs two messages and no stream of its own.
//!
//! What is committed a follower learns with the next entries. Told of each commit at once, it would cost two
//! messages more an entry, as much again as the entry itself, and nobody waits for it: answers come from the
//! leader. So a request without entries waits for the next one a little ([`COMMIT_NEWS_DELAY`]), unless it is the
//! session's last, as heartbeats and ReadIndex rounds are.
//!
//! Invariants: requests go out in order and answers belong to them in order; at most
//! [`IN_FLIGHT_MAX`] requests and about [`IN_FLIGHT_BYTES_MAX`] bytes wait for answers; a session that
//! ends in any other way than fully answered takes its wire with it, so no late answer can be taken
//! for another request's.

use std::{collections::VecDeque, time::Duration};

use fault_points::planted;
use futures::{FutureExt, Stream, StreamExt, stream, stream::BoxStream};
use openraft::{
    RPCTypes,
    network::RPCOption,
    raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult},
};
use prost::Message;
use proto::internal as wire;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    answered::Moment,
    client::PeerClient,
    peer::{CallError, Peer, within},
};
use crate::{
    convert,
    types::{LogId, TypeConfig},
};

/// Most requests of one session without an answer: as many as openraft's receiving side queues.
const IN_FLIGHT_MAX: usize = 64;

/// No further request is sent while this many bytes wait for answers: some full appends, so that a
/// slow peer costs the leader a bounded amount of memory.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

/// How long news of a commit may wait for entries to travel with: far below a heartbeat, and as long as followers
/// may be behind when nothing else happens.
const COMMIT_NEWS_DELAY: Duration = Duration::from_millis(5);

type RpcError = openraft::errors::RPCError<TypeConfig>;
type Answer = Result<StreamAppendResult<TypeConfig>, RpcError>;

/// An open gRPC stream.
pub(super) struct Wire {
    requests: mpsc::Sender<wire::AppendRequest>,
    answers: Streaming<wire::AppendResponse>,
}

impl Wire {
    async fn open(peer: &Peer, deadline: Duration) -> Result<Wire, CallError> {
        let (requests, outgoing) = mpsc::channel(IN_FLIGHT_MAX);
        let message = peer.request(ReceiverStream::new(outgoing));
        let mut client = peer.raft();
        let answers = within(deadline, client.append(message)).await?;
        Ok(Wire { requests, answers })
    }

    /// The wire, if nothing has happened on it since the last session: an idle peer sends nothing.
    fn if_quiet(mut self) -> Option<Wire> {
        let quiet = !self.requests.is_closed() && self.answers.next().now_or_never().is_none();
        quiet.then_some(self)
    }
}

/// A request on its way.
struct Sent {
    prev: Option<LogId>,
    last: Option<LogId>,
    bytes: usize,
    term: u64,
    moment: Moment,
}

struct Session<'s, S, I> {
    client: &'s mut PeerClient<S>,
    wire: Wire,
    /// `None` once openraft has nothing more to send.
    input: Option<I>,
    /// News of a commit, and until when it may wait. openraft takes the answer to any request that ends at the same entry
    /// for one to this, even to an earlier one: what proves the lead is [`super::Answered`].
    news: Option<(AppendEntriesRequest<TypeConfig>, Instant)>,
    in_flight: VecDeque<Sent>,
    in_flight_bytes: usize,
}

/// Begins a session.
pub(super) async fn session<'s, S, I>(
    client: &'s mut PeerClient<S>,
    input: I,
    option: RPCOption,
) -> Result<BoxStream<'s, Answer>, RpcError>
where
    S: 'static,
    I: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    // openraft paces a dead peer by delaying the first request: only who asks for it before dialling is
    // paced, and does not spin.
    let mut input = input;
    let Some(first) = input.next().await else {
        return Ok(stream::empty().boxed());
    };
    let input = stream::iter([first]).chain(input);
    let wire = match client.wire.take().and_then(Wire::if_quiet) {
        Some(wire) => wire,
        None => {
            // openraft's own hint, most of a heartbeat, may be too short to connect in on a busy machine,
            // and a new attempt would only begin anew. A heartbeat that takes longer it gives up itself.
            let patience = Duration::from_millis(client.peer.options().connect_ms_max);
            let opened = Wire::open(&client.peer, patience.max(option.soft_ttl())).await;
            opened.map_err(|error| client.peer.rpc_error(RPCTypes::AppendEntries, error))?
        }
    };
    let session = Session {
        client,
        wire,
        input: Some(input),
        news: None,
        in_flight: VecDeque::new(),
        in_flight_bytes: 0,
    };
    let answers = stream::unfold(Some(session), |session| async {
        let mut session = session?;
        match session.next().await {
            Ok(Some(Ok(answer))) => Some((Ok(Ok(answer)), Some(session))),
            // The peer ends its side after a refusal, and so do we.
            Ok(Some(Err(refusal))) => Some((Ok(Err(refusal)), None)),
            Ok(None) => {
                session.client.wire = Some(session.wire);
                None
            }
            Err(error) => {
                let error = session.client.peer.rpc_error(RPCTypes::AppendEntries, error);
                Some((Err(error), None))
            }
        }
    });
    Ok(answers.boxed())
}

impl<S, I> Session<'_, S, I>
where
    I: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    /// Sends what there is to send until there is an answer; `None` when all is sent and answered.
    async fn next(&mut self) -> Result<Option<StreamAppendResult<TypeConfig>>, CallError> {
        let patience = Duration::from_millis(self.client.peer.options().append_answer_ms_max);
        loop {
            let oldest = self.in_flight.front().map(|sent| sent.moment.at);
            if self.input.is_none() && oldest.is_none() {
                return Ok(None);
            }
            let room = self.in_flight.len() < IN_FLIGHT_MAX && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX;
            let input = self.input.as_mut().filter(|_| room);
            let news_due = self.news.as_ref().map(|(_, due)| *due);
            // Answers first: they make room, and openraft waits for them.
            tokio::select! {
                biased;
                answer = self.wire.answers.message(), if oldest.is_some() => {
                    let answer = answer?.ok_or_else(|| Status::internal("append stream ended"))?;
                    return self.answered(answer).map(Some);
                }
                request = next_of(input) => match request {
                    Some(request) if request.entries.is_empty() => {
                        let due = news_due.unwrap_or_else(|| Instant::now() + COMMIT_NEWS_DELAY);
                        self.news = Some((request, due));
                    }
                    Some(request) => {
                        self.news = None;
                        self.send(request)?;
                    }
                    None => {
                        self.input = None;
                        self.send_news()?;
                    }
                },
                () = until(news_due) => self.send_news()?,
                () = until(oldest.map(|at| at + patience)), if planted!("ack-before-commit") => {
                    return Ok(self.in_flight.pop_front().map(|sent| Ok(sent.last)));
                }
                () = until(oldest.map(|at| at + patience)) => return Err(CallError::Timeout(patience)),
            }
        }
    }

    fn send_news(&mut self) -> Result<(), CallError> {
        match self.news.take() {
            Some((request, _)) => self.send(request),
            None => Ok(()),
        }
    }

    fn send(&mut self, request: AppendEntriesRequest<TypeConfig>) -> Result<(), CallError> {
        let (term, moment) = (request.vote.leader_id.term, self.client.answered.moment());
        let prev = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(prev);
        let message = convert::append_out(request);
        let bytes = message.encoded_len();
        // There is room: the channel holds as many as may be in flight. So it can only be closed.
        self.wire
            .requests
            .try_send(message)
            .map_err(|_| Status::internal("append stream is closed"))?;
        self.in_flight_bytes += bytes;
        self.in_flight.push_back(Sent {
            prev,
            last,
            bytes,
            term,
            moment,
        });
        Ok(())
    }

    fn answered(
        &mut self,
        answer: wire::AppendResponse,
    ) -> Result<StreamAppendResult<TypeConfig>, CallError> {
        let sent = self
            .in_flight
            .pop_front()
            .ok_or_else(|| Status::internal("answer to nothing"))?;
        self.in_flight_bytes -= sent.bytes;
        let result = convert::appended_in(answer, sent.prev, sent.last)?;
        // Whose log differs has accepted the leader all the same.
        if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
            let Sent { term, moment, .. } = sent;
            self.client
                .answered
                .accepted(self.client.peer.node_id(), term, moment);
        }
        Ok(result)
    }
}

/// The next item, or never when there is no stream.
async fn next_of<I: Stream + Unpin>(input: Option<&mut I>) -> Option<I::Item> {
    match input {
        Some(input) => input.next().await,
        None => std::future::pending().await,
    }
}

/// That moment, or never.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
