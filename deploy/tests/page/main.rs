//! The page at `/` of the shipped binary, as a browser draws and drives it: on a phone and on a desktop, light and
//! dark, by mouse and by keyboard. Pictures of the last run are in [`PICTURES`]. Where there is no Chromium this
//! says so; what needs none is tested beside the routes.

mod browser;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use browser::Tab;
use client::{Client, NewSale};
use jepsen_tests::processes::NodeProcess;
use serde_json::{Value, json};

/// Where pictures of the last run are.
const PICTURES: &str = env!("CARGO_TARGET_TMPDIR");

/// Units for sale.
const UNITS: u32 = 12;

const PHONE: (u32, u32) = (390, 844);
const DESKTOP: (u32, u32) = (1_440, 900);

/// Most that may move by itself after it was drawn, as Chromium scores it: what it calls good is 0.1.
const MOVED_MAX: f64 = 0.02;

/// Words whose colour is too close to what is behind them (WCAG 2: 4.5, large ones 3).
const FAINT: &str = r#"(() => {
  const channels = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => { const part = (c) => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; return .2126 * part(r) + .7152 * part(g) + .0722 * part(b); };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = channels(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
  const faint = [];
  for (const e of document.querySelectorAll("body *")) {
    const words = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join("");
    const style = getComputedStyle(e), box = e.getBoundingClientRect();
    if (!words || !box.width || box.right < 0 || style.visibility === "hidden" || e.closest("script, style, option, :disabled")) continue;
    const colour = e.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(channels(colour)), light(behind(e))].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24;
    if ((a + .05) / (b + .05) < (large ? 3 : 4.5)) faint.push(`${words}: ${colour} on ${behind(e)}`);
  }
  return faint;
})()"#;

/// What sticks out of the window to the right, or is too small for a finger.
const MISFITS: &str = r#"(() => {
  const wide = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth > wide) found.push(`scrolls sideways: ${document.documentElement.scrollWidth}`);
  for (const e of document.querySelectorAll("main *, header *")) {
    const box = e.getBoundingClientRect();
    if (box.width && !e.closest("svg, .skip") && box.right > wide + 1) found.push(`${e.tagName}#${e.id} ends at ${box.right}`);
  }
  for (const e of document.querySelectorAll("th, td, button")) if (e.scrollWidth > e.clientWidth + 1) found.push(`${e.textContent} does not fit`);
  for (const e of document.querySelectorAll("button, select, input")) {
    const box = e.getBoundingClientRect();
    if (box.width && box.height < 40) found.push(`${e.tagName}#${e.id} is ${box.height} high`);
  }
  return found;
})()"#;

/// A process that does not outlive its test.
struct Door(Child, String);

impl Drop for Door {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Door {
    /// An HTTP door in front of these nodes.
    fn start(dir: &Path, nodes: &str, flags: &[&str]) -> Door {
        let ready = dir.join("door.ready");
        let mut child = Command::new(env!("CARGO_BIN_EXE_holdfast"))
            .args([
                "api",
                "--listen",
                "127.0.0.1:0",
                "--endpoints",
                nodes,
                "--ready-file",
            ])
            .arg(&ready)
            .args(flags)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = loop {
            if let Ok(said) = std::fs::read(&ready) {
                break said;
            }
            assert_eq!(child.try_wait().unwrap(), None, "the door ended");
            std::thread::sleep(Duration::from_millis(10));
        };
        let said: Value = serde_json::from_slice(&said).unwrap();
        Door(child, said["listen"].as_str().unwrap().to_owned())
    }
}

/// A node with a sale.
fn store(dir: &Path) -> (NodeProcess, Client, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_holdfast"));
    let node = NodeProcess::start(binary, dir, 1).expect("a node starts");
    let client = runtime.block_on(async {
        let client = Client::connect([node.endpoint.clone()]).await.unwrap();
        let members = vec![(1, node.endpoint.clone())];
        client.cluster().init(members).await.unwrap();
        let sale = NewSale {
            sale_id: "hot".into(),
            name: "Hot".into(),
            units_total: UNITS,
            open: true,
            ..NewSale::default()
        };
        client.create_sale(sale).key("create").send().await.unwrap();
        // Some are sold and some held, so that there is something to see.
        for number in 0..4 {
            let claim = client
                .claim("hot", format!("user-{number}"))
                .key(format!("k{number}"));
            let claim = claim.send().await.unwrap().claim;
            if number < 2 {
                let confirm = client.confirm(claim.claim_id, claim.fencing_token);
                confirm.key(format!("c{number}")).send().await.unwrap();
            }
        }
        client
    });
    (node, client, runtime)
}

fn chromium() -> Option<PathBuf> {
    let found = browser::find();
    if found.is_none() {
        eprintln!(
            "SKIPPED: no Chromium ({}) in PATH to draw the page with. Install `chromium`, or name one in \
             HOLDFAST_CHROMIUM.",
            browser::NAMES.join(", ")
        );
    }
    found
}

/// That an element says this.
fn says(id: &str, words: &str) -> String {
    format!("document.getElementById('{id}').textContent === '{words}'")
}

#[test]
fn the_page_is_drawn_and_a_unit_is_claimed_by_a_click_and_given_back_by_a_key() {
    let Some(chromium) = chromium() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (node, _client, _runtime) = store(dir.path());
    let door = Door::start(dir.path(), &node.endpoint, &["--dev"]);
    let url = format!("http://{}/", door.1);
    let mut tab = Tab::open(&chromium);

    for (name, size, dark) in [
        ("phone-light", PHONE, false),
        ("phone-dark", PHONE, true),
        ("desktop-light", DESKTOP, false),
        ("desktop-dark", DESKTOP, true),
    ] {
        tab.go(&url, size, dark);
        tab.until(&says("available", "8"));
        tab.until("document.querySelectorAll('#nodes .state.good').length === 1");
        tab.until("document.querySelector('#area-sold').getAttribute('d')?.length > 20");
        tab.picture(&Path::new(PICTURES).join(format!("page-{name}.png")));
        assert_eq!(tab.evaluate(FAINT), json!([]), "{name}");
        assert_eq!(tab.evaluate(MISFITS), json!([]), "{name}");
        let moved = tab.evaluate("window.moved").as_f64().unwrap();
        assert!(moved <= MOVED_MAX, "{name}: the page moved by {moved}");
        let paper = tab.evaluate("getComputedStyle(document.body).backgroundColor");
        assert_eq!(paper == json!("rgb(19, 20, 22)"), dark, "{name}: {paper}");
    }
    assert_eq!(tab.evaluate("document.title"), json!("hot · Holdfast"));
    assert_eq!(
        tab.evaluate("document.querySelector('#nodes .state').textContent"),
        json!("leader")
    );

    // By mouse.
    tab.until("!document.getElementById('claim').disabled");
    tab.click("#claim");
    tab.until(&says("available", "7"));
    tab.until(&says("held", "3"));
    tab.until("/^[0-9]+:[0-9][0-9]$/.test(document.getElementById('claim-left').textContent)");
    tab.until("[...document.querySelectorAll('#events .granted')].length > 0");
    tab.picture(&Path::new(PICTURES).join("page-desktop-dark-claimed.png"));
    assert_eq!(tab.evaluate(FAINT), json!([]));

    // By keyboard: from the button that is focused to the one behind it.
    tab.until("document.activeElement.id === 'pay'");
    tab.press("Tab", 9, "");
    tab.until("document.activeElement.id === 'release'");
    tab.press("Enter", 13, "\r");
    tab.until(&says("available", "8"));
    tab.until("document.activeElement.id === 'claim'");
    tab.press("Enter", 13, "\r");
    tab.until(&says("available", "7"));
    // Without a provider nobody can pay, and the page says so.
    tab.until("!document.getElementById('pay').disabled");
    tab.click("#pay");
    tab.until("/not configured|no payment/i.test(document.getElementById('claim-said').textContent)");

    tab.complaints
        .retain(|complaint| !complaint.contains("/checkout"));
    assert_eq!(tab.complaints, Vec::<String>::new());
}

#[test]
fn without_a_token_the_cluster_is_not_shown() {
    let Some(chromium) = chromium() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (node, _client, _runtime) = store(dir.path());
    let secret = [7u8; 32];
    let file = dir.path().join("secret");
    std::fs::write(&file, "07".repeat(32)).unwrap();
    let door = Door::start(
        dir.path(),
        &node.endpoint,
        &["--hs256-secret-file", file.to_str().unwrap()],
    );
    let url = format!("http://{}/", door.1);
    let mut tab = Tab::open(&chromium);
    tab.go(&url, DESKTOP, false);
    tab.until(&says("available", "8"));
    let shown =
        |tab: &mut Tab| tab.evaluate("document.querySelector('.nodes').getBoundingClientRect().height > 0");
    assert_eq!(shown(&mut tab), json!(false));
    assert_eq!(
        tab.evaluate("document.querySelector('.claim').getBoundingClientRect().height"),
        json!(0)
    );

    let sign_in = |tab: &mut Tab, role| {
        let now_s = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let token = api::mint_hs256(&secret, "somebody", role, now_s + 600);
        tab.evaluate(&format!("document.getElementById('token').value = '{token}'"));
        tab.click("#sign button");
    };
    sign_in(&mut tab, api::Role::Shopper);
    tab.until("document.getElementById('sign-said').textContent.includes('shopper')");
    assert_eq!(shown(&mut tab), json!(false));
    sign_in(&mut tab, api::Role::Auditor);
    tab.until("document.querySelectorAll('#nodes .state.good').length === 1");
    assert_eq!(shown(&mut tab), json!(true));
    assert_eq!(tab.evaluate(FAINT), json!([]));
}
