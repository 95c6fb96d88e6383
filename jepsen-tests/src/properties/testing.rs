//! Small runs, told an operation at a time, for the properties' own tests.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use client::{Claim, ClaimStatus, EventKind, Receipt};

use super::{
    Counters, Observations, Replica, ReplicaSale, Run, SeenEvent, SeenFeed, SeenHash, SeenRead, Verdict,
};
use crate::history::{Answer, Call, Header, Index, Outcome, Recorder};

/// How long a hold lasts in these stories, in ms.
pub const TTL_MS: u64 = 1_000;

/// The only sale.
pub const SALE: &str = "s";

/// A run being told. Log time and harness time are one.
pub struct Story {
    pub recorder: Recorder,
    now_ms: Arc<AtomicU64>,
    p: u64,
    pub observations: Observations,
}

/// A story of one sale.
pub fn story(units: u64) -> Story {
    let now_ms = Arc::new(AtomicU64::new(0));
    let clock = now_ms.clone();
    Story {
        recorder: Recorder::new(Header::one(TTL_MS, [(SALE, units)]), move || {
            clock.load(Ordering::Relaxed) * 1_000_000
        }),
        now_ms,
        p: 0,
        observations: Observations::default(),
    }
}

/// The place of the only command of an entry.
pub fn at(log_index: u64) -> Index {
    Index {
        log_index,
        position: 0,
    }
}

impl Story {
    /// Time goes on to this ms.
    pub fn at(&mut self, ms: u64) -> &mut Story {
        self.now_ms.store(ms, Ordering::Relaxed);
        self
    }

    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// An operation that returns at once.
    pub fn answered(&mut self, call: Call<&str>, log_index: u64, outcome: Outcome<&str>) -> u64 {
        self.p += 1;
        let id = self.recorder.invoke(self.p, SALE, call);
        self.recorder.ok(
            id,
            Answer {
                idx: Some(at(log_index)),
                lt: self.now_ms(),
                outcome,
            },
        );
        id
    }

    /// An operation that nobody hears of again.
    pub fn unknown(&mut self, call: Call<&str>) -> u64 {
        self.p += 1;
        let id = self.recorder.invoke(self.p, SALE, call);
        self.recorder.info(id, "no answer");
        id
    }

    pub fn claim(&mut self, user: &str, key: &str, log_index: u64, hold: &str) -> u64 {
        let deadline = self.now_ms() + TTL_MS;
        self.answered(
            Call::claim(user, key),
            log_index,
            Outcome::Granted { hold, deadline },
        )
    }

    pub fn sold_out(&mut self, user: &str, key: &str, log_index: u64) -> u64 {
        self.answered(Call::claim(user, key), log_index, Outcome::SoldOut)
    }

    pub fn confirm(&mut self, hold: &str, key: &str, log_index: u64) -> u64 {
        self.answered(Call::Confirm { hold, key }, log_index, Outcome::Confirmed)
    }

    pub fn gone(&mut self, hold: &str, key: &str, log_index: u64) -> u64 {
        self.answered(Call::Confirm { hold, key }, log_index, Outcome::Gone)
    }

    pub fn release(&mut self, hold: &str, key: &str, log_index: u64) -> u64 {
        self.answered(Call::Release { hold, key }, log_index, Outcome::Released)
    }

    pub fn read(&mut self, counters: (u64, u64, u64, u64), log_index: u64) -> u64 {
        let (available, held, sold, total) = counters;
        let outcome = Outcome::Counters {
            available,
            held,
            sold,
            total,
        };
        self.answered(Call::Read, log_index, outcome)
    }

    pub fn unknown_claim(&mut self, user: &str, key: &str) -> u64 {
        self.unknown(Call::claim(user, key))
    }

    pub fn unknown_release(&mut self, hold: &str, key: &str) -> u64 {
        self.unknown(Call::Release { hold, key })
    }

    pub fn seen_read(&mut self, node: &str, log_index: u64, counters: (u64, u64, u64, u64)) -> &mut SeenRead {
        let now_ns = self.now_ms() * 1_000_000;
        let (available, held, sold, total) = counters;
        self.observations.reads.push(SeenRead {
            node: node.to_owned(),
            age_ms_max: None,
            invoked_ns: now_ns,
            returned_ns: now_ns,
            sale: SALE.to_owned(),
            counters: Counters {
                available,
                held,
                sold,
                total,
            },
            log_index,
            lt: self.now_ms(),
        });
        self.observations.reads.last_mut().expect("just pushed")
    }

    /// An event in the feed of `watcher`, seen now.
    pub fn event(&mut self, watcher: &str, place: (u64, u32), kind: EventKind, hold: &str) {
        let feeds = &mut self.observations.feeds;
        if !feeds.iter().any(|feed| feed.name == watcher) {
            feeds.push(SeenFeed {
                name: watcher.to_owned(),
                from_index: 1,
                ..SeenFeed::default()
            });
        }
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        let feed = feeds
            .iter_mut()
            .find(|feed| feed.name == watcher)
            .expect("just made");
        feed.reached = feed.reached.max(place.0);
        feed.events.push(SeenEvent {
            t: now_ms * 1_000_000,
            log_index: place.0,
            ordinal: place.1,
            lt: now_ms,
            command: (kind != EventKind::ClaimExpired).then_some(0),
            kind,
            sale: SALE.to_owned(),
            claim: Some(claim(hold, ClaimStatus::Held, place.0)),
            value: 0,
        });
    }

    /// A replica at the end, with these claims of a sale of one unit each.
    pub fn replica(&mut self, node: &str, claims: Vec<Claim>) {
        let units = |status| claims.iter().filter(|claim| claim.status == status).count() as u64;
        let (held, sold) = (units(ClaimStatus::Held), units(ClaimStatus::Confirmed));
        let total = self.recorder.finish().header.sales[SALE].units;
        let counters = Counters {
            available: total - held - sold,
            held,
            sold,
            total,
        };
        self.observations.replicas.push(Replica {
            node: node.to_owned(),
            sales: [(SALE.to_owned(), ReplicaSale { counters, claims })].into(),
        });
    }

    /// A state hash, taken now.
    pub fn hash(&mut self, node: &str, log_index: u64, digest: u8) {
        self.observations.hashes.push(SeenHash {
            node: node.to_owned(),
            log_index,
            digest: vec![digest],
            sales_wrong: Vec::new(),
        });
    }

    pub fn run(&self) -> Run {
        Run::new(self.recorder.finish(), self.observations.clone())
    }
}

/// A claim as a replica has it.
pub fn claim(hold: &str, status: ClaimStatus, log_index: u64) -> Claim {
    Claim {
        claim_id: hold.to_owned(),
        status,
        quantity: 1,
        rank: 1,
        deadline_ms: TTL_MS,
        fencing_token: log_index,
        receipt: Receipt {
            log_index,
            position: 0,
            term: 1,
            log_time_ms: 0,
        },
        user_hash: hold.as_bytes().to_vec(),
    }
}

fn verdict(run: &Run, property: &str) -> (Verdict, String) {
    let findings = super::check(run);
    let finding = findings
        .into_iter()
        .find(|finding| finding.property == property)
        .expect("a property of this name");
    (finding.verdict, finding.summary)
}

pub fn assert_valid(run: &Run, property: &str) {
    let (verdict, summary) = verdict(run, property);
    assert_eq!(verdict, Verdict::Valid, "{summary}");
}

pub fn assert_invalid(run: &Run, property: &str) {
    let (verdict, summary) = verdict(run, property);
    assert_eq!(verdict, Verdict::Invalid, "{summary}");
}
