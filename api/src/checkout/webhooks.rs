//! The provider's news: stored first, answered then, and acted on afterwards.
//!
//! - News of a payment are a hint: whatever they say, the checkout that it belongs to looks for itself.
//!   One document, `webhook/{event id}`, says that the event was here, and of what kind; its body, of several
//!   KB and several a checkout, is not kept. Should this process die before it passed the hint on, the sweep
//!   of open checkouts comes by anyway.
//! - News of refunds and disputes are the only word of them that there is, so they wait at
//!   `webhook/open/{event id}` until order and ledger have them; any process goes on with what another
//!   left there. Everything they change is named by the refund's or dispute's own id, so acting twice, or
//!   out of order, changes nothing.
//! - Events of other kinds are noted in the same way, and nothing else.

use std::{sync::Arc, time::Duration};

use client::Error;
use fault_points::{crash_point, planted};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    Checkouts, Till,
    books::{self, Entry},
    journal::{Journal, decode, encode, open_key},
    metrics,
    terms::Stage,
};
use crate::{
    documents::{DocumentWrite, fresh_key, is_version_mismatch},
    error::{Kind, Problem},
    ledger,
    orders::{OrderDispute, OrderDisputeStatus, OrderError, OrderRefund, OrderRefundStatus, load, order_id},
    payment::{
        Money, Refund, RefundStatus,
        webhook::{Charge, Dispute, WebhookEvent, WebhookKind, WebhookObject},
    },
};

/// Prefix of events that are acted on still.
const OPEN_PREFIX: &str = "webhook/open/";

/// Prefix of events that were here.
const SEEN_PREFIX: &str = "webhook/";

/// Format of both documents.
const FORMAT: u32 = 1;

/// How long an event is remembered, in ms of log time: providers repeat theirs for days.
const KEPT_MS: u64 = 30 * 24 * 3_600_000;

/// Longest event id, in bytes: with its prefix it fits a document's key; real ones have some 30.
const EVENT_ID_BYTES_MAX: usize = 100;

/// Largest event that is kept as it came, in bytes; of a larger one, what is read of it.
const EVENT_BYTES_MAX: usize = 12 * 1024;

/// Longest name of a kind that is none of ours, in characters: real ones have some 50.
const KIND_CHARS_MAX: usize = 100;

/// How long an event is left to the process that took it, in ms of log time.
const TAKER_MS: u64 = 5_000;

/// How long a sum of refunds waits for the news of its parts, in ms of log time. Then it is believed
/// without.
const PARTS_MS: u64 = 120_000;

/// How long events are gathered before they are written, in ms: an entry of its own for each would be a third of all
/// that checkouts make; a shopper back from his bank does not notice.
const TOGETHER_MS: u64 = 10;

/// Events read in one page.
const PAGE_MAX: u32 = 256;

/// An event as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    format: u32,
    /// Log time of the store's answer before it was written.
    received_ms: u64,
    event: Value,
}

/// What is kept of an event that is a hint.
#[derive(Debug, Serialize)]
struct Noted<'a> {
    format: u32,
    kind: String,
    created_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_id: Option<&'a str>,
}

impl<'a> Noted<'a> {
    fn of(event: &'a WebhookEvent) -> Self {
        let kind = match &event.kind {
            WebhookKind::Other(kind) => kind.chars().take(KIND_CHARS_MAX).collect(),
            kind => format!("{kind:?}"),
        };
        Noted {
            format: FORMAT,
            kind,
            created_s: event.created_s,
            payment_id: event.payment_id.as_deref(),
        }
    }
}

/// What an event comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acted {
    /// Order and ledger have it, or it is none of ours.
    Done,
    /// Not yet: the order is not there, or the parts of a sum.
    Later,
}

impl Checkouts {
    /// Takes an event in: once this returns, it is not lost any more.
    pub(crate) async fn receive(
        self: &Arc<Self>,
        signature: Option<&str>,
        body: &[u8],
        now_s: u64,
    ) -> Result<(), Problem> {
        let came =
            |what: &'static str| ::metrics::counter!(metrics::WEBHOOKS, "outcome" => what).increment(1);
        let (_, check) = self
            .till
            .as_ref()
            .and_then(|till| Some((till, till.webhooks.as_ref()?)))
            .ok_or_else(|| {
                Problem::new(
                    Kind::CheckoutNotConfigured,
                    "no webhook secret is configured here: start `holdfast api` with --webhook-secret-file",
                )
            })?;
        check.verify(signature, body, now_s).map_err(|error| {
            came("refused");
            tracing::warn!(%error, "a webhook is not believed");
            Problem::new(Kind::SignatureInvalid, error.to_string())
        })?;
        let event = WebhookEvent::parse(body).map_err(|error| {
            came("refused");
            Problem::invalid(error.to_string())
        })?;
        if event.id.len() > EVENT_ID_BYTES_MAX || event.id.contains('/') {
            came("refused");
            return Err(Problem::invalid("the event's id is none that can be kept"));
        }
        let seen = format!("{SEEN_PREFIX}{}", event.id);
        let waits = needs_acting(&event);
        let (document, body) = if waits {
            if self.store.document(&seen).await?.is_some() {
                came("repeated");
                return Ok(());
            }
            let kept = Kept {
                format: FORMAT,
                received_ms: self.log_time_ms().await?,
                event: kept(body, &event)?,
            };
            (format!("{OPEN_PREFIX}{}", event.id), encode(&kept))
        } else {
            // The write itself says whether it was here before.
            (seen, encode(&Noted::of(&event)))
        };
        let write = DocumentWrite {
            document,
            body: body.into(),
            ttl_ms: KEPT_MS,
            ..DocumentWrite::default()
        };
        // The provider waits for seconds, and there are two events and more to a checkout.
        self.together().await;
        match self.store.write_document(write, fresh_key()).await {
            Ok(_) => came(if waits { "stored" } else { "noted" }),
            Err(error) if is_version_mismatch(&error) => {
                came("repeated");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        crash_point!("webhook-stored");
        let checkouts = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = checkouts.pass_on(&event).await {
                tracing::info!(%error, event = event.id, "an event is acted on later");
            }
        });
        Ok(())
    }

    /// Waits for the next moment at which events are written, so that those that came since the last travel in one frame
    /// and are one log entry.
    async fn together(&self) {
        let every = Duration::from_millis(TOGETHER_MS);
        let into = self.began.elapsed().as_millis() as u64 % TOGETHER_MS;
        sleep(every - Duration::from_millis(into)).await;
    }

    /// Log time, from any linearizable answer.
    async fn log_time_ms(&self) -> Result<u64, Error> {
        let listed = self.store.documents(OPEN_PREFIX, "", 1).await?;
        Ok(listed.position.log_time_ms)
    }

    /// Acts on an event that is stored.
    async fn pass_on(&self, event: &WebhookEvent) -> Result<(), Error> {
        if needs_acting(event) {
            return self.finish(&event.id).await;
        }
        match (&event.kind, &event.reference) {
            (WebhookKind::Other(_), _) | (_, None) => Ok(()),
            // Its driver hears the same from the provider itself, and would not let go of the lease for anybody.
            (_, Some(claim_id)) if self.driven.has(claim_id) => Ok(()),
            // It goes on in a task of its own; nobody waits for its end.
            (_, Some(claim_id)) => self.poke(claim_id).await.map(drop),
        }
    }

    /// Goes on with events that others left; gives how many are left still.
    pub(crate) async fn sweep_webhooks(&self) -> Result<usize, Error> {
        let (mut after, mut left) = (String::new(), 0);
        loop {
            let page = self.store.documents(OPEN_PREFIX, &after, PAGE_MAX).await?;
            for listed in &page.documents {
                let document = String::from_utf8_lossy(&listed.key);
                let Ok(kept) = decode::<Kept>(&document, &listed.body) else {
                    continue;
                };
                left += 1;
                let event_id = document.strip_prefix(OPEN_PREFIX).unwrap_or_default();
                if kept.received_ms + TAKER_MS <= page.position.log_time_ms {
                    self.finish(event_id).await?;
                }
            }
            match page.documents.last() {
                Some(last) if page.more => after = String::from_utf8_lossy(&last.key).into_owned(),
                _ => return Ok(left),
            }
        }
    }

    /// Acts on an event that waits, and notes that it did.
    async fn finish(&self, event_id: &str) -> Result<(), Error> {
        let open = format!("{OPEN_PREFIX}{event_id}");
        let Some(found) = self.store.document(&open).await? else {
            return Ok(());
        };
        let Ok(kept) = decode::<Kept>(&open, &found.body) else {
            return Ok(());
        };
        let age_ms = found.position.log_time_ms.saturating_sub(kept.received_ms);
        let event = WebhookEvent::parse(kept.event.to_string().as_bytes());
        let acted = match &event {
            Ok(event) => self.act(event, age_ms).await?,
            // It was read when it came.
            Err(error) => {
                tracing::error!(%error, event_id, "an event cannot be read any more");
                Acted::Done
            }
        };
        if acted == Acted::Later {
            return Ok(());
        }
        crash_point!("webhook-acted-on");
        let seen = DocumentWrite {
            document: format!("{SEEN_PREFIX}{event_id}"),
            body: found.body.clone(),
            ttl_ms: KEPT_MS,
            ..DocumentWrite::default()
        };
        match self.store.write_document(seen, fresh_key()).await {
            Err(error) if !is_version_mismatch(&error) => return Err(error),
            _ => {}
        }
        crash_point!("webhook-noted");
        match self.store.delete_document(open, found.version, fresh_key()).await {
            Err(error) if !is_version_mismatch(&error) => Err(error),
            _ => Ok(()),
        }
    }

    async fn act(&self, event: &WebhookEvent, age_ms: u64) -> Result<Acted, Error> {
        let Some(payment_id) = &event.payment_id else {
            return Ok(done_with(event, "it names no payment"));
        };
        let Some(till) = &self.till else {
            return Ok(Acted::Later);
        };
        let claim_id = match &event.reference {
            Some(claim_id) => claim_id.clone(),
            // Refunds and disputes need not carry what the payment does.
            None => match self.claim_of(till, payment_id).await {
                Ok(Some(claim_id)) => claim_id,
                Ok(None) => return Ok(done_with(event, "its payment is none of ours")),
                Err(later) => return Ok(later),
            },
        };
        let order_id = order_id(&claim_id);
        let order = match load(&*self.store, &order_id).await {
            Ok(order) => order.map(|(order, _)| order),
            Err(OrderError::Store(error)) => return Err(error),
            Err(error) => return Ok(done_with(event, &error.to_string())),
        };
        if order
            .as_ref()
            .is_some_and(|order| order.payment_id != *payment_id)
        {
            return Ok(done_with(event, "the order was paid with another payment"));
        }
        if order.is_none() && self.is_open(&claim_id).await? {
            return Ok(Acted::Later);
        }
        let to = To {
            payment_id,
            claim_id: &claim_id,
            order_id: order.as_ref().map(|_| order_id.as_str()),
            at_ms: event.created_s.saturating_mul(1_000),
        };
        match &event.object {
            WebhookObject::Refund(refund) => self.act_on_refund(refund, &to).await?,
            WebhookObject::Dispute(dispute) => self.act_on_dispute(&event.kind, dispute, &to).await?,
            WebhookObject::Charge(charge) => {
                let booked = order.map_or(charge.amount_refunded_minor, |order| order.refunded_minor());
                let missing = charge.amount_refunded_minor.saturating_sub(booked);
                if missing > 0 && age_ms < PARTS_MS {
                    return Ok(Acted::Later);
                }
                if missing > 0 {
                    self.act_on_sum(event, charge, missing, &to).await?;
                }
            }
            WebhookObject::Unreadable { why } => return Ok(done_with(event, why)),
            WebhookObject::Payment(_) | WebhookObject::Other => {}
        }
        Ok(Acted::Done)
    }

    /// Whose a payment is; `Err`: the provider cannot say now.
    async fn claim_of(&self, till: &Till, payment_id: &str) -> Result<Option<String>, Acted> {
        let deadline = Instant::now() + Duration::from_millis(self.options.payment_call_ms_max);
        match till.steps.provider.retrieve(payment_id, deadline).await {
            Ok(payment) => Ok(payment.reference),
            Err(error @ crate::payment::PaymentError::Refused { .. }) => {
                tracing::warn!(%error, payment_id, "an event is about a payment that the provider does not know");
                Ok(None)
            }
            Err(_) => Err(Acted::Later),
        }
    }

    async fn is_open(&self, claim_id: &str) -> Result<bool, Error> {
        let document = open_key(claim_id);
        let found = self.store.document(&document).await?;
        Ok(found.is_some_and(|found| {
            decode::<Journal>(&document, &found.body).map_or(true, |journal| journal.stage != Stage::Done)
        }))
    }

    async fn act_on_refund(&self, refund: &Refund, to: &To<'_>) -> Result<(), Error> {
        let status = match refund.status {
            RefundStatus::Succeeded => OrderRefundStatus::Succeeded,
            RefundStatus::Failed | RefundStatus::Canceled => OrderRefundStatus::Failed,
            RefundStatus::Pending | RefundStatus::RequiresAction | RefundStatus::Other => {
                OrderRefundStatus::Pending
            }
        };
        self.enter(ledger::Kind::Refund, &refund.id, refund.amount, to)
            .await?;
        if status == OrderRefundStatus::Failed {
            self.enter(ledger::Kind::RefundReversed, &refund.id, refund.amount, to)
                .await?;
        }
        self.note_refund(&refund.id, refund.amount.minor, status, to)
            .await
    }

    /// What the sum says and no part of it did, under the event's own id.
    async fn act_on_sum(
        &self,
        event: &WebhookEvent,
        charge: &Charge,
        missing_minor: u64,
        to: &To<'_>,
    ) -> Result<(), Error> {
        let amount = Money::new(missing_minor, charge.amount.currency);
        self.enter(ledger::Kind::Refund, &event.id, amount, to).await?;
        self.note_refund(&event.id, missing_minor, OrderRefundStatus::Succeeded, to)
            .await
    }

    async fn note_refund(
        &self,
        refund_id: &str,
        amount_minor: u64,
        status: OrderRefundStatus,
        to: &To<'_>,
    ) -> Result<(), Error> {
        let Some(order_id) = to.order_id else {
            return Ok(());
        };
        books::change(&*self.store, order_id, |order| {
            order.note_refund(OrderRefund {
                refund_id: refund_id.to_owned(),
                amount_minor,
                status,
                at_ms: to.at_ms,
            })
        })
        .await
    }

    async fn act_on_dispute(&self, kind: &WebhookKind, dispute: &Dispute, to: &To<'_>) -> Result<(), Error> {
        let reinstated = *kind == WebhookKind::DisputeFundsReinstated;
        let lost = dispute.status == "lost";
        let won = reinstated || matches!(dispute.status.as_str(), "won" | "warning_closed" | "prevented");
        if reinstated || lost || *kind == WebhookKind::DisputeFundsWithdrawn {
            self.enter(ledger::Kind::Chargeback, &dispute.id, dispute.amount, to)
                .await?;
        }
        if reinstated {
            self.enter(ledger::Kind::ChargebackReversed, &dispute.id, dispute.amount, to)
                .await?;
        }
        let Some(order_id) = to.order_id else {
            return Ok(());
        };
        let status = match (won, lost) {
            (true, _) => OrderDisputeStatus::Won,
            (_, true) => OrderDisputeStatus::Lost,
            _ => OrderDisputeStatus::Open,
        };
        books::change(&*self.store, order_id, |order| {
            order.note_dispute(OrderDispute {
                dispute_id: dispute.id.clone(),
                amount_minor: dispute.amount.minor,
                status,
                at_ms: to.at_ms,
            })
        })
        .await
    }

    async fn enter(
        &self,
        kind: ledger::Kind,
        reference: &str,
        amount: Money,
        to: &To<'_>,
    ) -> Result<(), Error> {
        let mut reference = reference.to_owned();
        if planted!("webhook-booked-twice") {
            reference = format!("{reference}.{}", fresh_key());
        }
        let entry = Entry {
            kind,
            payment_id: to.payment_id,
            reference: Some(&reference),
            claim_id: to.claim_id,
            order_id: to.order_id,
            amount,
            at_ms: to.at_ms,
        };
        books::enter(&*self.store, &entry).await
    }
}

/// What news are about.
struct To<'a> {
    payment_id: &'a str,
    claim_id: &'a str,
    order_id: Option<&'a str>,
    at_ms: u64,
}

/// Whether an event says what nobody else will.
fn needs_acting(event: &WebhookEvent) -> bool {
    match event.kind {
        WebhookKind::ChargeRefunded
        | WebhookKind::RefundCreated
        | WebhookKind::RefundUpdated
        | WebhookKind::RefundFailed
        | WebhookKind::DisputeCreated
        | WebhookKind::DisputeUpdated
        | WebhookKind::DisputeClosed
        | WebhookKind::DisputeFundsWithdrawn
        | WebhookKind::DisputeFundsReinstated => true,
        WebhookKind::PaymentSucceeded
        | WebhookKind::PaymentFailed
        | WebhookKind::PaymentCapturable
        | WebhookKind::PaymentRequiresAction
        | WebhookKind::PaymentCanceled
        | WebhookKind::PaymentProcessing
        | WebhookKind::Other(_) => false,
    }
}

fn done_with(event: &WebhookEvent, why: &str) -> Acted {
    tracing::warn!(event = event.id, why, "an event changes nothing here");
    Acted::Done
}

/// What is kept of an event: all of it, or what is read of it where it is too large.
fn kept(body: &[u8], event: &WebhookEvent) -> Result<Value, Problem> {
    let mut whole: Value =
        serde_json::from_slice(body).map_err(|error| Problem::invalid(format!("no JSON: {error}")))?;
    if body.len() <= EVENT_BYTES_MAX {
        return Ok(whole);
    }
    let mut object = whole["data"]["object"].take();
    if let Some(members) = object.as_object_mut() {
        members.retain(|name, value| name == "metadata" || !(value.is_object() || value.is_array()));
    }
    let cut = serde_json::json!({
        "id": event.id,
        "type": whole["type"],
        "created": event.created_s,
        "data": { "object": object },
    });
    match cut.to_string().len() <= EVENT_BYTES_MAX {
        true => Ok(cut),
        false => Err(Problem::new(
            Kind::BodyTooLarge,
            "the event is larger than any that is known",
        )),
    }
}
