//! The page at `/`: the sale live, the cluster behind it, and in demo and development mode a claim of one's own.
//!
//! One document with its style and script inside, compiled in: a closed network has no CDN. Its policy allows this
//! very style and this very script, by their hashes, and connections to this door alone (and to the demo's
//! controls, where it is told of them). It shows what the public routes show; what only operators may see
//! comes from `/v1/status` with a token.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Html,
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use crate::door::Door;

const DOCUMENT: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// `/`.
pub(super) fn router(is_development: bool, demo_control: Option<&str>) -> Router<Arc<Door>> {
    let page = document(is_development, demo_control);
    let headers = headers(demo_control);
    Router::new().route("/", get(move || async move { (headers, Html(page)) }))
}

fn document(is_development: bool, demo_control: Option<&str>) -> String {
    let mode = match (demo_control, is_development) {
        (Some(_), _) => "demo",
        (None, true) => "development",
        (None, false) => "plain",
    };
    DOCUMENT
        .replace("%%mode%%", mode)
        .replace("%%control%%", demo_control.unwrap_or_default())
        .replace("%%style%%", STYLE)
        .replace("%%script%%", SCRIPT)
}

fn headers(demo_control: Option<&str>) -> HeaderMap {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self' {}; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE),
        demo_control.unwrap_or_default(),
    );
    let policy =
        HeaderValue::try_from(policy).expect("hashes, and an origin that was checked with the options");
    HeaderMap::from_iter([
        (header::CONTENT_SECURITY_POLICY, policy),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_but_itself() {
        let page = document(true, None);
        for outside in ["http://", "https://", "//cdn", "src=", "@import", "url(http"] {
            let ours = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!ours.contains(outside), "{outside}");
        }
        for hole in ["%%mode%%", "%%control%%", "%%style%%", "%%script%%"] {
            assert!(!page.contains(hole), "{hole} was not filled");
        }
        // The policy forbids what is written into elements.
        for inline in [" style=\"", " onclick=", "javascript:"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }

    #[test]
    fn the_policy_allows_this_script_and_no_other() {
        let headers = headers(Some("http://127.0.0.1:1"));
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(
            policy.contains("connect-src 'self' http://127.0.0.1:1;"),
            "{policy}"
        );
        let script = STANDARD.encode(Sha256::digest(SCRIPT));
        assert!(
            policy.contains(&format!("script-src 'sha256-{script}';")),
            "{policy}"
        );
        let page = document(false, None);
        let inside = page
            .split_once("<script>")
            .and_then(|(_, rest)| rest.split_once("</script>"))
            .unwrap();
        assert_eq!(inside.0, SCRIPT, "what is hashed is what is in the page");
    }
}
