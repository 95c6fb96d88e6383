//! Which call needs which role: the one table, and the guard that asks it.
//!
//! Calls are named by their gRPC path, by `METHOD route` on the HTTP door, and commands inside a frame by
//! `command NAME`. Tests of both doors walk what they really serve, so that a call without a row fails there
//! before it is refused here.
//!
//! Without TLS and without tokens a guard is open: whoever reaches the port may call, which is for loopback
//! and for networks that somebody has closed by other means.

use std::{fmt, sync::Arc};

use crate::{
    name::{Kind, Name},
    tls::Tls,
    tokens::Tokens,
};

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everybody who reaches the port.
    Anybody,
    /// These kinds of callers.
    Only(&'static [Kind]),
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The call.
    pub call: &'static str,
    /// Who may make it.
    pub who: Who,
    /// An operator's action: leaves a line in the audit log.
    pub audited: bool,
}

use Kind::{Api, Auditor, Node, Operator, Platform, Shopper};

const EVERYBODY_KNOWN: &[Kind] = &Kind::ALL;
const DOORS: &[Kind] = &[Platform, Operator, Api];
const READERS: &[Kind] = &[Platform, Operator, Auditor, Api];
const KEEPERS: &[Kind] = &[Operator, Api];
/// Orders and journals name people: only who must see them may.
const DOCUMENT_READERS: &[Kind] = &[Operator, Auditor, Api];
const OPERATORS: &[Kind] = &[Operator];
const PEERS: &[Kind] = &[Node];
const MANAGERS: &[Kind] = &[Platform, Operator];
const SHOPPERS: &[Kind] = &[Shopper];
const PEOPLE: &[Kind] = &[Shopper, Platform, Operator, Auditor];
const GIVERS: &[Kind] = &[Shopper, Platform, Operator];

const fn row(call: &'static str, kinds: &'static [Kind]) -> Row {
    Row {
        call,
        who: Who::Only(kinds),
        audited: false,
    }
}

const fn audited(call: &'static str, kinds: &'static [Kind]) -> Row {
    Row {
        call,
        who: Who::Only(kinds),
        audited: true,
    }
}

const fn open(call: &'static str) -> Row {
    Row {
        call,
        who: Who::Anybody,
        audited: false,
    }
}

/// Calls of the nodes' port.
pub const GRPC: &[Row] = &[
    // What each command in a frame needs is said by COMMANDS.
    row("/holdfast.v1.Inventory/Submit", DOORS),
    row("/holdfast.v1.Inventory/Execute", DOORS),
    row("/holdfast.v1.Inventory/GetSale", EVERYBODY_KNOWN),
    row("/holdfast.v1.Inventory/ListSales", EVERYBODY_KNOWN),
    row("/holdfast.v1.Inventory/GetClaim", READERS),
    row("/holdfast.v1.Inventory/ListClaims", READERS),
    row("/holdfast.v1.Inventory/GetDocument", DOCUMENT_READERS),
    row("/holdfast.v1.Inventory/ListDocuments", DOCUMENT_READERS),
    // It fences a key, so it is no mere read.
    row("/holdfast.v1.Inventory/Resolve", DOORS),
    row("/holdfast.v1.Inventory/Watch", READERS),
    // Every client learns from it who leads.
    row("/holdfast.v1.Cluster/Status", EVERYBODY_KNOWN),
    row("/holdfast.v1.Cluster/StateHash", &[Operator, Auditor, Node]),
    audited("/holdfast.v1.Cluster/Init", OPERATORS),
    audited("/holdfast.v1.Cluster/AddLearner", OPERATORS),
    audited("/holdfast.v1.Cluster/Promote", OPERATORS),
    audited("/holdfast.v1.Cluster/Remove", OPERATORS),
    audited("/holdfast.v1.Cluster/TransferLeader", OPERATORS),
    audited("/holdfast.v1.Cluster/TakeSnapshot", OPERATORS),
    row("/holdfast.v1.Cluster/ListSnapshots", &[Operator, Auditor]),
    // The whole state, and the secret in it.
    audited("/holdfast.v1.Cluster/Backup", OPERATORS),
    row("/holdfast.internal.v1.Raft/Enlist", PEERS),
    row("/holdfast.internal.v1.Raft/Append", PEERS),
    row("/holdfast.internal.v1.Raft/Vote", PEERS),
    row("/holdfast.internal.v1.Raft/PreVote", PEERS),
    row("/holdfast.internal.v1.Raft/InstallSnapshot", PEERS),
    row("/holdfast.internal.v1.Raft/TransferLeader", PEERS),
    row("/holdfast.internal.v1.Raft/ExchangeClock", PEERS),
    // Balancers and kubelets ask, and have no names.
    open("/grpc.health.v1.Health/Check"),
    open("/grpc.health.v1.Health/Watch"),
    row(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        EVERYBODY_KNOWN,
    ),
];

/// Commands inside a frame.
pub const COMMANDS: &[Row] = &[
    row("command claim", DOORS),
    row("command decrement", DOORS),
    row("command confirm", DOORS),
    row("command release", DOORS),
    row("command extend", DOORS),
    row("command cancel", DOORS),
    audited("command create_sale", DOORS),
    audited("command open_sale", DOORS),
    audited("command pause_sale", DOORS),
    audited("command close_sale", DOORS),
    audited("command restock", DOORS),
    audited("command withdraw", DOORS),
    // The doors' own books: whoever could write them could make an order out of nothing.
    row("command put_document", KEEPERS),
    row("command delete_document", KEEPERS),
    row("command lease_document", KEEPERS),
    row("command check_document", KEEPERS),
];

/// Calls of the shoppers' door, by method and route.
pub const HTTP: &[Row] = &[
    open("GET /v1/sales"),
    open("GET /v1/sales/{sale_id}"),
    open("GET /v1/sales/{sale_id}/live"),
    audited("POST /v1/sales", MANAGERS),
    audited("POST /v1/sales/{sale_id}/open", MANAGERS),
    audited("POST /v1/sales/{sale_id}/pause", MANAGERS),
    audited("POST /v1/sales/{sale_id}/close", MANAGERS),
    audited("POST /v1/sales/{sale_id}/restock", MANAGERS),
    audited("POST /v1/sales/{sale_id}/withdraw", MANAGERS),
    row("POST /v1/sales/{sale_id}/claims", SHOPPERS),
    row("GET /v1/claims/{claim_id}", PEOPLE),
    row("DELETE /v1/claims/{claim_id}", GIVERS),
    row("POST /v1/claims/{claim_id}/confirm", &[Platform]),
    row("GET /v1/claims/{claim_id}/checkout", PEOPLE),
    row("POST /v1/claims/{claim_id}/checkout", SHOPPERS),
    row("GET /v1/orders/{order_id}", PEOPLE),
    row("POST /v1/orders/{order_id}/cancel", GIVERS),
    // Signed by the provider; the signature is checked before anything else.
    open("POST /v1/webhooks/stripe"),
    row("GET /v1/status", &[Platform, Operator, Auditor]),
    open("GET /"),
    open("GET /livez"),
    open("GET /readyz"),
    open("GET /metrics"),
    open("GET /openapi.json"),
    open("GET /docs"),
    open("GET /docs/"),
    open("GET /docs/{*rest}"),
    // There only in development mode, which lets everybody in by design.
    open("POST /dev/token"),
];

/// The row of a call.
pub fn find(table: &'static [Row], call: &str) -> Option<&'static Row> {
    table.iter().find(|row| row.call == call)
}

/// The row of an HTTP call.
pub fn http(method: &str, route: &str) -> Option<&'static Row> {
    // HEAD is GET without a body.
    let method = if method == "HEAD" { "GET" } else { method };
    HTTP.iter().find(|row| {
        row.call
            .split_once(' ')
            .is_some_and(|(its_method, its_route)| its_method == method && its_route == route)
    })
}

/// What a caller has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A certificate.
    Certificate,
    /// A token.
    Token,
}

impl Shown {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Shown::Certificate => "certificate",
            Shown::Token => "token",
        }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What it is.
    pub kind: Kind,
    /// Which of its kind.
    pub name: String,
    /// How that is known.
    pub shown: Shown,
}

impl From<&Name> for Caller {
    fn from(name: &Name) -> Caller {
        Caller {
            kind: name.kind(),
            name: name.id().to_owned(),
            shown: Shown::Certificate,
        }
    }
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody known calls.
    #[error(
        "{call}: {why}; show a client certificate of this cluster or a token, as in `authorization: Bearer …`"
    )]
    Unknown {
        /// The call.
        call: String,
        /// What was shown, and what is wrong with it.
        why: &'static str,
    },
    /// The wrong kind of caller.
    #[error("{call} needs the role {needed}; `{name}` is {kind}")]
    WrongRole {
        /// The call.
        call: String,
        /// Who may.
        needed: Needed,
        /// Who calls.
        name: String,
        /// What it is.
        kind: Kind,
    },
    /// No row: nobody may.
    #[error("{call}: no such call")]
    NoRow {
        /// The call.
        call: String,
    },
}

/// The kinds that may make a call, as people read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed(pub &'static [Kind]);

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, kind) in self.0.iter().enumerate() {
            match at {
                0 => {}
                _ if at + 1 == self.0.len() => f.write_str(" or ")?,
                _ => f.write_str(", ")?,
            }
            f.write_str(kind.word())?;
        }
        Ok(())
    }
}

impl Row {
    /// Lets a known caller through, or not.
    ///
    /// # Errors
    /// It is of another kind.
    pub fn check(&self, caller: &Caller) -> Result<(), Denied> {
        match self.who {
            Who::Anybody => Ok(()),
            Who::Only(kinds) if kinds.contains(&caller.kind) => Ok(()),
            Who::Only(kinds) => Err(Denied::WrongRole {
                call: self.call.to_owned(),
                needed: Needed(kinds),
                name: caller.name.clone(),
                kind: caller.kind,
            }),
        }
    }
}

/// Decides about the calls of a node's port. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// How connections are protected; `None`: not at all.
    pub tls: Option<Arc<Tls>>,
    /// Tokens that count; `None`: none do.
    pub tokens: Option<Arc<Tokens>>,
}

impl Guard {
    /// Lets everybody do everything.
    pub fn open() -> Guard {
        Guard::default()
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.tls.is_none() && self.tokens.is_none()
    }

    /// Who makes a call, if he may. `None`: somebody who has shown nothing, and need not.
    ///
    /// # Errors
    /// He may not.
    pub fn admit(
        &self,
        call: &str,
        certificate: Option<&Name>,
        authorization: Option<&str>,
    ) -> Result<Option<Caller>, Denied> {
        if self.is_open() {
            return Ok(None);
        }
        let row = find(GRPC, call).ok_or_else(|| Denied::NoRow {
            call: call.to_owned(),
        })?;
        let caller = self.caller(call, certificate, authorization);
        let kinds = match row.who {
            Who::Anybody => return Ok(caller.unwrap_or(None)),
            Who::Only(kinds) => kinds,
        };
        match caller? {
            Some(caller) => row.check(&caller).map(|()| Some(caller)),
            // Without TLS nodes cannot prove themselves; what they ask one another is open.
            None if self.tls.is_none() && kinds.contains(&Node) => Ok(None),
            None => Err(Denied::Unknown {
                call: call.to_owned(),
                why: "nobody known calls",
            }),
        }
    }

    /// Who calls. A token that is shown must be good, and then counts for more than the connection it came
    /// over: a certificate may be shared by several programs.
    fn caller(
        &self,
        call: &str,
        certificate: Option<&Name>,
        authorization: Option<&str>,
    ) -> Result<Option<Caller>, Denied> {
        let Some(text) = authorization else {
            return Ok(certificate.map(Caller::from));
        };
        let unknown = |why| Denied::Unknown {
            call: call.to_owned(),
            why,
        };
        let token = bearer(text).ok_or_else(|| unknown("the authorization is not of the Bearer scheme"))?;
        let tokens = self
            .tokens
            .as_ref()
            .ok_or_else(|| unknown("this node takes no tokens"))?;
        let holder = tokens
            .holder(token)
            .ok_or_else(|| unknown("the token is not known here"))?;
        Ok(Some(Caller {
            kind: holder.kind,
            name: holder.name,
            shown: Shown::Token,
        }))
    }
}

/// The token of an `Authorization: Bearer` header.
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn name(kind: Kind) -> Name {
        Name::new("shop", kind, "7").unwrap()
    }

    #[test]
    fn no_call_has_two_rows_and_no_row_is_for_nobody() {
        let mut calls = BTreeSet::new();
        for row in GRPC.iter().chain(COMMANDS).chain(HTTP) {
            assert!(calls.insert(row.call), "{} has two rows", row.call);
            assert!(!matches!(row.who, Who::Only([])), "{} is for nobody", row.call);
        }
    }

    #[test]
    fn an_auditor_changes_nothing_and_a_shopper_speaks_http_only() {
        for row in COMMANDS {
            for kind in [Auditor, Shopper, Node] {
                let denied = row.check(&Caller::from(&name(kind))).unwrap_err();
                assert!(matches!(denied, Denied::WrongRole { .. }));
            }
        }
        for row in GRPC.iter().chain(HTTP).filter(|row| row.audited) {
            for kind in [Auditor, Shopper, Api, Node] {
                assert!(
                    row.check(&Caller::from(&name(kind))).is_err(),
                    "{} for {kind}",
                    row.call
                );
            }
        }
    }

    #[test]
    fn a_refusal_names_the_role_that_is_needed() {
        let row = find(GRPC, "/holdfast.v1.Cluster/StateHash").unwrap();
        let denied = row.check(&Caller::from(&name(Platform))).unwrap_err();
        assert_eq!(
            denied.to_string(),
            "/holdfast.v1.Cluster/StateHash needs the role operator, auditor or node; `7` is platform"
        );
    }

    #[test]
    fn tokens_alone_close_the_port_to_whoever_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let (token, stanza) = crate::tokens::new_token("ada", Operator).unwrap();
        std::fs::write(&path, stanza).unwrap();
        let guard = Guard {
            tls: None,
            tokens: Some(Tokens::load(&path).unwrap()),
        };
        let remove = "/holdfast.v1.Cluster/Remove";
        let admit = |call: &str, authorization: Option<&str>| guard.admit(call, None, authorization);
        let shown = format!("Bearer {token}");
        let ada = admit(remove, Some(&shown)).unwrap().unwrap();
        assert_eq!(
            (ada.name.as_str(), ada.kind, ada.shown),
            ("ada", Operator, Shown::Token)
        );
        assert!(matches!(admit(remove, None), Err(Denied::Unknown { .. })));
        for wrong in ["", "Bearer", "Bearer x", "Basic x", &token] {
            assert!(
                matches!(admit(remove, Some(wrong)), Err(Denied::Unknown { .. })),
                "{wrong}"
            );
        }
        // A bad token is refused also where none is needed but somebody known is.
        assert!(admit("/holdfast.v1.Inventory/GetSale", Some("Bearer x")).is_err());
        assert!(
            admit("/grpc.health.v1.Health/Check", Some("Bearer x"))
                .unwrap()
                .is_none()
        );
        assert!(matches!(
            admit("/holdfast.v1.Cluster/Explode", Some(&shown)),
            Err(Denied::NoRow { .. })
        ));
        // Nodes have no tokens, and without TLS no certificates.
        assert_eq!(admit("/holdfast.internal.v1.Raft/Vote", None), Ok(None));
        assert_eq!(Guard::open().admit(remove, None, None), Ok(None));
    }
}
