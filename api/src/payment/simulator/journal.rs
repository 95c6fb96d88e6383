//! A journal, so that killing the provider does not make it forget money.
//!
//! It holds what went in, not what came of it: a provider is deterministic, so the same calls at the same
//! times make the same state. One JSON line per call that may change something, written before it takes
//! effect, and one per webhook that is over. A last line without its end was never acted on and is cut off;
//! any other damage is refused.
//!
//! Lines are written, not synced: they survive the death of the process, not that of the machine.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{call::Request, options::Options, provider::Provider};

/// Changes when what a line means, or what a provider makes of it, changes.
const FORMAT: u32 = 1;

/// Largest journal, in bytes: at some 400 a call, ten million calls; reading it takes a minute or two.
const BYTES_MAX: u64 = 4 << 30;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system said no.
    #[error("journal {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another process writes it.
    #[error("journal {0}: another process uses it; stop that one, or take another file")]
    Taken(PathBuf),
    /// A line that is not one of ours, and not just a torn end.
    #[error("journal {path}, line {line}: {why}; take another file")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which line, from one.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// It belongs to a provider with other options, which would make something else of the same calls.
    #[error("journal {0}: made with another seed or other limits; start with those, or take another file")]
    OtherOptions(PathBuf),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Opened { format: u32, options: Options },
    Called { at_ms: u64, request: Request },
    Ended { at_ms: u64, delivery: u64 },
}

/// An open journal, to which no other process writes.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// A write failed: what the file ends with is not known, so nothing may follow.
    failed: bool,
}

impl Journal {
    /// Opens or makes the file, and brings back the provider it tells of.
    pub(super) fn open(path: &Path, options: &Options) -> Result<(Journal, Provider), JournalError> {
        let io = |source| JournalError::Io {
            path: path.to_owned(),
            source,
        };
        let damaged = |line: usize, why: String| JournalError::Damaged {
            path: path.to_owned(),
            line,
            why,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => JournalError::Taken(path.to_owned()),
            TryLockError::Error(source) => io(source),
        })?;

        // While it is replayed nothing is sent, so more may wait than ever did.
        let mut provider = Provider::new(Options {
            deliveries_max: usize::MAX,
            ..options.clone()
        });
        let (mut bytes, mut number, mut text) = (0, 0, Vec::new());
        let mut reader = BufReader::new(&file);
        loop {
            text.clear();
            let read = reader.read_until(b'\n', &mut text).map_err(io)?;
            if read == 0 || text.last() != Some(&b'\n') {
                break;
            }
            number += 1;
            let line: Line =
                serde_json::from_slice(&text).map_err(|error| damaged(number, error.to_string()))?;
            match line {
                Line::Opened {
                    format,
                    options: made,
                } if number == 1 => {
                    if format != FORMAT {
                        return Err(damaged(1, format!("format {format}, but this is {FORMAT}")));
                    }
                    let same = Options {
                        faults: made.faults.clone(),
                        base_url: made.base_url.clone(),
                        ..options.clone()
                    };
                    if made != same {
                        return Err(JournalError::OtherOptions(path.to_owned()));
                    }
                }
                Line::Called { at_ms, request } if number > 1 => {
                    provider.call(&request, at_ms);
                }
                Line::Ended { at_ms, delivery } if number > 1 => {
                    provider.advance(at_ms);
                    provider.mail.forget(delivery);
                }
                _ => return Err(damaged(number, "not in its place".into())),
            }
            bytes += read as u64;
        }
        provider.options.deliveries_max = options.deliveries_max;
        file.set_len(bytes).map_err(io)?;
        file.seek(SeekFrom::Start(bytes)).map_err(io)?;
        let mut journal = Journal {
            file,
            path: path.to_owned(),
            bytes,
            failed: false,
        };
        if bytes == 0 {
            let options = options.clone();
            let opened = Line::Opened {
                format: FORMAT,
                options,
            };
            journal.write(&opened).map_err(io)?;
        }
        Ok((journal, provider))
    }

    /// Notes a call that is about to be made.
    pub(super) fn called(&mut self, at_ms: u64, request: &Request) -> io::Result<()> {
        let request = request.clone();
        self.write(&Line::Called { at_ms, request })
    }

    /// Notes a webhook that is over.
    pub(super) fn ended(&mut self, at_ms: u64, delivery: u64) -> io::Result<()> {
        self.write(&Line::Ended { at_ms, delivery })
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        if self.failed || self.bytes >= BYTES_MAX {
            let path = self.path.display();
            return Err(io::Error::other(format!(
                "journal {path} takes no more lines; start again with another file"
            )));
        }
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let written = self.file.write_all(&text);
        self.failed = written.is_err();
        self.bytes += text.len() as u64;
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pay(provider: &mut Provider, journal: &mut Journal, at_ms: u64, key: &str) {
        let form = [
            ("amount", "4900"),
            ("currency", "eur"),
            ("payment_method", "pm_card_visa"),
            ("confirm", "true"),
        ];
        let request = Request::post("/v1/payment_intents", &form).key(key);
        journal.called(at_ms, &request).unwrap();
        provider.call(&request, at_ms);
    }

    #[test]
    fn a_provider_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let options = Options::default();
        let (mut journal, mut provider) = Journal::open(&path, &options).unwrap();
        assert!(matches!(
            Journal::open(&path, &options),
            Err(JournalError::Taken(_))
        ));
        pay(&mut provider, &mut journal, 1_000, "k1");
        // Reads and deliveries in between must not change what comes back.
        provider.call(&Request::get("/v1/payment_intents"), 1_500);
        let sent = provider.deliveries(2_000, 1).pop().expect("a webhook is due");
        let id = sent.id;
        assert!(provider.delivered(sent, true, 2_000));
        journal.ended(2_000, id).unwrap();
        pay(&mut provider, &mut journal, 3_000, "k2");
        drop(journal);
        let torn = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&torn[..], b"{\"called\":{\"at_"].concat()).unwrap();

        let (journal, mut back) = Journal::open(&path, &options).unwrap();
        assert_eq!(back.ledger(), provider.ledger());
        assert_eq!(std::fs::read(&path).unwrap(), torn, "the torn end is gone");
        let due = |provider: &mut Provider| {
            let due = provider.deliveries(10_000, 100).into_iter();
            due.map(|delivery| (delivery.id, delivery.event))
                .collect::<Vec<_>>()
        };
        assert_eq!(due(&mut back), due(&mut provider));
        drop(journal);

        let other = Options {
            seed: 9,
            ..options.clone()
        };
        assert!(matches!(
            Journal::open(&path, &other),
            Err(JournalError::OtherOptions(_))
        ));
        let mut damaged = torn.clone();
        let middle = damaged.len() / 2;
        damaged[middle] = b'\n';
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(
            Journal::open(&path, &options),
            Err(JournalError::Damaged { .. })
        ));
    }
}
