//! Claims from a key per unit: no two callers want the same, so nobody loses a round.
//!
//! Which unit to try is handed out in this process, and given back when its claimer turns out to have one already. When
//! there is none to try, the units that are taken are counted: the sale is sold out when that is all of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tonic::transport::Channel;

use super::{
    Etcd,
    ops::{
        OPERATIONS_MAX, absent, count, counted, found, get, nested, nested_response, put, run,
        v3::{TxnRequest, TxnResponse, kv_client::KvClient},
    },
    record::{Record, count_all},
};
use crate::{
    failure::Failure,
    scenarios::peers::rules::{Answer, Claims, Records, Store},
};

/// Operations of a claim: the unit, the user, the key.
const CLAIM_OPERATIONS: usize = 3;

/// Claims in a transaction, each a transaction nested in it.
pub const CLAIMS_MAX: usize = OPERATIONS_MAX - CLAIM_OPERATIONS;

/// Claims that are looked at in one transaction, each by its user and key, beside the count.
const LOOKS_MAX: usize = (OPERATIONS_MAX - 1) / 2;

/// Units to try.
#[derive(Debug, Default)]
struct Stock {
    units: u64,
    handed_out: u64,
    given_back: Vec<u64>,
}

impl Stock {
    fn take(&mut self) -> Option<u64> {
        if let Some(unit) = self.given_back.pop() {
            return Some(unit);
        }
        let unit = self.handed_out + 1;
        (unit <= self.units).then(|| {
            self.handed_out = unit;
            unit
        })
    }
}

type SharedStock = Arc<Mutex<Stock>>;

fn taken(sale: &str) -> String {
    format!("{sale}/n/")
}

/// etcd with a key for each unit that is taken.
pub struct Units<'a> {
    etcd: &'a Etcd,
    sales: Mutex<HashMap<String, SharedStock>>,
}

impl<'a> Units<'a> {
    /// In this cluster.
    pub fn new(etcd: &'a Etcd) -> Self {
        let sales = Mutex::default();
        Units { etcd, sales }
    }

    fn stock(&self, sale: &str) -> SharedStock {
        let mut sales = self.sales.lock().unwrap_or_else(PoisonError::into_inner);
        sales.entry(sale.to_owned()).or_default().clone()
    }
}

impl Store for Units<'_> {
    type Claims = UnitClaims;

    async fn open_sale(&self, sale: &str, units: u64) -> Result<(), Failure> {
        let stock = self.stock(sale);
        stock.lock().unwrap_or_else(PoisonError::into_inner).units = units;
        Ok(())
    }

    async fn caller(&self, sale: &str) -> Result<UnitClaims, Failure> {
        Ok(UnitClaims {
            etcd: self.etcd.leader.clone(),
            // Another sale than the counter's of the same name.
            sale: format!("{sale}.u"),
            stock: self.stock(sale),
        })
    }

    async fn records(&self, sale: &str) -> Result<Records, Failure> {
        let units = self
            .stock(sale)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .units;
        let sale = format!("{sale}.u");
        let mut success = vec![count(&taken(&sale))];
        success.extend(count_all(&sale));
        let txn = TxnRequest {
            success,
            ..TxnRequest::default()
        };
        let mut responses = run(&mut self.etcd.leader.clone(), txn)
            .await?
            .responses
            .into_iter();
        Ok(Records {
            units,
            sold: counted(responses.next())?,
            users: counted(responses.next())?,
            keys: counted(responses.next())?,
        })
    }

    fn processor_times(&self) -> Result<Vec<Duration>, Failure> {
        self.etcd.processor_times()
    }
}

/// A caller, on everybody's connection.
pub struct UnitClaims {
    etcd: KvClient<Channel>,
    sale: String,
    stock: SharedStock,
}

impl Claims for UnitClaims {
    async fn claim(&mut self, asks: &[(String, String)]) -> Result<Vec<Answer>, Failure> {
        let records: Vec<Record<'_>> = asks.iter().map(|ask| Record::of(&self.sale, ask)).collect();
        let mut answers = vec![None; asks.len()];
        loop {
            let open = records
                .iter()
                .enumerate()
                .filter(|(at, _)| answers[*at].is_none());
            let open: Vec<(usize, &Record<'_>)> = open.collect();
            if open.is_empty() {
                return Ok(answers.into_iter().flatten().collect());
            }
            let mut tries = Vec::new();
            {
                let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
                for (at, record) in &open {
                    let Some(unit) = stock.take() else { break };
                    tries.push((*at, *record, unit));
                }
            }
            if tries.is_empty() {
                self.look(&open[..open.len().min(LOOKS_MAX)], &mut answers)
                    .await?;
            } else {
                self.attempt(tries, &mut answers).await?;
            }
        }
    }
}

impl UnitClaims {
    async fn attempt(
        &mut self,
        tries: Vec<(usize, &Record<'_>, u64)>,
        answers: &mut [Option<Answer>],
    ) -> Result<(), Failure> {
        let mut claims: Vec<TxnRequest> = tries
            .iter()
            .map(|(_, record, unit)| self.transaction(record, *unit))
            .collect();
        let mut responses = Vec::new();
        if claims.len() == 1 {
            responses.push(run(&mut self.etcd, claims.remove(0)).await?);
        } else {
            let txn = TxnRequest {
                success: claims.into_iter().map(nested).collect(),
                ..TxnRequest::default()
            };
            for response in run(&mut self.etcd, txn).await?.responses {
                responses.push(nested_response(response)?);
            }
        }
        for ((at, record, unit), response) in tries.into_iter().zip(responses) {
            answers[at] = self.answer(record, unit, response)?;
        }
        Ok(())
    }

    fn transaction(&self, record: &Record<'_>, unit: u64) -> TxnRequest {
        let by_unit = format!("{}{unit}", taken(&self.sale));
        let mut compare = vec![absent(&by_unit)];
        compare.extend(record.absent());
        let mut success = vec![put(&by_unit, String::new())];
        success.extend(record.put(unit));
        let mut failure = vec![get(&by_unit)];
        failure.extend(record.look());
        TxnRequest {
            compare,
            success,
            failure,
        }
    }

    /// The answer; none if somebody else has the unit.
    fn answer(
        &self,
        record: &Record<'_>,
        unit: u64,
        response: TxnResponse,
    ) -> Result<Option<Answer>, Failure> {
        if response.succeeded {
            return Ok(Some(Answer::Granted(unit)));
        }
        let mut responses = response.responses.into_iter();
        if found(responses.next())?.is_none() {
            let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
            stock.given_back.push(unit);
        }
        record.found(&mut responses)
    }

    /// Looks whether they have a unit, or everything is taken. What is neither may be given back yet.
    async fn look(
        &mut self,
        open: &[(usize, &Record<'_>)],
        answers: &mut [Option<Answer>],
    ) -> Result<(), Failure> {
        let mut success = vec![count(&taken(&self.sale))];
        success.extend(open.iter().flat_map(|(_, record)| record.look()));
        let txn = TxnRequest {
            success,
            ..TxnRequest::default()
        };
        let mut responses = run(&mut self.etcd, txn).await?.responses.into_iter();
        let units = self.stock.lock().unwrap_or_else(PoisonError::into_inner).units;
        let sold_out = (counted(responses.next())? == units).then_some(Answer::SoldOut);
        for (at, record) in open {
            answers[*at] = record.found(&mut responses)?.or(sold_out);
        }
        Ok(())
    }
}
