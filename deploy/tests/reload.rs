//! SIGHUP at a door of the shipped binary: what may change does, a file that is wrong changes nothing.

mod common;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use common::{endpoints, found, served::Served, start};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Longest a line may take to come: far above what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A door, and what it logs.
struct Door {
    served: Served,
    lines: Receiver<Value>,
}

impl Door {
    fn open(dir: &Path, config: &str, endpoints: &str) -> Door {
        let arguments = ["--endpoints", endpoints, "--dev", "--config", config];
        let mut served = Served::start(dir, "api", &arguments, Stdio::piped());
        let stderr = BufReader::new(served.process.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // Nobody listens once the test has ended.
                let _ = sender.send(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        Door { served, lines }
    }

    /// Sends SIGHUP, and waits for a line with this message.
    fn reread(&self, message: &str) -> Value {
        let pid = Pid::from_child(&self.served.process);
        kill_process(pid, Signal::HUP).unwrap();
        loop {
            let line = self
                .lines
                .recv_timeout(PATIENCE)
                .expect("it says what became of it");
            if line["message"]
                .as_str()
                .is_some_and(|text| text.contains(message))
            {
                return line;
            }
        }
    }

    /// The limit that a fresh user is told of.
    async fn limit(&self, user: &str) -> String {
        api::payment::use_ring();
        let http = reqwest::Client::new();
        let token = http
            .post(format!("http://{}/dev/token", self.served.address))
            .json(&json!({ "sub": user }));
        let token: Value = token.send().await.unwrap().json().await.unwrap();
        let claim = http
            .post(format!("http://{}/v1/sales/hot/claims", self.served.address))
            .bearer_auth(token["token"].as_str().unwrap())
            .header("idempotency-key", user)
            .json(&json!({}));
        let answer = claim.send().await.unwrap();
        answer.headers()["x-ratelimit-limit"].to_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_change_changes_at_sighup_and_a_wrong_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = start(dir.path(), 1);
    let _client = found(&nodes, 10).await;
    let config = dir.path().join("api.toml");
    let write = |filter: &str, claims: u32, rest: &str| {
        let text = format!(
            "[log]\nformat = \"json\"\nfilter = \"{filter}\"\n[api]\nclaims_per_user_minute = {claims}\n{rest}"
        );
        std::fs::write(&config, text).unwrap();
    };
    write("info", 7, "");
    let door = Door::open(dir.path(), config.to_str().unwrap(), &endpoints(&nodes));
    assert_eq!(door.limit("ada").await, "7");

    write("info", 3, "");
    let said = door.reread("a setting changed");
    assert_eq!(
        (&said["key"], &said["value"]),
        (&json!("api.claims_per_user_minute"), &json!("3"))
    );
    assert_eq!(door.limit("bob").await, "3");

    // What takes a restart is named, and is as it was.
    write("info", 3, "listen = \"127.0.0.1:1\"\nrate_users_max = 5\n");
    let said = door.reread("it takes a restart");
    assert_eq!(
        said["key"], "api.rate_users_max",
        "a flag is above the file: {said}"
    );

    // Wrong in any way: nothing of it counts.
    for (filter, claims, rest, why) in [
        ("info", 0, "", "nobody could ever claim"),
        ("info", 9, "claims_per_user_minut = 1\n", "claims_per_user_minut"),
        ("info,=", 9, "", "log.filter"),
    ] {
        write(filter, claims, rest);
        let said = door.reread("nothing changed");
        assert!(said["failure"].as_str().unwrap().contains(why), "{said}");
    }
    assert_eq!(door.limit("carol").await, "3");

    // Louder: the same line is logged at a level that was not before.
    write("debug", 3, "");
    door.reread("a setting changed");
    let claimed = door.limit("dave").await;
    assert_eq!(claimed, "3");
    let loud = std::iter::from_fn(|| door.lines.recv_timeout(PATIENCE).ok());
    assert!(loud.into_iter().any(|line| line["level"] == "DEBUG"));
}
