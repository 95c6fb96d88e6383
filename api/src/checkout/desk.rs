//! Where shoppers ask: to pay for a claim, how that stands, to cancel an order.
//!
//! What is asked is checked against the store as it is now, the journal is written, and a driver starts.
//! The shopper is answered when it is decided, or when his patience is over; nothing depends on his
//! waiting. How a checkout stands is read from the store, so any process can say.

use std::{sync::Arc, time::Duration};

use client::{Claim, ClaimStatus, Error, Position};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Instant, sleep, timeout_at},
};

use super::{
    Checkouts, Lost, Till,
    driver::End,
    journal::{ATTEMPTS_MAX, Closed, FORMAT, Journal, Request, closed_key, decode, open_key},
    owner::{Owner, Paid},
    terms::{Doubt, Ending, Stage},
};
use crate::{
    error::{Kind, Members, Problem},
    idempotency::{self, Guard, Ticket},
    orders::{self, Granted, Order},
    payment::{Currency, Money},
};

/// How often a checkout that another process drives is looked at for its waiting shopper.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Rounds in which another attempt may come first, or a look shows that one has.
const ROUNDS_MAX: usize = 4;

/// How long a shopper who asks how it stands waits for the provider to be asked.
const STATUS_WAIT: Duration = Duration::from_secs(5);

/// Shortest time between two such questions about one checkout, in ms of log time.
const STATUS_LOOK_MS_MIN: u64 = 1_000;

/// A wish to pay.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) user: String,
    pub(crate) claim_id: String,
    /// His idempotency key.
    pub(crate) key: String,
    pub(crate) request: Request,
    /// What he believes to pay, where he says so.
    pub(crate) amount: Option<Money>,
}

/// How a checkout stands.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// Nothing is decided yet.
    Pending { attempt: u32 },
    /// The shopper has to go there.
    ActionRequired { attempt: u32, url: Option<String> },
    /// There is an order.
    Ordered(Box<Order>),
    /// It ended without.
    Ended { attempt: u32, ending: Ending },
    /// An order is being cancelled.
    Cancelling,
}

/// A checkout that was begun here, with the room for it.
pub(crate) struct Begun {
    owner: Owner,
    place: OwnedSemaphorePermit,
}

/// What came of beginning a first attempt.
pub(crate) struct First {
    /// The right to answer for the key; `Err`: it was not taken.
    pub(crate) key: Result<Guard, Ticket>,
    /// `None`: nothing was begun, or it was lost at once.
    pub(crate) begun: Option<Begun>,
}

/// What came of beginning upon all that is known.
enum Again {
    Begun(Box<Begun>),
    /// Nothing is to be begun: so it stands.
    Stands(Standing),
    /// Somebody was faster.
    Changed,
}

/// What the store knows of a claim's checkout; by default nothing.
#[derive(Default)]
struct Known {
    open: Option<Journal>,
    closed: Option<Closed>,
    closed_version: u64,
    order: Option<Order>,
    /// Log time of the answer about `open`; zero where there is none.
    now_ms: u64,
}

impl Known {
    fn standing(self) -> Option<Standing> {
        match (self.open, self.order) {
            (Some(open), _) if is_cancel(&open) => Some(Standing::Cancelling),
            (_, Some(order)) => Some(Standing::Ordered(Box::new(order))),
            (Some(open), None) => Some(match open.stage {
                Stage::AwaitShopper => Standing::ActionRequired {
                    attempt: open.attempt,
                    url: open.next_action_url,
                },
                _ => Standing::Pending {
                    attempt: open.attempt,
                },
            }),
            (None, None) => self
                .closed
                .and_then(|closed| closed.attempts.last().cloned())
                .map(|last| Standing::Ended {
                    attempt: last.attempt,
                    ending: last.ending,
                }),
        }
    }
}

/// Whether a journal is about an order that exists.
fn is_cancel(journal: &Journal) -> bool {
    matches!(
        journal.stage,
        Stage::OrderRefund | Stage::OrderReturn | Stage::OrderRecord
    )
}

impl Checkouts {
    fn till(&self) -> Result<&Till, Problem> {
        self.till.as_ref().ok_or_else(|| {
            Problem::new(
                Kind::CheckoutNotConfigured,
                "no payment provider is configured here: start `holdfast api` with --payment-url and \
                 --payment-key-file, or confirm claims as a platform",
            )
        })
    }

    async fn known(&self, claim_id: &str) -> Result<Known, Problem> {
        let (open_key, closed_key) = (open_key(claim_id), closed_key(claim_id));
        let order_id = orders::order_id(claim_id);
        // The journal first: it goes last, after order or closed record were written. Read together with them it
        // could be gone already, and they not there yet, and then nothing would seem to have begun.
        let open = self.store.document(&open_key).await?;
        let (closed, order) = futures::join!(
            self.store.document(&closed_key),
            orders::load(&*self.store, &order_id),
        );
        let closed = closed?;
        let unreadable = |error: super::journal::Unreadable| {
            tracing::error!(%error, "a record of the checkout cannot be read");
            Problem::busy("this checkout was begun by another release; ask again later")
        };
        let now_ms = open.as_ref().map_or(0, |open| open.position.log_time_ms);
        let open: Option<Journal> = match open {
            Some(open) => Some(decode(&open_key, &open.body).map_err(unreadable)?),
            None => None,
        };
        let closed_version = closed.as_ref().map_or(0, |closed| closed.version);
        let closed = match closed {
            Some(closed) => Some(decode(&closed_key, &closed.body).map_err(unreadable)?),
            None => None,
        };
        Ok(Known {
            // What is over is about to go by itself.
            open: open.filter(|open| open.stage != Stage::Done),
            closed,
            closed_version,
            order: order?.map(|(order, _)| order),
            now_ms,
        })
    }

    /// Begins to pay for a claim, as nearly all come for the first time: upon the claim alone. What else there may be is
    /// checked with the beginning itself, and the key is taken in the same entry; `paid` is the answer should there be an
    /// order. Whatever is not as expected is left to [`Checkouts::pay`], which looks everything up.
    pub(crate) async fn begin(&self, asked: &Asked, ticket: Ticket, paid: Paid) -> First {
        let not_taken = |ticket| First {
            key: Err(ticket),
            begun: None,
        };
        let Some((journal, place)) = self.expected(asked).await else {
            return not_taken(ticket);
        };
        let first = Some(ticket.write());
        let (key_version, owner) =
            Owner::begin_with(&self.store, journal, self.options.lease_ms, first).await;
        let Some(key_version) = key_version else {
            return not_taken(ticket);
        };
        let guard = ticket.taken(key_version);
        let begun = owner.ok().map(|owner| Begun {
            owner: owner.answering(guard.place(), paid),
            place,
        });
        First {
            key: Ok(guard),
            begun,
        }
    }

    /// The journal of a first attempt to pay for a claim that is held, and room for it.
    async fn expected(&self, asked: &Asked) -> Option<(Journal, OwnedSemaphorePermit)> {
        self.till.as_ref()?;
        let found = self.store.find_claim(&asked.claim_id, Some(&asked.user)).await;
        let (claim, sale_id, position) = found.ok()?;
        if claim.status != ClaimStatus::Held {
            return None;
        }
        let begun = self
            .begun(asked, &claim, sale_id, &position, &Known::default())
            .await;
        Some((begun.ok()?, self.place()?))
    }

    /// Pays for a claim, or says how that stands once the shopper's patience is over.
    pub(crate) async fn pay(
        self: &Arc<Self>,
        asked: Asked,
        mut begun: Option<Begun>,
    ) -> Result<Standing, Problem> {
        let deadline = Instant::now() + Duration::from_millis(self.options.budget_ms_max);
        for round in 0..ROUNDS_MAX {
            let Begun { owner, place } = match begun.take() {
                Some(begun) => begun,
                None => match self.begin_again(&asked, round, deadline).await? {
                    Again::Begun(begun) => *begun,
                    Again::Stands(standing) => return Ok(standing),
                    Again::Changed => continue,
                },
            };
            let driven = self.spawn(owner, place);
            match self.wait(&asked.claim_id, driven, deadline).await? {
                Standing::Ended {
                    ending: Ending::Superseded,
                    ..
                } => {}
                standing => return Ok(standing),
            }
        }
        Err(in_progress())
    }

    /// Begins to pay for a claim upon all that is known of it.
    async fn begin_again(
        self: &Arc<Self>,
        asked: &Asked,
        round: usize,
        deadline: Instant,
    ) -> Result<Again, Problem> {
        let till = self.till()?;
        let (claim, known) = futures::join!(
            self.store.find_claim(&asked.claim_id, Some(&asked.user)),
            self.known(&asked.claim_id)
        );
        let ((claim, sale_id, position), known) = (claim?, known?);
        let already = match self.already(asked, &claim, &known) {
            // Perhaps by a checkout that began between the two reads: the next look tells.
            Err(problem) if round == 0 && problem.kind() == Kind::ClaimConfirmed => {
                return Ok(Again::Changed);
            }
            already => already?,
        };
        match already {
            Some(Standing::Pending { .. }) => {
                let standing = self.wait_elsewhere(&asked.claim_id, deadline).await?;
                return Ok(Again::Stands(standing));
            }
            Some(standing) => return Ok(Again::Stands(standing)),
            None => {}
        }
        let journal = self.begun(asked, &claim, sale_id, &position, &known).await?;
        if let Some(wait) = till.steps.provider.refusing().filter(|_| journal.extended) {
            let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            return Ok(Again::Stands(Standing::Ended {
                attempt: journal.attempt,
                ending: Ending::ProviderUnavailable { retry_after_ms },
            }));
        }
        let place = self
            .place()
            .ok_or_else(|| Problem::busy("this node has all the checkouts under way that it can"))?;
        match Owner::begin(&self.store, journal, self.options.lease_ms).await {
            Ok(owner) => Ok(Again::Begun(Box::new(Begun { owner, place }))),
            // By another attempt, or ours by a sweep that was faster: the next look tells.
            Err(Lost::Taken) => Ok(Again::Changed),
            Err(Lost::Away(error)) => Err(error.into()),
        }
    }

    /// What this request comes to without a new attempt.
    fn already(&self, asked: &Asked, claim: &Claim, known: &Known) -> Result<Option<Standing>, Problem> {
        if let Some(open) = &known.open {
            if open.key != asked.key || is_cancel(open) {
                return Err(in_progress());
            }
            if open.request != asked.request {
                return Err(idempotency::mismatch());
            }
            return Ok(Some(match open.stage {
                Stage::AwaitShopper => Standing::ActionRequired {
                    attempt: open.attempt,
                    url: open.next_action_url.clone(),
                },
                _ => Standing::Pending {
                    attempt: open.attempt,
                },
            }));
        }
        if let Some(order) = &known.order {
            return Ok(Some(Standing::Ordered(Box::new(order.clone()))));
        }
        if let Some(attempt) = known
            .closed
            .as_ref()
            .and_then(|closed| closed.answered(&asked.key))
        {
            if attempt.request != asked.request {
                return Err(idempotency::mismatch());
            }
            return Ok(Some(Standing::Ended {
                attempt: attempt.attempt,
                ending: attempt.ending.clone(),
            }));
        }
        match claim.status {
            ClaimStatus::Held => Ok(None),
            ClaimStatus::Confirmed => Err(Problem::new(
                Kind::ClaimConfirmed,
                "the claim is confirmed already, without a checkout",
            )),
            status => {
                let members = Members {
                    claim_status: Some(crate::json::claim_status(status)),
                    ..Members::default()
                };
                Err(Problem::with(
                    Kind::HoldGone,
                    "the hold is over; nothing was charged",
                    members,
                ))
            }
        }
    }

    /// The journal of a new attempt.
    async fn begun(
        &self,
        asked: &Asked,
        claim: &Claim,
        sale_id: String,
        position: &Position,
        known: &Known,
    ) -> Result<Journal, Problem> {
        let attempt = known.closed.as_ref().map_or(0, Closed::attempt) + 1;
        if attempt > ATTEMPTS_MAX {
            return Err(Problem::new(
                Kind::AttemptsExhausted,
                "this claim was tried to be paid for as often as is allowed",
            ));
        }
        let (sale, _) = self
            .store
            .sale(&sale_id, client::Consistency::Linearizable)
            .await?;
        let price = Currency::from_code(&sale.currency)
            .map(|currency| Money::new(sale.price_minor, currency))
            .and_then(|price| price.times(claim.quantity))
            .map_err(|error| Problem::new(Kind::NotPayable, format!("the sale's price: {error}")))?;
        if price.minor == 0 {
            return Err(Problem::new(
                Kind::NotPayable,
                "the sale has no price, so there is nothing to pay",
            ));
        }
        if let Some(believed) = asked.amount.filter(|believed| *believed != price) {
            return Err(Problem::new(
                Kind::AmountDiffers,
                format!("this claim costs {price}, not {believed}; nothing was charged"),
            ));
        }
        let extended_token = known.closed.as_ref().map_or(0, |closed| closed.claim_token);
        let extended = extended_token > 0;
        Ok(Journal {
            format: FORMAT,
            claim_id: asked.claim_id.clone(),
            sale_id,
            user: asked.user.clone(),
            quantity: claim.quantity,
            amount_minor: price.minor,
            currency: price.currency.code().to_owned(),
            attempt,
            key: asked.key.clone(),
            request: asked.request.clone(),
            closed_version: known.closed_version,
            claim_token: if extended {
                extended_token
            } else {
                claim.fencing_token
            },
            extended,
            hold_until_ms: claim.deadline_ms,
            receipt: Granted::from(&claim.receipt),
            rank: claim.rank,
            stage: Stage::Begin,
            ending: None,
            payment_id: None,
            next_action_url: None,
            authorized: false,
            captured: false,
            undo_number: 0,
            refund: None,
            began_ms: position.log_time_ms,
            began_wall_ms: position.wall_time_ms,
            wake_ms: 0,
            looked_ms: 0,
            looks: 0,
            doubt: Doubt::Nothing,
            refusal: None,
            vain: 0,
        })
    }

    /// How the checkout of a claim stands; `None`: there was none.
    pub(crate) async fn standing(
        self: &Arc<Self>,
        claim_id: &str,
        user: Option<&str>,
    ) -> Result<Option<Standing>, Problem> {
        let (claim, known) = futures::join!(self.store.find_claim(claim_id, user), self.known(claim_id));
        claim?;
        let known = known?;
        let Some(open) = &known.open else {
            return Ok(known.standing());
        };
        // He comes back from his bank and asks: so does this process, now rather than in a while.
        let waits = open.stage == Stage::AwaitShopper && self.till.is_some();
        if waits && open.looked_ms + STATUS_LOOK_MS_MIN <= known.now_ms {
            let deadline = Instant::now() + STATUS_WAIT;
            if let Some(driven) = self.poke(claim_id).await? {
                return self.wait(claim_id, driven, deadline).await.map(Some);
            }
        }
        Ok(known.standing())
    }

    /// Goes on with a checkout that waits, if nobody else does.
    pub(crate) async fn poke(&self, claim_id: &str) -> Result<Option<oneshot::Receiver<End>>, Error> {
        match self.place() {
            Some(place) => self.resume(claim_id, place).await,
            None => Ok(None),
        }
    }

    /// Waits for a driver of this process, up to the deadline.
    async fn wait(
        &self,
        claim_id: &str,
        driven: oneshot::Receiver<End>,
        deadline: Instant,
    ) -> Result<Standing, Problem> {
        let journal = match timeout_at(deadline, driven).await {
            Ok(Ok(End::Over(_, Some(order)))) => return Ok(Standing::Ordered(order)),
            Ok(Ok(End::Over(journal, None) | End::Parked(journal))) => journal,
            // Left to others, or its task broke off; and then it is taken over.
            Ok(_) => return self.wait_elsewhere(claim_id, deadline).await,
            Err(_) => return self.now(claim_id).await,
        };
        let attempt = journal.attempt;
        match (journal.stage, journal.ending) {
            (Stage::AwaitShopper, _) => Ok(Standing::ActionRequired {
                attempt,
                url: journal.next_action_url,
            }),
            (_, Some(Ending::Paid | Ending::Cancelled)) | (_, None) => self.now(claim_id).await,
            (_, Some(ending)) => Ok(Standing::Ended { attempt, ending }),
        }
    }

    /// Looks on while another process drives it, up to the deadline.
    async fn wait_elsewhere(&self, claim_id: &str, deadline: Instant) -> Result<Standing, Problem> {
        loop {
            let standing = self.now(claim_id).await?;
            let undecided = matches!(standing, Standing::Pending { .. } | Standing::Cancelling);
            if !undecided || Instant::now() + LOOK_EVERY >= deadline {
                return Ok(standing);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn now(&self, claim_id: &str) -> Result<Standing, Problem> {
        let standing = self.known(claim_id).await?.standing();
        Ok(standing.unwrap_or(Standing::Pending { attempt: 0 }))
    }

    /// Cancels an order: its money back, its unit back. `order` is as it was read just now.
    pub(crate) async fn cancel(self: &Arc<Self>, order: Order, key: String) -> Result<Standing, Problem> {
        let deadline = Instant::now() + Duration::from_millis(self.options.budget_ms_max);
        self.till()?;
        if order.stage == orders::Stage::Cancelled {
            return Ok(Standing::Ordered(Box::new(order)));
        }
        let claim_id = order.claim_id.clone();
        let (claim, known) = futures::join!(self.store.find_claim(&claim_id, None), self.known(&claim_id));
        let ((claim, _, position), known) = (claim?, known?);
        match &known.open {
            Some(open) if is_cancel(open) => return self.wait_elsewhere(&claim_id, deadline).await,
            Some(_) => return Err(in_progress()),
            None => {}
        }
        let journal = Journal {
            format: FORMAT,
            sale_id: order.sale_id,
            user: order.user,
            quantity: order.quantity,
            amount_minor: order.amount.minor,
            currency: order.amount.currency.code().to_owned(),
            // The attempts before it failed, so it is the one that paid.
            attempt: known.closed.as_ref().map_or(0, Closed::attempt) + 1,
            key,
            request: Request {
                payment_method: String::new(),
                return_url: None,
            },
            closed_version: known.closed_version,
            claim_token: claim.fencing_token,
            extended: true,
            hold_until_ms: 0,
            receipt: order.receipt,
            rank: order.rank,
            stage: Stage::OrderRefund,
            ending: None,
            payment_id: Some(order.payment_id),
            next_action_url: None,
            authorized: true,
            captured: true,
            // A refund that was refused is repeated by the provider under its key; the next wish to cancel
            // is another one. Only what is left of the payment can ever be given back.
            undo_number: u32::try_from(position.applied_index % u64::from(u32::MAX)).unwrap_or(0),
            refund: None,
            began_ms: position.log_time_ms,
            began_wall_ms: position.wall_time_ms,
            wake_ms: 0,
            looked_ms: 0,
            looks: 0,
            doubt: Doubt::Nothing,
            refusal: None,
            vain: 0,
            claim_id: order.claim_id,
        };
        let place = self
            .place()
            .ok_or_else(|| Problem::busy("this node has all the checkouts under way that it can"))?;
        match Owner::begin(&self.store, journal, self.options.lease_ms).await {
            Ok(owner) => {
                let driven = self.spawn(owner, place);
                self.wait(&claim_id, driven, deadline).await
            }
            Err(Lost::Taken) => self.wait_elsewhere(&claim_id, deadline).await,
            Err(Lost::Away(error)) => Err(error.into()),
        }
    }
}

fn in_progress() -> Problem {
    let detail =
        "a checkout of this claim is in progress; ask how it stands at /v1/claims/{claim_id}/checkout";
    Problem::new(Kind::CheckoutInProgress, detail).retry_after(1)
}
