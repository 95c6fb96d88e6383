//! What those see who follow a command: its own span, and those of the entry that it stands in. In a process of its
//! own, because there is one listener in a process.

#[path = "batcher/calls.rs"]
#[allow(dead_code, reason = "the batcher's tests use the rest")]
mod calls;
#[path = "batcher/stalling_disk.rs"]
#[allow(dead_code, reason = "the batcher's tests use the rest")]
mod stalling_disk;

use std::sync::mpsc::{self, Receiver};

use calls::{Single, claim, expect_claim, expect_rejected, release};
use proto::v1::{Grant, Reason, SubmitRequest, SubmitResponse, Trace, outcome::Kind};
use spans::{FRAME_TRACES_MAX, Finished, TraceContext, Value};

/// What was told since the last look.
struct Told(Vec<Finished>);

impl Told {
    fn of(told: &Receiver<Finished>) -> Told {
        Told(told.try_iter().collect())
    }

    /// The only one of a name in a trace.
    fn one(&self, name: &str, trace: TraceContext) -> &Finished {
        let mut found = self
            .0
            .iter()
            .filter(|span| span.name == name && span.context.trace_id() == trace.trace_id());
        match (found.next(), found.next()) {
            (Some(span), None) => span,
            _ => panic!("{name} in {trace}: {:#?}", self.0),
        }
    }

    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.iter().map(|span| span.name.as_ref()).collect();
        names.sort_unstable();
        names
    }
}

fn number(span: &Finished, key: &str) -> Option<u64> {
    span.attributes.iter().find_map(|(name, value)| match value {
        Value::Number(number) if *name == key => Some(*number),
        _ => None,
    })
}

fn trace(command: u32, step: TraceContext) -> Trace {
    Trace {
        command,
        traceparent: step.to_string(),
    }
}

async fn execute(
    caller: &calls::Caller,
    commands: Vec<proto::v1::Command>,
    traces: Vec<Trace>,
) -> SubmitResponse {
    let frame = SubmitRequest {
        frame_id: 1,
        commands,
        traces,
    };
    caller.0.clone().execute(frame).await.unwrap().into_inner()
}

#[tokio::test]
async fn who_follows_a_command_sees_the_entry_that_it_stands_in() {
    let (tell, spans) = mpsc::channel();
    assert!(spans::listen(0, move |span| tell
        .send(span)
        .expect("the test listens")));
    let single = Single::found().await;
    let caller = single.connect().await;
    caller.create("hot", 3, 1).await;
    assert_eq!(Told::of(&spans).names(), [""; 0], "nobody follows anything");

    let [ann, bob, carl] = [(1, true), (3, true), (5, false)]
        .map(|(trace_id, sampled)| TraceContext::new(trace_id, 100 + trace_id as u64, sampled));
    let commands = ["ann", "nobody", "bob", "carl"].map(|user| claim("hot", user, user, 1));
    let traces = vec![
        trace(3, carl),
        trace(2, bob),
        Trace {
            command: 1,
            traceparent: "nonsense".into(),
        },
        trace(77, bob),
        trace(0, ann),
    ];
    let answer = execute(&caller, commands.to_vec(), traces).await;
    // A trace changes nothing for anybody.
    let outcomes: Vec<Kind> = answer
        .outcomes
        .iter()
        .filter_map(|outcome| outcome.kind.clone())
        .collect();
    let held = expect_claim(outcomes[0].clone(), Grant::Granted);
    expect_claim(outcomes[1].clone(), Grant::Granted);
    expect_rejected(&outcomes[3], Reason::SoldOut);
    let index = Some(answer.runs[0].log_index);
    let told = Told::of(&spans);
    assert_eq!(
        told.names(),
        ["apply", "batch", "command claim", "command claim", "log entry"]
    );
    let (first, second) = (told.one("command claim", ann), told.one("command claim", bob));
    assert_eq!(
        (first.parent, second.parent),
        (Some(ann.span_id()), Some(bob.span_id()))
    );
    // The entry belongs to the first who is followed, and is linked with the others.
    let batch = told.one("batch", ann);
    assert_eq!(batch.parent, Some(first.context.span_id()));
    assert_eq!(
        (&batch.links, &second.links),
        (&vec![second.context], &vec![batch.context])
    );
    assert_eq!(number(batch, "holdfast.batch.commands"), Some(4));
    let entry = told.one("log entry", ann);
    assert_eq!(entry.parent, Some(batch.context.span_id()));
    assert_eq!(number(entry, "raft.term"), Some(answer.position.unwrap().term));
    let apply = told.one("apply", ann);
    assert_eq!(apply.parent, Some(entry.context.span_id()));
    for span in [first, second, entry, apply] {
        assert_eq!(number(span, "raft.log_index"), index, "{span:?}");
        assert_eq!(span.failure, None);
    }
    assert!(entry.took >= apply.took && batch.took >= entry.took && first.took >= batch.took);

    // Refused from applied state: there is no entry to see.
    let answer = execute(
        &caller,
        vec![claim("hot", "dora", "dora", 1)],
        vec![trace(0, bob)],
    )
    .await;
    expect_rejected(answer.outcomes[0].kind.as_ref().unwrap(), Reason::SoldOut);
    let told = Told::of(&spans);
    assert_eq!(told.names(), ["command claim"]);
    assert_eq!(number(&told.0[0], "raft.log_index"), None);

    // An entry that somebody follows in one frame, and nobody in the next.
    let (followed, silent) = loop {
        let followed = execute(&caller, vec![release(&held)], vec![trace(0, ann)]);
        let silent = execute(&caller, vec![release(&held)], Vec::new());
        let (followed, silent) = tokio::join!(followed, silent);
        let (followed, silent) = (followed.runs[0], silent.runs[0]);
        if followed.log_index == silent.log_index && followed.position < silent.position {
            break (followed, silent);
        }
        Told::of(&spans);
    };
    let told = Told::of(&spans);
    assert_eq!(
        number(told.one("log entry", ann), "raft.log_index"),
        Some(followed.log_index)
    );
    assert_eq!(
        number(told.one("batch", ann), "holdfast.batch.commands"),
        Some(u64::from(silent.position) + 1)
    );

    // However many ask, a frame's traces are bounded, and so are the links of a batch.
    let many = vec![release(&held); 2 * FRAME_TRACES_MAX];
    let traces = (0..many.len() as u32).map(|place| trace(place, bob)).collect();
    execute(&caller, many, traces).await;
    let told = Told::of(&spans);
    let named = |name: &str| told.0.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    assert_eq!(named("command release").len(), FRAME_TRACES_MAX);
    assert!(!named("batch").is_empty());
    assert!(
        named("batch")
            .iter()
            .all(|batch| batch.links.len() <= spans::LINKS_MAX)
    );
}
