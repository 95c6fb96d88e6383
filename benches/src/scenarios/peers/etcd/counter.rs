//! Claims from one counter, by compare-and-set: the transaction names the revision that its caller last heard of, and
//! is told the current one when that has passed. A caller who knows the sale to be sold out reads, and writes nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tonic::transport::Channel;

use super::{
    Etcd,
    ops::{
        OPERATIONS_MAX, counted, found, get, put, run, unchanged,
        v3::{KeyValue, ResponseOp, TxnRequest, kv_client::KvClient},
        words,
    },
    record::{Record, count_all},
};
use crate::{
    failure::{Doing, Failure},
    scenarios::peers::rules::{Answer, Claims, Records, Store},
};

/// Claims in a transaction: each puts two keys, beside the counter.
pub const CLAIMS_MAX: usize = (OPERATIONS_MAX - 1) / 2;

/// The counter, as somebody last heard of it.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    revision: i64,
    sold: u64,
    units: u64,
}

impl Known {
    fn read(found: Option<KeyValue>) -> Result<Known, Failure> {
        let key = found.ok_or_else(|| Failure::new("reading a counter from etcd", "it is not there"))?;
        let (sold, units) = words(&key.value)?;
        Ok(Known {
            revision: key.mod_revision,
            sold,
            units,
        })
    }
}

/// What all callers of a sale last heard: they are in one process, and the newest is worth most to everybody.
type Newest = Arc<Mutex<Known>>;

fn newest(of: &Newest) -> Known {
    *of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hear(of: &Newest, known: Known) {
    let mut newest = of.lock().unwrap_or_else(PoisonError::into_inner);
    if known.revision > newest.revision {
        *newest = known;
    }
}

fn counter(sale: &str) -> String {
    format!("{sale}/n")
}

/// etcd with a counter for each sale.
pub struct Counter<'a> {
    etcd: &'a Etcd,
    sales: Mutex<HashMap<String, Newest>>,
}

impl<'a> Counter<'a> {
    /// In this cluster.
    pub fn new(etcd: &'a Etcd) -> Self {
        let sales = Mutex::default();
        Counter { etcd, sales }
    }
}

impl Store for Counter<'_> {
    type Claims = CounterClaims;

    async fn open_sale(&self, sale: &str, units: u64) -> Result<(), Failure> {
        let txn = TxnRequest {
            success: vec![put(&counter(sale), format!("0 {units}"))],
            ..TxnRequest::default()
        };
        run(&mut self.etcd.leader.clone(), txn).await?;
        Ok(())
    }

    async fn caller(&self, sale: &str) -> Result<CounterClaims, Failure> {
        let mut sales = self.sales.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(CounterClaims {
            etcd: self.etcd.leader.clone(),
            sale: sale.to_owned(),
            newest: sales.entry(sale.to_owned()).or_default().clone(),
        })
    }

    async fn records(&self, sale: &str) -> Result<Records, Failure> {
        let mut success = vec![get(&counter(sale))];
        success.extend(count_all(sale));
        let txn = TxnRequest {
            success,
            ..TxnRequest::default()
        };
        let mut responses = run(&mut self.etcd.leader.clone(), txn)
            .await?
            .responses
            .into_iter();
        let Known { sold, units, .. } = Known::read(found(responses.next())?)?;
        Ok(Records {
            units,
            sold,
            users: counted(responses.next())?,
            keys: counted(responses.next())?,
        })
    }

    fn processor_times(&self) -> Result<Vec<Duration>, Failure> {
        self.etcd.processor_times()
    }
}

/// A caller, on everybody's connection.
pub struct CounterClaims {
    etcd: KvClient<Channel>,
    sale: String,
    newest: Newest,
}

impl Claims for CounterClaims {
    async fn claim(&mut self, asks: &[(String, String)]) -> Result<Vec<Answer>, Failure> {
        let records: Vec<Record<'_>> = asks.iter().map(|ask| Record::of(&self.sale, ask)).collect();
        let mut answers = vec![None; asks.len()];
        loop {
            let known = newest(&self.newest);
            let left = usize::try_from(known.units - known.sold).doing("counting what is left")?;
            let open = records
                .iter()
                .enumerate()
                .filter(|(at, _)| answers[*at].is_none());
            let open: Vec<(usize, &Record<'_>)> = match left {
                0 => open.collect(),
                left => open.take(left).collect(),
            };
            if open.is_empty() {
                return Ok(answers.into_iter().flatten().collect());
            }
            let response = run(&mut self.etcd, transaction(&self.sale, known, &open)).await?;
            if left > 0 && response.succeeded {
                let sold = known.sold + open.len() as u64;
                for ((at, _), unit) in open.into_iter().zip(known.sold + 1..) {
                    answers[at] = Some(Answer::Granted(unit));
                }
                let revision = response.header.unwrap_or_default().revision;
                hear(
                    &self.newest,
                    Known {
                        revision,
                        sold,
                        ..known
                    },
                );
            } else {
                let now = resolve(response.responses, open, &mut answers)?;
                hear(&self.newest, now);
            }
        }
    }
}

/// Claims for all of these, or looks at what is in the way; looks only, if nothing is known to be left.
fn transaction(sale: &str, known: Known, open: &[(usize, &Record<'_>)]) -> TxnRequest {
    let counter = counter(sale);
    let mut look = vec![get(&counter)];
    look.extend(open.iter().flat_map(|(_, record)| record.look()));
    if known.sold == known.units {
        return TxnRequest {
            success: look,
            ..TxnRequest::default()
        };
    }
    let mut compare = vec![unchanged(&counter, known.revision)];
    compare.extend(open.iter().flat_map(|(_, record)| record.absent()));
    let sold = known.sold + open.len() as u64;
    let mut success = vec![put(&counter, format!("{sold} {}", known.units))];
    for ((_, record), unit) in open.iter().zip(known.sold + 1..) {
        success.extend(record.put(unit));
    }
    TxnRequest {
        compare,
        success,
        failure: look,
    }
}

/// Answers those whose user or key was found, and everybody if nothing is left; gives the counter that was read.
fn resolve(
    responses: Vec<ResponseOp>,
    open: Vec<(usize, &Record<'_>)>,
    answers: &mut [Option<Answer>],
) -> Result<Known, Failure> {
    let mut responses = responses.into_iter();
    let now = Known::read(found(responses.next())?)?;
    let sold_out = (now.sold == now.units).then_some(Answer::SoldOut);
    for (at, record) in open {
        answers[at] = record.found(&mut responses)?.or(sold_out);
    }
    Ok(now)
}
