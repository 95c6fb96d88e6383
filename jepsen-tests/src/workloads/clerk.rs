//! Clerks: beside the callers of every run, a few who write documents, over one another and under leases, read them,
//! and ask what became of their own keys.
//!
//! A clerk keeps what it last heard of each document, which others have changed meanwhile as often as not: so right
//! and stale versions, tokens and keys meet at every document.

use std::{collections::VecDeque, time::Duration};

use rand::{RngExt, rngs::SmallRng};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::{documents::Heard, shop::Process};
use crate::history::{Call, Outcome};

/// Documents that they share: so few that they meet.
const DOCUMENTS: usize = 4;

/// Earlier changes that a clerk may repeat.
const REMEMBERED_MAX: usize = 32;

/// How long a lease lasts, and a document that ends by itself, in ms of log time: some end while their owner is busy.
const LEASE_MS: std::ops::Range<u64> = 200..1_500;
const TTL_MS: std::ops::Range<u64> = 300..2_000;

/// How many writes end by themselves.
const MORTAL: f64 = 0.2;

/// How often a clerk whose change is of unknown outcome asks what became of it; else it sends it once more.
const RESOLVES: f64 = 0.5;

/// What a clerk last heard of a document.
#[derive(Clone, Copy, Default)]
struct Known {
    version: u64,
    /// Of its own lease.
    token: u64,
}

/// One clerk.
pub struct Clerk {
    /// Calls for it.
    pub process: Process,
    /// Draws everything.
    pub chance: SmallRng,
    /// Which of them.
    pub number: u64,
    /// Pause between two calls, in ms.
    pub pace_ms: u64,
}

impl Clerk {
    /// Works until told to stop.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let mut pace = interval(Duration::from_millis(self.pace_ms));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut desk = Desk {
            clerk: self,
            known: [Known::default(); DOCUMENTS],
            remembered: VecDeque::new(),
            keys: 0,
        };
        while !*stop.borrow() {
            pace.tick().await;
            desk.act().await;
        }
    }
}

struct Desk {
    clerk: Clerk,
    known: [Known; DOCUMENTS],
    /// Changes by document, with whether they are known to have happened.
    remembered: VecDeque<(usize, Call<String>, bool)>,
    keys: u64,
}

fn name(document: usize) -> String {
    format!("document-{document}")
}

impl Desk {
    async fn act(&mut self) {
        let document = self.clerk.chance.random_range(0..DOCUMENTS);
        let Known { version, token } = self.known[document];
        let call = match self.clerk.chance.random_range(0..100) {
            0..30 => Call::Get,
            30..60 => self.put(version, token),
            60..66 => Call::Delete {
                version,
                key: self.key("delete"),
            },
            66..76 => self.lease(0),
            76..80 => self.lease(token),
            80..85 if token != 0 => Call::Lease {
                token,
                lease_ms: 0,
                key: self.key("give-back"),
            },
            85..92 => return self.again().await,
            92..97 => return self.resolve().await,
            _ => return self.reuse_key().await,
        };
        self.make(document, call).await;
    }

    fn put(&mut self, version: u64, token: u64) -> Call<String> {
        let chance = &mut self.clerk.chance;
        let ttl_ms = if chance.random_bool(MORTAL) {
            chance.random_range(TTL_MS)
        } else {
            0
        };
        let key = self.key("put");
        Call::Put {
            body: format!("written under {key}"),
            version,
            token,
            ttl_ms,
            key,
        }
    }

    fn lease(&mut self, token: u64) -> Call<String> {
        Call::Lease {
            token,
            lease_ms: self.clerk.chance.random_range(LEASE_MS),
            key: self.key("lease"),
        }
    }

    /// Makes a call; one of unknown outcome once more under its key, or asks what became of it.
    async fn make(&mut self, document: usize, call: Call<String>) {
        let mut heard = self.call(document, &call).await;
        if heard == Heard::Unknown && !matches!(call, Call::Get) {
            if self.clerk.chance.random_bool(RESOLVES) {
                self.clerk.process.resolve(&name(document), &call).await;
            } else {
                heard = self.call(document, &call).await;
            }
        }
        if !matches!(call, Call::Get) {
            let done = matches!(&heard, Heard::Answered(outcome) if outcome.is_effect());
            self.remembered.push_back((document, call, done));
            if self.remembered.len() > REMEMBERED_MAX {
                self.remembered.pop_front();
            }
        }
    }

    async fn call(&mut self, document: usize, call: &Call<String>) -> Heard {
        let heard = self.clerk.process.document(&name(document), call).await;
        let known = &mut self.known[document];
        match (&heard, call) {
            (Heard::Answered(Outcome::Written { version } | Outcome::WrongVersion { version }), _) => {
                known.version = *version;
            }
            (Heard::Answered(Outcome::Document { version, .. }), _) => known.version = *version,
            (Heard::Answered(Outcome::Deleted), _) => *known = Known::default(),
            (Heard::Answered(Outcome::Leased { token, .. }), _) => known.token = *token,
            // It is somebody else's, or over.
            (Heard::Answered(Outcome::StaleToken { .. }), _) => known.token = 0,
            _ => {}
        }
        heard
    }

    fn earlier(&mut self) -> Option<(usize, Call<String>, bool)> {
        let count = self.remembered.len();
        (count > 0).then(|| self.remembered[self.clerk.chance.random_range(0..count)].clone())
    }

    async fn again(&mut self) {
        if let Some((document, call, _)) = self.earlier() {
            // What it hears is how the document was then, and no news.
            self.clerk.process.document(&name(document), &call).await;
        }
    }

    async fn resolve(&mut self) {
        if let Some((document, call, _)) = self.earlier() {
            self.clerk.process.resolve(&name(document), &call).await;
        }
    }

    /// Another request under a key that had its effect.
    async fn reuse_key(&mut self) {
        if let Some((
            document,
            Call::Put {
                body, version, key, ..
            },
            true,
        )) = self.earlier()
        {
            let other = Call::Put {
                body: format!("{body}, otherwise"),
                version,
                token: 0,
                ttl_ms: 0,
                key,
            };
            self.clerk.process.document(&name(document), &other).await;
        }
    }

    fn key(&mut self, kind: &str) -> String {
        self.keys += 1;
        format!("{kind}-{}-{}", self.clerk.number, self.keys)
    }
}
