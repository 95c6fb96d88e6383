//! Chains: commands that take effect in one log entry, each only if the one before it did.
//!
//! So a chain costs one round where its commands would cost one each, and nothing comes between them. It goes as far as
//! the first that is refused: what came before that stays, what stands behind it is not judged at all. A
//! condition that must hold for all of it goes first ([`Client::check_document`]).
//!
//! ```no_run
//! use client::{Client, Done, Error};
//!
//! # async fn example(client: Client, claim_id: &str, token: u64) -> Result<(), Error> {
//! let chained = client
//!     .chain()
//!     .then(client.put_document("orders/4711", r#"{"paid":true}"#, 0).key("order-4711-make"))
//!     .then(client.confirm(claim_id, token).key("order-4711-confirm"))
//!     .send()
//!     .await;
//! // `done` is what was done, in order; the end says why it went no further, if it did not.
//! chained.end?;
//! assert!(matches!(chained.done[..], [Done::Document(_), Done::Settled(_)]));
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proto::v1::{Command, Grant, Outcome, Position, command::Body, outcome::Kind};
use spans::{Span, TraceContext};
use tokio::time::{Instant, sleep};

use crate::{
    Client, Error, SaleRequest, SettleRequest, TakeRequest,
    call::{SUBMIT_CALL, Shared},
    chance, convert,
    documents::DocumentRequest,
    frame,
    model::{Claim, Claimed, DocumentChanged, Receipt},
    queue::Answer,
    retry::{Attempts, Step},
};

/// Most commands in a chain: as many as a node takes.
pub const CHAIN_COMMANDS_MAX: usize = 16;

/// A command of a chain: any request that could be sent by itself. Made from one with [`Into`].
pub struct Link(Result<Command, Error>);

impl From<DocumentRequest> for Link {
    fn from(request: DocumentRequest) -> Link {
        Link(Ok(request.into_command().1))
    }
}

impl From<SettleRequest> for Link {
    fn from(request: SettleRequest) -> Link {
        Link(Ok(request.into_command().1))
    }
}

impl From<SaleRequest> for Link {
    fn from(request: SaleRequest) -> Link {
        Link(Ok(request.into_command().1))
    }
}

impl From<TakeRequest> for Link {
    fn from(request: TakeRequest) -> Link {
        Link(request.into_command().map(|(_, command)| command))
    }
}

/// A chain being built.
#[must_use = "nothing is sent before send()"]
pub struct Chain {
    shared: Arc<Shared>,
    links: Vec<Link>,
}

/// What one command of a chain came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// A claim or decrement. [`Grant::Already`] ends the chain: it is no effect of this command.
    Claimed(Claimed),
    /// A confirm, release, extend or cancel: the claim as it is then.
    Settled(Claim),
    /// A change of a sale.
    Sale(Receipt),
    /// A change or a check of a document.
    Document(DocumentChanged),
}

/// How far a chain came.
#[derive(Clone, Debug)]
pub struct Chained {
    /// What its commands came to, from the first on, as far as is known.
    pub done: Vec<Done>,
    /// Why it went no further. [`Error::Rejected`]: the command after the last of `done` was refused, it and those behind
    /// it have not happened and will not. [`Error::Unknown`]: of any of the others, too, it is not known.
    pub end: Result<(), Error>,
}

impl Chain {
    /// Adds a command, which takes effect only if all before it have; at most [`CHAIN_COMMANDS_MAX`].
    pub fn then(mut self, request: impl Into<Link>) -> Chain {
        self.links.push(request.into());
        self
    }

    /// Sends it, retrying with the same keys what is safe to retry. A key that was used before counts as its command
    /// done, so a chain that is sent again goes on where it came to its end.
    pub async fn send(self) -> Chained {
        let nothing = |error| Chained {
            done: Vec::new(),
            end: Err(error),
        };
        let count = self.links.len();
        if count == 0 || count > CHAIN_COMMANDS_MAX {
            return nothing(Error::invalid(format!(
                "a chain of {count} commands; 1 to {CHAIN_COMMANDS_MAX} are possible"
            )));
        }
        let commands: Result<Vec<Command>, Error> = self.links.into_iter().map(|link| link.0).collect();
        match commands {
            Ok(commands) => self.shared.carry_out_chain(commands).await,
            Err(error) => nothing(error),
        }
    }
}

impl Client {
    /// A chain without commands yet.
    pub fn chain(&self) -> Chain {
        Chain {
            shared: Arc::clone(&self.shared),
            links: Vec::new(),
        }
    }
}

impl Shared {
    async fn carry_out_chain(&self, commands: Vec<Command>) -> Chained {
        let Some(step) = spans::current() else {
            return self.carry_out_chain_in(commands, None).await;
        };
        let mut span = Span::below(step, spans::Kind::Client, SUBMIT_CALL);
        let step = span.context().unwrap_or(step);
        let chained = self
            .carry_out_chain_in(commands, step.is_sampled().then_some(step))
            .await;
        if let Err(error) = &chained.end {
            span.fail(error);
        }
        chained
    }

    async fn carry_out_chain_in(&self, mut commands: Vec<Command>, trace: Option<TraceContext>) -> Chained {
        let deadline = self.deadline();
        self.lane.start(&self.nodes);
        self.budget.earn(1);
        let (mut body, mut attempts) = match self.encode_chain(&mut commands, deadline).await {
            Ok(encoded) => encoded,
            Err(error) => return ended(Vec::new(), Err(error)),
        };
        loop {
            let answer = self
                .lane
                .submit_many(body.clone(), commands.len(), deadline, trace)
                .await;
            let (done, ending) = match cut(answer) {
                Ok(cut) => cut,
                Err(error) => return ended(Vec::new(), Err(error)),
            };
            let Some((answer, behind)) = ending else {
                return ended(done, Ok(()));
            };
            // The one that ended it decides about all: those before it are done, those behind it wait for it.
            let ending = &commands[done.len()];
            let left = deadline.saturating_duration_since(Instant::now());
            let takes = matches!(ending.body, Some(Body::Claim(_) | Body::Decrement(_)));
            match attempts.answered(answer, &self.budget, left, chance::random()) {
                Step::Finish(result) => return finished(done, result, behind),
                Step::Again(pause) if pause.is_zero() => {}
                Step::Again(pause) => sleep(pause).await,
                Step::Renew(pause) => {
                    sleep(pause).await;
                    (body, attempts) = match self.encode_chain(&mut commands, deadline).await {
                        Ok(encoded) => encoded,
                        Err(error) => return ended(done, Err(error)),
                    };
                }
                Step::Resolve => {
                    let resolution = self.resolve_command(ending, deadline).await;
                    use proto::v1::resolution::Kind as Resolved;
                    match resolution {
                        // An attempt of which nothing was heard got that far; asked again, all keys tell how.
                        Ok((Resolved::Effect(_) | Resolved::Claim(_), _)) => {
                            attempts = Attempts::new(ending.not_after_ms);
                        }
                        resolution => {
                            return finished(done, attempts.resolved(resolution, takes), behind);
                        }
                    }
                }
            }
        }
    }

    /// The chain as it stands in a frame, to apply until one log time, and its attempts: none yet.
    async fn encode_chain(
        &self,
        commands: &mut [Command],
        deadline: Instant,
    ) -> Result<(Bytes, Attempts), Error> {
        for command in &*commands {
            frame::check_command(command)?;
        }
        let not_after_ms = self.nodes.not_after_ms(commands.len(), deadline).await?;
        let mut body = BytesMut::new();
        for (place, command) in commands.iter_mut().enumerate() {
            command.not_after_ms = not_after_ms;
            if place == 0 {
                frame::append_command(command, &mut body)?;
            } else {
                let then = Command {
                    body: Some(Body::Then(Box::new(command.clone()))),
                    ..Command::default()
                };
                frame::append_command(&then, &mut body)?;
            }
        }
        Ok((body.freeze(), Attempts::new(not_after_ms)))
    }
}

fn ended(done: Vec<Done>, end: Result<(), Error>) -> Chained {
    Chained { done, end }
}

/// A chain whose ending command has its final answer; `behind`: what the one after it was told.
fn finished(
    mut done: Vec<Done>,
    result: Result<(Kind, Position), Error>,
    behind: Option<Outcome>,
) -> Chained {
    match result.and_then(|(kind, position)| Ok((one_done(kind, position)?, position))) {
        Err(error) => ended(done, Err(error)),
        Ok((last, position)) => {
            done.push(last);
            let end = match behind.and_then(|behind| behind.kind) {
                None => Ok(()),
                Some(Kind::Rejected(rejected)) => Err(Error::Rejected(Box::new(crate::error::rejected(
                    rejected, position,
                )))),
                Some(_) => Err(Error::malformed("the end of the chain")),
            };
            ended(done, end)
        }
    }
}

/// The answer to the command that ended a chain, and what the one behind it was told.
type Ending = (Answer<Outcome>, Option<Outcome>);

/// Divides an answer at the first command that had no effect; without one, all are done.
fn cut(answer: Answer<Vec<Outcome>>) -> Result<(Vec<Done>, Option<Ending>), Error> {
    let (outcomes, position) = match answer {
        Ok(answered) => answered,
        Err(failure) => return Ok((Vec::new(), Some((Err(failure), None)))),
    };
    let mut done = Vec::with_capacity(outcomes.len());
    let mut outcomes = outcomes.into_iter();
    while let Some(outcome) = outcomes.next() {
        match outcome.kind {
            Some(kind) if had_effect(&kind) => done.push(one_done(kind, position)?),
            _ => return Ok((done, Some((Ok((outcome, position)), outcomes.next())))),
        }
    }
    Ok((done, None))
}

/// Whether a command had its effect, as the machine understands it.
fn had_effect(kind: &Kind) -> bool {
    match kind {
        Kind::Claim(granted) => granted.grant() != Grant::Already,
        Kind::Settled(_) | Kind::Done(_) | Kind::Document(_) => true,
        Kind::Resolved(_) | Kind::Rejected(_) | Kind::Unsubmitted(_) | Kind::Unknown(_) => false,
    }
}

fn one_done(kind: Kind, position: Position) -> Result<Done, Error> {
    match &kind {
        Kind::Claim(_) => convert::claimed(kind, position).map(Done::Claimed),
        Kind::Settled(_) => convert::settled(kind, position).map(|(claim, _)| Done::Settled(claim)),
        Kind::Done(_) => convert::done(kind).map(Done::Sale),
        _ => convert::document_changed(kind, position).map(Done::Document),
    }
}
