//! Nodes of the shipped binary, each a process of its own on a free port, that can be killed and started again.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Longest a node may take to serve, in ms; it opens files and a port. Generous: other tests run beside.
const READY_MS_MAX: u64 = 60_000;

/// How often its ready file is looked for, in ms.
const READY_POLL_MS: u64 = 10;

/// Log segments of a tested node, in bytes: short, so that starting zeroes little.
const LOG_SEGMENT_BYTES: u64 = 4 << 20;

/// One node.
pub struct NodeProcess {
    binary: PathBuf,
    dir: PathBuf,
    /// Node id.
    pub id: u64,
    /// Where it listens: chosen by the system at the first start, kept afterwards.
    pub endpoint: String,
    child: Option<Child>,
}

impl NodeProcess {
    /// Starts a node on an empty directory below `dir`.
    ///
    /// # Errors
    /// The process cannot be started, or did not serve in time; the text has the end of its log.
    pub fn start(binary: &Path, dir: &Path, id: u64) -> io::Result<NodeProcess> {
        let dir = dir.join(format!("node-{id}"));
        std::fs::create_dir_all(&dir)?;
        let endpoint = "127.0.0.1:0".to_owned();
        let mut node = NodeProcess {
            binary: binary.to_path_buf(),
            dir,
            id,
            endpoint,
            child: None,
        };
        node.launch()?;
        Ok(node)
    }

    /// SIGKILL: no warning, no last words.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts it again on what its directory holds, where it listened before.
    ///
    /// # Errors
    /// As [`NodeProcess::start`].
    pub fn launch(&mut self) -> io::Result<()> {
        let ready = self.dir.join("ready");
        if ready.exists() {
            std::fs::remove_file(&ready)?;
        }
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let child = Command::new(&self.binary)
            .args([
                "node",
                "--id",
                &self.id.to_string(),
                "--listen",
                &self.endpoint,
                "--stop-with-stdin",
            ])
            .args(["--set", &format!("node.log_segment_bytes={LOG_SEGMENT_BYTES}")])
            .arg("--data-dir")
            .arg(self.dir.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_millis(READY_MS_MAX);
        while !ready.exists() {
            let ended = self.child.as_mut().map_or(Ok(None), Child::try_wait)?;
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
                return Err(io::Error::other(format!(
                    "node {} does not serve: {log}",
                    self.id
                )));
            }
            std::thread::sleep(Duration::from_millis(READY_POLL_MS));
        }
        self.endpoint = listen(&std::fs::read_to_string(&ready)?)?;
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log.txt")
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // A test that failed must leave no process behind; one that cannot be killed is gone already.
        let _ = self.kill();
    }
}

/// The address in a ready file: `{"listen":"127.0.0.1:4242",…}`.
fn listen(ready: &str) -> io::Result<String> {
    let after = ready.split_once("\"listen\":\"").map(|(_, after)| after);
    let address = after
        .and_then(|after| after.split_once('"'))
        .map(|(address, _)| address.to_owned());
    address.ok_or_else(|| io::Error::other(format!("a ready file without an address: {ready}")))
}
