//! Histories are written and read again without loss, and what is no history is refused with its line.

use std::sync::atomic::{AtomicU64, Ordering};

use jepsen_tests::{
    generate::{self, Plan},
    history::{Answer, Call, Header, History, Index, Outcome, Phase, Recorder, Sale},
};

/// A clock that moves on by ten at every look.
fn recorder(header: Header) -> Recorder {
    let clock = AtomicU64::new(0);
    Recorder::new(header, move || clock.fetch_add(10, Ordering::Relaxed))
}

fn answer(log_index: u64, position: u64, lt: u64, outcome: Outcome<&str>) -> Answer<&str> {
    let idx = Some(Index { log_index, position });
    Answer { idx, lt, outcome }
}

/// Every kind of event, call and outcome.
fn everything() -> History {
    let sale = Sale {
        units: 5,
        ttl_ms: 150,
        per_user_units_max: 2,
        extend_ms: 60,
    };
    let recorder = recorder(Header::two(150, [("s0", sale)]));
    let (p, q) = (recorder.process(), recorder.process());
    let long = "an \"escaped\" user\n\u{1F3AB}";
    let both = [
        (
            Call::Claim {
                user: long,
                key: "k1",
                quantity: 2,
            },
            Outcome::Granted {
                hold: "h1",
                deadline: 160,
            },
        ),
        (Call::claim(long, "k2"), Outcome::Already { hold: "h1" }),
        (Call::claim("u2", "k3"), Outcome::SoldOut),
        (
            Call::Extend {
                hold: "h1",
                key: "k4",
            },
            Outcome::Extended { deadline: 220 },
        ),
        (
            Call::Confirm {
                hold: "h1",
                key: "k5",
            },
            Outcome::Confirmed,
        ),
        (
            Call::Release {
                hold: "h2",
                key: "k6",
            },
            Outcome::Released,
        ),
        (
            Call::Release {
                hold: "h2",
                key: "k7",
            },
            Outcome::Gone,
        ),
        (Call::decrement("k8"), Outcome::Sold { hold: None }),
        (
            Call::Decrement {
                user: Some("u3"),
                key: "k9",
                quantity: 1,
            },
            Outcome::Sold { hold: Some("h3") },
        ),
        (
            Call::Read,
            Outcome::Counters {
                available: 1,
                held: 1,
                sold: 3,
                total: 5,
            },
        ),
        (Call::Restock { units: 7, key: "k10" }, Outcome::Done),
        (
            Call::Withdraw {
                units: 70,
                key: "k11",
            },
            Outcome::Short,
        ),
        (
            Call::Cancel {
                hold: "h1",
                key: "k12",
            },
            Outcome::Done,
        ),
        (Call::Pause { key: "k13" }, Outcome::Done),
        (Call::claim("u4", "k14"), Outcome::NotOpen),
        (Call::Open { key: "k15" }, Outcome::Done),
        (Call::Close { key: "k16" }, Outcome::Done),
        (
            Call::Claim {
                user: "u5",
                key: "k17",
                quantity: 3,
            },
            Outcome::UserLimit,
        ),
    ];
    recorder.fault("partition", "n2", Phase::Start);
    for (index, (call, outcome)) in both.into_iter().enumerate() {
        let id = recorder.invoke(p, "s0", call);
        recorder.ok(id, answer(index as u64, 0, 10, outcome));
    }
    let failed = recorder.invoke(p, "s0", Call::claim("u6", "k18"));
    recorder.fail(failed);
    let unknown = recorder.invoke(p, "s0", Call::claim("u7", "k19"));
    recorder.info(unknown, "timed out");
    let never = recorder.invoke(q, "s0", Call::claim("u8", "k20"));
    recorder.info(never, "connection reset");
    let _open = recorder.invoke(recorder.process(), "s0", Call::Read);
    assert_eq!(recorder.unknown().len(), 2);
    recorder.resolve(
        unknown,
        Some(answer(
            40,
            1,
            12,
            Outcome::Granted {
                hold: "h4",
                deadline: 162,
            },
        )),
    );
    recorder.resolve(never, None);
    assert_eq!(recorder.unknown(), []);
    recorder.fault("partition", "n2", Phase::End);
    recorder.finish()
}

#[test]
fn what_is_written_is_read_again_in_every_compression() {
    let history = everything();
    let directory = tempfile::tempdir().expect("a place for files");
    for name in ["h.ndjson", "h.ndjson.gz", "h.ndjson.zst"] {
        let path = directory.path().join(name);
        history.write_file(&path).expect("written");
        let again = History::read_file(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(again.header, history.header);
        assert_eq!(again.events, history.events, "{name}");
        assert_eq!(again.names.len(), history.names.len());
    }
}

#[test]
fn time_never_falls_though_the_clock_does() {
    let clock = AtomicU64::new(1_000);
    let recorder = Recorder::new(Header::one(150, [("s0", 1)]), move || {
        clock.fetch_sub(100, Ordering::Relaxed)
    });
    for _ in 0..3 {
        let id = recorder.invoke(0, "s0", Call::Read);
        recorder.fail(id);
    }
    assert!(recorder.finish().events.is_sorted_by_key(|event| event.t));
}

#[test]
#[should_panic(expected = "retired")]
fn a_process_ends_with_its_unknown() {
    let recorder = recorder(Header::one(150, [("s0", 1)]));
    let id = recorder.invoke(0, "s0", Call::Read);
    recorder.info(id, "timed out");
    recorder.invoke(0, "s0", Call::Read);
}

/// What refuses a history of schema 1 made of these lines after a good header, an invocation of a claim (id 1,
/// process 1) and one of a confirm (id 2, process 2).
fn refusal(lines: &[&str]) -> String {
    let mut text = String::from(
        r#"{"ty":"header","schema":"inventory-history/1","ttl_ms":150,"sales":{"s0":2},"time_unit":"ns"}
{"t":5,"ty":"invoke","id":1,"p":1,"f":"claim","sale":"s0","user":"u1","key":"k1"}
{"t":5,"ty":"invoke","id":2,"p":2,"f":"confirm","sale":"s0","hold":7,"key":"k2"}
"#,
    );
    text.push_str(&lines.join("\n"));
    match History::read(text.as_bytes()) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_no_history_is_refused_with_its_line() {
    const OK: &str = r#"{"t":9,"ty":"ok","id":1,"p":1,"f":"claim","idx":[3,0],"lt":1,"res":"granted","hold":"h","deadline":151}"#;
    let cases: &[(&[&str], &str)] = &[
        (
            &[r#"{"t":4,"ty":"fail","id":1}"#],
            "line 4: time falls from 5 to 4",
        ),
        (&[OK, OK], "line 5: operation 1 was completed before"),
        (
            &[OK, r#"{"t":9,"ty":"info","id":1,"err":"e"}"#],
            "line 5: operation 1 was completed",
        ),
        (
            &[OK, r#"{"t":9,"ty":"resolve","id":1,"applied":false}"#],
            "line 5: operation 1 was completed",
        ),
        (
            &[r#"{"t":9,"ty":"fail","id":3}"#],
            "line 4: operation 3 was never invoked",
        ),
        (
            &[r#"{"t":9,"ty":"invoke","id":1,"p":1,"f":"read","sale":"s0"}"#],
            "line 4: operation 1 is invoked a second time",
        ),
        (
            &[r#"{"t":9,"ty":"invoke","id":3,"p":1,"f":"read","sale":"s1"}"#],
            "line 4: sale \"s1\"",
        ),
        (
            &[r#"{"t":9,"ty":"invoke","id":3,"p":1,"f":"claim","sale":"s0","key":"k"}"#],
            "without `user`",
        ),
        (
            &[r#"{"t":9,"ty":"invoke","id":3,"p":1,"f":"claim","sale":"s0","user":1,"key":2,"quantity":2}"#],
            "needs schema inventory-history/2",
        ),
        (
            &[r#"{"t":9,"ty":"invoke","id":3,"p":1,"f":"restock","sale":"s0","units":1,"key":2}"#],
            "needs schema inventory-history/2",
        ),
        (
            &[r#"{"t":9,"ty":"invoke","id":3,"p":1,"f":"claim","sale":"s0","user":1,"key":2,"quantity":0}"#],
            "line 4: 0 units",
        ),
        (&[r#"{"ty":"fail","id":1}"#], "line 4: fail without `t`"),
        (
            &[r#"{"t":9,"ty":"ok","id":1,"p":2,"f":"claim","idx":[3,0],"lt":1,"res":"sold_out"}"#],
            "process 1, not 2",
        ),
        (
            &[r#"{"t":9,"ty":"ok","id":1,"p":1,"f":"read","idx":[3,0],"lt":1,"res":"sold_out"}"#],
            "claim, not read",
        ),
        (
            &[r#"{"t":9,"ty":"ok","id":1,"p":1,"f":"claim","idx":[3,0],"lt":1,"res":"gone"}"#],
            "gone is no answer",
        ),
        (
            &[r#"{"t":9,"ty":"ok","id":1,"p":1,"f":"claim","idx":[3,0],"lt":1,"res":"maybe"}"#],
            "line 4: not an event",
        ),
        (
            &[r#"{"t":9,"ty":"ok","id":1,"p":1,"f":"claim","idx":[3],"lt":1,"res":"sold_out"}"#],
            "line 4: not an event",
        ),
        (
            &[r#"{"t":9,"ty":"ok","id":1,"p":1,"f":"claim","idx":[3,-1],"lt":1,"res":"sold_out"}"#],
            "not an event",
        ),
        (
            &[r#"{"t":9,"ty":"ok","id":1,"p":1,"f":"claim","idx":[3,0],"res":"sold_out"}"#],
            "ok without `lt`",
        ),
        (
            &[r#"{"t":9,"ty":"ok","id":1,"p":1,"f":"claim","idx":[3,0],"lt":1,"res":"granted"}"#],
            "ok without `hold`",
        ),
        (
            &[
                OK,
                r#"{"t":9,"ty":"ok","id":2,"p":2,"f":"confirm","lt":1,"res":"gone"}"#,
            ],
            "line 5: has no `idx`",
        ),
        (&[r#"{"t":9,"ty":"resolve","id":1}"#], "resolve without `applied`"),
        (&[r#"{"t":9,"ty":"ok","id":1,"p":1,"f":"#], "line 4: not an event"),
        (
            &["INFO  jepsen.util - 0 :invoke :read nil"],
            "line 4: not an event",
        ),
        (
            &[r#"{"ty":"header","schema":"inventory-history/1","ttl_ms":1,"sales":{"s0":2}}"#],
            "line 4: a second header",
        ),
    ];
    for (lines, expected) in cases {
        let refusal = refusal(lines);
        assert!(refusal.contains(expected), "{lines:?}: {refusal}");
    }
}

#[test]
fn a_file_without_header_or_operations_is_refused() {
    let cases = [
        ("", "line 1: the file is empty"),
        ("\n\n", "line 1: the file is empty"),
        (r#"{"t":1,"ty":"fail","id":1}"#, "line 1: not the header"),
        (
            r#"{"ty":"header","schema":"inventory-history/9","ttl_ms":150,"sales":{"s0":40}}"#,
            "\"inventory-history/9\" is not known",
        ),
        (
            r#"{"ty":"header","schema":"inventory-history/1","ttl_ms":150,"sales":{"s0":40},"time_unit":"ms"}"#,
            "only \"ns\"",
        ),
        (
            r#"{"ty":"header","schema":"inventory-history/1","ttl_ms":150,"sales":{}}"#,
            "no sales",
        ),
        (
            r#"{"ty":"header","schema":"inventory-history/1","ttl_ms":150,"sales":{"s0":{"units":1}}}"#,
            "units only",
        ),
        (
            r#"{"ty":"header","schema":"inventory-history/1","ttl_ms":150,"sales":{"s0":40}}"#,
            "first operation",
        ),
    ];
    for (text, expected) in cases {
        let refusal = History::read(text.as_bytes()).expect_err(text).to_string();
        assert!(refusal.contains(expected), "{text}: {refusal}");
    }
}

#[test]
fn a_compressed_file_that_is_cut_off_is_refused() {
    let history = everything();
    let directory = tempfile::tempdir().expect("a place for files");
    for name in ["h.gz", "h.zst"] {
        let path = directory.path().join(name);
        history.write_file(&path).expect("written");
        let bytes = std::fs::read(&path).expect("read");
        std::fs::write(&path, &bytes[..bytes.len() - 20]).expect("written");
        let refusal = History::read_file(&path).expect_err(name).to_string();
        assert!(refusal.contains("cut off"), "{name}: {refusal}");
    }
}

/// What happens in a file: lines of a history, and where they are cut.
fn large() -> History {
    let plan = Plan {
        operations: 20_000,
        sales: 3,
        units: 500,
        users: 2_000,
        ttl_ms: 500,
        unheard_percent: 2,
        resolved_percent: 50,
        overlap: 16,
        step_ms: 3,
    };
    generate::history(plan, &generate::run(plan, 1))
}

#[test]
fn what_is_read_ahead_in_blocks_is_the_same() {
    let history = large();
    let mut bytes = Vec::new();
    history.write(&mut bytes).expect("written");
    assert!(bytes.len() > 3 << 20, "several blocks: {}", bytes.len());
    let again = History::read(bytes.as_slice()).expect("a history");
    let mut rewritten = Vec::new();
    again.write(&mut rewritten).expect("written");
    assert!(rewritten == bytes, "another history");

    // A mistake on a late line is found with its number, though other blocks wait behind it.
    let lines = bytes.split_inclusive(|&byte| byte == b'\n').count();
    let mut broken: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    let place = lines / 2;
    broken[place] = b"{\"t\":}\n";
    let refusal = History::read(broken.concat().as_slice()).expect_err("a broken line");
    assert_eq!(refusal.line, place as u64 + 1);
}
