//! Spans and the one who listens, in a process of their own: there is one listener in a process.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use spans::{Kind, LINKS_MAX, Span, TraceContext, Value};

#[tokio::test]
async fn what_is_followed_is_told_once_it_has_ended_and_nothing_else() {
    let caller = TraceContext::new(0x1234, 0x5678, true);
    // Nobody listens yet.
    assert!(!spans::is_listening() && !spans::samples());
    assert_eq!(Span::below(caller, Kind::Server, "unheard").context(), None);

    let (tell, told) = mpsc::channel();
    assert!(spans::listen(1_000, move |span| tell
        .send(span)
        .expect("the test listens")));
    assert!(!spans::listen(0, |_| ()), "there is one listener");
    assert!(spans::samples(), "1,000 in a thousand");

    let silent = TraceContext::new(0x1234, 0x5678, false);
    assert_eq!(Span::below(silent, Kind::Server, "silent").context(), None);
    assert!(told.try_recv().is_err(), "what nobody follows is not told");

    let mut outer = Span::of(caller, Some(9), Kind::Server, || "outer".into());
    assert_eq!(outer.context(), Some(caller));
    let mut inner = Span::below(caller, Kind::Internal, "inner");
    let step = inner.context().unwrap();
    assert_eq!(
        (step.trace_id(), step.is_sampled()),
        (caller.trace_id(), true),
        "the same trace"
    );
    assert_ne!(step.span_id(), caller.span_id());
    (0..2 * LINKS_MAX).for_each(|_| inner.link(caller));
    inner.set("raft.log_index", 7);
    inner.fail("for a test");
    assert!(told.try_recv().is_err(), "neither has ended");
    drop(inner);
    let inner = told.try_recv().unwrap();
    assert_eq!(
        (inner.context, inner.parent, inner.name.as_ref()),
        (step, Some(caller.span_id()), "inner")
    );
    assert_eq!(inner.attributes, [("raft.log_index", Value::Number(7))]);
    assert_eq!(
        (inner.links.len(), inner.failure.as_deref()),
        (LINKS_MAX, Some("for a test"))
    );
    outer.set("http.route", "/");
    drop(outer);
    let outer = told.try_recv().unwrap();
    assert_eq!((outer.context, outer.parent), (caller, Some(9)));
    assert!(outer.took >= inner.took && outer.began <= inner.began);

    let began = Instant::now() - Duration::from_secs(60);
    drop(Span::past(caller, "past", began, Duration::from_secs(2)));
    let past = told.try_recv().unwrap();
    assert_eq!(past.took, Duration::from_secs(2));
    assert!(past.began + Duration::from_secs(30) < outer.began);

    // A task is part of a step for as long as it runs, and what it starts is part of it if it says so.
    assert_eq!(spans::current(), None);
    let seen = spans::within(caller, async {
        let along = tokio::spawn(spans::carried(spans::current(), async { spans::current() }));
        let alone = tokio::spawn(async { spans::current() });
        (spans::current(), along.await.unwrap(), alone.await.unwrap())
    });
    assert_eq!(seen.await, (Some(caller), Some(caller), None));
    assert_eq!(spans::current(), None);
    assert!(told.try_recv().is_err(), "each span was told once");
}
