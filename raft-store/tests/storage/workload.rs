//! A log with everything in it that the machine knows, made from a seed, and what it leads to.

use std::collections::{BTreeMap, BTreeSet};

use inventory_machine::{
    Machine,
    codec::{Batch, BatchEncoder},
    command::*,
    reply::{Event, Reply},
};
use openraft::{BasicNode, EntryPayload, Membership};
use raft_store::{
    storage::rows::log_id,
    types::{BatchBytes, Entry},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// The cluster of every workload.
pub const CLUSTER_ID: u128 = 0xc1;

/// Entries, and what a node must have after each.
pub struct Workload {
    /// The log, from index zero on.
    pub entries: Vec<Entry>,
    /// Digest after each entry.
    pub digests: Vec<u128>,
    /// Events of each entry.
    pub events: Vec<Vec<Event>>,
}

impl Workload {
    /// `count` entries that follow from `seed`.
    pub fn new(seed: u64, count: u64) -> Workload {
        Workload::of_cluster(CLUSTER_ID, seed, count)
    }

    /// The same for another cluster.
    pub fn of_cluster(cluster_id: u128, seed: u64, count: u64) -> Workload {
        let mut made = Workload {
            entries: Vec::new(),
            digests: Vec::new(),
            events: Vec::new(),
        };
        let mut maker = Maker {
            random: SmallRng::seed_from_u64(seed),
            machine: Machine::default(),
            encoder: BatchEncoder::new(),
            log_time_ms: 1_000,
            next_key: 1,
            held: Vec::new(),
            documents: BTreeMap::new(),
        };
        for index in 0..count {
            let term = 1 + index / 40;
            let payload = match index {
                0 => EntryPayload::Membership(membership(&[1])),
                2 => EntryPayload::Normal(maker.founding(cluster_id)),
                3 => EntryPayload::Normal(maker.sales()),
                _ if index == 1 || index % 40 == 0 => EntryPayload::Blank,
                _ if index % 33 == 0 => EntryPayload::Membership(membership(&[1, index])),
                _ => EntryPayload::Normal(maker.commands()),
            };
            let events = maker.apply(index, term, &payload);
            made.entries.push(Entry {
                log_id: log_id(term, 1, index),
                payload,
            });
            made.digests.push(maker.machine.digest());
            made.events.push(events);
        }
        made
    }

    /// Index of the last entry.
    pub fn last(&self) -> u64 {
        self.entries.len() as u64 - 1
    }

    /// All events from an entry on.
    pub fn events_from(&self, index: u64) -> Vec<Event> {
        self.events
            .iter()
            .skip(index as usize)
            .flatten()
            .cloned()
            .collect()
    }
}

fn membership(nodes: &[u64]) -> Membership<u64, BasicNode> {
    let nodes: BTreeMap<u64, BasicNode> = nodes
        .iter()
        .map(|id| {
            (
                *id,
                BasicNode {
                    addr: format!("10.0.0.{id}:7000"),
                },
            )
        })
        .collect();
    Membership::new(vec![BTreeSet::from([1])], nodes).expect("a voter that is a node")
}

struct Maker {
    random: SmallRng,
    machine: Machine,
    encoder: BatchEncoder,
    log_time_ms: u64,
    next_key: u128,
    held: Vec<(ClaimId, u64)>,
    documents: BTreeMap<Vec<u8>, u64>,
}

impl Maker {
    fn push(&mut self, body: Body<'_>) {
        let key = self.next_key;
        self.next_key += 1;
        let not_after_ms = self.log_time_ms + 30_000;
        self.encoder.push(&Command {
            follows: false,
            principal: 7,
            key,
            not_after_ms,
            body,
        });
    }

    fn finish(&mut self) -> BatchBytes {
        BatchBytes(
            self.encoder
                .finish(self.log_time_ms, 1_700_000_000_000 + self.log_time_ms)
                .into(),
        )
    }

    fn founding(&mut self, cluster_id: u128) -> BatchBytes {
        self.push(Body::Found(Found {
            cluster_id,
            secret: 99,
            incarnation: 1,
        }));
        self.finish()
    }

    fn sales(&mut self) -> BatchBytes {
        for (name, units_total, opens_at_ms) in [("hot", 60, 0), ("long", 5_000, 0), ("later", 5, 1)] {
            let sale = self.encoder.sale(NAMESPACE_DEFAULT, name);
            self.push(Body::CreateSale(CreateSale {
                sale,
                name,
                units_total,
                per_user_units_max: 2,
                hold_ms: 2_000,
                checkout_max_ms: 1_000,
                opens_at_ms,
                closes_at_ms: 0,
                price_minor: 100,
                currency: *b"EUR",
                claims_max: 0,
            }));
            self.push(Body::OpenSale { sale });
        }
        self.finish()
    }

    fn commands(&mut self) -> BatchBytes {
        self.log_time_ms += self.random.random_range(0..120);
        for _ in 0..self.random.random_range(1..12) {
            let name = if self.random.random_bool(0.5) {
                "hot"
            } else {
                "long"
            };
            match self.random.random_range(0..10) {
                0 | 1 if !self.held.is_empty() => {
                    let place = self.random.random_range(0..self.held.len());
                    let (claim, fencing_token) = self.held.swap_remove(place);
                    let settle = Settle { claim, fencing_token };
                    let step = match self.random.random_range(0..4) {
                        0 => Body::Release(settle),
                        1 => Body::Extend(settle),
                        _ => Body::Confirm(settle),
                    };
                    self.push(step);
                }
                2 => {
                    let document = format!("order/{}", self.random.random_range(0..20)).into_bytes();
                    let version_expected = self.documents.get(&document).copied().unwrap_or(0);
                    let body = vec![b'x'; self.random.random_range(0..900)];
                    let ttl_ms = if self.random.random_bool(0.3) { 3_000 } else { 0 };
                    self.push(Body::PutDocument(PutDocument {
                        document: &document,
                        body: &body,
                        version_expected,
                        fencing_token: 0,
                        ttl_ms,
                    }));
                }
                3 => {
                    let document = format!("order/{}", self.random.random_range(0..20)).into_bytes();
                    let version_expected = self.documents.get(&document).copied().unwrap_or(0);
                    self.push(Body::DeleteDocument {
                        document: &document,
                        version_expected,
                    });
                }
                _ => {
                    let sale = self.encoder.sale(NAMESPACE_DEFAULT, name);
                    let user = self.random.random_range(1..2_000);
                    let take = Take {
                        sale,
                        user,
                        quantity: 1,
                    };
                    let at_once = self.random.random_bool(0.2);
                    self.push(if at_once {
                        Body::Decrement(take)
                    } else {
                        Body::Claim(take)
                    });
                }
            }
        }
        self.finish()
    }

    fn apply(
        &mut self,
        index: u64,
        term: u64,
        payload: &EntryPayload<BatchBytes, u64, BasicNode>,
    ) -> Vec<Event> {
        let EntryPayload::Normal(bytes) = payload else {
            if index > 0 {
                self.machine.skip(index);
            }
            return Vec::new();
        };
        let batch = Batch::parse(&bytes.0).expect("own batch");
        let applied = self.machine.apply(index, term, &batch).expect("own batch");
        let commands = batch
            .commands()
            .collect::<Result<Vec<_>, _>>()
            .expect("own batch");
        for (command, reply) in commands.iter().zip(&applied.replies) {
            match (&command.body, reply) {
                (Body::Claim(_), Reply::Claim { claim, .. }) => {
                    self.held.push((claim.claim_id, claim.fencing_token));
                }
                (Body::PutDocument(put), Reply::Document { version, .. }) => {
                    self.documents.insert(put.document.to_vec(), *version);
                }
                _ => {}
            }
        }
        self.machine.events(&applied.events, 0).collect()
    }
}
