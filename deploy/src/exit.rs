//! How a command ends: the one place that maps errors to exit codes.
//!
//! Scripts and unit files act on these numbers, so they never change their meaning. Clap's own usage
//! errors end with 2 as well.

use std::process::ExitCode;

use client::{Client, Error, Reason, Rejected};
use serde_json::json;

use crate::output::Format;

/// Why a command did not succeed. The message names the value and says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command was understood and failed, or the store refused it.
    #[error("{0}")]
    Failed(String),
    /// The command line or the configuration is wrong; nothing was tried.
    #[error("{0}")]
    Usage(String),
    /// No node answered.
    #[error("{0}")]
    Unreachable(String),
    /// Nodes answer, but no majority of them leads.
    #[error("{0}")]
    NoQuorum(String),
    /// A check that protects the cluster or the data said no; nothing changed.
    #[error("{0}")]
    Refused(String),
    /// What was observed contradicts what the store promises.
    #[error("{0}")]
    Violated(String),
}

impl Failure {
    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
            Failure::NoQuorum(_) => 4,
            Failure::Refused(_) => 5,
            Failure::Violated(_) => 6,
        }
    }

    /// A stable word for the code, as in the JSON error.
    pub fn word(&self) -> &'static str {
        match self {
            Failure::Failed(_) => "failed",
            Failure::Usage(_) => "usage",
            Failure::Unreachable(_) => "unreachable",
            Failure::NoQuorum(_) => "no-quorum",
            Failure::Refused(_) => "refused",
            Failure::Violated(_) => "violated",
        }
    }

    /// Tells the user, once, and gives the exit code.
    pub fn report(&self, format: Format) -> ExitCode {
        match format {
            Format::Table => eprintln!("error: {self}"),
            Format::Json => {
                let body =
                    json!({"error": {"code": self.code(), "kind": self.word(), "message": self.to_string()}});
                eprintln!("{body}");
            }
        }
        ExitCode::from(self.code())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Failed(error.to_string())
    }
}

/// What a call was about, so that its failure can name it.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// What was tried, as in `create sale \`hot\``.
    pub what: String,
    /// The idempotency key it carried.
    pub key: Option<String>,
    /// The call guards the cluster itself: a refusal of it is a safety check.
    pub guarded: bool,
}

/// What to do when nobody answers. A node that speaks TLS looks like one that is not there to who does not.
pub const UNANSWERED: &str = "start one there, name others with --endpoints, or show a certificate that they take \
                              (--certificate) if they speak TLS";

impl Subject {
    /// A call that changes nothing.
    pub fn read(what: impl Into<String>) -> Self {
        Subject {
            what: what.into(),
            ..Subject::default()
        }
    }

    /// A call with an idempotency key.
    pub fn write(what: impl Into<String>, key: &str) -> Self {
        Subject {
            what: what.into(),
            key: Some(key.to_owned()),
            guarded: false,
        }
    }

    /// A change to the cluster's members.
    pub fn membership(what: impl Into<String>) -> Self {
        Subject {
            what: what.into(),
            key: None,
            guarded: true,
        }
    }

    /// Turns the client's error into the command's, asking the nodes who is there when it matters.
    pub async fn failed(self, error: Error, client: &Client, endpoints: &[String]) -> Failure {
        let Error::Unavailable { .. } = &error else {
            return self.classify(error, Reach::default());
        };
        let reach = Reach::of(client, endpoints).await;
        self.classify(error, reach)
    }

    /// [`Subject::failed`] without the asking.
    pub fn classify(&self, error: Error, reach: Reach) -> Failure {
        let what = &self.what;
        match error {
            Error::Rejected(rejected) => {
                let message = format!("{what}: {}", refusal(&rejected));
                if self.guarded {
                    Failure::Refused(message)
                } else {
                    Failure::Failed(message)
                }
            }
            Error::Unavailable { message, .. } if reach.answered == 0 => Failure::Unreachable(format!(
                "{what}: no node answers at {} ({message}); {UNANSWERED}",
                reach.asked.join(", "),
            )),
            Error::Unavailable { message, .. } if !reach.led => Failure::NoQuorum(format!(
                "{what}: {} of {} nodes answer, but none leads ({message}); nothing changed: bring a majority of \
                 the voters back, or run `holdfast cluster init` if this cluster is new",
                reach.answered,
                reach.asked.len(),
            )),
            Error::Unavailable { message, .. } => Failure::Failed(format!(
                "{what}: {message}; nothing changed, and it is safe to try again"
            )),
            Error::Unknown { message, .. } => Failure::Failed(match &self.key {
                Some(key) => format!(
                    "{what}: the outcome is not known ({message}); run the same command again with --key {key}: \
                     it takes effect at most once"
                ),
                None => format!(
                    "{what}: the outcome is not known ({message}); look, then run it again: it is repeatable"
                ),
            }),
        }
    }
}

/// Who answered when a call could not be made.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Endpoints asked.
    pub asked: Vec<String>,
    /// How many answered.
    pub answered: usize,
    /// Whether one of them knows a leader that answers.
    pub led: bool,
}

impl Reach {
    /// Asks every endpoint given and every member those know.
    async fn of(client: &Client, endpoints: &[String]) -> Reach {
        let views = client.cluster().status_all().await;
        let mut asked: Vec<String> = endpoints.to_vec();
        asked.extend(views.iter().map(|(endpoint, _)| endpoint.clone()));
        asked.sort();
        asked.dedup();
        let answers: Vec<_> = views
            .iter()
            .filter_map(|(_, status)| status.as_ref().ok())
            .collect();
        Reach {
            asked,
            answered: answers.len(),
            led: answers.iter().any(|status| status.role == "leader"),
        }
    }
}

/// A refusal in words, with what to do next.
pub fn refusal(rejected: &Rejected) -> String {
    let said = rejected.message.trim_end_matches('.');
    let (words, advice) = match rejected.reason {
        Reason::SoldOut if rejected.until_ms > 0 => (
            "sold out",
            "holds are outstanding and may return units: try again later",
        ),
        Reason::SoldOut => (
            "sold out",
            "no hold is outstanding, so no unit will return by itself",
        ),
        Reason::SaleNotOpen => (
            "the sale is not open",
            "`holdfast sale get` shows its status and hours",
        ),
        Reason::SaleUnknown => ("no such sale", "`holdfast sale list` shows those that exist"),
        Reason::SaleExists => ("a sale of this id exists", "ids are never reused: choose another"),
        Reason::SaleTransition => (
            "the sale cannot go there from its status",
            "`holdfast sale get` shows it",
        ),
        Reason::ClaimsExhausted => (
            "the sale has made all the claim records it may",
            "make the next sale with a larger --claims-max",
        ),
        Reason::UserLimit => (
            "the user is at the limit of the sale",
            "`holdfast sale get` shows the limit",
        ),
        Reason::ClaimUnknown => ("no such claim", "check the id: it is opaque, copy it whole"),
        Reason::ClaimGone => (
            "the claim is no longer held",
            "`holdfast claim get` shows what became of it",
        ),
        Reason::StaleToken => (
            "the fencing token is not the current one",
            "`holdfast claim get` shows the current one",
        ),
        Reason::KeyReused => (
            "this key was used for something else",
            "a key belongs to one request: choose a new one",
        ),
        Reason::KeyFenced => ("this key was resolved as abandoned", "use a new key"),
        Reason::TooLate => (
            "it arrived after its own latest time",
            "use a new attempt with the same key",
        ),
        Reason::OutOfRange => ("a value is out of range", "`--help` states the ranges"),
        Reason::UnitsInUse => (
            "those units are held or sold",
            "withdraw no more than are available",
        ),
        Reason::VersionMismatch => ("somebody else changed it first", "read it again"),
        Reason::Leased => ("somebody else holds the lease", "wait for its end"),
        Reason::DocumentQuota => (
            "the document quota is used up",
            "delete some, or wait for their time to live",
        ),
        Reason::NotReached => (
            "its chain ended before it",
            "see what the command before it was told",
        ),
        Reason::TableFull => (
            "no room for another sale, key or fence",
            "try again when some have aged out, within a day",
        ),
        Reason::WrongCluster => (
            "these nodes are of another cluster",
            "check --endpoints: an address may have been used again",
        ),
        Reason::Forbidden => (
            "your role does not allow this",
            "use a certificate or a token of the role that it names",
        ),
        Reason::Invalid | Reason::Unspecified => ("refused", ""),
    };
    let mut text = if said.is_empty() {
        words.to_owned()
    } else {
        said.to_owned()
    };
    // The store's own words may hold their advice already.
    if !advice.is_empty() && !text.contains("; ") {
        text.push_str("; ");
        text.push_str(advice);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::{ClaimStatus, Position, SaleStatus};

    fn rejected(reason: Reason, message: &str, until_ms: u64) -> Error {
        Error::Rejected(Box::new(Rejected {
            reason,
            message: message.into(),
            value: 0,
            until_ms,
            opens_at_ms: 0,
            sale_status: SaleStatus::Unspecified,
            claim_status: ClaimStatus::Unspecified,
            position: Position::default(),
        }))
    }

    fn unavailable() -> Error {
        Error::Unavailable {
            message: "connection refused".into(),
            retry_after_ms: 10,
        }
    }

    fn reach(answered: usize, led: bool) -> Reach {
        Reach {
            asked: vec!["127.0.0.1:7401".into(), "127.0.0.1:7402".into()],
            answered,
            led,
        }
    }

    #[test]
    fn codes_are_the_documented_ones() {
        let all = [
            (Failure::Failed(String::new()), 1),
            (Failure::Usage(String::new()), 2),
            (Failure::Unreachable(String::new()), 3),
            (Failure::NoQuorum(String::new()), 4),
            (Failure::Refused(String::new()), 5),
            (Failure::Violated(String::new()), 6),
        ];
        for (failure, code) in all {
            assert_eq!(failure.code(), code, "{failure:?}");
        }
    }

    #[test]
    fn each_client_error_gets_its_code() {
        let write = Subject::write("create sale `hot`", "k1");
        let table: [(Subject, Error, Reach, u8); 7] = [
            (
                write.clone(),
                rejected(Reason::SaleExists, "", 0),
                reach(2, true),
                1,
            ),
            (write.clone(), unavailable(), reach(0, false), 3),
            (write.clone(), unavailable(), reach(1, false), 4),
            (write.clone(), unavailable(), reach(2, true), 1),
            (
                write.clone(),
                Error::Unknown {
                    message: "timed out".into(),
                    not_after_ms: 9,
                },
                reach(2, true),
                1,
            ),
            (
                Subject::membership("remove node 3"),
                rejected(Reason::Invalid, "no quorum", 0),
                reach(2, true),
                5,
            ),
            (
                Subject::membership("remove node 3"),
                unavailable(),
                reach(0, false),
                3,
            ),
        ];
        for (subject, error, reach, code) in table {
            let shown = format!("{subject:?} {error:?} {reach:?}");
            assert_eq!(subject.classify(error, reach).code(), code, "{shown}");
        }
    }

    #[test]
    fn messages_name_the_value_and_the_next_step() {
        let write = Subject::write("claim from `hot`", "k7");
        let unknown = write.classify(
            Error::Unknown {
                message: "reset".into(),
                not_after_ms: 9,
            },
            Reach::default(),
        );
        assert!(unknown.to_string().contains("--key k7"), "{unknown}");
        let lost = write.classify(unavailable(), reach(0, false)).to_string();
        assert!(
            lost.contains("127.0.0.1:7402") && lost.contains("--endpoints"),
            "{lost}"
        );
        let sold_out = write
            .classify(rejected(Reason::SoldOut, "", 0), Reach::default())
            .to_string();
        assert_eq!(
            sold_out,
            "claim from `hot`: sold out; no hold is outstanding, so no unit will return by itself"
        );
        let said = write
            .classify(rejected(Reason::OutOfRange, "quantity 0.", 0), Reach::default())
            .to_string();
        assert!(said.starts_with("claim from `hot`: quantity 0; "), "{said}");
        let advised = rejected(Reason::SaleExists, "it exists already; choose another id", 0);
        let advised = write.classify(advised, Reach::default()).to_string();
        assert_eq!(advised, "claim from `hot`: it exists already; choose another id");
    }
}
