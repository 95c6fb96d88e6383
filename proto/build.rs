//! Compiles the protocol files without protoc: protox is a compiler in Rust.
use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "holdfast/v1/inventory.proto",
        "holdfast/v1/cluster.proto",
        "holdfast/internal/v1/raft.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        // Ours, so that a leader can write answers straight into the bytes of it.
        .extern_path(".holdfast.v1.SubmitResponse", "crate::SubmitResponse")
        .compile_fds(descriptors)?;
    Ok(())
}
