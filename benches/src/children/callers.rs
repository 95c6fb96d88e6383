//! A caller in a process of its own, as most of a store's clients are.

use std::{path::PathBuf, time::Duration};

use tokio::runtime::Builder;

use crate::{
    cluster::{Certificates, new_client},
    failure::{Doing, Failure},
    load::{BEGIN, drive},
    names::Names,
    scenarios::{BulkClaims, SingleClaims},
};

/// What it claims, from whom, and for how long.
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long = "endpoint")]
    endpoints: Vec<String>,
    #[arg(long)]
    certificates: Option<PathBuf>,
    #[arg(long)]
    sale: String,
    #[arg(long)]
    measurement: u64,
    #[arg(long)]
    caller: usize,
    #[arg(long)]
    claims_per_call: usize,
    #[arg(long)]
    window_ms: u64,
}

/// Claims when it is told to begin, and says what it saw.
///
/// # Errors
/// It hears something else, or cannot make a client.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.doing("starting a runtime")?.block_on(async {
        let certificates = arguments.certificates.as_deref().map(Certificates::client_of);
        let endpoints = arguments.endpoints.iter().map(String::as_str);
        let client = new_client(endpoints, certificates.transpose()?.as_ref())?;
        let names = Names::new(arguments.measurement).of_caller(arguments.caller);
        println!("ready -");
        let mut requests = super::requests();
        match requests.recv().await {
            None => return Ok(()),
            Some(request) if request == BEGIN => (),
            Some(request) => return Err(Failure::new("waiting to begin", request)),
        }
        let window = Duration::from_millis(arguments.window_ms);
        let seen = match arguments.claims_per_call {
            1 => drive(window, vec![SingleClaims::new(client, &arguments.sale, names)]).await?,
            many => {
                drive(
                    window,
                    vec![BulkClaims::new(client, &arguments.sale, names).by(many)],
                )
                .await?
            }
        };
        println!("{}", serde_json::to_string(&seen).doing("saying what was seen")?);
        while requests.recv().await.is_some() {}
        Ok(())
    })
}
