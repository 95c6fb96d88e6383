use futures::task::noop_waker;
use proto::v1::{Receipt, outcome::Kind};
use tokio::sync::oneshot::{Receiver, error::TryRecvError};

use super::*;

const LONG: Duration = Duration::from_secs(3600);

fn one(name: &str, now: Instant) -> (Job, Receiver<Answer<Outcome>>) {
    let (done, answer) = oneshot::channel();
    let body = Bytes::copy_from_slice(name.as_bytes());
    (
        Job {
            body,
            commands: 1,
            deadline: now + LONG,
            done: Done::One(done),
            trace: None,
        },
        answer,
    )
}

fn many(commands: usize, now: Instant) -> (Job, Receiver<Answer<Vec<Outcome>>>) {
    let (done, answer) = oneshot::channel();
    let body = Bytes::from_static(b"many");
    (
        Job {
            body,
            commands,
            deadline: now + LONG,
            done: Done::Many(done),
            trace: None,
        },
        answer,
    )
}

fn outcome(log_index: u64) -> Outcome {
    Outcome {
        kind: Some(Kind::Done(Receipt {
            log_index,
            ..Receipt::default()
        })),
    }
}

fn response(frame_id: u64, outcomes: Vec<Outcome>, log_time_ms: u64) -> SubmitResponse {
    let position = Position {
        log_time_ms,
        ..Position::default()
    };
    SubmitResponse {
        frame_id,
        outcomes,
        position: Some(position),
        ..SubmitResponse::default()
    }
}

fn opened() -> (Queue, u64) {
    let mut queue = Queue::default();
    let session = queue.begin();
    queue.set_open(session, true);
    (queue, session)
}

fn frame(queue: &mut Queue, session: u64, now: Instant) -> Option<Frame> {
    let (next, deliveries) = queue.next(session, &noop_waker(), now);
    deliveries.deliver();
    match next {
        Next::Frame(frame) => Some(frame),
        Next::Wait => None,
        Next::End => panic!("the session has ended"),
    }
}

fn answer(queue: &mut Queue, session: u64, response: SubmitResponse) -> Heard {
    let (heard, deliveries, _) = queue.answer(session, response);
    deliveries.deliver();
    heard
}

#[test]
fn what_waits_leaves_together_and_in_order() {
    let now = Instant::now();
    let (mut queue, session) = opened();
    let mut answers = Vec::new();
    for name in ["a", "b", "c"] {
        let (job, answer) = one(name, now);
        queue.push(job).unwrap();
        answers.push(answer);
    }
    let sent = frame(&mut queue, session, now).unwrap();
    assert_eq!(sent.bodies, ["a", "b", "c"]);
    assert!(
        frame(&mut queue, session, now).is_none(),
        "nothing waits any more"
    );

    let outcomes = vec![outcome(1), outcome(2), outcome(3)];
    assert_eq!(
        answer(&mut queue, session, response(sent.frame_id, outcomes, 5)),
        Heard::Answer
    );
    for (index, answer) in (1..).zip(&mut answers) {
        assert_eq!(answer.try_recv().unwrap().unwrap().0, outcome(index));
    }
}

#[test]
fn frames_are_answered_in_any_order_and_groups_whole() {
    let now = Instant::now();
    let (mut queue, session) = opened();
    let (job, mut group) = many(2, now);
    queue.push(job).unwrap();
    let (job, mut after) = one("x", now);
    queue.push(job).unwrap();
    let first = frame(&mut queue, session, now).unwrap();
    let (job, mut second_answer) = one("y", now);
    queue.push(job).unwrap();
    let second = frame(&mut queue, session, now).unwrap();

    answer(
        &mut queue,
        session,
        response(second.frame_id, vec![outcome(9)], 1),
    );
    assert_eq!(second_answer.try_recv().unwrap().unwrap().0, outcome(9));
    assert_eq!(group.try_recv(), Err(TryRecvError::Empty));
    answer(
        &mut queue,
        session,
        response(first.frame_id, vec![outcome(1), outcome(2), outcome(3)], 1),
    );
    assert_eq!(group.try_recv().unwrap().unwrap().0, [outcome(1), outcome(2)]);
    assert_eq!(after.try_recv().unwrap().unwrap().0, outcome(3));
}

#[test]
fn every_answer_says_where_in_the_log_its_command_stands() {
    let now = Instant::now();
    let (mut queue, session) = opened();
    let (job, _group) = many(2, now);
    queue.push(job).unwrap();
    let mut answers = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let (job, answer) = one(name, now);
        queue.push(job).unwrap();
        answers.push(answer);
    }
    let sent = frame(&mut queue, session, now).unwrap();
    let run = |log_index, position, commands| Run {
        log_index,
        position,
        commands,
        log_time_ms: 10 * log_index,
    };
    // Group and `a` in one entry, `b` in the next, `c` in one that may not have committed, `d` in none.
    let response = SubmitResponse {
        runs: vec![run(7, 4, 3), run(8, 0, 1), run(0, 5, 1)],
        ..response(sent.frame_id, (1..=6).map(outcome).collect(), 5)
    };
    answer(&mut queue, session, response);
    let mut places = Vec::new();
    for answer in &mut answers {
        let (_, position) = answer.try_recv().unwrap().unwrap();
        places.push((position.applied_index, position.command, position.log_time_ms));
    }
    assert_eq!(
        places,
        [(7, Some(6), 70), (8, Some(0), 80), (0, None, 5), (0, None, 5)]
    );
}

#[test]
fn frames_keep_to_their_limits() {
    let now = Instant::now();
    let (mut queue, session) = opened();
    let mut answers = Vec::new();
    for _ in 0..3 {
        let (job, answer) = many(FRAME_COMMANDS_MAX - 1, now);
        queue.push(job).unwrap();
        answers.push(answer);
    }
    assert_eq!(
        frame(&mut queue, session, now).unwrap().bodies.len(),
        1,
        "two would be too many commands"
    );

    let (mut queue, session) = opened();
    for _ in 0..2 {
        let (mut job, answer) = many(1, now);
        job.body = Bytes::from(vec![0; FRAME_BYTES_MAX]);
        queue.push(job).unwrap();
        answers.push(answer);
    }
    assert_eq!(
        frame(&mut queue, session, now).unwrap().bodies.len(),
        1,
        "two would be too many bytes"
    );
}

#[test]
fn frames_in_flight_are_bounded_and_the_rest_gathers() {
    let now = Instant::now();
    let (mut queue, session) = opened();
    let mut answers = Vec::new();
    let mut push = |queue: &mut Queue| {
        let (job, answer) = one("x", now);
        queue.push(job).unwrap();
        answers.push(answer);
    };
    let mut first = 0;
    for count in 0..FRAMES_IN_FLIGHT_MAX {
        push(&mut queue);
        let frame_id = frame(&mut queue, session, now).unwrap().frame_id;
        if count == 0 {
            first = frame_id;
        }
    }
    for _ in 0..100 {
        push(&mut queue);
    }
    assert!(frame(&mut queue, session, now).is_none());
    answer(&mut queue, session, response(first, vec![outcome(1)], 1));
    assert_eq!(frame(&mut queue, session, now).unwrap().bodies.len(), 100);
}

#[test]
fn a_full_queue_refuses_and_changes_nothing() {
    let now = Instant::now();
    let mut queue = Queue::default();
    let mut answers = Vec::new();
    for _ in 0..QUEUE_COMMANDS_MAX / FRAME_COMMANDS_MAX {
        let (job, answer) = many(FRAME_COMMANDS_MAX, now);
        queue.push(job).unwrap();
        answers.push(answer);
    }
    let (job, _answer) = one("x", now);
    assert!(queue.push(job).is_err());

    let session = queue.begin();
    queue.set_open(session, true);
    frame(&mut queue, session, now).unwrap();
    let (job, _answer) = one("x", now);
    assert!(queue.push(job).is_ok(), "there is room again");
}

#[test]
fn nothing_leaves_before_the_session_is_open_or_after_it_closed() {
    let now = Instant::now();
    let mut queue = Queue::default();
    let (job, _answer) = one("x", now);
    queue.push(job).unwrap();
    let session = queue.begin();
    assert!(frame(&mut queue, session, now).is_none());
    queue.set_open(session, true);
    assert!(frame(&mut queue, session, now).is_some());
    let (job, _answer) = one("y", now);
    queue.push(job).unwrap();
    queue.set_open(session, false);
    assert!(frame(&mut queue, session, now).is_none());
}

#[test]
fn what_was_in_flight_is_lost_with_its_session_and_what_waits_is_not() {
    let now = Instant::now();
    let (mut queue, session) = opened();
    let (job, mut sent) = one("x", now);
    queue.push(job).unwrap();
    let old = frame(&mut queue, session, now).unwrap();
    let (job, mut waits) = one("y", now);
    queue.push(job).unwrap();
    queue.end("reset").0.deliver();
    let failed = sent.try_recv().unwrap();
    assert_eq!(failed, Err(Failure::Lost("reset".into())));
    assert_eq!(waits.try_recv(), Err(TryRecvError::Empty));

    // The old stream's writer sends no more, and a late answer on it reaches nobody.
    let (next, _) = queue.next(session, &noop_waker(), now);
    assert!(matches!(next, Next::End));
    let renewed = queue.begin();
    queue.set_open(renewed, true);
    let new = frame(&mut queue, renewed, now).unwrap();
    assert_ne!(new.frame_id, old.frame_id);
    assert_eq!(
        answer(&mut queue, session, response(new.frame_id, vec![outcome(1)], 1)),
        Heard::Nothing
    );
    assert_eq!(waits.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn deadlines_tell_what_left_from_what_did_not() {
    let now = Instant::now();
    let (mut queue, session) = opened();
    let (job, mut left) = one("x", now);
    queue.push(job).unwrap();
    let sent = frame(&mut queue, session, now).unwrap();
    let (job, mut waits) = one("y", now);
    queue.push(job).unwrap();

    let (overdue, deliveries) = queue.sweep(now + FRAME_TIMEOUT - Duration::from_millis(1));
    deliveries.deliver();
    assert!(!overdue);
    let (overdue, deliveries) = queue.sweep(now + LONG);
    deliveries.deliver();
    assert!(overdue, "the frame is unanswered for too long");
    assert!(matches!(left.try_recv().unwrap(), Err(Failure::Lost(_))));
    assert!(matches!(waits.try_recv().unwrap(), Err(Failure::NotSent(_))));

    // The answer that comes after all is taken, though nobody waits for it.
    assert_eq!(
        answer(&mut queue, session, response(sent.frame_id, vec![outcome(1)], 1)),
        Heard::Answer
    );
}

#[test]
fn callers_who_left_are_not_sent() {
    let now = Instant::now();
    let (mut queue, session) = opened();
    let (job, answer) = one("x", now);
    queue.push(job).unwrap();
    drop(answer);
    let (job, _answer) = one("y", now);
    queue.push(job).unwrap();
    assert_eq!(frame(&mut queue, session, now).unwrap().bodies, ["y"]);
}

#[test]
fn answers_that_do_not_fit_are_no_answers() {
    let now = Instant::now();
    let (mut queue, session) = opened();
    let (job, mut waits) = one("x", now);
    queue.push(job).unwrap();
    let sent = frame(&mut queue, session, now).unwrap();
    let wrong_id = response(sent.frame_id + 1, vec![outcome(1)], 1);
    assert!(matches!(answer(&mut queue, session, wrong_id), Heard::Broken(_)));
    for outcomes in [vec![], vec![outcome(1), outcome(2)]] {
        let wrong_count = response(sent.frame_id, outcomes, 1);
        assert!(matches!(
            answer(&mut queue, session, wrong_count),
            Heard::Broken(_)
        ));
    }
    assert_eq!(waits.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn the_writer_is_woken_only_when_it_can_do_something() {
    let now = Instant::now();
    let (mut queue, session) = opened();
    assert!(frame(&mut queue, session, now).is_none());
    let (job, _first) = one("x", now);
    assert!(
        queue.push(job).unwrap().is_some(),
        "idle: a lonely call leaves at once"
    );
    let (job, _second) = one("y", now);
    assert!(queue.push(job).unwrap().is_none(), "woken already");
}

#[test]
fn a_frame_says_which_commands_belong_to_a_trace() {
    let now = Instant::now();
    let (mut queue, session) = opened();
    let mut answers = Vec::new();
    let mut follow = |queue: &mut Queue, job: (Job, Receiver<Answer<Outcome>>), span_id| {
        let (mut job, answer) = job;
        job.trace = Some(Box::new(TraceContext::new(3, span_id, true)));
        answers.push(answer);
        assert!(queue.push(job).is_ok());
    };
    let (before, _before) = many(5, now);
    assert!(queue.push(before).is_ok());
    follow(&mut queue, one("a", now), 9);
    let (between, _between) = one("b", now);
    assert!(queue.push(between).is_ok());
    follow(&mut queue, one("c", now), 11);
    let sent = frame(&mut queue, session, now).unwrap();
    let places: Vec<(u32, &str)> = sent
        .traces
        .iter()
        .map(|trace| (trace.command, trace.traceparent.as_str()))
        .collect();
    assert_eq!(
        places,
        [
            (5, "00-00000000000000000000000000000003-0000000000000009-01"),
            (7, "00-00000000000000000000000000000003-000000000000000b-01"),
        ]
    );
    // However many are followed, a frame names no more than it may.
    for _ in 0..FRAME_TRACES_MAX + 1 {
        follow(&mut queue, one("d", now), 13);
    }
    let sent = frame(&mut queue, session, now).unwrap();
    assert_eq!(
        (sent.bodies.len(), sent.traces.len()),
        (FRAME_TRACES_MAX + 1, FRAME_TRACES_MAX)
    );
}
