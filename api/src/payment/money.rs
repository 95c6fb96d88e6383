//! Money: whole minor units of an ISO 4217 currency, never a float.
//!
//! The minor unit is ISO's, whatever a provider's own convention is: 500 of JPY are 500 yen, of EUR
//! 5.00 euro, of KWD 0.500 dinar. Adapters translate at their edge and refuse what they cannot
//! express. A currency's exponent comes from the registry that `iso_currency` carries; codes that are
//! no money to pay with (metals, test codes, funds, superseded ones) are refused.
//!
//! Left out: exchange, rounding, splitting. Nothing here ever has a reason to round.

use std::{fmt, str::FromStr};

use iso_currency::{Currency as Iso, Flag};
use serde::{Deserialize, Serialize};

/// An ISO 4217 currency that one can pay with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency {
    /// Three capitals.
    code: [u8; 3],
    /// Decimal digits of the minor unit.
    exponent: u8,
}

impl Currency {
    /// By its code; capitals or not.
    ///
    /// # Errors
    /// No such currency, or none to pay with.
    pub fn from_code(code: &str) -> Result<Self, MoneyError> {
        let unknown = || MoneyError::Currency(code.chars().take(CODE_SHOWN_MAX).collect());
        let capitals = code.to_ascii_uppercase();
        let iso = Iso::from_code(&capitals).ok_or_else(unknown)?;
        let payable =
            !iso.has_flag(Flag::Special) && !iso.has_flag(Flag::Fund) && iso.is_superseded().is_none();
        let exponent = iso.exponent().filter(|_| payable).ok_or_else(unknown)?;
        Ok(Currency {
            code: capitals.as_bytes().try_into().map_err(|_| unknown())?,
            exponent: u8::try_from(exponent).map_err(|_| unknown())?,
        })
    }

    /// Three capitals.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.code).expect("the code was read from text")
    }

    /// How many decimal digits a minor unit stands behind the major one: 0 for JPY, 3 for KWD.
    pub fn exponent(self) -> u8 {
        self.exponent
    }
}

/// How much of a code that is none is shown in an error.
const CODE_SHOWN_MAX: usize = 8;

impl fmt::Display for Currency {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.code())
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(code: &str) -> Result<Self, MoneyError> {
        Currency::from_code(code)
    }
}

impl TryFrom<String> for Currency {
    type Error = MoneyError;

    fn try_from(code: String) -> Result<Self, MoneyError> {
        Currency::from_code(&code)
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.code().to_owned()
    }
}

/// An amount of money. Displayed as `12.34 EUR`, and read back from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Minor units, as ISO 4217 counts them.
    pub minor: u64,
    /// Of which currency.
    pub currency: Currency,
}

impl Money {
    /// So many minor units.
    pub fn new(minor: u64, currency: Currency) -> Self {
        Money { minor, currency }
    }

    /// Of so many units at this price.
    ///
    /// # Errors
    /// More than can be counted.
    pub fn times(self, quantity: u32) -> Result<Self, MoneyError> {
        let minor = self
            .minor
            .checked_mul(u64::from(quantity))
            .ok_or(MoneyError::Range)?;
        Ok(Money { minor, ..self })
    }

    /// Both together.
    ///
    /// # Errors
    /// Different currencies, or more than can be counted.
    pub fn plus(self, other: Money) -> Result<Self, MoneyError> {
        let minor = self.minor.checked_add(other.of(self.currency)?);
        minor
            .map(|minor| Money { minor, ..self })
            .ok_or(MoneyError::Range)
    }

    /// What is left without the other.
    ///
    /// # Errors
    /// Different currencies, or less than nothing.
    pub fn minus(self, other: Money) -> Result<Self, MoneyError> {
        let minor = self.minor.checked_sub(other.of(self.currency)?);
        minor
            .map(|minor| Money { minor, ..self })
            .ok_or(MoneyError::Range)
    }

    /// The minor units, if of this currency.
    fn of(self, currency: Currency) -> Result<u64, MoneyError> {
        if self.currency == currency {
            Ok(self.minor)
        } else {
            Err(MoneyError::Mixed(currency, self.currency))
        }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = usize::from(self.currency.exponent);
        let scale = 10u64.pow(u32::from(self.currency.exponent));
        let (major, minor) = (self.minor / scale, self.minor % scale);
        if digits == 0 {
            write!(out, "{major} {}", self.currency)
        } else {
            write!(out, "{major}.{minor:0digits$} {}", self.currency)
        }
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    /// `12.34 EUR`: exactly as many decimals as the currency has, or none.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let amount = || MoneyError::Amount(text.chars().take(AMOUNT_SHOWN_MAX).collect());
        let (number, code) = text.split_once(' ').ok_or_else(amount)?;
        let currency = Currency::from_code(code)?;
        let digits = usize::from(currency.exponent);
        let (major, minor) = match number.split_once('.') {
            Some((major, minor)) if minor.len() == digits && digits > 0 => (major, minor),
            Some(_) => return Err(amount()),
            None => (number, ""),
        };
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if major.is_empty() || !is_number(major) || !is_number(minor) {
            return Err(amount());
        }
        // Only the range can be wrong from here on.
        let parse = |part: &str| part.parse::<u64>().map_err(|_| MoneyError::Range);
        let scale = 10u64.pow(u32::from(currency.exponent));
        let whole = parse(major)?.checked_mul(scale).ok_or(MoneyError::Range)?;
        let part = if minor.is_empty() { 0 } else { parse(minor)? };
        let minor = whole.checked_add(part).ok_or(MoneyError::Range)?;
        Ok(Money { minor, currency })
    }
}

/// How much of an amount that is none is shown in an error.
const AMOUNT_SHOWN_MAX: usize = 32;

/// Not money, or not to be added up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// No ISO 4217 currency that one can pay with.
    #[error("{0:?} is no currency to pay with; use an ISO 4217 code such as EUR")]
    Currency(String),
    /// Not an amount.
    #[error("{0:?} is no amount; write it as 12.34 EUR, with the currency's own number of decimals")]
    Amount(String),
    /// Two currencies.
    #[error("{0} and {1} do not add up")]
    Mixed(Currency, Currency),
    /// Below zero or above 2^64 minor units.
    #[error("the amount is out of range")]
    Range,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    #[test]
    fn a_currency_knows_its_decimals() {
        for (code, exponent) in [
            ("EUR", 2),
            ("usd", 2),
            ("JPY", 0),
            ("KRW", 0),
            ("KWD", 3),
            ("BHD", 3),
        ] {
            let currency = Currency::from_code(code).unwrap();
            assert_eq!(
                (currency.exponent(), currency.code()),
                (exponent, &*code.to_uppercase())
            );
        }
    }

    #[test]
    fn what_nobody_can_pay_with_is_no_currency() {
        for code in [
            "", "EU", "EURO", "ZZZ", "XAU", "XXX", "XTS", "CLF", "HRK", "€", "E R",
        ] {
            assert!(
                matches!(Currency::from_code(code), Err(MoneyError::Currency(_))),
                "{code}"
            );
        }
    }

    #[test]
    fn amounts_are_written_with_the_currencys_decimals() {
        for (minor, code, text) in [
            (0, "EUR", "0.00 EUR"),
            (5, "EUR", "0.05 EUR"),
            (123_456, "USD", "1234.56 USD"),
            (500, "JPY", "500 JPY"),
            (5_120, "KWD", "5.120 KWD"),
        ] {
            let money = Money::new(minor, Currency::from_code(code).unwrap());
            assert_eq!(money.to_string(), text);
            assert_eq!(text.parse(), Ok(money));
        }
        assert_eq!(money("7 EUR"), money("7.00 EUR"));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "",
            "EUR",
            "5",
            "5EUR",
            "5.0 EUR",
            "5.000 EUR",
            "5. EUR",
            ".50 EUR",
            "5.00 JPY",
            "-5.00 EUR",
        ] {
            assert!(text.parse::<Money>().is_err(), "{text:?}");
        }
        for text in [
            "+5.00 EUR",
            "5.+1 EUR",
            "5,00 EUR",
            "5. 0 EUR",
            "٥.٠٠ EUR",
            "1e3 EUR",
        ] {
            assert!(text.parse::<Money>().is_err(), "{text:?}");
        }
        assert_eq!(
            "184467440737095516.16 EUR".parse::<Money>(),
            Err(MoneyError::Range)
        );
    }

    #[test]
    fn sums_are_checked() {
        assert_eq!(money("19.99 EUR").times(3), Ok(money("59.97 EUR")));
        assert_eq!(money("5 EUR").minus(money("5.00 EUR")), Ok(money("0 EUR")));
        assert_eq!(money("5 EUR").minus(money("5.01 EUR")), Err(MoneyError::Range));
        assert!(matches!(
            money("5 EUR").plus(money("5 USD")),
            Err(MoneyError::Mixed(..))
        ));
        assert!(matches!(
            money("5 EUR").minus(money("5 USD")),
            Err(MoneyError::Mixed(..))
        ));
        let most = Money::new(u64::MAX, Currency::from_code("EUR").unwrap());
        assert_eq!(most.times(2), Err(MoneyError::Range));
        assert_eq!(most.plus(money("0.01 EUR")), Err(MoneyError::Range));
    }

    #[test]
    fn a_journal_keeps_money_exactly() {
        let text = serde_json::to_string(&money("1234.56 USD")).unwrap();
        assert_eq!(text, r#"{"minor":123456,"currency":"USD"}"#);
        assert_eq!(
            serde_json::from_str::<Money>(&text).unwrap(),
            money("1234.56 USD")
        );
        assert!(serde_json::from_str::<Money>(r#"{"minor":1,"currency":"ZZZ"}"#).is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read(minor: u64, code in prop::sample::select(vec!["EUR", "JPY", "KWD", "MGA"])) {
            let money = Money::new(minor, Currency::from_code(code).unwrap());
            prop_assert_eq!(money.to_string().parse(), Ok(money));
        }

        #[test]
        fn any_text_is_money_or_an_error(text in "\\PC{0,24}") {
            if let Ok(money) = text.parse::<Money>() {
                prop_assert_eq!(money.to_string().parse(), Ok(money));
            }
        }
    }
}
