//! One call from its command to its final answer: the lane carries it, the rules of [`crate::retry`]
//! say what each answer means, and the same encoded command goes out on every attempt.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use fault_points::planted;
use futures::{
    StreamExt,
    stream::{FuturesOrdered, FuturesUnordered},
};
use proto::v1::{
    Command, GetClaimRequest, Operation, Outcome, Position, Reason, ResolveRequest, Take, command::Body,
    inventory_client::InventoryClient, outcome::Kind, resolution,
};
use spans::{Span, TraceContext};
use tokio::time::{Instant, sleep};

use crate::{
    Error, chance,
    channel::Channel,
    convert, error, frame,
    leader::{Nodes, Repeat, timed},
    model::{BulkClaim, Claimed, Consistency, Sale},
    queue::{Answer, FRAME_BYTES_MAX, FRAME_COMMANDS_MAX, FRAMES_IN_FLIGHT_MAX},
    request::no_units,
    retry::{Attempts, Budget, Step, pause},
    rounds::Rounds,
    stream::Lane,
};

/// Largest answer to a read, in bytes: a page of claims or sales, with room.
const READ_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What the clones of a client share.
pub(crate) struct Shared {
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) lane: Arc<Lane>,
    pub(crate) budget: Budget,
    pub(crate) timeout: Duration,
    pub(crate) principal: String,
    /// Linearizable reads of single sales: in a sale everybody asks for the same one.
    pub(crate) sale_reads: Rounds<Result<(Sale, Position), Error>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.lane.close();
    }
}

/// A fresh idempotency key: 128 random bits in hex.
pub(crate) fn random_key() -> String {
    format!("{:032x}", chance::random::<u128>())
}

/// The generated client of the inventory on a channel.
pub(crate) fn inventory(channel: Channel) -> InventoryClient<Channel> {
    InventoryClient::new(channel).max_decoding_message_size(READ_BYTES_MAX)
}

impl Shared {
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Carries a command out, once, whatever it takes within the timeout.
    pub(crate) async fn carry_out(&self, command: Command) -> Result<(Kind, Position), Error> {
        let Some(step) = spans::current() else {
            return self.carry_out_in(command, None).await;
        };
        let mut span = Span::below(step, spans::Kind::Client, SUBMIT_CALL);
        let step = span.context().unwrap_or(step);
        // What operators do is told in the audit log under its trace, whether or not anybody follows that.
        let told = step.is_sampled() || is_operators(&command);
        let result = self.carry_out_in(command, told.then_some(step)).await;
        if let Err(error) = &result {
            span.fail(error);
        }
        result
    }

    /// Carries a command out as part of a step.
    async fn carry_out_in(
        &self,
        mut command: Command,
        trace: Option<TraceContext>,
    ) -> Result<(Kind, Position), Error> {
        let deadline = self.deadline();
        frame::check_command(&command)?;
        command.not_after_ms = self.nodes.not_after_ms(1, deadline).await?;
        let body = frame::encode_command(&command)?;
        self.lane.start(&self.nodes);
        self.budget.earn(1);
        let answer = self.lane.submit(body.clone(), deadline, trace).await;
        self.see_through(command, body, deadline, trace, answer).await
    }

    /// Goes on after the answer to the first attempt.
    async fn see_through(
        &self,
        mut command: Command,
        mut body: bytes::Bytes,
        deadline: Instant,
        trace: Option<TraceContext>,
        mut answer: Answer<Outcome>,
    ) -> Result<(Kind, Position), Error> {
        let mut attempts = Attempts::new(command.not_after_ms);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match attempts.answered(answer, &self.budget, left, chance::random()) {
                Step::Finish(result) => return result,
                Step::Again(pause) if pause.is_zero() => {}
                Step::Again(pause) => sleep(pause).await,
                Step::Renew(pause) => {
                    sleep(pause).await;
                    command.not_after_ms = self.nodes.not_after_ms(1, deadline).await?;
                    body = frame::encode_command(&command)?;
                    attempts = Attempts::new(command.not_after_ms);
                }
                Step::Resolve => {
                    let takes = matches!(command.body, Some(Body::Claim(_) | Body::Decrement(_)));
                    let resolution = self.resolve_command(&command, deadline).await;
                    let document = matches!(
                        command.body,
                        Some(
                            Body::PutDocument(_)
                                | Body::DeleteDocument(_)
                                | Body::LeaseDocument(_)
                                | Body::CheckDocument(_)
                        )
                    );
                    if !(document && matches!(resolution, Ok((resolution::Kind::Effect(_), _)))) {
                        return attempts.resolved(resolution, takes);
                    }
                    // It happened; asked again, its key tells how that left the document.
                    attempts = Attempts::new(command.not_after_ms);
                }
            }
            let body = match &command {
                Command { key, .. } if planted!("unknown-retried-with-new-key") => {
                    frame::encode_command(&Command {
                        key: format!("{key}-again"),
                        ..command.clone()
                    })?
                }
                _ => body.clone(),
            };
            answer = self.lane.submit(body, deadline, trace).await;
        }
    }

    /// What became of this command's key?
    pub(crate) async fn resolve_command(
        &self,
        command: &Command,
        deadline: Instant,
    ) -> Result<(resolution::Kind, Position), Error> {
        let (operation, sale_id, user) = match &command.body {
            Some(Body::Claim(take)) => (Operation::Claim, take.sale_id.clone(), take.user.as_str()),
            Some(Body::Decrement(take)) => (Operation::Decrement, take.sale_id.clone(), take.user.as_str()),
            Some(Body::Confirm(settle)) => (
                Operation::Confirm,
                self.sale_of(&settle.claim_id, deadline).await?,
                "",
            ),
            Some(Body::Release(settle)) => (
                Operation::Release,
                self.sale_of(&settle.claim_id, deadline).await?,
                "",
            ),
            Some(Body::Extend(settle)) => (
                Operation::Extend,
                self.sale_of(&settle.claim_id, deadline).await?,
                "",
            ),
            Some(Body::Cancel(settle)) => (
                Operation::Cancel,
                self.sale_of(&settle.claim_id, deadline).await?,
                "",
            ),
            Some(Body::CreateSale(sale)) => (Operation::Sale, sale.sale_id.clone(), ""),
            Some(Body::OpenSale(sale) | Body::PauseSale(sale) | Body::CloseSale(sale)) => {
                (Operation::Sale, sale.sale_id.clone(), "")
            }
            Some(Body::Restock(sale) | Body::Withdraw(sale)) => (Operation::Sale, sale.sale_id.clone(), ""),
            Some(
                Body::PutDocument(_)
                | Body::DeleteDocument(_)
                | Body::LeaseDocument(_)
                | Body::CheckDocument(_),
            ) => (Operation::Document, String::new(), ""),
            // A chain puts it around what is sent, and around nothing else.
            Some(Body::Then(_)) | None => return Err(Error::invalid("a command without a body")),
        };
        let principal = if command.principal.is_empty() {
            user
        } else {
            &command.principal
        };
        let document = match &command.body {
            Some(Body::PutDocument(put)) => put.document.clone(),
            Some(Body::DeleteDocument(delete)) => delete.document.clone(),
            Some(Body::LeaseDocument(lease)) => lease.document.clone(),
            Some(Body::CheckDocument(check)) => check.document.clone(),
            _ => Bytes::new(),
        };
        let request = ResolveRequest {
            sale_id,
            document,
            operation: operation.into(),
            key: command.key.clone(),
            principal: principal.to_string(),
            // As late as any attempt could be: the caller may have tried this key before this call.
            not_after_ms: 0,
        };
        self.resolve(request, deadline).await
    }

    async fn sale_of(&self, claim_id: &str, deadline: Instant) -> Result<String, Error> {
        let request = GetClaimRequest {
            claim_id: claim_id.to_string(),
            user: String::new(),
            consistency: Some(convert::consistency(Consistency::Linearizable)),
        };
        let found = self
            .nodes
            .on_leader(deadline, Repeat::Safe, |channel, left| {
                let request = timed(request.clone(), left);
                async move { inventory(channel).get_claim(request).await }
            })
            .await?;
        Ok(found.sale_id)
    }

    /// Resolves a key, again and again until there is an answer or no time; and says what that reflects.
    pub(crate) async fn resolve(
        &self,
        request: ResolveRequest,
        deadline: Instant,
    ) -> Result<(resolution::Kind, Position), Error> {
        let mut tries = 0;
        loop {
            let outcome = self
                .nodes
                .on_leader(deadline, Repeat::Safe, |channel, left| {
                    let request = timed(request.clone(), left);
                    async move { inventory(channel).resolve(request).await }
                })
                .await?;
            let error = match outcome.kind {
                Some(Kind::Resolved(resolution)) => {
                    let kind = resolution
                        .kind
                        .ok_or_else(|| Error::malformed("the resolution"))?;
                    return Ok((kind, resolution.position.unwrap_or_default()));
                }
                Some(Kind::Rejected(rejected)) => {
                    let rejected = error::rejected(rejected, Position::default());
                    return Err(Error::Rejected(Box::new(rejected)));
                }
                Some(Kind::Unsubmitted(refused)) => {
                    let hint = Some(refused.leader_endpoint.as_str()).filter(|hint| !hint.is_empty());
                    self.nodes.redirect(hint);
                    Error::Unavailable {
                        message: refused.message,
                        retry_after_ms: refused.retry_after_ms,
                    }
                }
                // A resolve changes nothing but the fence, so its own unknown is only "not yet".
                Some(Kind::Unknown(unknown)) => Error::unavailable(unknown.message),
                _ => return Err(Error::malformed("the resolution")),
            };
            tries += 1;
            let pause = pause(tries, chance::random());
            if deadline.saturating_duration_since(Instant::now()) <= pause {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    /// Many claims in full frames, as many frames at once as may be in flight.
    pub(crate) async fn claim_many(
        &self,
        sale_id: &str,
        claims: &[BulkClaim],
    ) -> Vec<Result<Claimed, Error>> {
        self.lane.start(&self.nodes);
        let mut results = Vec::with_capacity(claims.len());
        let mut claims = claims;
        let mut answers = FuturesOrdered::new();
        loop {
            while answers.len() < FRAMES_IN_FLIGHT_MAX && !claims.is_empty() {
                let count = claims.len().min(FRAME_COMMANDS_MAX);
                let part = match self.nodes.not_after_ms(count, self.deadline()).await {
                    Ok(not_after_ms) => Part::cut(sale_id, not_after_ms, &mut claims),
                    Err(error) => Part::Refused(std::mem::take(&mut claims).len(), error),
                };
                answers.push_back(self.claim_frame(sale_id, part));
            }
            match answers.next().await {
                Some(answer) => results.extend(answer),
                None => return results,
            }
        }
    }

    /// One frame of claims; what needs more than one attempt goes on as single calls, which the lane
    /// gathers again.
    async fn claim_frame(&self, sale_id: &str, part: Part<'_>) -> Vec<Result<Claimed, Error>> {
        let (claims, not_after_ms, body) = match part {
            Part::Frame(claims, not_after_ms, body) => (claims, not_after_ms, body),
            Part::Refused(count, error) => return vec![Err(error); count],
        };
        self.budget.earn(claims.len());
        let deadline = self.deadline();
        let answers: Vec<Answer<Outcome>> =
            match self.lane.submit_many(body, claims.len(), deadline, None).await {
                Ok((outcomes, position)) => outcomes
                    .into_iter()
                    .map(|outcome| Ok((outcome, position)))
                    .collect(),
                Err(failure) => vec![Err(failure); claims.len()],
            };
        let mut results: Vec<Option<Result<Claimed, Error>>> = Vec::with_capacity(claims.len());
        let mut again = FuturesUnordered::new();
        for (place, (claim, answer)) in claims.iter().zip(answers).enumerate() {
            match answer {
                // A first answer of these kinds is final; the rest goes through the rules of retrying.
                Ok((
                    Outcome {
                        kind: Some(Kind::Rejected(rejected)),
                    },
                    position,
                )) if rejected.reason() != Reason::TooLate => {
                    let rejected = error::rejected(rejected, position);
                    results.push(Some(Err(Error::Rejected(Box::new(rejected)))));
                }
                Ok((
                    Outcome {
                        kind: Some(kind @ Kind::Claim(_)),
                    },
                    position,
                )) => {
                    results.push(Some(convert::claimed(kind, position)));
                }
                answer => {
                    results.push(None);
                    let command = claim_command(sale_id, claim, not_after_ms);
                    again.push(self.claim_again(place, command, deadline, answer));
                }
            }
        }
        while let Some((place, result)) = again.next().await {
            results[place] = Some(result);
        }
        let missing = || {
            Err(Error::unavailable(
                "a claim of the frame was left without an answer",
            ))
        };
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(missing))
            .collect()
    }

    async fn claim_again(
        &self,
        place: usize,
        command: Command,
        deadline: Instant,
        answer: Answer<Outcome>,
    ) -> (usize, Result<Claimed, Error>) {
        let result = match frame::encode_command(&command) {
            Ok(body) => self.see_through(command, body, deadline, None, answer).await,
            Err(error) => Err(error),
        };
        (
            place,
            result.and_then(|(kind, position)| convert::claimed(kind, position)),
        )
    }
}

/// The name of a call in a trace, as gRPC names it.
pub(crate) const SUBMIT_CALL: &str = "holdfast.v1.Inventory/Submit";

/// Whether this is something that operators do, and nodes keep in their audit log.
fn is_operators(command: &Command) -> bool {
    matches!(
        command.body,
        Some(
            Body::CreateSale(_)
                | Body::OpenSale(_)
                | Body::PauseSale(_)
                | Body::CloseSale(_)
                | Body::Restock(_)
                | Body::Withdraw(_)
        )
    )
}

fn claim_command(sale_id: &str, claim: &BulkClaim, not_after_ms: u64) -> Command {
    let take = Take {
        sale_id: sale_id.to_string(),
        user: claim.user.clone(),
        quantity: claim.quantity,
    };
    Command {
        key: claim.key.clone(),
        principal: String::new(),
        not_after_ms,
        body: Some(Body::Claim(take)),
    }
}

/// Some claims of many.
enum Part<'a> {
    /// A frame of them, encoded, and the latest log time at which they may apply.
    Frame(&'a [BulkClaim], u64, bytes::Bytes),
    /// So many that may go into no frame.
    Refused(usize, Error),
}

impl<'a> Part<'a> {
    /// Cuts a frame off the claims; frames that wait for their turn are not encoded yet and cost no memory.
    fn cut(sale_id: &str, not_after_ms: u64, claims: &mut &'a [BulkClaim]) -> Part<'a> {
        let mut command = claim_command(sale_id, &claims[0], not_after_ms);
        let mut body = BytesMut::new();
        let mut taken = 0;
        for claim in claims.iter().take(FRAME_COMMANDS_MAX) {
            if let Some(Body::Claim(take)) = &mut command.body {
                take.user.clone_from(&claim.user);
                take.quantity = claim.quantity;
            }
            command.key.clone_from(&claim.key);
            let appended = match claim.quantity {
                0 => Err(no_units()),
                _ => frame::append_command(&command, &mut body),
            };
            if let Err(error) = appended {
                if taken == 0 {
                    *claims = &claims[1..];
                    return Part::Refused(1, error);
                }
                break;
            }
            taken += 1;
            if body.len() >= FRAME_BYTES_MAX - frame::COMMAND_BYTES_MAX {
                break;
            }
        }
        let (frame, rest) = claims.split_at(taken);
        *claims = rest;
        Part::Frame(frame, not_after_ms, body.freeze())
    }
}
