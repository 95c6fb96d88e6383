//! The ledger sums to zero, and equals the provider's books, account by account and currency by currency.

use std::collections::{BTreeMap, BTreeSet};

use super::{Books, Look, Payment};

/// What every account must come to, by what the provider says.
const ACCOUNTS: [(&str, fn(&Payment) -> i128); 6] = [
    ("provider_hold", |_| 0),
    ("shopper_hold", |_| 0),
    ("provider_clearing", |payment| {
        i128::from(payment.captured_minor)
            - i128::from(payment.refunded_minor)
            - i128::from(payment.disputed_minor)
    }),
    ("revenue", |payment| -i128::from(payment.captured_minor)),
    ("refunds", |payment| i128::from(payment.refunded_minor)),
    ("chargebacks", |payment| i128::from(payment.disputed_minor)),
];

pub(super) fn check(books: &Books, look: &mut Look) {
    let mut sums: BTreeMap<&str, i128> = BTreeMap::new();
    for ((currency, account), minor) in &books.balances {
        *sums.entry(currency).or_default() += minor;
        look.at(ACCOUNTS.iter().any(|(known, _)| known == account), &[], || {
            format!("the ledger has {minor} {currency} on {account}, an account that nobody knows")
        });
    }
    for (currency, sum) in &sums {
        look.at(*sum == 0, &[], || {
            format!("the ledger's {currency} sums to {sum}")
        });
    }
    let paid_in = books.payments.iter().map(|payment| payment.currency.as_str());
    let currencies: BTreeSet<&str> = sums.keys().copied().chain(paid_in).collect();
    for currency in currencies {
        for (account, of) in ACCOUNTS {
            let payments = books
                .payments
                .iter()
                .filter(|payment| payment.currency == currency);
            let owed: i128 = payments.map(of).sum();
            let key = (currency.to_owned(), account.to_owned());
            let has = books.balances.get(&key).copied().unwrap_or(0);
            look.at(has == owed, &[], || {
                format!("{account} is {has} {currency}, and {owed} by the provider's books")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bought, red};

    const NAME: &str = "ledger-agrees";

    fn of(account: &str) -> (String, String) {
        ("EUR".to_owned(), account.to_owned())
    }

    #[test]
    fn a_sum_that_is_not_zero_and_an_account_that_differs_are_noticed() {
        let mut books = bought();
        *books.balances.get_mut(&of("revenue")).unwrap() += 1;
        assert!(red(&books).contains(&NAME.to_owned()));
        // Balanced, and still not what the provider has.
        *books.balances.get_mut(&of("provider_clearing")).unwrap() -= 1;
        assert!(red(&books).contains(&NAME.to_owned()));
        let mut books = bought();
        books.payments[0].refunded_minor = 1;
        assert!(red(&books).contains(&NAME.to_owned()));
        let mut books = bought();
        books.balances.insert(of("pocket"), 0);
        assert!(red(&books).contains(&NAME.to_owned()));
    }
}
