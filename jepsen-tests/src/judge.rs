//! Judges one file: what the command `check` does for each, and what tests do in its stead.

use std::io::Read;

use clap::ValueEnum;

use crate::{
    checker::{self, Options, Verdict, budget::Limits, foreign},
    formats::{self, FormatError, jepsen_log, knossos_edn, porcupine_kv},
    history::{History, read::plain},
    models::{
        cas_register::{self, CasRegister},
        kv::Kv,
        mutex::Mutex,
    },
};

/// What a history is a history of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Model {
    /// Sales and documents.
    Inventory,
    /// A register with read, write and compare-and-set.
    CasRegister,
    /// Keys with get, put and append.
    Kv,
    /// A lock.
    Mutex,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Our own: one JSON object a line.
    Inventory,
    /// Jepsen's text logs of a register.
    JepsenLog,
    /// Porcupine's logs of a key-value store.
    PorcupineKv,
    /// Knossos's EDN of registers and mutexes.
    KnossosEdn,
}

impl Format {
    /// What a file of this format is most often of.
    pub fn own_model(self) -> Model {
        match self {
            Format::Inventory => Model::Inventory,
            Format::JepsenLog | Format::KnossosEdn => Model::CasRegister,
            Format::PorcupineKv => Model::Kv,
        }
    }

    /// Whether a file of this format can be of this.
    pub fn has(self, model: Model) -> bool {
        model == self.own_model() || (self, model) == (Format::KnossosEdn, Model::Mutex)
    }
}

/// How to judge.
#[derive(Clone, Debug)]
pub struct Question {
    /// How the file is written.
    pub format: Format,
    /// What it is of.
    pub model: Model,
    /// What a register holds before the first operation, as the file writes it; none: nothing.
    pub initial: Option<String>,
    /// How the checker goes about it.
    pub options: Options,
}

impl Question {
    /// A file of this format, of what such files most often are.
    pub fn new(format: Format) -> Question {
        Question {
            format,
            model: format.own_model(),
            initial: None,
            options: Options::default(),
        }
    }
}

/// A file's verdict, or why it is no history.
#[derive(Debug)]
pub struct Judged {
    /// What the checker says; or the line at which the file stops being a history, and why.
    pub verdict: Result<Verdict, String>,
    /// Operations begun in it.
    pub operations: usize,
}

impl Judged {
    /// Not a history.
    pub fn not_a_history(problem: String) -> Judged {
        Judged {
            verdict: Err(problem),
            operations: 0,
        }
    }
}

/// Judges a file; plain, gzip or zstd. `checking` is called when it has been read.
pub fn judge(file: impl Read + Send + 'static, question: &Question, checking: impl FnOnce()) -> Judged {
    let file = match plain(file) {
        Ok(file) => file,
        Err(error) => return Judged::not_a_history(format!("line 1: cannot be read: {error}")),
    };
    if question.format == Format::Inventory {
        return match History::read(file) {
            Err(error) => Judged::not_a_history(error.to_string()),
            Ok(history) => {
                checking();
                Judged {
                    verdict: Ok(checker::check(&history, question.options)),
                    operations: history.operations(),
                }
            }
        };
    }
    let text = match text(file) {
        Ok(text) => text,
        Err(problem) => return Judged::not_a_history(problem),
    };
    checking();
    match foreign_verdict(&text, question, question.options.limits) {
        Ok((verdict, operations)) => Judged {
            verdict: Ok(verdict),
            operations,
        },
        Err(error) => Judged::not_a_history(error.to_string()),
    }
}

fn text(mut file: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = file.read_to_end(&mut bytes);
    let line = |until: usize| 1 + bytes[..until].iter().filter(|&&byte| byte == b'\n').count();
    if let Err(error) = read {
        return Err(format!(
            "line {}: cannot be read ({error}); the file may be cut off or damaged: get it again",
            line(bytes.len())
        ));
    }
    match std::str::from_utf8(&bytes) {
        Err(error) => Err(format!(
            "line {}: not text in UTF-8; the file may be damaged or of another format (see --format)",
            line(error.valid_up_to())
        )),
        // Valid, as was just seen.
        Ok(text) => Ok(text.to_owned()),
    }
}

fn foreign_verdict(text: &str, question: &Question, limits: Limits) -> Result<(Verdict, usize), FormatError> {
    let (events, dialect) = match question.format {
        Format::PorcupineKv => (porcupine_kv::read(text)?, knossos_edn::DIALECT),
        Format::JepsenLog => (jepsen_log::read(text)?, jepsen_log::DIALECT),
        Format::KnossosEdn | Format::Inventory => (knossos_edn::read(text)?, knossos_edn::DIALECT),
    };
    let calls = formats::calls(events)?;
    let operations = calls.len();
    let verdict = match question.model {
        Model::Kv => foreign::check(&formats::kv(calls)?, Kv::new, limits),
        Model::Mutex => foreign::check(&formats::mutex(calls)?, Mutex::new, limits),
        Model::CasRegister | Model::Inventory => {
            let initial = question.initial.as_deref();
            let start = initial.map(|_| cas_register::INITIAL);
            let parts = formats::cas_register(calls, dialect, initial)?;
            foreign::check(
                &parts,
                |accesses, _| CasRegister(accesses.to_vec(), start),
                limits,
            )
        }
    };
    Ok((verdict, operations))
}
