//! Spans: how long each step of a followed call took, tied together by W3C trace contexts.
//!
//! A claim passes through three processes and, in a batch with others, through the log. Its steps wait in
//! queues and not on a stack, and a batch belongs to many callers at once; so a span here is a value that its
//! owner carries along and that ends where it is dropped.
//!
//! # Who is followed
//! Whoever comes with a `traceparent` whose flag says *sampled*, and the share of the others that the process
//! was told to sample ([`listen`]). The flag travels with the call, so that all processes agree.
//!
//! # What it costs
//! Of a call that nobody follows, a span is a null pointer: no clock is read, no id drawn, nothing allocated.
//! Nor is there any span in a process where nobody listens; contexts are passed on all the same.
//!
//! # Invariants
//! - A span is told to the listener once, when it ends, and never before.
//! - No span holds anything that a caller sent, but the ids of his trace.
//!
//! Left out: what becomes of spans that have ended. The listener keeps them, sends them or throws them away,
//! and never makes a span's owner wait.

mod context;

use std::{
    borrow::Cow,
    fmt::Display,
    future::Future,
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

pub use context::TraceContext;

/// Most commands of one frame that say which trace they belong to: far more than any sensible share of the 512
/// there can be, and some 4 KB. Those beyond are carried out like all others; their traces end at the client.
pub const FRAME_TRACES_MAX: usize = 64;

/// Most spans that a span is linked with. A batch can carry more followed commands; those beyond have their own
/// link to it.
pub const LINKS_MAX: usize = 32;

/// Where a span stands between processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It answers somebody elsewhere.
    Server,
    /// It asks somebody elsewhere.
    Client,
    /// Neither.
    Internal,
}

/// What is known about a span, beside its name.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A word of our own source.
    Text(Cow<'static, str>),
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(number)
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Value {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(Cow::Owned(text))
    }
}

/// A span that has ended.
#[derive(Debug)]
pub struct Finished {
    /// What was done.
    pub name: Cow<'static, str>,
    /// Where it stands between processes.
    pub kind: Kind,
    /// The step itself.
    pub context: TraceContext,
    /// The step that it is part of.
    pub parent: Option<u64>,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What is known about it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Steps, of other traces too, that it has to do with.
    pub links: Vec<TraceContext>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

struct Listener {
    sample_per_mille: u32,
    tell: Box<dyn Fn(Finished) + Send + Sync>,
}

static LISTENER: OnceLock<Listener> = OnceLock::new();

/// Tells all spans that end in this process from now on, and follows so many in a thousand of the traces that
/// begin here. False: somebody listens already, and goes on.
pub fn listen(sample_per_mille: u32, tell: impl Fn(Finished) + Send + Sync + 'static) -> bool {
    let tell = Box::new(tell);
    let listener = Listener {
        sample_per_mille,
        tell,
    };
    LISTENER.set(listener).is_ok()
}

/// Whether anybody listens in this process.
pub fn is_listening() -> bool {
    LISTENER.get().is_some()
}

/// Whether the spans of a step are told to anybody here.
fn is_followed(context: TraceContext) -> bool {
    context.is_sampled() && is_listening()
}

/// Whether a trace that begins here is to be followed.
pub fn samples() -> bool {
    LISTENER
        .get()
        .is_some_and(|listener| listener.sample_per_mille > rand::random_range(0..1_000))
}

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// Runs a future as part of a step.
pub fn within<F: Future>(context: TraceContext, future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(context, future)
}

/// The step that the running task is part of.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok()
}

/// Takes the step along to where a future runs on its own.
pub async fn carried<F: Future>(context: Option<TraceContext>, future: F) -> F::Output {
    match context {
        Some(context) => within(context, future).await,
        None => future.await,
    }
}

/// A step under way; nothing at all when nobody follows it.
#[derive(Debug, Default)]
#[must_use = "it ends where it is dropped"]
pub struct Span(Option<Box<Recording>>);

#[derive(Debug)]
struct Recording {
    finished: Finished,
    /// `None`: how long it took is known already.
    began_at: Option<Instant>,
}

impl Span {
    /// The step that `context` names.
    pub fn of(
        context: TraceContext,
        parent: Option<u64>,
        kind: Kind,
        name: impl FnOnce() -> Cow<'static, str>,
    ) -> Span {
        if !is_followed(context) {
            return Span(None);
        }
        let finished = Finished {
            name: name(),
            kind,
            context,
            parent,
            began: SystemTime::now(),
            took: Duration::ZERO,
            attributes: Vec::new(),
            links: Vec::new(),
            failure: None,
        };
        let began_at = Some(Instant::now());
        Span(Some(Box::new(Recording { finished, began_at })))
    }

    /// A new step below another.
    pub fn below(parent: TraceContext, kind: Kind, name: &'static str) -> Span {
        if !is_followed(parent) {
            return Span(None);
        }
        let step = parent.child(rand::random());
        Span::of(step, Some(parent.span_id()), kind, || name.into())
    }

    /// A step that is over: it began then and took so long.
    pub fn past(parent: TraceContext, name: &'static str, began: Instant, took: Duration) -> Span {
        let mut span = Span::below(parent, Kind::Internal, name);
        if let Some(recording) = &mut span.0 {
            recording.finished.began -= began.elapsed();
            recording.finished.took = took;
            recording.began_at = None;
        }
        span
    }

    /// The step, for what is done below it elsewhere; `None` when nobody follows it.
    pub fn context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|recording| recording.finished.context)
    }

    /// Notes something about it.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(recording) = &mut self.0 {
            recording.finished.attributes.push((key, value.into()));
        }
    }

    /// Notes another step that it has to do with; beyond [`LINKS_MAX`], nothing.
    pub fn link(&mut self, other: TraceContext) {
        if let Some(recording) = &mut self.0
            && recording.finished.links.len() < LINKS_MAX
        {
            recording.finished.links.push(other);
        }
    }

    /// Notes that it failed, and why.
    pub fn fail(&mut self, why: impl Display) {
        if let Some(recording) = &mut self.0 {
            recording.finished.failure = Some(why.to_string());
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let (Some(recording), Some(listener)) = (self.0.take(), LISTENER.get()) else {
            return;
        };
        let Recording {
            mut finished,
            began_at,
        } = *recording;
        if let Some(began_at) = began_at {
            finished.took = began_at.elapsed();
        }
        (listener.tell)(finished);
    }
}
