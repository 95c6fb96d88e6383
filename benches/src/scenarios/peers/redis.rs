//! Redis: the usual script, in two ways: with a log that is synced before each answer and a replica that has
//! acknowledged, and in memory alone.

use std::{path::Path, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, Value, aio::MultiplexedConnection, cmd, from_redis_value, pipe,
};
use tempfile::TempDir;

use super::{
    load::{Load, Peers},
    rules::{Answer, Claims, Records, Store},
    server::{Program, READY_MAX, Server, Stop, directory, free_ports},
};
use crate::{
    failure::{Doing, Failure},
    report::id,
};

/// With a log and a replica.
const DURABLE_LOADS: [Load; 5] = [
    Load::singles(id::REDIS_64),
    Load::bulk(id::REDIS_BULK),
    Load::one(id::REDIS_ONE),
    Load::singles(id::REDIS_REFUSED_64).refused(),
    Load::bulk(id::REDIS_REFUSED_BULK).refused(),
];

/// In memory.
const MEMORY_LOADS: [Load; 5] = [
    Load::singles(id::REDIS_MEMORY_64),
    Load::bulk(id::REDIS_MEMORY_BULK),
    Load::one(id::REDIS_MEMORY_ONE),
    Load::singles(id::REDIS_MEMORY_REFUSED_64).refused(),
    Load::bulk(id::REDIS_MEMORY_REFUSED_BULK).refused(),
];

/// A claim: the answer of a key that has one, else what is left, else whether the user has one; only then a unit.
/// Gives a code and the unit's number.
const SCRIPT: &str = r"
local known = redis.call('HGET', KEYS[3], ARGV[2])
if known then
  local unit, user = string.match(known, '^(%d+) (.*)$')
  if user == ARGV[1] then return {2, tonumber(unit)} end
  return {4, 0}
end
local sale = redis.call('HMGET', KEYS[1], 'sold', 'units')
if tonumber(sale[1]) >= tonumber(sale[2]) then
  if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return {3, 0} end
  return {5, 0}
end
if redis.call('SADD', KEYS[2], ARGV[1]) == 0 then return {3, 0} end
local unit = redis.call('HINCRBY', KEYS[1], 'sold', 1)
redis.call('HSET', KEYS[3], ARGV[2], unit .. ' ' .. ARGV[1])
return {1, unit}
";

/// Longest a call waits for its answer, and the replica's acknowledgement for the master's write.
const CALL_MAX: Duration = Duration::from_secs(30);

/// Replicas that have to acknowledge, where there is one.
const ACKNOWLEDGED_MIN: i64 = 1;

/// Measures it with log and replica.
pub(super) async fn measure_durable(peers: &mut Peers<'_>) -> Result<bool, Failure> {
    measure(peers, true, "Redis, AOF always, WAIT 1", &DURABLE_LOADS).await
}

/// Measures it in memory.
pub(super) async fn measure_in_memory(peers: &mut Peers<'_>) -> Result<bool, Failure> {
    measure(peers, false, "Redis in memory, not durable", &MEMORY_LOADS).await
}

async fn measure(peers: &mut Peers<'_>, durable: bool, name: &str, loads: &[Load]) -> Result<bool, Failure> {
    let program = Program::find("redis-server", &[]);
    let Some(program) = peers.installed(name, program, "redis-server", loads)? else {
        return Ok(false);
    };
    let redis = Redis::start(peers.place, &program, durable).await?;
    peers.measure(&redis, loads).await?;
    Ok(true)
}

/// A running master, with its replica if it is durable.
struct Redis {
    servers: Vec<Server>,
    client: Client,
    durable: bool,
    /// The loaded script's name.
    script: String,
    // Last, so that the processes are gone before their files are.
    _dir: TempDir,
}

impl Redis {
    async fn start(place: &Path, program: &Program, durable: bool) -> Result<Redis, Failure> {
        let (dir, data) = directory(place, None)?;
        let ports = free_ports::<2>()?;
        let start = |name: &str, port: u16, more: &[&str]| {
            let own = data.join(name);
            std::fs::create_dir(&own).doing("making a directory")?;
            let (port, own, synced) = (
                port.to_string(),
                own.to_string_lossy(),
                if durable { "yes" } else { "no" },
            );
            let mut arguments = vec!["--bind", "127.0.0.1", "--port", &port, "--dir", &own];
            arguments.extend(["--save", "", "--appendonly", synced, "--appendfsync", "always"]);
            arguments.extend(["--auto-aof-rewrite-percentage", "0"]);
            arguments.extend(more);
            Server::start(name, dir.path(), program, None, Stop::Term, &arguments)
        };
        let mut master = start("redis-master", ports[0], &["--repl-diskless-sync-delay", "0"])?;
        let client = Client::open(format!("redis://127.0.0.1:{}", ports[0])).doing("reading an address")?;
        let mut connection = master.ready(|| connect(&client)).await?;
        let loading = cmd("SCRIPT").arg("LOAD").arg(SCRIPT).clone();
        let script = ask(&mut connection, &loading).await?;
        let mut servers = vec![master];
        if durable {
            let master_port = ports[0].to_string();
            let mut replica = start(
                "redis-replica",
                ports[1],
                &["--replicaof", "127.0.0.1", &master_port],
            )?;
            replica.ready(|| acknowledged(connection.clone())).await?;
            servers.push(replica);
        }
        Ok(Redis {
            servers,
            client,
            durable,
            script,
            _dir: dir,
        })
    }
}

async fn connect(client: &Client) -> Result<MultiplexedConnection, Failure> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(READY_MAX))
        .set_response_timeout(Some(CALL_MAX));
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    connection.await.doing("connecting to Redis")
}

async fn ask<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
) -> Result<T, Failure> {
    command.query_async(connection).await.doing("asking Redis")
}

/// Whether the replica has acknowledged a write.
async fn acknowledged(mut connection: MultiplexedConnection) -> Result<(), Failure> {
    let written: (Value, i64) = pipe()
        .cmd("SET")
        .arg("replicated")
        .arg(1)
        .add_command(wait(Duration::from_millis(100)))
        .query_async(&mut connection)
        .await
        .doing("waiting for the replica")?;
    enough(written.1)
}

fn wait(longest: Duration) -> Cmd {
    let mut command = cmd("WAIT");
    command.arg(ACKNOWLEDGED_MIN).arg(longest.as_millis() as u64);
    command
}

fn enough(acknowledged: i64) -> Result<(), Failure> {
    if acknowledged >= ACKNOWLEDGED_MIN {
        return Ok(());
    }
    let why = format!("{acknowledged} replicas have acknowledged");
    Err(Failure::new("waiting for the replica", why))
}

/// Names of what a sale is kept in.
#[derive(Clone, Debug)]
struct Keys {
    sale: String,
    users: String,
    keys: String,
}

impl Keys {
    fn of(sale: &str) -> Keys {
        Keys {
            sale: sale.to_owned(),
            users: format!("{sale}:users"),
            keys: format!("{sale}:keys"),
        }
    }
}

impl Store for Redis {
    type Claims = RedisClaims;

    async fn open_sale(&self, sale: &str, units: u64) -> Result<(), Failure> {
        let mut connection = connect(&self.client).await?;
        let mut command = cmd("HSET");
        command.arg(sale).arg("sold").arg(0).arg("units").arg(units);
        ask(&mut connection, &command).await
    }

    async fn caller(&self, sale: &str) -> Result<RedisClaims, Failure> {
        Ok(RedisClaims {
            connection: connect(&self.client).await?,
            script: self.script.clone(),
            keys: Keys::of(sale),
            durable: self.durable,
        })
    }

    async fn records(&self, sale: &str) -> Result<Records, Failure> {
        let mut connection = connect(&self.client).await?;
        let Keys { sale, users, keys } = Keys::of(sale);
        let ((units, sold), users, keys) = pipe()
            .cmd("HMGET")
            .arg(sale)
            .arg("units")
            .arg("sold")
            .cmd("SCARD")
            .arg(users)
            .cmd("HLEN")
            .arg(keys)
            .query_async(&mut connection)
            .await
            .doing("reading a sale from Redis")?;
        Ok(Records {
            units,
            sold,
            users,
            keys,
        })
    }

    fn processor_times(&self) -> Result<Vec<Duration>, Failure> {
        self.servers.iter().map(Server::processor_time).collect()
    }
}

/// A caller with a connection of its own.
struct RedisClaims {
    connection: MultiplexedConnection,
    script: String,
    keys: Keys,
    durable: bool,
}

impl Claims for RedisClaims {
    async fn claim(&mut self, asks: &[(String, String)]) -> Result<Vec<Answer>, Failure> {
        const DOING: &str = "claiming from Redis";
        let mut calls = pipe();
        for (user, key) in asks {
            calls.cmd("EVALSHA").arg(&self.script).arg(3);
            calls
                .arg(&self.keys.sale)
                .arg(&self.keys.users)
                .arg(&self.keys.keys);
            calls.arg(user).arg(key);
        }
        if self.durable {
            calls.add_command(wait(CALL_MAX));
        }
        let mut replies: Vec<Value> = calls.query_async(&mut self.connection).await.doing(DOING)?;
        if self.durable {
            let acknowledged = replies.pop().unwrap_or(Value::Nil);
            enough(from_redis_value(acknowledged).doing(DOING)?)?;
        }
        let answers = replies.into_iter().map(|reply| {
            let (code, unit): (u8, u64) = from_redis_value(reply).doing(DOING)?;
            match code {
                1 => Ok(Answer::Granted(unit)),
                2 => Ok(Answer::Repeated(unit)),
                3 => Ok(Answer::AlreadyClaimed),
                4 => Ok(Answer::KeyReused),
                5 => Ok(Answer::SoldOut),
                _ => Err(Failure::new(DOING, format!("the script answered {code}"))),
            }
        });
        answers.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::{callers::FRAME_CLAIMS, peers::keeps_the_rules};

    async fn check(durable: bool) {
        let Some(program) = Program::find("redis-server", &[]) else {
            return println!("skipped: redis-server is not installed");
        };
        let place = tempfile::tempdir().unwrap();
        let redis = Redis::start(place.path(), &program, durable).await.unwrap();
        keeps_the_rules(&redis, FRAME_CLAIMS).await;
    }

    #[tokio::test]
    async fn with_log_and_replica_it_keeps_the_rules() {
        check(true).await;
    }

    #[tokio::test]
    async fn in_memory_it_keeps_the_rules() {
        check(false).await;
    }
}
