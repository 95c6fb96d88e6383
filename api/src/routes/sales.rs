//! Sales: everybody may look, platforms and operators may change.
//!
//! Looking is answered from at most a second ago, so that a page with a hundred thousand onlookers
//! costs the store one read a second. Every change takes an `Idempotency-Key`.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use client::{Consistency, NewSale, REHEARSAL_PREFIX, is_rehearsal};
use serde::Deserialize;
use utoipa::IntoParams;

use super::tell_position;
use crate::{
    auth::Caller,
    cache::Page,
    door::Door,
    error::{CREATED, NOT_MODIFIED, Problem},
    extract::{Asked, IdempotencyKey, JsonBody, SaleId, is_sale_id, not_a_sale_id},
    json::{NewSaleJson, ProblemJson, ReceiptJson, SaleChangedJson, SaleJson, SalesJson, UnitsJson},
    store::SaleChange,
};

/// Sales on a page unless asked otherwise.
const PAGE_SALES: u32 = 50;

/// Most sales on a page: about 40 KB of JSON.
const PAGE_SALES_MAX: u32 = 100;

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Freshness {
    /// At most about a second old; may be cached.
    #[default]
    Cached,
    /// As of now, confirmed by the leader with a majority; never cached.
    Linearizable,
}

/// How to read one sale.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReadQuery {
    /// `cached` (default) or `linearizable`.
    #[serde(default)]
    #[param(inline)]
    consistency: Freshness,
}

/// Which page of sales.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Only sales after this id.
    after: Option<String>,
    /// Most sales wanted, 1 to 100; default 50.
    limit: Option<u32>,
    /// `cached` (default) or `linearizable`.
    #[serde(default)]
    #[param(inline)]
    consistency: Freshness,
}

/// Sales, in id order
#[utoipa::path(
    get, path = "/v1/sales", tag = "sales", params(PageQuery),
    responses(
        (status = 200, description = "A page", body = SalesJson<'static>,
            headers(("ETag" = String), ("Cache-Control" = String))),
        (status = 304, description = "Unchanged since the ETag in If-None-Match"),
        (status = 400, description = "invalid-request", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    Asked(query): Asked<PageQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = query.after.as_deref();
    if after.is_some_and(|after| !is_sale_id(after)) {
        return Err(not_a_sale_id());
    }
    let limit = query.limit.unwrap_or(PAGE_SALES);
    if !(1..=PAGE_SALES_MAX).contains(&limit) {
        return Err(Problem::invalid("limit must be 1 to 100"));
    }
    let page = match query.consistency {
        Freshness::Cached => door.sales.sales(after, limit).await?,
        Freshness::Linearizable => {
            let _place = door.linearizable_reads.enter()?;
            let (sales, position) = door.store.sales(after, limit, Consistency::Linearizable).await?;
            Arc::new(Page::of_sales(sales, limit, position))
        }
    };
    Ok(answer(&page, query.consistency, &headers))
}

/// One sale and its counters
#[utoipa::path(
    get, path = "/v1/sales/{sale_id}", tag = "sales",
    params(("sale_id" = String, Path, description = "The sale"), ReadQuery),
    responses(
        (status = 200, description = "The sale; its ETag is the log index of its last change",
            body = SaleJson<'static>, headers(("ETag" = String), ("Cache-Control" = String))),
        (status = 304, description = "Unchanged since the ETag in If-None-Match"),
        (status = 400, description = "invalid-request", body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, description = "sale-unknown", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn get(
    State(door): State<Arc<Door>>,
    SaleId(sale_id): SaleId,
    Asked(query): Asked<ReadQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let page = match query.consistency {
        Freshness::Cached => door.sales.sale(&sale_id).await?,
        Freshness::Linearizable => {
            let _place = door.linearizable_reads.enter()?;
            let (sale, position) = door.store.sale(&sale_id, Consistency::Linearizable).await?;
            Arc::new(Page::of_sale(sale, position))
        }
    };
    Ok(answer(&page, query.consistency, &headers))
}

fn answer(page: &Page, freshness: Freshness, asked: &HeaderMap) -> Response {
    let cache_control = match freshness {
        Freshness::Cached => "public, max-age=1, stale-while-revalidate=1",
        Freshness::Linearizable => "no-store",
    };
    let mut response = if is_known(asked, &page.etag) {
        NOT_MODIFIED.into_response()
    } else {
        let mut response = Response::new(Body::from(page.body.clone()));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
    headers.insert(header::ETAG, page.etag.clone());
    tell_position(&page.position, headers);
    response
}

/// Whether `If-None-Match` names this tag; compared weakly, as RFC 9110, 13.1.2 asks.
fn is_known(asked: &HeaderMap, etag: &HeaderValue) -> bool {
    let strong = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    let Ok(etag) = etag.to_str().map(strong) else {
        return false;
    };
    asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// Creates a sale
#[utoipa::path(
    post, path = "/v1/sales", tag = "sales", request_body = NewSaleJson, security(("bearer" = [])),
    params(("Idempotency-Key" = String, Header, description = "Yours, 1 to 64 bytes")),
    responses(
        (status = 201, description = "Created, now or by the same key before", body = SaleChangedJson<'static>),
        (status = 400, description = "invalid-request, idempotency-key-missing", body = ProblemJson, content_type = "application/problem+json"),
        (status = 401, description = "unauthenticated", body = ProblemJson, content_type = "application/problem+json"),
        (status = 403, description = "forbidden", body = ProblemJson, content_type = "application/problem+json"),
        (status = 409, description = "sale-exists, key-fenced", body = ProblemJson, content_type = "application/problem+json"),
        (status = 422, description = "key-reused", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "unknown-outcome, unavailable", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn create(
    State(door): State<Arc<Door>>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    body: JsonBody<NewSaleJson>,
) -> Result<Response, Problem> {
    let sale = NewSale::try_from(body.required()?)?;
    if !is_sale_id(&sale.sale_id) {
        return Err(not_a_sale_id());
    }
    if is_rehearsal(&sale.sale_id) {
        return Err(Problem::invalid(format!(
            "ids that begin with {REHEARSAL_PREFIX} are kept for rehearsals; choose another"
        )));
    }
    let sale_id = sale.sale_id.clone();
    let location = HeaderValue::try_from(format!("/v1/sales/{sale_id}")).map_err(|_| not_a_sale_id())?;
    let mut response = change(&door, &caller, &sale_id, SaleChange::Create(sale), key).await?;
    *response.status_mut() = CREATED;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

async fn change(
    door: &Door,
    caller: &Caller,
    sale_id: &str,
    change: SaleChange,
    key: String,
) -> Result<Response, Problem> {
    let arguments = format!("{change:?} key={key:?}");
    let changed = door.store.change_sale(change, key, caller.0.user.clone()).await;
    let changed = changed.map_err(Problem::from);
    caller.acted(&format_args!("{arguments}"), &changed);
    let receipt = changed?;
    let mut response = Json(SaleChangedJson {
        sale_id,
        receipt: ReceiptJson::from(&receipt),
    })
    .into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A change that needs nothing but the sale.
macro_rules! plain_change {
    ($(#[doc = $doc:literal])* $name:ident, $path:literal, $change:expr) => {
        $(#[doc = $doc])*
        #[utoipa::path(
            post, path = $path, tag = "sales", security(("bearer" = [])),
            params(
                ("sale_id" = String, Path, description = "The sale"),
                ("Idempotency-Key" = String, Header, description = "Yours, 1 to 64 bytes"),
            ),
            responses(
                (status = 200, description = "Done, now or by the same key before", body = SaleChangedJson<'static>),
                (status = 400, description = "invalid-request, idempotency-key-missing", body = ProblemJson, content_type = "application/problem+json"),
                (status = 401, description = "unauthenticated", body = ProblemJson, content_type = "application/problem+json"),
                (status = 403, description = "forbidden", body = ProblemJson, content_type = "application/problem+json"),
                (status = 404, description = "sale-unknown", body = ProblemJson, content_type = "application/problem+json"),
                (status = 409, description = "sale-transition, key-fenced", body = ProblemJson, content_type = "application/problem+json"),
                (status = 422, description = "key-reused", body = ProblemJson, content_type = "application/problem+json"),
                (status = 503, description = "unknown-outcome, unavailable", body = ProblemJson, content_type = "application/problem+json"),
            ),
        )]
        pub(super) async fn $name(
            State(door): State<Arc<Door>>,
            caller: Caller,
            SaleId(sale_id): SaleId,
            IdempotencyKey(key): IdempotencyKey,
        ) -> Result<Response, Problem> {
            change(&door, &caller, &sale_id, $change(sale_id.clone()), key).await
        }
    };
}

plain_change!(
    /// Opens a scheduled or paused sale
    open, "/v1/sales/{sale_id}/open", SaleChange::Open
);
plain_change!(
    /// Pauses an open sale: no new claims, held ones may still be confirmed
    pause, "/v1/sales/{sale_id}/pause", SaleChange::Pause
);
plain_change!(
    /// Closes a sale for good
    close, "/v1/sales/{sale_id}/close", SaleChange::Close
);

/// A change by a number of units.
macro_rules! units_change {
    ($(#[doc = $doc:literal])* $name:ident, $path:literal, $change:expr) => {
        $(#[doc = $doc])*
        #[utoipa::path(
            post, path = $path, tag = "sales", request_body = UnitsJson, security(("bearer" = [])),
            params(
                ("sale_id" = String, Path, description = "The sale"),
                ("Idempotency-Key" = String, Header, description = "Yours, 1 to 64 bytes"),
            ),
            responses(
                (status = 200, description = "Done, now or by the same key before", body = SaleChangedJson<'static>),
                (status = 400, description = "invalid-request, idempotency-key-missing", body = ProblemJson, content_type = "application/problem+json"),
                (status = 401, description = "unauthenticated", body = ProblemJson, content_type = "application/problem+json"),
                (status = 403, description = "forbidden", body = ProblemJson, content_type = "application/problem+json"),
                (status = 404, description = "sale-unknown", body = ProblemJson, content_type = "application/problem+json"),
                (status = 409, description = "sale-transition, units-in-use, key-fenced", body = ProblemJson, content_type = "application/problem+json"),
                (status = 422, description = "key-reused", body = ProblemJson, content_type = "application/problem+json"),
                (status = 503, description = "unknown-outcome, unavailable", body = ProblemJson, content_type = "application/problem+json"),
            ),
        )]
        pub(super) async fn $name(
            State(door): State<Arc<Door>>,
            caller: Caller,
            SaleId(sale_id): SaleId,
            IdempotencyKey(key): IdempotencyKey,
            body: JsonBody<UnitsJson>,
        ) -> Result<Response, Problem> {
            let UnitsJson { units } = body.required()?;
            if units == 0 {
                return Err(Problem::invalid("units must be at least 1"));
            }
            change(&door, &caller, &sale_id, $change(sale_id.clone(), units), key).await
        }
    };
}

units_change!(
    /// Adds units to a sale
    restock, "/v1/sales/{sale_id}/restock", SaleChange::Restock
);
units_change!(
    /// Takes available units out of a sale
    withdraw, "/v1/sales/{sale_id}/withdraw", SaleChange::Withdraw
);
