//! Scripts that read like transcripts: what came of each step, and what the saga does next.
//!
//! Each file of `golden/` is played and must come out as it stands. Lines:
//!
//! - `# …` is for the reader
//! - `> …` is what came of the step before; `> begin`, `> another attempt` and `> cancel` start one,
//!   `> owner dies` drops what was not saved and lets another owner go on
//! - `= …` is the next step; `save,` before it where the journal is saved first, `pause,` where the driver
//!   waits a little
//!
//! With `UPDATE_GOLDEN=1` the answers are written anew; read the difference before believing it.

use std::{fs, path::Path};

use client::ClaimStatus;

use super::super::{
    journal::{FORMAT, Journal, Refunded, Request, decode, encode},
    terms::{Doubt, PaymentState},
};
use super::*;
use crate::orders::Granted;

/// A journal as it is when a checkout begins.
pub(in crate::checkout) fn begun(attempt: u32, closed_version: u64) -> Journal {
    Journal {
        format: FORMAT,
        claim_id: "c_1".into(),
        sale_id: "drop".into(),
        user: "ada".into(),
        quantity: 1,
        amount_minor: 12_900,
        currency: "EUR".into(),
        attempt,
        key: format!("key-{attempt}"),
        request: Request {
            payment_method: "pm_card".into(),
            return_url: None,
        },
        closed_version,
        claim_token: 7,
        extended: false,
        hold_until_ms: 180_000,
        receipt: Granted::default(),
        rank: 1,
        stage: Stage::Begin,
        ending: None,
        payment_id: None,
        next_action_url: None,
        authorized: false,
        captured: false,
        undo_number: 0,
        refund: None,
        began_ms: 1_000,
        began_wall_ms: 1_700_000_000_000,
        wake_ms: 0,
        looked_ms: 0,
        looks: 0,
        doubt: Doubt::Nothing,
        refusal: None,
        vain: 0,
    }
}

struct Play {
    journal: Journal,
    saved: Vec<u8>,
    /// As of the step before.
    vain: u32,
}

fn refusal(code: &str) -> Refusal {
    Refusal {
        code: code.into(),
        decline_code: None,
        message: "said the provider".into(),
    }
}

fn status(word: &str) -> ClaimStatus {
    match word {
        "held" => ClaimStatus::Held,
        "confirmed" => ClaimStatus::Confirmed,
        "released" => ClaimStatus::Released,
        "expired" => ClaimStatus::Expired,
        "cancelled" => ClaimStatus::Cancelled,
        word => panic!("{word} is no status of a claim"),
    }
}

fn outcome(words: &[&str]) -> Outcome {
    match words {
        ["turn", "ordered"] => Outcome::Turn {
            closed_version: 0,
            ordered: true,
        },
        ["turn", version] => Outcome::Turn {
            closed_version: version.parse().unwrap(),
            ordered: false,
        },
        ["extended"] => Outcome::Extended {
            claim_token: 12,
            hold_until_ms: 240_000,
        },
        ["settled"] => Outcome::Settled,
        ["claim", word] => Outcome::Claim(status(word)),
        ["stale", "token"] => Outcome::StaleToken,
        ["created", id] => Outcome::Created {
            payment_id: (*id).into(),
        },
        ["unconfirmed"] => Outcome::Payment(PaymentState::Unconfirmed),
        ["action", "required"] => Outcome::Payment(PaymentState::ActionRequired {
            url: Some("https://bank.example/3ds".into()),
        }),
        ["processing"] => Outcome::Payment(PaymentState::Processing),
        ["authorized"] => Outcome::Payment(PaymentState::Authorized),
        ["captured"] => Outcome::Payment(PaymentState::Captured { refunded: false }),
        ["captured", "refunded"] => Outcome::Payment(PaymentState::Captured { refunded: true }),
        ["declined"] => Outcome::Payment(PaymentState::Declined(refusal("card_declined"))),
        ["canceled"] => Outcome::Payment(PaymentState::Canceled),
        ["mismatch"] => Outcome::Mismatch(refusal("amount_differs")),
        ["refused"] => Outcome::Refused(refusal("unexpected_state")),
        ["refunded"] => Outcome::Refunded(Refunded {
            refund_id: "re_1".into(),
            amount_minor: 12_900,
        }),
        ["ordered"] => Outcome::Ordered(None),
        ["written"] => Outcome::Written,
        ["not", "now"] => Outcome::NotNow { retry_after_ms: 500 },
        ["stuck"] => Outcome::Stuck,
        ["unknown"] => Outcome::Unknown,
        words => panic!("{words:?} is no outcome"),
    }
}

impl Play {
    fn play(&mut self, words: &[&str]) {
        match words {
            ["begin"] => *self = Play::of(begun(1, 0)),
            ["another", "attempt"] => {
                *self = Play::of(Journal {
                    extended: true,
                    claim_token: 12,
                    ..begun(2, 99)
                });
            }
            ["cancel"] => {
                *self = Play::of(Journal {
                    stage: Stage::OrderRefund,
                    extended: true,
                    payment_id: Some("pi_1".into()),
                    ..begun(1, 0)
                });
            }
            ["owner", "dies"] => {
                self.journal = decode("journal", &self.saved).unwrap();
                take_over(&mut self.journal);
            }
            words => record(&mut self.journal, outcome(words)),
        }
    }

    fn of(journal: Journal) -> Play {
        let saved = encode(&journal);
        Play {
            journal,
            saved,
            vain: 0,
        }
    }

    fn next(&mut self) -> String {
        let step = next(&self.journal);
        let (guarded, name) = match step {
            Step::Do(effect) => (effect.is_guarded(), format!("{effect:?}")),
            Step::Park => (true, "Park".to_owned()),
            Step::Finish => (true, "Finish".to_owned()),
        };
        let mut line = String::from("=");
        if self.journal.vain > self.vain {
            line += " pause,";
        }
        self.vain = self.journal.vain;
        if guarded && encode(&self.journal) != self.saved {
            self.saved = encode(&self.journal);
            line += " save,";
        }
        line += &spaced(&name);
        match &self.journal.ending {
            Some(ending) if step == Step::Finish => line + ": " + ending.name(),
            _ => line,
        }
    }
}

/// `RecordPaid` as ` record paid`.
fn spaced(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            text.push(' ');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

fn played(script: &str) -> String {
    let mut stage = Play::of(begun(1, 0));
    let mut out = String::new();
    for line in script.lines() {
        match line.split_once(' ') {
            Some((">", words)) => {
                stage.play(&words.split(' ').collect::<Vec<_>>());
                out += &format!("{line}\n{}\n", stage.next());
            }
            Some(("=", _)) => {}
            _ => out += &format!("{line}\n"),
        }
    }
    out
}

#[test]
fn scripts_come_out_as_they_stand() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/checkout/golden");
    let mut scripts = 0;
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        let script = fs::read_to_string(&path).unwrap();
        let out = played(&script);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &out).unwrap();
        } else {
            assert_eq!(out, script, "{}", path.display());
        }
        scripts += 1;
    }
    assert!(scripts >= 8, "the scripts are there: {scripts}");
}
