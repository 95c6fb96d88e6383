//! PostgreSQL: one function call a claim; a hot row, and a row for each claim.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls, Row, Statement, error::SqlState};

use super::{
    load::{Load, Peers},
    rules::{Answer, Claims, Records, Store},
    server::{Program, Server, Stop, User, directory, free_ports},
};
use crate::{
    failure::{Doing, Failure},
    report::id,
};

const LOADS: [Load; 5] = [
    Load::singles(id::POSTGRES_64),
    Load::bulk(id::POSTGRES_BULK),
    Load::one(id::POSTGRES_ONE),
    Load::singles(id::POSTGRES_REFUSED_64).refused(),
    Load::bulk(id::POSTGRES_REFUSED_BULK).refused(),
];

/// Tables and functions.
const SCHEMA: &str = include_str!("postgres.sql");

/// Fills some segments of the log; the checkpoint that follows has them used again. In a database that has been in use
/// there are always some, and only a new one makes and zeroes them while it commits.
const WRITE_AHEAD: &str = "DO $$ BEGIN FOR segment IN 1..12 LOOP \
     PERFORM pg_logical_emit_message(false, '', ''); PERFORM pg_switch_wal(); \
     END LOOP; END $$";

/// Who owns the database.
const OWNER: &str = "bench";

/// What is set beside the defaults. The durable ones are the defaults, and stand here to be seen. A plan that
/// is made for one sale, which is new and so not in the statistics, reads all its claims for each lookup.
const SETTINGS: [&str; 18] = [
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "wal_level=minimal",
    "max_wal_senders=0",
    "shared_buffers=1GB",
    "wal_buffers=64MB",
    "max_wal_size=16GB",
    "min_wal_size=1GB",
    "checkpoint_timeout=1h",
    "autovacuum=off",
    "jit=off",
    "plan_cache_mode=force_generic_plan",
    "max_connections=200",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "logging_collector=off",
    "log_checkpoints=off",
];

/// Where Debian has the server, in a directory for each version: not on anybody's `PATH`.
const DEBIAN_DIR: &str = "/usr/lib/postgresql";

/// Measures it.
pub(super) async fn measure(peers: &mut Peers<'_>) -> Result<bool, Failure> {
    const NAME: &str = "PostgreSQL, one machine, no replication";
    let Some(program) = peers.installed(NAME, program("postgres"), "postgresql", &LOADS)? else {
        return Ok(false);
    };
    let postgres = Postgres::start(peers.place, &program).await?;
    peers.measure(&postgres, &LOADS).await?;
    Ok(true)
}

/// One of its programs, of the newest version there is.
fn program(name: &str) -> Option<Program> {
    let versions = fs::read_dir(DEBIAN_DIR).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .collect();
    versions.sort_unstable_by(|one, other| other.cmp(one));
    let dirs: Vec<PathBuf> = versions.into_iter().map(|(_, dir)| dir).collect();
    Program::find(name, &dirs)
}

/// A running server.
struct Postgres {
    server: Server,
    config: Config,
    // Last, so that the processes are gone before their files are.
    _dir: TempDir,
}

impl Postgres {
    async fn start(place: &Path, postgres: &Program) -> Result<Postgres, Failure> {
        let user = User::other_than_root()?;
        let (dir, data) = directory(place, user)?;
        let data = data.to_string_lossy();
        let initdb =
            program("initdb").ok_or_else(|| Failure::new("looking for initdb", "it is not there"))?;
        let making = ["--pgdata", &data, "--username", OWNER, "--auth", "trust"];
        let making = [&making[..], &["--encoding", "UTF8", "--locale", "C"]].concat();
        initdb.run(user, &making).map_err(|failure| {
            let hint = "every directory above must let its user through; choose another one with --dir";
            Failure::new("making a database", format!("{failure}\n{hint}"))
        })?;
        let [port] = free_ports()?;
        let listen = format!("port={port}");
        let mut arguments = vec!["-D", &*data, "-c", &listen];
        arguments.extend(SETTINGS.iter().flat_map(|setting| ["-c", *setting]));
        let mut server = Server::start("postgres", dir.path(), postgres, user, Stop::Quit, &arguments)?;
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).user(OWNER).dbname("postgres");
        let client = server.ready(|| connect(&config)).await?;
        for statements in [SCHEMA, WRITE_AHEAD, "CHECKPOINT"] {
            client
                .batch_execute(statements)
                .await
                .doing("making tables in PostgreSQL")?;
        }
        Ok(Postgres {
            server,
            config,
            _dir: dir,
        })
    }
}

async fn connect(config: &Config) -> Result<Client, Failure> {
    let (client, connection) = config.connect(NoTls).await.doing("connecting to PostgreSQL")?;
    // Ends with the client, and what went wrong is told to whoever asks it next.
    tokio::spawn(connection);
    Ok(client)
}

impl Store for Postgres {
    type Claims = PostgresClaims;

    async fn open_sale(&self, sale: &str, units: u64) -> Result<(), Failure> {
        const DOING: &str = "opening a sale in PostgreSQL";
        let client = connect(&self.config).await?;
        let units = i64::try_from(units).doing(DOING)?;
        client
            .execute("INSERT INTO sale VALUES ($1, $2, 0)", &[&sale, &units])
            .await
            .doing(DOING)?;
        Ok(())
    }

    async fn caller(&self, sale: &str) -> Result<PostgresClaims, Failure> {
        const DOING: &str = "preparing a claim in PostgreSQL";
        let client = connect(&self.config).await?;
        let one = client.prepare("SELECT code, unit FROM claim_one($1, $2, $3)");
        let many = client.prepare("SELECT code, unit FROM claim_many($1, $2, $3)");
        Ok(PostgresClaims {
            one: one.await.doing(DOING)?,
            many: many.await.doing(DOING)?,
            client,
            sale: sale.to_owned(),
        })
    }

    async fn records(&self, sale: &str) -> Result<Records, Failure> {
        const QUERY: &str = "SELECT units, sold, \
             (SELECT count(DISTINCT user_id) FROM claim c WHERE c.sale = s.sale), \
             (SELECT count(DISTINCT key) FROM claim c WHERE c.sale = s.sale) \
             FROM sale s WHERE sale = $1";
        const DOING: &str = "reading a sale from PostgreSQL";
        let client = connect(&self.config).await?;
        let row = client.query_one(QUERY, &[&sale]).await.doing(DOING)?;
        let number = |column: usize| {
            let number: i64 = row.try_get(column).doing(DOING)?;
            u64::try_from(number).doing(DOING)
        };
        Ok(Records {
            units: number(0)?,
            sold: number(1)?,
            users: number(2)?,
            keys: number(3)?,
        })
    }

    fn processor_times(&self) -> Result<Vec<Duration>, Failure> {
        Ok(vec![self.server.processor_time()?])
    }
}

/// A caller with a connection of its own.
struct PostgresClaims {
    client: Client,
    sale: String,
    one: Statement,
    many: Statement,
}

impl Claims for PostgresClaims {
    async fn claim(&mut self, asks: &[(String, String)]) -> Result<Vec<Answer>, Failure> {
        loop {
            let rows = match asks {
                [(user, key)] => self.client.query(&self.one, &[&self.sale, user, key]).await,
                asks => {
                    let (users, keys): (Vec<&str>, Vec<&str>) = asks
                        .iter()
                        .map(|(user, key)| (user.as_str(), key.as_str()))
                        .unzip();
                    self.client.query(&self.many, &[&self.sale, &users, &keys]).await
                }
            };
            match rows {
                Ok(rows) => return rows.iter().map(answer).collect(),
                // The same user or key came in between: nothing was done, and now it is there to be found.
                Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {}
                Err(error) => return Err(error).doing("claiming from PostgreSQL"),
            }
        }
    }
}

fn answer(row: &Row) -> Result<Answer, Failure> {
    const DOING: &str = "reading an answer of PostgreSQL";
    let code: i32 = row.try_get(0).doing(DOING)?;
    let unit = || {
        let unit: i64 = row.try_get(1).doing(DOING)?;
        u64::try_from(unit).doing(DOING)
    };
    match code {
        1 => Ok(Answer::Granted(unit()?)),
        2 => Ok(Answer::Repeated(unit()?)),
        3 => Ok(Answer::AlreadyClaimed),
        4 => Ok(Answer::KeyReused),
        5 => Ok(Answer::SoldOut),
        _ => Err(Failure::new(DOING, format!("the function answered {code}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::{callers::FRAME_CLAIMS, peers::keeps_the_rules};

    #[tokio::test]
    async fn it_keeps_the_rules() {
        let Some(program) = program("postgres") else {
            return println!("skipped: PostgreSQL is not installed");
        };
        let place = super::super::server::passable_tempdir();
        let postgres = Postgres::start(place.path(), &program).await.unwrap();
        keeps_the_rules(&postgres, FRAME_CLAIMS).await;
    }
}
