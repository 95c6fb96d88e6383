//! Doors, providers and whatever else of the shipped binary serves at an address.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::binary;

/// Longest it may take until it serves: far above what a busy machine needs.
const READY_MAX: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(5);

/// A process that serves, and does not outlive its test.
pub struct Served {
    pub process: Child,
    /// Where it listens.
    pub address: String,
}

impl Served {
    /// Starts `holdfast COMMAND --listen 127.0.0.1:0 ARGUMENTS`, with files in `dir`.
    pub fn start(dir: &Path, command: &str, arguments: &[&str], stderr: Stdio) -> Served {
        let ready = dir.join(format!("{command}.ready"));
        let mut process = Command::new(binary())
            .args([command, "--listen", "127.0.0.1:0", "--ready-file"])
            .arg(&ready)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("the binary runs");
        let deadline = Instant::now() + READY_MAX;
        while !ready.exists() {
            assert_eq!(process.try_wait().expect("a child"), None, "{command} ended");
            assert!(Instant::now() < deadline, "{command} does not serve");
            std::thread::sleep(READY_POLL);
        }
        let said = std::fs::read(&ready).expect("it was there");
        let said: serde_json::Value = serde_json::from_slice(&said).expect("it is written whole");
        let address = said["listen"].as_str().expect("an address").to_owned();
        Served { process, address }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Gone already, if it cannot be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
