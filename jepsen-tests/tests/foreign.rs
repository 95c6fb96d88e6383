//! Histories of others: registers, key-value stores and mutexes, in the formats of Jepsen, Porcupine and Knossos.

use jepsen_tests::{
    checker::{Verdict, budget::Limits, foreign},
    formats::{self, FormatError, jepsen_log, knossos_edn, porcupine_kv},
    models::{
        cas_register::{self, CasRegister},
        kv::Kv,
        mutex::Mutex,
    },
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

fn word(verdict: Result<Verdict, FormatError>) -> &'static str {
    match verdict {
        Ok(Verdict::Valid) => "valid",
        Ok(Verdict::Invalid(contradiction)) => {
            assert!(!contradiction.shown.is_empty());
            "invalid"
        }
        other => panic!("{other:?}"),
    }
}

/// A log of lines `process type f value`.
fn log(lines: &str) -> String {
    lines
        .split(',')
        .map(|line| {
            format!(
                "INFO  jepsen.util - {}\n",
                line.trim().replace(' ', "\t").replace('_', " ")
            )
        })
        .collect()
}

fn jepsen(text: &str) -> Result<Verdict, FormatError> {
    let calls = formats::calls(jepsen_log::read(text)?)?;
    Ok(foreign::check(
        &formats::cas_register(calls, jepsen_log::DIALECT, None)?,
        |accesses, _| CasRegister(accesses.to_vec(), None),
        Limits::default(),
    ))
}

fn knossos(text: &str) -> Result<Verdict, FormatError> {
    knossos_from(text, None)
}

fn knossos_from(text: &str, initial: Option<&str>) -> Result<Verdict, FormatError> {
    let calls = formats::calls(knossos_edn::read(text)?)?;
    let start = initial.map(|_| cas_register::INITIAL);
    Ok(foreign::check(
        &formats::cas_register(calls, knossos_edn::DIALECT, initial)?,
        |accesses, _| CasRegister(accesses.to_vec(), start),
        Limits::default(),
    ))
}

fn mutex(text: &str) -> Result<Verdict, FormatError> {
    let calls = formats::calls(knossos_edn::read(text)?)?;
    Ok(foreign::check(
        &formats::mutex(calls)?,
        Mutex::new,
        Limits::default(),
    ))
}

fn porcupine(text: &str) -> Result<Verdict, FormatError> {
    let calls = formats::calls(porcupine_kv::read(text)?)?;
    Ok(foreign::check(&formats::kv(calls)?, Kv::new, Limits::default()))
}

#[test]
fn jepsen_logs_of_a_register() {
    let cases = [
        (
            "a read before any write is nil",
            "0 :invoke :read nil, 0 :ok :read nil",
            "valid",
        ),
        (
            "a read of nil after a write",
            "0 :invoke :write 1, 0 :ok :write 1, 0 :invoke :read nil, 0 :ok :read nil",
            "invalid",
        ),
        (
            "concurrent writes in any order",
            "0 :invoke :write 1, 1 :invoke :write 2, 0 :ok :write 1, 1 :ok :write 2, 0 :invoke :read nil, 0 :ok :read 1",
            "valid",
        ),
        (
            "a stale read",
            "0 :invoke :write 1, 0 :ok :write 1, 1 :invoke :write 2, 1 :ok :write 2, 0 :invoke :read nil, 0 :ok :read 1",
            "invalid",
        ),
        (
            "a compare-and-set",
            "0 :invoke :write 1, 0 :ok :write 1, 1 :invoke :cas [1_2], 1 :ok :cas [1_2], 0 :invoke :read nil, 0 :ok :read 2",
            "valid",
        ),
        (
            "a compare-and-set from another value",
            "0 :invoke :write 1, 0 :ok :write 1, 1 :invoke :cas [3_2], 1 :ok :cas [3_2]",
            "invalid",
        ),
        (
            "a refusal is an answer",
            "0 :invoke :write 1, 0 :ok :write 1, 1 :invoke :cas [1_2], 1 :fail :cas [1_2]",
            "invalid",
        ),
        (
            "a refusal from another value",
            "0 :invoke :write 1, 0 :ok :write 1, 1 :invoke :cas [3_2], 1 :fail :cas [3_2]",
            "valid",
        ),
        (
            "a failure that is no refusal never happened",
            "0 :invoke :write 1, 0 :ok :write 1, 1 :invoke :cas [1_2], 1 :fail :cas :closed, 0 :invoke :read nil, 0 :ok :read 1",
            "valid",
        ),
        (
            "a time-out happened later",
            "0 :invoke :write 1, 0 :info :write :timed-out, 1 :invoke :read nil, 1 :ok :read nil, 1 :invoke :read nil, 1 :ok :read 1",
            "valid",
        ),
        (
            "a time-out happened at most once",
            "0 :invoke :cas [1_2], 0 :info :cas :timed-out, 1 :invoke :write 1, 1 :ok :write 1, 1 :invoke :read nil, 1 :ok :read 2, \
             1 :invoke :write 1, 1 :ok :write 1, 1 :invoke :read nil, 1 :ok :read 2",
            "invalid",
        ),
        (
            "a time-out did not happen before it began",
            "1 :invoke :read nil, 1 :ok :read 1, 0 :invoke :write 1, 0 :info :write :timed-out",
            "invalid",
        ),
        (
            "a read that failed says nothing",
            "0 :invoke :read nil, 0 :fail :read :timed-out",
            "valid",
        ),
    ];
    for (name, lines, expected) in cases {
        assert_eq!(word(jepsen(&log(lines))), expected, "{name}");
    }
}

#[test]
fn a_contradiction_of_a_register_is_made_small() {
    let mut lines = String::new();
    for value in 0..100 {
        lines += &format!(
            "0 :invoke :write {value}, 0 :ok :write {value}, 1 :invoke :read nil, 1 :ok :read {value}, "
        );
    }
    lines += "0 :invoke :read nil, 0 :ok :read 7";
    let Ok(Verdict::Invalid(contradiction)) = jepsen(&log(&lines)) else {
        panic!("a stale read")
    };
    // The last read alone cannot be explained: what wrote 7 was overwritten by whatever 99 is.
    assert!(contradiction.operations.len() <= 3, "{contradiction:?}");
    assert!(
        contradiction.shown.iter().any(|shown| shown.contains("-> 7")),
        "{contradiction:?}"
    );
}

#[test]
fn other_lines_of_a_log_are_read_over_and_other_files_are_not() {
    let text = "INFO  jepsen.core - starting\nWARN  other - :invoke\nINFO  jepsen.util - :nemesis\t:info\t:start\tnil\n\n";
    let good = format!("{text}{}", log("0 :invoke :read nil, 0 :ok :read nil"));
    assert_eq!(word(jepsen(&good)), "valid");
    // With dates, other ways to name the worker, and the stack of an exception.
    let newer = "2019-07-04 10:00:00,000{GMT}\tINFO\t[main] jepsen.core: Running\n\
         WARN  jepsen.core - Process 7 crashed\njava.net.SocketTimeoutException: Read timed out\n\tat a.b.C(D.java)\n\
         2019-07-04 10:00:01,000{GMT}\tINFO\t[jepsen worker 0] jepsen.util: 0\t:invoke\t:write\t3\n\
         2019-07-04 10:00:01,100{GMT}\tINFO\t[jepsen worker 0] jepsen.util: 0\t:ok\t:write\t3\n\
         2019-07-04 10:00:02,000{GMT}\tINFO\t[jepsen worker 0] jepsen.util: 0\t:invoke\t:read\tnil\n\
         2019-07-04 10:00:02,100{GMT}\tINFO\t[jepsen worker 0] jepsen.util: 0\t:ok\t:read\tVALUE\n";
    assert_eq!(word(jepsen(&newer.replace("VALUE", "3"))), "valid");
    assert_eq!(word(jepsen(&newer.replace("VALUE", "4"))), "invalid");
    let cases = [
        ("", "line 1: no operation"),
        ("{\"t\":1}", "line 1: not a line of a Jepsen log"),
        (
            "INFO  jepsen.core - x\n{:process 0, :type :invoke}",
            "line 2: not a line of a Jepsen log",
        ),
        (
            "INFO  jepsen.core - x\nIFO  jepsen.util - 0\t:ok\t:read\t1",
            "line 2: not a line of a Jepsen log",
        ),
        (
            "INFO  jepsen.util - 0\t:invoke\t:rea",
            "line 1: a line without a value",
        ),
        (
            "INFO  jepsen.util - 0\t:invoke\t:delete\t1",
            "line 1: \"delete\" is not read, write or cas",
        ),
        (
            "INFO  jepsen.util - 0\t:ok\t:read\t1",
            "line 1: process 0 ends what it never began",
        ),
        (
            "INFO  jepsen.util - x\t:ok\t:read\t1",
            "line 1: \"x\" is no process",
        ),
        ("INFO  jepsen.util - 0\t:begin\t:read\t1", "line 1: :begin is not"),
        (
            "INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:invoke\t:read\tnil",
            "line 2: process 0 has not ended what it began on line 1",
        ),
        (
            "INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:ok\t:write\t1",
            "line 2: process 0 ends another operation",
        ),
    ];
    for (text, expected) in cases {
        let refusal = jepsen(text).expect_err(text).to_string();
        assert!(refusal.starts_with(expected), "{text}: {refusal}");
    }
}

/// Events `process type f value` as Knossos writes them.
fn edn(events: &str) -> String {
    let map = |event: &str| {
        let words: Vec<&str> = event.trim().splitn(4, ' ').collect();
        format!(
            "{{:process {}, :type {}, :f {}, :value {}}}",
            words[0],
            words[1],
            words[2],
            words.get(3).unwrap_or(&"nil")
        )
    };
    let maps: Vec<String> = events.split(',').map(map).collect();
    format!("; a history\n[{}]\n", maps.join("\n "))
}

#[test]
fn knossos_registers() {
    let cases = [
        (
            "what failed never happened",
            "0 :invoke :write 1, 0 :ok :write 1, 1 :invoke :cas [1 2], 1 :fail :cas [1 2]",
            "valid",
        ),
        (
            "a failed write never happened",
            "1 :invoke :read nil, 0 :invoke :write 3, 0 :fail :write 3, 1 :ok :read 3",
            "invalid",
        ),
        (
            "a read of nil explains itself",
            "0 :invoke :write 1, 0 :ok :write 1, 0 :invoke :read nil, 0 :ok :read nil",
            "valid",
        ),
        (
            "a read of what nobody wrote",
            "0 :invoke :write 0, 0 :ok :write 0, 1 :invoke :read nil, 2 :invoke :write 4, 1 :ok :read 3, 2 :ok :write 4",
            "invalid",
        ),
        (
            "a read while it is written",
            "0 :invoke :write 0, 0 :ok :write 0, 1 :invoke :read nil, 2 :invoke :write 4, 1 :ok :read 4, 2 :ok :write 4",
            "valid",
        ),
        (
            "what never ended may have happened",
            "0 :invoke :write 2, 1 :invoke :read nil, 1 :ok :read 2",
            "valid",
        ),
        (
            "the nemesis is no client",
            ":nemesis :info :start nil, 0 :invoke :write 2, 0 :ok :write 2",
            "valid",
        ),
        (
            "values of any kind",
            "0 :invoke :write :a, 0 :ok :write :a, 1 :invoke :cas [:a \"b\"], 1 :ok :cas [:a \"b\"], 0 :invoke :read nil, 0 :ok :read \"b\"",
            "valid",
        ),
    ];
    for (name, events, expected) in cases {
        assert_eq!(word(knossos(&edn(events))), expected, "{name}");
        // Without the vector around it, and as a list.
        let bare = edn(events).replace("\n[", "\n").replace("]\n", "\n");
        if !events.contains('[') {
            assert_eq!(word(knossos(&bare)), expected, "{name}, bare");
        }
        let list = edn(events)
            .replacen("\n[", "\n(", 1)
            .trim_end()
            .strip_suffix(']')
            .map(|list| format!("{list})"));
        assert_eq!(
            word(knossos(&list.expect("it ends so"))),
            expected,
            "{name}, as a list"
        );
    }
    for (text, expected) in [
        ("", "line 1: no operation"),
        ("[{:process 0, :type :invoke", "line 1: ends before its `}`"),
        (
            "[\n{:process 0, :type :invoke, :f :read}\n7]",
            "line 3: not a map of an operation, but 7",
        ),
        ("[{:process 0, :type :invoke}]", "line 1: an operation without :f"),
        (
            "[{:process 0.5, :type :invoke, :f :read}]",
            "line 1: :process is 0.5",
        ),
        (
            "[{:process 0, :type :invoke, :f :acquire}]",
            "line 1: \"acquire\" is not read",
        ),
        (
            "[{:process 0, :type :invoke, :f :read}] 7",
            "line 1: more after the end",
        ),
    ] {
        let refusal = knossos(text).expect_err(text).to_string();
        assert!(refusal.starts_with(expected), "{text}: {refusal}");
    }
}

#[test]
fn knossos_rows() {
    let good = "[0  :invoke :write  1]\n[:nemesis :info :start nil]\n[0  :ok :write  1]\n\
         [1 :invoke :cas [1 2]]\n[1 :fail :cas [1 2] :no-conns]\n[0 :invoke :read nil]\n[0 :ok :read 1]\n";
    assert_eq!(word(knossos(good)), "valid");
    assert_eq!(
        word(knossos(&good.replace(":ok :read 1", ":ok :read 2"))),
        "invalid"
    );
    let refusal = knossos("[0 :invoke]").expect_err("a short row").to_string();
    assert!(refusal.contains("without :f"), "{refusal}");
}

#[test]
fn a_register_may_begin_with_a_value() {
    let reads = edn("0 :invoke :read nil, 0 :ok :read 0");
    assert_eq!(word(knossos(&reads)), "invalid");
    assert_eq!(word(knossos_from(&reads, Some("0"))), "valid");
    assert_eq!(word(knossos_from(&reads, Some("1"))), "invalid");
}

#[test]
fn an_end_without_a_beginning() {
    // Nothing is known of nothing.
    let begun = "1 :invoke :write 1, 1 :ok :write 1";
    assert_eq!(
        word(knossos(&edn(&format!("0 :info :write 1, {begun}")))),
        "valid"
    );
    let refusal = knossos(&edn(&format!("0 :ok :write 1, {begun}"))).expect_err("an answer to nothing");
    assert!(
        refusal.to_string().contains("ends what it never began"),
        "{refusal}"
    );
    // A process that goes on after it timed out is as good as a new one.
    let reused = "0 :invoke :write 1, 0 :info :write 1, 0 :invoke :write 2, 0 :ok :write 2, 1 :invoke :read nil, 1 :ok :read VALUE";
    assert_eq!(word(knossos(&edn(&reused.replace("VALUE", "1")))), "valid");
    assert_eq!(word(knossos(&edn(&reused.replace("VALUE", "2")))), "valid");
    assert_eq!(word(knossos(&edn(&reused.replace("VALUE", "3")))), "invalid");
}

#[test]
fn knossos_mutexes() {
    let cases = [
        (
            "one after the other",
            "0 :invoke :acquire, 0 :ok :acquire, 0 :invoke :release, 0 :ok :release, 1 :invoke :acquire, 1 :ok :acquire",
            "valid",
        ),
        (
            "two have it",
            "0 :invoke :acquire, 0 :ok :acquire, 1 :invoke :acquire, 1 :ok :acquire",
            "invalid",
        ),
        (
            "released while acquired again",
            "0 :invoke :acquire, 0 :ok :acquire, 1 :invoke :acquire, 0 :invoke :release, 1 :ok :acquire, 0 :ok :release",
            "valid",
        ),
        (
            "released by nobody",
            "0 :invoke :release, 0 :ok :release",
            "invalid",
        ),
        (
            "what failed never happened",
            "0 :invoke :release, 0 :fail :release, 0 :invoke :acquire, 0 :ok :acquire, 1 :invoke :acquire, 1 :fail :acquire",
            "valid",
        ),
        (
            "an unknown release",
            "0 :invoke :acquire, 0 :ok :acquire, 0 :invoke :release, 0 :info :release, 1 :invoke :acquire, 1 :ok :acquire",
            "valid",
        ),
        (
            "one unknown release for two",
            "0 :invoke :acquire, 0 :ok :acquire, 0 :invoke :release, 0 :info :release, 1 :invoke :acquire, 1 :ok :acquire, 2 :invoke :acquire, 2 :ok :acquire",
            "invalid",
        ),
    ];
    for (name, events, expected) in cases {
        assert_eq!(word(mutex(&edn(events))), expected, "{name}");
    }
    let refusal = mutex(&edn("0 :invoke :read, 0 :ok :read"))
        .expect_err("a register")
        .to_string();
    assert!(refusal.contains("neither acquire nor release"), "{refusal}");
}

/// Events `process type f key value`, one a line, as Porcupine writes them.
fn kv_log(events: &str) -> String {
    let map = |event: &str| {
        let words: Vec<&str> = event.trim().splitn(5, ' ').collect();
        format!(
            "{{:process {}, :type {}, :f {}, :key \"{}\", :value {}}}\n",
            words[0], words[1], words[2], words[3], words[4]
        )
    };
    events.split(',').map(map).collect()
}

/// A log of clients that get, put and append to ten keys without ever waiting, as Porcupine's own tests have
/// them; each operation takes effect somewhere between its beginning and its end. With `stale`, one get in the
/// middle misses the latest change.
fn busy_kv_log(clients: usize, operations: usize, stale: bool, seed: u64) -> String {
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut keys = vec![String::new(); 10];
    // What each client does now: operation, key, value, and whether it has taken effect.
    let mut now: Vec<Option<(&str, usize, String, bool)>> = vec![None; clients];
    let mut done = vec![0; clients];
    let mut stale = stale.then_some(clients * operations / 2);
    let (mut log, mut effects) = (String::new(), 0);
    while done.iter().any(|&done| done < operations) {
        let client = chance.random_range(0..clients);
        match &mut now[client] {
            None if done[client] == operations => {}
            None => {
                let (key, tag) = (
                    chance.random_range(0..10),
                    format!("x {client} {} y", done[client]),
                );
                let (f, value) = match chance.random_range(0..20) {
                    0..8 => ("get", "nil".to_owned()),
                    8 => ("put", format!("\"{tag}\"")),
                    _ => ("append", format!("\"{tag}\"")),
                };
                log += &format!(
                    "{{:process {client}, :type :invoke, :f :{f}, :key \"{key}\", :value {value}}}\n"
                );
                now[client] = Some((f, key, value, false));
            }
            Some((f, key, value, taken @ false)) => {
                (*taken, effects) = (true, effects + 1);
                let held = &mut keys[*key];
                match *f {
                    "put" => *held = value.trim_matches('"').to_owned(),
                    "append" => *held += value.trim_matches('"'),
                    _ => {
                        *value = format!("\"{held}\"");
                        if stale.is_some_and(|after| effects > after) && held.contains('y') {
                            let last = held.trim_end_matches('y').rfind('y').map_or(0, |at| at + 1);
                            *value = format!("\"{}\"", &held[..last]);
                            stale = None;
                        }
                    }
                }
            }
            Some((f, key, value, true)) => {
                log +=
                    &format!("{{:process {client}, :type :ok, :f :{f}, :key \"{key}\", :value {value}}}\n");
                (now[client], done[client]) = (None, done[client] + 1);
            }
        }
    }
    assert!(stale.is_none(), "there was nothing to miss");
    log
}

#[test]
fn porcupine_logs_of_many_busy_clients_are_decided() {
    for seed in 0..10 {
        for clients in [1, 10, 50] {
            for stale in [false, true] {
                let found = word(porcupine(&busy_kv_log(clients, 40, stale, seed)));
                // What is missed may be what another did meanwhile; with one client there is no meanwhile.
                let sound = found == "valid" || stale;
                assert!(sound, "{clients} clients, seed {seed}: {found}");
                assert!(clients > 1 || !stale || found == "invalid", "seed {seed}");
            }
        }
    }
}

#[test]
fn porcupine_key_value_logs() {
    let cases = [
        (
            "a key is empty at first",
            "0 :invoke :get a nil, 0 :ok :get a \"\"",
            "valid",
        ),
        (
            "what was put",
            "0 :invoke :put a \"x\", 0 :ok :put a \"x\", 0 :invoke :get a nil, 0 :ok :get a \"x\"",
            "valid",
        ),
        (
            "appended in order",
            "0 :invoke :append a \"x\", 0 :ok :append a \"x\", 0 :invoke :append a \"y\", 0 :ok :append a \"y\", 1 :invoke :get a nil, 1 :ok :get a \"xy\"",
            "valid",
        ),
        (
            "appended in the wrong order",
            "0 :invoke :append a \"x\", 0 :ok :append a \"x\", 0 :invoke :append a \"y\", 0 :ok :append a \"y\", 1 :invoke :get a nil, 1 :ok :get a \"yx\"",
            "invalid",
        ),
        (
            "appended at once",
            "0 :invoke :append a \"x\", 1 :invoke :append a \"y\", 0 :ok :append a \"x\", 1 :ok :append a \"y\", 1 :invoke :get a nil, 1 :ok :get a \"yx\"",
            "valid",
        ),
        (
            "keys are apart",
            "0 :invoke :put a \"x\", 0 :ok :put a \"x\", 0 :invoke :get b nil, 0 :ok :get b \"\"",
            "valid",
        ),
        (
            "a lost append",
            "0 :invoke :append a \"x\", 0 :ok :append a \"x\", 0 :invoke :get a nil, 0 :ok :get a \"\"",
            "invalid",
        ),
    ];
    for (name, events, expected) in cases {
        assert_eq!(word(porcupine(&kv_log(events))), expected, "{name}");
    }
    for (text, expected) in [
        ("\n\n", "line 1: no operation"),
        (
            "{:process 0, :type :invoke, :f :get, :key \"a\", :value nil",
            "line 1: ends before its `}`",
        ),
        (
            "{:process 0, :type :invoke, :f :get, :value nil}",
            "line 1: an operation without :key",
        ),
        (
            "{:process 0, :type :invoke, :f :delete, :key \"a\", :value nil}",
            "line 1: \"delete\" is not get",
        ),
        ("{\"ty\":\"header\"}", "line 1: "),
    ] {
        let refusal = porcupine(text).expect_err(text).to_string();
        assert!(refusal.starts_with(expected), "{text}: {refusal}");
    }
}
