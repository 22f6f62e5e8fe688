//! The `pomerium` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    pomerium::cli::main()
}
