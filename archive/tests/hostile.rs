//! Every hostile archive that we could think of: refused by its own error, with nothing left behind and nothing written
//! outside. Each case goes through `inspect` and through `unpack`.
#![allow(clippy::unwrap_used)]

use longshore_archive::{ArchiveError, DigestReader, Limits, Promise, inspect, unpack};
use longshore_wire::Digest;
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

const SCRIPT: &[u8] = b"#!/bin/sh\necho hello\n";
const DATA: &[u8] = b"some data";

fn digest(bytes: &[u8]) -> Digest {
    let mut reader = DigestReader::new(bytes);
    io::copy(&mut reader, &mut io::sink()).unwrap();
    reader.finish().0
}

fn promise(bytes: &[u8]) -> Promise {
    Promise::Sha256(digest(bytes))
}

/// One file as a manifest tells it.
fn listed(path: &str, content: &[u8], executable: bool) -> Value {
    json!({"path": path, "size": content.len(), "sha256": digest(content), "executable": executable})
}

/// A manifest whose own digest is right.
fn manifest(files: &[Value]) -> Vec<u8> {
    let index: String = files
        .iter()
        .map(|file| {
            let mode = if file["executable"] == true { 'x' } else { '-' };
            let text = |key: &str| file[key].as_str().unwrap().to_owned();
            format!("{}\0{}\0{mode}\0{}\n", text("path"), file["size"], text("sha256"))
        })
        .collect();
    let flows = json!({"main": {"entry": ["./run.sh"], "args": {}}});
    let whole = json!({"format": 1, "name": "app", "sha256": digest(index.as_bytes()), "runtime": "exec", "flows": flows, "files": files});
    serde_json::to_vec(&whole).unwrap()
}

/// A tar, entry by entry, without any scruple.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, kind: EntryType, path: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.content(content)
    }

    fn content(mut self, content: &[u8]) -> Self {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, 0o644, content)
    }

    /// A link to somewhere.
    fn link(mut self, kind: EntryType, path: &str, target: &str) -> Self {
        let mut header = Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_link_name(target).unwrap();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// The files of a sound archive.
fn sound_files() -> [Value; 2] {
    [listed("data/a.txt", DATA, false), listed("run.sh", SCRIPT, true)]
}

/// A sound archive, but for its end mark.
fn sound() -> Tar {
    Tar::default().file("app.json", &manifest(&sound_files())).file("data/a.txt", DATA).entry(
        EntryType::Regular,
        "run.sh",
        0o755,
        SCRIPT,
    )
}

/// Everything below a folder.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            found.extend(tree(&path));
        }
        found.push(path);
    }
    found
}

/// Asserts that both ways refuse `bytes`, and that the disk is as before. The archive's digest is the promised one, so
/// that the rule itself has to notice.
fn refused_within(bytes: &[u8], limits: &Limits) -> ArchiveError {
    let outer = tempfile::tempdir().unwrap();
    let parent = outer.path().join("apps");
    fs::create_dir(&parent).unwrap();
    let error = unpack(bytes, promise(bytes), limits, &parent, "app").unwrap_err();
    assert_eq!(tree(outer.path()), std::slice::from_ref(&parent), "{error}");
    // Whoever vouches for the digest vouches for the files' hashes, and for nothing else.
    if !matches!(error, ArchiveError::FileHashMismatch { .. }) {
        let vouched = unpack(bytes, Promise::Vouched, limits, &parent, "app").unwrap_err();
        assert_eq!(tree(outer.path()), [parent], "{vouched}");
        assert_eq!(vouched.to_string(), error.to_string());
    }
    let inspected = inspect(bytes, limits).unwrap_err();
    assert_eq!(inspected.to_string(), error.to_string());
    error
}

fn refused(bytes: &[u8]) -> ArchiveError {
    refused_within(bytes, &Limits::default())
}

macro_rules! refused {
    ($bytes:expr, $variant:pat $(if $guard:expr)?) => {
        let error = refused(&$bytes);
        assert!(matches!(&error, $variant $(if $guard)?), "{error:?}");
    };
}

#[test]
fn the_sound_one_is_accepted() {
    let bytes = sound().end();
    let inspection = inspect(&bytes[..], &Limits::default()).unwrap();
    assert_eq!((inspection.digest, inspection.size), (digest(&bytes), bytes.len() as u64));
    assert_eq!(inspection.blake3.0, *blake3::hash(&bytes).as_bytes());
    // Other writers pad to whole records.
    let padded = [bytes, vec![0; 9216]].concat();
    inspect(&padded[..], &Limits::default()).unwrap();
}

#[test]
fn corrupt_header() {
    let mut bytes = sound().end();
    bytes[100] ^= 1;
    refused!(bytes, ArchiveError::Corrupt { at: 0, .. });
    refused!(vec![0xff; 4096], ArchiveError::Corrupt { .. });
}

#[test]
fn archive_digest_differs() {
    let outer = tempfile::tempdir().unwrap();
    let bytes = sound().end();
    let error = unpack(&bytes[..], promise(b"another"), &Limits::default(), outer.path(), "app").unwrap_err();
    assert!(matches!(error, ArchiveError::DigestMismatch { actual, .. } if actual == digest(&bytes)), "{error:?}");
    assert!(tree(outer.path()).is_empty());
}

#[test]
fn file_hash_differs() {
    let bytes = Tar::default().file("app.json", &manifest(&sound_files())).file("data/a.txt", b"some dat4").end();
    refused!(bytes, ArchiveError::FileHashMismatch { path, .. } if path == "data/a.txt");
}

#[test]
fn file_size_differs() {
    let bytes =
        Tar::default().file("app.json", &manifest(&sound_files())).file("data/a.txt", b"longer than told").end();
    refused!(bytes, ArchiveError::SizeMismatch { expected: 9, actual: 16, .. });
}

#[test]
fn file_mode_differs() {
    let bytes = Tar::default().file("app.json", &manifest(&sound_files())).file("run.sh", SCRIPT).end();
    refused!(bytes, ArchiveError::ModeMismatch(_));
}

#[test]
fn path_traversal() {
    refused!(sound().file("../evil", b"x").end(), ArchiveError::PathTraversal(_));
    refused!(sound().file("data/../../evil", b"x").end(), ArchiveError::PathTraversal(_));
    let listed_too = [listed("../evil", DATA, false), listed("run.sh", SCRIPT, true)];
    let bytes = Tar::default().file("app.json", &manifest(&listed_too)).file("../evil", DATA).end();
    refused!(bytes, ArchiveError::PathTraversal(_));
}

#[test]
fn absolute_path() {
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().join("evil");
    let path = path.to_str().unwrap();
    let files = [listed(path, DATA, false), listed("run.sh", SCRIPT, true)];
    let bytes = Tar::default().file("app.json", &manifest(&files)).file(path, DATA).end();
    refused!(bytes, ArchiveError::AbsolutePath(_));
    refused!(sound().file(path, DATA).end(), ArchiveError::AbsolutePath(_));
    assert!(tree(outside.path()).is_empty());
}

#[test]
fn unfit_path() {
    refused!(sound().file("a\nb", b"x").end(), ArchiveError::BadPath { .. });
    refused!(sound().file("./run.sh", b"x").end(), ArchiveError::BadPath { .. });
}

#[test]
fn symlink_escape() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    // The classic: a link to a folder outside, then a file through it.
    let files = [listed("data/a.txt", DATA, false), listed("run.sh", SCRIPT, true)];
    let bytes = Tar::default()
        .file("app.json", &manifest(&files))
        .link(EntryType::Symlink, "data", target)
        .file("data/a.txt", DATA)
        .end();
    refused!(bytes, ArchiveError::Symlink(_));
    assert!(tree(outside.path()).is_empty());
}

#[test]
fn hard_link() {
    refused!(sound().link(EntryType::Link, "passwd", "/etc/passwd").end(), ArchiveError::HardLink(_));
}

#[test]
fn devices_and_pipes() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        refused!(sound().entry(kind, "device", 0o666, b"").end(), ArchiveError::SpecialFile { .. });
    }
}

#[test]
fn extension_headers() {
    // Each of these may claim gigabytes of name or holes; none is ever followed.
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::GNUSparse,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::Directory,
        EntryType::Continuous,
    ] {
        refused!(sound().entry(kind, "more", 0o644, b"30 path=../evil\n").end(), ArchiveError::UnsupportedEntry { .. });
        refused!(Tar::default().entry(kind, "app.json", 0o644, b"x").end(), ArchiveError::UnsupportedEntry { .. });
    }
}

#[test]
fn duplicate_entry() {
    refused!(sound().file("data/a.txt", DATA).end(), ArchiveError::Duplicate(_));
    refused!(sound().file("app.json", b"{}").end(), ArchiveError::Duplicate(_));
    let twice = [listed("run.sh", SCRIPT, true), listed("run.sh", SCRIPT, true)];
    refused!(Tar::default().file("app.json", &manifest(&twice)).end(), ArchiveError::Duplicate(_));
}

#[test]
fn file_and_folder_at_once() {
    let files = [listed("data", DATA, false), listed("data/a.txt", DATA, false), listed("run.sh", SCRIPT, true)];
    refused!(Tar::default().file("app.json", &manifest(&files)).end(), ArchiveError::FileAndFolder(_));
}

#[test]
fn file_not_in_manifest() {
    refused!(sound().file("extra", b"x").end(), ArchiveError::NotInManifest(_));
}

#[test]
fn file_missing() {
    let bytes = Tar::default().file("app.json", &manifest(&sound_files())).file("data/a.txt", DATA).end();
    refused!(bytes, ArchiveError::MissingFile(path) if path == "run.sh");
}

#[test]
fn too_large() {
    let small = |max_bytes, max_file, max_manifest| Limits { max_bytes, max_file, max_manifest, ..Limits::default() };
    let bytes = sound().end();
    let defaults = Limits::default();
    for (limits, what) in [
        (small(2000, defaults.max_file, defaults.max_manifest), "the archive"),
        (small(defaults.max_bytes, 15, defaults.max_manifest), "file 'run.sh'"),
        (small(defaults.max_bytes, defaults.max_file, 100), "app.json"),
    ] {
        let error = refused_within(&bytes, &limits);
        assert!(matches!(&error, ArchiveError::TooLarge { what: found, .. } if found == what), "{error:?}");
    }
    // A zero bomb behind the end mark.
    let bomb = [bytes.clone(), vec![0; 1 << 20]].concat();
    let error = refused_within(&bomb, &small(bytes.len() as u64 + 4096, 1 << 20, 1 << 20));
    assert!(matches!(error, ArchiveError::TooLarge { .. }), "{error:?}");
}

#[test]
fn claims_of_size_allocate_nothing() {
    // The header promises 8 EiB, by the base-256 extension; the manifest as much.
    let mut header = Header::new_gnu();
    header.set_path("app.json").unwrap();
    header.set_entry_type(EntryType::Regular);
    header.set_size(i64::MAX as u64);
    header.set_cksum();
    refused!(header.as_bytes()[..], ArchiveError::TooLarge { .. });
    let mut file = listed("run.sh", SCRIPT, true);
    file["size"] = json!(u64::MAX);
    refused!(Tar::default().file("app.json", &manifest(&[file])).end(), ArchiveError::TooLarge { .. });
}

#[test]
fn too_many_files() {
    let limits = Limits { max_files: 1, ..Limits::default() };
    let error = refused_within(&sound().end(), &limits);
    assert!(matches!(error, ArchiveError::TooManyFiles(1)), "{error:?}");
}

#[test]
fn truncated_anywhere() {
    let bytes = sound().end();
    // Also on a border between entries, and in the end mark.
    for length in (0..bytes.len()).step_by(128).chain([bytes.len() - 1]) {
        let error = refused(&bytes[..length]);
        assert!(matches!(error, ArchiveError::Truncated(at) if at == length as u64), "{length}: {error:?}");
    }
}

#[test]
fn trailing_garbage() {
    let mut bytes = sound().end();
    bytes.extend_from_slice(b"more");
    refused!(bytes, ArchiveError::TrailingGarbage(_));
    // A second archive behind a single zero block.
    let mut second = sound().0;
    second.resize(second.len() + 512, 0);
    second.extend(sound().end());
    refused!(second, ArchiveError::TrailingGarbage(_));
}

#[test]
fn manifest_missing() {
    refused!(Tar::default().end(), ArchiveError::ManifestMissing);
    refused!(Tar::default().file("run.sh", SCRIPT).end(), ArchiveError::ManifestMissing);
}

#[test]
fn manifest_invalid() {
    let with = |change: fn(&mut Value)| {
        let mut value: Value = serde_json::from_slice(&manifest(&sound_files())).unwrap();
        change(&mut value);
        Tar::default().file("app.json", value.to_string().as_bytes()).end()
    };
    refused!(Tar::default().file("app.json", b"{not json").end(), ArchiveError::ManifestInvalid(_));
    refused!(with(|value| value["format"] = json!(2)), ArchiveError::ManifestInvalid(_));
    refused!(with(|value| value["name"] = json!("../app")), ArchiveError::ManifestInvalid(_));
    refused!(with(|value| value["sha256"] = json!(Digest([0; 32]))), ArchiveError::ManifestInvalid(_));
    refused!(with(|value| value["colour"] = json!("red")), ArchiveError::ManifestInvalid(_));
    refused!(with(|value| value["flows"] = json!({})), ArchiveError::ManifestInvalid(_));
    refused!(with(|value| value["flows"]["main"]["entry"] = json!([])), ArchiveError::ManifestInvalid(_));
}

#[test]
fn entry_outside_or_not_executable() {
    let with = |program: &str| {
        let mut value: Value = serde_json::from_slice(&manifest(&sound_files())).unwrap();
        value["flows"]["main"]["entry"] = json!([program]);
        Tar::default().file("app.json", value.to_string().as_bytes()).end()
    };
    refused!(with("/bin/sh"), ArchiveError::EntryMissing { .. });
    refused!(with("data/a.txt"), ArchiveError::EntryNotExecutable { .. });
}

#[test]
fn reading_fails_half_way() {
    struct Broken<R>(R);
    impl<R: Read> Read for Broken<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("the connection is gone")),
                count => Ok(count),
            }
        }
    }
    let outer = tempfile::tempdir().unwrap();
    let bytes = sound().end();
    let half = io::BufReader::new(Broken(&bytes[..2000]));
    let error = unpack(half, promise(&bytes), &Limits::default(), outer.path(), "app").unwrap_err();
    assert!(matches!(error, ArchiveError::Io { .. }), "{error:?}");
    assert!(tree(outer.path()).is_empty());
}

#[test]
fn name_of_the_folder_is_checked_too() {
    let outer = tempfile::tempdir().unwrap();
    let bytes = sound().end();
    for name in ["../app", "a/b", "", ".", ".hidden", "/abs"] {
        unpack(&bytes[..], promise(&bytes), &Limits::default(), outer.path(), name).unwrap_err();
    }
    assert!(tree(outer.path()).is_empty());
}

/// Flipping any one byte of a sound archive is noticed, or changes nothing that is used (an owner, a time) while the
/// archive's own digest then differs.
#[test]
fn every_single_damage_is_noticed() {
    let whole = sound().end();
    let outer = tempfile::tempdir().unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        unpack(&bytes[..], promise(&whole), &Limits::default(), outer.path(), "app").unwrap_err();
    }
    assert!(tree(outer.path()).is_empty());
}

proptest::proptest! {
    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(proptest::num::u8::ANY, 0..2048), cut in 0..4000_usize) {
        inspect(&noise[..], &Limits::default()).unwrap_err();
        let mut bytes = sound().end();
        bytes.truncate(cut.min(bytes.len() - 1));
        bytes.extend(noise);
        let _ = inspect(&bytes[..], &Limits::default());
    }
}
