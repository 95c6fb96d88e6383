//! Writing a history: plain, `.gz` or `.zst`, as the file's name says.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use super::{History, What, header, line::Line};

/// zstd's own default: histories shrink about tenfold at some 100 MB/s.
const ZSTD_LEVEL: i32 = 3;

impl History {
    /// Writes it to a file, compressed if the name ends in `.gz` or `.zst`.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write_file(&self, path: &Path) -> io::Result<()> {
        let file = BufWriter::new(File::create(path)?);
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => {
                let mut out = flate2::write::GzEncoder::new(file, flate2::Compression::default());
                self.write(&mut out)?;
                out.finish()?.flush()
            }
            Some("zst") => {
                let mut out = zstd::Encoder::new(file, ZSTD_LEVEL)?;
                self.write(&mut out)?;
                out.finish()?.flush()
            }
            _ => {
                let mut out = file;
                self.write(&mut out)?;
                out.flush()
            }
        }
    }

    /// Writes it as newline-delimited JSON.
    ///
    /// # Errors
    /// Whatever the writer says.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", header::line(&self.header))?;
        let mut operations = HashMap::new();
        for event in &self.events {
            if let What::Invoke { id, p, call, .. } = &event.what {
                operations.insert(*id, (*p, call.kind()));
            }
            let operation = match &event.what {
                What::Ok { id, .. } => operations.get(id).copied(),
                _ => None,
            };
            serde_json::to_writer(&mut *out, &Line::of(event, &self.names, operation))?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}
