//! The demo's controls: what the buttons of the page do.
//!
//! They exist in the demo's own process alone, on loopback. A page of another origin reaches them neither by a form
//! nor by a script: every request needs a header that a browser lets only the demo's own doors send, and the
//! name it was sent to must be this address. Actions are carried out one at a time, by whoever owns the processes.
//!
//! While the demo's own sale runs there is nothing to press: its verdict is about what its own crowd did, and
//! its strikes come by themselves.

use std::sync::{Arc, Mutex, OnceLock};

use api::Role;
use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

use super::shoppers;
use crate::exit::Failure;

/// What no form and no foreign script can send.
const HEADER: HeaderName = HeaderName::from_static("holdfast-demo");

/// What a button asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL to whoever leads.
    StopLeader,
    /// The payment provider takes its time.
    SlowProvider,
    /// SIGSTOP to a node that does not lead: to the others, as if its cable were cut.
    PauseNode,
}

/// An action, and where what came of it is said.
pub type Asked = (Action, oneshot::Sender<String>);

/// The controls, not yet served.
pub struct Control {
    listener: TcpListener,
    desk: Arc<Desk>,
}

/// What the routes share.
struct Desk {
    host: String,
    secret: Vec<u8>,
    /// The doors' own.
    origins: OnceLock<Vec<String>>,
    /// The sale to look at; and whether people may claim and break things.
    phase: Mutex<(String, bool)>,
    actions: mpsc::Sender<Asked>,
}

impl Control {
    /// Takes an address. What is asked for comes out of the receiver, one at a time.
    pub async fn open(secret: &[u8], sale_id: &str) -> Result<(Control, mpsc::Receiver<Asked>), Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let host = listener.local_addr()?.to_string();
        let (actions, asked) = mpsc::channel(1);
        let desk = Desk {
            host,
            secret: secret.to_vec(),
            origins: OnceLock::new(),
            phase: Mutex::new((sale_id.to_owned(), false)),
            actions,
        };
        let control = Control {
            listener,
            desk: Arc::new(desk),
        };
        Ok((control, asked))
    }

    /// Where the page finds them.
    pub fn origin(&self) -> String {
        format!("http://{}", self.desk.host)
    }

    /// Serves the pages of these doors, until the runtime ends.
    pub fn serve(self, doors: &[String]) -> Stage {
        let origins = doors.iter().map(|door| format!("http://{door}")).collect();
        let desk = self.desk;
        desk.origins.get_or_init(|| origins);
        let router = router(desk.clone());
        tokio::spawn(async move {
            if let Err(error) = axum::serve(self.listener, router).await {
                tracing::warn!(%error, "the demo's controls ended");
            }
        });
        Stage(desk)
    }
}

/// Tells the page where the demo is.
pub struct Stage(Arc<Desk>);

impl Stage {
    /// From now on people may claim from this sale, and break things.
    pub fn hand_over(&self, sale_id: &str) {
        *self.0.phase.lock().expect("no code panics while holding it") = (sale_id.to_owned(), true);
    }
}

fn router(desk: Arc<Desk>) -> Router {
    let action = |action: Action| post(move |State(desk): State<Arc<Desk>>| ask(desk, action));
    Router::new()
        .route("/phase", get(phase))
        .route("/token/{role}", post(token))
        .route("/leader/stop", action(Action::StopLeader))
        .route("/provider/slow", action(Action::SlowProvider))
        .route("/node/pause", action(Action::PauseNode))
        .layer(middleware::from_fn_with_state(desk.clone(), guard))
        .with_state(desk)
}

/// Lets the doors' own pages in, and says so to browsers that ask first.
async fn guard(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let Some(origin) = allowed(&desk, request.method(), request.headers()) else {
        return refuse(
            StatusCode::FORBIDDEN,
            "only the demo's own page may press its buttons",
        );
    };
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from(HEADER));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The origin that a request comes from, if it may.
fn allowed(desk: &Desk, method: &Method, headers: &HeaderMap) -> Option<HeaderValue> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    let to_us = text(header::HOST) == Some(&*desk.host);
    let marked = method == Method::OPTIONS || headers.contains_key(HEADER);
    let origin = text(header::ORIGIN)?;
    let known = desk.origins.get()?.iter().any(|door| door == origin);
    (to_us && marked && known).then(|| headers.get(header::ORIGIN).cloned())?
}

async fn phase(State(desk): State<Arc<Desk>>) -> Json<Value> {
    let (sale, open) = desk
        .phase
        .lock()
        .expect("no code panics while holding it")
        .clone();
    let why = (!open)
        .then_some("The demo's own crowd buys and breaks by itself now; with --keep it is your turn after.");
    Json(json!({"sale": sale, "claims": open, "acts": open, "why": why}))
}

/// A token to look with, or to buy with as somebody new.
async fn token(State(desk): State<Arc<Desk>>, Path(role): Path<String>) -> Response {
    let (user, role) = match role.as_str() {
        "auditor" => ("page".to_owned(), Role::Auditor),
        "shopper" => (format!("you-{:016x}", rand::random::<u64>()), Role::Shopper),
        _ => {
            return refuse(
                StatusCode::NOT_FOUND,
                "there are tokens for auditor and shopper here",
            );
        }
    };
    let bearer = shoppers::bearer(&desk.secret, &user, role);
    let token = bearer.trim_start_matches("Bearer ");
    Json(json!({"token": token})).into_response()
}

async fn ask(desk: Arc<Desk>, action: Action) -> Response {
    let open = desk.phase.lock().expect("no code panics while holding it").1;
    let (reply, said) = oneshot::channel();
    if !open || desk.actions.try_send((action, reply)).is_err() {
        return refuse(
            StatusCode::CONFLICT,
            "One thing at a time: something is still broken.",
        );
    }
    match said.await {
        Ok(said) => Json(json!({"said": said})).into_response(),
        Err(_) => refuse(StatusCode::CONFLICT, "The demo is ending."),
    }
}

fn refuse(status: StatusCode, said: &str) -> Response {
    (status, Json(json!({"said": said}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOOR: &str = "127.0.0.1:7480";

    async fn served() -> (String, Stage, mpsc::Receiver<Asked>) {
        let (control, asked) = Control::open(&[7; 32], "demo").await.unwrap();
        let origin = control.origin();
        (origin, control.serve(&[DOOR.to_owned()]), asked)
    }

    fn request(method: Method, url: String) -> reqwest::RequestBuilder {
        reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .request(method, url)
            .header("origin", format!("http://{DOOR}"))
            .header("holdfast-demo", "1")
    }

    #[tokio::test]
    async fn only_the_demos_own_page_is_let_in() {
        api::payment::use_ring();
        let (url, stage, _asked) = served().await;
        stage.hand_over("encore");
        let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
        let phase = || request(Method::GET, format!("{url}/phase"));
        assert_eq!(status(phase()).await, 200);
        // Another page, a form, and a name that was made to point here.
        for (name, value) in [("origin", "http://evil.example"), ("host", "evil.example")] {
            let mut request = phase().build().unwrap();
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
            let answer = reqwest::Client::new().execute(request).await.unwrap();
            assert_eq!(answer.status().as_u16(), 403, "{name}");
            assert!(!answer.headers().contains_key("access-control-allow-origin"));
        }
        let mut unmarked = phase().build().unwrap();
        unmarked.headers_mut().remove("holdfast-demo");
        let answer = reqwest::Client::new().execute(unmarked).await.unwrap();
        assert_eq!(answer.status().as_u16(), 403);
        // A browser asks first.
        let mut asks = request(Method::OPTIONS, format!("{url}/leader/stop"))
            .build()
            .unwrap();
        asks.headers_mut().remove("holdfast-demo");
        let answer = reqwest::Client::new().execute(asks).await.unwrap();
        assert_eq!(answer.status().as_u16(), 204);
        assert_eq!(answer.headers()["access-control-allow-headers"], "holdfast-demo");
    }

    #[tokio::test]
    async fn nothing_is_broken_before_it_is_handed_over_and_one_thing_at_a_time_after() {
        api::payment::use_ring();
        let (url, stage, mut asked) = served().await;
        let press = || request(Method::POST, format!("{url}/node/pause")).send();
        assert_eq!(press().await.unwrap().status().as_u16(), 409);
        assert!(asked.try_recv().is_err());

        stage.hand_over("encore");
        let first = tokio::spawn(press());
        let (action, reply) = asked.recv().await.unwrap();
        assert_eq!(action, Action::PauseNode);
        // One more waits for its turn; a third is refused.
        let second = tokio::spawn(press());
        while asked.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(press().await.unwrap().status().as_u16(), 409);
        reply.send("node 3 is stopped".to_owned()).unwrap();
        let said: Value = first.await.unwrap().unwrap().json().await.unwrap();
        assert_eq!(said["said"], "node 3 is stopped");
        drop(asked);
        assert_eq!(second.await.unwrap().unwrap().status().as_u16(), 409);
    }
}
