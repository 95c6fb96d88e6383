//! The payment provider to rehearse with, as a process: killed, and started again.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Longest start that is waited for; only a failing test waits so long.
const READY_MAX: Duration = Duration::from_secs(60);

/// How often the ready file is looked for.
const READY_POLL: Duration = Duration::from_millis(10);

struct Psp {
    child: Child,
    address: String,
}

impl Psp {
    fn start(dir: &Path, flags: &[&str]) -> Psp {
        let ready = dir.join("psp.ready");
        let _ = std::fs::remove_file(&ready);
        let child = Command::new(env!("CARGO_BIN_EXE_holdfast"))
            .args([
                "psp",
                "--listen",
                "127.0.0.1:0",
                "--stop-with-stdin",
                "--ready-file",
            ])
            .arg(&ready)
            .arg("--state")
            .arg(dir.join("psp.journal"))
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary runs");
        let mut psp = Psp {
            child,
            address: String::new(),
        };
        let deadline = Instant::now() + READY_MAX;
        while !ready.exists() {
            assert!(psp.child.try_wait().expect("a child").is_none(), "it ended");
            assert!(Instant::now() < deadline, "it does not serve");
            std::thread::sleep(READY_POLL);
        }
        let told: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        assert_eq!(told["pid"], psp.child.id());
        psp.address = told["listen"].as_str().unwrap().to_owned();
        psp
    }

    /// Status and body.
    fn call(&self, method: &str, path: &str, key: &str, form: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let length = form.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: psp\r\nconnection: close\r\nauthorization: Bearer sk_test_x\r\n\
             idempotency-key: {key}\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: {length}\r\n\r\n{form}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), body.to_owned())
    }
}

impl Drop for Psp {
    fn drop(&mut self) {
        // One that ended by itself is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn killing_it_loses_no_money() {
    let dir = tempfile::tempdir().unwrap();
    let psp = Psp::start(dir.path(), &["--seed", "7", "--delay-ms", "1"]);
    let form = "amount=4900&currency=eur&payment_method=pm_card_visa&confirm=true&metadata[claim_id]=c_1";
    let (status, paid) = psp.call("POST", "/v1/payment_intents", "k1", form);
    assert_eq!(status, 200, "{paid}");
    let (_, ledger) = psp.call("GET", "/_/ledger", "", "");
    drop(psp);

    let psp = Psp::start(dir.path(), &["--seed", "7", "--decline-rate", "100%"]);
    assert_eq!(psp.call("GET", "/_/ledger", "", ""), (200, ledger));
    assert_eq!(psp.call("POST", "/v1/payment_intents", "k1", form), (200, paid));
    let (status, _) = psp.call("POST", "/v1/payment_intents", "k2", form);
    assert_eq!(status, 402, "the faults are those of the new command line");
    assert!(psp.call("GET", "/", "", "").1.contains("pm_sim_STEP_MISHAP"));
    drop(psp);

    // With another seed the same calls would make other ids: it says so instead, and never that it is ready.
    let ready = dir.path().join("psp.ready");
    std::fs::remove_file(&ready).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(["psp", "--listen", "127.0.0.1:0", "--seed", "8", "--state"])
        .arg(dir.path().join("psp.journal"))
        .arg("--ready-file")
        .arg(&ready)
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("another seed"), "{words}");
    assert!(
        !ready.exists(),
        "a provider that cannot know its past is not ready"
    );
}

#[test]
fn it_stops_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut psp = Psp::start(dir.path(), &["--hang-rate", "1"]);
    let mut hanging = TcpStream::connect(&psp.address).unwrap();
    hanging
        .write_all(b"GET /v1/events HTTP/1.1\r\nhost: psp\r\nauthorization: Bearer sk_test_x\r\n\r\n")
        .unwrap();
    drop(psp.child.stdin.take());
    let ended = psp.child.wait().unwrap();
    assert_eq!(ended.code(), Some(0), "callers that hang do not hold it");
    let mut answer = Vec::new();
    // Cut or closed: either way there is no answer.
    let _ = hanging.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}
