//! Compiles the `.proto` files of the workspace to Rust, without an outside compiler.

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo tells at run time: a build folder shared by clones shares this program as well.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo did not say where the package is")?;
    let root = std::path::Path::new(&package).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let typed = protox::compile(
        [
            "session.proto",
            "user.proto",
            "databroker.proto",
            "device.proto",
            "ext_authz.proto",
        ],
        [&root],
    )?;
    let typed = typed.encode_to_vec();
    // Through bytes, because the two crates may use different versions of the descriptor type.
    let set = prost_types::FileDescriptorSet::decode(typed.as_slice())?;
    prost_build::Config::new().bytes(["."]).compile_fds(set)?;
    // Configuration is read by description: its hundred fields are the options of a file, by name.
    let described = protox::compile(["config.proto"], [&root])?.encode_to_vec();
    let out = std::env::var_os("OUT_DIR").ok_or("cargo did not say where output goes")?;
    let out = std::path::Path::new(&out);
    std::fs::write(out.join("config.bin"), described)?;
    // Policies see records as JSON, by description as well.
    std::fs::write(out.join("records.bin"), typed)?;
    Ok(())
}
