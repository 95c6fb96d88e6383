//! The least HTTP/1.1 client that can load a server: one keep-alive connection, one request at a time.
//!
//! A load generator shares two cores with what it measures, so it must cost little. It understands what
//! our own server says (a status, a length, a body of that length) and takes anything else for a failure.

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Longest answer, in bytes: a claim or a problem is below 1 KiB, with its headers 2; the provider's books of ten
/// thousand payments have 10 MB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A keep-alive connection.
pub struct Connection {
    stream: TcpStream,
    host: Arc<str>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn open(address: &str) -> io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            host: address.into(),
            request: Vec::new(),
            answer: Vec::new(),
        })
    }

    /// Posts a JSON body; gives the status and the answer's body.
    ///
    /// # Errors
    /// The connection ended, or what came is not an answer of our server.
    pub async fn post(&mut self, path: &str, token: &str, key: &str, body: &str) -> io::Result<(u16, &[u8])> {
        let (host, length) = (Arc::clone(&self.host), body.len().to_string());
        self.exchange(&[
            "POST ",
            path,
            " HTTP/1.1\r\nhost: ",
            &host,
            "\r\nauthorization: Bearer ",
            token,
            "\r\nidempotency-key: \"",
            key,
            "\"\r\ncontent-type: application/json\r\ncontent-length: ",
            &length,
            "\r\n\r\n",
            body,
        ])
        .await
    }

    /// Reads; gives the status and the answer's body.
    ///
    /// # Errors
    /// As [`Connection::post`].
    pub async fn get(&mut self, path: &str, token: &str) -> io::Result<(u16, &[u8])> {
        let host = Arc::clone(&self.host);
        self.exchange(&[
            "GET ",
            path,
            " HTTP/1.1\r\nhost: ",
            &host,
            "\r\nauthorization: Bearer ",
            token,
            "\r\n\r\n",
        ])
        .await
    }

    /// Reads what everybody may, unless it still has this tag; empty: whatever it has.
    ///
    /// # Errors
    /// As [`Connection::post`].
    pub async fn look(&mut self, path: &str, etag: &str) -> io::Result<Looked<'_>> {
        let host = Arc::clone(&self.host);
        let asking = if etag.is_empty() {
            ""
        } else {
            "\r\nif-none-match: "
        };
        let head = self
            .answer_to(&[
                "GET ",
                path,
                " HTTP/1.1\r\nhost: ",
                &host,
                asking,
                etag,
                "\r\n\r\n",
            ])
            .await?;
        Ok(Looked {
            status: head.status,
            etag: head.etag.unwrap_or_default(),
            body: &self.answer[head.bytes..],
        })
    }

    async fn exchange(&mut self, request: &[&str]) -> io::Result<(u16, &[u8])> {
        let head = self.answer_to(request).await?;
        Ok((head.status, &self.answer[head.bytes..]))
    }

    /// Asks, and waits until the answer is whole. Gives its head.
    async fn answer_to(&mut self, request: &[&str]) -> io::Result<Head> {
        self.request.clear();
        for part in request {
            self.request.extend_from_slice(part.as_bytes());
        }
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        loop {
            if let Some(head) = Head::parse(&self.answer)? {
                let end = head.bytes + head.body_bytes;
                if self.answer.len() == end {
                    return Ok(head);
                }
                if self.answer.len() > end {
                    return Err(odd("more than the answer came"));
                }
            }
            if self.answer.len() >= ANSWER_BYTES_MAX {
                return Err(odd("the answer does not end"));
            }
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// What was found by looking.
pub struct Looked<'a> {
    /// Its status.
    pub status: u16,
    /// Its entity tag; empty: none.
    pub etag: String,
    /// Its body.
    pub body: &'a [u8],
}

/// What an answer's head says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Its own length.
    bytes: usize,
    /// The body's length.
    body_bytes: usize,
    /// The entity tag.
    etag: Option<String>,
}

/// The status that says that there is nothing new. It has no body, whatever else it says (RFC 9110, 15.4.5).
pub const NOT_MODIFIED: u16 = 304;

impl Head {
    /// Reads a head; `None` when it is not all there yet.
    fn parse(answer: &[u8]) -> io::Result<Option<Head>> {
        const END: &[u8] = b"\r\n\r\n";
        let Some(end) = answer.windows(END.len()).position(|bytes| bytes == END) else {
            return Ok(None);
        };
        let head = std::str::from_utf8(&answer[..end]).map_err(|_| odd("the head is no text"))?;
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let (mut length, mut etag) = (None, None);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok();
            } else if name.eq_ignore_ascii_case("etag") {
                etag = Some(value.trim().to_owned());
            }
        }
        if status == Some(NOT_MODIFIED) {
            length = Some(0);
        }
        match (status, length) {
            (Some(status), Some(body_bytes)) => Ok(Some(Head {
                status,
                bytes: end + END.len(),
                body_bytes,
                etag,
            })),
            _ => Err(odd("the head has no status or no length")),
        }
    }
}

fn odd(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let whole = b"HTTP/1.1 201 Created\r\ncontent-type: a/b\r\nContent-Length: 12\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(Head::parse(&whole[..cut]).unwrap(), None);
        }
        assert_eq!(
            Head::parse(whole).unwrap(),
            Some(Head {
                status: 201,
                bytes: whole.len(),
                body_bytes: 12,
                etag: None,
            })
        );
    }

    #[test]
    fn what_is_unchanged_has_a_tag_and_no_body() {
        let whole = b"HTTP/1.1 304 Not Modified\r\nETag: \"7\"\r\n\r\n";
        assert_eq!(
            Head::parse(whole).unwrap(),
            Some(Head {
                status: NOT_MODIFIED,
                bytes: whole.len(),
                body_bytes: 0,
                etag: Some("\"7\"".to_owned()),
            })
        );
    }

    #[test]
    fn what_our_server_does_not_say_is_a_failure() {
        for odd in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.0 200\r\ncontent-length: 1\r\n\r\n",
            "x\r\n\r\n",
        ] {
            assert!(Head::parse(odd.as_bytes()).is_err(), "{odd:?}");
        }
    }

    #[tokio::test]
    async fn answers_come_back_one_after_the_other_on_one_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for status in ["201 Created", "409 Conflict"] {
                let mut asked = Vec::new();
                while !asked.ends_with(b"{}") {
                    assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0);
                }
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 3\r\n\r\nyes");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let mut connection = Connection::open(&address).await.unwrap();
        assert_eq!(
            connection.post("/a", "t", "k", "{}").await.unwrap(),
            (201, &b"yes"[..])
        );
        assert_eq!(
            connection.post("/a", "t", "k", "{}").await.unwrap(),
            (409, &b"yes"[..])
        );
        server.await.unwrap();
        assert!(connection.post("/a", "t", "k", "{}").await.is_err());
    }
}
