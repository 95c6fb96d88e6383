//! Reports as a browser draws them: headless Chromium, on a phone and on a desktop, light and dark.
//!
//! Colours of the style sheet are counted in the screenshot and boxes are measured in the page, so an empty page,
//! a plot that is not drawn, or a table that makes a phone scroll sideways turns this red; the checks are tried
//! on an empty page too. The pictures stay in [`PICTURES`] to be looked at. Where there is no Chromium, the
//! document is checked instead, and the test says so.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use jepsen_tests::report;
use serde_json::Value;

use crate::sample::Sample;

/// Where reports and pictures of the last run are.
const PICTURES: &str = env!("CARGO_TARGET_TMPDIR");

/// Longest that Chromium may take for one page, in s; it takes one or two, and other tests run beside.
const BROWSER_S_MAX: u64 = 120;

/// Names that Chromium goes by.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Measures the page in its frame, and writes what it found where `--dump-dom` shows it.
const PROBE: &str = r#"<!DOCTYPE html><body style="margin:0"><iframe src="PAGE" style="width:WIDTHpx;height:HEIGHTpx;border:0"></iframe>
<pre id="found"></pre><script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const boxes = (what) => [...page.querySelectorAll(what)].map(e => { const b = e.getBoundingClientRect(); return [b.width, b.height]; });
  document.getElementById("found").textContent = JSON.stringify({
    wide: root.scrollWidth, high: root.scrollHeight, title: page.title, h1: (page.querySelector("h1") || {}).textContent || "",
    sections: boxes("section"), plots: boxes(".frame > svg"), marks: boxes("svg.mark"),
    outside: [...page.querySelectorAll("body *")].filter(e => !e.closest(".scroll, svg") && e.getBoundingClientRect().right > WIDTH + 1).length,
    focusable: page.querySelectorAll("summary, [tabindex='0']").length,
  });
};
</script>"#;

struct Chromium(PathBuf);

/// One picture.
struct Picture {
    width: u32,
    height: u32,
    colours: HashMap<[u8; 3], u64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Scheme {
    Dark,
    Light,
}

impl Chromium {
    fn find() -> Option<Chromium> {
        if let Some(path) = std::env::var_os("HOLDFAST_CHROMIUM") {
            return Some(Chromium(path.into()));
        }
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .flat_map(|dir| NAMES.map(|name| dir.join(name)))
            .find(|path| path.is_file())
            .map(Chromium)
    }

    fn run(&self, args: &[String], page: &Path) -> String {
        let profile = tempfile::tempdir().unwrap();
        let mut out = tempfile::tempfile().unwrap();
        let child = Command::new(&self.0)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
            ])
            .args(["--force-color-profile=srgb", "--allow-file-access-from-files"])
            .args([
                "--virtual-time-budget=5000",
                "--no-first-run",
                "--disable-dev-shm-usage",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(args)
            .arg(format!("file://{}", page.display()))
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.0.display()));
        wait(child);
        let mut text = String::new();
        std::io::Seek::rewind(&mut out).unwrap();
        std::io::Read::read_to_string(&mut out, &mut text).unwrap();
        text
    }

    /// Draws a page, which is kept beside its picture.
    fn picture(&self, page: &Path, name: &str, (width, height): (u32, u32), scheme: Scheme) -> Picture {
        let file = PathBuf::from(PICTURES).join(format!("{name}.png"));
        let _ = std::fs::remove_file(&file);
        let scheme = if scheme == Scheme::Dark { 0 } else { 1 };
        self.run(
            &[
                format!("--screenshot={}", file.display()),
                format!("--window-size={width},{height}"),
                format!("--blink-settings=preferredColorScheme={scheme}"),
            ],
            page,
        );
        Picture::read(&file)
    }

    /// What a page measures in a frame of this width.
    fn measure(&self, page: &Path, width: u32) -> Value {
        let probe = PROBE
            .replace("PAGE", &format!("file://{}", page.display()))
            .replace("WIDTH", &width.to_string())
            .replace("HEIGHT", "900");
        let file = page.with_extension(format!("probe-{width}.html"));
        std::fs::write(&file, probe).unwrap();
        let dom = self.run(&["--dump-dom".into()], &file);
        let found = dom
            .split_once("<pre id=\"found\">")
            .and_then(|(_, after)| after.split_once("</pre>"))
            .unwrap_or_else(|| panic!("the probe did not run: {dom}"));
        serde_json::from_str(&found.0.replace("&amp;", "&"))
            .unwrap_or_else(|error| panic!("{error}: {}", found.0))
    }
}

/// Waits for the browser, and ends it if it hangs.
fn wait(mut child: Child) {
    let deadline = Instant::now() + Duration::from_secs(BROWSER_S_MAX);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("Chromium did not finish within {BROWSER_S_MAX} s");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Picture {
    fn read(file: &Path) -> Picture {
        let opened = std::fs::File::open(file)
            .unwrap_or_else(|error| panic!("no picture {}: {error}", file.display()));
        let mut reader = png::Decoder::new(std::io::BufReader::new(opened))
            .read_info()
            .unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().expect("a picture fits into memory")];
        let info = reader.next_frame(&mut bytes).unwrap();
        assert_eq!(info.bit_depth, png::BitDepth::Eight);
        let samples = info.color_type.samples();
        let mut colours = HashMap::new();
        for pixel in bytes[..info.buffer_size()].chunks_exact(samples) {
            *colours.entry([pixel[0], pixel[1], pixel[2]]).or_default() += 1;
        }
        Picture {
            width: info.width,
            height: info.height,
            colours,
        }
    }

    /// Pixels of a colour, given as the style sheet writes it.
    fn pixels(&self, colour: &str) -> u64 {
        let byte = |at: usize| u8::from_str_radix(&colour[at..at + 2], 16).unwrap();
        self.colours
            .get(&[byte(1), byte(3), byte(5)])
            .copied()
            .unwrap_or(0)
    }
}

/// What is missing in a picture: colours of the parts that must be there, by the least pixels that they take.
fn missing(picture: &Picture, expected: &[(&str, &str, u64)]) -> Vec<String> {
    let mut missing: Vec<String> = expected
        .iter()
        .filter(|(_, colour, least)| picture.pixels(colour) < *least)
        .map(|(part, colour, least)| {
            format!(
                "{part}: {} pixels of {colour}, not {least}",
                picture.pixels(colour)
            )
        })
        .collect();
    let all = u64::from(picture.width) * u64::from(picture.height);
    if picture.colours.values().max() > Some(&(all * 95 / 100)) {
        missing.push("almost all of it has one colour".into());
    }
    missing
}

/// Parts of a report by the colours of the style sheet's light scheme.
fn light(tone: &'static str) -> Vec<(&'static str, &'static str, u64)> {
    vec![
        ("the verdict", tone, 1_500),
        ("the sold area", "#1d6f78", 3_000),
        ("the held area", "#e0a93b", 1_000),
        ("the rate", "#2f7d5b", 3_000),
        ("faults", "#e4572e", 400),
        ("the latency line", "#35509e", 300),
        ("words", "#1d1c1a", 1_000),
    ]
}

const DARK: &[(&str, &str, u64)] = &[
    ("the verdict", "#4cc38a", 1_500),
    ("the sold area", "#3fa3ad", 3_000),
    ("the paper", "#131416", 50_000),
    ("the latency line", "#92a9f2", 300),
];

fn page(name: &str, html: &str) -> PathBuf {
    let file = PathBuf::from(PICTURES).join(format!("{name}.html"));
    std::fs::write(&file, html).unwrap();
    file
}

fn reports() -> [(&'static str, &'static str, String); 2] {
    let valid = Sample::default();
    let invalid = Sample {
        oversells: 4,
        ..Sample::default()
    };
    [("valid", "#17694a", valid), ("invalid", "#b3261e", invalid)].map(|(name, tone, sample)| {
        let (run, verdicts) = sample.judged();
        assert_eq!(verdicts.overall().word(), name);
        (name, tone, report::html(&run, &verdicts))
    })
}

#[test]
fn a_report_is_drawn() {
    let Some(chromium) = Chromium::find() else {
        eprintln!(
            "SKIPPED the screenshots: no Chromium ({}) in PATH; checked the document instead. Install `chromium`, or \
             name one in HOLDFAST_CHROMIUM.",
            NAMES.join(", ")
        );
        return drawn_in_the_document();
    };
    for (name, tone, html) in reports() {
        let file = page(&format!("report-{name}"), &html);
        for width in [390, 1_280] {
            let found = chromium.measure(&file, width);
            let picture = chromium.picture(
                &file.with_extension(format!("probe-{width}.html")),
                &format!("report-{name}-{width}"),
                (width.max(500), 900),
                Scheme::Light,
            );
            assert!(
                picture.pixels(tone) > 500,
                "{name} at {width}: no verdict on the first screen"
            );
            assert_eq!(found["h1"], name, "{found}");
            assert_eq!(
                found["wide"], width,
                "{name} scrolls sideways at {width}: {found}"
            );
            assert_eq!(found["outside"], 0, "{name} at {width}: {found}");
            let all_seen = |what: &str, least: usize, wide: f64, high: f64| {
                let boxes = found[what].as_array().unwrap();
                assert!(boxes.len() >= least, "{name}: {what}: {found}");
                for one in boxes {
                    let side = |at: usize| one[at].as_f64().unwrap();
                    assert!(
                        side(0) >= wide && side(1) >= high,
                        "{name} at {width}: {what}: {found}"
                    );
                }
            };
            all_seen("sections", 5, 300.0, 100.0);
            all_seen("plots", 3, 250.0, 120.0);
            all_seen("marks", 6, 20.0, 20.0);
            assert!(found["focusable"].as_u64() >= Some(2), "{found}");
        }
        let whole = chromium.picture(
            &file,
            &format!("report-{name}-whole"),
            (1_280, 4_800),
            Scheme::Light,
        );
        assert_eq!(missing(&whole, &light(tone)), Vec::<String>::new(), "{name}");
    }
    let dark = chromium.picture(
        &PathBuf::from(PICTURES).join("report-valid.html"),
        "report-valid-dark",
        (1_280, 4_800),
        Scheme::Dark,
    );
    assert_eq!(missing(&dark, DARK), Vec::<String>::new());

    let empty = page("report-empty", "<!DOCTYPE html><title>empty</title>");
    let empty = chromium.picture(&empty, "report-empty", (1_280, 4_800), Scheme::Light);
    let parts = light("#17694a").len();
    assert_eq!(
        missing(&empty, &light("#17694a")).len(),
        parts + 1,
        "an empty page must fail"
    );
}

/// Without a browser: that every plot of the page has something drawn in it.
fn drawn_in_the_document() {
    for (name, _, html) in reports() {
        let plots: Vec<&str> = html.split("<figure class=\"plot\">").skip(1).collect();
        assert!(plots.len() >= 3, "{name} has {} plots", plots.len());
        for plot in plots {
            let frame = plot.split("<div class=\"frame\">").nth(1).unwrap();
            let drawn = frame
                .split(" d=\"")
                .skip(1)
                .map(|path| path.split('"').next().unwrap().len())
                .max();
            assert!(drawn > Some(500), "{name}: an empty plot: {plot}");
        }
        assert!(html.contains(&format!("<h1>{name}</h1>")));
    }
}

#[test]
fn a_document_without_a_browser_is_checked_too() {
    drawn_in_the_document();
}
