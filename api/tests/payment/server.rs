//! A payment provider made of a socket: it notes every request to the byte and then does as told. A real
//! HTTP server would refuse to misbehave like this.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use api::payment::stripe::{Stripe, StripeOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};

pub const KEY: &str = "sk_test_4eC39HqLyjWDarjtT1zdp7dc";

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answer properly.
    Answer {
        status: u16,
        headers: &'static str,
        body: String,
    },
    /// Answer, but only this many bytes of it, and cut the connection.
    Cut(usize),
    /// Never answer; keep the connection.
    Hang,
}

/// A proper answer.
pub fn answer(status: u16, body: impl ToString) -> Act {
    answer_with(status, "content-type: application/json\r\n", body)
}

/// A proper answer with these header lines.
pub fn answer_with(status: u16, headers: &'static str, body: impl ToString) -> Act {
    Act::Answer {
        status,
        headers,
        body: body.to_string(),
    }
}

/// A request as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Method and path.
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(header, _)| header == name);
        let (_, value) = found.next()?;
        assert!(found.next().is_none(), "{name} came twice");
        Some(value)
    }
}

/// The script that is left, and what has come.
#[derive(Default)]
struct Stage {
    script: VecDeque<Act>,
    seen: Vec<Seen>,
}

/// The server; it ends with the value.
pub struct Server {
    pub url: String,
    stage: Arc<Mutex<Stage>>,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    /// Does these things, one a request; the last one for ever.
    pub async fn start(script: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stage = Arc::new(Mutex::new(Stage {
            script: script.into_iter().collect(),
            seen: Vec::new(),
        }));
        let shared = stage.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(converse(socket, shared.clone()));
            }
        });
        Server {
            url,
            stage,
            accepting,
        }
    }

    /// The adapter, pointed here.
    pub fn stripe(&self) -> Stripe {
        Stripe::new(&StripeOptions::new(&*self.url, KEY.into())).unwrap()
    }

    /// What has come so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.stage.lock().unwrap().seen.clone()
    }
}

/// Far enough for whatever ends by itself.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn converse(socket: TcpStream, stage: Arc<Mutex<Stage>>) {
    let mut socket = BufReader::new(socket);
    while let Some(seen) = read_request(&mut socket).await {
        let act = {
            let mut stage = stage.lock().unwrap();
            stage.seen.push(seen);
            match stage.script.len() {
                0 => panic!("the script was empty"),
                1 => stage.script[0].clone(),
                _ => stage.script.pop_front().unwrap(),
            }
        };
        match act {
            Act::Answer {
                status,
                headers,
                body,
            } => {
                let length = body.len();
                let head = format!("HTTP/1.1 {status} Said\r\n{headers}content-length: {length}\r\n\r\n");
                if socket
                    .write_all(format!("{head}{body}").as_bytes())
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Act::Cut(bytes) => {
                let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"id\": \"pi_1\"";
                let _ = socket.write_all(&whole[..bytes]).await;
                return;
            }
            Act::Hang => std::future::pending().await,
        }
    }
}

/// None when the caller has gone.
async fn read_request(socket: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().lines();
    let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    let body = String::from_utf8(body).unwrap();
    Some(Seen { line, headers, body })
}
