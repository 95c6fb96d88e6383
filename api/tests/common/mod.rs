//! A scripted store behind the real routes, and a small way of asking them.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::{
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use api::{
    Auth, DocumentWrite, Documents, Keys, Link, NodeSeen, Options, Role, SaleChange, Settle, Store, Take,
    mint_hs256,
};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, Response, StatusCode},
};
use client::{
    Chained, Claim, ClaimStatus, Claimed, Consistency, Cursor, Document, DocumentChanged, DocumentList,
    Error, Grant, Position, Reason, Receipt, Rejected, Sale, SaleStatus, Update,
};
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, pending, ready},
    stream::{self, BoxStream},
};
use security::access::Row;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt;

pub const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

/// Log time, wall time and index that every scripted answer reflects.
pub const LOG_MS: u64 = 1_000_000;
pub const WALL_MS: u64 = 1_700_000_000_000;
pub const INDEX: u64 = 77;

type Script<In, Out> = Mutex<Box<dyn FnMut(In) -> BoxFuture<'static, Result<Out, Error>> + Send>>;

/// After which sale, how many, how fresh.
type PageAsked = (Option<String>, u32, Consistency);

type Watch = Box<dyn FnMut(Cursor) -> BoxStream<'static, Result<Update, Error>> + Send>;

/// A store that answers as told and remembers nothing. Unscripted calls are unavailable.
pub struct Fake {
    pub claim: Script<Take, Claimed>,
    pub settle: Script<Settle, (Claim, Position)>,
    pub change: Script<(SaleChange, String, String), Receipt>,
    pub sale: Script<(String, Consistency), (Sale, Position)>,
    pub sales: Script<PageAsked, (Vec<Sale>, Position)>,
    pub find: Script<(String, Option<String>), (Claim, String, Position)>,
    pub document: Script<String, Option<Document>>,
    pub watch: Mutex<Watch>,
    pub nodes: Mutex<Vec<NodeSeen>>,
}

fn unscripted<In, Out: Send + 'static>() -> Script<In, Out> {
    Mutex::new(Box::new(|_| ready(Err(unavailable())).boxed()))
}

impl Default for Fake {
    fn default() -> Self {
        Fake {
            claim: unscripted(),
            settle: unscripted(),
            change: unscripted(),
            sale: unscripted(),
            sales: unscripted(),
            find: unscripted(),
            document: unscripted(),
            watch: Mutex::new(Box::new(|_| stream::iter([Err(unavailable())]).boxed())),
            nodes: Mutex::default(),
        }
    }
}

/// Says what a call answers from now on.
pub fn script<In, Out: Send + 'static>(
    slot: &Script<In, Out>,
    mut answer: impl FnMut(In) -> Result<Out, Error> + Send + 'static,
) {
    *slot.lock().unwrap() = Box::new(move |input| ready(answer(input)).boxed());
}

/// Makes a call never answer; what comes back says each time that one has begun.
pub fn script_stuck<In, Out: Send + 'static>(slot: &Script<In, Out>) -> mpsc::UnboundedReceiver<()> {
    let (begun, begins) = mpsc::unbounded_channel();
    *slot.lock().unwrap() = Box::new(move |_| {
        begun.send(()).unwrap();
        pending().boxed()
    });
    begins
}

fn play<In, Out>(slot: &Script<In, Out>, input: In) -> BoxFuture<'static, Result<Out, Error>> {
    (slot.lock().unwrap())(input)
}

/// The fake, shared between a test and the routes.
#[derive(Clone, Default)]
pub struct Shared(pub Arc<Fake>);

impl std::ops::Deref for Shared {
    type Target = Fake;
    fn deref(&self) -> &Fake {
        &self.0
    }
}

impl Documents for Shared {
    fn document<'a>(&'a self, document: &'a str) -> BoxFuture<'a, Result<Option<Document>, Error>> {
        play(&self.document, document.to_owned())
    }
    fn documents<'a>(&'a self, _: &'a str, _: &'a str, _: u32) -> BoxFuture<'a, Result<DocumentList, Error>> {
        ready(Err(unavailable())).boxed()
    }
    fn write_document(&self, _: DocumentWrite, _: String) -> BoxFuture<'_, Result<DocumentChanged, Error>> {
        ready(Err(unavailable())).boxed()
    }
    fn delete_document(&self, _: String, _: u64, _: String) -> BoxFuture<'_, Result<DocumentChanged, Error>> {
        ready(Err(unavailable())).boxed()
    }
    fn lease_document(
        &self,
        _: String,
        _: u64,
        _: u64,
        _: String,
    ) -> BoxFuture<'_, Result<DocumentChanged, Error>> {
        ready(Err(unavailable())).boxed()
    }
}

impl Store for Shared {
    fn claim(&self, take: Take) -> BoxFuture<'_, Result<Claimed, Error>> {
        play(&self.claim, take)
    }
    fn settle(&self, settle: Settle) -> BoxFuture<'_, Result<(Claim, Position), Error>> {
        play(&self.settle, settle)
    }
    fn chain(&self, _: Vec<Link>, _: String) -> BoxFuture<'_, Chained> {
        let end = Err(unavailable());
        ready(Chained {
            done: Vec::new(),
            end,
        })
        .boxed()
    }
    fn change_sale(
        &self,
        change: SaleChange,
        key: String,
        principal: String,
    ) -> BoxFuture<'_, Result<Receipt, Error>> {
        play(&self.change, (change, key, principal))
    }
    fn sale<'a>(
        &'a self,
        sale_id: &'a str,
        consistency: Consistency,
    ) -> BoxFuture<'a, Result<(Sale, Position), Error>> {
        play(&self.sale, (sale_id.to_owned(), consistency))
    }
    fn sales<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: u32,
        consistency: Consistency,
    ) -> BoxFuture<'a, Result<(Vec<Sale>, Position), Error>> {
        play(&self.sales, (after.map(str::to_owned), limit, consistency))
    }
    fn find_claim<'a>(
        &'a self,
        claim_id: &'a str,
        user: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(Claim, String, Position), Error>> {
        play(&self.find, (claim_id.to_owned(), user.map(str::to_owned)))
    }
    fn watch(&self, from: Cursor, sale_id: &str) -> BoxStream<'static, Result<Update, Error>> {
        assert_eq!(sale_id, "drop-7", "the only sale watched in these tests");
        (self.watch.lock().unwrap())(from)
    }
    fn nodes(&self) -> BoxFuture<'_, Vec<NodeSeen>> {
        ready(self.nodes.lock().unwrap().clone()).boxed()
    }
}

/// Real limits, tokens signed with [`SECRET`].
pub fn options() -> Options {
    Options::new(Auth::Keys(Keys {
        hs256_secrets: vec![SECRET.to_vec()],
        ..Keys::default()
    }))
}

/// The routes over a store.
pub fn routes(store: &Shared) -> Router {
    api::router(store.clone(), options()).unwrap()
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
    /// Checks that it is a whole problem of this type and status, and gives its members.
    #[track_caller]
    pub fn problem(&self, status: u16, slug: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("cache-control"), "no-store");
        let json = self.json();
        assert_eq!(json["type"], format!("urn:holdfast:problem:{slug}"), "{json}");
        assert_eq!(json["status"], status);
        assert!(!json["title"].as_str().unwrap().is_empty());
        json
    }
}

/// A request: method, path, headers, body.
pub fn request(method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

pub async fn open(router: &Router, request: Request<Body>) -> Response<Body> {
    router.clone().oneshot(request).await.unwrap()
}

pub async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = open(router, request).await;
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 16 << 20).await.unwrap().to_vec();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

pub async fn get(router: &Router, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(router, request(Method::GET, path, headers, Body::empty())).await
}

pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// `Bearer …` for a user, valid for an hour.
pub fn bearer(user: &str, role: Role) -> String {
    format!("Bearer {}", mint_hs256(SECRET, user, role, now_s() + 3_600))
}

pub fn position() -> Position {
    Position {
        applied_index: INDEX,
        term: 3,
        log_time_ms: LOG_MS,
        wall_time_ms: WALL_MS,
        incarnation: 1,
        ..Position::default()
    }
}

/// A claim with 90.5 s left.
pub fn claim(claim_id: &str, status: ClaimStatus) -> Claim {
    Claim {
        claim_id: claim_id.to_owned(),
        status,
        quantity: 2,
        rank: 41,
        deadline_ms: LOG_MS + 90_500,
        fencing_token: 55,
        receipt: Receipt {
            log_index: 55,
            position: 6,
            term: 3,
            log_time_ms: LOG_MS - 89_500,
        },
        user_hash: Vec::new(),
    }
}

pub fn claimed(grant: Grant, status: ClaimStatus) -> Claimed {
    Claimed {
        grant,
        claim: claim("c_abc", status),
        position: position(),
    }
}

/// A sale that is partly held.
pub fn sale(sale_id: &str, changed_index: u64) -> Sale {
    Sale {
        sale_id: sale_id.to_owned(),
        name: "Drop 7".to_owned(),
        status: SaleStatus::Open,
        units_total: 100,
        units_available: 60,
        units_held: 30,
        units_confirmed: 10,
        per_user_units_max: 2,
        hold_ms: 180_000,
        checkout_max_ms: 60_000,
        opens_at_ms: WALL_MS,
        closes_at_ms: 0,
        price_minor: 12_900,
        currency: "EUR".to_owned(),
        claims_made: 50,
        claims_max: 10_000,
        changed_index,
        first_deadline_ms: Some(LOG_MS + 1_000),
        last_deadline_ms: Some(LOG_MS + 90_500),
    }
}

pub fn rejected(reason: Reason, change: impl FnOnce(&mut Rejected)) -> Error {
    let mut rejected = Rejected {
        reason,
        message: "said the store".to_owned(),
        value: 0,
        until_ms: 0,
        opens_at_ms: 0,
        sale_status: SaleStatus::Unspecified,
        claim_status: ClaimStatus::Unspecified,
        position: position(),
    };
    change(&mut rejected);
    Error::Rejected(Box::new(rejected))
}

pub fn unavailable() -> Error {
    Error::Unavailable {
        message: "no leader".to_owned(),
        retry_after_ms: 1_500,
    }
}

pub fn unknown() -> Error {
    Error::Unknown {
        message: "the leader went away".to_owned(),
        not_after_ms: LOG_MS + 60_000,
    }
}

impl Answer {
    /// The type of a problem; empty for what is none.
    pub fn json_type(&self) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        json["type"].as_str().unwrap_or_default().to_owned()
    }
}

/// Routes over a store that knows the claim `c_abc`.
pub fn scripted() -> Router {
    let store = Shared::default();
    script(&store.find, |(id, _)| {
        Ok((claim(&id, ClaimStatus::Held), "drop-7".to_owned(), position()))
    });
    routes(&store)
}

/// Makes a call with whatever its route wants.
pub async fn call_row(router: &Router, row: &Row, authorization: Option<&str>) -> Answer {
    let (method, route) = row.call.split_once(' ').unwrap();
    let path = route
        .replace("{sale_id}", "drop-7")
        .replace("{claim_id}", "c_abc")
        .replace("{order_id}", "o_abc")
        .replace("{*rest}", "index.css");
    let body = match route {
        "/v1/sales" => json!({"sale_id": "drop-7", "units_total": 7}),
        _ if route.ends_with("/restock") || route.ends_with("/withdraw") => json!({"units": 7}),
        _ if route.ends_with("/confirm") => json!({"fencing_token": 55}),
        _ if route.ends_with("/checkout") => json!({"payment_method": "pm_card_visa"}),
        _ => json!({}),
    };
    let mut headers = vec![("content-type", "application/json"), ("idempotency-key", "k")];
    headers.extend(authorization.map(|text| ("authorization", text)));
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let body = if method == Method::GET {
        String::new()
    } else {
        body.to_string()
    };
    send(router, request(method, &path, &headers, body)).await
}
