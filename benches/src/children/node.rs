//! A node, as operators run it: real disk, real sockets, its image in sled.

use std::{path::PathBuf, sync::Arc};

use raft_store::{
    config::NodeConfig,
    net_tcp::TcpNet,
    node::Node,
    seams::{Seams, SystemWallClock, Workers},
    storage::disk_real::RealDisk,
};
use security::{Guard, Tls, tls::Callers};

use crate::{
    cluster::tls_files,
    failure::{Doing, Failure},
};

/// Name of the image's directory beside the log.
pub const IMAGE_DIR_NAME: &str = "image";

/// Runs node `id` at `listen` with its data in `dir`, behind its certificate in `certificates`, if there are any. The
/// shortest election timeout is half the longest, and a leader shows itself ten times as often.
///
/// # Errors
/// It does not start, or stops by itself.
pub fn run(
    id: u64,
    listen: String,
    dir: PathBuf,
    election_ms_max: u64,
    certificates: Option<PathBuf>,
) -> Result<(), Failure> {
    super::runtime()?.block_on(async {
        let seams = Seams {
            disk: Arc::new(RealDisk),
            net: Arc::new(TcpNet),
            wall_clock: Arc::new(SystemWallClock),
            workers: Workers::Threads,
            image_dir: Some(dir.join(IMAGE_DIR_NAME)),
        };
        let config = NodeConfig {
            node_id: id,
            listen,
            data_dir: dir,
            heartbeat_ms: election_ms_max / 10,
            election_ms_min: election_ms_max / 2,
            election_ms_max,
            ..NodeConfig::default()
        };
        let tls = certificates.map(|certificates| {
            let files = tls_files(&certificates, &format!("node-{id}"));
            Tls::load(files, Callers::Certified)
        });
        let guard = Guard {
            tls: tls.transpose().doing("reading certificates")?,
            tokens: None,
        };
        let node = Node::start_guarded(config, seams, guard)
            .await
            .doing("starting the node")?;
        println!("ready {}", node.address());
        super::until_told(async { Failure::new("running the node", node.stopped().await.to_string()) }).await
    })
}
