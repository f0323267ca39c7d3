//! Folders become archives and folders again.
#![allow(clippy::unwrap_used)]

use longshore_archive::{ArchiveError, Limits, PackOptions, PackReport, Promise, inspect, pack, remove, sweep, unpack};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use tempfile::TempDir;

const APP: &str = "name = \"greeter\"\nruntime = \"exec\"\n[flows.main]\nentry = [\"./greet.sh\"]\n";

/// A small app.
fn app() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("app.toml"), APP).unwrap();
    script(&dir.path().join("greet.sh"), 0o755);
    fs::create_dir_all(dir.path().join("lib/deep")).unwrap();
    fs::write(dir.path().join("lib/deep/a.txt"), "deep").unwrap();
    fs::write(dir.path().join("lib/.hidden"), "").unwrap();
    fs::create_dir_all(dir.path().join(".git/objects")).unwrap();
    fs::write(dir.path().join(".git/HEAD"), "x").unwrap();
    dir
}

fn script(path: &Path, mode: u32) {
    fs::write(path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn packed(dir: &Path) -> Result<(PackReport, Vec<u8>), ArchiveError> {
    let mut bytes = Vec::new();
    pack(dir, &PackOptions::default(), &mut bytes).map(|report| (report, bytes))
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn same_content_gives_same_bytes() {
    let (one, other) = (app(), app());
    // Made in another order, at another time, with other bits that do not count.
    fs::remove_file(other.path().join("greet.sh")).unwrap();
    script(&other.path().join("greet.sh"), 0o700);
    fs::create_dir(other.path().join("empty")).unwrap();
    fs::write(other.path().join("app.json"), "left over").unwrap();
    // What `app pack .` has made here, and is making.
    fs::write(other.path().join("greeter.tar"), "a former archive").unwrap();
    fs::write(other.path().join(format!("{}x", longshore_archive::UNFINISHED)), "").unwrap();
    let ((first, bytes), (second, again)) = (packed(one.path()).unwrap(), packed(other.path()).unwrap());
    assert_eq!(bytes, again);
    assert_eq!(first, second);
    let paths: Vec<&str> = first.manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["app.toml", "greet.sh", "lib/.hidden", "lib/deep/a.txt"]);
    let inspection = inspect(&bytes[..], &Limits::default()).unwrap();
    assert_eq!((inspection.manifest, inspection.digest, inspection.size), (first.manifest, first.digest, first.size));
}

#[test]
fn unpacked_is_whole_read_only_and_removable() {
    let (report, bytes) = packed(app().path()).unwrap();
    let parent = tempfile::tempdir().unwrap();
    let manifest =
        unpack(&bytes[..], Promise::Sha256(report.digest), &Limits::default(), parent.path(), "greeter").unwrap();
    assert_eq!(manifest, report.manifest);
    let dir = parent.path().join("greeter");
    assert_eq!(fs::read_to_string(dir.join("lib/deep/a.txt")).unwrap(), "deep");
    let modes = [("greet.sh", 0o555), ("app.json", 0o444), ("lib/deep/a.txt", 0o444), ("lib/deep", 0o555), ("", 0o555)];
    for (path, expected) in modes {
        assert_eq!(mode(&dir.join(path)), expected, "{path}");
    }
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "nothing but the app");
    let again =
        unpack(&bytes[..], Promise::Sha256(report.digest), &Limits::default(), parent.path(), "greeter").unwrap_err();
    assert!(matches!(again, ArchiveError::Exists(_)), "{again:?}");
    remove(&dir).unwrap();
    remove(&dir).unwrap();
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn sweep_takes_what_a_crash_left() {
    let parent = tempfile::tempdir().unwrap();
    fs::create_dir_all(parent.path().join(".app.12-0.partial/lib")).unwrap();
    fs::create_dir(parent.path().join("app")).unwrap();
    sweep(parent.path()).unwrap();
    let left: Vec<_> = fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["app"]);
}

#[test]
fn name_can_be_given() {
    let options = PackOptions { name: Some("other".to_owned()) };
    let report = pack(app().path(), &options, &mut Vec::new()).unwrap();
    assert_eq!(report.manifest.name, "other");
    let options = PackOptions { name: Some("Not A Name".to_owned()) };
    pack(app().path(), &options, &mut Vec::new()).unwrap_err();
}

#[test]
fn links_and_special_files_are_refused_by_name() {
    let dir = app();
    symlink("/etc/passwd", dir.path().join("lib/link")).unwrap();
    assert!(matches!(packed(dir.path()), Err(ArchiveError::Symlink(path)) if path == "lib/link"));
    let dir = app();
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    assert!(matches!(packed(dir.path()), Err(ArchiveError::SpecialFile { path, .. }) if path == "socket"));
}

#[test]
fn entry_must_be_there_and_executable() {
    let dir = app();
    fs::set_permissions(dir.path().join("greet.sh"), Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(packed(dir.path()), Err(ArchiveError::EntryNotExecutable { .. })));
    fs::remove_file(dir.path().join("greet.sh")).unwrap();
    assert!(matches!(packed(dir.path()), Err(ArchiveError::EntryMissing { .. })));
}

#[test]
fn no_app_toml() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(packed(dir.path()), Err(ArchiveError::NoAppToml(_))));
    assert!(matches!(packed(&dir.path().join("nowhere")), Err(ArchiveError::Io { .. })));
}

#[test]
fn long_paths_work_up_to_the_header() {
    let dir = app();
    let folder = dir.path().join("x".repeat(90)).join("y".repeat(60));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("z".repeat(100)), "far").unwrap();
    let (report, bytes) = packed(dir.path()).unwrap();
    assert_eq!(inspect(&bytes[..], &Limits::default()).unwrap().manifest, report.manifest);
    fs::write(folder.join("z".repeat(101)), "too far").unwrap();
    assert!(matches!(packed(dir.path()), Err(ArchiveError::BadPath { .. })));
}

#[test]
fn the_examples_can_be_packed() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for name in ["greeter", "counter"] {
        let (report, bytes) = packed(&examples.join(name)).unwrap();
        assert_eq!(report.manifest.name, name);
        inspect(&bytes[..], &Limits::default()).unwrap();
    }
}
