//! The `pomerium` binary.

use std::process::ExitCode;

/// docs/adr/0030; its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    pomerium::cli::main()
}
