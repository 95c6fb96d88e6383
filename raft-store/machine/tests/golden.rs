//! Scripts that read like transcripts: what was said to the machine, and what it answered.
//!
//! Each file of `tests/golden` is played and must come out as it stands. Lines:
//!
//! - `# …` is for the reader
//! - `at 10s` sets log time, `wall 10s` wall time, from the next entry on
//! - `> …` is a command; consecutive ones are one entry; `> + …` follows the one before it; a bare `>` is an entry without commands
//! - `= …` is the reply to each command, in order; `* …` is what happened, in order
//! - `? sale` asks how a sale stands
//!
//! With `UPDATE_GOLDEN=1` the answers are written anew; read the difference before believing it.

mod common;

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use common::{FOUND, SECRET, apply, bytes_of, events};
use inventory_machine::{
    Machine,
    command::*,
    hash::{key_hash, user_hash},
    reply::*,
};

/// Every name that stands for a sale in a script.
const SALES: [&str; 2] = ["launch", "encore"];

struct Stage {
    machine: Machine,
    names: BTreeMap<u128, String>,
    log_time_ms: u64,
    wall_time_ms: u64,
    keys: u32,
}

/// The words of a command line: plain ones, then `name=value` ones.
struct Words<'a> {
    plain: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Words<'a> {
        let (named, plain): (Vec<_>, Vec<_>) = line.split_whitespace().partition(|word| word.contains('='));
        let named = named
            .into_iter()
            .filter_map(|word| word.split_once('='))
            .collect();
        Words { plain, named }
    }

    fn number(&self, name: &str, default: u64) -> u64 {
        self.named
            .get(name)
            .map_or(default, |word| word.parse().expect(name))
    }

    fn span(&self, name: &str, default: u64) -> u64 {
        self.named.get(name).map_or(default, |word| millis(word))
    }
}

/// `3s`, `250ms` or `24h` in milliseconds.
fn millis(word: &str) -> u64 {
    let split = word.find(|c: char| !c.is_ascii_digit()).expect("a unit of time");
    let number: u64 = word[..split].parse().expect("a number");
    number
        * match &word[split..] {
            "ms" => 1,
            "s" => 1_000,
            "h" => 3_600_000,
            unit => panic!("{unit} is no unit of time"),
        }
}

fn time(millis: u64) -> String {
    if millis.is_multiple_of(1_000) {
        format!("{}s", millis / 1_000)
    } else {
        format!("{millis}ms")
    }
}

fn word(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

impl Stage {
    fn new() -> Stage {
        let mut machine = Machine::default();
        let found = Command {
            follows: false,
            principal: 1,
            key: 1,
            not_after_ms: 0,
            body: FOUND,
        };
        apply(&mut machine, 1, &bytes_of(&[], &[found], 0, 0));
        Stage {
            machine,
            names: BTreeMap::new(),
            log_time_ms: 0,
            wall_time_ms: 0,
            keys: 0,
        }
    }

    fn user(&mut self, name: &str) -> u128 {
        let user = user_hash(SECRET, NAMESPACE_DEFAULT, name.as_bytes());
        self.names.insert(user, name.into());
        user
    }

    fn sale(&self, name: &str) -> u16 {
        SALES
            .iter()
            .position(|sale| *sale == name)
            .unwrap_or_else(|| panic!("{name} is no sale")) as u16
    }

    /// A claim by `sale#rank`.
    fn claim(&self, name: &str) -> (ClaimView, u16) {
        let (sale, rank) = name.split_once('#').expect("sale#rank");
        let number = self
            .machine
            .sale(NAMESPACE_DEFAULT, sale)
            .expect("a sale")
            .sale_number;
        let claims = self.machine.claims(number, rank.parse().expect("a rank"), 1);
        (*claims.first().expect("a claim"), self.sale(sale))
    }

    /// Plays one entry and tells what came of it.
    fn play(&mut self, lines: &[String], out: &mut String) {
        let commands: Vec<Command<'_>> = lines
            .iter()
            .filter(|line| !line.is_empty())
            .map(|line| self.command(line))
            .collect();
        let bytes = bytes_of(&SALES, &commands, self.log_time_ms, self.wall_time_ms);
        let applied = apply(&mut self.machine, 1, &bytes);
        for reply in &applied.replies {
            writeln!(out, "= {}", self.reply(reply)).unwrap();
        }
        for event in events(&self.machine, &applied.events) {
            writeln!(out, "* {}", self.event(&event)).unwrap();
        }
    }

    fn command<'a>(&mut self, line: &'a str) -> Command<'a> {
        let (follows, line) = line.strip_prefix("+ ").map_or((false, line), |line| (true, line));
        let words = Words::of(line);
        self.keys += 1;
        let fresh = format!("key {}", self.keys);
        let key = words.named.get("key").copied().unwrap_or(&fresh);
        let operation = |verb: &str| match verb {
            "claim" => Operation::Claim,
            "decrement" => Operation::Decrement,
            "confirm" => Operation::Confirm,
            "release" => Operation::Release,
            "extend" => Operation::Extend,
            "cancel" => Operation::Cancel,
            "put" | "delete" | "lease" | "check" => Operation::Document,
            _ => Operation::Sale,
        };
        let verb = words.plain[0];
        let subject = words.plain[1];
        let scoped = |sale: &str, verb: &str, key: &str| {
            key_hash(
                SECRET,
                NAMESPACE_DEFAULT,
                sale.as_bytes(),
                1,
                operation(verb),
                key.as_bytes(),
            )
        };
        let (scope, body) = match verb {
            "create" => (subject, self.create(subject, &words)),
            "open" => (
                subject,
                Body::OpenSale {
                    sale: self.sale(subject),
                },
            ),
            "pause" => (
                subject,
                Body::PauseSale {
                    sale: self.sale(subject),
                },
            ),
            "close" => (
                subject,
                Body::CloseSale {
                    sale: self.sale(subject),
                },
            ),
            "restock" => (
                subject,
                Body::Restock {
                    sale: self.sale(subject),
                    units: words.number("units", 0) as u32,
                },
            ),
            "withdraw" => (
                subject,
                Body::Withdraw {
                    sale: self.sale(subject),
                    units: words.number("units", 0) as u32,
                },
            ),
            "claim" | "decrement" => {
                let take = Take {
                    sale: self.sale(subject),
                    user: self.user(words.plain[2]),
                    quantity: words.number("quantity", 1) as u32,
                };
                (
                    subject,
                    if verb == "claim" {
                        Body::Claim(take)
                    } else {
                        Body::Decrement(take)
                    },
                )
            }
            "confirm" | "release" | "extend" | "cancel" => {
                let (claim, _) = self.claim(subject);
                let fencing_token = words.number("token", claim.fencing_token);
                let settle = Settle {
                    claim: claim.claim_id,
                    fencing_token,
                };
                let body = match verb {
                    "confirm" => Body::Confirm(settle),
                    "release" => Body::Release(settle),
                    "extend" => Body::Extend(settle),
                    _ => Body::Cancel(settle),
                };
                (subject.split('#').next().unwrap(), body)
            }
            "resolve" => {
                let asked = words.plain[2];
                let resolve = Resolve {
                    sale: self.sale(subject),
                    operation: operation(asked),
                    key: scoped(subject, asked, key),
                    fence_until_ms: words.span("until", 0),
                };
                (subject, Body::Resolve(resolve))
            }
            "put" => {
                let put = PutDocument {
                    document: subject.as_bytes(),
                    body: words.plain.get(2).map_or(b"", |body| body.as_bytes()),
                    version_expected: self.version(subject, &words),
                    fencing_token: words.number("token", 0),
                    ttl_ms: words.span("ttl", 0),
                };
                ("", Body::PutDocument(put))
            }
            "delete" => {
                let version_expected = self.version(subject, &words);
                (
                    "",
                    Body::DeleteDocument {
                        document: subject.as_bytes(),
                        version_expected,
                    },
                )
            }
            "check" => {
                let version_expected = self.version(subject, &words);
                (
                    "",
                    Body::CheckDocument {
                        document: subject.as_bytes(),
                        version_expected,
                    },
                )
            }
            "lease" => {
                let (fencing_token, lease_ms) = (words.number("token", 0), words.span("for", 0));
                (
                    "",
                    Body::LeaseDocument {
                        document: subject.as_bytes(),
                        fencing_token,
                        lease_ms,
                    },
                )
            }
            _ => panic!("{verb} is no command"),
        };
        let not_after_ms = words.span("by", self.log_time_ms + NOT_AFTER_MS_MAX);
        Command {
            follows,
            principal: 1,
            key: scoped(scope, verb, key),
            not_after_ms,
            body,
        }
    }

    /// `version=7.0` as written in a reply, or the current one.
    fn version(&self, document: &str, words: &Words<'_>) -> u64 {
        match words.named.get("version") {
            Some(version) => {
                let (index, position) = version.split_once('.').expect("index.position");
                index.parse::<u64>().unwrap() << 16 | position.parse::<u64>().unwrap()
            }
            None => self
                .machine
                .document(document.as_bytes())
                .map_or(0, |document| document.version),
        }
    }

    fn create<'a>(&self, sale: &str, words: &Words<'a>) -> Body<'a> {
        Body::CreateSale(CreateSale {
            sale: self.sale(sale),
            name: words.named.get("name").copied().unwrap_or(""),
            units_total: words.number("units", 0) as u32,
            per_user_units_max: words.number("per_user", 1) as u32,
            hold_ms: words.span("hold", HOLD_MS_DEFAULT),
            checkout_max_ms: words.span("checkout", CHECKOUT_MAX_MS_DEFAULT),
            opens_at_ms: words.span("opens", 0),
            closes_at_ms: words.span("closes", 0),
            price_minor: 4_900,
            currency: *b"EUR",
            claims_max: words.number("claims_max", 0) as u32,
        })
    }

    fn show_claim(&self, claim: &ClaimView) -> String {
        let sale = self
            .machine
            .sale_by_number(claim.claim_id.sale_number())
            .expect("a claim's sale");
        let mut text = format!("{}#{} {}", sale.sale_id, claim.rank, self.names[&claim.user]);
        if claim.quantity > 1 {
            write!(text, " quantity={}", claim.quantity).unwrap();
        }
        write!(text, " {}", word(&claim.status)).unwrap();
        if claim.status == ClaimStatus::Held {
            write!(
                text,
                " until={} token={}",
                time(claim.deadline_ms),
                claim.fencing_token
            )
            .unwrap();
        }
        text
    }

    fn show_version(version: u64) -> String {
        format!("{}.{}", version >> 16, version & 0xffff)
    }

    fn reply(&self, reply: &Reply) -> String {
        match reply {
            Reply::Claim { grant, claim } => format!("{}: {}", word(grant), self.show_claim(claim)),
            Reply::Settled(claim) => self.show_claim(claim),
            Reply::Done(receipt) => format!(
                "done at entry {}, position {}",
                receipt.log_index, receipt.position
            ),
            Reply::Document {
                version,
                fencing_token,
                leased_until_ms,
            } => {
                let mut text = format!("version={}", Self::show_version(*version));
                if *fencing_token != 0 {
                    write!(text, " token={fencing_token} until={}", time(*leased_until_ms)).unwrap();
                }
                text
            }
            Reply::Resolved(Resolution::Claim(claim)) => format!("resolved: {}", self.show_claim(claim)),
            Reply::Resolved(Resolution::Effect(receipt)) => {
                format!("resolved: done at entry {}", receipt.log_index)
            }
            Reply::Resolved(Resolution::Abandoned { fenced_until_ms }) => {
                format!("resolved: abandoned, fenced until={}", time(*fenced_until_ms))
            }
            Reply::Rejected(Rejection::VersionMismatch { version }) => {
                format!("refused: version is {}", Self::show_version(*version))
            }
            Reply::Rejected(rejection) => format!("refused: {rejection:?}"),
        }
    }

    fn event(&self, event: &Event) -> String {
        let sale = self
            .machine
            .sale_by_number(event.sale_number)
            .map_or(String::new(), |sale| sale.sale_id);
        match event.kind {
            EventKind::SaleCreated => format!("{sale} created"),
            EventKind::SaleOpened => format!("{sale} opened"),
            EventKind::SalePaused => format!("{sale} paused"),
            EventKind::SaleClosed => format!("{sale} closed"),
            EventKind::SaleRestocked { units } => format!("{sale} has {units} units more"),
            EventKind::SaleWithdrawn { units } => format!("{sale} has {units} units fewer"),
            EventKind::ClaimGranted(claim) => format!("{sale}#{} granted", claim.rank),
            EventKind::ClaimConfirmed(claim) => format!("{sale}#{} confirmed", claim.rank),
            EventKind::ClaimReleased(claim) => format!("{sale}#{} released", claim.rank),
            EventKind::ClaimExpired(claim) => format!("{sale}#{} expired", claim.rank),
            EventKind::ClaimExtended(claim) => format!("{sale}#{} extended", claim.rank),
            EventKind::ClaimCancelled(claim) => format!("{sale}#{} cancelled", claim.rank),
            EventKind::DocumentChanged { version: 0 } => "a document is gone".into(),
            EventKind::DocumentChanged { version } => {
                format!("document at version {}", Self::show_version(version))
            }
        }
    }

    fn ask(&self, sale: &str) -> String {
        match self.machine.sale(NAMESPACE_DEFAULT, sale) {
            None => "unknown".into(),
            Some(sale) => format!(
                "{}: {} available + {} held + {} confirmed = {}",
                word(&sale.status),
                sale.units_available,
                sale.units_held,
                sale.units_confirmed,
                sale.units_total
            ),
        }
    }
}

/// Plays a script; gives it as it should read.
fn play(script: &str) -> String {
    let mut stage = Stage::new();
    let mut out = String::new();
    let mut entry: Vec<String> = Vec::new();
    for line in script.lines().map(str::trim_end).chain([""]) {
        if let Some(command) = line.strip_prefix('>') {
            entry.push(command.trim().into());
            writeln!(out, "{line}").unwrap();
            continue;
        }
        if !entry.is_empty() {
            stage.play(&std::mem::take(&mut entry), &mut out);
        }
        if line.starts_with(['=', '*']) {
            continue;
        }
        writeln!(out, "{line}").unwrap();
        if let Some(at) = line.strip_prefix("at ") {
            stage.log_time_ms = millis(at);
        } else if let Some(at) = line.strip_prefix("wall ") {
            stage.wall_time_ms = millis(at);
        } else if let Some(sale) = line.strip_prefix("? ") {
            writeln!(out, "= {}", stage.ask(sale)).unwrap();
        }
    }
    assert!(stage.machine.recount().are_sound());
    out.trim_end().to_string() + "\n"
}

#[test]
fn scripts_come_out_as_they_stand() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut played = 0;
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    for path in files {
        let script = fs::read_to_string(&path).unwrap();
        let came_out = play(&script);
        played += 1;
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &came_out).unwrap();
            continue;
        }
        for (number, (stands, came)) in script.lines().zip(came_out.lines()).enumerate() {
            assert_eq!(stands, came, "{}:{}", path.display(), number + 1);
        }
        assert_eq!(script, came_out, "{}", path.display());
    }
    assert!(played >= 10, "only {played} scripts were found");
}
