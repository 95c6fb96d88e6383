//! A door as a simulated host: the product's routes over the real client, and Stripe's adapter over the simulated
//! network.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use api::{
    Auth, Keys, Options, Payments,
    payment::{
        Doubt, PaymentError, SecretString, SignatureCheck, Unavailability,
        stripe::{Stripe, StripeOptions, Transport},
    },
};
use axum::{
    body::Bytes,
    http::{Request, Response},
};
use client::{Client, Connector, Io};
use futures::{FutureExt, future::BoxFuture};
use raft_store::seams::Net;

use super::{
    TOKEN_SECRET, WEBHOOK_SECRET, bank,
    plan::CheckoutPlan,
    road::{Http, PORT, Unanswered, serve},
};
use crate::simulation::{
    Trace,
    cluster::Machine,
    net::SimNet,
    power::{Power, PoweredNet},
    stage::Stage,
};

/// Doors are numbered apart from nodes.
#[cfg(feature = "fault-points")]
const FIRST_ID: u64 = 1_000;

/// The provider signs by its own clock, which is simulated; the door checks by the process's.
const WEBHOOK_AGE_MAX: Duration = Duration::from_secs(u32::MAX as u64);

/// One door. Nothing of it is worth keeping but whether it has power.
#[derive(Clone)]
pub(super) struct Door {
    number: u64,
    power: Arc<Mutex<Power>>,
}

/// Where a door is called.
pub(super) fn url(number: u64) -> String {
    format!("http://door{number}:{PORT}")
}

impl Door {
    /// A door, from one on.
    pub fn new(number: u64) -> Door {
        Door {
            number,
            power: Arc::default(),
        }
    }

    /// Its name in the simulated network.
    pub fn name(&self) -> String {
        format!("door{}", self.number)
    }

    fn power(&self) -> Power {
        self.power
            .lock()
            .expect("nothing panics while holding it")
            .clone()
    }

    /// Whether it has power.
    pub fn has_power(&self) -> bool {
        self.power().is_on()
    }

    /// Gets power again, to be started.
    pub fn power_on(&self) {
        *self.power.lock().expect("nothing panics while holding it") = Power::new();
    }

    /// Runs it until the simulation drops it.
    pub async fn run(self, plan: Arc<CheckoutPlan>, stage: Stage, trace: Trace) -> turmoil::Result {
        #[cfg(feature = "fault-points")]
        crate::simulation::crash_points::enter(std::rc::Rc::new(self.clone()));
        let net: Arc<dyn Net> = Arc::new(PoweredNet::new(SimNet, self.power()));
        let client = Client::builder()
            .endpoints(stage.machines().iter().map(Machine::endpoint))
            .connector(connector(net.clone()))
            .build()?;
        let transport = ToBank {
            http: Http::over(net.clone()),
            door: self.name(),
            trace: trace.clone(),
        };
        let key = SecretString::from("sk_test_street".to_owned());
        let stripe = Stripe::over(&StripeOptions::new(bank::url(), key), Arc::new(transport))?;
        let secret = SecretString::from(WEBHOOK_SECRET.to_owned());
        let options = Options {
            payments: Some(Payments {
                provider: Arc::new(stripe),
                webhooks: Some(SignatureCheck::new(vec![secret], WEBHOOK_AGE_MAX)),
            }),
            checkout: plan.options.clone(),
            ..Options::new(Auth::Keys(Keys {
                hs256_secrets: vec![TOKEN_SECRET.to_vec()],
                ..Keys::default()
            }))
        };
        let router = api::router(client, options)?;
        trace.note(format_args!("{} opens", self.name()));
        serve(&*net, router).await?;
        Ok(())
    }
}

#[cfg(feature = "fault-points")]
impl crate::simulation::crash_points::Victim for Door {
    fn id(&self) -> u64 {
        FIRST_ID + self.number
    }

    fn has_power(&self) -> bool {
        self.has_power()
    }

    fn lose_power(&self) {
        self.power().lose();
    }

    fn wall_ms(&self) -> u64 {
        0
    }
}

fn connector(net: Arc<dyn Net>) -> Connector {
    Arc::new(move |address: String| {
        let net = net.clone();
        async move { Ok(Box::new(net.connect(&address).await?) as Box<dyn Io>) }.boxed()
    })
}

/// The road from a door to the provider.
struct ToBank {
    http: Http,
    door: String,
    trace: Trace,
}

impl fmt::Debug for ToBank {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ToBank")
            .field("door", &self.door)
            .finish_non_exhaustive()
    }
}

impl Transport for ToBank {
    fn exchange(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Bytes>, PaymentError>> {
        async move {
            let path = request.uri().path().to_owned();
            let header = |name: &str| {
                let value = request.headers().get(name)?;
                value.to_str().ok().map(str::to_owned)
            };
            let key = header("idempotency-key").unwrap_or_default();
            self.trace
                .note(format_args!("{} asks the bank: {path} {key}", self.door));
            let answer = self.http.ask(request).await;
            let status = answer.as_ref().map(|answer| answer.status().as_u16());
            self.trace.note(format_args!(
                "{} has its answer: {path} {key} {status:?}",
                self.door
            ));
            answer.map_err(|unanswered| match unanswered {
                Unanswered::Unsent(why) => PaymentError::Unavailable {
                    cause: Unavailability::Unreachable,
                    retry_after: None,
                    why,
                },
                Unanswered::Lost(why) => PaymentError::Unknown {
                    cause: Doubt::ConnectionLost,
                    why,
                },
            })
        }
        .boxed()
    }
}
