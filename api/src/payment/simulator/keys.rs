//! Idempotency keys: what was answered to each, for 24 hours.
//!
//! As Stripe does it: the result of a call that began to execute is saved and replayed, errors included.
//! What was refused before that (a parameter, a rate limit, a lock) is not saved and may be tried again.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// How long an answer is kept, in ms.
const KEPT_MS: u64 = 24 * 3_600_000;

/// Longest key, in characters: Stripe's limit.
pub(super) const KEY_CHARS_MAX: usize = 255;

/// A result, as it is replayed.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    pub(super) status: u16,
    pub(super) body: Arc<str>,
    pub(super) request_id: String,
}

#[derive(Debug)]
struct Record {
    fingerprint: Box<str>,
    /// In flight until then.
    busy_until_ms: u64,
    saved: Option<Saved>,
}

/// What is known of a key.
#[derive(Debug)]
pub(super) enum Seen {
    /// Nothing.
    New,
    /// It was used, and nothing was saved.
    Tried,
    /// A call with it is being answered.
    InFlight,
    /// It was used for another call.
    OtherCall,
    /// Its result.
    Saved(Saved),
}

/// All keys, oldest forgotten first.
#[derive(Debug, Default)]
pub(super) struct Keys {
    records: HashMap<String, Record>,
    by_age: VecDeque<(u64, String)>,
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn forget_old(&mut self, now_ms: u64) {
        while let Some((created_ms, _)) = self.by_age.front() {
            if now_ms.saturating_sub(*created_ms) < KEPT_MS {
                return;
            }
            if let Some((_, key)) = self.by_age.pop_front() {
                self.records.remove(&key);
            }
        }
    }

    pub(super) fn look(&self, key: &str, fingerprint: &str, now_ms: u64) -> Seen {
        match self.records.get(key) {
            None => Seen::New,
            Some(record) if &*record.fingerprint != fingerprint => Seen::OtherCall,
            Some(record) if now_ms < record.busy_until_ms => Seen::InFlight,
            Some(Record { saved: None, .. }) => Seen::Tried,
            Some(Record {
                saved: Some(saved), ..
            }) => Seen::Saved(saved.clone()),
        }
    }

    /// Notes a use: in flight until `busy_until_ms`, with this result if there is one already.
    pub(super) fn note(
        &mut self,
        key: &str,
        fingerprint: &str,
        now_ms: u64,
        busy_until_ms: u64,
        saved: Option<Saved>,
    ) {
        if let Some(record) = self.records.get_mut(key) {
            record.busy_until_ms = busy_until_ms;
            record.saved = saved;
            return;
        }
        self.by_age.push_back((now_ms, key.to_owned()));
        self.records.insert(
            key.to_owned(),
            Record {
                fingerprint: fingerprint.into(),
                busy_until_ms,
                saved,
            },
        );
    }

    /// The result of a call that was in flight.
    pub(super) fn settle(&mut self, key: &str, now_ms: u64, saved: Saved) {
        if let Some(record) = self.records.get_mut(key) {
            record.busy_until_ms = now_ms;
            record.saved = Some(saved);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        Saved {
            status: 200,
            body: "{}".into(),
            request_id: "req_1".into(),
        }
    }

    #[test]
    fn a_key_is_in_flight_then_saved_then_forgotten() {
        let mut keys = Keys::default();
        assert!(matches!(keys.look("k", "f", 10), Seen::New));
        keys.note("k", "f", 10, 50, Some(saved()));
        assert!(matches!(keys.look("k", "f", 49), Seen::InFlight));
        assert!(matches!(keys.look("k", "f", 50), Seen::Saved(_)));
        assert!(matches!(keys.look("k", "other", 50), Seen::OtherCall));
        keys.forget_old(10 + KEPT_MS - 1);
        assert_eq!(keys.len(), 1);
        keys.forget_old(10 + KEPT_MS);
        assert!(matches!(keys.look("k", "f", 10 + KEPT_MS), Seen::New));
    }

    #[test]
    fn what_was_refused_may_be_tried_again() {
        let mut keys = Keys::default();
        keys.note("k", "f", 10, 10, None);
        assert!(matches!(keys.look("k", "f", 11), Seen::Tried));
        keys.note("k", "f", 11, 11, Some(saved()));
        assert!(matches!(keys.look("k", "f", 11), Seen::Saved(_)));
    }
}
