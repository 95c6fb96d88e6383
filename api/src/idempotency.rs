//! One answer per idempotency key, for routes whose work takes more than one step of the store.
//!
//! Claims need none of this: the store remembers their keys itself. A route that talks to the world
//! (checkout, cancel) keeps a record of each key instead, a document in the store, so that a repeated
//! request is recognised whichever of these processes it reaches:
//!
//! - the first request writes the record and does the work;
//! - the same key with another request is refused, as long as the record lives ([`KEPT_MS`]);
//! - while the work goes on, the same request is told to come back;
//! - afterwards it hears the first answer again, byte for byte, marked `Idempotent-Replayed: true`.
//!
//! Work that begins and ends with writes of its own takes the key along with the first of them ([`Ticket`]) and leaves
//! the answer with the last ([`Place`]): each in one log entry, where it would be two.
//!
//! An owner that died keeps nobody waiting for long: its record is for the taking once the time that
//! the work may take is over, in log time. That end is not written down: it follows from when the
//! record goes by itself, which the store knows. Whoever takes over replaces the version he read, so
//! one only succeeds, and an owner that was away too long can record nothing any more.
//!
//! Only final answers are recorded. An answer that says "not yet" or "not now" (202, 409, 429, any
//! 5xx) frees the key for another try, as does an owner who goes without an answer.
//!
//! Left out: whether the work itself may run twice. It may, after an owner's death, and must be
//! harmless: what must not happen twice has keys of its own.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use client::Error;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    documents::{DocumentWrite, Documents, fresh_key, is_version_mismatch},
    error::{self, Kind, Members, Problem},
    refusal::jitter_s,
};

/// How long a record lives after it was last written, in ms of log time: as long as the store remembers
/// keys itself, and as callers know it from payment providers.
pub(crate) const KEPT_MS: u64 = 24 * 3_600_000;

/// Largest answer that is recorded, in bytes: with its JSON escapes it fits a document.
const ANSWER_BYTES_MAX: usize = 7 * 1024;

/// Headers of an answer that are recorded: those that belong to what was answered, not to how.
const HEADERS_KEPT: [HeaderName; 4] = [
    header::CONTENT_TYPE,
    header::LOCATION,
    header::CACHE_CONTROL,
    header::ETAG,
];

/// Rounds in which others may be faster, before the key counts as in use.
const ROUNDS_MAX: usize = 4;

/// Format of the records. Raised when a reader of the old one would misunderstand the new one.
const FORMAT: u32 = 1;

/// Marks an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What a key is unique in, and how long its work may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    /// Who asks.
    pub(crate) caller: &'a str,
    /// The route, as it is matched: ids in the path belong to the request.
    pub(crate) route: &'static str,
    /// The caller's key.
    pub(crate) key: &'a str,
    /// Longest the work takes, in ms of log time: then another may take over.
    pub(crate) work_ms_max: u64,
}

impl Scope<'_> {
    /// The record's key: a hash, so that it says nothing of the caller and cannot be made to meet
    /// somebody else's.
    fn document(&self) -> String {
        let fields = [self.caller, self.route, self.key].map(str::as_bytes);
        format!("idem/{}", RequestHash::of(&fields).0)
    }
}

/// What was asked for, in short: two requests are the same if their hashes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestHash(String);

impl RequestHash {
    /// Of everything that makes the request what it is: ids in its path, its body as it was read.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let bytes = hasher.finalize();
        RequestHash(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    format: u32,
    request: RequestHash,
    /// How long it lives from the write, in ms of log time.
    kept_ms: u64,
    state: State,
}

/// Where the key stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// Somebody works, so long at most from the write on.
    Running { work_ms_max: u64 },
    /// Nobody does, and there is no answer.
    Free,
    /// There is an answer.
    Answered(Answer),
}

/// An answer as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    /// The recorded part of an answer; `None`: not one that can be recorded.
    fn of(status: StatusCode, headers: &axum::http::HeaderMap, body: &[u8]) -> Option<Self> {
        let kept = HEADERS_KEPT.iter().filter_map(|name| {
            let value = headers.get(name)?.to_str().ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        });
        Some(Answer {
            status: status.as_u16(),
            headers: kept.collect(),
            body: String::from_utf8(body.to_vec()).ok()?,
        })
        .filter(|answer| answer.body.len() <= ANSWER_BYTES_MAX)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        // What cannot be a status or header any more was not written by us; the rest is still the answer.
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or_default();
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().insert(name, value);
            }
        }
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

/// What a key comes to.
pub(crate) enum Outcome {
    /// This request is to be carried out, and the answer recorded.
    Fresh(Guard),
    /// It was answered before.
    Replay(Answer),
    /// It is being carried out, for so long at most, in ms.
    InFlight { remaining_ms: u64 },
    /// The key was used for another request.
    Mismatch,
}

/// A key that comes with a request, before it is taken.
pub(crate) struct Ticket {
    store: Arc<dyn Documents>,
    document: String,
    record: Record,
}

impl Ticket {
    pub(crate) fn new(store: Arc<dyn Documents>, scope: Scope<'_>, request: &RequestHash) -> Self {
        Ticket {
            store,
            document: scope.document(),
            record: Record {
                format: FORMAT,
                request: request.clone(),
                kept_ms: KEPT_MS,
                state: State::Running {
                    work_ms_max: scope.work_ms_max,
                },
            },
        }
    }

    /// The write that takes the key; refused where it was used before.
    pub(crate) fn write(&self) -> DocumentWrite {
        self.record.write_of(&self.document, 0)
    }

    /// The key was taken: its record has this version.
    pub(crate) fn taken(self, version: u64) -> Guard {
        Guard {
            store: self.store,
            place: Place {
                document: self.document,
                record: self.record,
                version,
                left: Arc::default(),
            },
            finished: false,
        }
    }
}

/// Carries `work` out at most once at a time for a key, and records its answer; or gives the answer
/// that there is.
pub(crate) async fn once(ticket: Ticket, work: impl Future<Output = Result<Response, Problem>>) -> Response {
    match begin(ticket).await {
        Ok(Outcome::Fresh(guard)) => guard.finish_with(work).await,
        Ok(Outcome::Replay(answer)) => answer.into_response(),
        Ok(Outcome::InFlight { remaining_ms }) => in_flight(remaining_ms).into_response(),
        Ok(Outcome::Mismatch) => mismatch().into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// The refusal of a key in use.
pub(crate) fn in_flight(remaining_ms: u64) -> Problem {
    let wait_s = remaining_ms.div_ceil(1_000).clamp(1, RETRY_AFTER_S_MAX);
    let detail = "a request with this Idempotency-Key is being carried out; send it again later to hear its \
                  answer";
    Problem::with(Kind::KeyInFlight, detail, Members::same_key_safe()).retry_after(wait_s + jitter_s())
}

/// Longest wait that is suggested, in seconds: most work is over long before it must be.
const RETRY_AFTER_S_MAX: u64 = 2;

/// The refusal of a key that means something else.
pub(crate) fn mismatch() -> Problem {
    let detail = "this Idempotency-Key was used for another request; choose a new key for a new request";
    Problem::new(Kind::KeyReused, detail)
}

/// Takes a key, or finds out what became of it.
///
/// # Errors
/// The store cannot say, or the record is none that this release can read.
pub(crate) async fn begin(ticket: Ticket) -> Result<Outcome, Problem> {
    let Ticket {
        store,
        document,
        record,
    } = &ticket;
    let mut version = 0;
    for _ in 0..ROUNDS_MAX {
        match write(&**store, record.write_of(document, version)).await {
            Ok(version) => return Ok(Outcome::Fresh(ticket.taken(version))),
            Err(error) if is_version_mismatch(&error) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(found) = store.document(document).await? else {
            version = 0;
            continue;
        };
        let known = Record::read(document, &found.body)?;
        if known.request != record.request {
            return Ok(Outcome::Mismatch);
        }
        match known.state {
            State::Answered(answer) => return Ok(Outcome::Replay(answer)),
            State::Running { work_ms_max } => {
                let written_ms = found.expires_at_ms.saturating_sub(known.kept_ms);
                let remaining_ms = (written_ms + work_ms_max).saturating_sub(found.position.log_time_ms);
                if remaining_ms > 0 {
                    return Ok(Outcome::InFlight { remaining_ms });
                }
            }
            State::Free => {}
        }
        version = found.version;
    }
    // Others have it, again and again.
    Ok(Outcome::InFlight {
        remaining_ms: RETRY_AFTER_S_MAX * 1_000,
    })
}

impl Record {
    /// The write of this record over a version of it.
    fn write_of(&self, document: &str, version_expected: u64) -> DocumentWrite {
        let body = serde_json::to_vec(self).expect("a record is a plain map of texts and numbers");
        DocumentWrite {
            document: document.to_owned(),
            body: body.into(),
            version_expected,
            fencing_token: 0,
            ttl_ms: self.kept_ms,
        }
    }

    fn read(document: &str, body: &[u8]) -> Result<Record, Problem> {
        let unreadable = |why: String| {
            tracing::error!(document, why, "an idempotency record cannot be read");
            Problem::new(
                Kind::Internal,
                "what became of this Idempotency-Key cannot be read by this release",
            )
        };
        let record: Record = serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))?;
        if record.format != FORMAT {
            return Err(unreadable(format!("its format is {}", record.format)));
        }
        Ok(record)
    }
}

/// Writes a record; gives its new version.
async fn write(store: &dyn Documents, record: DocumentWrite) -> Result<u64, Error> {
    Ok(store.write_document(record, fresh_key()).await?.version)
}

/// A key that is taken: where its answer belongs. The work may leave it there itself, with its own last write.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    document: String,
    record: Record,
    version: u64,
    /// Whether the work has.
    left: Arc<AtomicBool>,
}

impl Place {
    /// The write of this answer; refused once the key's owner has gone without one. `None`: it is none that is recorded.
    pub(crate) fn write(&self, response: Response) -> Option<DocumentWrite> {
        let (parts, body) = response.into_parts();
        // Whoever makes an answer from what he has in hand has all of it.
        let body = axum::body::to_bytes(body, ANSWER_BYTES_MAX)
            .now_or_never()?
            .ok()?;
        let answer =
            Answer::of(parts.status, &parts.headers, &body).filter(|_| error::is_final(parts.status))?;
        Some(self.in_state(State::Answered(answer)))
    }

    /// That was written.
    pub(crate) fn written(&self) {
        self.left.store(true, Ordering::Release);
    }

    fn is_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    fn in_state(&self, state: State) -> DocumentWrite {
        let record = Record {
            state,
            ..self.record.clone()
        };
        record.write_of(&self.document, self.version)
    }

    async fn settle(&self, store: &dyn Documents, state: State) {
        if let Err(error) = write(store, self.in_state(state)).await {
            tracing::warn!(document = self.document, %error, "an answer was given but not recorded under its key");
        }
    }
}

/// The right to answer for a key. Dropped without an answer, it frees the key.
pub(crate) struct Guard {
    store: Arc<dyn Documents>,
    place: Place,
    finished: bool,
}

impl Guard {
    /// Where the work may leave its answer.
    pub(crate) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Carries the work out and records its answer.
    pub(crate) async fn finish_with(self, work: impl Future<Output = Result<Response, Problem>>) -> Response {
        let answer = work.await.unwrap_or_else(IntoResponse::into_response);
        self.finish(answer).await
    }

    /// Records the answer if it is final, frees the key if not, and gives the answer on.
    ///
    /// What goes wrong with the record takes nothing from the answer: it is true. The request sent again
    /// is then carried out again, which is harmless.
    pub(crate) async fn finish(mut self, response: Response) -> Response {
        self.finished = true;
        if self.place.is_left() {
            return response;
        }
        let (parts, body) = response.into_parts();
        let body = match axum::body::to_bytes(body, usize::MAX).await {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(%error, "an answer of this node broke off");
                return Problem::new(Kind::Internal, "").into_response();
            }
        };
        let mut state = State::Free;
        if error::is_final(parts.status) {
            match Answer::of(parts.status, &parts.headers, &body) {
                Some(answer) => state = State::Answered(answer),
                None => tracing::error!(
                    document = self.place.document,
                    bytes = body.len(),
                    "an answer is too large to be recorded, or is no text"
                ),
            }
        }
        self.place.settle(&*self.store, state).await;
        Response::from_parts(parts, Body::from(body))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.finished || self.place.is_left() {
            return;
        }
        // Whoever waited for the answer is gone. Outside of a runtime the process is ending: then the
        // record comes free when its time is over.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (store, place) = (Arc::clone(&self.store), self.place.clone());
            runtime.spawn(async move { place.settle(&*store, State::Free).await });
        }
    }
}

#[cfg(test)]
#[path = "idempotency_tests.rs"]
mod tests;
