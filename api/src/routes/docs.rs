//! The OpenAPI 3.1 document, made from the routes' own annotations, and a page to read it with, all of
//! it embedded: a closed network has no CDN.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::Path,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Components,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_swagger_ui::Config;

use super::{checkout, claims, dev, live, orders, probes, sales, status, webhooks};
use crate::door::Door;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast",
        description = "Strongly consistent inventory for flash sales: claims, holds and sales over HTTP. \
            Errors are RFC 9457 problems; every POST takes an Idempotency-Key and has at most one effect \
            per key, so repeating a request with its key is always safe.",
    ),
    paths(
        sales::list,
        sales::create,
        sales::get,
        sales::open,
        sales::pause,
        sales::close,
        sales::restock,
        sales::withdraw,
        claims::claim,
        claims::get,
        claims::release,
        claims::confirm,
        checkout::pay,
        checkout::status,
        orders::get,
        orders::cancel,
        webhooks::stripe,
        live::live,
        status::status,
        probes::livez,
        probes::readyz,
        probes::metrics,
    ),
    modifiers(&Bearer),
    tags(
        (name = "sales", description = "Sales and their counters"),
        (name = "claims", description = "Claims and what becomes of them"),
        (name = "checkout", description = "Paying for a claim"),
        (name = "orders", description = "What was bought and paid for"),
        (name = "operating", description = "Probes and metrics"),
    ),
)]
struct Document;

#[derive(OpenApi)]
#[openapi(paths(dev::token), tags((name = "development", description = "Development mode only")))]
struct DevelopmentDocument;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .build();
        document
            .components
            .get_or_insert_with(Components::new)
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// The document; with the routes of development mode where they exist.
fn document(is_development: bool) -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    if is_development {
        document.merge(DevelopmentDocument::openapi());
    }
    document
}

/// The page: the library's own has no viewport, so a phone shows it as a tiny desktop, and no dark colours.
const PAGE: &str = include_str!("docs.html");

/// `/openapi.json` and `/docs`.
pub(super) fn router(is_development: bool) -> Router<Arc<Door>> {
    let document = Arc::new(document(is_development));
    // Left alone, the library sends the address of this document to a validator on the internet.
    let config = Arc::new(
        Config::new(["/openapi.json"])
            .use_base_layout()
            .validator_url("none")
            .display_request_duration(true),
    );
    Router::new()
        .route("/openapi.json", get(|| async move { Json(document) }))
        .route("/docs", get(|| async { Redirect::to("/docs/") }))
        .route("/docs/", get(|| async { Html(PAGE) }))
        .route(
            "/docs/{*rest}",
            get(|Path(file): Path<String>| async move { asset(&file, config) }),
        )
}

/// A file of the library that draws the page.
fn asset(file: &str, config: Arc<Config<'static>>) -> Response {
    match utoipa_swagger_ui::serve(file, config) {
        Ok(Some(file)) => ([(header::CONTENT_TYPE, file.content_type)], file.bytes).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => {
            tracing::error!(%error, "the settings of the docs page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::ROUTES;

    #[test]
    fn the_document_lists_every_route() {
        let document = document(true);
        for route in ROUTES {
            let is_own = route.starts_with("/docs")
                || ["/openapi.json", "/"].contains(&route)
                || !route.starts_with('/');
            assert_eq!(document.paths.paths.contains_key(route), !is_own, "{route}");
        }
        for path in document.paths.paths.keys() {
            assert!(ROUTES.contains(&path.as_str()), "{path} has no name in metrics");
        }
    }
}
