//! Headless Chromium, driven over its own protocol through a pipe: one JSON document a message, ended by a zero.
//!
//! A driver crate brings the whole protocol as generated code, minutes of compiling for the dozen calls made here.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Names that Chromium goes by.
pub const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Longest that Chromium may take for all that one test asks, in s; other tests run beside it.
const BROWSER_S_MAX: u64 = 240;

/// Longest that something may take to be seen in the page, in s: it takes a second or two.
const UNTIL_S_MAX: u64 = 40;

/// How often a condition is looked at in the page, in ms.
const LOOK_MS: u64 = 50;

/// Chromium, if there is one.
pub fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("HOLDFAST_CHROMIUM") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|dir| NAMES.map(|name| dir.join(name)))
        .find(|path| path.is_file())
}

/// One tab.
pub struct Tab {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    session: Option<String>,
    last_id: u64,
    /// What the page complained of: errors, and what its policy forbade.
    pub complaints: Vec<String>,
    _profile: TempDir,
    _alive: mpsc::Sender<()>,
}

impl Drop for Tab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tab {
    /// Starts Chromium with one empty tab.
    pub fn open(chromium: &Path) -> Tab {
        let profile = tempfile::tempdir().unwrap();
        // Its pipe is at descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#])
            .arg(chromium)
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
            ])
            .args([
                "--hide-scrollbars",
                "--force-color-profile=srgb",
                "--no-first-run",
            ])
            .args(["--disable-dev-shm-usage", "--disable-background-networking"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", chromium.display()));
        let (alive, over) = mpsc::channel::<()>();
        let pid = rustix::process::Pid::from_child(&child);
        // A browser that hangs must not hang the test: without it, reading its answers ends.
        std::thread::spawn(move || {
            if over.recv_timeout(Duration::from_secs(BROWSER_S_MAX)) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        });
        let mut tab = Tab {
            commands: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
            session: None,
            last_id: 0,
            complaints: Vec::new(),
            _profile: profile,
            _alive: alive,
        };
        let target = tab.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = tab.call("Target.attachToTarget", attach);
        tab.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            tab.call(&format!("{domain}.enable"), json!({}));
        }
        // What moves after it was drawn, without anybody having touched the page.
        let watch = "window.moved = 0; new PerformanceObserver((list) => { for (const shift of list.getEntries()) \
                     if (!shift.hadRecentInput) window.moved += shift.value; }).observe({type: 'layout-shift', buffered: true});";
        tab.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": watch}));
        tab
    }

    /// One call of the protocol; what comes in between is looked at for complaints.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).expect("Chromium listens");
        loop {
            let mut bytes = Vec::new();
            self.answers.read_until(0, &mut bytes).expect("Chromium speaks");
            assert_eq!(bytes.pop(), Some(0), "Chromium ended during {method}");
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            if answer["id"] == json!(self.last_id) {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            match answer["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.complaints.push(answer["params"].to_string()),
                Some("Log.entryAdded") if answer["params"]["entry"]["level"] == "error" => {
                    self.complaints.push(answer["params"]["entry"].to_string());
                }
                _ => {}
            }
        }
    }

    /// What an expression is in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true in the page.
    pub fn until(&mut self, expression: &str) {
        let deadline = Instant::now() + Duration::from_secs(UNTIL_S_MAX);
        while self.evaluate(expression) != json!(true) {
            if Instant::now() > deadline {
                let page = self.evaluate("document.body.innerText");
                panic!("never: {expression}\n{page}\n{:?}", self.complaints);
            }
            std::thread::sleep(Duration::from_millis(LOOK_MS));
        }
    }

    /// Goes to an address, as a phone or a desktop, in the dark or not.
    pub fn go(&mut self, url: &str, (width, height): (u32, u32), dark: bool) {
        let mobile = width < 600;
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}),
        );
        let scheme = if dark { "dark" } else { "light" };
        self.call(
            "Emulation.setEmulatedMedia",
            json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
        self.call("Page.navigate", json!({"url": url}));
        self.until(&format!(
            "document.readyState === 'complete' && location.href === '{url}'"
        ));
    }

    /// Clicks where the middle of an element is, as a finger or a mouse would.
    pub fn click(&mut self, selector: &str) {
        let middle = self.evaluate(&format!(
            "(() => {{ const e = document.querySelector('{selector}'); e.scrollIntoView({{block: 'center'}}); \
             const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({"type": kind, "x": middle[0], "y": middle[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str, code: u32, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// A picture of the whole page.
    pub fn picture(&mut self, file: &Path) {
        let answer = self.call(
            "Page.captureScreenshot",
            json!({"format": "png", "captureBeyondViewport": true}),
        );
        let bytes = STANDARD.decode(answer["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
}
