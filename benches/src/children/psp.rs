//! The payment provider to rehearse with: answers at once, and sends the door those webhooks that one asks for.
//!
//! Door and provider need each other's address, so this one says its own first, and serves once it has heard
//! `serve URL` with the address that its webhooks go to.

use std::future::pending;

use api::payment::{
    simulator::{self, EVENT_KINDS, Faults, ServerOptions, Webhooks},
    webhook::WebhookKind,
};
use tokio::net::TcpListener;

use crate::failure::{Doing, Failure};

/// Runs the provider with these faults; webhooks are signed with this secret.
///
/// # Errors
/// It does not start, or stops by itself.
pub fn run(webhook_secret: String, faults: Vec<String>) -> Result<(), Failure> {
    super::runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.doing("listening")?;
        println!("ready {}", listener.local_addr().doing("listening")?);
        let mut requests = super::requests();
        let Some(url) = requests
            .recv()
            .await
            .and_then(|line| line.strip_prefix("serve ").map(str::to_owned))
        else {
            return Ok(());
        };
        let changes = faults.iter().filter_map(|fault| fault.split_once('='));
        let mut options = ServerOptions {
            webhooks: Some(Webhooks {
                urls: vec![url],
                secret: webhook_secret.into_bytes(),
            }),
            ..ServerOptions::default()
        };
        let wanted = WebhookKind::WANTED
            .iter()
            .filter(|kind| EVENT_KINDS.contains(kind));
        options.provider.webhook_kinds = wanted.map(|kind| (*kind).to_owned()).collect();
        options.provider.faults = Faults::default().with(changes).doing("reading the faults")?;
        let provider = simulator::open(listener, options).doing("opening the provider")?;
        println!("serving");
        let told = async { while requests.recv().await.is_some() {} };
        tokio::select! {
            () = told => Ok(()),
            ended = provider.serve(pending()) => ended.doing("serving"),
        }
    })
}
