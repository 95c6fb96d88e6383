//! Calls on the shipped client, each recorded with when it was made and what came of it.
//!
//! One call of the client is one operation, whatever attempts it makes inside. What the client calls unavailable
//! did not happen; what it calls unknown is left to the final phase. A refusal that no caller here can deserve is
//! kept as an [`Oddity`]: it breaks the run, and nothing is guessed of it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use client::{
    Claim, Claimed, Client, Consistency, Error, Grant, Operation, Position, Reason, Receipt, Rejected,
    Resolution,
};

use crate::{
    history::{Answer, Call, Index, Outcome, Recorder},
    properties::{Counters, SeenRead},
};

/// Position of answers that needed no entry: beyond all commands of any.
pub const BEYOND: u64 = u32::MAX as u64;

/// Asks for every settling call, so that any of them can be resolved later.
pub const PRINCIPAL: &str = "shop";

/// What is known about where an effect stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// Where in the log.
    pub idx: Index,
    /// Log time.
    pub lt: u64,
    /// As it was answered, or would have been.
    pub outcome: Outcome<String>,
}

/// What a caller needs to go on after an answer.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A hold: id and token.
    Hold(String, u64),
    /// Another answer.
    Answered,
    /// It did not happen, and may be tried again.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// What callers share.
#[derive(Clone)]
pub struct Shop {
    /// Where everything is recorded.
    pub recorder: Recorder,
    notes: Arc<Mutex<Notes>>,
    now_ns: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// Noted beside the history.
#[derive(Default)]
pub struct Notes {
    /// Where the effects of claims and decrements stand, by key, as their receipts say.
    pub effects: HashMap<String, Effect>,
    /// Of operations whose outcome is unknown: until which log time it can come about.
    pub alive_until_ms: BTreeMap<u64, u64>,
    /// Reads that are not linearizable.
    pub reads: Vec<SeenRead>,
    /// Answers that make no sense here.
    pub oddities: Vec<String>,
}

/// A process: a client that does one thing at a time, and a new one after each unknown.
pub struct Process {
    shop: Shop,
    client: Client,
    p: u64,
}

impl Shop {
    /// Records to `recorder`; `now_ns` is its clock.
    pub fn new(recorder: Recorder, now_ns: Arc<dyn Fn() -> u64 + Send + Sync>) -> Shop {
        Shop {
            recorder,
            notes: Arc::default(),
            now_ns,
        }
    }

    /// A new process that calls through this client.
    pub fn process(&self, client: Client) -> Process {
        Process {
            shop: self.clone(),
            client,
            p: self.recorder.process(),
        }
    }

    /// Now, on the history's clock.
    pub fn now_ns(&self) -> u64 {
        (self.now_ns)()
    }

    /// What was noted so far.
    pub fn notes(&self) -> MutexGuard<'_, Notes> {
        // Nothing panics halfway through a note.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was noted for the properties; the rest stays.
    pub fn take_observed(&self) -> Notes {
        let mut notes = self.notes();
        Notes {
            alive_until_ms: std::mem::take(&mut notes.alive_until_ms),
            reads: std::mem::take(&mut notes.reads),
            ..Notes::default()
        }
    }

    /// The effect of a claim or decrement, from the claim that it made.
    ///
    /// A claim that is told again is told as it is by then: with its later deadline, if it was extended meanwhile. What
    /// its key did was to grant it with the first one.
    pub fn taken(&self, sale: &str, claim: &Claim, decrement: bool) -> Effect {
        let hold = claim.claim_id.clone();
        let lt = claim.receipt.log_time_ms;
        let terms = self.recorder.terms(sale);
        let extended = claim.deadline_ms == lt + terms.ttl_ms + terms.extend_ms;
        Effect {
            idx: Index {
                log_index: claim.receipt.log_index,
                position: claim.receipt.position.into(),
            },
            lt,
            outcome: if decrement {
                Outcome::Sold { hold: Some(hold) }
            } else {
                Outcome::Granted {
                    hold,
                    deadline: claim.deadline_ms - if extended { terms.extend_ms } else { 0 },
                }
            },
        }
    }

    /// Notes where an effect stands of which a resolve has told. Settled holds stand in the feed; and how a document was
    /// left, a resolve does not say.
    pub fn learned(&self, subject: &str, call: &Call<String>, resolution: Resolution) {
        let Some(key) = call.key() else { return };
        let effect = match (call, resolution) {
            (Call::Claim { .. }, Resolution::Claim(claim)) => self.taken(subject, &claim, false),
            (Call::Decrement { .. }, Resolution::Claim(claim)) => self.taken(subject, &claim, true),
            (call, Resolution::Effect(receipt)) if !call.is_document() => stands(&receipt, Outcome::Done),
            _ => return,
        };
        self.notes().effects.entry(key.clone()).or_insert(effect);
    }

    fn odd(&self, id: u64, what: impl std::fmt::Display) {
        self.notes().oddities.push(format!("operation {id}: {what}"));
    }
}

impl Process {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn invoke(&self, subject: &str, call: &Call<String>) -> u64 {
        self.shop.recorder.invoke(self.p, subject, borrowed(call))
    }

    /// Asks what became of a call's key. Whoever is not answered may have given it up.
    ///
    /// # Panics
    /// The call has no key.
    pub async fn resolve(&mut self, subject: &str, call: &Call<String>) {
        let about = call.key().expect("only what has a key is resolved").clone();
        let document = call.is_document();
        let id = self.invoke(subject, &Call::Resolve { about, document });
        let (resolution, position) = match resolve(&self.client, subject, call).await {
            Ok(resolved) => resolved,
            Err(Error::Rejected(why)) => return self.odd_refusal(id, &why),
            Err(error) => {
                self.unknown(id, &error.to_string());
                return;
            }
        };
        let outcome = match &resolution {
            Resolution::Claim(claim) => Outcome::Found {
                hold: Some(claim.claim_id.as_str()),
            },
            Resolution::Effect(_) => Outcome::Found { hold: None },
            Resolution::Abandoned { fenced_until_ms } => Outcome::Abandoned {
                until: *fenced_until_ms,
            },
        };
        self.answered(id, at(&position), position.log_time_ms, outcome);
        self.shop.learned(subject, call, resolution);
    }

    /// Carries out one call on a sale. `token` is the fencing token of the hold that it is about, if any.
    ///
    /// # Panics
    /// On a decrement that names no user, and on calls that are not about a sale's units.
    pub async fn call(&mut self, sale: &str, call: &Call<String>, token: u64) -> Heard {
        let id = self.invoke(sale, call);
        let client = &self.client;
        match call {
            Call::Claim { user, key, quantity } => {
                let quantity = *quantity as u32;
                let heard = client.claim(sale, user).quantity(quantity).key(key).send().await;
                self.took(id, sale, key, heard, false)
            }
            Call::Decrement { user, key, quantity } => {
                let user = user.as_ref().expect("our decrements name their user");
                let quantity = *quantity as u32;
                let heard = client
                    .decrement(sale, user)
                    .quantity(quantity)
                    .key(key)
                    .send()
                    .await;
                self.took(id, sale, key, heard, true)
            }
            Call::Confirm { hold, key } => {
                let heard = client.confirm(hold, token).key(key).send().await;
                self.settled(id, heard, Outcome::Confirmed)
            }
            Call::Release { hold, key } => {
                let heard = client.release(hold, token).key(key).send().await;
                self.settled(id, heard, Outcome::Released)
            }
            Call::Extend { hold, key } => {
                let heard = client.extend(hold, token).key(key).send().await;
                let deadline = heard.as_ref().map_or(0, |(claim, _)| claim.deadline_ms);
                let token = heard.as_ref().map_or(0, |(claim, _)| claim.fencing_token);
                match self.settled(id, heard, Outcome::Extended { deadline }) {
                    Heard::Answered if token > 0 => Heard::Hold(hold.clone(), token),
                    heard => heard,
                }
            }
            Call::Cancel { hold, key } => {
                let heard = client.cancel(hold, token).key(key).send().await;
                self.settled(id, heard, Outcome::Done)
            }
            Call::Read => match client.get_sale(sale, Consistency::Linearizable).await {
                Ok((sale, position)) => {
                    let counters = Counters::from(&sale);
                    let outcome = Outcome::Counters {
                        available: counters.available,
                        held: counters.held,
                        sold: counters.sold,
                        total: counters.total,
                    };
                    self.answered(id, at(&position), position.log_time_ms, outcome)
                }
                // A read that failed read nothing.
                Err(Error::Rejected(why)) => self.refused(id, &why),
                Err(_) => self.failed(id),
            },
            Call::Restock { units, key } => {
                let heard = client.restock(sale, *units as u32).key(key).send().await;
                self.changed(id, heard)
            }
            Call::Withdraw { units, key } => {
                let heard = client.withdraw(sale, *units as u32).key(key).send().await;
                self.changed(id, heard)
            }
            Call::Open { key } => {
                let heard = client.open_sale(sale).key(key).send().await;
                self.changed(id, heard)
            }
            Call::Pause { key } => {
                let heard = client.pause_sale(sale).key(key).send().await;
                self.changed(id, heard)
            }
            Call::Close { key } => {
                let heard = client.close_sale(sale).key(key).send().await;
                self.changed(id, heard)
            }
            _ => panic!("it is not about a sale's units: {call:?}"),
        }
    }

    /// The answer to a change of the sale itself.
    fn changed(&mut self, id: u64, heard: Result<Receipt, Error>) -> Heard {
        let receipt = match heard {
            Ok(receipt) => receipt,
            Err(error) => return self.error(id, error),
        };
        let idx = Index {
            log_index: receipt.log_index,
            position: receipt.position.into(),
        };
        self.answered(id, idx, receipt.log_time_ms, Outcome::Done)
    }

    fn took(
        &mut self,
        id: u64,
        sale: &str,
        key: &str,
        heard: Result<Claimed, Error>,
        decrement: bool,
    ) -> Heard {
        let Claimed {
            grant,
            claim,
            position,
        } = match heard {
            Ok(claimed) => claimed,
            Err(error) => return self.error(id, error),
        };
        if grant == Grant::Already {
            let hold = claim.claim_id.clone();
            let outcome = Outcome::Already { hold: claim.claim_id };
            self.answered(id, at(&position), position.log_time_ms, told(&outcome));
            return Heard::Hold(hold, claim.fencing_token);
        }
        let effect = self.shop.taken(sale, &claim, decrement);
        match (grant, decrement) {
            (Grant::Granted, _) => self.answered(id, effect.idx, effect.lt, told(&effect.outcome)),
            // Where the answer was given, not where the effect is; and as it is told there.
            (_, true) => self.answered(id, at(&position), position.log_time_ms, told(&effect.outcome)),
            (_, false) => {
                let as_it_is = Outcome::Granted {
                    hold: claim.claim_id.as_str(),
                    deadline: claim.deadline_ms,
                };
                self.answered(id, at(&position), position.log_time_ms, as_it_is)
            }
        };
        self.shop.notes().effects.insert(key.to_owned(), effect);
        if decrement {
            Heard::Answered
        } else {
            Heard::Hold(claim.claim_id, claim.fencing_token)
        }
    }

    fn settled(&mut self, id: u64, heard: Result<(Claim, Position), Error>, outcome: Outcome<&str>) -> Heard {
        match heard {
            Ok((_, position)) => self.answered(id, at(&position), position.log_time_ms, outcome),
            Err(error) => self.error(id, error),
        }
    }

    pub(super) fn answered(&mut self, id: u64, idx: Index, lt: u64, outcome: Outcome<&str>) -> Heard {
        if !self.shop.recorder.can_be(id, &outcome) {
            self.shop.odd(id, format_args!("was answered {}", outcome.word()));
            return self.unknown(id, "an answer to something else");
        }
        let answer = Answer {
            idx: Some(idx),
            lt,
            outcome,
        };
        self.shop.recorder.ok(id, answer);
        Heard::Answered
    }

    pub(super) fn error(&mut self, id: u64, error: Error) -> Heard {
        match error {
            Error::Rejected(why) => self.refused(id, &why),
            Error::Unavailable { .. } => self.failed(id),
            Error::Unknown {
                message,
                not_after_ms,
            } => {
                self.shop.notes().alive_until_ms.insert(id, not_after_ms);
                self.unknown(id, &message)
            }
        }
    }

    fn refused(&mut self, id: u64, why: &Rejected) -> Heard {
        let outcome = match why.reason {
            Reason::SoldOut => Outcome::SoldOut,
            Reason::ClaimGone => Outcome::Gone,
            Reason::UserLimit => Outcome::UserLimit,
            Reason::SaleNotOpen | Reason::SaleTransition => Outcome::NotOpen,
            Reason::UnitsInUse => Outcome::Short,
            // Given up by the client itself, or too late; or somebody else, of the same user, goes on with the hold
            // under a later token: nothing happened, and nothing will.
            Reason::KeyFenced | Reason::TooLate | Reason::StaleToken => return self.failed(id),
            _ => {
                self.odd_refusal(id, why);
                return Heard::Unknown;
            }
        };
        self.answered(id, at(&why.position), why.position.log_time_ms, outcome)
    }

    pub(super) fn odd_refusal(&mut self, id: u64, why: &Rejected) {
        self.shop.odd(id, format_args!("refused: {why:?}"));
        self.unknown(id, "a refusal that no request here deserves");
    }

    pub(super) fn failed(&mut self, id: u64) -> Heard {
        self.shop.recorder.fail(id);
        Heard::Failed
    }

    fn unknown(&mut self, id: u64, why: &str) -> Heard {
        self.shop.recorder.info(id, why);
        self.p = self.shop.recorder.process();
        Heard::Unknown
    }

    /// Reads counters from whatever node, `age_ms_max` old at most; none: any age.
    pub async fn read_stale(&self, sale: &str, age_ms_max: Option<u64>) {
        let consistency = age_ms_max.map_or(Consistency::Local, Consistency::Bounded);
        let invoked_ns = self.shop.now_ns();
        // A read that failed read nothing.
        let Ok((found, position)) = self.client.get_sale(sale, consistency).await else {
            return;
        };
        let read = SeenRead {
            node: String::new(),
            age_ms_max,
            invoked_ns,
            returned_ns: self.shop.now_ns(),
            sale: sale.to_owned(),
            counters: Counters::from(&found),
            log_index: position.applied_index,
            lt: position.log_time_ms,
        };
        self.shop.notes().reads.push(read);
    }
}

/// What became of a call's key, as the client says.
///
/// # Errors
/// As the client's.
///
/// # Panics
/// The call has no key.
pub async fn resolve(
    client: &Client,
    subject: &str,
    call: &Call<String>,
) -> Result<(Resolution, Position), Error> {
    let key = call.key().expect("only what has a key is resolved");
    let (operation, principal) = match call {
        _ if call.is_document() => {
            return client.resolve_document(subject.to_owned(), key, PRINCIPAL).await;
        }
        Call::Claim { user, .. } => (Operation::Claim, user.as_str()),
        Call::Decrement { user, .. } => (Operation::Decrement, user.as_deref().unwrap_or_default()),
        Call::Confirm { .. } => (Operation::Confirm, PRINCIPAL),
        Call::Release { .. } => (Operation::Release, PRINCIPAL),
        Call::Extend { .. } => (Operation::Extend, PRINCIPAL),
        Call::Cancel { .. } => (Operation::Cancel, PRINCIPAL),
        _ => (Operation::Sale, PRINCIPAL),
    };
    client.resolve(subject, operation, key, principal).await
}

/// An effect where its receipt says.
pub fn stands(receipt: &Receipt, outcome: Outcome<String>) -> Effect {
    Effect {
        idx: Index {
            log_index: receipt.log_index,
            position: receipt.position.into(),
        },
        lt: receipt.log_time_ms,
        outcome,
    }
}

/// Where an answer stands.
pub fn at(position: &Position) -> Index {
    Index {
        log_index: position.applied_index,
        position: position.command.map_or(BEYOND, u64::from),
    }
}

/// A call with its names borrowed.
pub fn borrowed(call: &Call<String>) -> Call<&str> {
    match call {
        Call::Claim { user, key, quantity } => Call::Claim {
            user,
            key,
            quantity: *quantity,
        },
        Call::Decrement { user, key, quantity } => Call::Decrement {
            user: user.as_deref(),
            key,
            quantity: *quantity,
        },
        Call::Confirm { hold, key } => Call::Confirm { hold, key },
        Call::Release { hold, key } => Call::Release { hold, key },
        Call::Extend { hold, key } => Call::Extend { hold, key },
        Call::Cancel { hold, key } => Call::Cancel { hold, key },
        Call::Restock { units, key } => Call::Restock { units: *units, key },
        Call::Withdraw { units, key } => Call::Withdraw { units: *units, key },
        Call::Open { key } => Call::Open { key },
        Call::Pause { key } => Call::Pause { key },
        Call::Close { key } => Call::Close { key },
        Call::Read => Call::Read,
        Call::Resolve { about, document } => Call::Resolve {
            about,
            document: *document,
        },
        Call::Put {
            body,
            version,
            token,
            ttl_ms,
            key,
        } => Call::Put {
            body,
            version: *version,
            token: *token,
            ttl_ms: *ttl_ms,
            key,
        },
        Call::Delete { version, key } => Call::Delete {
            version: *version,
            key,
        },
        Call::Lease { token, lease_ms, key } => Call::Lease {
            token: *token,
            lease_ms: *lease_ms,
            key,
        },
        Call::Get => Call::Get,
    }
}

/// What may be heard of an effect or of a document, with its names borrowed.
///
/// # Panics
/// On what is said of a sale and is no effect, but for *already*.
pub fn told(outcome: &Outcome<String>) -> Outcome<&str> {
    match outcome {
        Outcome::Granted { hold, deadline } => Outcome::Granted {
            hold,
            deadline: *deadline,
        },
        Outcome::Already { hold } => Outcome::Already { hold },
        Outcome::Sold { hold } => Outcome::Sold {
            hold: hold.as_deref(),
        },
        Outcome::Confirmed => Outcome::Confirmed,
        Outcome::Released => Outcome::Released,
        Outcome::Done => Outcome::Done,
        Outcome::Extended { deadline } => Outcome::Extended { deadline: *deadline },
        Outcome::Written { version } => Outcome::Written { version: *version },
        Outcome::Deleted => Outcome::Deleted,
        Outcome::Leased { token, until } => Outcome::Leased {
            token: *token,
            until: *until,
        },
        Outcome::Document {
            version,
            body,
            token,
            until,
        } => Outcome::Document {
            version: *version,
            body: body.as_deref(),
            token: *token,
            until: *until,
        },
        Outcome::WrongVersion { version } => Outcome::WrongVersion { version: *version },
        Outcome::Busy { until } => Outcome::Busy { until: *until },
        Outcome::StaleToken { token } => Outcome::StaleToken { token: *token },
        Outcome::KeyReused => Outcome::KeyReused,
        other => panic!("no workload hears this of an effect: {other:?}"),
    }
}
