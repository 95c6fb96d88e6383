//! Files that are no histories, or hardly: whatever is done to a good one, the checker says valid, invalid,
//! unknown, or on which line it stops being a history. It never panics and never contradicts itself.

use std::{fs, io::Write, path::PathBuf};

use jepsen_tests::{
    checker::{Options, Verdict, budget::Limits},
    judge::{Format, Judged, Model, Question, judge},
};
use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::RngSeed,
};

const JEPSEN_LOG: &str = "INFO  jepsen.util - 0\t:invoke\t:write\t1
INFO  jepsen.util - 1\t:invoke\t:cas\t[1 2]
INFO  jepsen.util - 0\t:ok\t:write\t1
INFO  jepsen.util - 1\t:info\t:cas\t:timed-out
INFO  jepsen.util - 0\t:invoke\t:read\tnil
INFO  jepsen.util - 0\t:ok\t:read\t2
";

const KV_LOG: &str = "{:process 0, :type :invoke, :f :append, :key \"1\", :value \"x 0 0 y\"}
{:process 1, :type :invoke, :f :get, :key \"1\", :value nil}
{:process 0, :type :ok, :f :append, :key \"1\", :value \"x 0 0 y\"}
{:process 1, :type :ok, :f :get, :key \"1\", :value \"x 0 0 y\"}
";

const EDN: &str = "; a lock
[{:process 0, :type :invoke, :f :acquire, :value nil}
 {:process 0, :type :ok, :f :acquire, :value nil}
 #op {:process 1, :type :invoke, :f :release, :error [:x \"y\" {}]}
 {:process :nemesis, :type :info, :f :start}
 {:process 1, :type :info, :f :release}]
";

/// Good files, and how they are read.
fn good() -> Vec<(Question, Vec<u8>)> {
    let mutex = Question {
        model: Model::Mutex,
        ..Question::new(Format::KnossosEdn)
    };
    let mut good = vec![
        (Question::new(Format::JepsenLog), JEPSEN_LOG.into()),
        (Question::new(Format::PorcupineKv), KV_LOG.into()),
        (mutex, EDN.into()),
    ];
    let histories = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let mut paths: Vec<PathBuf> = fs::read_dir(histories)
        .expect("the histories")
        .map(|entry| entry.expect("a file").path())
        .collect();
    paths.sort();
    for path in paths {
        good.push((Question::new(Format::Inventory), fs::read(path).expect("read")));
    }
    good
}

fn judged(question: &Question, bytes: Vec<u8>) -> Judged {
    let limits = Limits {
        states_max: 2_000,
        tries_max: 10_000,
    };
    let question = Question {
        options: Options {
            limits,
            ..question.options
        },
        ..question.clone()
    };
    judge(std::io::Cursor::new(bytes), &question, || ())
}

/// Pieces that mean something to some reader, or to none.
const PIECES: [&[u8]; 28] = [
    b"-1",
    b"18446744073709551615",
    b"18446744073709551616",
    b"99999999999999999999999999",
    b"9007199254740993",
    b"0.5",
    b"1e999",
    b"NaN",
    b"null",
    b"true",
    b"\"\"",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"\xff\xfe",
    b"\0",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\n",
    b"\r\n\r\n",
    b",",
    b":",
    b"\"t\":1,",
    b"{\"ty\":\"header\",\"schema\":\"inventory-history/2\",\"ttl_ms\":1,\"sales\":{\"s0\":1}}\n",
    b"#_",
    b"granted",
];

/// What is done to a file.
#[derive(Clone, Debug)]
enum Change {
    Cut(Index),
    Splice(Index, usize, &'static [u8]),
    SwapLines(Index, Index),
    RepeatLine(Index, Index),
    DropLine(Index),
    /// A word or number becomes another one of the file: values of the right form in the wrong place.
    Move(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<Index>().prop_map(Change::Cut),
        (any::<Index>(), 0..8usize, select(PIECES.to_vec()))
            .prop_map(|(at, gone, new)| Change::Splice(at, gone, new)),
        (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Change::SwapLines(one, other)),
        (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Change::RepeatLine(one, other)),
        any::<Index>().prop_map(Change::DropLine),
        (any::<Index>(), any::<Index>()).prop_map(|(to, from)| Change::Move(to, from)),
        (any::<Index>(), any::<Index>()).prop_map(|(to, from)| Change::Move(to, from)),
    ]
}

impl Change {
    fn make(&self, bytes: Vec<u8>) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = bytes
            .split_inclusive(|&byte| byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        if lines.is_empty() {
            return bytes;
        }
        match self {
            Change::Cut(at) => return bytes[..at.index(bytes.len())].to_vec(),
            Change::Splice(at, gone, new) => {
                let (mut bytes, at) = (bytes, at);
                let at = at.index(bytes.len());
                let until = (at + gone).min(bytes.len());
                bytes.splice(at..until, new.iter().copied());
                return bytes;
            }
            Change::SwapLines(one, other) => {
                let (one, other) = (one.index(lines.len()), other.index(lines.len()));
                lines.swap(one, other);
            }
            Change::RepeatLine(one, other) => {
                let line = lines[one.index(lines.len())].clone();
                lines.insert(other.index(lines.len() + 1), line);
            }
            Change::DropLine(at) => {
                lines.remove(at.index(lines.len()));
            }
            Change::Move(to, from) => {
                let words = words(&bytes);
                if words.is_empty() {
                    return bytes;
                }
                let new = bytes[words[from.index(words.len())].clone()].to_vec();
                let mut bytes = bytes;
                bytes.splice(words[to.index(words.len())].clone(), new);
                return bytes;
            }
        }
        lines.concat()
    }
}

/// Where the words and numbers of a file are.
fn words(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'/';
    let mut words = Vec::new();
    let mut start = None;
    for (at, &byte) in bytes.iter().chain(b"\n").enumerate() {
        match (start, is_word(byte)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                words.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    words
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 6_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_done_to_a_file_gets_a_clear_word(
        (question, bytes) in select(good()),
        changes in prop::collection::vec(change(), 1..5),
        packed: bool,
        cut in any::<Index>(),
    ) {
        let mut bytes = changes.iter().fold(bytes, |bytes, change| change.make(bytes));
        if packed {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&bytes).expect("packed");
            bytes = gzip.finish().expect("packed");
            if cut.index(4) == 0 {
                bytes.truncate(cut.index(bytes.len()));
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match judged(&question, bytes).verdict {
            Ok(Verdict::Valid | Verdict::Invalid(_) | Verdict::Unknown(_)) => {}
            Ok(Verdict::Disagreement(why)) => prop_assert!(false, "{why}: {text}"),
            Err(problem) => {
                let line = problem.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
                let numbered = line.is_some_and(|(number, why)| number.parse::<u64>().is_ok() && !why.is_empty());
                prop_assert!(numbered, "{problem}: {text}");
            }
        }
    }
}

/// What is said of a history of schema 1 with these lines after a good header.
fn refusal(lines: &[u8]) -> String {
    let mut bytes =
        br#"{"ty":"header","schema":"inventory-history/1","ttl_ms":150,"sales":{"s0":2}}"#.to_vec();
    bytes.push(b'\n');
    bytes.extend_from_slice(lines);
    match judged(&Question::new(Format::Inventory), bytes).verdict {
        Err(problem) => problem,
        Ok(verdict) => panic!("{verdict:?}: {}", String::from_utf8_lossy(lines)),
    }
}

#[test]
fn absurd_values_are_refused_with_their_line() {
    let read = |fields: &str| {
        let lines = format!(
            "{{\"t\":1,\"ty\":\"invoke\",\"id\":1,\"p\":1,\"f\":\"read\",\"sale\":\"s0\"}}\n\
             {{\"t\":2,\"ty\":\"ok\",\"id\":1,\"available\":2,\"held\":0,\"sold\":0,\"total\":2,{fields}}}\n"
        );
        refusal(lines.as_bytes())
    };
    for (fields, expected) in [
        (r#""idx":[1,1],"lt":-1"#, "line 3: not an event (invalid value"),
        (
            r#""idx":[1,1],"lt":18446744073709551616"#,
            "line 3: not an event (invalid type",
        ),
        (
            r#""idx":[1,1],"lt":18446744073709551615"#,
            "line 3: `lt` is 18446744073709551615 ms",
        ),
        (r#""idx":[1,1],"lt":NaN"#, "line 3: not an event (expected value"),
        (r#""idx":[1,1],"lt":1e3"#, "line 3: not an event (invalid type"),
        (
            r#""idx":[1,1],"lt":1,"lt":2"#,
            "line 3: not an event (duplicate field",
        ),
        (r#""idx":[1,1,1],"lt":1"#, "line 3: not an event"),
        (r#""idx":1,"lt":1"#, "line 3: not an event"),
    ] {
        let refusal = read(fields);
        assert!(refusal.starts_with(expected), "{fields}: {refusal}");
    }
    let long = [
        br#"{"t":1,"ty":"fail","err":""#.as_slice(),
        &vec![b'x'; 10 << 20],
        b"\"}\n",
    ]
    .concat();
    assert!(refusal(&long).starts_with("line 2: longer than"));
    assert!(
        refusal(b"\n\n{\"t\":1,\"ty\":\"info\",\"id\":1,\"err\":\"\xff\"}\n")
            .starts_with("line 4: not an event")
    );
    let other = [b"\n".as_slice(), JEPSEN_LOG.as_bytes()].concat();
    assert!(refusal(&other).starts_with("line 3: not an event"));
    assert!(refusal(KV_LOG.as_bytes()).starts_with("line 2: not an event"));
}

#[test]
fn files_of_others_that_break_off_are_refused_with_their_line() {
    let foreign = |question: &Question, bytes: &[u8]| match judged(question, bytes.to_vec()).verdict {
        Err(problem) => problem,
        Ok(verdict) => panic!("{verdict:?}"),
    };
    let question = Question::new(Format::PorcupineKv);
    let damaged = KV_LOG.replacen("x 0 0 y\"}\n{:process 1, :type :ok", "\u{0}", 1);
    let mut damaged = damaged.into_bytes();
    let place = damaged.iter().position(|&byte| byte == 0).expect("it is there");
    damaged[place] = 0xff;
    assert!(foreign(&question, &damaged).starts_with("line 3: not text"));
    // What cannot be packed well, so that half of the bytes are half of the lines.
    let log: String = (0..5_000u64)
        .map(|number| {
            let value = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("{{:process {number}, :type :invoke, :f :put, :key \"1\", :value \"{value}\"}}\n")
        })
        .collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(log.as_bytes()).expect("packed");
    let packed = gzip.finish().expect("packed");
    let problem = foreign(&question, &packed[..packed.len() / 2]);
    let line = problem
        .strip_prefix("line ")
        .and_then(|rest| rest.split_once(": cannot be read"));
    let line: u64 = line.expect(&problem).0.parse().expect("a number");
    assert!((1_000..5_000).contains(&line), "{problem}");
}
