//! Which currencies and amounts Stripe takes.

use super::error::ApiError;

/// ISO codes that Stripe charges in.
const CURRENCIES: &str = "usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd \
                          bwp byn bzd cad cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel \
                          gip gmd gnf gtq gyd hkd hnl hrk htg huf idr ils inr isk jmd jod jpy kes kgs khr kmf krw kwd \
                          kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio \
                          nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle \
                          sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx uyu uzs vnd vuv wst xaf xcd xof xpf \
                          yer zar zmw";

/// Largest amount: eight digits, whatever the currency.
pub(super) const AMOUNT_MAX: u64 = 99_999_999;

/// Three decimals, of which the last must be zero.
const THREE_DECIMALS: [&str; 5] = ["bhd", "jod", "kwd", "omr", "tnd"];

/// No decimals in the world, two on the wire, both zero.
const TWO_ZERO_DECIMALS: [&str; 2] = ["isk", "ugx"];

/// The currency as it is kept: lower case; `None` when Stripe does not take it.
pub(super) fn known(code: &str) -> Option<&'static str> {
    let code = code.to_ascii_lowercase();
    CURRENCIES.split_whitespace().find(|known| *known == code)
}

/// Smallest amount. Stripe's own table depends on where the money goes; this is its order of magnitude.
pub(super) fn amount_min(currency: &str) -> u64 {
    match currency {
        "gbp" => 30,
        _ if THREE_DECIMALS.contains(&currency) => 500,
        _ => 50,
    }
}

/// Refuses amounts that the currency does not have.
pub(super) fn check_multiple(amount: u64, currency: &str, param: &str) -> Result<(), ApiError> {
    let multiple = granularity(currency);
    if amount.is_multiple_of(multiple) {
        return Ok(());
    }
    let words = format!("Amounts in {currency} are multiples of {multiple}");
    Err(ApiError::param("invalid_charge_amount", param, words))
}

/// Stripe's minor units as ISO 4217 counts them.
pub(super) fn iso_minor(amount: u64, currency: &str) -> u64 {
    match currency {
        _ if TWO_ZERO_DECIMALS.contains(&currency) => amount / 100,
        // Two decimals in the world, none on the wire.
        "mga" => amount * 100,
        _ => amount,
    }
}

/// What an amount must be a multiple of.
fn granularity(currency: &str) -> u64 {
    match currency {
        _ if THREE_DECIMALS.contains(&currency) => 10,
        _ if TWO_ZERO_DECIMALS.contains(&currency) => 100,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currencies_are_the_published_ones() {
        assert_eq!(known("EUR"), Some("eur"));
        assert_eq!(known("jpy"), Some("jpy"));
        assert_eq!(known("xxx"), None);
        assert_eq!(known("eu"), None);
        assert_eq!(
            (granularity("kwd"), granularity("isk"), granularity("jpy")),
            (10, 100, 1)
        );
    }
}
