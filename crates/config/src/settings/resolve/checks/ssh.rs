//! SSH key files: they must be there and private, once SSH is on (spec config.md 8.14).

use std::os::unix::fs::PermissionsExt as _;

use super::super::Cx;
use crate::spec::values::Values;

pub(super) fn check(values: &Values, cx: &mut Cx<'_>) {
    if values.some_text("ssh_address").is_none() {
        return;
    }
    let hosts = values
        .texts("ssh_host_key_files")
        .iter()
        .map(|path| ("ssh_host_key_files", path.as_str()));
    let ca = values
        .some_text("ssh_user_ca_key_file")
        .map(|path| ("ssh_user_ca_key_file", path));
    for (name, path) in hosts.chain(ca) {
        let problem = match std::fs::metadata(path) {
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
                "permissions are too open".to_owned()
            }
            Ok(_) => continue,
            Err(error) => error.to_string(),
        };
        let what = if name == "ssh_user_ca_key_file" {
            "user ca key"
        } else {
            "host key"
        };
        let message = format!("config: invalid ssh {what} file {path}: {problem}");
        cx.sink.error(
            values.place(name),
            name,
            message,
            format!("run `chmod 600 {path}`"),
        );
    }
}
