//! The shoppers' own record of every HTTP answer they got: what the verdict is drawn from.
//!
//! Kept in memory, and as `journal.jsonl` in the demo's directory for those who want to check by other
//! means. The file's writer is a thread behind a bounded queue; a shopper waits for it rather than lose a
//! line.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{Mutex, mpsc},
    thread::JoinHandle,
    time::Instant,
};

use serde::{Deserialize, Serialize};

/// Lines waiting for the file: a second's worth, some 10 MB.
const LINES_MAX: usize = 32_768;

/// One HTTP answer, or the want of one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Since the sale opened, in µs.
    pub at_us: u64,
    /// Which shopper, from zero.
    pub user: u32,
    /// What was asked.
    pub step: Step,
    /// The idempotency key it carried.
    pub key: String,
    /// HTTP status; zero when no answer came.
    pub status: u16,
    /// What it said.
    #[serde(flatten)]
    pub answer: Answer,
}

/// What a shopper asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// `POST /v1/sales/{id}/claims`.
    Claim,
    /// `POST /v1/claims/{id}/checkout`.
    Pay,
    /// `GET /v1/claims/{id}/checkout`, after an answer that was not the last word.
    Look,
}

/// What an answer said.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// A claim: granted now, again, or the one he has.
    Claim(Told),
    /// Paid: there is an order.
    Paid(Ordered),
    /// Not decided yet, or the shopper has to see his bank first.
    Pending {
        /// Where his bank wants to see him.
        next_action_url: Option<String>,
    },
    /// The card was declined; the hold is kept.
    Declined,
    /// No unit now; when `more_until` is given, some may come back until then (RFC 3339).
    SoldOut {
        /// Latest deadline of outstanding holds.
        more_until: Option<String>,
    },
    /// The hold was over before the payment was done, or the money could not be taken: nothing was charged.
    Gone,
    /// The key had no effect and never will; a new one is needed.
    Fenced,
    /// It may have happened or not; the same key tells.
    Unknown {
        /// Seconds to wait.
        retry_after_s: u64,
    },
    /// It did not happen; to be tried again.
    Later {
        /// Seconds to wait.
        retry_after_s: u64,
    },
    /// No answer came: as unknown.
    Silence {
        /// What the connection said.
        error: String,
    },
    /// Anything else: never expected here.
    Odd {
        /// The body.
        body: String,
    },
}

/// An order as a shopper was told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// Id.
    pub order_id: String,
    /// The claim that was paid for.
    pub claim_id: String,
}

/// A claim as a shopper was told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Id.
    pub claim_id: String,
    /// held, confirmed, …
    pub status: String,
    /// Units.
    pub quantity: u32,
    /// Rank in the sale.
    pub rank: u32,
    /// What a confirm presents.
    pub fencing_token: u64,
    /// When it was granted.
    pub receipt: ToldReceipt,
}

/// A receipt as a shopper was told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldReceipt {
    /// Log index.
    pub log_index: u64,
    /// Position in the batch.
    pub position: u32,
    /// Term.
    pub term: u64,
    /// Log time, ms.
    pub log_time_ms: u64,
}

/// The journal being written.
pub struct Journal {
    opened: Instant,
    entries: Mutex<Vec<Entry>>,
    lines: mpsc::SyncSender<Vec<u8>>,
    writer: JoinHandle<std::io::Result<()>>,
}

impl Journal {
    /// Starts a journal and its file.
    pub fn create(path: &Path) -> std::io::Result<Journal> {
        let mut file = BufWriter::new(File::create(path)?);
        let (lines, waiting) = mpsc::sync_channel::<Vec<u8>>(LINES_MAX);
        let writer = std::thread::spawn(move || {
            for line in waiting {
                file.write_all(&line)?;
            }
            file.flush()
        });
        Ok(Journal {
            opened: Instant::now(),
            entries: Mutex::default(),
            lines,
            writer,
        })
    }

    /// Adds an answer.
    pub fn add(&self, user: u32, step: Step, key: &str, status: u16, answer: Answer) {
        let at_us = u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        let entry = Entry {
            at_us,
            user,
            step,
            key: key.to_owned(),
            status,
            answer,
        };
        let mut line = serde_json::to_vec(&entry).expect("an entry is plain texts and numbers");
        line.push(b'\n');
        // The writer only goes away on a write error, which `finish` reports.
        let _ = self.lines.send(line);
        self.entries
            .lock()
            .expect("nobody panics while adding")
            .push(entry);
    }

    /// All entries, once the file is complete.
    pub fn finish(self) -> std::io::Result<Vec<Entry>> {
        drop(self.lines);
        self.writer
            .join()
            .map_err(|_| std::io::Error::other("the journal's writer panicked"))??;
        Ok(self.entries.into_inner().expect("nobody panics while adding"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_what_memory_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let journal = Journal::create(&path).unwrap();
        journal.add(
            7,
            Step::Claim,
            "k7",
            409,
            Answer::SoldOut {
                more_until: Some("2030-01-01T00:00:00Z".into()),
            },
        );
        journal.add(
            8,
            Step::Pay,
            "k8",
            0,
            Answer::Silence {
                error: "reset".into(),
            },
        );
        let entries = journal.finish().unwrap();
        assert_eq!(entries.len(), 2);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        for (line, entry) in lines.iter().zip(&entries) {
            assert_eq!(line, &serde_json::to_value(entry).unwrap());
        }
        assert_eq!(lines[0]["answer"], "sold-out");
    }
}
