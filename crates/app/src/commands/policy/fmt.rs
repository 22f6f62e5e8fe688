//! `pomerium policy fmt`: policy documents and case files in their canonical form.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use pomerium_config::tidy::{self, Untidy};

use super::super::{print, print_error};
use super::args::FmtArgs;
use super::source;

pub(super) fn run(args: &FmtArgs) -> anyhow::Result<ExitCode> {
    let mut good = true;
    for path in &args.files {
        good &= one(path, args.check)?;
    }
    Ok(super::code(good))
}

fn one(path: &Path, check: bool) -> anyhow::Result<bool> {
    let text = source::text(path)?;
    let out = match tidy::tidy(&text, source::form(path)) {
        Ok(out) => out,
        Err(mistakes) => {
            tell(path, &mistakes);
            return Ok(false);
        }
    };
    if check {
        if out != text {
            print(&format!("{} is not in its canonical form", path.display()));
        }
        return Ok(out == text);
    }
    if path == Path::new("-") {
        print(out.trim_end_matches('\n'));
    } else if out != text {
        write(path, &out).with_context(|| format!("{} cannot be written", path.display()))?;
        print(&format!("formatted {}", path.display()));
    }
    Ok(true)
}

fn tell(path: &Path, mistakes: &[Untidy]) {
    for mistake in mistakes {
        print_error(&format!("{}: {mistake}", path.display()));
    }
    print_error(&format!("{} is left as it is", path.display()));
}

/// Whole or not at all, with the rights that the file has.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let path = std::fs::canonicalize(path)?;
    let mut beside = path.clone().into_os_string();
    beside.push(".new");
    std::fs::write(&beside, text)?;
    std::fs::set_permissions(&beside, std::fs::metadata(&path)?.permissions())?;
    std::fs::rename(&beside, &path)
}
