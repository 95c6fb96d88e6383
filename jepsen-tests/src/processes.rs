//! Nodes of the shipped binary, each a process of its own, that can be killed and started again.
//!
//! A node comes back to where it listened before, and while it is down nobody else may have taken that. So each
//! harness has a [`loopback`] address of its own, and gives its ports in turn.

use std::{
    ffi::OsString,
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpSocket;

/// Longest a node may take to serve, in ms; it opens files and a port. Generous: other tests run beside.
const READY_MS_MAX: u64 = 60_000;

/// How often its ready file is looked for, in ms.
const READY_POLL_MS: u64 = 10;

/// Log segments of a tested node, in bytes: short, so that starting zeroes little.
const LOG_SEGMENT_BYTES: u64 = 4 << 20;

/// Bytes of its log that are shown when a node does not serve.
const LOG_TAIL_BYTES: usize = 4_000;

/// Ports that are given, one after the other.
const PORTS: std::ops::Range<u32> = 10_000..65_000;

/// This process's own address on this machine, which no other harness uses, nor any connection as its source:
/// `127.64.0.0/10` and the process id, which has at most 22 bits. Only Linux has all of 127.0.0.0/8.
pub fn loopback() -> Ipv4Addr {
    if cfg!(not(target_os = "linux")) {
        return Ipv4Addr::LOCALHOST;
    }
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 64, 0, 0).to_bits() | (std::process::id() & 0x003f_ffff))
}

/// An address that nobody listens on, and that is not given again before all others were: whoever stops listening
/// there for a while will find it free.
///
/// # Errors
/// None can be listened on.
pub fn free_address() -> io::Result<SocketAddrV4> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let mut last = io::Error::other("there are no ports");
    for _ in PORTS {
        let number = GIVEN.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u32;
        let address = SocketAddrV4::new(loopback(), (PORTS.start + number) as u16);
        // Somebody who listens on every address of the machine has taken it here as well. Bound is enough to see
        // that. Listening would take the address ourselves: a child that another thread starts meanwhile has the
        // socket until it executes its program.
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        match socket.bind(address.into()) {
            Ok(()) => return Ok(address),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// How a node is started, beyond the defaults.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `key=value`, as for `--set`.
    pub set: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(OsString, OsString)>,
}

/// One node.
pub struct NodeProcess {
    binary: PathBuf,
    dir: PathBuf,
    settings: Settings,
    /// Node id.
    pub id: u64,
    /// Where it listens, whenever it runs.
    pub endpoint: String,
    child: Option<Child>,
}

impl NodeProcess {
    /// Starts a node on an empty directory below `dir`.
    ///
    /// # Errors
    /// The process cannot be started, or did not serve in time; the text has the end of its log.
    pub fn start(binary: &Path, dir: &Path, id: u64) -> io::Result<NodeProcess> {
        NodeProcess::start_with(binary, &dir.join(format!("node-{id}")), id, Settings::default())
    }

    /// Starts a node in `dir` itself: its files go to `data`, its log to `log.txt`.
    ///
    /// # Errors
    /// As [`NodeProcess::start`].
    pub fn start_with(binary: &Path, dir: &Path, id: u64, settings: Settings) -> io::Result<NodeProcess> {
        std::fs::create_dir_all(dir)?;
        let mut node = NodeProcess {
            binary: binary.to_path_buf(),
            dir: dir.to_path_buf(),
            settings,
            id,
            endpoint: free_address()?.to_string(),
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

    /// Asks it to stop in good order, and waits until it has.
    ///
    /// # Errors
    /// The system refuses.
    pub fn stop(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            child.wait()?;
        }
        Ok(())
    }

    /// Sends a signal, if it runs.
    ///
    /// # Errors
    /// The system refuses.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        let running = self.exited()?.is_none();
        match self
            .child
            .as_ref()
            .and_then(|child| Pid::from_raw(child.id() as i32))
        {
            Some(pid) if running => Ok(kill_process(pid, signal)?),
            _ => Ok(()),
        }
    }

    /// How it ended, if it did by itself.
    ///
    /// # Errors
    /// The system cannot say.
    pub fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.as_mut().map_or(Ok(None), Child::try_wait)
    }

    /// Whether it was started and has not ended.
    ///
    /// # Errors
    /// The system cannot say.
    pub fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.child.is_some() && self.exited()?.is_none())
    }

    /// The environment of its next starts, beside the harness's own.
    pub fn set_environment(&mut self, environment: Vec<(OsString, OsString)>) {
        self.settings.environment = environment;
    }

    /// The binary of its next starts.
    pub fn set_binary(&mut self, binary: &Path) {
        self.binary = binary.to_path_buf();
    }

    /// Starts it again on what its directory holds, where it listened before.
    ///
    /// # Errors
    /// As [`NodeProcess::start`].
    pub fn launch(&mut self) -> io::Result<()> {
        match self.try_launch()? {
            None => Ok(()),
            Some(log) => Err(io::Error::other(format!(
                "node {} does not serve: {log}",
                self.id
            ))),
        }
    }

    /// Starts it again; a node that ends instead of serving says why: the end of its log.
    ///
    /// # Errors
    /// The process cannot be started, or neither serves nor ends in time.
    pub fn try_launch(&mut self) -> io::Result<Option<String>> {
        let ready = self.dir.join("ready");
        if ready.exists() {
            std::fs::remove_file(&ready)?;
        }
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(&self.binary);
        command
            .args([
                "node",
                "--id",
                &self.id.to_string(),
                "--listen",
                &self.endpoint,
                "--stop-with-stdin",
            ])
            .args(["--set", &format!("node.log_segment_bytes={LOG_SEGMENT_BYTES}")]);
        for setting in &self.settings.set {
            command.args(["--set", setting]);
        }
        let child = command
            .envs(
                self.settings
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .arg("--data-dir")
            .arg(self.dir.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for the test, which then stops its nodes; and should the test be killed, the system
            // wakes a paused one of an orphaned group, so that it sees its stdin closed and stops.
            .process_group(0)
            .spawn()?;
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_millis(READY_MS_MAX);
        while !ready.exists() {
            if self.exited()?.is_some() {
                self.child = None;
                return Ok(Some(self.log_tail()));
            }
            if Instant::now() > deadline {
                let log = self.log_tail();
                return Err(io::Error::other(format!(
                    "node {} neither serves nor ends: {log}",
                    self.id
                )));
            }
            std::thread::sleep(Duration::from_millis(READY_POLL_MS));
        }
        self.endpoint = listen(&std::fs::read_to_string(&ready)?)?;
        Ok(None)
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
    }

    /// Where its log is written.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("log.txt")
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // A test that failed must leave no process behind; one that cannot be killed is gone already.
        let _ = self.kill();
    }
}

/// The address in a ready file: `{"listen":"127.64.9.2:10007",…}`.
fn listen(ready: &str) -> io::Result<String> {
    let after = ready.split_once("\"listen\":\"").map(|(_, after)| after);
    let address = after
        .and_then(|after| after.split_once('"'))
        .map(|(address, _)| address.to_owned());
    address.ok_or_else(|| io::Error::other(format!("a ready file without an address: {ready}")))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn an_address_is_nobody_elses_while_its_node_is_down() {
        let given: BTreeSet<SocketAddrV4> = (0..100).map(|_| free_address().unwrap()).collect();
        assert_eq!(given.len(), 100);
        // What the system gives to others: neither connections nor listeners of theirs are at this address.
        let node = TcpListener::bind(free_address().unwrap()).unwrap();
        let connection = TcpStream::connect(node.local_addr().unwrap()).unwrap();
        let taken = connection.local_addr().unwrap();
        assert!(!cfg!(target_os = "linux") || taken.ip() != loopback(), "{taken}");
        // Who listens already is passed over.
        let next = node.local_addr().unwrap().port() + 1;
        let _squatter = TcpListener::bind((Ipv4Addr::UNSPECIFIED, next));
        assert_ne!(free_address().unwrap().port(), next);
    }

    #[test]
    fn an_address_stays_free_while_processes_are_started() {
        const CHILDREN: usize = 500;
        // Until it executes its program, a child has all sockets of its parent.
        let starting = std::thread::spawn(|| {
            for _ in 0..CHILDREN {
                Command::new("true").status().unwrap();
            }
        });
        while !starting.is_finished() {
            TcpListener::bind(free_address().unwrap()).unwrap();
        }
        starting.join().unwrap();
    }
}
