//! The provider: one call after the other, in time that is passed in.
//!
//! What happens to one call:
//! 1. What is due by now happens first: late effects, expiries, refunds that settle.
//! 2. Its shape is checked; a wrong one is refused and not saved.
//! 3. Dice and magic decide its fate on the road.
//! 4. Its idempotency key is looked up: another call, in flight, or saved.
//! 5. It takes effect, unless its fate says otherwise, and its result is saved under the key.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::Value;

use super::{
    call::{Answer, Method, Request},
    error::ApiError,
    event::{Delivery, Mail, Moment},
    fault::{Draw, Faults, Mishap, Stream, Whim},
    keys::{KEY_CHARS_MAX, Keys, Saved, Seen},
    magic::{Magic, Step},
    object::{Charge, Dispute, Intent, Place, Refund},
    options::Options,
    params::{Capture, Confirm, Create, NewRefund, cancellation},
};

/// A call that may change something, checked for shape.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    Create(Create),
    Confirm(String, Confirm),
    Capture(String, Capture),
    Cancel(String, Option<&'static str>),
    Refund(NewRefund),
}

impl Effect {
    fn step(&self) -> Step {
        match self {
            Effect::Create(_) => Step::Create,
            Effect::Confirm(..) => Step::Confirm,
            Effect::Capture(..) => Step::Capture,
            Effect::Cancel(..) => Step::Cancel,
            Effect::Refund(_) => Step::Refund,
        }
    }
}

/// Something that happens by itself when its time has come.
#[derive(Debug)]
pub(super) enum Due {
    /// A call takes effect long after its caller stopped waiting.
    Late {
        effect: Box<Effect>,
        key: Option<String>,
        request_id: String,
    },
    Expire {
        charge: usize,
    },
    SettleRefund {
        refund: usize,
    },
    FailRefund {
        refund: usize,
    },
    Dispute {
        charge: usize,
        reason: &'static str,
    },
}

/// A payment provider: state, faults, and nothing that waits.
#[derive(Debug)]
pub struct Provider {
    pub(super) options: Options,
    pub(super) faults: Faults,
    pub(super) now_ms: u64,
    effects: u64,
    reads: u64,
    ids: u64,
    dues: u64,
    pub(super) intents: Vec<Intent>,
    pub(super) charges: Vec<Charge>,
    pub(super) refunds: Vec<Refund>,
    pub(super) disputes: Vec<Dispute>,
    /// Where each id leads. Looked up, never walked: its order must not show.
    places: HashMap<String, Place>,
    keys: Keys,
    agenda: BTreeMap<(u64, u64), Due>,
    pub(super) mail: Mail,
}

impl Provider {
    /// A provider that has seen nothing yet.
    pub fn new(options: Options) -> Provider {
        Provider {
            faults: options.faults.clone(),
            options,
            now_ms: 0,
            effects: 0,
            reads: 0,
            ids: 0,
            dues: 0,
            intents: Vec::new(),
            charges: Vec::new(),
            refunds: Vec::new(),
            disputes: Vec::new(),
            places: HashMap::new(),
            keys: Keys::default(),
            agenda: BTreeMap::new(),
            mail: Mail::default(),
        }
    }

    /// Makes one call. Time never falls: an earlier `now_ms` counts as the latest seen.
    pub fn call(&mut self, request: &Request, now_ms: u64) -> Answer {
        let now_ms = self.advance(now_ms);
        match request.method {
            Method::Get => {
                self.reads += 1;
                let mut draw = Draw::new(self.options.seed, Stream::Reads, self.reads);
                let request_id = draw.id("req_");
                let answer = Answer::new(request_id, self.read(request));
                if request.path.starts_with("/v1/") {
                    self.read_road(answer, &mut draw)
                } else {
                    answer
                }
            }
            Method::Post => {
                self.effects += 1;
                let mut draw = Draw::new(self.options.seed, Stream::Effects, self.effects);
                let request_id = draw.id("req_");
                if request.path.starts_with("/v1/") {
                    self.change(request, request_id, now_ms, draw)
                } else {
                    let mut moment = Moment {
                        now_ms,
                        answer_ms: now_ms,
                        draw,
                        request: None,
                        whim: None,
                    };
                    let outcome = self.control(request, &mut moment);
                    Answer::new(request_id, outcome)
                }
            }
        }
    }

    /// Lets happen what is due by now; gives the time that counts.
    pub fn advance(&mut self, now_ms: u64) -> u64 {
        let now_ms = self.now_ms.max(now_ms);
        while let Some(first) = self.agenda.first_entry() {
            let (due_ms, ordinal) = *first.key();
            if due_ms > now_ms {
                break;
            }
            let due = first.remove();
            self.now_ms = self.now_ms.max(due_ms);
            let mut draw = Draw::new(self.options.seed, Stream::Agenda, ordinal);
            let whim = self.faults.whim(&mut draw);
            let moment = Moment {
                now_ms: self.now_ms,
                answer_ms: self.now_ms,
                draw,
                request: None,
                whim,
            };
            self.happen(due, moment);
        }
        self.now_ms = now_ms;
        self.keys.forget_old(now_ms);
        now_ms
    }

    /// When something is due next, a webhook or anything else, in Unix ms.
    pub fn next_due_ms(&self) -> Option<u64> {
        let happens = self.agenda.first_key_value().map(|((due_ms, _), _)| *due_ms);
        [happens, self.mail.next_ms()].into_iter().flatten().min()
    }

    /// Webhooks that are due, at most `count` of them. Hand each back with [`Self::delivered`].
    pub fn deliveries(&mut self, now_ms: u64, count: usize) -> Vec<Delivery> {
        let now_ms = self.advance(now_ms);
        std::iter::from_fn(|| self.mail.take(now_ms))
            .take(count)
            .collect()
    }

    /// The end of an attempt to deliver: taken (a 2xx answer) or not. A delivery that was not taken becomes
    /// due again, later each time. True when this one is over: taken, or given up.
    pub fn delivered(&mut self, delivery: Delivery, taken: bool, now_ms: u64) -> bool {
        let now_ms = self.advance(now_ms);
        self.mail.end(&self.options, delivery, taken, now_ms)
    }

    /// The faults in force.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// A call that only reads, on the road.
    fn read_road(&self, mut answer: Answer, draw: &mut Draw) -> Answer {
        let mishap = self.faults.mishap(draw);
        answer.delay_ms = self.faults.answer_ms(draw);
        let refusal = match mishap {
            Some(Mishap::RateLimited) => Some(ApiError::rate_limited()),
            Some(Mishap::ErrorBefore | Mishap::ErrorAfter) => Some(ApiError::internal()),
            _ => None,
        };
        if let Some(error) = refusal {
            answer = Answer {
                delay_ms: answer.delay_ms,
                should_retry: Some(true),
                ..Answer::new(answer.request_id, Err(error))
            };
        }
        // There is no effect that could be late.
        answer.hang = matches!(
            mishap,
            Some(Mishap::HangBefore | Mishap::HangAfter | Mishap::Late)
        );
        answer.lose_answer = mishap == Some(Mishap::Lost);
        answer.mishap = mishap.map(Mishap::name);
        answer
    }

    fn change(&mut self, request: &Request, request_id: String, now_ms: u64, mut draw: Draw) -> Answer {
        let mut delay_ms = self.faults.answer_ms(&mut draw);
        let by_rate = self.faults.mishap(&mut draw);
        let whim = self.faults.whim(&mut draw);
        let refused = |error, delay_ms| Answer {
            delay_ms,
            ..Answer::new(request_id.clone(), Err(error))
        };
        let effect = match self.effect(request) {
            Ok(effect) => effect,
            Err(error) => return refused(error, delay_ms),
        };
        let key = request.idempotency_key.as_deref();
        let fingerprint = fingerprint(request);
        let seen = match key {
            None => Seen::New,
            Some(key) if key.chars().count() > KEY_CHARS_MAX => {
                let words = format!("An Idempotency-Key has at most {KEY_CHARS_MAX} characters");
                return refused(ApiError::invalid("idempotency_key_too_long", words), delay_ms);
            }
            Some(key) => self.keys.look(key, &fingerprint, now_ms),
        };
        let magic = self.magic(&effect);
        let by_magic = match seen {
            Seen::New => magic.mishap.filter(|(step, _)| *step == effect.step()),
            _ => None,
        };
        let mishap = by_magic.map(|(_, mishap)| mishap).or(by_rate);
        let mut answer = match seen {
            Seen::OtherCall => {
                let key = key.unwrap_or_default();
                let words = format!(
                    "The idempotency key '{key}' was used before with another path or other parameters; \
                     a new call needs a new key"
                );
                return refused(ApiError::uncoded(400, "idempotency_error", words), delay_ms);
            }
            Seen::InFlight => {
                let words = "A call with this idempotency key is in progress; try again later";
                let error = ApiError::new(409, "idempotency_error", "idempotency_key_in_use", words);
                return refused(error, delay_ms);
            }
            Seen::Saved(saved) => Answer {
                status: saved.status,
                body: saved.body,
                replayed: true,
                original_request_id: Some(saved.request_id),
                should_retry: (saved.status >= 500).then_some(false),
                ..Answer::new(request_id.clone(), Ok(Value::Null))
            },
            Seen::New | Seen::Tried if self.keys.len() >= self.options.keys_max && key.is_some() => {
                return refused(ApiError::full("idempotency keys"), delay_ms);
            }
            Seen::New | Seen::Tried => {
                let locked = self
                    .intent_of(&effect)
                    .filter(|intent| self.intents[*intent].locked);
                if locked.is_some() {
                    return refused(ApiError::locked(), delay_ms);
                }
                let nothing = match mishap {
                    Some(Mishap::RateLimited) => Some(ApiError::rate_limited()),
                    Some(Mishap::ErrorBefore | Mishap::HangBefore) => Some(ApiError::internal()),
                    _ => None,
                };
                if let Some(error) = nothing {
                    if let Some(key) = key {
                        self.keys.note(key, &fingerprint, now_ms, now_ms, None);
                    }
                    Answer::new(request_id.clone(), Err(error))
                } else if mishap == Some(Mishap::Late) {
                    self.postpone(effect, key, &fingerprint, &request_id, now_ms);
                    Answer::new(request_id.clone(), Err(ApiError::internal()))
                } else {
                    let whim = magic.whim.or(whim);
                    if whim == Some(Whim::Early) {
                        delay_ms += self.faults.webhook_early_ms.max(EARLY_MS_MIN);
                    }
                    let mut moment = Moment {
                        now_ms,
                        answer_ms: now_ms + delay_ms,
                        draw,
                        request: Some((request_id.clone(), key.map(str::to_owned))),
                        whim,
                    };
                    let outcome = self.execute(effect, &mut moment);
                    let outcome = match mishap {
                        Some(Mishap::ErrorAfter) => Err(ApiError::internal()),
                        _ => outcome,
                    };
                    let answer = Answer::new(request_id.clone(), outcome);
                    if let Some(key) = key {
                        let saved = saved(&answer);
                        self.keys
                            .note(key, &fingerprint, now_ms, moment.answer_ms, Some(saved));
                    }
                    answer
                }
            }
        };
        if answer.replayed {
            match mishap {
                Some(Mishap::RateLimited) => answer = refused(ApiError::rate_limited(), 0),
                Some(Mishap::ErrorBefore) => answer = refused(ApiError::internal(), 0),
                _ => {}
            }
        }
        if mishap == Some(Mishap::ErrorBefore) {
            answer.should_retry = Some(true);
        }
        answer.delay_ms = delay_ms;
        answer.hang = matches!(
            mishap,
            Some(Mishap::HangBefore | Mishap::HangAfter | Mishap::Late)
        );
        answer.lose_answer = mishap == Some(Mishap::Lost);
        answer.mishap = mishap.map(Mishap::name);
        answer
    }

    /// Lets a call take effect later, and holds its payment until then.
    fn postpone(
        &mut self,
        effect: Effect,
        key: Option<&str>,
        fingerprint: &str,
        request_id: &str,
        now_ms: u64,
    ) {
        let due_ms = now_ms + self.faults.late_effect_ms.max(LATE_MS_MIN);
        if let Some(key) = key {
            self.keys.note(key, fingerprint, now_ms, due_ms, None);
        }
        if let Some(intent) = self.intent_of(&effect) {
            self.intents[intent].locked = true;
        }
        self.plan(
            due_ms,
            Due::Late {
                effect: Box::new(effect),
                key: key.map(str::to_owned),
                request_id: request_id.to_owned(),
            },
        );
    }

    fn happen(&mut self, due: Due, mut moment: Moment) {
        match due {
            Due::Late {
                effect,
                key,
                request_id,
            } => {
                if let Some(intent) = self.intent_of(&effect) {
                    self.intents[intent].locked = false;
                }
                moment.request = Some((request_id.clone(), key.clone()));
                let now_ms = moment.now_ms;
                let outcome = self.execute(*effect, &mut moment);
                if let Some(key) = key {
                    let saved = saved(&Answer::new(request_id, outcome));
                    self.keys.settle(&key, now_ms, saved);
                }
            }
            Due::Expire { charge } => self.expire(charge, &mut moment),
            Due::SettleRefund { refund } => self.settle_refund(refund, &mut moment),
            Due::FailRefund { refund } => self.fail_refund(refund, &mut moment),
            Due::Dispute { charge, reason } => {
                // It may have been refunded in full by now: then there is nothing left to dispute.
                let _ = self.dispute(charge, None, reason, &mut moment);
            }
        }
    }

    fn execute(&mut self, effect: Effect, moment: &mut Moment) -> Result<Value, ApiError> {
        match effect {
            Effect::Create(create) => self.create(create, moment),
            Effect::Confirm(id, confirm) => self.confirm(&id, confirm, moment),
            Effect::Capture(id, capture) => self.capture(&id, &capture, moment),
            Effect::Cancel(id, reason) => self.cancel(&id, reason, moment),
            Effect::Refund(refund) => self.refund(refund, moment),
        }
    }

    /// The road of a POST under `/v1`.
    fn effect(&self, request: &Request) -> Result<Effect, ApiError> {
        let path: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        let form = &request.form;
        match path[..] {
            ["v1", "payment_intents"] => Ok(Effect::Create(Create::read(form)?)),
            ["v1", "payment_intents", id, "confirm"] => Ok(Effect::Confirm(id.into(), Confirm::read(form)?)),
            ["v1", "payment_intents", id, "capture"] => Ok(Effect::Capture(id.into(), Capture::read(form)?)),
            ["v1", "payment_intents", id, "cancel"] => Ok(Effect::Cancel(id.into(), cancellation(form)?)),
            ["v1", "refunds"] => Ok(Effect::Refund(NewRefund::read(form)?)),
            _ => Err(ApiError::unknown_url("POST", &request.path)),
        }
    }

    /// The payment that a call is about, if it exists.
    fn intent_of(&self, effect: &Effect) -> Option<usize> {
        let id = match effect {
            Effect::Create(_) => return None,
            Effect::Confirm(id, _) | Effect::Capture(id, _) | Effect::Cancel(id, _) => id,
            Effect::Refund(refund) => refund.payment_intent.as_ref().or(refund.charge.as_ref())?,
        };
        match self.places.get(id) {
            Some(Place::Intent(intent)) => Some(*intent),
            Some(Place::Charge(charge)) => Some(self.charges[*charge].intent),
            _ => None,
        }
    }

    fn magic(&self, effect: &Effect) -> Magic {
        match effect {
            Effect::Create(create) => create.magic(),
            other => {
                let intent = self.intent_of(other).map(|intent| &self.intents[intent]);
                match (other, intent) {
                    (Effect::Confirm(_, confirm), Some(intent)) => confirm.magic(intent),
                    (_, Some(intent)) => intent.magic,
                    (_, None) => Magic::default(),
                }
            }
        }
    }

    pub(super) fn plan(&mut self, due_ms: u64, due: Due) {
        self.dues += 1;
        self.agenda.insert((due_ms, self.dues), due);
    }

    pub(super) fn place(&self, id: &str) -> Option<Place> {
        self.places.get(id).copied()
    }

    /// A fresh id that leads to a place.
    pub(super) fn name(&mut self, prefix: &str, place: Place) -> String {
        let id = self.fresh_id(prefix);
        self.places.insert(id.clone(), place);
        id
    }

    pub(super) fn fresh_id(&mut self, prefix: &str) -> String {
        self.ids += 1;
        Draw::new(self.options.seed, Stream::Ids, self.ids).id(prefix)
    }

    /// Tells the world of an effect.
    pub(super) fn tell(&mut self, kind: &'static str, object: Value, moment: &mut Moment) {
        let id = self.fresh_id("evt_");
        self.mail
            .post(&self.options, &self.faults, moment, id, kind, object);
    }
}

/// An early webhook is at least this much before the answer, in ms, even if no time was set.
const EARLY_MS_MIN: u64 = 50;

/// A late effect is at least this late, in ms, even if no time was set.
const LATE_MS_MIN: u64 = 1_000;

fn saved(answer: &Answer) -> Saved {
    Saved {
        status: answer.status,
        body: Arc::clone(&answer.body),
        request_id: answer.request_id.clone(),
    }
}

/// What must be the same when a key is used again: path and parameters, whatever their order.
fn fingerprint(request: &Request) -> String {
    let mut pairs: Vec<_> = request.form.iter().collect();
    pairs.sort();
    format!("{} {pairs:?}", request.path)
}
