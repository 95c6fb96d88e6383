//! The ready file: how a process tells whoever started it that it serves, and where.
//!
//! Written whole under another name and then renamed, so a reader sees all of it or nothing.

use std::{net::SocketAddr, path::Path};

use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// What a ready file says, as JSON.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// The address it serves at; a real port, also when port 0 was asked for.
    pub listen: String,
    /// Its process id.
    pub pid: u32,
    /// Where its metrics are, if it has a listener for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<String>,
}

impl Ready {
    /// Writes the file for this process.
    pub fn write(path: &Path, listen: SocketAddr, metrics: Option<SocketAddr>) -> Result<(), Failure> {
        let ready = Ready {
            listen: listen.to_string(),
            pid: std::process::id(),
            metrics_listen: metrics.map(|address| address.to_string()),
        };
        let text = serde_json::to_string(&ready).map_err(|error| Failure::Failed(error.to_string()))?;
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = Path::new(&name);
        std::fs::write(new, text)
            .and_then(|()| std::fs::rename(new, path))
            .map_err(|error| Failure::Failed(format!("ready file {}: {error}", path.display())))
    }

    /// Reads the file; `None` while there is none.
    pub fn read(path: &Path) -> Result<Option<Ready>, Failure> {
        match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::Failed(format!("ready file {}: {error}", path.display()))),
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| Failure::Failed(format!("ready file {}: {error}", path.display()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.ready");
        assert_eq!(Ready::read(&path).unwrap(), None);
        Ready::write(&path, "127.0.0.1:4242".parse().unwrap(), None).unwrap();
        let ready = Ready::read(&path).unwrap().unwrap();
        assert_eq!(
            ready,
            Ready {
                listen: "127.0.0.1:4242".into(),
                pid: std::process::id(),
                metrics_listen: None,
            }
        );
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing else is left behind"
        );
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let failure = Ready::write(
            Path::new("/nowhere/x.ready"),
            "127.0.0.1:1".parse().unwrap(),
            None,
        )
        .unwrap_err();
        assert!(failure.to_string().contains("/nowhere/x.ready"), "{failure}");
    }
}
