//! Who may make which call: [`security::access`]'s table, asked before any handler is.
//!
//! A call that is let through carries its [`Caller`] on, for handlers that decide about parts of it and for
//! the audit log. Refusals are `UNAUTHENTICATED` (nobody known calls) and `PERMISSION_DENIED` (somebody of
//! another role), and say what is needed.

use std::{
    fmt,
    future::{Ready, ready},
    task::{Context, Poll},
};

use futures::future::Either;
use security::{
    Caller, Guard,
    access::{Denied, GRPC, find},
    audit,
};
use tonic::{Code, Request, Response, Status, codegen::http};
use tower::{Layer, Service};

use super::{connections::Arrived, refusal};

/// Puts a guard before services.
#[derive(Clone, Debug)]
pub struct AccessLayer(pub Guard);

impl<S> Layer<S> for AccessLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            guard: self.0.clone(),
            inner,
        }
    }
}

/// Services behind a guard.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S, B, R: Default> Service<http::Request<B>> for Guarded<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<Self::Response, Self::Error>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        if self.guard.is_open() {
            return Either::Right(self.inner.call(request));
        }
        let name = request
            .extensions()
            .get::<Arrived>()
            .and_then(|arrived| arrived.name.clone());
        let authorization = request.headers().get(http::header::AUTHORIZATION);
        // What is no text is no token either, and no reason to count as nothing shown.
        let authorization = authorization.map(|value| value.to_str().unwrap_or_default());
        match self
            .guard
            .admit(request.uri().path(), name.as_deref(), authorization)
        {
            Ok(caller) => {
                if let Some(caller) = caller {
                    request.extensions_mut().insert(caller);
                }
                Either::Right(self.inner.call(request))
            }
            Err(denied) => {
                tell_denied(&denied, &request);
                Either::Left(ready(Ok(Status::from(Refused(denied)).into_http())))
            }
        }
    }
}

/// Somebody tried what only operators may: that is news, too.
fn tell_denied<B>(denied: &Denied, request: &http::Request<B>) {
    let call = request.uri().path();
    if let Denied::WrongRole { name, kind, .. } = denied
        && find(GRPC, call).is_some_and(|row| row.audited)
    {
        let traceparent = request.headers().get("traceparent");
        let trace_id = audit::trace_id(traceparent.and_then(|value| value.to_str().ok()));
        tracing::warn!(target: audit::TARGET, who = name, role = kind.word(), call, outcome = "denied", trace_id, "{denied}");
    }
}

/// A refusal on its way to a status.
pub struct Refused(pub Denied);

impl From<Refused> for Status {
    fn from(Refused(denied): Refused) -> Status {
        let message = denied.to_string();
        match denied {
            Denied::Unknown { .. } => refusal(Code::Unauthenticated, "UNAUTHENTICATED", message, []),
            Denied::WrongRole { needed, kind, .. } => refusal(
                Code::PermissionDenied,
                "FORBIDDEN",
                message,
                [("needed", needed.to_string()), ("role", kind.to_string())],
            ),
            Denied::NoRow { .. } => refusal(Code::Unimplemented, "NO_SUCH_CALL", message, []),
        }
    }
}

/// An operator's call under way; ends with a line in the audit log, if the table says so.
pub struct Audited {
    caller: Option<Caller>,
    call: &'static str,
    arguments: String,
    trace_id: String,
    outcome: String,
}

impl Audited {
    /// Notes who asks for what.
    pub fn new<T: fmt::Debug>(call: &'static str, request: &Request<T>) -> Audited {
        debug_assert!(
            find(GRPC, call).is_some_and(|row| row.audited),
            "{call} is not audited"
        );
        Audited {
            caller: caller_of(request),
            call,
            arguments: format!("{:?}", request.get_ref()),
            trace_id: audit::trace_id(traceparent(request)),
            outcome: "not known: it ended before it was done".to_owned(),
        }
    }

    /// Writes the line, and gives the answer.
    pub fn done<T>(mut self, answer: Result<T, Status>) -> Result<Response<T>, Status> {
        self.outcome = match &answer {
            Ok(_) => "ok".to_owned(),
            Err(status) => format!("{}: {}", status.code(), status.message()),
        };
        answer.map(Response::new)
    }
}

impl Drop for Audited {
    /// Also for a call that ends before it is done: its caller went away, and it may have had its effect.
    fn drop(&mut self) {
        audit::action(
            self.caller.as_ref(),
            self.call,
            &format_args!("{}", self.arguments),
            &self.outcome,
            &self.trace_id,
        );
    }
}

/// Who makes a call; `None` where nobody has to show anything.
pub fn caller_of<T>(request: &Request<T>) -> Option<Caller> {
    request.extensions().get::<Caller>().cloned()
}

/// What a call says about the trace that it belongs to.
pub fn traceparent<T>(request: &Request<T>) -> Option<&str> {
    request.metadata().get("traceparent")?.to_str().ok()
}
