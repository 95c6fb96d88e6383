//! Another road to the provider than this machine's network: a simulation's.

use axum::{body::Bytes, http};
use futures::future::BoxFuture;

use super::answer::Answer;
use crate::payment::PaymentError;

/// Takes requests to the provider and brings answers back. Whoever calls it stops waiting at his deadline.
pub trait Transport: std::fmt::Debug + Send + Sync + 'static {
    /// Sends one request, and reads its whole answer.
    ///
    /// A failure says what is known: [`PaymentError::Unavailable`] where nothing was sent,
    /// [`PaymentError::Unknown`] where it may have arrived.
    fn exchange(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<Bytes>, PaymentError>>;
}

pub(super) async fn exchange(
    transport: &dyn Transport,
    request: reqwest::Request,
) -> Result<Answer, PaymentError> {
    let request = http::Request::<reqwest::Body>::try_from(request).expect("it was built from a URL");
    // Forms are in memory; none of them is a stream.
    let request = request.map(|body| Bytes::copy_from_slice(body.as_bytes().unwrap_or_default()));
    let (parts, body) = transport.exchange(request).await?.into_parts();
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.to_vec(),
    })
}
