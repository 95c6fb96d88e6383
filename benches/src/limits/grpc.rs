//! A bare gRPC stream: frames of our lengths there and back, in both directions at once, as many in flight as our
//! client has. Whatever answers over tonic answers no faster; how fast it reads its frames is left out.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use raft_store::network::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use super::frame::{FULL_CLAIMS, FrameBytes};
use crate::{
    children::bare_grpc::{ANSWER_BYTES, FrameCodec, PATH},
    failure::{Doing, Failure},
    load::{Caller, Tally, drive},
    report::{Figure, Run, id},
};

/// Frames of one claim that are in flight: one for each of the single callers of our scenarios.
const SINGLE_IN_FLIGHT: usize = 64;

/// Full frames that our client has in flight.
const FULL_IN_FLIGHT: usize = 8;

/// Measures a bare stream, a third of the window for each way.
///
/// # Errors
/// The server does not start, or the stream ends.
pub async fn measure(place: &Path, window: Duration, run: &mut Run) -> Result<(), Failure> {
    let (server, _dir) = super::server(place, "bare-grpc").await?;
    let channel = Endpoint::from_shared(format!("http://{}", server.address()))
        .doing("reading an address")?
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect()
        .await
        .doing("connecting to a bare server")?;
    for (id, claims, in_flight_max) in [
        (id::GRPC_ONE, 1, 1),
        (id::GRPC_64, 1, SINGLE_IN_FLIGHT),
        (id::GRPC_FULL, FULL_CLAIMS, FULL_IN_FLIGHT),
    ] {
        let frames = Frames::open(channel.clone(), claims, in_flight_max).await?;
        let (measured, tally) = drive(window / 3, vec![frames]).await?;
        tally.all_answered("calling a bare server")?;
        let figure = match id {
            id::GRPC_ONE => measured.figure(measured.latency_ms(0.50)),
            // Calls overlap here: how long one took, the stream does not say.
            _ => Figure::new(measured.rate()),
        };
        run.add(id, figure);
    }
    server.stop().await
}

/// A stream that is kept full: each call is an answer, and as many frames as there is room for.
struct Frames {
    claims: usize,
    in_flight: usize,
    in_flight_max: usize,
    frame: Bytes,
    frames: mpsc::Sender<Bytes>,
    answers: Streaming<Bytes>,
}

impl Frames {
    async fn open(channel: Channel, claims: usize, in_flight_max: usize) -> Result<Frames, Failure> {
        const OPENING: &str = "opening a bare stream";
        let bytes = FrameBytes::of(claims);
        let (frames, sent) = mpsc::channel(in_flight_max);
        let mut request = Request::new(ReceiverStream::new(sent));
        request
            .metadata_mut()
            .insert(ANSWER_BYTES, MetadataValue::from(bytes.answer));
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.doing(OPENING)?;
        let answers = grpc
            .streaming(request, PathAndQuery::from_static(PATH), FrameCodec::default())
            .await
            .doing(OPENING)?;
        Ok(Frames {
            claims,
            in_flight: 0,
            in_flight_max,
            frame: Bytes::from(vec![0x5a; bytes.request]),
            frames,
            answers: answers.into_inner(),
        })
    }
}

impl Caller for Frames {
    async fn call(&mut self) -> Option<Tally> {
        let mut tally = Tally::default();
        while self.in_flight < self.in_flight_max {
            if self.frames.send(self.frame.clone()).await.is_err() {
                tally.fail(|| "the stream takes no more frames".to_owned());
                return Some(tally);
            }
            self.in_flight += 1;
        }
        match self.answers.message().await {
            Ok(Some(_)) => {
                self.in_flight -= 1;
                tally.read = self.claims as u64;
            }
            Ok(None) => tally.fail(|| "the stream ended".to_owned()),
            Err(status) => tally.fail(|| status.to_string()),
        }
        Some(tally)
    }
}
