//! `certs`: certificates for development and for trying a secured cluster out.

use std::{
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use security::{
    Kind, Name,
    issue::{Authority, IssueError, Validity},
};
use serde::Serialize;

use crate::{context::Context, exit::Failure, output};

/// Days an authority lives: longer than any development.
const AUTHORITY_DAYS: i64 = 3_650;

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Make an authority, and certificates for nodes, door, operator, platform and auditor; what is there stays
    Dev {
        /// Where to put them
        dir: PathBuf,
        /// Name of the cluster: only certificates of one name believe one another
        #[arg(long, default_value = "dev")]
        cluster: String,
        /// Certificates for nodes 1 to this
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=64))]
        nodes: u64,
        /// DNS name or address to put into the nodes' certificates as well, for other people's tools; may be repeated
        #[arg(long = "host", value_name = "HOST", default_values = ["localhost", "127.0.0.1"])]
        hosts: Vec<String>,
        /// Days the certificates are good for
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(i64).range(1..=3_650))]
        days: i64,
        /// Replace certificates that are there; the authority stays. Running processes take the new ones up
        #[arg(long)]
        renew: bool,
    },
    /// Say whom a certificate names and when it ends
    Show {
        /// PEM file
        file: PathBuf,
    },
}

#[derive(Serialize)]
struct CertificateView {
    file: String,
    name: String,
    made: bool,
}

/// Runs it.
pub fn run(command: CertsCommand, context: Context) -> Result<(), Failure> {
    match command {
        CertsCommand::Dev {
            dir,
            cluster,
            nodes,
            hosts,
            days,
            renew,
        } => {
            let wanted = names(&cluster, nodes)?;
            if context.dry_run {
                let count = wanted.len();
                return output::line(&format!(
                    "would make {count} certificates in {}; nothing done (--dry-run)",
                    dir.display()
                ));
            }
            let made = dev(&dir, &cluster, &wanted, &hosts, days, renew)?;
            output::print(context.format, &made, |made| {
                let mut table = output::table(&["FILE", "NAME", "MADE"]);
                for view in made {
                    let made = if view.made { "now" } else { "before" };
                    table.add_row([view.file.as_str(), view.name.as_str(), made]);
                }
                table
            })
        }
        CertsCommand::Show { file } => show(&file),
    }
}

fn names(cluster: &str, nodes: u64) -> Result<Vec<(String, Name)>, Failure> {
    let name = |kind: Kind, id: &str| {
        Name::new(cluster, kind, id).map_err(|error| Failure::Usage(format!("--cluster: {error}")))
    };
    let mut names = Vec::new();
    for id in 1..=nodes {
        names.push((format!("node-{id}"), name(Kind::Node, &id.to_string())?));
    }
    for kind in [Kind::Api, Kind::Operator, Kind::Platform, Kind::Auditor] {
        names.push((kind.word().to_owned(), name(kind, "dev")?));
    }
    Ok(names)
}

fn dev(
    dir: &Path,
    cluster: &str,
    wanted: &[(String, Name)],
    hosts: &[String],
    days: i64,
    renew: bool,
) -> Result<Vec<CertificateView>, Failure> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(dir).map_err(|error| at(dir, &error))?;
    let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    let authority = match (certificate.exists(), key.exists()) {
        (true, true) => Authority::from_pem(&text(&certificate)?, &text(&key)?)
            .map_err(|error| at(&certificate, &error))?,
        (false, false) => {
            let authority = Authority::new(cluster, Validity::days(AUTHORITY_DAYS)).map_err(failed)?;
            authority.keep(dir).map_err(|error| at(dir, &error))?;
            authority
        }
        _ => {
            return Err(Failure::Refused(format!(
                "{}: only one of ca.pem and ca.key is there; a new authority would make strangers of those it \
                 signed: bring the other one back, or choose an empty directory",
                dir.display()
            )));
        }
    };
    let mut views = Vec::new();
    for (stem, name) in wanted {
        let (certificate, key) = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
        let make = renew || !certificate.exists() || !key.exists();
        if make {
            let hosts = if name.kind() == Kind::Node { hosts } else { &[] };
            let issued = authority
                .issue(name, hosts, Validity::days(days))
                .map_err(failed)?;
            issued.keep(dir, stem).map_err(|error| at(&certificate, &error))?;
        }
        views.push(CertificateView {
            file: certificate.display().to_string(),
            name: name.to_string(),
            made: make,
        });
    }
    Ok(views)
}

fn show(file: &Path) -> Result<(), Failure> {
    let summary = security::tls::describe(file).map_err(|error| Failure::Usage(error.to_string()))?;
    output::line(&format!(
        "{}: {}, ends {}",
        file.display(),
        summary.0,
        humantime::format_rfc3339_seconds(summary.1)
    ))
}

fn failed(error: IssueError) -> Failure {
    Failure::Usage(error.to_string())
}

fn at(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Failed(format!("{}: {error}", path.display()))
}

fn text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| at(path, &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use security::{Tls, TlsFiles, tls::Callers};

    use super::*;

    fn make(dir: &Path, nodes: u64, renew: bool) -> Vec<CertificateView> {
        let wanted = names("dev", nodes).unwrap();
        dev(dir, "dev", &wanted, &["localhost".to_owned()], 30, renew).unwrap()
    }

    #[test]
    fn what_is_made_is_believed_and_keys_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("certs");
        make(&dir, 2, false);
        for stem in ["node-1", "node-2", "api", "operator", "platform", "auditor"] {
            let files = TlsFiles {
                authority: dir.join("ca.pem"),
                certificate: dir.join(format!("{stem}.pem")),
                key: dir.join(format!("{stem}.key")),
            };
            let mode = std::fs::metadata(&files.key).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{stem}: others may not read a key");
            Tls::load(files, Callers::Certified).unwrap();
        }
        let before = text(&dir.join("node-1.pem")).unwrap();
        let again = make(&dir, 3, false);
        assert_eq!(
            again.iter().filter(|view| view.made).count(),
            1,
            "only the third node's was missing"
        );
        assert_eq!(text(&dir.join("node-1.pem")).unwrap(), before);
        make(&dir, 3, true);
        assert_ne!(text(&dir.join("node-1.pem")).unwrap(), before);

        std::fs::remove_file(dir.join("ca.key")).unwrap();
        let wanted = names("dev", 1).unwrap();
        let Err(refused) = dev(&dir, "dev", &wanted, &[], 30, false) else {
            panic!("half an authority was replaced")
        };
        assert_eq!(refused.code(), 5);
    }

    #[test]
    fn names_that_cannot_be_are_usage_errors() {
        assert_eq!(names("a b", 1).unwrap_err().code(), 2);
    }
}
