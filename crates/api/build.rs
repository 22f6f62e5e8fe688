//! Compiles the `.proto` files of the workspace to Rust, without an outside compiler.

use protox::prost::Message as _;

/// What becomes Rust types, clients and servers.
const TYPED: [&str; 10] = [
    "session.proto",
    "user.proto",
    "databroker.proto",
    "device.proto",
    "ext_authz.proto",
    "registry.proto",
    "health.proto",
    "grpc_health.proto",
    "internal.proto",
    "events.proto",
];

/// What is read by description alone: the hundred fields of a route are the options of a file, by name, and
/// the rest is looked into without being understood.
const DESCRIBED: [&str; 4] = ["config.proto", "identity.proto", "oauth21.proto", "rfc7591.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo tells at run time: a build folder shared by clones shares this program as well.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo did not say where the package is")?;
    let root = std::path::Path::new(&package).join("../../proto");
    let out = std::env::var_os("OUT_DIR").ok_or("cargo did not say where output goes")?;
    let out = std::path::Path::new(&out);
    println!("cargo:rerun-if-changed={}", root.display());
    let typed = protox::compile(TYPED, [&root])?.encode_to_vec();
    // Through bytes, because the two crates may use different versions of the descriptor type.
    let set = prost_types::FileDescriptorSet::decode(typed.as_slice())?;
    let mut messages = prost_build::Config::new();
    messages.bytes(["."]);
    tonic_prost_build::configure().compile_fds_with_config(set, messages)?;
    // Records are searched and patched by description, and clients may ask for it.
    let described = protox::compile(TYPED.into_iter().chain(DESCRIBED), [&root])?.encode_to_vec();
    std::fs::write(out.join("descriptors.bin"), described)?;
    Ok(())
}
