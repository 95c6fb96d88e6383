//! A bare HTTP server under the load of the HTTP scenario: the same requests, tokens and all, on as many
//! connections; every answer is the same refusal.

use std::{path::Path, time::Duration};

use crate::{
    failure::Failure,
    load::drive,
    names::Names,
    report::{Run, id},
    scenarios::http::shoppers,
};

/// Measures it.
///
/// # Errors
/// The server does not start, or answers anything else.
pub async fn measure(place: &Path, window: Duration, run: &mut Run) -> Result<(), Failure> {
    let (server, _dir) = super::server(place, "bare-http").await?;
    let callers = shoppers(server.address(), id::HTTP_BARE, Names::new(0)).await?;
    let (measured, tally) = drive(window, callers).await?;
    tally.all_answered(id::HTTP_BARE)?;
    run.add(id::HTTP_BARE, measured.figure(measured.rate()));
    server.stop().await
}
