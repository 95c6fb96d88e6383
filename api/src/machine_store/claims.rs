//! Sales and claims of the store for tests.

use std::sync::atomic::Ordering;

use client::{
    Chained, Claim, Claimed, Consistency, Cursor, Done, Error, Grant, Position, Receipt, Sale, SaleStatus,
    Update,
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use inventory_machine::{
    codec::BatchEncoder,
    command::{self, Body, ClaimId, Command, CreateSale, NAMESPACE_DEFAULT, OPEN_AT_ONCE, Operation},
    hash::{key_hash, user_hash},
    reply::{ClaimView, Grant as Granted, Rejection, Reply, SaleView},
};

use super::{MachineStore, SECRET, claim_status, rejected};
use crate::documents::Documents;
use crate::store::{Link, SaleChange, Settle, Step, Store, Take};

impl MachineStore {
    /// An open sale with a price.
    pub(crate) fn open_sale(&self, sale_id: &str, units_total: u32, price_minor: u64, currency: [u8; 3]) {
        let create = Body::CreateSale(CreateSale {
            sale: 0,
            name: "a sale",
            units_total,
            per_user_units_max: 2,
            hold_ms: 180_000,
            checkout_max_ms: 60_000,
            opens_at_ms: OPEN_AT_ONCE,
            closes_at_ms: 0,
            price_minor,
            currency,
            claims_max: 0,
        });
        let reply = self.tell(Some(sale_id), b"", 1, Operation::Sale, sale_id, create);
        assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    }

    fn tell(
        &self,
        sale_id: Option<&str>,
        scope: &[u8],
        principal: u128,
        operation: Operation,
        key: &str,
        body: Body<'_>,
    ) -> Reply {
        let now_ms = self.log_time_ms.load(Ordering::SeqCst);
        let mut encoder = BatchEncoder::new();
        if let Some(sale_id) = sale_id {
            assert_eq!(encoder.sale(NAMESPACE_DEFAULT, sale_id), 0);
        }
        encoder.push(&Command {
            follows: false,
            principal,
            key: key_hash(
                SECRET,
                NAMESPACE_DEFAULT,
                scope,
                principal,
                operation,
                key.as_bytes(),
            ),
            not_after_ms: now_ms + 1_000,
            body,
        });
        self.feed(&encoder.finish(now_ms, 1)).remove(0)
    }

    fn answer(&self, reply: Reply) -> Result<Reply, Error> {
        self.changes.fetch_add(1, Ordering::SeqCst);
        let lost = self
            .lost
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |lost| lost.checked_sub(1));
        if lost.is_ok() {
            return Err(Error::Unknown {
                message: "lost".into(),
                not_after_ms: u64::MAX,
            });
        }
        match reply {
            Reply::Rejected(rejection) => Err(rejected(rejection, self.position())),
            reply => Ok(reply),
        }
    }
}

fn claim(view: &ClaimView) -> Claim {
    Claim {
        claim_id: String::from_utf8(view.claim_id.text().to_vec()).unwrap(),
        status: claim_status(view.status),
        quantity: view.quantity,
        rank: view.rank,
        deadline_ms: view.deadline_ms,
        fencing_token: view.fencing_token,
        receipt: Receipt {
            log_index: view.receipt.log_index,
            position: view.receipt.position,
            term: view.receipt.term,
            log_time_ms: view.receipt.log_time_ms,
        },
        user_hash: Vec::new(),
    }
}

fn sale(view: SaleView) -> Sale {
    Sale {
        sale_id: view.sale_id,
        name: view.name,
        status: SaleStatus::Open,
        units_total: view.units_total,
        units_available: view.units_available,
        units_held: view.units_held,
        units_confirmed: view.units_confirmed,
        per_user_units_max: view.per_user_units_max,
        hold_ms: view.hold_ms,
        checkout_max_ms: view.checkout_max_ms,
        opens_at_ms: view.opens_at_ms,
        closes_at_ms: view.closes_at_ms,
        price_minor: view.price_minor,
        currency: String::from_utf8(view.currency.to_vec()).unwrap(),
        claims_made: view.claims_made,
        claims_max: view.claims_max,
        changed_index: view.changed_index,
        first_deadline_ms: view.first_deadline_ms,
        last_deadline_ms: view.last_deadline_ms,
    }
}

impl Store for MachineStore {
    fn claim(&self, take: Take) -> BoxFuture<'_, Result<Claimed, Error>> {
        async move {
            let user = user_hash(SECRET, NAMESPACE_DEFAULT, take.user.as_bytes());
            let body = Body::Claim(command::Take {
                sale: 0,
                user,
                quantity: take.quantity,
            });
            let sale_id = take.sale_id.as_str();
            let reply = self.tell(
                Some(sale_id),
                sale_id.as_bytes(),
                user,
                Operation::Claim,
                &take.key,
                body,
            );
            match self.answer(reply)? {
                Reply::Claim { grant, claim: view } => Ok(Claimed {
                    grant: match grant {
                        Granted::Granted => Grant::Granted,
                        Granted::Repeated => Grant::Repeated,
                        Granted::Already => Grant::Already,
                    },
                    claim: claim(&view),
                    position: self.position(),
                }),
                other => panic!("{other:?}"),
            }
        }
        .boxed()
    }

    fn settle(&self, settle: Settle) -> BoxFuture<'_, Result<(Claim, Position), Error>> {
        async move {
            let Some(id) = ClaimId::parse(&settle.claim_id) else {
                return Err(rejected(Rejection::ClaimUnknown, self.position()));
            };
            let settled = command::Settle {
                claim: id,
                fencing_token: settle.fencing_token,
            };
            let (operation, body) = match settle.step {
                Step::Confirm => (Operation::Confirm, Body::Confirm(settled)),
                Step::Release => (Operation::Release, Body::Release(settled)),
                Step::Extend => (Operation::Extend, Body::Extend(settled)),
                Step::Cancel => (Operation::Cancel, Body::Cancel(settled)),
            };
            let principal = user_hash(SECRET, NAMESPACE_DEFAULT, settle.principal.as_bytes());
            let reply = self.tell(None, b"claims", principal, operation, &settle.key, body);
            match self.answer(reply)? {
                Reply::Settled(view) => Ok((claim(&view), self.position())),
                other => panic!("{other:?}"),
            }
        }
        .boxed()
    }

    fn chain(&self, links: Vec<Link>, key: String) -> BoxFuture<'_, Chained> {
        async move {
            // An answer that is lost is that of all of it.
            let lost = self.lost.swap(0, Ordering::SeqCst);
            let changes = self.changes();
            // Nothing comes between them: no test has two threads.
            let mut done = Vec::new();
            let mut end = Ok(());
            for (place, link) in links.into_iter().enumerate() {
                let key = format!("{key}.{place}");
                let came = match link {
                    Link::Settle(settle) => self.settle(settle).await.map(|(claim, _)| Done::Settled(claim)),
                    Link::Write(write) => self.write_document(write, key).await.map(Done::Document),
                    Link::Lease {
                        document,
                        fencing_token,
                        lease_ms,
                    } => self
                        .lease_document(document, fencing_token, lease_ms, key)
                        .await
                        .map(Done::Document),
                    Link::Check {
                        document,
                        version_expected,
                    } => self
                        .check_document(&document, version_expected, &key)
                        .map(Done::Document),
                };
                match came {
                    Ok(one) => done.push(one),
                    Err(error) => {
                        end = Err(error);
                        break;
                    }
                }
            }
            self.changes.store(changes + 1, Ordering::SeqCst);
            if lost > 0 {
                self.lost.store(lost - 1, Ordering::SeqCst);
                done.clear();
                end = Err(Error::Unknown {
                    message: "lost".into(),
                    not_after_ms: u64::MAX,
                });
            }
            Chained { done, end }
        }
        .boxed()
    }

    fn change_sale(&self, change: SaleChange, _: String, _: String) -> BoxFuture<'_, Result<Receipt, Error>> {
        panic!("no test here does that: {change:?}")
    }

    fn sale<'a>(
        &'a self,
        sale_id: &'a str,
        _: Consistency,
    ) -> BoxFuture<'a, Result<(Sale, Position), Error>> {
        let found = self.machine.lock().unwrap().sale(NAMESPACE_DEFAULT, sale_id);
        async move {
            match found {
                Some(found) => Ok((sale(found), self.position())),
                None => Err(rejected(Rejection::SaleUnknown, self.position())),
            }
        }
        .boxed()
    }

    fn sales<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: u32,
        _: Consistency,
    ) -> BoxFuture<'a, Result<(Vec<Sale>, Position), Error>> {
        let found = self
            .machine
            .lock()
            .unwrap()
            .sales(NAMESPACE_DEFAULT, after, limit as usize);
        async move { Ok((found.into_iter().map(sale).collect(), self.position())) }.boxed()
    }

    fn find_claim<'a>(
        &'a self,
        claim_id: &'a str,
        user: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(Claim, String, Position), Error>> {
        async move {
            let unknown = || rejected(Rejection::ClaimUnknown, self.position());
            let id = ClaimId::parse(claim_id).ok_or_else(unknown)?;
            let found = {
                let machine = self.machine.lock().unwrap();
                let sale_id = machine.sale_by_number(id.sale_number()).map(|sale| sale.sale_id);
                machine.claim(id).zip(sale_id)
            };
            let hash = |user: &str| user_hash(SECRET, NAMESPACE_DEFAULT, user.as_bytes());
            let (view, sale_id) = found
                .filter(|(view, _)| user.is_none_or(|user| hash(user) == view.user))
                .ok_or_else(unknown)?;
            Ok((claim(&view), sale_id, self.position()))
        }
        .boxed()
    }

    fn watch(&self, _: Cursor, _: &str) -> BoxStream<'static, Result<Update, Error>> {
        futures::stream::pending().boxed()
    }
}
