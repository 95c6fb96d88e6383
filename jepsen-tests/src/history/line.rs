//! One line of a history as JSON: the one place that knows the names of the fields. The same flat struct
//! reads and writes every event, so that reading needs no second look at a line.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, de};

use super::{Answer, Call, Event, Index, Kind, Names, Outcome, Phase, What};

/// A string, borrowed from the line where it has no escapes; a number counts as its digits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Text<'a>(pub Cow<'a, str>);

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Text(Cow::Borrowed(text))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a whole number")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(number.to_string())))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(number.to_string())))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// What a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Ty {
    #[default]
    Header,
    Invoke,
    Ok,
    Fail,
    Info,
    Resolve,
    Fault,
}

/// The words of `res`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Res {
    Granted,
    Already,
    SoldOut,
    Confirmed,
    Released,
    Gone,
    Sold,
    UserLimit,
    NotOpen,
    Done,
    Short,
    Extended,
    Found,
    Abandoned,
    Fenced,
    Written,
    Deleted,
    Leased,
    WrongVersion,
    Busy,
    StaleToken,
    KeyReused,
}

/// All fields that any event has. Fields that nobody knows are ignored: recorders of others may note more.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t: Option<u64>,
    pub ty: Ty,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub f: Option<Kind>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub sale: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub document: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub about: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub user: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub key: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub body: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idx: Option<(u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lt: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub res: Option<Res>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sold: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub err: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub node: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
}

impl<'a> Line<'a> {
    fn new(t: u64, ty: Ty) -> Line<'a> {
        Line {
            t: Some(t),
            ty,
            ..Line::default()
        }
    }

    /// The line of an event. `operation` is what the operation's invocation said: process and kind.
    pub fn of(event: &'a Event, names: &'a Names, operation: Option<(u64, Kind)>) -> Line<'a> {
        let text = |name| Some(Text::from(names.text(name)));
        let with = |ty, id| Line {
            id: Some(id),
            ..Line::new(event.t, ty)
        };
        match &event.what {
            What::Invoke { id, p, sale, call } => {
                let mut line = with(Ty::Invoke, *id);
                line.p = Some(*p);
                line.f = Some(call.kind());
                match call.is_document() {
                    true => line.document = text(*sale),
                    false => line.sale = text(*sale),
                }
                line.key = call.key().copied().and_then(text);
                line.hold = call.hold().copied().and_then(text);
                match call {
                    Call::Claim { user, quantity, .. } => {
                        line.user = text(*user);
                        line.quantity = Some(*quantity).filter(|&quantity| quantity != 1);
                    }
                    Call::Decrement { user, quantity, .. } => {
                        line.user = user.and_then(text);
                        line.quantity = Some(*quantity).filter(|&quantity| quantity != 1);
                    }
                    Call::Restock { units, .. } | Call::Withdraw { units, .. } => line.units = Some(*units),
                    Call::Resolve { about, .. } => line.about = text(*about),
                    Call::Put {
                        body,
                        version,
                        token,
                        ttl_ms,
                        ..
                    } => {
                        line.body = text(*body);
                        line.version = Some(*version);
                        line.token = Some(*token).filter(|&token| token != 0);
                        line.ttl_ms = Some(*ttl_ms).filter(|&ttl_ms| ttl_ms != 0);
                    }
                    Call::Delete { version, .. } => line.version = Some(*version),
                    Call::Lease { token, lease_ms, .. } => {
                        line.token = Some(*token).filter(|&token| token != 0);
                        line.lease_ms = Some(*lease_ms);
                    }
                    _ => {}
                }
                line
            }
            What::Ok { id, answer } => {
                let mut line = with(Ty::Ok, *id);
                line.p = operation.map(|(p, _)| p);
                line.f = operation.map(|(_, kind)| kind);
                line.answer(answer, names);
                line
            }
            What::Fail { id } => with(Ty::Fail, *id),
            What::Info { id, err } => Line {
                err: Some(Text::from(&**err)),
                ..with(Ty::Info, *id)
            },
            What::Resolve { id, applied } => {
                let mut line = with(Ty::Resolve, *id);
                line.applied = Some(applied.is_some());
                if let Some(answer) = applied {
                    line.answer(answer, names);
                }
                line
            }
            What::Fault { name, node, phase } => Line {
                name: Some(Text::from(&**name)),
                node: Some(Text::from(&**node)),
                phase: Some(*phase),
                ..Line::new(event.t, Ty::Fault)
            },
        }
    }

    fn answer(&mut self, answer: &Answer, names: &'a Names) {
        let text = |name| Some(Text::from(names.text(name)));
        self.idx = answer
            .idx
            .map(|Index { log_index, position }| (log_index, position));
        self.lt = Some(answer.lt);
        self.res = match answer.outcome {
            Outcome::Granted { hold, deadline } => {
                self.hold = text(hold);
                self.deadline = Some(deadline);
                Some(Res::Granted)
            }
            Outcome::Already { hold } => {
                self.hold = text(hold);
                Some(Res::Already)
            }
            Outcome::SoldOut => Some(Res::SoldOut),
            Outcome::Confirmed => Some(Res::Confirmed),
            Outcome::Released => Some(Res::Released),
            Outcome::Gone => Some(Res::Gone),
            Outcome::Sold { hold } => {
                self.hold = hold.and_then(text);
                Some(Res::Sold)
            }
            Outcome::Counters {
                available,
                held,
                sold,
                total,
            } => {
                self.available = Some(available);
                self.held = Some(held);
                self.sold = Some(sold);
                self.total = Some(total);
                None
            }
            Outcome::UserLimit => Some(Res::UserLimit),
            Outcome::NotOpen => Some(Res::NotOpen),
            Outcome::Done => Some(Res::Done),
            Outcome::Short => Some(Res::Short),
            Outcome::Extended { deadline } => {
                self.deadline = Some(deadline);
                Some(Res::Extended)
            }
            Outcome::Found { hold } => {
                self.hold = hold.and_then(text);
                Some(Res::Found)
            }
            Outcome::Abandoned { until } => {
                self.until = Some(until);
                Some(Res::Abandoned)
            }
            Outcome::Fenced => Some(Res::Fenced),
            Outcome::Written { version } => {
                self.version = Some(version);
                Some(Res::Written)
            }
            Outcome::Deleted => Some(Res::Deleted),
            Outcome::Leased { token, until } => {
                (self.token, self.until) = (Some(token), Some(until));
                Some(Res::Leased)
            }
            Outcome::Document {
                version,
                body,
                token,
                until,
            } => {
                self.version = Some(version);
                self.body = body.and_then(text);
                if token != 0 {
                    (self.token, self.until) = (Some(token), Some(until));
                }
                None
            }
            Outcome::WrongVersion { version } => {
                self.version = Some(version);
                Some(Res::WrongVersion)
            }
            Outcome::Busy { until } => {
                self.until = Some(until);
                Some(Res::Busy)
            }
            Outcome::StaleToken { token } => {
                self.token = Some(token);
                Some(Res::StaleToken)
            }
            Outcome::KeyReused => Some(Res::KeyReused),
        };
    }
}
