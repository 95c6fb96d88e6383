//! Names in certificates: one URI among the subject's alternative names,
//! `holdfast://CLUSTER/KIND/ID`, as in `holdfast://shop/node/3` or `holdfast://shop/operator/ada`.
//!
//! A name says all that matters here; DNS names and addresses in the same certificate are for other people's
//! tools. A certificate with no such name, or with two, names nobody.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use x509_parser::{extensions::GeneralName, prelude::FromDer, prelude::X509Certificate};

/// Longest cluster name or id in a name, in bytes: as other names of the store.
pub const PART_BYTES_MAX: usize = 64;

const SCHEME: &str = "holdfast://";

/// What a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Claims for himself.
    Shopper,
    /// Claims for its users, confirms, manages sales.
    Platform,
    /// Runs the cluster.
    Operator,
    /// Sees everything, changes nothing.
    Auditor,
    /// An HTTP door: acts for the callers that it has checked itself.
    Api,
    /// A node of the cluster.
    Node,
}

impl Kind {
    /// All kinds, in the order in which people are told them.
    pub const ALL: [Kind; 6] = [
        Kind::Shopper,
        Kind::Platform,
        Kind::Operator,
        Kind::Auditor,
        Kind::Api,
        Kind::Node,
    ];

    /// As it stands in names, tokens and messages.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Shopper => "shopper",
            Kind::Platform => "platform",
            Kind::Operator => "operator",
            Kind::Auditor => "auditor",
            Kind::Api => "api",
            Kind::Node => "node",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Kind {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Kind, NameError> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.word() == text)
            .ok_or_else(|| NameError::Kind(text.to_owned()))
    }
}

/// What a person or a program of his may do: the kinds that are not parts of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Role {
    /// Claims for himself, sees and releases his own claims.
    Shopper,
    /// Sees every claim, confirms, releases, manages sales.
    Platform,
    /// As platform, except that it does not confirm.
    Operator,
    /// Sees every claim, changes nothing.
    Auditor,
}

impl From<Role> for Kind {
    fn from(role: Role) -> Kind {
        match role {
            Role::Shopper => Kind::Shopper,
            Role::Platform => Kind::Platform,
            Role::Operator => Kind::Operator,
            Role::Auditor => Kind::Auditor,
        }
    }
}

impl TryFrom<Kind> for Role {
    type Error = Kind;

    fn try_from(kind: Kind) -> Result<Role, Kind> {
        match kind {
            Kind::Shopper => Ok(Role::Shopper),
            Kind::Platform => Ok(Role::Platform),
            Kind::Operator => Ok(Role::Operator),
            Kind::Auditor => Ok(Role::Auditor),
            Kind::Api | Kind::Node => Err(kind),
        }
    }
}

/// Why a text or a certificate names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not our form.
    #[error("`{0}` is no name: use holdfast://CLUSTER/KIND/ID, as in holdfast://shop/node/3")]
    Form(String),
    /// No such kind.
    #[error("`{0}` is no role: use shopper, platform, operator, auditor, api or node")]
    Kind(String),
    /// A cluster or an id that cannot be one.
    #[error(
        "`{0}` cannot be part of a name: use 1 to 64 of a-z A-Z 0-9 . _ -; a node's id is a number from 1"
    )]
    Part(String),
    /// Not a certificate at all.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// Not one name.
    #[error("the certificate holds {0} names of the form holdfast://CLUSTER/KIND/ID, not one")]
    Count(usize),
}

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    cluster: String,
    kind: Kind,
    id: String,
}

impl Name {
    /// A name of these parts.
    ///
    /// # Errors
    /// A part that cannot be one.
    pub fn new(cluster: &str, kind: Kind, id: &str) -> Result<Name, NameError> {
        for part in [cluster, id] {
            check_part(part)?;
        }
        if kind == Kind::Node && node_id(id).is_none() {
            return Err(NameError::Part(id.to_owned()));
        }
        Ok(Name {
            cluster: cluster.to_owned(),
            kind,
            id: id.to_owned(),
        })
    }

    /// The one name in a certificate.
    ///
    /// # Errors
    /// It names nobody, or more than one.
    pub fn in_certificate(der: &[u8]) -> Result<Name, NameError> {
        let unreadable = |error: &dyn fmt::Display| NameError::Certificate(error.to_string());
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| unreadable(&error))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| unreadable(&error))?;
        let ours: Vec<&str> = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
                _ => None,
            })
            .collect();
        match ours.as_slice() {
            [one] => one.parse(),
            other => Err(NameError::Count(other.len())),
        }
    }

    /// The cluster it belongs to, by the name that its operators gave it.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Which of its kind.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A node's id; `None` for everybody else.
    pub fn node_id(&self) -> Option<u64> {
        (self.kind == Kind::Node).then(|| node_id(&self.id)).flatten()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.cluster, self.kind, self.id)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        let form = || NameError::Form(text.to_owned());
        let mut parts = text.strip_prefix(SCHEME).ok_or_else(form)?.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(cluster), Some(kind), Some(id), None) => Name::new(cluster, kind.parse()?, id),
            _ => Err(form()),
        }
    }
}

/// Refuses what cannot be a cluster or an id.
///
/// # Errors
/// Names it.
pub fn check_part(part: &str) -> Result<(), NameError> {
    let fits = (1..=PART_BYTES_MAX).contains(&part.len())
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if fits {
        Ok(())
    } else {
        Err(NameError::Part(part.to_owned()))
    }
}

/// One number has one way of being written, so that no two names mean the same node.
fn node_id(text: &str) -> Option<u64> {
    let id: u64 = text.parse().ok()?;
    (id > 0 && id.to_string() == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in [
            "holdfast://shop/node/3",
            "holdfast://shop-eu.1/operator/ada_l",
            "holdfast://x/api/door-1",
        ] {
            let name: Name = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
        }
        let name: Name = "holdfast://shop/node/3".parse().unwrap();
        assert_eq!((name.node_id(), name.cluster()), (Some(3), "shop"));
        let name: Name = "holdfast://shop/api/3".parse().unwrap();
        assert_eq!(name.node_id(), None);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "shop/node/3",
            "holdfast://",
            "holdfast://shop/node",
            "holdfast://shop/node/3/4",
            "holdfast://shop/node/3/",
            "holdfast://shop/node/03",
            "holdfast://shop/node/+3",
            "holdfast://shop/node/0",
            "holdfast://shop/node/three",
            "holdfast:///node/3",
            "holdfast://sh op/node/3",
            "holdfast://shop/king/3",
            "holdfast://shop/Node/3",
            "HOLDFAST://shop/node/3",
        ] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }
}
