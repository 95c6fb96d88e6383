//! Values that several tests need.

use client::{Sale, SaleStatus};

/// An open sale with all its units available.
pub fn sale(sale_id: &str, units: u32) -> Sale {
    Sale {
        sale_id: sale_id.into(),
        name: sale_id.into(),
        status: SaleStatus::Open,
        units_total: units,
        units_available: units,
        units_held: 0,
        units_confirmed: 0,
        per_user_units_max: 1,
        hold_ms: 180_000,
        checkout_max_ms: 60_000,
        opens_at_ms: 0,
        closes_at_ms: 0,
        price_minor: 4_900,
        currency: "EUR".into(),
        claims_made: 0,
        claims_max: 10_000,
        changed_index: 1,
        first_deadline_ms: None,
        last_deadline_ms: None,
    }
}
