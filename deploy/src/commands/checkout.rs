//! `checkout`: what is being paid for, who owns it, what is next.
//!
//! Looking only: any door goes on with what nobody owns, within a lease.

use api::checkouts::{self, EndedAttempt, OpenCheckout, OverviewError};
use clap::Subcommand;
use serde_json::json;

use crate::{
    context::{Connection, Context},
    exit::{Failure, Subject},
    output,
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum CheckoutCommand {
    /// Show the checkouts that are not over, oldest first
    List {
        /// Most checkouts shown
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Show what is known of one claim's checkout: what is under way, what ended, the order
    Get {
        /// The claim
        claim_id: String,
    },
}

/// Runs it.
pub async fn run(command: CheckoutCommand, context: Context) -> Result<(), Failure> {
    let connection = context.connect()?;
    match command {
        CheckoutCommand::List { limit } => {
            let (mut open, mut after) = (Vec::new(), String::new());
            loop {
                let page = checkouts::page(&connection.client, &after).await;
                let page = told(&connection, "list open checkouts".into(), page).await?;
                open.extend(page.checkouts);
                match page.after {
                    Some(next) => after = next,
                    None => break,
                }
            }
            open.sort_by(|a, b| b.age_ms.cmp(&a.age_ms).then_with(|| a.claim_id.cmp(&b.claim_id)));
            let total = open.len();
            open.truncate(limit as usize);
            let value = json!({ "checkouts": open, "more": total > open.len() });
            output::print(context.format, &value, |_| {
                let mut table = output::table(&[
                    "CLAIM", "SALE", "ATTEMPT", "STAGE", "NEXT", "OWNER", "AGE", "AMOUNT",
                ]);
                for checkout in &open {
                    table.add_row([
                        checkout.claim_id.clone(),
                        checkout.sale_id.clone(),
                        checkout.attempt.to_string(),
                        stage(checkout),
                        checkout.next_step.to_owned(),
                        owner(checkout),
                        seconds(checkout.age_ms),
                        amount(checkout),
                    ]);
                }
                table
            })
        }
        CheckoutCommand::Get { claim_id } => {
            let found = checkouts::of_claim(&connection.client, &claim_id).await;
            let found = told(
                &connection,
                format!("read the checkout of claim `{claim_id}`"),
                found,
            )
            .await?;
            let Some(found) = found else {
                return Err(Failure::Failed(format!(
                    "nobody has begun to pay for claim `{claim_id}`, or that is long over; `holdfast claim get` shows \
                     the claim itself"
                )));
            };
            output::print(context.format, &found, |found| {
                let mut rows = vec![("claim", found.claim_id.clone())];
                if let Some(open) = &found.open {
                    rows.extend([
                        ("attempt", open.attempt.to_string()),
                        ("stage", stage(open)),
                        ("next", open.next_step.to_owned()),
                        ("owner", owner(open)),
                        ("age", seconds(open.age_ms)),
                        ("hold left", seconds(open.hold_left_ms)),
                        ("amount", amount(open)),
                        ("payment", open.payment_id.clone().unwrap_or_else(|| "-".into())),
                        ("money", money(open).into()),
                    ]);
                }
                rows.extend(found.ended.iter().map(|attempt| ("ended", ended(attempt))));
                rows.push(("order", found.order_id.clone().unwrap_or_else(|| "-".into())));
                output::fields(rows)
            })
        }
    }
}

async fn told<T>(
    connection: &Connection,
    doing: String,
    answer: Result<T, OverviewError>,
) -> Result<T, Failure> {
    match answer {
        Ok(value) => Ok(value),
        Err(OverviewError::Store(error)) => connection.told(Subject::read(doing), Err(error)).await,
        Err(unreadable) => Err(Failure::Failed(format!("{doing}: {unreadable}"))),
    }
}

fn stage(checkout: &OpenCheckout) -> String {
    match checkout.ending {
        Some(ending) => format!("{} ({ending})", checkout.stage),
        None => checkout.stage.clone(),
    }
}

fn owner(checkout: &OpenCheckout) -> String {
    match checkout.owner_token {
        0 => "nobody".into(),
        token => format!("token {token}, {} left", seconds(checkout.lease_left_ms)),
    }
}

fn amount(checkout: &OpenCheckout) -> String {
    format!("{} {}", output::grouped(checkout.amount_minor), checkout.currency)
}

fn money(checkout: &OpenCheckout) -> &'static str {
    match (checkout.authorized, checkout.captured) {
        (_, true) => "captured",
        (true, false) => "held on the card",
        (false, false) => "not seen to be held",
    }
}

fn ended(attempt: &EndedAttempt) -> String {
    match &attempt.payment_code {
        Some(code) => format!("attempt {}: {} ({code})", attempt.attempt, attempt.ending),
        None => format!("attempt {}: {}", attempt.attempt, attempt.ending),
    }
}

/// Log time, to a tenth.
fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

#[cfg(test)]
pub mod tests {
    use api::checkouts::ClaimCheckout;

    use super::*;

    /// One of each.
    pub fn example() -> ClaimCheckout {
        ClaimCheckout {
            claim_id: "c_1".into(),
            open: Some(OpenCheckout {
                claim_id: "c_1".into(),
                sale_id: "hot".into(),
                attempt: 2,
                stage: "void".into(),
                next_step: "void the authorization",
                ending: Some("hold-gone"),
                owner_token: 7,
                lease_left_ms: 4_250,
                age_ms: 61_999,
                hold_left_ms: 0,
                amount_minor: 4_900,
                currency: "EUR".into(),
                payment_id: Some("pi_1".into()),
                authorized: true,
                captured: false,
            }),
            ended: vec![EndedAttempt {
                attempt: 1,
                ending: "declined",
                payment_code: Some("card_declined".into()),
            }],
            order_id: None,
        }
    }

    #[test]
    fn words_for_people() {
        let known = example();
        let open = known.open.unwrap();
        assert_eq!(stage(&open), "void (hold-gone)");
        assert_eq!(owner(&open), "token 7, 4.2 s left");
        assert_eq!(
            (seconds(open.age_ms).as_str(), amount(&open).as_str()),
            ("61.9 s", "4,900 EUR")
        );
        assert_eq!(money(&open), "held on the card");
        assert_eq!(ended(&known.ended[0]), "attempt 1: declined (card_declined)");
        let orphan = OpenCheckout {
            owner_token: 0,
            ..open
        };
        assert_eq!(owner(&orphan), "nobody");
    }
}
