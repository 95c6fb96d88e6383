//! The callers' connections, of which what is sent may come late.
//!
//! A [`Wire`] stands between a caller and a node like a proxy of the network's own. While its way to the node is
//! late, every piece takes so much longer, in order and with the pauses it was sent with; the way back is as ever,
//! and the node's end stays up. The caller's end may break meanwhile, as when a proxy dies towards its client: what
//! the caller has sent before is on its way all the same, and arrives when the caller has long been told something
//! else. This is what commands with an end, fences of keys and answers that are not final yet are for.
//!
//! Left out: connections between nodes, whose lateness is the simulator's own business; and lateness beyond ten
//! seconds, by when a node has disconnected a caller who does not answer its pings.

use std::{
    collections::VecDeque,
    future::pending,
    io,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use client::{Connector, Io};
use futures::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::Notify,
    time::{Instant, sleep_until},
};
use turmoil::net::TcpStream;

/// Bytes that a wire takes from a caller before anything moves on.
const WIRE_BYTES: usize = 64 * 1024;

/// Bytes that wait on a late wire; then the caller waits as well.
const LATE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes moved at once.
const PIECE_BYTES: usize = 16 * 1024;

/// All connections of the callers. Clones share them.
#[derive(Clone, Default)]
pub struct Wires {
    wires: Arc<Mutex<Vec<Known>>>,
}

/// A connection by the address that it leads to, while it lasts.
type Known = (String, Weak<Wire>);

/// One connection, as the nemesis knows it.
#[derive(Default)]
struct Wire {
    lateness: Mutex<Lateness>,
    changed: Notify,
}

/// In simulated time.
#[derive(Clone, Copy, Default)]
struct Lateness {
    /// What is sent before then is late.
    until: Duration,
    /// By so much.
    by: Duration,
    /// The caller's end breaks then, if it does.
    breaks: Option<Duration>,
    /// The last piece so far arrives then, at the latest.
    arrives: Duration,
}

impl Wire {
    fn lateness(&self) -> MutexGuard<'_, Lateness> {
        self.lateness.lock().expect("nothing panics while holding it")
    }
}

impl Wires {
    /// How callers connect.
    pub fn connector(&self) -> Connector {
        let wires = self.clone();
        Arc::new(move |address: String| {
            let wires = wires.clone();
            async move {
                let node = TcpStream::connect(address.clone()).await?;
                let (ours, caller) = duplex(WIRE_BYTES);
                let wire = wires.add(&address);
                tokio::spawn(async move {
                    // A connection that fails is closed, which both ends see.
                    let _ = carry(&wire, caller, node).await;
                });
                Ok(Box::new(ours) as Box<dyn Io>)
            }
            .boxed()
        })
    }

    fn wires(&self) -> MutexGuard<'_, Vec<Known>> {
        self.wires.lock().expect("nothing panics while holding it")
    }

    fn add(&self, address: &str) -> Arc<Wire> {
        let wire = Arc::<Wire>::default();
        let mut wires = self.wires();
        wires.retain(|(_, wire)| wire.strong_count() > 0);
        wires.push((address.to_owned(), Arc::downgrade(&wire)));
        wire
    }

    /// Makes what is sent to this node over the connections there are late `by` so much until then. With `breaks`
    /// their callers' ends break at that time. Says how many there are.
    pub fn be_late(&self, address: &str, until: Duration, by: Duration, breaks: Option<Duration>) -> usize {
        let wires = self.wires();
        let there = wires.iter().filter(|(to, _)| to == address);
        let late = there.filter_map(|(_, wire)| wire.upgrade()).map(|wire| {
            *wire.lateness() = Lateness {
                until,
                by,
                breaks,
                arrives: Duration::ZERO,
            };
            wire.changed.notify_one();
        });
        late.count()
    }

    /// When the last piece that is on its way arrives.
    pub fn settled(&self) -> Duration {
        let wires = self.wires();
        let there = wires.iter().filter_map(|(_, wire)| wire.upgrade());
        there
            .map(|wire| wire.lateness().arrives)
            .max()
            .unwrap_or_default()
    }
}

/// Carries bytes until both ends are closed, or the node's end fails.
async fn carry(wire: &Wire, caller: DuplexStream, mut node: TcpStream) -> io::Result<()> {
    let mut caller = Some(caller);
    let mut late: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut late_bytes = 0;
    let mut out = vec![0; PIECE_BYTES];
    let mut back = vec![0; PIECE_BYTES];
    loop {
        if caller.is_none() && late.is_empty() {
            return node.shutdown().await;
        }
        let breaks = wire.lateness().breaks.filter(|_| caller.is_some());
        let due = late.front().map(|(due, _)| *due);
        tokio::select! {
            biased;
            () = wire.changed.notified() => {}
            () = at(breaks.map(instant)) => caller = None,
            () = at(due) => {
                let (_, piece) = late.pop_front().expect("it is due");
                late_bytes -= piece.len();
                node.write_all(&piece).await?;
            }
            read = async { caller.as_mut().expect("guarded").read(&mut out).await },
                if caller.is_some() && late_bytes < LATE_BYTES_MAX =>
            {
                match read {
                    Ok(0) | Err(_) => caller = None,
                    Ok(count) => match arrival(wire, late.back().map(|(due, _)| *due)) {
                        None => node.write_all(&out[..count]).await?,
                        Some(due) => {
                            late_bytes += count;
                            late.push_back((due, out[..count].to_vec()));
                        }
                    },
                }
            }
            read = node.read(&mut back) => {
                let count = read?;
                if count == 0 {
                    return Ok(());
                }
                if let Some(there) = &mut caller
                    && there.write_all(&back[..count]).await.is_err()
                {
                    caller = None;
                }
            }
        }
    }
}

/// When what is sent now arrives, behind all that was sent before; none: at once.
fn arrival(wire: &Wire, before: Option<Instant>) -> Option<Instant> {
    let now = now();
    let mut lateness = wire.lateness();
    let own = (now < lateness.until).then(|| instant(now + lateness.by));
    let due = own.max(before)?;
    lateness.arrives = lateness.arrives.max(now + (due - Instant::now()));
    Some(due)
}

/// Simulated time, on whatever host.
fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// A simulated time on this host's clock; what is past is now.
fn instant(at: Duration) -> Instant {
    Instant::now() + at.saturating_sub(now())
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use turmoil::net::TcpListener;

    use super::*;

    const NODE: &str = "node:7401";

    /// What the node heard, and when, in ms.
    type Heard = Arc<Mutex<Vec<(u128, String)>>>;

    fn simulated(caller: impl Future<Output = turmoil::Result> + 'static) -> Vec<(u128, String)> {
        let heard = Heard::default();
        let listening = heard.clone();
        let mut sim = turmoil::Builder::new()
            .simulation_duration(Duration::from_secs(60))
            .max_message_latency(Duration::from_millis(1))
            .build();
        sim.host("node", move || {
            let heard = listening.clone();
            async move {
                let listener = TcpListener::bind("0.0.0.0:7401").await?;
                loop {
                    let (mut stream, _) = listener.accept().await?;
                    let heard = heard.clone();
                    tokio::spawn(async move {
                        let mut piece = [0; 64];
                        loop {
                            let count = stream.read(&mut piece).await.unwrap_or(0);
                            let text = String::from_utf8_lossy(&piece[..count]).into_owned();
                            heard.lock().unwrap().push((now().as_millis(), text));
                            if count == 0 || stream.write_all(&piece[..count]).await.is_err() {
                                return;
                            }
                        }
                    });
                }
            }
        });
        sim.client("callers", caller);
        sim.run().unwrap();
        let heard = heard.lock().unwrap();
        heard.clone()
    }

    async fn wait_ms(ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    #[test]
    fn what_is_sent_late_arrives_late_in_order_and_answers_come_as_ever() {
        let heard = simulated(async {
            let wires = Wires::default();
            let mut wire = wires.connector()(NODE.to_owned()).await?;
            wire.write_all(b"prompt").await?;
            let mut answer = [0; 6];
            wire.read_exact(&mut answer).await?;
            assert!(now() < Duration::from_millis(20), "{:?}", now());
            let late = wires.be_late(NODE, now() + Duration::from_secs(1), Duration::from_secs(5), None);
            assert_eq!((late, wires.be_late("other:1", now(), now(), None)), (1, 0));
            wire.write_all(b"late").await?;
            wait_ms(1_500).await;
            assert!(wires.settled() > Duration::from_secs(5), "{:?}", wires.settled());
            wire.write_all(b"behind").await?;
            let mut fresh = wires.connector()(NODE.to_owned()).await?;
            fresh.write_all(b"fresh").await?;
            let mut answer = [0; 10];
            wire.read_exact(&mut answer).await?;
            assert_eq!(&answer, b"latebehind");
            Ok(())
        });
        let words: Vec<&str> = heard.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(words[..2], ["prompt", "fresh"], "{heard:?}");
        assert_eq!(words[2..].concat(), "latebehind");
        assert!((5_000..5_100).contains(&heard[2].0), "{heard:?}");
    }

    #[test]
    fn what_was_sent_before_the_callers_end_broke_arrives_all_the_same() {
        let broke = Arc::new(AtomicBool::new(false));
        let seen = broke.clone();
        let heard = simulated(async move {
            let wires = Wires::default();
            let mut wire = wires.connector()(NODE.to_owned()).await?;
            wait_ms(10).await;
            let (late, breaks) = (Duration::from_secs(3), now() + Duration::from_millis(200));
            wires.be_late(NODE, now() + late, late, Some(breaks));
            wire.write_all(b"buy one").await?;
            let mut answer = [0; 1];
            assert_eq!(wire.read(&mut answer).await?, 0);
            seen.store(now() < Duration::from_millis(300), Ordering::Relaxed);
            wait_ms(5_000).await;
            assert_eq!(wires.settled(), Duration::ZERO, "nothing is on its way");
            Ok(())
        });
        assert!(broke.load(Ordering::Relaxed));
        assert_eq!(heard[0].1, "buy one");
        assert!((3_000..3_300).contains(&heard[0].0), "{heard:?}");
    }
}
