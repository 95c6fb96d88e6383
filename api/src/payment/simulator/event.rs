//! Events, and their way out as webhooks.
//!
//! An event is made with the effect it tells of, and kept. Each is due for delivery at a time that the
//! effect decides: just after the answer, or as the faults have it. A delivery that is not taken comes back
//! with a growing wait, until it is given up. Deliveries are handed out by due time; nothing promises that
//! they arrive in that order.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use serde::Serialize;
use serde_json::Value;

use super::{
    fault::{Draw, Faults, Whim},
    object::seconds,
    options::Options,
};

/// The API version that events are written in.
pub(super) const API_VERSION: &str = "2025-09-30.clover";

/// Attempts before a delivery is given up: with waits up to 30 s, some six minutes.
const ATTEMPTS_MAX: u32 = 18;

/// Longest wait between two attempts, in ms.
const RETRY_MS_MAX: u64 = 30_000;

/// Webhooks leave this long after the answer, in ms, at least and less than.
const AFTER_ANSWER_MS: (u64, u64) = (2, 20);

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `evt_…`
    pub id: String,
    /// As in `payment_intent.succeeded`.
    pub kind: &'static str,
    /// The id of the object it tells of.
    pub object_id: String,
    /// When, in Unix ms.
    pub created_ms: u64,
    /// The event as Stripe writes it: what a webhook carries.
    pub body: Arc<str>,
}

/// An event as Stripe writes it.
#[derive(Serialize)]
struct Body<'a> {
    api_version: &'a str,
    created: u64,
    data: Data<'a>,
    id: &'a str,
    livemode: bool,
    object: &'a str,
    pending_webhooks: u8,
    request: Cause<'a>,
    #[serde(rename = "type")]
    kind: &'a str,
}

#[derive(Serialize)]
struct Data<'a> {
    object: &'a Value,
}

#[derive(Serialize)]
struct Cause<'a> {
    id: Option<&'a String>,
    idempotency_key: Option<&'a String>,
}

/// One webhook to be sent. Hand it back with [`Provider::delivered`](super::Provider::delivered).
#[derive(Clone, Debug)]
pub struct Delivery {
    pub(super) id: u64,
    /// What to send.
    pub event: Arc<Event>,
    /// How often it was tried before.
    pub attempts: u32,
}

/// The moment in which effects happen, and what their events need to know of it.
#[derive(Debug)]
pub(super) struct Moment {
    pub(super) now_ms: u64,
    /// When the call is answered.
    pub(super) answer_ms: u64,
    pub(super) draw: Draw,
    /// The call, if one caused it.
    pub(super) request: Option<(String, Option<String>)>,
    pub(super) whim: Option<Whim>,
}

/// Events and the webhooks that wait.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// Newest last; the oldest is number `forgotten`.
    pub(super) events: VecDeque<Arc<Event>>,
    pub(super) forgotten: u64,
    numbers: HashMap<String, u64>,
    outbox: BTreeMap<(u64, u64), Delivery>,
    /// Due times of what waits, by delivery.
    due: HashMap<u64, u64>,
    deliveries: u64,
    /// Delivered, dropped for want of room, given up.
    pub(super) delivered: u64,
    pub(super) dropped: u64,
    pub(super) given_up: u64,
}

impl Mail {
    /// Keeps an event and plans its webhooks.
    pub(super) fn post(
        &mut self,
        options: &Options,
        faults: &Faults,
        moment: &mut Moment,
        id: String,
        kind: &'static str,
        object: Value,
    ) {
        let sent = options.sends(kind);
        let object_id = object["id"].as_str().unwrap_or_default().to_owned();
        let (request, key) = match &moment.request {
            Some((request, key)) => (Some(request), key.as_ref()),
            None => (None, None),
        };
        let body = Body {
            api_version: API_VERSION,
            created: seconds(moment.now_ms),
            data: Data { object: &object },
            id: &id,
            livemode: false,
            object: "event",
            pending_webhooks: sent.into(),
            request: Cause {
                id: request,
                idempotency_key: key,
            },
            kind,
        };
        let body = serde_json::to_string(&body).expect("what has names for keys can be written");
        let event = Arc::new(Event {
            id: id.clone(),
            kind,
            object_id,
            created_ms: moment.now_ms,
            body: body.into(),
        });
        if self.events.len() == options.events_max {
            if let Some(oldest) = self.events.pop_front() {
                self.numbers.remove(&oldest.id);
            }
            self.forgotten += 1;
        }
        self.numbers.insert(id, self.forgotten + self.events.len() as u64);
        self.events.push_back(Arc::clone(&event));
        if sent {
            self.plan(options, faults, moment, &event);
        }
    }

    fn plan(&mut self, options: &Options, faults: &Faults, moment: &mut Moment, event: &Arc<Event>) {
        let (least, below) = AFTER_ANSWER_MS;
        let after_ms = least + moment.draw.below(below - least);
        let shuffle_ms = moment.draw.below(faults.webhook_shuffle_ms.saturating_add(1));
        let usual_ms = moment.answer_ms + after_ms + shuffle_ms;
        let (due_ms, copies) = match moment.whim {
            None => (usual_ms, 1),
            Some(Whim::Twice) => (usual_ms, 2),
            Some(Whim::Late) => (usual_ms + faults.webhook_late_ms, 1),
            Some(Whim::Early) => (moment.now_ms, 1),
            Some(Whim::Lost) => return,
        };
        for copy in 0..copies {
            // Counted also when dropped, so that a number means the same in every replay.
            self.deliveries += 1;
            if self.outbox.len() >= options.deliveries_max {
                self.dropped += 1;
                continue;
            }
            let delivery = Delivery {
                id: self.deliveries,
                event: Arc::clone(event),
                attempts: 0,
            };
            self.put(due_ms + copy * (below - least), delivery);
        }
    }

    fn put(&mut self, due_ms: u64, delivery: Delivery) {
        self.due.insert(delivery.id, due_ms);
        self.outbox.insert((due_ms, delivery.id), delivery);
    }

    /// Takes the next delivery that is due.
    pub(super) fn take(&mut self, now_ms: u64) -> Option<Delivery> {
        let first = self.outbox.first_entry()?;
        if first.key().0 > now_ms {
            return None;
        }
        let delivery = first.remove();
        self.due.remove(&delivery.id);
        Some(delivery)
    }

    /// When the next delivery is due.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.outbox.first_key_value().map(|((due_ms, _), _)| *due_ms)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// The end of an attempt. True when it was the last.
    pub(super) fn end(
        &mut self,
        options: &Options,
        mut delivery: Delivery,
        taken: bool,
        now_ms: u64,
    ) -> bool {
        if taken {
            self.delivered += 1;
            return true;
        }
        delivery.attempts += 1;
        if delivery.attempts >= ATTEMPTS_MAX {
            self.given_up += 1;
            return true;
        }
        let doublings = (delivery.attempts - 1).min(16);
        let wait_ms = options
            .webhook_retry_ms
            .saturating_mul(1 << doublings)
            .min(RETRY_MS_MAX);
        self.put(now_ms.saturating_add(wait_ms.max(1)), delivery);
        false
    }

    /// Forgets a delivery that is known to have ended.
    pub(super) fn forget(&mut self, delivery: u64) {
        if let Some(due_ms) = self.due.remove(&delivery) {
            self.outbox.remove(&(due_ms, delivery));
            self.delivered += 1;
        }
    }

    /// Where an event stands among those kept.
    pub(super) fn position(&self, id: &str) -> Option<usize> {
        let number = self.numbers.get(id)?;
        usize::try_from(number - self.forgotten).ok()
    }

    pub(super) fn event(&self, id: &str) -> Option<&Arc<Event>> {
        self.events.get(self.position(id)?)
    }
}
