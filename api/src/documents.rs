//! Documents of the store, as far as this crate uses them: journals, orders, the ledger, records of
//! answers.
//!
//! Reads are linearizable: what is decided from a document is written back under its version or its
//! lease, so a stale one would only cost a round. All these processes ask as one principal, so that a
//! key means the same whichever of them sends it.

use axum::body::Bytes;
use client::{
    Client, Consistency, Document, DocumentChanged, DocumentList, Error, Reason, documents::DocumentRequest,
};
use futures::{FutureExt, future::BoxFuture};

/// Who asks, in the scope of the keys: the doors together.
pub(crate) const PRINCIPAL: &str = "api";

/// A document to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocumentWrite {
    /// Its key, 1..=128 bytes.
    pub document: String,
    /// Its body, at most 16 KiB.
    pub body: Bytes,
    /// Version it must have now; zero: it must not exist.
    pub version_expected: u64,
    /// Token of its lease; zero where nobody has one.
    pub fencing_token: u64,
    /// Goes by itself so long after the write, in ms of log time; zero: never.
    pub ttl_ms: u64,
}

/// The documents behind the door. At most one effect per key, in each document.
pub trait Documents: Send + Sync + 'static {
    /// One document; `None`: there is none of this key.
    fn document<'a>(&'a self, document: &'a str) -> BoxFuture<'a, Result<Option<Document>, Error>>;
    /// Documents whose keys begin with `prefix`, after the key `after` (empty: from the first), at most
    /// `limit` of them, perhaps fewer.
    fn documents<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<DocumentList, Error>>;
    /// Writes one in place of the version it names.
    fn write_document(
        &self,
        write: DocumentWrite,
        key: String,
    ) -> BoxFuture<'_, Result<DocumentChanged, Error>>;
    /// Deletes this version of one that nobody has leased.
    fn delete_document(
        &self,
        document: String,
        version_expected: u64,
        key: String,
    ) -> BoxFuture<'_, Result<DocumentChanged, Error>>;
    /// Leases an existing one for so many ms of log time: with token zero it must be free, with the
    /// lease's own it is renewed; for zero ms it is given back.
    fn lease_document(
        &self,
        document: String,
        fencing_token: u64,
        lease_ms: u64,
        key: String,
    ) -> BoxFuture<'_, Result<DocumentChanged, Error>>;
}

/// A write as the client makes it.
pub(crate) fn write_request(client: &Client, write: DocumentWrite) -> DocumentRequest {
    client
        .put_document(write.document, write.body, write.version_expected)
        .fencing_token(write.fencing_token)
        .ttl_ms(write.ttl_ms)
}

impl Documents for Client {
    fn document<'a>(&'a self, document: &'a str) -> BoxFuture<'a, Result<Option<Document>, Error>> {
        self.get_document(document.to_owned(), Consistency::Linearizable)
            .boxed()
    }

    fn documents<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<DocumentList, Error>> {
        self.list_documents(
            prefix.to_owned(),
            after.to_owned(),
            limit,
            Consistency::Linearizable,
        )
        .boxed()
    }

    fn write_document(
        &self,
        write: DocumentWrite,
        key: String,
    ) -> BoxFuture<'_, Result<DocumentChanged, Error>> {
        write_request(self, write)
            .key(key)
            .principal(PRINCIPAL)
            .send()
            .boxed()
    }

    fn delete_document(
        &self,
        document: String,
        version_expected: u64,
        key: String,
    ) -> BoxFuture<'_, Result<DocumentChanged, Error>> {
        Client::delete_document(self, document, version_expected)
            .key(key)
            .principal(PRINCIPAL)
            .send()
            .boxed()
    }

    fn lease_document(
        &self,
        document: String,
        fencing_token: u64,
        lease_ms: u64,
        key: String,
    ) -> BoxFuture<'_, Result<DocumentChanged, Error>> {
        Client::lease_document(self, document, fencing_token, lease_ms)
            .key(key)
            .principal(PRINCIPAL)
            .send()
            .boxed()
    }
}

/// A key that nobody has used: for writes whose version says all that a key would.
pub(crate) fn fresh_key() -> String {
    format!("{:032x}", client::chance::random::<u128>())
}

/// Whether a write found another version than it named.
pub(crate) fn is_version_mismatch(error: &Error) -> bool {
    matches!(error, Error::Rejected(rejected) if rejected.reason == Reason::VersionMismatch)
}
