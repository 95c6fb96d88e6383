//! How a call can fail, and what may be concluded from it.

use std::time::Duration;

use super::{Decline, Payment};

/// What came of a call, where it is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    /// Definite: the card said no. The provider is well.
    #[error("declined: {} ({})", decline.message, decline.decline_code.as_deref().unwrap_or(&decline.code))]
    Declined {
        /// Why.
        decline: Decline,
        /// The payment afterwards, where the answer shows it.
        payment: Option<Box<Payment>>,
    },
    /// Definite: the provider refused the request as such (invalid, wrong state, too much). This call
    /// did nothing. In the wrong state, `payment` tells in which it is.
    #[error("refused: {message} ({code})")]
    Refused {
        /// The provider's code.
        code: String,
        /// The provider's message.
        message: String,
        /// The payment as it is, where the answer shows it.
        payment: Option<Box<Payment>>,
    },
    /// This call was not sent or not taken on, so it did nothing. *An earlier one with the same key
    /// still may have.* Ask again with the same key.
    #[error("unavailable ({cause:?}): {why}")]
    Unavailable {
        /// Why, in one word.
        cause: Unavailability,
        /// When it makes sense to ask again, where that is known.
        retry_after: Option<Duration>,
        /// Why.
        why: String,
    },
    /// It may have happened or may yet happen. Ask again with the same key, or retrieve.
    #[error("outcome unknown ({cause:?}): {why}")]
    Unknown {
        /// Why, in one word.
        cause: Doubt,
        /// Why.
        why: String,
    },
}

/// Why a call was not taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailability {
    /// The breaker is open: not even tried.
    BreakerOpen,
    /// No connection: nothing was sent.
    Unreachable,
    /// Too many requests, or the payment is locked by another one.
    Throttled,
    /// The provider does not take our key: an operator must act.
    Unauthorized,
    /// The deadline had passed before anything was sent.
    NoTime,
}

/// Why an outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// No answer by the deadline.
    TimedOut,
    /// The connection broke after the request had begun.
    ConnectionLost,
    /// The provider failed (5xx).
    ServerError,
    /// The provider failed, and says that the same key will never tell more.
    FinalServerError,
    /// The provider repeats, under this key, that it failed earlier; likewise.
    ReplayedError,
    /// An answer that cannot be read.
    Unreadable,
    /// A call with the same key is still being worked on.
    InProgress,
}

impl PaymentError {
    /// The error's kind, as metrics label it.
    pub fn name(&self) -> &'static str {
        match self {
            PaymentError::Declined { .. } => "declined",
            PaymentError::Refused { .. } => "refused",
            PaymentError::Unavailable { .. } => "unavailable",
            PaymentError::Unknown { .. } => "unknown",
        }
    }

    /// Whether it tells of a provider that is not well, which is what breakers count. A decline, a
    /// refusal or a full queue is the answer of a healthy one.
    pub fn is_provider_fault(&self) -> bool {
        match self {
            PaymentError::Declined { .. } | PaymentError::Refused { .. } => false,
            PaymentError::Unavailable { cause, .. } => *cause == Unavailability::Unreachable,
            PaymentError::Unknown { cause, .. } => match cause {
                Doubt::TimedOut
                | Doubt::ConnectionLost
                | Doubt::ServerError
                | Doubt::FinalServerError
                | Doubt::Unreadable => true,
                Doubt::ReplayedError | Doubt::InProgress => false,
            },
        }
    }

    /// Whether the same call with the same key may end otherwise soon.
    pub fn is_transient(&self) -> bool {
        match self {
            PaymentError::Declined { .. } | PaymentError::Refused { .. } => false,
            PaymentError::Unavailable { cause, .. } => {
                matches!(cause, Unavailability::Unreachable | Unavailability::Throttled)
            }
            PaymentError::Unknown { cause, .. } => {
                !matches!(cause, Doubt::ReplayedError | Doubt::FinalServerError)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_provider_suffers_from_counts_against_it() {
        let unavailable = |cause| PaymentError::Unavailable {
            cause,
            retry_after: None,
            why: String::new(),
        };
        let unknown = |cause| PaymentError::Unknown {
            cause,
            why: String::new(),
        };
        let decline = Decline {
            code: "card_declined".into(),
            decline_code: None,
            message: "no".into(),
        };
        // Error, counts against the provider, may be repeated.
        for (error, fault, transient) in [
            (
                PaymentError::Declined {
                    decline,
                    payment: None,
                },
                false,
                false,
            ),
            (
                PaymentError::Refused {
                    code: "x".into(),
                    message: "y".into(),
                    payment: None,
                },
                false,
                false,
            ),
            (unavailable(Unavailability::BreakerOpen), false, false),
            (unavailable(Unavailability::Unreachable), true, true),
            (unavailable(Unavailability::Throttled), false, true),
            (unavailable(Unavailability::Unauthorized), false, false),
            (unavailable(Unavailability::NoTime), false, false),
            (unknown(Doubt::TimedOut), true, true),
            (unknown(Doubt::ConnectionLost), true, true),
            (unknown(Doubt::ServerError), true, true),
            (unknown(Doubt::FinalServerError), true, false),
            (unknown(Doubt::ReplayedError), false, false),
            (unknown(Doubt::Unreadable), true, true),
            (unknown(Doubt::InProgress), false, true),
        ] {
            assert_eq!(
                (error.is_provider_fault(), error.is_transient()),
                (fault, transient),
                "{error}"
            );
        }
    }
}
