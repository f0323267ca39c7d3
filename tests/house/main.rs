//! The rules of the house as tests: who may import whom, and what no source file may hold.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crate → the crates of this workspace that it may import. Imports go down, never sideways, never up.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    (
        "longshore",
        &[
            "longshore-archive",
            "longshore-config",
            "longshore-control",
            "longshore-discovery",
            "longshore-transport",
            "longshore-wire",
            "longshore-worker",
        ],
    ),
    (
        "longshore-control",
        &["longshore-archive", "longshore-discovery", "longshore-state", "longshore-transport", "longshore-wire"],
    ),
    ("longshore-worker", &["longshore-archive", "longshore-discovery", "longshore-transport", "longshore-wire"]),
    ("longshore-archive", &["longshore-wire"]),
    ("longshore-config", &["longshore-wire"]),
    ("longshore-discovery", &["longshore-wire"]),
    ("longshore-state", &["longshore-wire"]),
    ("longshore-transport", &["longshore-wire"]),
    ("longshore-wire", &[]),
];

/// Longest source file, in lines. Beyond it, look for the missing concept.
const MAX_LINES: usize = 500;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

#[test]
fn imports_go_down() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        MAY_IMPORT.iter().map(|(name, imports)| (*name, imports.iter().copied().collect())).collect();
    let metadata = metadata();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let may = allowed.get(name).unwrap_or_else(|| panic!("crate {name} is not in the table: add it, and say why"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let import = dependency["name"].as_str().expect("a name");
            if import.starts_with("longshore") && dependency["kind"].is_null() {
                assert!(
                    may.contains(import),
                    "{name} must not import {import}: imports go down, never sideways, never up"
                );
            }
        }
    }
}

#[test]
fn files_stay_readable() {
    let mut long = Vec::new();
    for file in sources(&root()) {
        let text = std::fs::read_to_string(&file).expect("a source file is readable");
        let shown = file.strip_prefix(root()).expect("below the root").display();
        assert!(text.starts_with("//!"), "{shown} does not open with `//!`: say what it owns");
        assert!(file.file_name().is_none_or(|name| name != "mod.rs"), "{shown}: write foo.rs beside foo/");
        if text.lines().count() > MAX_LINES {
            long.push(format!("{shown}: {} lines", text.lines().count()));
        }
    }
    assert!(long.is_empty(), "files over {MAX_LINES} lines; look for the missing concept: {long:#?}");
}

/// Every Rust file of the workspace.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder is readable").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
