//! A bare HTTP server: axum as it comes, and one handler that answers every claim with the same refusal.

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::post,
    serve::ListenerExt,
};
use tokio::net::TcpListener;

use crate::failure::{Doing, Failure};

/// A sold-out refusal as the door writes it. The HTTP scenario compares its length with what the door really says.
pub const REFUSAL: &str = concat!(
    r#"{"type":"urn:holdfast:problem:sold-out","title":"Sold out","status":409,"authoritative":true,"#,
    r#""units_available":0,"maybe_more_until":"2026-11-24T12:00:00.000Z","log_index":1000}"#,
);

/// Runs the server.
///
/// # Errors
/// It does not start, or stops by itself.
pub fn run() -> Result<(), Failure> {
    super::runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.doing("listening")?;
        println!("ready {}", listener.local_addr().doing("listening")?);
        // As the door has it. A socket that refuses the option is gone, and its first read says so.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let refuse = || async {
            (
                StatusCode::CONFLICT,
                [(CONTENT_TYPE, "application/problem+json")],
                REFUSAL,
            )
        };
        let router = Router::new().route("/v1/sales/{sale_id}/claims", post(refuse));
        super::until_told(async {
            match axum::serve(listener, router).await {
                Ok(()) => Failure::new("serving", "it ended"),
                Err(error) => Failure::new("serving", error.to_string()),
            }
        })
        .await
    })
}
