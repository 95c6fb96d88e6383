//! `holdfast.v1.Inventory`: platforms' commands and reads.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{
    FutureExt, Stream, StreamExt,
    future::{BoxFuture, ready},
    stream::{self, FuturesUnordered},
};
use inventory_machine::{
    DocumentQuery, Machine,
    command::{Found, NAMESPACE_DEFAULT},
};
use openraft::async_runtime::watch::WatchReceiver;
use proto::v1::{self, inventory_server::Inventory, outcome::Kind};
use spans::Span;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    chain::Chain,
    invalid, not_leader,
    outcome::{self, LeaderHint, OutcomesWriter},
    prepare::{Malformed, Preparer, check_sale_id, parse_claim_id, sale_number},
    refusal,
    source::{Audit, Audits, Source, Steps, call_of},
    watch,
};
use crate::{
    HoldfastRaft,
    batcher::{
        Door,
        frame::{Answer, Frame, FrameAnswer, Position, Run, Unsubmitted},
    },
    clock::NodeClock,
    limits::{FRAME_COMMANDS_MAX, LIST_BYTES_MAX, LIST_DEFAULT, LIST_MAX, STREAM_FRAMES_MAX},
    reads::{Freshness, ReadError, Reads},
    rehearsals::sales_without,
    storage::feed::Feed,
};

/// What the service stands on.
pub struct Parts {
    /// Consensus, for knowing who leads.
    pub raft: HoldfastRaft,
    /// The way to the log.
    pub door: Door,
    /// The way to the state.
    pub reads: Reads,
    /// What time it is.
    pub clock: NodeClock,
    /// Committed changes.
    pub feed: Feed,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct InventoryService(Arc<Parts>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl InventoryService {
    /// The service over these parts.
    pub fn new(parts: Parts) -> Self {
        InventoryService(Arc::new(parts))
    }

    /// Runs one frame to its answer. Never fails as a whole: every command has its own outcome.
    fn run(&self, request: v1::SubmitRequest, source: &Source) -> BoxFuture<'static, v1::SubmitResponse> {
        let v1::SubmitRequest {
            frame_id,
            commands,
            traces,
        } = request;
        let count = commands.len();
        if count == 0 || count > FRAME_COMMANDS_MAX {
            let why = format!("the frame has {count} commands; 1 to {FRAME_COMMANDS_MAX} are possible");
            let hint = LeaderHint::default();
            let mut outcomes = OutcomesWriter::new(0, &hint);
            let malformed = outcome::malformed(why);
            (0..count.min(FRAME_COMMANDS_MAX)).for_each(|_| outcomes.push_message(&malformed));
            return ready(respond(
                frame_id,
                outcomes.finish(),
                self.position_now(),
                0,
                Vec::new(),
            ))
            .boxed();
        }
        let Some(founding) = self.founding() else {
            return ready(self.all_unsubmitted(frame_id, count, Unsubmitted::Starting)).boxed();
        };
        let preparer = Preparer {
            secret: founding.secret,
            now: self.0.clock.newest(),
        };
        let mut frame = Frame::default();
        frame.commands.reserve_exact(count);
        // Where commands stood that do not enter, and what they are told; nearly always empty.
        let mut refused: Vec<(usize, v1::Outcome)> = Vec::new();
        let mut audits = Vec::new();
        let steps = Steps::of(&traces);
        let mut chain = Chain::default();
        for (place, command) in commands.into_iter().enumerate() {
            let step = steps.of_command(place);
            let (command, follows) = match chain.next(command) {
                Ok(next) => next,
                Err(outcome) => {
                    chain.went_on(false);
                    refused.push((place, *outcome));
                    continue;
                }
            };
            if let Some(audit) = Audit::of(place, &command, step) {
                audits.push(audit);
            }
            let mut span = match (step, &command.body) {
                (Some(step), Some(body)) => Span::below(step, spans::Kind::Server, call_of(body)),
                _ => Span::default(),
            };
            let told = match source.may(&command) {
                Err(why) => Some(outcome::forbidden(why)),
                Ok(()) => match preparer.add(command, follows, &mut frame) {
                    Err(Malformed(why)) => Some(outcome::malformed(why)),
                    Ok(()) => self.unknown_to_members(&mut frame),
                },
            };
            chain.went_on(told.is_none());
            match &told {
                None => frame.follow(span),
                Some(_) => span.fail("refused for what it is, or who asks"),
            }
            refused.extend(told.map(|outcome| (place, outcome)));
        }
        let audits = (!audits.is_empty()).then(|| Audits {
            source: source.clone(),
            audits,
        });
        let answer = if frame.commands.is_empty() {
            None
        } else {
            Some(self.0.door.submit(frame, source.peer))
        };
        let answer = match answer {
            None => None,
            Some(Ok(answer)) => Some(answer),
            Some(Err(why)) if refused.is_empty() && audits.is_none() => {
                return ready(self.all_unsubmitted(frame_id, count, why)).boxed();
            }
            // What may enter was not submitted; what may not keeps its own answer.
            Some(Err(why)) => {
                let answers = vec![Answer::Unsubmitted(why); count - refused.len()];
                let answer = FrameAnswer {
                    answers,
                    position: self.position_now(),
                    runs: Vec::new(),
                };
                return ready(self.merge(frame_id, answer, refused, audits, founding)).boxed();
            }
        };
        let service = self.clone();
        async move {
            let answer = match answer {
                None => FrameAnswer {
                    answers: Vec::new(),
                    position: service.position_now(),
                    runs: Vec::new(),
                },
                Some(answer) => match answer.await {
                    Ok(answer) => answer,
                    // The batcher is gone with the frame: the node is coming down in disorder.
                    Err(_) => {
                        let not_after_ms =
                            preparer.now.log_time_ms + inventory_machine::command::NOT_AFTER_MS_MAX;
                        let answers = vec![Answer::Unknown { not_after_ms }; count - refused.len()];
                        FrameAnswer {
                            answers,
                            position: service.position_now(),
                            runs: Vec::new(),
                        }
                    }
                },
            };
            service.merge(frame_id, answer, refused, audits, founding)
        }
        .boxed()
    }

    /// Takes the command that was added last out again when not every member could apply it yet, and says so; those
    /// that travel with it go on.
    fn unknown_to_members(&self, frame: &mut Frame) -> Option<v1::Outcome> {
        let version = frame.commands.last()?.version();
        let why = self.0.door.check_version(version).err()?;
        frame.commands.pop();
        metrics::counter!("holdfast_unsubmitted_commands_total", "cause" => why.cause()).increment(1);
        Some(outcome::outcome(Answer::Unsubmitted(why), &LeaderHint::default()))
    }

    fn merge(
        &self,
        frame_id: u64,
        answer: FrameAnswer,
        refused: Vec<(usize, v1::Outcome)>,
        audits: Option<Audits>,
        founding: Found,
    ) -> v1::SubmitResponse {
        let hint = if answer
            .answers
            .iter()
            .any(|answer| matches!(answer, Answer::Unsubmitted(_)))
        {
            self.hint()
        } else {
            LeaderHint::default()
        };
        // Runs count the commands that entered: with others between, they would name wrong places.
        let runs = if refused.is_empty() {
            answer.runs
        } else {
            Vec::new()
        };
        let count = answer.answers.len() + refused.len();
        let mut outcomes = OutcomesWriter::new(count, &hint);
        let (mut answers, mut refused) = (answer.answers.into_iter(), refused.into_iter().peekable());
        for place in 0..count {
            let refused = refused.next_if(|(at, _)| *at == place);
            let answer = match refused {
                Some(_) => None,
                None => Some(answers.next().expect("an answer for every command that entered")),
            };
            if let Some(audits) = &audits {
                audits.tell(
                    place,
                    refused.as_ref().map(|(_, outcome)| outcome),
                    answer.as_ref(),
                );
            }
            match (refused, answer) {
                (Some((_, outcome)), _) => outcomes.push_message(&outcome),
                (None, Some(answer)) => outcomes.push(answer),
                (None, None) => unreachable!("either it was refused, or it has an answer"),
            }
        }
        respond(
            frame_id,
            outcomes.finish(),
            answer.position,
            founding.incarnation,
            runs,
        )
    }

    fn all_unsubmitted(&self, frame_id: u64, count: usize, why: Unsubmitted) -> v1::SubmitResponse {
        let hint = self.hint();
        let mut outcomes = OutcomesWriter::new(0, &hint);
        (0..count).for_each(|_| outcomes.push(Answer::Unsubmitted(why)));
        respond(frame_id, outcomes.finish(), self.position_now(), 0, Vec::new())
    }

    fn founding(&self) -> Option<Found> {
        self.0.reads.shared().read(Machine::founding)
    }

    /// What an answer reflects that needed no entry: the applied state, never a later time.
    fn position_now(&self) -> Position {
        self.0.reads.shared().read(|machine| Position {
            applied_index: machine.applied_index(),
            term: 0,
            log_time_ms: machine.log_time_ms(),
            wall_time_ms: machine.wall_time_ms(),
        })
    }

    fn hint(&self) -> LeaderHint {
        LeaderHint {
            endpoint: leader_endpoint(&self.0.raft),
        }
    }

    /// Reads once the state is as fresh as asked for; gives what was read and what it reflects.
    async fn read<R>(
        &self,
        consistency: Option<v1::Consistency>,
        reader: impl FnOnce(&Machine) -> R,
    ) -> Result<(R, v1::Position), Status> {
        use v1::consistency::Level;
        let consistency = consistency.unwrap_or_default();
        let freshness = match Level::try_from(consistency.level) {
            Ok(Level::Linearizable) => Freshness::Linearizable,
            Ok(Level::Bounded) => Freshness::Bounded(Duration::from_millis(consistency.max_age_ms)),
            Ok(Level::Local) => Freshness::Local,
            Err(_) => {
                let why = format!("consistency.level {} is not a level", consistency.level);
                return Err(invalid(why));
            }
        };
        self.0.reads.ready(freshness).await.map_err(|error| match error {
            ReadError::NotLeader => not_leader(&leader_endpoint(&self.0.raft)),
            ReadError::TooOld { .. } => refusal(Code::FailedPrecondition, "TOO_OLD", error.to_string(), []),
        })?;
        let term = self.0.raft.metrics().borrow_watched().current_term;
        Ok(self.0.reads.shared().read(|machine| {
            let founding = machine.founding();
            let position = Position {
                applied_index: machine.applied_index(),
                term,
                log_time_ms: machine.log_time_ms(),
                wall_time_ms: machine.wall_time_ms(),
            };
            let incarnation = founding.map_or(0, |founding| founding.incarnation);
            (reader(machine), outcome::position(position, incarnation))
        }))
    }

    /// The keyed hash of a user, for reads; zero hashes nobody, and is what an unfounded cluster knows.
    fn user(&self, name: &str) -> u128 {
        self.founding().map_or(0, |founding| {
            Preparer {
                secret: founding.secret,
                now: self.0.clock.newest(),
            }
            .user(name)
        })
    }
}

#[tonic::async_trait]
impl Inventory for InventoryService {
    type SubmitStream = Answers<v1::SubmitResponse>;
    type WatchStream = Answers<v1::WatchResponse>;

    async fn submit(
        &self,
        request: Request<Streaming<v1::SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStream>, Status> {
        let stream = Submitting {
            service: self.clone(),
            source: Source::of(&request),
            requests: Some(request.into_inner()),
            running: FuturesUnordered::new(),
        };
        let answers = stream::unfold(stream, |mut stream| async move {
            let answer = stream.next().await?;
            Some((answer, stream))
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn execute(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let source = Source::of(&request);
        let request = request.into_inner();
        let count = request.commands.len();
        if count == 0 || count > FRAME_COMMANDS_MAX {
            let why = format!("the frame has {count} commands; 1 to {FRAME_COMMANDS_MAX} are possible");
            return Err(invalid(why));
        }
        Ok(Response::new(self.run(request, &source).await))
    }

    async fn get_sale(
        &self,
        request: Request<v1::GetSaleRequest>,
    ) -> Result<Response<v1::GetSaleResponse>, Status> {
        let v1::GetSaleRequest { sale_id, consistency } = request.into_inner();
        check_sale_id(&sale_id).map_err(|Malformed(why)| invalid(why))?;
        let read = self
            .read(consistency, |machine| machine.sale(NAMESPACE_DEFAULT, &sale_id))
            .await?;
        let (Some(sale), position) = read else {
            return Err(no_sale(&sale_id));
        };
        let sale = Some(outcome::sale(&sale));
        Ok(Response::new(v1::GetSaleResponse {
            sale,
            position: Some(position),
        }))
    }

    async fn list_sales(
        &self,
        request: Request<v1::ListSalesRequest>,
    ) -> Result<Response<v1::ListSalesResponse>, Status> {
        let v1::ListSalesRequest {
            after,
            limit,
            consistency,
            rehearsals,
        } = request.into_inner();
        let limit = list_limit(limit)?;
        let after = (!after.is_empty()).then_some(after.as_str());
        let (sales, position) = self
            .read(consistency, |machine| match rehearsals {
                true => machine.sales(NAMESPACE_DEFAULT, after, limit),
                false => sales_without(machine, after, limit),
            })
            .await?;
        let sales = sales.iter().map(outcome::sale).collect();
        Ok(Response::new(v1::ListSalesResponse {
            sales,
            position: Some(position),
        }))
    }

    async fn get_claim(
        &self,
        request: Request<v1::GetClaimRequest>,
    ) -> Result<Response<v1::GetClaimResponse>, Status> {
        let v1::GetClaimRequest {
            claim_id,
            user,
            consistency,
        } = request.into_inner();
        let id = parse_claim_id(&claim_id).map_err(|Malformed(why)| invalid(why))?;
        let read = self.read(consistency, |machine| {
            let claim = machine.claim(id)?;
            Some((claim, machine.sale_by_number(sale_number(id))?.sale_id))
        });
        let (found, position) = read.await?;
        let found = found.filter(|(claim, _)| user.is_empty() || claim.user == self.user(&user));
        let Some((claim, sale_id)) = found else {
            return Err(refusal(
                Code::NotFound,
                "CLAIM_UNKNOWN",
                format!("there is no claim {claim_id}"),
                [],
            ));
        };
        let claim = Some(outcome::claim(&claim));
        Ok(Response::new(v1::GetClaimResponse {
            claim,
            position: Some(position),
            sale_id,
        }))
    }

    async fn list_claims(
        &self,
        request: Request<v1::ListClaimsRequest>,
    ) -> Result<Response<v1::ListClaimsResponse>, Status> {
        let v1::ListClaimsRequest {
            sale_id,
            rank_from,
            limit,
            user,
            consistency,
        } = request.into_inner();
        check_sale_id(&sale_id).map_err(|Malformed(why)| invalid(why))?;
        let limit = list_limit(limit)?;
        let user = (!user.is_empty()).then(|| self.user(&user));
        let read = self.read(consistency, |machine| {
            let sale = machine.sale(NAMESPACE_DEFAULT, &sale_id)?;
            Some(match user {
                Some(user) => machine.claims_of(sale.sale_number, user, limit),
                None => machine.claims(sale.sale_number, rank_from.max(1), limit),
            })
        });
        let (Some(claims), position) = read.await? else {
            return Err(no_sale(&sale_id));
        };
        let claims = claims.iter().map(outcome::listed_claim).collect();
        Ok(Response::new(v1::ListClaimsResponse {
            claims,
            position: Some(position),
        }))
    }

    async fn get_document(
        &self,
        request: Request<v1::GetDocumentRequest>,
    ) -> Result<Response<v1::GetDocumentResponse>, Status> {
        let v1::GetDocumentRequest {
            document,
            consistency,
        } = request.into_inner();
        let (found, position) = self
            .read(consistency, |machine| machine.document(&document))
            .await?;
        let Some(found) = found else {
            return Err(refusal(
                Code::NotFound,
                "DOCUMENT_UNKNOWN",
                "there is no such document",
                [],
            ));
        };
        Ok(Response::new(v1::GetDocumentResponse {
            body: found.body.into(),
            version: found.version,
            fencing_token: found.fencing_token,
            leased_until_ms: found.leased_until_ms,
            position: Some(position),
            expires_at_ms: found.expires_at_ms,
        }))
    }

    async fn list_documents(
        &self,
        request: Request<v1::ListDocumentsRequest>,
    ) -> Result<Response<v1::ListDocumentsResponse>, Status> {
        let v1::ListDocumentsRequest {
            prefix,
            after,
            limit,
            keys_only,
            consistency,
        } = request.into_inner();
        let query = DocumentQuery {
            prefix: &prefix,
            after: &after,
            limit: list_limit(limit)?,
            bytes_max: LIST_BYTES_MAX,
            keys_only,
        };
        let (list, position) = self
            .read(consistency, |machine| machine.documents(&query))
            .await?;
        Ok(Response::new(v1::ListDocumentsResponse {
            documents: list.documents.into_iter().map(outcome::listed_document).collect(),
            more: list.more,
            position: Some(position),
        }))
    }

    async fn resolve(&self, request: Request<v1::ResolveRequest>) -> Result<Response<v1::Outcome>, Status> {
        let peer = Source::of(&request).peer;
        let request = request.into_inner();
        let Some(founding) = self.founding() else {
            let outcome = outcome::outcome(Answer::Unsubmitted(Unsubmitted::Starting), &self.hint());
            return Ok(Response::new(outcome));
        };
        let preparer = Preparer {
            secret: founding.secret,
            now: self.0.clock.newest(),
        };
        let sale = self
            .0
            .reads
            .shared()
            .read(|machine| machine.sale(NAMESPACE_DEFAULT, &request.sale_id));
        let frame = preparer
            .resolve(&request, sale.map(|sale| sale.sale_number))
            .map_err(|Malformed(why)| invalid(why))?;
        let unknown = Answer::Unknown {
            not_after_ms: frame.commands[0].not_after_ms,
        };
        let mut position = outcome::position(self.position_now(), founding.incarnation);
        let answer = match self.0.door.submit(frame, peer) {
            Err(why) => Answer::Unsubmitted(why),
            Ok(answer) => match answer.await {
                Ok(answer) => {
                    position = outcome::position(answer.position, founding.incarnation);
                    if let Some(run) = answer.runs.first() {
                        position.applied_index = run.log_index;
                        position.log_time_ms = run.log_time_ms;
                        position.command = Some(run.position);
                    }
                    answer.answers.into_iter().next().unwrap_or(unknown)
                }
                Err(_) => unknown,
            },
        };
        let mut outcome = outcome::outcome(answer, &self.hint());
        if let Some(Kind::Resolved(resolution)) = &mut outcome.kind {
            resolution.position = Some(position);
        }
        Ok(Response::new(outcome))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        Ok(Response::new(
            watch::watch(&self.0.feed, self.0.reads.clone(), request)?.boxed(),
        ))
    }
}

/// One Submit stream: frames are read while few enough are running; answers leave as they come.
struct Submitting {
    service: InventoryService,
    source: Source,
    /// `None` once the caller has said all.
    requests: Option<Streaming<v1::SubmitRequest>>,
    running: FuturesUnordered<BoxFuture<'static, v1::SubmitResponse>>,
}

impl Submitting {
    /// The next answer; `None` when the caller has said all and been answered.
    async fn next(&mut self) -> Option<Result<v1::SubmitResponse, Status>> {
        loop {
            let reads = self.requests.is_some() && self.running.len() < STREAM_FRAMES_MAX;
            tokio::select! {
                biased;
                Some(answer) = self.running.next() => return Some(Ok(answer)),
                request = async { self.requests.as_mut().expect("guarded").message().await }, if reads => {
                    match request {
                        Ok(Some(request)) => self.running.push(self.service.run(request, &self.source)),
                        Ok(None) => self.requests = None,
                        // The caller is gone, or sent what is no frame: what runs, runs on without him.
                        Err(status) => {
                            self.requests = None;
                            self.running.clear();
                            return Some(Err(status));
                        }
                    }
                }
                else => return None,
            }
        }
    }
}

/// Rows to list, from what was asked for.
fn list_limit(limit: u32) -> Result<usize, Status> {
    match limit {
        0 => Ok(LIST_DEFAULT as usize),
        1..=LIST_MAX => Ok(limit as usize),
        _ => Err(invalid(format!(
            "limit {limit} is more than {LIST_MAX}; list in parts"
        ))),
    }
}

/// The answer to a frame.
fn respond(
    frame_id: u64,
    outcomes_encoded: Bytes,
    position: Position,
    incarnation: u32,
    runs: Vec<Run>,
) -> v1::SubmitResponse {
    v1::SubmitResponse {
        frame_id,
        outcomes: Vec::new(),
        outcomes_encoded,
        position: Some(outcome::position(position, incarnation)),
        runs: runs.into_iter().map(outcome::run).collect(),
    }
}

fn no_sale(sale_id: &str) -> Status {
    refusal(
        Code::NotFound,
        "SALE_UNKNOWN",
        format!("there is no sale {sale_id}"),
        [],
    )
}

/// Where the leader is, as far as this node knows; empty when it does not.
pub fn leader_endpoint(raft: &HoldfastRaft) -> String {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched().clone();
    metrics
        .current_leader
        .and_then(|leader| metrics.membership_config.membership().get_node(&leader).cloned())
        .map_or_else(String::new, |node| node.addr)
}
