//! From the wire to the model. Total: whatever a node sends becomes a value or an error.

use proto::v1::{self, outcome::Kind};

use crate::{
    Error,
    model::{
        Claim, Claimed, Consistency, Document, DocumentChanged, DocumentList, Event, ListedDocument, NewSale,
        Position, Receipt, Resolution, Sale, Update,
    },
};

/// A claim; fields the node left out are zero, unknown statuses `Unspecified`.
pub(crate) fn claim(claim: v1::Claim) -> Claim {
    Claim {
        status: claim.status(),
        claim_id: claim.claim_id,
        quantity: claim.quantity,
        rank: claim.rank,
        deadline_ms: claim.deadline_ms,
        fencing_token: claim.fencing_token,
        receipt: claim.receipt.unwrap_or_default(),
        user_hash: claim.user_hash.to_vec(),
    }
}

/// A sale.
pub(crate) fn sale(sale: v1::Sale) -> Sale {
    Sale {
        status: sale.status(),
        sale_id: sale.sale_id,
        name: sale.name,
        units_total: sale.units_total,
        units_available: sale.units_available,
        units_held: sale.units_held,
        units_confirmed: sale.units_confirmed,
        per_user_units_max: sale.per_user_units_max,
        hold_ms: sale.hold_ms,
        checkout_max_ms: sale.checkout_max_ms,
        opens_at_ms: sale.opens_at_ms,
        closes_at_ms: sale.closes_at_ms,
        price_minor: sale.price_minor,
        currency: sale.currency,
        claims_made: sale.claims_made,
        claims_max: sale.claims_max,
        changed_index: sale.changed_index,
        first_deadline_ms: sale.first_deadline_ms,
        last_deadline_ms: sale.last_deadline_ms,
    }
}

/// A sale to make, as the wire wants it.
pub(crate) fn new_sale(sale: NewSale) -> v1::CreateSale {
    v1::CreateSale {
        sale_id: sale.sale_id,
        name: sale.name,
        units_total: sale.units_total,
        per_user_units_max: sale.per_user_units_max,
        hold_ms: sale.hold_ms,
        checkout_max_ms: sale.checkout_max_ms,
        opens_at_ms: sale.opens_at_ms,
        closes_at_ms: sale.closes_at_ms,
        price_minor: sale.price_minor,
        currency: sale.currency,
        claims_max: sale.claims_max,
        open: sale.open,
    }
}

/// How fresh a read must be, as the wire wants it.
pub(crate) fn consistency(consistency: Consistency) -> v1::Consistency {
    let (level, max_age_ms) = match consistency {
        Consistency::Linearizable => (v1::consistency::Level::Linearizable, 0),
        Consistency::Bounded(max_age_ms) => (v1::consistency::Level::Bounded, max_age_ms),
        Consistency::Local => (v1::consistency::Level::Local, 0),
    };
    v1::Consistency {
        level: level.into(),
        max_age_ms,
    }
}

/// One item of a watch.
pub(crate) fn update(response: v1::WatchResponse) -> Update {
    Update {
        events: response.events.into_iter().map(event).collect(),
        sale: response.sale.map(sale),
        position: response.position.unwrap_or_default(),
    }
}

fn event(event: v1::Event) -> Event {
    Event {
        kind: event.kind(),
        log_index: event.log_index,
        ordinal: event.ordinal,
        log_time_ms: event.log_time_ms,
        sale_id: event.sale_id,
        claim: event.claim.map(claim),
        value: event.value,
        command: event.command,
    }
}

/// The answer to a claim or decrement.
pub(crate) fn claimed(kind: Kind, position: Position) -> Result<Claimed, Error> {
    match kind {
        Kind::Claim(granted) => Ok(Claimed {
            grant: granted.grant(),
            claim: claim(granted.claim.ok_or_else(|| Error::malformed("the claim"))?),
            position,
        }),
        _ => Err(Error::malformed("a grant")),
    }
}

/// The answer to a confirm, release, extend or cancel.
pub(crate) fn settled(kind: Kind, position: Position) -> Result<(Claim, Position), Error> {
    match kind {
        Kind::Settled(settled) => Ok((claim(settled), position)),
        _ => Err(Error::malformed("the settled claim")),
    }
}

/// The answer to everything about a sale.
pub(crate) fn done(kind: Kind) -> Result<Receipt, Error> {
    match kind {
        Kind::Done(receipt) => Ok(receipt),
        _ => Err(Error::malformed("the receipt")),
    }
}

/// A document.
pub(crate) fn document(found: v1::GetDocumentResponse) -> Document {
    Document {
        body: found.body,
        version: found.version,
        fencing_token: found.fencing_token,
        leased_until_ms: found.leased_until_ms,
        expires_at_ms: found.expires_at_ms,
        position: found.position.unwrap_or_default(),
    }
}

/// Some documents.
pub(crate) fn document_list(list: v1::ListDocumentsResponse) -> DocumentList {
    let listed = |listed: v1::ListedDocument| ListedDocument {
        key: listed.document,
        body: listed.body,
        version: listed.version,
        fencing_token: listed.fencing_token,
        leased_until_ms: listed.leased_until_ms,
        expires_at_ms: listed.expires_at_ms,
    };
    DocumentList {
        documents: list.documents.into_iter().map(listed).collect(),
        more: list.more,
        position: list.position.unwrap_or_default(),
    }
}

/// The answer to a change of a document.
pub(crate) fn document_changed(kind: Kind, position: Position) -> Result<DocumentChanged, Error> {
    match kind {
        Kind::Document(done) => Ok(DocumentChanged {
            version: done.version,
            fencing_token: done.fencing_token,
            leased_until_ms: done.leased_until_ms,
            position,
        }),
        _ => Err(Error::malformed("the document")),
    }
}

/// The answer to a resolve.
pub(crate) fn resolution(kind: v1::resolution::Kind) -> Resolution {
    match kind {
        v1::resolution::Kind::Claim(found) => Resolution::Claim(claim(found)),
        v1::resolution::Kind::Effect(receipt) => Resolution::Effect(receipt),
        v1::resolution::Kind::AbandonedUntilMs(fenced_until_ms) => Resolution::Abandoned { fenced_until_ms },
    }
}
