//! Amounts as Stripe counts them.
//!
//! Mostly these are ISO 4217's minor units, but not always: ISK has no decimals and is sent with two,
//! MGA has two and is sent with none, dinars have three of which the last must be zero. What Stripe
//! does not document, or documents in two ways (UGX, which is on its list without decimals *and* among
//! the special cases with two: a factor of one hundred), is refused before anybody is charged.

use super::super::{Currency, Money};

/// Currencies without decimals here and there.
const ZERO_DECIMAL: [&str; 14] = [
    "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF",
];

/// Currencies with three decimals here and there.
const THREE_DECIMAL: [&str; 5] = ["BHD", "JOD", "KWD", "OMR", "TND"];

/// How Stripe counts a currency.
enum Units {
    /// As ISO does.
    Same,
    /// As ISO does, in steps of ten.
    Tens,
    /// ISO's minor unit is one hundred of Stripe's.
    Hundredfold,
    /// One hundred of ISO's minor units are one of Stripe's.
    Hundredth,
}

fn units(currency: Currency) -> Result<Units, String> {
    match (currency.code(), currency.exponent()) {
        ("UGX", _) => Err("UGX is not supported: Stripe documents two different units for it".into()),
        ("ISK", _) => Ok(Units::Hundredfold),
        ("MGA", _) => Ok(Units::Hundredth),
        (_, 2) => Ok(Units::Same),
        (code, 0) if ZERO_DECIMAL.contains(&code) => Ok(Units::Same),
        (code, 3) if THREE_DECIMAL.contains(&code) => Ok(Units::Tens),
        (code, _) => Err(format!(
            "{code} is not supported: Stripe does not say how it counts it"
        )),
    }
}

/// To send.
pub(super) fn to_stripe(money: Money) -> Result<u64, String> {
    match units(money.currency)? {
        Units::Same => Ok(money.minor),
        Units::Tens if money.minor.is_multiple_of(10) => Ok(money.minor),
        Units::Tens => Err(format!(
            "{money} cannot be charged: the last decimal must be zero"
        )),
        Units::Hundredfold => money
            .minor
            .checked_mul(100)
            .ok_or_else(|| format!("{money} is out of range")),
        Units::Hundredth if money.minor.is_multiple_of(100) => Ok(money.minor / 100),
        Units::Hundredth => Err(format!(
            "{money} cannot be charged: only whole {}",
            money.currency
        )),
    }
}

/// As received: so many of Stripe's units of a currency by its code.
pub(super) fn from_stripe(amount: u64, code: &str) -> Result<Money, String> {
    let currency = Currency::from_code(code).map_err(|error| error.to_string())?;
    let minor = match units(currency)? {
        Units::Same | Units::Tens => amount,
        Units::Hundredfold if amount.is_multiple_of(100) => amount / 100,
        Units::Hundredfold => return Err(format!("{amount} is no whole amount of {code}")),
        Units::Hundredth => amount
            .checked_mul(100)
            .ok_or_else(|| format!("{amount} of {code} is out of range"))?,
    };
    Ok(Money { minor, currency })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    #[test]
    fn every_kind_of_currency_is_sent_in_stripes_units() {
        for (text, sent) in [
            ("10.00 USD", 1_000),
            ("500 JPY", 500),
            ("5 ISK", 500),
            ("5.00 MGA", 5),
            ("5.120 KWD", 5_120),
            ("10.45 HUF", 1_045),
            ("800 TWD", 80_000),
            ("1 XPF", 1),
        ] {
            assert_eq!(to_stripe(money(text)), Ok(sent), "{text}");
            let code = text.split_once(' ').unwrap().1.to_lowercase();
            assert_eq!(from_stripe(sent, &code), Ok(money(text)), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_said_exactly_is_refused() {
        for text in ["5.124 KWD", "5.50 MGA", "5 UGX", "1.000 IQD", "1.000 LYD"] {
            assert!(to_stripe(money(text)).is_err(), "{text}");
        }
        assert!(from_stripe(550, "isk").is_err());
        assert!(from_stripe(500, "ugx").is_err());
        assert!(from_stripe(500, "zzz").is_err());
        assert!(to_stripe(Money::new(u64::MAX, Currency::from_code("ISK").unwrap())).is_err());
        assert!(from_stripe(u64::MAX, "mga").is_err());
    }

    proptest! {
        #[test]
        fn what_can_be_sent_comes_back(
            minor: u64,
            code in prop::sample::select(vec!["EUR", "JPY", "ISK", "MGA", "KWD", "HUF", "PYG"]),
        ) {
            let money = Money::new(minor, Currency::from_code(code).unwrap());
            if let Ok(sent) = to_stripe(money) {
                prop_assert_eq!(from_stripe(sent, code), Ok(money));
            }
        }
    }
}
