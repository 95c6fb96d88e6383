//! What a report says, without a browser.

use std::path::Path;

use jepsen_tests::{
    properties::{Finding, Observations, Run, Verdict},
    report::{self, Overall},
};

use crate::sample::Sample;

/// Bytes of a report, at most, however many operations: a browser on a phone opens it at once.
const REPORT_BYTES_MAX: usize = 600_000;

#[test]
fn a_hostile_name_is_text() {
    let hostile = r#"</code><script>alert(1)</script>"'><img src=x onerror=alert(2)>&amp;"#;
    let sample = Sample {
        operations: 2_000,
        units: 200,
        oversells: 5,
        prefix: hostile.into(),
        ..Sample::default()
    };
    let (run, mut verdicts) = sample.judged();
    verdicts.run = hostile.into();
    verdicts.replay = hostile.into();
    verdicts.broken = Some(hostile.into());
    verdicts.coverage[0].name = hostile.into();
    verdicts.findings.push(Finding {
        property: hostile.into(),
        verdict: Verdict::Invalid,
        summary: hostile.into(),
        operations: vec![1_990],
    });
    let html = report::html(&run, &verdicts);
    assert!(html.contains("&lt;script&gt;alert(1)"), "the name is shown");
    for markup in ["<script", "<img", "\"'>"] {
        assert!(!html.contains(markup), "{markup} got into the page");
    }
}

#[test]
fn nothing_comes_from_elsewhere() {
    let (run, verdicts) = Sample::default().judged();
    let html = report::html(&run, &verdicts);
    for outside in ["http:", "https:", "src=", "@import", "url(", "<script", "<iframe"] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn a_violation_is_shown_with_its_operations() {
    let (run, verdicts) = Sample {
        oversells: 3,
        ..Sample::default()
    }
    .judged();
    assert_eq!(verdicts.overall(), Overall::Invalid);
    let html = report::html(&run, &verdicts);
    let violated = verdicts
        .findings
        .iter()
        .find(|finding| finding.verdict == Verdict::Invalid && !finding.operations.is_empty())
        .expect("the properties see an oversell");
    for id in violated.operations.iter().take(3) {
        assert!(html.contains(&format!("▶ {id}")), "operation {id} is marked");
    }
    for part in [
        "What went wrong",
        "Promised: ",
        "More units taken than there are",
        "--seed 7",
    ] {
        assert!(html.contains(part), "{part}");
    }
}

#[test]
fn the_four_verdicts_differ_in_word_and_shape() {
    let (run, valid) = Sample {
        operations: 500,
        ..Sample::default()
    }
    .judged();
    let with = |verdict, broken: Option<&str>| {
        let mut verdicts = valid.clone();
        verdicts.findings[0].verdict = verdict;
        verdicts.broken = broken.map(Into::into);
        let html = report::html(&run, &verdicts);
        let header = &html[html.find("<header").unwrap()..html.find("</header>").unwrap()];
        let word = &header[header.find("<h1>").unwrap()..header.find("</h1>").unwrap()];
        let shape = &header[header.find(" d=\"").unwrap()..header.find("></path>").unwrap()];
        (word.to_owned(), shape.to_owned())
    };
    let shown = [
        with(Verdict::Valid, None),
        with(Verdict::Invalid, None),
        with(Verdict::Unknown, None),
        with(Verdict::Valid, Some("a node did not start")),
    ];
    for (at, one) in shown.iter().enumerate() {
        for other in &shown[..at] {
            assert!(one.0 != other.0 && one.1 != other.1, "{one:?} {other:?}");
        }
    }
}

#[test]
fn a_long_history_makes_no_larger_report() {
    let sample = Sample {
        operations: 200_000,
        length_ms: 300_000,
        units: 30_000,
        read_percent: 70,
        oversells: 2,
        ..Sample::default()
    };
    let run = sample.run();
    let (_, mut verdicts) = Sample {
        operations: 500,
        ..sample
    }
    .judged();
    verdicts.findings.push(Finding {
        property: "no-oversell".into(),
        verdict: Verdict::Invalid,
        summary: "a finding that names everything".into(),
        operations: (0..200_000).collect(),
    });
    let bytes = report::html(&run, &verdicts).len();
    println!("{bytes} bytes");
    assert!(bytes < REPORT_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn an_empty_run_is_still_a_report() {
    let history = jepsen_tests::history::History {
        header: jepsen_tests::history::Header::one(100, [("hot", 5)]),
        names: Default::default(),
        events: Vec::new(),
    };
    let (_, mut verdicts) = Sample {
        operations: 100,
        ..Sample::default()
    }
    .judged();
    verdicts.findings.clear();
    assert_eq!(verdicts.overall(), Overall::Broken);
    let html = report::html(&Run::new(history, Observations::default()), &verdicts);
    assert!(html.contains("This run proves nothing") && html.contains("Nothing was checked"));
}

#[test]
fn a_run_is_read_back_from_its_directory() {
    let (run, verdicts) = Sample {
        operations: 1_000,
        ..Sample::default()
    }
    .judged();
    // It stays, to try the command on.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-run");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let Err(error) = report::read(&dir) else {
        panic!("an empty directory is no run");
    };
    assert!(error.to_string().contains("history.jsonl.zst"), "{error}");
    run.history.write_file(&dir.join("history.jsonl.zst")).unwrap();
    let Err(error) = report::read(&dir) else {
        panic!("a run without verdicts is none");
    };
    assert!(error.to_string().contains("verdicts.json"), "{error}");
    let page = report::write(&dir, &run, &verdicts).unwrap();
    let (run, verdicts) = report::read(&dir).unwrap();
    assert!(
        report::html(&run, &verdicts) == std::fs::read_to_string(page).unwrap(),
        "the report of what was read differs from the one of what was written"
    );
}
