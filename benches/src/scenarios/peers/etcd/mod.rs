//! etcd: three members, spoken to over gRPC at the one that leads; claims in two ways.

mod counter;
mod ops;
mod record;
mod units;

use std::{path::Path, time::Duration};

use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use self::{
    counter::Counter,
    ops::v3::{StatusRequest, kv_client::KvClient, maintenance_client::MaintenanceClient},
    units::Units,
};
use super::{
    load::{Load, Peers},
    server::{Program, READY_MAX, Server, Stop, directory, free_ports},
};
use crate::{
    cluster::Shape,
    failure::{Doing, Failure},
    report::id,
};

/// Members, as many as ours has.
const MEMBERS: usize = Shape::USUAL.nodes as usize;

/// Claims from one counter. One caller alone in bulk: of two, one would lose every round.
const COUNTER_LOADS: [Load; 5] = [
    Load::singles(id::ETCD_64),
    Load::bulk(id::ETCD_BULK).by(counter::CLAIMS_MAX).callers(1),
    Load::one(id::ETCD_ONE),
    Load::singles(id::ETCD_REFUSED_64).refused(),
    Load::bulk(id::ETCD_REFUSED_BULK)
        .by(counter::CLAIMS_MAX)
        .refused(),
];

/// Claims from a key per unit.
const UNITS_LOADS: [Load; 2] = [
    Load::singles(id::ETCD_64_UNITS),
    Load::bulk(id::ETCD_BULK_UNITS).by(units::CLAIMS_MAX),
];

/// What is set beside the defaults, among them fsync, 128 operations a transaction, heartbeat and election timeouts.
/// The quota is the largest that is recommended; at the default it stops writing after 2 GiB.
const SETTINGS: [&str; 3] = [
    "--quota-backend-bytes=8589934592",
    "--initial-cluster-state=new",
    "--log-level=error",
];

/// Longest a call waits for its answer.
const CALL_MAX: Duration = Duration::from_secs(30);

/// Measures it.
pub(super) async fn measure(peers: &mut Peers<'_>) -> Result<bool, Failure> {
    let loads = [&COUNTER_LOADS[..], &UNITS_LOADS].concat();
    let program = Program::find("etcd", &[]);
    let Some(program) = peers.installed("etcd", program, "etcd-server", &loads)? else {
        return Ok(false);
    };
    let etcd = Etcd::start(peers.place, &program).await?;
    peers.measure(&Counter::new(&etcd), &COUNTER_LOADS).await?;
    peers.measure(&Units::new(&etcd), &UNITS_LOADS).await?;
    Ok(true)
}

/// A running cluster.
struct Etcd {
    members: Vec<Server>,
    /// To its leader; clones share the connection.
    leader: KvClient<Channel>,
    // Last, so that the processes are gone before their files are.
    _dir: TempDir,
}

impl Etcd {
    async fn start(place: &Path, program: &Program) -> Result<Etcd, Failure> {
        let (dir, data) = directory(place, None)?;
        let ports = free_ports::<{ 2 * MEMBERS }>()?;
        let (client_ports, peer_ports) = ports.split_at(MEMBERS);
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let name = |member: usize| format!("etcd-{}", member + 1);
        let all: Vec<String> = peer_ports
            .iter()
            .enumerate()
            .map(|(member, port)| format!("{}={}", name(member), url(port)))
            .collect();
        let mut members = Vec::new();
        for (member, (client_port, peer_port)) in client_ports.iter().zip(peer_ports).enumerate() {
            let (name, client, peer) = (name(member), url(client_port), url(peer_port));
            let data = data.join(&name);
            let arguments = [
                "--name",
                &name,
                "--data-dir",
                &data.to_string_lossy(),
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
                "--initial-cluster",
                &all.join(","),
            ];
            let arguments = [&arguments[..], &SETTINGS].concat();
            members.push(Server::start(
                &name,
                dir.path(),
                program,
                None,
                Stop::Term,
                &arguments,
            )?);
        }
        let mut leader = None;
        for (member, port) in members.iter_mut().zip(client_ports) {
            let endpoint = Endpoint::from_shared(url(port)).doing("reading an address")?;
            let endpoint = endpoint.connect_timeout(READY_MAX).timeout(CALL_MAX);
            if let Some(channel) = member.ready(|| connect(&endpoint)).await? {
                leader = Some(KvClient::new(channel));
            }
        }
        Ok(Etcd {
            members,
            leader: leader.ok_or_else(|| Failure::new("looking for etcd's leader", "no member leads"))?,
            _dir: dir,
        })
    }

    fn processor_times(&self) -> Result<Vec<Duration>, Failure> {
        self.members.iter().map(Server::processor_time).collect()
    }
}

/// A connection to a member that knows a leader, if that is itself.
async fn connect(endpoint: &Endpoint) -> Result<Option<Channel>, Failure> {
    const DOING: &str = "asking a member of etcd who leads";
    let channel = endpoint.connect().await.doing(DOING)?;
    let mut maintenance = MaintenanceClient::new(channel.clone());
    let status = maintenance
        .status(StatusRequest {})
        .await
        .doing(DOING)?
        .into_inner();
    if status.leader == 0 {
        return Err(Failure::new(DOING, "nobody, it says"));
    }
    let own = status.header.map(|header| header.member_id);
    Ok((own == Some(status.leader)).then_some(channel))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::peers::keeps_the_rules;

    #[tokio::test]
    async fn either_way_it_keeps_the_rules() {
        let Some(program) = Program::find("etcd", &[]) else {
            return println!("skipped: etcd is not installed");
        };
        let place = tempfile::tempdir().unwrap();
        let etcd = Etcd::start(place.path(), &program).await.unwrap();
        keeps_the_rules(&Counter::new(&etcd), counter::CLAIMS_MAX).await;
        keeps_the_rules(&Units::new(&etcd), units::CLAIMS_MAX).await;
    }
}
