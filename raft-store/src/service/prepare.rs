//! From the wire's commands to the batcher's: shape is checked here, meaning is the machine's.
//!
//! User ids, principals and keys become keyed hashes here and go no further.

use bytes::Bytes;
use inventory_machine::{
    command::{
        Body, CHECKOUT_MAX_MS_DEFAULT, ClaimId, CreateSale, DOCUMENT_BODY_BYTES_MAX, DOCUMENT_KEY_BYTES_MAX,
        HOLD_MS_DEFAULT, NAMESPACE_DEFAULT, NOT_AFTER_MS_MAX, OPEN_AT_ONCE, Operation, PutDocument,
        SALE_ID_BYTES_MAX, SALE_NAME_BYTES_MAX, Settle, Take,
    },
    hash::{key_hash, user_hash},
};
use proto::v1::{self, command::Body as WireBody};

use crate::{
    batcher::frame::{Frame, PreparedBody, PreparedCommand},
    limits::NAME_BYTES_MAX,
    log_clock::Stamp,
};

/// What a command's shape is wrong in: names the field and the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// What stands for a sale where there is none.
const NO_SALE_ID: &str = "-";

/// Turns commands of one cluster into frames.
#[derive(Clone, Copy)]
pub struct Preparer {
    /// Seeds the keyed hashes.
    pub secret: u128,
    /// The newest times known: what "now" means for commands that leave it open.
    pub now: Stamp,
}

impl Preparer {
    /// Checks one command and adds it to the frame; `follows`: on the chain of the one before it.
    ///
    /// # Errors
    /// Nothing was added.
    pub fn add(&self, command: v1::Command, follows: bool, frame: &mut Frame) -> Result<(), Malformed> {
        let v1::Command {
            key,
            principal,
            not_after_ms,
            body,
        } = command;
        let Some(body) = body else {
            return Err(Malformed("the command has no body".into()));
        };
        check_name("key", &key)?;
        let takes_for = match &body {
            WireBody::Claim(take) | WireBody::Decrement(take) => Some(&take.user),
            _ => None,
        };
        let asker = takes_for.filter(|_| principal.is_empty()).unwrap_or(&principal);
        check_name("principal", asker)?;
        let hashed = self.user(asker);
        // Most claims are made by users for themselves: hashed once.
        let user = match takes_for {
            Some(user) if user != asker => self.user(user),
            _ => hashed,
        };
        let principal = hashed;
        let hash = |scope: &[u8], operation| {
            key_hash(
                self.secret,
                NAMESPACE_DEFAULT,
                scope,
                principal,
                operation,
                key.as_bytes(),
            )
        };
        let (key, body) = match body {
            WireBody::Claim(take) => {
                let key = hash(take.sale_id.as_bytes(), Operation::Claim);
                let take = self.take(&take, user, frame)?;
                (key, PreparedBody::Plain(Body::Claim(take)))
            }
            WireBody::Decrement(take) => {
                let key = hash(take.sale_id.as_bytes(), Operation::Decrement);
                let take = self.take(&take, user, frame)?;
                (key, PreparedBody::Plain(Body::Decrement(take)))
            }
            WireBody::Confirm(step) => settle(&step, Operation::Confirm, Body::Confirm, hash)?,
            WireBody::Release(step) => settle(&step, Operation::Release, Body::Release, hash)?,
            WireBody::Extend(step) => settle(&step, Operation::Extend, Body::Extend, hash)?,
            WireBody::Cancel(step) => settle(&step, Operation::Cancel, Body::Cancel, hash)?,
            WireBody::CreateSale(sale) => {
                let key = hash(sale.sale_id.as_bytes(), Operation::Sale);
                (key, self.create_sale(sale, frame)?)
            }
            WireBody::OpenSale(v1::SaleRef { sale_id }) => {
                let sale = place(&sale_id, frame)?;
                (
                    hash(sale_id.as_bytes(), Operation::Sale),
                    PreparedBody::Plain(Body::OpenSale { sale }),
                )
            }
            WireBody::PauseSale(v1::SaleRef { sale_id }) => {
                let sale = place(&sale_id, frame)?;
                (
                    hash(sale_id.as_bytes(), Operation::Sale),
                    PreparedBody::Plain(Body::PauseSale { sale }),
                )
            }
            WireBody::CloseSale(v1::SaleRef { sale_id }) => {
                let sale = place(&sale_id, frame)?;
                (
                    hash(sale_id.as_bytes(), Operation::Sale),
                    PreparedBody::Plain(Body::CloseSale { sale }),
                )
            }
            WireBody::Restock(v1::SaleUnits { sale_id, units }) => {
                let sale = place(&sale_id, frame)?;
                let body = PreparedBody::Plain(Body::Restock { sale, units });
                (hash(sale_id.as_bytes(), Operation::Sale), body)
            }
            WireBody::Withdraw(v1::SaleUnits { sale_id, units }) => {
                let sale = place(&sale_id, frame)?;
                let body = PreparedBody::Plain(Body::Withdraw { sale, units });
                (hash(sale_id.as_bytes(), Operation::Sale), body)
            }
            WireBody::PutDocument(put) => (hash(&put.document, Operation::Document), put_document(put)?),
            WireBody::DeleteDocument(delete) => {
                check_document(&delete.document)?;
                let key = hash(&delete.document, Operation::Document);
                let v1::DeleteDocument {
                    document,
                    version_expected,
                } = delete;
                (
                    key,
                    PreparedBody::DeleteDocument {
                        document,
                        version_expected,
                    },
                )
            }
            WireBody::CheckDocument(check) => {
                check_document(&check.document)?;
                let key = hash(&check.document, Operation::Document);
                let v1::CheckDocument {
                    document,
                    version_expected,
                } = check;
                (
                    key,
                    PreparedBody::CheckDocument {
                        document,
                        version_expected,
                    },
                )
            }
            WireBody::Then(_) => return Err(Malformed("then holds a command, not another then".to_owned())),
            WireBody::LeaseDocument(lease) => {
                check_document(&lease.document)?;
                let key = hash(&lease.document, Operation::Document);
                let v1::LeaseDocument {
                    document,
                    fencing_token,
                    lease_ms,
                } = lease;
                (
                    key,
                    PreparedBody::LeaseDocument {
                        document,
                        fencing_token,
                        lease_ms,
                    },
                )
            }
        };
        let not_after_ms = self.not_after_ms(not_after_ms);
        frame.commands.push(PreparedCommand {
            follows,
            principal,
            key,
            not_after_ms,
            body,
        });
        Ok(())
    }

    /// A request to resolve a key, as a frame of its own. `sale_number` is the sale's, if it exists.
    pub fn resolve(
        &self,
        request: &v1::ResolveRequest,
        sale_number: Option<u32>,
    ) -> Result<Frame, Malformed> {
        check_name("key", &request.key)?;
        check_name("principal", &request.principal)?;
        let operation = match request.operation() {
            v1::Operation::Claim => Operation::Claim,
            v1::Operation::Decrement => Operation::Decrement,
            v1::Operation::Confirm => Operation::Confirm,
            v1::Operation::Release => Operation::Release,
            v1::Operation::Extend => Operation::Extend,
            v1::Operation::Cancel => Operation::Cancel,
            v1::Operation::Sale => Operation::Sale,
            v1::Operation::Document => Operation::Document,
            v1::Operation::Unspecified => {
                return Err(Malformed(format!("operation {} is not one", request.operation)));
            }
        };
        let principal = self.user(&request.principal);
        let hash = |scope: &[u8]| {
            key_hash(
                self.secret,
                NAMESPACE_DEFAULT,
                scope,
                principal,
                operation,
                request.key.as_bytes(),
            )
        };
        let asked = match operation {
            Operation::Confirm | Operation::Release | Operation::Extend | Operation::Cancel => {
                // Nothing can have been settled in a sale that does not exist: the machine will say so.
                hash(&settle_scope(sale_number.unwrap_or_default()))
            }
            Operation::Document => {
                check_document(&request.document)?;
                hash(&request.document)
            }
            _ => hash(request.sale_id.as_bytes()),
        };
        let mut frame = Frame::default();
        let sale_id = match operation {
            // A key used on a document belongs to no sale; the log wants a name, and looks nothing up by it.
            Operation::Document => NO_SALE_ID,
            _ => &request.sale_id,
        };
        let sale = place(sale_id, &mut frame)?;
        let body = Body::Resolve(inventory_machine::command::Resolve {
            sale,
            operation,
            key: asked,
            fence_until_ms: request.not_after_ms,
        });
        frame.commands.push(PreparedCommand {
            follows: false,
            principal,
            // Asking twice is harmless, so the question needs no key from outside: only one that is not
            // the key it asks about.
            key: !asked | 1,
            not_after_ms: self.not_after_ms(0),
            body: PreparedBody::Plain(body),
        });
        Ok(frame)
    }

    /// The keyed hash of a user or principal.
    pub fn user(&self, name: &str) -> u128 {
        user_hash(self.secret, NAMESPACE_DEFAULT, name.as_bytes())
    }

    fn not_after_ms(&self, not_after_ms: u64) -> u64 {
        if not_after_ms == 0 {
            self.now.log_time_ms + NOT_AFTER_MS_MAX
        } else {
            not_after_ms
        }
    }

    fn take(&self, take: &v1::Take, user: u128, frame: &mut Frame) -> Result<Take, Malformed> {
        check_name("user", &take.user)?;
        let sale = place(&take.sale_id, frame)?;
        // Zero is what an absent field looks like on this wire: one unit.
        Ok(Take {
            sale,
            user,
            quantity: take.quantity.max(1),
        })
    }

    fn create_sale(&self, sale: v1::CreateSale, frame: &mut Frame) -> Result<PreparedBody, Malformed> {
        if sale.name.len() > SALE_NAME_BYTES_MAX {
            let bytes = sale.name.len();
            return Err(Malformed(format!(
                "name has {bytes} bytes; at most {SALE_NAME_BYTES_MAX}"
            )));
        }
        let currency = if sale.currency.is_empty() {
            "EUR"
        } else {
            sale.currency.as_str()
        };
        let Ok(currency) = <[u8; 3]>::try_from(currency.as_bytes()) else {
            return Err(Malformed(format!(
                "currency {currency:?} is not an ISO 4217 code of three capitals"
            )));
        };
        let or = |value: u64, default: u64| if value == 0 { default } else { value };
        let opens_at_ms = match (sale.open, sale.opens_at_ms) {
            (true, 0) => OPEN_AT_ONCE,
            (true, at) => {
                return Err(Malformed(format!(
                    "open at once and opens_at_ms {at} exclude each other"
                )));
            }
            (false, at) => at,
        };
        let create = CreateSale {
            sale: place(&sale.sale_id, frame)?,
            name: "",
            units_total: sale.units_total,
            per_user_units_max: sale.per_user_units_max.max(1),
            hold_ms: or(sale.hold_ms, HOLD_MS_DEFAULT),
            checkout_max_ms: or(sale.checkout_max_ms, CHECKOUT_MAX_MS_DEFAULT),
            opens_at_ms,
            closes_at_ms: sale.closes_at_ms,
            price_minor: sale.price_minor,
            currency,
            claims_max: sale.claims_max,
        };
        Ok(PreparedBody::CreateSale(create, sale.name))
    }
}

/// Settling keys are scoped by the claim's sale, which the claim id carries as a number.
fn settle_scope(sale_number: u32) -> [u8; 5] {
    let [a, b, c, d] = sale_number.to_be_bytes();
    // '#' is no character of a sale id, so a number never scopes like a name.
    [b'#', a, b, c, d]
}

/// The number of the sale that a claim belongs to.
pub fn sale_number(claim: ClaimId) -> u32 {
    let [_, _, _, _, a, b, c, d, ..] = claim.0;
    u32::from_be_bytes([a, b, c, d])
}

fn settle(
    step: &v1::Settle,
    operation: Operation,
    body: fn(Settle) -> Body<'static>,
    hash: impl Fn(&[u8], Operation) -> u128,
) -> Result<(u128, PreparedBody), Malformed> {
    let claim = parse_claim_id(&step.claim_id)?;
    let key = hash(&settle_scope(sale_number(claim)), operation);
    Ok((
        key,
        PreparedBody::Plain(body(Settle {
            claim,
            fencing_token: step.fencing_token,
        })),
    ))
}

/// Reads a claim id.
pub fn parse_claim_id(text: &str) -> Result<ClaimId, Malformed> {
    ClaimId::parse(text).ok_or_else(|| Malformed(format!("claim_id {} is not a claim id", quote(text))))
}

/// A sale's place in the frame, after a look at its id.
fn place(sale_id: &str, frame: &mut Frame) -> Result<u16, Malformed> {
    check_sale_id(sale_id)?;
    Ok(frame.sale(sale_id))
}

/// Checks that a text can be a sale id.
pub fn check_sale_id(sale_id: &str) -> Result<(), Malformed> {
    let fits = (1..=SALE_ID_BYTES_MAX).contains(&sale_id.len());
    let plain = sale_id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if fits && plain {
        return Ok(());
    }
    let why = format!(
        "sale_id {} is not 1 to {SALE_ID_BYTES_MAX} of a-z A-Z 0-9 . _ -",
        quote(sale_id)
    );
    Err(Malformed(why))
}

fn put_document(put: v1::PutDocument) -> Result<PreparedBody, Malformed> {
    check_document(&put.document)?;
    if put.body.len() > DOCUMENT_BODY_BYTES_MAX {
        let bytes = put.body.len();
        return Err(Malformed(format!(
            "body has {bytes} bytes; at most {DOCUMENT_BODY_BYTES_MAX}"
        )));
    }
    let plain = PutDocument {
        document: &[],
        body: &[],
        version_expected: put.version_expected,
        fencing_token: put.fencing_token,
        ttl_ms: put.ttl_ms,
    };
    Ok(PreparedBody::PutDocument(plain, put.document, put.body))
}

fn check_document(document: &Bytes) -> Result<(), Malformed> {
    if (1..=DOCUMENT_KEY_BYTES_MAX).contains(&document.len()) {
        return Ok(());
    }
    let bytes = document.len();
    Err(Malformed(format!(
        "document key has {bytes} bytes; 1 to {DOCUMENT_KEY_BYTES_MAX} are possible"
    )))
}

fn check_name(field: &str, name: &str) -> Result<(), Malformed> {
    if (1..=NAME_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    let bytes = name.len();
    Err(Malformed(format!(
        "{field} has {bytes} bytes; 1 to {NAME_BYTES_MAX} are needed"
    )))
}

/// A value for an error message: quoted, escaped, and cut where it becomes a burden.
fn quote(text: &str) -> String {
    let cut: String = text.chars().take(NAME_BYTES_MAX).collect();
    if cut.len() < text.len() {
        format!("{cut:?}…")
    } else {
        format!("{cut:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preparer() -> Preparer {
        Preparer {
            secret: 7,
            now: Stamp {
                log_time_ms: 1_000,
                wall_time_ms: 5,
            },
        }
    }

    fn claim(sale_id: &str, user: &str, key: &str) -> v1::Command {
        let take = v1::Take {
            sale_id: sale_id.into(),
            user: user.into(),
            quantity: 0,
        };
        v1::Command {
            key: key.into(),
            body: Some(WireBody::Claim(take)),
            ..Default::default()
        }
    }

    #[test]
    fn odd_names_are_refused_by_name_and_value() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for (command, wanted) in [
            (claim("no spaces", "u", "k"), "sale_id \"no spaces\""),
            (claim("", "u", "k"), "sale_id \"\""),
            (claim("../../etc", "u", "k"), "sale_id \"../../etc\""),
            (claim(&long, "u", "k"), "sale_id"),
            (claim("s", "", "k"), "principal has 0 bytes"),
            (claim("s", &long, "k"), "principal has 65 bytes"),
            (claim("s", "u", ""), "key has 0 bytes"),
            (claim("s", "u", &long), "key has 65 bytes"),
            (
                v1::Command {
                    key: "k".into(),
                    ..Default::default()
                },
                "no body",
            ),
        ] {
            let mut frame = Frame::default();
            let error = preparer().add(command, false, &mut frame).expect_err(wanted);
            assert!(error.0.contains(wanted), "{error} should say {wanted}");
            assert!(frame.commands.is_empty());
        }
    }

    #[test]
    fn one_sale_is_named_once_in_a_frame() {
        let mut frame = Frame::default();
        for user in ["a", "b", "c"] {
            preparer()
                .add(claim("hot", user, "k"), false, &mut frame)
                .unwrap();
        }
        preparer()
            .add(claim("cold", "a", "k"), false, &mut frame)
            .unwrap();
        assert_eq!(frame.sales, ["hot", "cold"]);
    }

    #[test]
    fn keys_are_scoped_by_sale_and_principal() {
        let mut frame = Frame::default();
        for (sale, user) in [("hot", "a"), ("hot", "b"), ("cold", "a")] {
            preparer()
                .add(claim(sale, user, "same"), false, &mut frame)
                .unwrap();
        }
        let keys: std::collections::HashSet<u128> =
            frame.commands.iter().map(|command| command.key).collect();
        assert_eq!(keys.len(), 3);
    }
}
