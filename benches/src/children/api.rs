//! The HTTP door, as operators run it, in front of the cluster under load.

use std::future::pending;

use api::{Auth, Keys, Options};
use client::Client;
use tokio::net::TcpListener;

use crate::failure::{Doing, Failure};

/// Runs the door to the nodes at these endpoints; tokens are signed with this secret.
///
/// # Errors
/// It does not start, or stops by itself.
pub fn run(endpoints: Vec<String>, secret: String) -> Result<(), Failure> {
    super::runtime()?.block_on(async {
        let client = Client::connect(endpoints)
            .await
            .doing("connecting to the cluster")?;
        let keys = Keys {
            hs256_secrets: vec![secret.into_bytes()],
            ..Keys::default()
        };
        let options = Options::new(Auth::Keys(keys));
        let listener = TcpListener::bind("127.0.0.1:0").await.doing("listening")?;
        println!("ready {}", listener.local_addr().doing("listening")?);
        super::until_told(async {
            match api::serve(listener, client, options, pending()).await {
                Ok(()) => Failure::new("serving", "it ended"),
                Err(error) => Failure::new("serving", error.to_string()),
            }
        })
        .await
    })
}
