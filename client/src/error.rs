//! The three ways a call fails, what each allows, and how gRPC's statuses become them.
//!
//! The one question that decides everything is whether the command may have been proposed. A
//! connection that was never made, or a server that says it did not take the command, is
//! [`Error::Unavailable`]; whatever breaks later is [`Error::Unknown`], because it may yet commit.

pub use proto::v1::Reason;
use proto::v1::{self, ClaimStatus, Position, SaleStatus};
use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt;

/// Why a call did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// An answer: nothing changed, and this is why. The same key may be tried again later.
    #[error("refused: {}", .0.describe())]
    Rejected(Box<Rejected>),
    /// Never proposed: nothing changed, and the same key may be tried again at once.
    #[error("unavailable: {message}")]
    Unavailable {
        /// What happened and what to do.
        message: String,
        /// When it may be worth trying again, in ms.
        retry_after_ms: u64,
    },
    /// Proposed, outcome not known: it may yet happen. Only the same key, or resolve, tells.
    #[error("outcome unknown: {message}")]
    Unknown {
        /// What happened.
        message: String,
        /// After this log time it can no longer happen; `u64::MAX` when no bound is known.
        not_after_ms: u64,
    },
}

/// A refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// Why. `Unspecified` where a node refused for a reason of its own that only the message tells.
    pub reason: Reason,
    /// For people; empty where the reason says it all.
    pub message: String,
    /// Units available, limit, current token or version, first index a watch can still start at: what
    /// the reason is about.
    pub value: u64,
    /// Latest deadline of outstanding holds, or end of a lease, in log time.
    pub until_ms: u64,
    /// When the sale opens, Unix ms.
    pub opens_at_ms: u64,
    /// Status of the sale, when it is about that.
    pub sale_status: SaleStatus,
    /// Status of the claim, when it is about that.
    pub claim_status: ClaimStatus,
    /// What the answer reflects; zeros where the request was refused without looking at the state.
    pub position: Position,
}

impl Rejected {
    /// The message, or the reason's name where there is none.
    fn describe(&self) -> &str {
        if self.message.is_empty() {
            self.reason.as_str_name()
        } else {
            &self.message
        }
    }

    /// A refusal that says no more than its reason and a message.
    pub(crate) fn plain(reason: Reason, message: impl Into<String>) -> Rejected {
        Rejected {
            reason,
            message: message.into(),
            value: 0,
            until_ms: 0,
            opens_at_ms: 0,
            sale_status: SaleStatus::Unspecified,
            claim_status: ClaimStatus::Unspecified,
            position: Position::default(),
        }
    }
}

impl Error {
    /// A request that is malformed whatever the cluster thinks.
    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::Rejected(Box::new(Rejected::plain(Reason::Invalid, message)))
    }

    /// Nothing was proposed, and there is no better time to come back than soon.
    pub(crate) fn unavailable(message: impl Into<String>) -> Error {
        Error::Unavailable {
            message: message.into(),
            retry_after_ms: RETRY_AFTER_MS,
        }
    }

    /// The node at this address belongs to another cluster.
    pub(crate) fn wrong_cluster(address: &str, said: &str) -> Error {
        let message = format!(
            "{address} is of another cluster: {said}; was its address used before? Correct the endpoints, or make a \
             new client for that cluster"
        );
        Error::Rejected(Box::new(Rejected::plain(Reason::WrongCluster, message)))
    }

    /// The peer broke the protocol: what it did is anybody's guess.
    pub(crate) fn malformed(what: &str) -> Error {
        Error::Unknown {
            message: format!("the node's answer lacks {what}; are client and node of one version?"),
            not_after_ms: u64::MAX,
        }
    }
}

/// What an `Unavailable` suggests when nobody named a time, in ms: about one election.
pub(crate) const RETRY_AFTER_MS: u64 = 1_000;

/// What a status says about the call that it ended.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// This node does not lead; perhaps it knows who does.
    NotLeader(Option<String>),
    /// The command was not taken; it may be repeated elsewhere or later.
    NotTaken {
        /// What happened.
        message: String,
        /// When to come back, in ms.
        retry_after_ms: u64,
    },
    /// It may or may not have happened.
    Ambiguous(String),
    /// An answer; repeating the call would only repeat it.
    Final(Box<Rejected>),
}

/// Reads a status.
pub(crate) fn verdict(status: &Status) -> Verdict {
    let message = status.message().to_string();
    let retry_after_ms = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay)
        .map_or(RETRY_AFTER_MS, |delay| {
            u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
        });
    if let Some(info) = status.get_details_error_info() {
        match info.reason.as_str() {
            "NOT_LEADER" => {
                let leader = ["leader", "leader_endpoint"]
                    .iter()
                    .find_map(|name| info.metadata.get(*name));
                return Verdict::NotLeader(leader.filter(|leader| !leader.is_empty()).cloned());
            }
            // TOO_OLD: a read of a bounded age, which a fresher node may answer.
            "OVERLOADED" | "STARTING" | "STOPPING" | "DISK_RESERVE" | "TOO_OLD" => {
                return Verdict::NotTaken {
                    message,
                    retry_after_ms,
                };
            }
            name => {
                let reason =
                    Reason::from_str_name(name).or_else(|| Reason::from_str_name(&format!("REASON_{name}")));
                if let Some(reason) = reason {
                    let mut rejected = Rejected::plain(reason, message);
                    let value = info
                        .metadata
                        .get("first_index")
                        .or_else(|| info.metadata.get("value"));
                    rejected.value = value.and_then(|value| value.parse().ok()).unwrap_or(0);
                    return Verdict::Final(Box::new(rejected));
                }
                if let Some(first) = info.metadata.get("first_index") {
                    let mut rejected = Rejected::plain(Reason::OutOfRange, message);
                    rejected.value = first.parse().unwrap_or(0);
                    return Verdict::Final(Box::new(rejected));
                }
            }
        }
    }
    let reason = match status.code() {
        // Said by the server itself: it did not take the call. Made up by our own transport: only a
        // connection that never came to be is proof of that.
        Code::Unavailable if !from_transport(status) || never_connected(status) => {
            return Verdict::NotTaken {
                message,
                retry_after_ms,
            };
        }
        Code::ResourceExhausted => {
            return Verdict::NotTaken {
                message,
                retry_after_ms,
            };
        }
        Code::InvalidArgument => Reason::Invalid,
        Code::OutOfRange => Reason::OutOfRange,
        Code::PermissionDenied | Code::Unauthenticated => Reason::Forbidden,
        Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition | Code::Unimplemented => {
            Reason::Unspecified
        }
        _ => return Verdict::Ambiguous(format!("{}: {message}", status.code())),
    };
    Verdict::Final(Box::new(Rejected::plain(reason, message)))
}

fn from_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn never_connected(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

impl From<Status> for Error {
    /// As for a call that may change something; a read has no unknown outcome.
    fn from(status: Status) -> Error {
        match verdict(&status) {
            Verdict::NotLeader(leader) => Error::unavailable(match leader {
                Some(leader) => format!("that node does not lead, {leader} does"),
                None => "that node does not lead, and knows nobody who does".to_string(),
            }),
            Verdict::NotTaken {
                message,
                retry_after_ms,
            } => Error::Unavailable {
                message,
                retry_after_ms,
            },
            Verdict::Ambiguous(message) => Error::Unknown {
                message,
                not_after_ms: u64::MAX,
            },
            Verdict::Final(rejected) => Error::Rejected(rejected),
        }
    }
}

/// A refusal as it comes over the wire.
pub(crate) fn rejected(rejected: v1::Rejected, position: Position) -> Rejected {
    Rejected {
        reason: rejected.reason(),
        sale_status: rejected.sale_status(),
        claim_status: rejected.claim_status(),
        message: rejected.message,
        value: rejected.value,
        until_ms: rejected.until_ms,
        opens_at_ms: rejected.opens_at_ms,
        position,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_node_that_does_not_lead_names_the_leader() {
        let mut details = ErrorDetails::new();
        details.set_error_info(
            "NOT_LEADER",
            "holdfast",
            HashMap::from([("leader".into(), "b:1".into())]),
        );
        let status = Status::with_error_details(Code::Unavailable, "no", details);
        assert!(matches!(verdict(&status), Verdict::NotLeader(Some(leader)) if leader == "b:1"));
    }

    #[test]
    fn a_server_that_says_unavailable_took_nothing_and_says_when_to_return() {
        let mut details = ErrorDetails::new();
        details.set_retry_info(Some(Duration::from_millis(70)));
        let status = Status::with_error_details(Code::Unavailable, "later", details);
        let error = Error::from(status);
        assert!(
            matches!(
                error,
                Error::Unavailable {
                    retry_after_ms: 70,
                    ..
                }
            ),
            "{error:?}"
        );
    }

    #[test]
    fn a_broken_connection_is_unknown_and_one_never_made_is_not() {
        let broken = Status::from_error(Box::new(std::io::Error::other("reset")));
        assert!(matches!(Error::from(broken), Error::Unknown { .. }));
        let never = Status::from_error(Box::new(ConnectError("refused".into())));
        assert!(matches!(Error::from(never), Error::Unavailable { .. }));
    }

    #[test]
    fn compacted_history_says_where_it_begins() {
        let mut details = ErrorDetails::new();
        details.set_error_info(
            "COMPACTED",
            "holdfast",
            HashMap::from([("first_index".into(), "41".into())]),
        );
        let status = Status::with_error_details(Code::OutOfRange, "compacted", details);
        let Error::Rejected(rejected) = Error::from(status) else {
            panic!("not a refusal")
        };
        assert_eq!((rejected.reason, rejected.value), (Reason::OutOfRange, 41));
    }

    #[test]
    fn machine_reasons_survive_a_status() {
        for name in ["SALE_UNKNOWN", "REASON_SALE_UNKNOWN"] {
            let mut details = ErrorDetails::new();
            details.set_error_info(name, "holdfast", HashMap::new());
            let status = Status::with_error_details(Code::NotFound, "no sale `hot`", details);
            let Error::Rejected(rejected) = Error::from(status) else {
                panic!("not a refusal")
            };
            assert_eq!(rejected.reason, Reason::SaleUnknown);
        }
    }

    #[test]
    fn an_expired_deadline_is_unknown() {
        assert!(matches!(
            Error::from(Status::deadline_exceeded("slow")),
            Error::Unknown { .. }
        ));
    }
}
