//! `cargo xtask layers`: dependencies between rooms only point down (ARCHITECTURE.md).
//!
//! Reads the manifests, not the compiled graph, so that it also sees targets and features that this
//! machine does not build. Start at [`check_room`].

use std::path::Path;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::run::root;

/// The rooms and their floors. A new room gets its line here, in the same change that adds it.
const FLOORS: &[(&str, u8)] = &[
    ("crypto", 0),
    ("api", 0),
    ("policy", 0),
    ("config", 1),
    ("web", 1),
    ("authorize", 1),
    ("identity", 2),
    ("databroker", 2),
    ("certs", 2),
    ("proxy", 3),
    ("authenticate", 3),
    ("app", 4),
    ("testing", 4),
];

/// Rooms that only the named ones may use, whatever their floor.
const ONLY_FOR: &[(&str, &[&str])] = &[("databroker", &["app", "testing"])];

/// Members beside the rooms; they may use any room.
const BESIDE: &[&str] = &["xtask", "tests", "benches"];

/// Runs the check over the clone.
pub fn run() -> Result<()> {
    let mut faults = Vec::new();
    let mut arrows = 0;
    for room in rooms(&root().join("crates"))? {
        let manifest = read(&root().join("crates").join(&room))?;
        arrows += check_room(&room, &manifest, &mut faults);
    }
    for member in BESIDE {
        check_workspace_dependencies(member, &read(&root().join(member))?, &mut faults);
    }
    if !faults.is_empty() {
        faults.iter().for_each(|fault| println!("layers: {fault}"));
        bail!(
            "{} fault(s) in the order of rooms; see ARCHITECTURE.md, \"Rooms\"",
            faults.len()
        );
    }
    println!(
        "layers: {arrows} arrows between {} rooms, all of them down",
        FLOORS.len()
    );
    Ok(())
}

fn rooms(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn read(folder: &Path) -> Result<Table> {
    let path = folder.join("Cargo.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse()
        .with_context(|| format!("{} is not TOML", path.display()))
}

/// Checks one room; returns how many arrows it has to other rooms.
fn check_room(room: &str, manifest: &Table, faults: &mut Vec<String>) -> usize {
    check_workspace_dependencies(room, manifest, faults);
    let Some(floor) = floor(room) else {
        faults.push(format!(
            "crates/{room} has no floor: give it one in xtask/src/layers.rs and ARCHITECTURE.md"
        ));
        return 0;
    };
    let expected = package_of(room);
    let package = manifest
        .get("package")
        .and_then(|p| p.get("name"))
        .and_then(Value::as_str);
    if package != Some(expected.as_str()) {
        faults.push(format!(
            "crates/{room} must hold the package `{expected}`, not `{}`",
            package.unwrap_or("?")
        ));
    }
    let mut arrows = 0;
    for (section, name, _) in dependencies(manifest) {
        let Some(target) = room_of(&name) else { continue };
        arrows += 1;
        if let Some(fault) = fault_of_arrow(room, floor, target) {
            faults.push(format!("{room} → {target} in [{section}]: {fault}"));
        }
    }
    arrows
}

fn fault_of_arrow(room: &str, floor: u8, target: &str) -> Option<String> {
    let below = self::floor(target)?;
    if let Some((_, allowed)) = ONLY_FOR.iter().find(|(guarded, _)| *guarded == target)
        && !allowed.contains(&room)
    {
        return Some(format!(
            "only {} may use {target}; everyone else speaks to records through the trait in `api`",
            allowed.join(" and ")
        ));
    }
    if below > floor {
        return Some(format!(
            "upward, from floor {floor} to floor {below}; move what is shared down"
        ));
    }
    (below == floor && room != target && (room, target) != ("testing", "app")).then(|| {
        format!("sideways on floor {floor}; rooms of one floor meet only in `app`, through small traits")
    })
}

fn check_workspace_dependencies(member: &str, manifest: &Table, faults: &mut Vec<String>) {
    for (section, name, value) in dependencies(manifest) {
        if value.get("workspace").and_then(Value::as_bool) != Some(true) {
            faults.push(format!(
                "{member}: `{name}` in [{section}] must be `{name}.workspace = true`, \
                 with its version in the root Cargo.toml"
            ));
        }
    }
}

/// Every dependency of a manifest with the section that it stands in.
fn dependencies(manifest: &Table) -> Vec<(String, String, Value)> {
    const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let mut found = Vec::new();
    let mut collect = |prefix: &str, table: &Table| {
        for section in SECTIONS {
            for (name, value) in table.get(section).and_then(Value::as_table).into_iter().flatten() {
                found.push((format!("{prefix}{section}"), name.clone(), value.clone()));
            }
        }
    };
    collect("", manifest);
    for (target, table) in manifest
        .get("target")
        .and_then(Value::as_table)
        .into_iter()
        .flatten()
    {
        if let Some(table) = table.as_table() {
            collect(&format!("target.{target}."), table);
        }
    }
    found
}

fn floor(room: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == room)
        .map(|(_, floor)| *floor)
}

fn package_of(room: &str) -> String {
    if room == "app" {
        "pomerium".into()
    } else {
        format!("pomerium-{room}")
    }
}

fn room_of(package: &str) -> Option<&'static str> {
    FLOORS
        .iter()
        .map(|(room, _)| *room)
        .find(|room| package_of(room) == package)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(room: &str, manifest: &str) -> Vec<String> {
        let name = package_of(room);
        let manifest = format!("[package]\nname = \"{name}\"\n{manifest}")
            .parse()
            .unwrap();
        let mut faults = Vec::new();
        check_room(room, &manifest, &mut faults);
        faults
    }

    #[test]
    fn a_downward_arrow_passes() {
        assert!(faults("proxy", "[dependencies]\npomerium-web.workspace = true").is_empty());
    }

    #[test]
    fn an_upward_arrow_is_named_with_both_floors() {
        let found = faults("web", "[dependencies]\npomerium-proxy.workspace = true");
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains("web → proxy in [dependencies]: upward, from floor 1 to floor 3"),
            "{found:?}"
        );
    }

    #[test]
    fn a_sideways_arrow_fails_in_dev_dependencies_too() {
        let found = faults("web", "[dev-dependencies]\npomerium-config.workspace = true");
        assert!(found[0].contains("sideways on floor 1"), "{found:?}");
    }

    #[test]
    fn a_target_section_is_seen() {
        let found = faults(
            "api",
            "[target.'cfg(unix)'.dependencies]\npomerium-policy.workspace = true",
        );
        assert!(found[0].contains("target.cfg(unix).dependencies"), "{found:?}");
    }

    #[test]
    fn the_databroker_is_for_app_and_testing_only() {
        let text = "[dependencies]\npomerium-databroker.workspace = true";
        assert!(faults("app", text).is_empty());
        assert!(faults("authenticate", text)[0].contains("only app and testing"));
    }

    #[test]
    fn a_version_outside_the_workspace_table_fails() {
        let found = faults("web", "[dependencies]\nhttp = \"1\"");
        assert!(
            found[0].contains("`http` in [dependencies] must be `http.workspace = true`"),
            "{found:?}"
        );
    }

    #[test]
    fn a_room_without_a_floor_is_refused() {
        assert!(faults("attic", "")[0].contains("has no floor"));
    }

    #[test]
    fn the_clone_itself_is_in_order() {
        run().unwrap();
    }
}
