//! An attempt that the network delivers minutes late, long after its key was resolved and given up, does
//! nothing: whoever was told *no* is not sold to.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use client::{Client, Connector, Consistency, Error, Io, NewSale, Operation, Resolution};
use jepsen_tests::simulation::{
    Trace,
    cluster::{Machine, simulation},
    net::connector,
};
use prost::Message;
use proto::v1::{Reason, SubmitResponse, outcome::Kind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use turmoil::net::TcpStream;

/// What a client said on its connections, by address, and what becomes of it.
#[derive(Clone, Default)]
struct Tap(Arc<Mutex<Tape>>);

#[derive(Default)]
struct Tape {
    said: HashMap<String, Vec<u8>>,
    /// Nothing is delivered any more.
    held_back: bool,
    /// Nothing is noted any more.
    ended: bool,
}

impl Tap {
    fn connector(&self) -> Connector {
        let tap = self.clone();
        Arc::new(move |address: String| {
            let tap = tap.clone();
            Box::pin(async move {
                let stream = TcpStream::connect(address.as_str()).await?;
                tap.0.lock().unwrap().said.insert(address.clone(), Vec::new());
                Ok(Box::new(Tapped { stream, address, tap }) as Box<dyn Io>)
            })
        })
    }

    fn hold_back(&self) {
        self.0.lock().unwrap().held_back = true;
    }

    /// All that was said to an address, delivered and not, up to now.
    fn end(&self, address: &str) -> Vec<u8> {
        let mut tape = self.0.lock().unwrap();
        tape.ended = true;
        tape.said[address].clone()
    }
}

struct Tapped {
    stream: TcpStream,
    address: String,
    tap: Tap,
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Tapped { stream, address, tap } = self.get_mut();
        let mut tape = tap.0.lock().unwrap();
        let taken = match tape.held_back {
            true => Poll::Ready(Ok(bytes.len())),
            false => Pin::new(stream).poll_write(context, bytes),
        };
        if let Poll::Ready(Ok(count)) = taken
            && !tape.ended
        {
            let said = tape.said.get_mut(address).expect("made when connected");
            said.extend_from_slice(&bytes[..count]);
        }
        taken
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[test]
fn an_attempt_delivered_after_its_key_was_given_up_does_nothing() {
    let mut sim = simulation(11, Duration::from_secs(300));
    let machines: Vec<Machine> = (1..=3).map(|id| Machine::new(id, 0)).collect();
    for machine in &machines {
        let machine = machine.clone();
        sim.host(machine.name(), move || {
            machine.clone().run(Trace::default(), 10_000)
        });
    }
    sim.client("test", async move {
        story(&machines).await;
        Ok(())
    });
    sim.run().unwrap();
}

async fn story(machines: &[Machine]) {
    let client = |connector| {
        let endpoints = machines.iter().map(Machine::endpoint);
        Client::builder()
            .endpoints(endpoints)
            .connector(connector)
            .build()
            .unwrap()
    };
    let (tap, second) = (Tap::default(), client(connector()));
    let first = client(tap.connector());
    let members = machines.iter().map(|machine| (machine.id, machine.endpoint()));
    second.cluster().init(members.collect()).await.unwrap();
    let sale = NewSale {
        sale_id: "hot".into(),
        units_total: 10,
        hold_ms: 3_600_000,
        open: true,
        ..NewSale::default()
    };
    second.create_sale(sale).key("create").send().await.unwrap();
    first.claim("hot", "early").key("k").send().await.unwrap();

    // The network swallows this one, and everything after it.
    tap.hold_back();
    let call = tokio::spawn(first.claim("hot", "late").key("k").send());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let status = second.cluster().status(&machines[0].endpoint()).await.unwrap();
    let swallowed = tap.end(&status.leader_endpoint);
    let outcome = call.await.unwrap();
    assert!(matches!(outcome, Err(Error::Unknown { .. })), "{outcome:?}");

    // The shopper is told no: the key can have no effect any more.
    let (resolution, _) = second
        .resolve("hot", Operation::Claim, "k", "late")
        .await
        .unwrap();
    let Resolution::Abandoned { fenced_until_ms } = resolution else {
        panic!("{resolution:?}")
    };
    // The fence is forgotten once every attempt that it was for must be dead.
    loop {
        let (_, position) = second.get_sale("hot", Consistency::Linearizable).await.unwrap();
        if position.log_time_ms > fenced_until_ms + 1_000 {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    // Now the network delivers all of it.
    let answer = deliver(&status.leader_endpoint, &swallowed).await;
    assert!(
        matches!(&answer, Kind::Rejected(rejected) if rejected.reason() == Reason::TooLate),
        "{answer:?}"
    );
    let claims = second.list_user_claims("hot", "late", 10, Consistency::Linearizable);
    assert!(claims.await.unwrap().0.is_empty(), "sold to who was told no");
    let (sale, _) = second.get_sale("hot", Consistency::Linearizable).await.unwrap();
    assert_eq!((sale.claims_made, sale.units_available), (1, 9));
}

/// Says all that again on a new connection; gives the answer to the last command in it.
async fn deliver(address: &str, said: &[u8]) -> Kind {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(said).await.unwrap();
    let (mut heard, mut answers) = (Vec::new(), BTreeMap::new());
    // The early claim's, from memory, and the late one's, in whichever order.
    while answers.len() < 2 {
        let count = stream.read_buf(&mut heard).await.unwrap();
        assert_ne!(count, 0, "the node hung up after {answers:?}");
        answers = outcomes(&heard);
    }
    answers.pop_last().expect("there are two").1
}

/// The outcome of every frame of one command in what a node said over HTTP/2 so far, by the frame's id.
fn outcomes(heard: &[u8]) -> BTreeMap<u64, Kind> {
    const HEADER_BYTES: usize = 9;
    const DATA: u8 = 0;
    let mut streams: HashMap<[u8; 4], Vec<u8>> = HashMap::new();
    let mut rest = heard;
    while let Some((header, body)) = rest.split_at_checked(HEADER_BYTES) {
        let bytes = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let Some((payload, after)) = body.split_at_checked(bytes) else {
            break;
        };
        if header[3] == DATA {
            let stream = [header[5], header[6], header[7], header[8]];
            streams.entry(stream).or_default().extend_from_slice(payload);
        }
        rest = after;
    }
    let mut outcomes = BTreeMap::new();
    for data in streams.values() {
        // gRPC: a flag, four bytes of length, the message. Answers to other calls do not decode as these.
        let mut rest = data.as_slice();
        while let Some((prefix, body)) = rest.split_at_checked(5) {
            let bytes = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
            let Some((message, after)) = body.split_at_checked(bytes) else {
                break;
            };
            if let Ok(mut response) = SubmitResponse::decode(message)
                && let Some(outcome) = response.outcomes.pop()
            {
                outcomes.extend(outcome.kind.map(|kind| (response.frame_id, kind)));
            }
            rest = after;
        }
    }
    outcomes
}
