//! What every store must do to be compared, and how it is found out.
//!
//! A sale has so many units. A user gets one; asking again with the same key gets the same answer, with another key it
//! is refused, and so is a key that is another user's. When the units are gone, everybody else is refused. [`try_out`]
//! has callers ask for more than there is, everything twice and wrongly, and holds every answer against that;
//! [`Records::check`] holds what the store has, whatever it was told, against what its callers heard.

use std::{collections::BTreeSet, future::Future, time::Duration};

use tokio::task::JoinSet;

use crate::{failure::Failure, names::Names};

/// Units of the sale that is tried out.
const UNITS: u64 = 200;

/// Who asks for them at once.
const CALLERS: usize = 8;

/// Users that each asks for: together more than there are units.
const USERS_PER_CALLER: usize = 40;

/// What a store answers to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A unit, by its number, which is from 1 to all there are.
    Granted(u64),
    /// The unit that this key got before.
    Repeated(u64),
    /// The user has a unit by another key.
    AlreadyClaimed,
    /// Another user has a unit by this key.
    KeyReused,
    /// There is none left.
    SoldOut,
}

/// One caller of a store.
pub trait Claims: Send + 'static {
    /// Claims a unit of its sale for each user under his key, no user and no key twice in one call; the answers are in
    /// the same order.
    ///
    /// # Errors
    /// Not all were answered.
    fn claim(
        &mut self,
        asks: &[(String, String)],
    ) -> impl Future<Output = Result<Vec<Answer>, Failure>> + Send;
}

/// A running store with the rules above in it.
pub trait Store {
    /// Its callers.
    type Claims: Claims;

    /// Puts so many units up for sale.
    ///
    /// # Errors
    /// The store's.
    async fn open_sale(&self, sale: &str, units: u64) -> Result<(), Failure>;

    /// A caller, with a connection of its own if that is better.
    ///
    /// # Errors
    /// The store's.
    async fn caller(&self, sale: &str) -> Result<Self::Claims, Failure>;

    /// What it has of a sale.
    ///
    /// # Errors
    /// The store's.
    async fn records(&self, sale: &str) -> Result<Records, Failure>;

    /// Processor time of each of its servers so far.
    ///
    /// # Errors
    /// One has ended.
    fn processor_times(&self) -> Result<Vec<Duration>, Failure>;
}

/// What callers were told, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Units granted.
    pub granted: u64,
    /// Sum of their numbers.
    pub sum: u64,
}

/// What a store has of a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records {
    /// Units there were.
    pub units: u64,
    /// Units sold, as the store counts them.
    pub sold: u64,
    /// Users who have one.
    pub users: u64,
    /// Keys that got one.
    pub keys: u64,
}

impl Records {
    /// Fails unless no more was sold than there was, no user and no key has more than one, and all of that is what
    /// callers were told, each unit once.
    ///
    /// # Errors
    /// Says what does not hold.
    pub fn check(&self, sale: &str, told: Told) -> Result<(), Failure> {
        let &Records {
            units,
            sold,
            users,
            keys,
        } = self;
        let wrong = if sold > units {
            format!("{sold} units were sold of {units}")
        } else if users != sold {
            format!("{users} users have the {sold} units sold")
        } else if keys != sold {
            format!("{keys} keys got the {sold} units sold")
        } else if told.granted != sold {
            format!("{} units were told to be granted of {sold} sold", told.granted)
        } else if told.sum != sold * (sold + 1) / 2 {
            format!("the numbers of the {sold} units told add up to {}", told.sum)
        } else {
            return Ok(());
        };
        Err(Failure::new(format!("checking sale {sale}"), wrong))
    }
}

/// Tries the rules out, with so many claims in a call.
///
/// # Errors
/// The store fails or breaks one; says which.
///
/// # Panics
/// When a caller does.
pub async fn try_out(store: &impl Store, claims_per_call: usize, names: Names) -> Result<(), Failure> {
    let sale = format!("rules-by-{claims_per_call}");
    store.open_sale(&sale, UNITS).await?;
    let mut running = JoinSet::new();
    for caller in 0..CALLERS {
        let claims = store.caller(&sale).await?;
        let asks = names.of_caller(caller).take(USERS_PER_CALLER).collect();
        running.spawn(ask_everything(claims, asks, claims_per_call));
    }
    let mut units = Vec::new();
    for told in running.join_all().await {
        units.extend(told?);
    }
    each_once(&units, UNITS)?;
    let told = Told {
        granted: units.len() as u64,
        sum: units.iter().sum(),
    };
    store.records(&sale).await?.check(&sale, told)
}

fn broken(why: String) -> Failure {
    Failure::new("trying the rules out", why)
}

/// Asks for everything, and again, and wrongly; gives the units that were granted.
async fn ask_everything(
    mut claims: impl Claims,
    asks: Vec<(String, String)>,
    claims_per_call: usize,
) -> Result<Vec<u64>, Failure> {
    let other = |name: &str| format!("{name}-other");
    let mut units = Vec::new();
    for asks in asks.chunks(claims_per_call) {
        let (mut again, mut owners) = (Vec::new(), Vec::new());
        for (answer, ask) in claims.claim(asks).await?.into_iter().zip(asks) {
            match answer {
                Answer::Granted(unit) => {
                    units.push(unit);
                    owners.push(ask);
                    again.push(Answer::Repeated(unit));
                }
                Answer::SoldOut => again.push(answer),
                wrong => {
                    return Err(broken(format!(
                        "a new user under a new key was answered {wrong:?}"
                    )));
                }
            }
        }
        expect(&mut claims, asks, &again, "the same users and keys").await?;
        // Somebody who has nothing yet would get a unit these ways too, and rightly.
        let keys: Vec<_> = owners
            .iter()
            .map(|(user, key)| (user.clone(), other(key)))
            .collect();
        let refused = vec![Answer::AlreadyClaimed; owners.len()];
        expect(&mut claims, &keys, &refused, "who has a unit, with another key").await?;
        let users: Vec<_> = owners
            .iter()
            .map(|(user, key)| (other(user), key.clone()))
            .collect();
        let refused = vec![Answer::KeyReused; owners.len()];
        expect(
            &mut claims,
            &users,
            &refused,
            "others, with a key that got a unit",
        )
        .await?;
    }
    Ok(units)
}

async fn expect(
    claims: &mut impl Claims,
    asks: &[(String, String)],
    expected: &[Answer],
    who: &str,
) -> Result<(), Failure> {
    if asks.is_empty() {
        return Ok(());
    }
    let answers = claims.claim(asks).await?;
    if answers == expected {
        return Ok(());
    }
    Err(broken(format!(
        "{who}: answered {answers:?} instead of {expected:?}"
    )))
}

/// Fails unless these are all units there were, each once.
fn each_once(units: &[u64], all: u64) -> Result<(), Failure> {
    let different: BTreeSet<u64> = units.iter().copied().collect();
    let (told, count) = (units.len(), different.len());
    if different.into_iter().eq(1..=all) && told == count {
        return Ok(());
    }
    Err(broken(format!(
        "{told} grants of {count} different units were told where there are {all}"
    )))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{HashMap, HashSet},
        sync::{Arc, Mutex},
    };

    use super::*;

    /// A store in memory that breaks one rule, or none.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Bug {
        None,
        SellsOneMore,
        SellsOneLess,
        ForgetsKeys,
        ForgetsUsers,
        TakesAnyKey,
        GivesAnotherUnitAgain,
        TellsOneUnitTwice,
        LosesARecord,
        RefusesTheFirst,
    }

    #[derive(Default)]
    struct State {
        sold: u64,
        keys: HashMap<String, (String, u64)>,
        users: HashSet<String>,
        asked: bool,
    }

    #[derive(Clone)]
    struct Fake {
        bug: Bug,
        state: Arc<Mutex<State>>,
    }

    impl Fake {
        fn answer(&self, user: &str, key: &str) -> Answer {
            let mut state = self.state.lock().unwrap();
            if !std::mem::replace(&mut state.asked, true) && self.bug == Bug::RefusesTheFirst {
                return Answer::AlreadyClaimed;
            }
            if let Some((owner, unit)) = state.keys.get(key).filter(|_| self.bug != Bug::ForgetsKeys) {
                return match self.bug {
                    Bug::GivesAnotherUnitAgain => Answer::Repeated(unit + 1),
                    Bug::TakesAnyKey => Answer::Repeated(*unit),
                    _ if owner == user => Answer::Repeated(*unit),
                    _ => Answer::KeyReused,
                };
            }
            if state.users.contains(user) && self.bug != Bug::ForgetsUsers {
                return Answer::AlreadyClaimed;
            }
            let units = match self.bug {
                Bug::SellsOneMore => UNITS + 1,
                Bug::SellsOneLess => UNITS - 1,
                _ => UNITS,
            };
            if state.sold == units {
                return Answer::SoldOut;
            }
            state.sold += 1;
            let unit = if self.bug == Bug::TellsOneUnitTwice {
                state.sold.min(UNITS - 1)
            } else {
                state.sold
            };
            if !(self.bug == Bug::LosesARecord && unit == UNITS) {
                state.users.insert(user.to_owned());
            }
            state.keys.insert(key.to_owned(), (user.to_owned(), unit));
            Answer::Granted(unit)
        }
    }

    impl Claims for Fake {
        async fn claim(&mut self, asks: &[(String, String)]) -> Result<Vec<Answer>, Failure> {
            Ok(asks.iter().map(|(user, key)| self.answer(user, key)).collect())
        }
    }

    impl Store for Fake {
        type Claims = Fake;

        async fn open_sale(&self, _: &str, _: u64) -> Result<(), Failure> {
            *self.state.lock().unwrap() = State::default();
            Ok(())
        }

        async fn caller(&self, _: &str) -> Result<Fake, Failure> {
            Ok(self.clone())
        }

        async fn records(&self, _: &str) -> Result<Records, Failure> {
            let state = self.state.lock().unwrap();
            Ok(Records {
                units: UNITS,
                sold: state.sold,
                users: state.users.len() as u64,
                keys: state.keys.len() as u64,
            })
        }

        fn processor_times(&self) -> Result<Vec<Duration>, Failure> {
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn a_store_that_keeps_the_rules_passes_and_one_that_breaks_any_does_not() {
        for (bug, complaint) in [
            (Bug::None, None),
            (Bug::SellsOneMore, Some("201 different units")),
            (Bug::SellsOneLess, Some("199 different units")),
            (
                Bug::ForgetsKeys,
                Some("same users and keys: answered [AlreadyClaimed"),
            ),
            (Bug::ForgetsUsers, Some("another key: answered [Granted")),
            (
                Bug::TakesAnyKey,
                Some("a key that got a unit: answered [Repeated"),
            ),
            (
                Bug::GivesAnotherUnitAgain,
                Some("same users and keys: answered [Repeated"),
            ),
            (Bug::TellsOneUnitTwice, Some("200 grants of 199 different units")),
            (Bug::LosesARecord, Some("with another key: answered")),
            (Bug::RefusesTheFirst, Some("a new user under a new key")),
        ] {
            for claims_per_call in [1, 7] {
                let state = Arc::default();
                let store = Fake { bug, state };
                let verdict = try_out(&store, claims_per_call, Names::new(1)).await;
                match (verdict, complaint) {
                    (Ok(()), None) => {}
                    (Err(failure), Some(complaint)) => {
                        let failure = failure.to_string();
                        assert!(failure.contains(complaint), "{bug:?}: {failure}");
                    }
                    (verdict, _) => panic!("{bug:?}: {verdict:?}"),
                }
            }
        }
    }

    #[test]
    fn records_are_held_against_what_was_told() {
        let records = Records {
            units: 9,
            sold: 4,
            users: 4,
            keys: 4,
        };
        let told = Told { granted: 4, sum: 10 };
        assert_eq!(records.check("sale", told), Ok(()));
        let wrong = |records: Records, told: Told, complaint: &str| {
            let failure = records.check("sale", told).unwrap_err().to_string();
            assert!(failure.ends_with(complaint), "{failure}");
        };
        wrong(Records { units: 3, ..records }, told, "4 units were sold of 3");
        wrong(
            Records { users: 3, ..records },
            told,
            "3 users have the 4 units sold",
        );
        wrong(
            Records { keys: 5, ..records },
            told,
            "5 keys got the 4 units sold",
        );
        let fewer = Told { granted: 3, ..told };
        wrong(records, fewer, "3 units were told to be granted of 4 sold");
        let twice = Told { sum: 9, ..told };
        wrong(records, twice, "the numbers of the 4 units told add up to 9");
    }
}
