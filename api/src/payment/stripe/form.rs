//! What is sent: the fields of a request's form.
//!
//! Only what the flow needs, since servers that implement a part of the API refuse what they do not know.

use super::{
    super::{Money, NewPayment, PaymentError, is_payment_method_token},
    amount::to_stripe,
    refused,
};

/// Metadata of a payment that names our claim, the attempt and the order. They come back in every
/// answer and every webhook.
pub(super) const METADATA_CLAIM: &str = "claim_id";
pub(super) const METADATA_ATTEMPT: &str = "attempt";
const METADATA_ORDER: &str = "order_id";

/// Of a payment to create: unconfirmed, to be captured by hand.
pub(super) fn create(new: &NewPayment) -> Result<Vec<(String, String)>, PaymentError> {
    if !is_payment_method_token(&new.payment_method) {
        let message = "the payment method must be a token such as pm_…, never card data";
        return Err(refused("payment_method_invalid", message.into()));
    }
    let metadata = |name: &str| format!("metadata[{name}]");
    let mut form = vec![
        ("amount".into(), amount(new.amount)?),
        ("currency".into(), new.amount.currency.code().to_ascii_lowercase()),
        ("capture_method".into(), "manual".into()),
        ("confirm".into(), "false".into()),
        ("payment_method".into(), new.payment_method.clone()),
        // Without it the account's dashboard decides, and may add methods that cannot be captured later.
        ("payment_method_types[0]".into(), "card".into()),
        (metadata(METADATA_CLAIM), new.reference.clone()),
        (metadata(METADATA_ATTEMPT), new.attempt.to_string()),
    ];
    if let Some(order_id) = &new.order_id {
        form.push((metadata(METADATA_ORDER), order_id.clone()));
    }
    Ok(form)
}

/// An amount, in Stripe's units.
pub(super) fn amount(money: Money) -> Result<String, PaymentError> {
    let amount = to_stripe(money).map_err(|why| refused("amount_unsupported", why))?;
    Ok(amount.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::{Client, Url};

    use super::*;

    proptest! {
        /// By the URL standard's decoder, which shares no code with the encoder.
        #[test]
        fn whatever_the_ids_are_the_fields_arrive_as_meant(
            reference in "\\PC{0,60}",
            order_id in prop::option::of("[ -~&=+%\\[\\]\n\u{0}]{0,60}"),
            attempt: u32,
            minor: u64,
        ) {
            let new = NewPayment {
                amount: Money::new(minor, "EUR".parse().unwrap()),
                payment_method: "pm_1".into(),
                reference,
                attempt,
                order_id,
            };
            let form = create(&new).unwrap();
            let _ = rustls::crypto::ring::default_provider().install_default();
            let client = Client::builder().tls_certs_only([]).build().unwrap();
            let request = client.post("http://x/").form(&form).build().unwrap();
            let body = std::str::from_utf8(request.body().unwrap().as_bytes().unwrap()).unwrap();
            let decoded: Vec<_> = Url::parse(&format!("http://x/?{body}"))
                .unwrap()
                .query_pairs()
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect();
            prop_assert_eq!(decoded, form);
        }
    }
}
