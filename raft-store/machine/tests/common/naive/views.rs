//! What the naive model shows: the same views as the machine's, made from its own plain lists.

use super::*;

impl Model {
    /// All sales, in order of their numbers.
    pub fn sale_views(&self) -> Vec<SaleView> {
        let view = |(at, sale): (usize, &Sale)| SaleView {
            namespace: NAMESPACE_DEFAULT,
            sale_id: sale.id.clone(),
            sale_number: at as u32 + 1,
            name: sale.create.name.into(),
            status: sale.status,
            units_total: sale.total,
            units_available: sale.available(),
            units_held: sale.units(ClaimStatus::Held),
            units_confirmed: sale.units(ClaimStatus::Confirmed),
            per_user_units_max: sale.create.per_user_units_max,
            hold_ms: sale.create.hold_ms,
            checkout_max_ms: sale.create.checkout_max_ms,
            opens_at_ms: sale.create.opens_at_ms,
            closes_at_ms: sale.create.closes_at_ms,
            price_minor: sale.create.price_minor,
            currency: sale.create.currency,
            claims_made: sale.claims.len() as u32,
            claims_max: sale.claims_max,
            changed_index: sale.changed_index,
            first_deadline_ms: sale.held_deadlines().min(),
            last_deadline_ms: sale.held_deadlines().max(),
        };
        self.sales.iter().enumerate().map(view).collect()
    }

    /// All claims of a sale, in order of rank.
    pub fn claim_views(&self, sale_number: u32) -> Vec<ClaimView> {
        let sale = &self.sales[sale_number as usize - 1];
        (0..sale.claims.len()).map(|at| sale.view_claim(at)).collect()
    }

    /// All documents, in order of keys.
    pub fn document_views(&self) -> Vec<DocumentView> {
        let view = |(key, document): (&Vec<u8>, &Document)| DocumentView {
            document: key.clone(),
            body: document.body.clone(),
            version: document.version,
            fencing_token: document.token,
            leased_until_ms: document.leased_until_ms,
            expires_at_ms: document.expires_at_ms,
        };
        self.documents.iter().map(view).collect()
    }

    /// When log time next ends a hold, lease or document.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let holds = self.sales.iter().flat_map(|sale| sale.held_deadlines());
        let documents = self
            .documents
            .values()
            .flat_map(|document| [document.leased_until_ms, document.expires_at_ms]);
        holds.chain(documents.filter(|&end| end != 0)).min()
    }

    /// When wall time next opens or closes a sale.
    pub fn next_hour_ms(&self) -> Option<u64> {
        (0..self.sales.len()).filter_map(|at| self.next_hour(at)).min()
    }

    /// Whether a key is fenced.
    pub fn is_fenced(&self, key: u128) -> bool {
        self.fences.iter().any(|&(fenced, _)| fenced == key)
    }

    /// Whether any fence is up.
    pub fn has_fences(&self) -> bool {
        !self.fences.is_empty()
    }
}
