//! A store for tests: the real machine, in memory, with a clock that the test moves and answers that
//! get lost when it says so.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use client::{
    ClaimStatus, Document, DocumentChanged, DocumentList, Error, ListedDocument, Position, Reason, Rejected,
    SaleStatus,
};
use futures::{FutureExt, future::BoxFuture};
use inventory_machine::{
    DocumentQuery, Machine,
    codec::{Batch, BatchEncoder},
    command::{Body, Command, Found, NAMESPACE_DEFAULT, Operation, PutDocument},
    hash::key_hash,
    reply::{Rejection, Reply},
};

use crate::documents::{DocumentWrite, Documents};

mod claims;

const SECRET: u128 = 7;

pub(crate) struct MachineStore {
    machine: Mutex<Machine>,
    log_time_ms: AtomicU64,
    /// So many answers to changes get lost from now on.
    lost: AtomicUsize,
    /// So many changes were asked for.
    changes: AtomicUsize,
    /// So many of them were refused.
    refused: AtomicUsize,
    /// What happens right after a document was read.
    meanwhile: Mutex<Option<Meanwhile>>,
}

/// A document, and what happens once it was read; another document, whose reads come last of those made together.
struct Meanwhile {
    read: String,
    happens: Box<dyn FnOnce(&MachineStore) + Send>,
    last: String,
}

impl MachineStore {
    pub(crate) fn new() -> Self {
        let store = MachineStore {
            machine: Mutex::default(),
            log_time_ms: AtomicU64::new(1_000_000),
            lost: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            meanwhile: Mutex::default(),
        };
        let found = Body::Found(Found {
            cluster_id: 1,
            secret: SECRET,
            incarnation: 1,
        });
        assert!(matches!(store.apply(b"", "found", found), Reply::Done(_)));
        store
    }

    /// Lets log time pass.
    pub(crate) fn pass_ms(&self, ms: u64) {
        self.log_time_ms.fetch_add(ms, Ordering::SeqCst);
        let mut encoder = BatchEncoder::new();
        self.feed(&encoder.finish(self.log_time_ms.load(Ordering::SeqCst), 1));
    }

    /// The next changes happen, and nobody hears of it.
    pub(crate) fn lose_answers(&self, count: usize) {
        self.lost.store(count, Ordering::SeqCst);
    }

    /// The document `last` goes right after `read` was read; of reads that are made together, its own comes last.
    pub(crate) fn goes_meanwhile(&self, last: String, read: String) {
        let gone = last.clone();
        let happens = Box::new(move |store: &MachineStore| {
            let found = store.machine.lock().unwrap().document(gone.as_bytes());
            let body = Body::DeleteDocument {
                document: gone.as_bytes(),
                version_expected: found.expect("it is there still").version,
            };
            assert!(matches!(
                store.apply(gone.as_bytes(), "goes", body),
                Reply::Document { .. }
            ));
        });
        *self.meanwhile.lock().unwrap() = Some(Meanwhile { read, happens, last });
    }

    pub(crate) fn changes(&self) -> usize {
        self.changes.load(Ordering::SeqCst)
    }

    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    fn feed(&self, bytes: &[u8]) -> Vec<Reply> {
        let mut machine = self.machine.lock().unwrap();
        let index = machine.applied_index() + 1;
        machine
            .apply(index, 1, &Batch::parse(bytes).unwrap())
            .unwrap()
            .replies
    }

    fn apply(&self, document: &[u8], key: &str, body: Body<'_>) -> Reply {
        let now_ms = self.log_time_ms.load(Ordering::SeqCst);
        let mut encoder = BatchEncoder::new();
        encoder.push(&Command {
            follows: false,
            principal: 1,
            key: key_hash(
                SECRET,
                NAMESPACE_DEFAULT,
                document,
                1,
                Operation::Document,
                key.as_bytes(),
            ),
            not_after_ms: now_ms + 1_000,
            body,
        });
        self.feed(&encoder.finish(now_ms, 1)).remove(0)
    }

    fn change(&self, document: &[u8], key: &str, body: Body<'_>) -> Result<DocumentChanged, Error> {
        self.changes.fetch_add(1, Ordering::SeqCst);
        let reply = self.apply(document, key, body);
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
            Reply::Document {
                version,
                fencing_token,
                leased_until_ms,
            } => Ok(DocumentChanged {
                version,
                fencing_token,
                leased_until_ms,
                position: self.position(),
            }),
            Reply::Rejected(rejection) => {
                self.refused.fetch_add(1, Ordering::SeqCst);
                Err(rejected(rejection, self.position()))
            }
            other => panic!("{other:?}"),
        }
    }

    fn check_document(
        &self,
        document: &str,
        version_expected: u64,
        key: &str,
    ) -> Result<DocumentChanged, Error> {
        let body = Body::CheckDocument {
            document: document.as_bytes(),
            version_expected,
        };
        self.change(document.as_bytes(), key, body)
    }

    fn position(&self) -> Position {
        let machine = self.machine.lock().unwrap();
        Position {
            applied_index: machine.applied_index(),
            term: 1,
            log_time_ms: machine.log_time_ms(),
            wall_time_ms: 1_700_000_000_000 + machine.log_time_ms(),
            ..Position::default()
        }
    }
}

fn rejected(rejection: Rejection, position: Position) -> Error {
    let mut status = ClaimStatus::Unspecified;
    let (reason, value, until_ms) = match rejection {
        Rejection::ClaimGone { status: is } => {
            status = claim_status(is);
            (Reason::ClaimGone, 0, 0)
        }
        Rejection::ClaimUnknown => (Reason::ClaimUnknown, 0, 0),
        Rejection::SaleUnknown => (Reason::SaleUnknown, 0, 0),
        Rejection::SoldOut { units_available, .. } => (Reason::SoldOut, u64::from(units_available), 0),
        Rejection::VersionMismatch { version } => (Reason::VersionMismatch, version, 0),
        Rejection::Leased { leased_until_ms } => (Reason::Leased, 0, leased_until_ms),
        Rejection::StaleToken { fencing_token } => (Reason::StaleToken, fencing_token, 0),
        Rejection::KeyReused => (Reason::KeyReused, 0, 0),
        Rejection::OutOfRange { .. } => (Reason::OutOfRange, 0, 0),
        other => panic!("{other:?}"),
    };
    Error::Rejected(Box::new(Rejected {
        reason,
        message: String::new(),
        value,
        until_ms,
        opens_at_ms: 0,
        sale_status: SaleStatus::Unspecified,
        claim_status: status,
        position,
    }))
}

fn claim_status(status: inventory_machine::reply::ClaimStatus) -> ClaimStatus {
    use inventory_machine::reply::ClaimStatus as Is;
    match status {
        Is::Held => ClaimStatus::Held,
        Is::Confirmed => ClaimStatus::Confirmed,
        Is::Released => ClaimStatus::Released,
        Is::Expired => ClaimStatus::Expired,
        Is::Cancelled => ClaimStatus::Cancelled,
    }
}

impl Documents for MachineStore {
    fn document<'a>(&'a self, document: &'a str) -> BoxFuture<'a, Result<Option<Document>, Error>> {
        async move {
            let is = |of: fn(&Meanwhile) -> &String| {
                let meanwhile = self.meanwhile.lock().unwrap();
                meanwhile
                    .as_ref()
                    .is_some_and(|meanwhile| of(meanwhile) == document)
            };
            if is(|meanwhile| &meanwhile.last) {
                tokio::task::yield_now().await;
            }
            let position = self.position();
            let found = self.machine.lock().unwrap().document(document.as_bytes());
            if is(|meanwhile| &meanwhile.read) {
                let meanwhile = self.meanwhile.lock().unwrap().take();
                (meanwhile.expect("just seen").happens)(self);
            }
            Ok(found.map(|found| Document {
                body: found.body.into(),
                version: found.version,
                fencing_token: found.fencing_token,
                leased_until_ms: found.leased_until_ms,
                expires_at_ms: found.expires_at_ms,
                position,
            }))
        }
        .boxed()
    }

    fn documents<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<DocumentList, Error>> {
        let list = self.machine.lock().unwrap().documents(&DocumentQuery {
            prefix: prefix.as_bytes(),
            after: after.as_bytes(),
            limit: limit as usize,
            bytes_max: 1 << 20,
            keys_only: false,
        });
        let listed = |found: inventory_machine::reply::DocumentView| ListedDocument {
            key: found.document.into(),
            body: found.body.into(),
            version: found.version,
            fencing_token: found.fencing_token,
            leased_until_ms: found.leased_until_ms,
            expires_at_ms: found.expires_at_ms,
        };
        let list = DocumentList {
            documents: list.documents.into_iter().map(listed).collect(),
            more: list.more,
            position: self.position(),
        };
        async { Ok(list) }.boxed()
    }

    fn write_document(
        &self,
        write: DocumentWrite,
        key: String,
    ) -> BoxFuture<'_, Result<DocumentChanged, Error>> {
        async move {
            let body = Body::PutDocument(PutDocument {
                document: write.document.as_bytes(),
                body: &write.body,
                version_expected: write.version_expected,
                fencing_token: write.fencing_token,
                ttl_ms: write.ttl_ms,
            });
            self.change(write.document.as_bytes(), &key, body)
        }
        .boxed()
    }

    fn delete_document(
        &self,
        document: String,
        version_expected: u64,
        key: String,
    ) -> BoxFuture<'_, Result<DocumentChanged, Error>> {
        async move {
            let body = Body::DeleteDocument {
                document: document.as_bytes(),
                version_expected,
            };
            self.change(document.as_bytes(), &key, body)
        }
        .boxed()
    }

    fn lease_document(
        &self,
        document: String,
        fencing_token: u64,
        lease_ms: u64,
        key: String,
    ) -> BoxFuture<'_, Result<DocumentChanged, Error>> {
        async move {
            let body = Body::LeaseDocument {
                document: document.as_bytes(),
                fencing_token,
                lease_ms,
            };
            self.change(document.as_bytes(), &key, body)
        }
        .boxed()
    }
}
