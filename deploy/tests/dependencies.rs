//! Licences, bans and sources of everything that is linked, as `deny.toml` has them: the same file that
//! `cargo deny` reads, checked here without it, so that no machine without the tool lets something slip in.
//!
//! Advisories are left to `cargo deny`: they need a database.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde::Deserialize;
use spdx::{Expression, LicenseReq, ParseMode};

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Clone, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    spec: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
    allow_registry: Vec<String>,
}

fn deny() -> Deny {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deny.toml");
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn packages() -> Vec<Package> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--manifest-path",
        ])
        .arg(manifest)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    metadata.packages
}

/// What is wrong with these packages, a line each.
fn complaints(deny: &Deny, packages: &[Package]) -> Vec<String> {
    let exceptions: BTreeMap<&str, &[String]> = deny
        .licenses
        .exceptions
        .iter()
        .map(|exception| (exception.name.as_str(), exception.allow.as_slice()))
        .collect();
    let mut complaints = Vec::new();
    for package in packages {
        // Ours.
        let Some(source) = &package.source else { continue };
        let mut wrong =
            |what: String| complaints.push(format!("{} {}: {what}", package.name, package.version));
        let expression = package
            .license
            .as_deref()
            .map(|text| Expression::parse_mode(text, ParseMode::LAX));
        match expression {
            None => wrong("names no licence".to_owned()),
            Some(Err(error)) => wrong(format!("its licence is none: {error}")),
            Some(Ok(expression)) => {
                let more = exceptions.get(package.name.as_str()).copied().unwrap_or_default();
                let allowed: Vec<&String> = deny.licenses.allow.iter().chain(more).collect();
                if !expression.evaluate(|wanted| allowed.iter().any(|one| is_license(wanted, one))) {
                    wrong(format!("{expression} is not among the licences allowed"));
                }
            }
        }
        for banned in &deny.bans.deny {
            if is_banned(&banned.spec, package) {
                wrong(format!("is banned ({})", banned.spec));
            }
        }
        let known = deny
            .sources
            .allow_registry
            .iter()
            .any(|registry| source == &format!("registry+{registry}"));
        if !known {
            wrong(format!("comes from {source}"));
        }
    }
    complaints
}

/// Whether a licence that is asked for is this one. `MPL-2.0+` is met by MPL-2.0.
fn is_license(wanted: &LicenseReq, allowed: &str) -> bool {
    wanted.to_string().trim_end_matches('+') == allowed
}

/// `name` or `name@>=MAJOR.MINOR`.
fn is_banned(spec: &str, package: &Package) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        let core = text.split(['-', '+']).next().unwrap_or_default();
        core.split('.')
            .map(|number| number.parse().expect("a version"))
            .collect()
    };
    match spec.split_once("@>=") {
        None => spec == package.name,
        Some((name, from)) => name == package.name && numbers(&package.version) >= numbers(from),
    }
}

#[test]
fn nothing_is_linked_that_may_not_be() {
    let deny = deny();
    assert_eq!(
        (
            deny.sources.unknown_registry.as_str(),
            deny.sources.unknown_git.as_str()
        ),
        ("deny", "deny")
    );
    let packages = packages();
    let others = packages.iter().filter(|package| package.source.is_some()).count();
    assert!(others > 100, "{others} packages cannot be all");
    let complaints = complaints(&deny, &packages);
    assert!(complaints.is_empty(), "deny.toml:\n{}", complaints.join("\n"));
    // An exception that nobody needs any more is a door left open.
    for exception in &deny.licenses.exceptions {
        assert!(
            packages.iter().any(|package| package.name == exception.name),
            "{} is not linked",
            exception.name
        );
    }
}

#[test]
fn what_may_not_be_is_noticed() {
    let good = Package {
        name: "good".into(),
        version: "1.0.0".into(),
        license: Some("MIT/Apache-2.0".into()),
        source: Some("registry+https://github.com/rust-lang/crates.io-index".into()),
    };
    let named = |name: &str, version: &str| Package {
        name: name.into(),
        version: version.into(),
        ..good.clone()
    };
    let licensed = |license: Option<&str>| Package {
        license: license.map(str::to_owned),
        ..good.clone()
    };
    let from = |source: &str| Package {
        source: Some(source.into()),
        ..good.clone()
    };
    let deny = deny();
    let count = |package: Package| complaints(&deny, &[package]).len();
    for fine in [
        good.clone(),
        licensed(Some("GPL-3.0-only OR MIT")),
        named("sled", "0.34.7"),
    ] {
        assert_eq!(count(fine), 0);
    }
    for wrong in [
        licensed(None),
        licensed(Some("GPL-3.0-only")),
        licensed(Some("MIT AND MPL-2.0")),
        licensed(Some("whatever")),
        named("openssl-sys", "0.9.0"),
        named("sled", "0.35.0"),
        named("sled", "1.0.0-alpha.1"),
        from("git+https://example.org/x#0"),
        from("registry+https://example.org/index"),
    ] {
        assert_eq!(
            count(wrong.clone()),
            1,
            "{} {:?} {:?}",
            wrong.name,
            wrong.license,
            wrong.source
        );
    }
}
