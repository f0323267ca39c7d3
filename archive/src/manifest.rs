//! What must hold in every manifest, whoever made it.

use crate::digest::digest_of;
use crate::{ArchiveError, Limits, path};
use longshore_wire::Digest;
use longshore_wire::app::{FileEntry, MANIFEST_FORMAT, MANIFEST_NAME, Manifest, check_name};
use std::collections::HashMap;
use std::fmt::Write;

/// The one runtime whose entries are programs inside the archive.
pub(crate) const EXEC: &str = "exec";

/// SHA-256 over the files index: a line `path NUL size NUL x|- NUL sha256 LF` for each file, in order.
pub(crate) fn index_digest(files: &[FileEntry]) -> Digest {
    let mut index = String::new();
    for FileEntry { path, size, sha256, executable } in files {
        let mode = if *executable { 'x' } else { '-' };
        writeln!(index, "{path}\0{size}\0{mode}\0{sha256}").expect("a String takes everything");
    }
    digest_of(index.as_bytes())
}

/// Reads and checks `app.json`.
pub(crate) fn parse(json: &[u8], limits: &Limits) -> Result<Manifest, ArchiveError> {
    let invalid = ArchiveError::ManifestInvalid;
    let manifest: Manifest = serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
    if manifest.format != MANIFEST_FORMAT {
        return Err(invalid(format!("format {} is unknown; this release reads {MANIFEST_FORMAT}", manifest.format)));
    }
    check(&manifest, limits)?;
    if manifest.sha256 != index_digest(&manifest.files) {
        return Err(invalid("its sha256 is not that of its files".to_owned()));
    }
    Ok(manifest)
}

/// Everything but the digest: also holds for a manifest that is being made.
pub(crate) fn check(manifest: &Manifest, limits: &Limits) -> Result<(), ArchiveError> {
    check_name("app", &manifest.name).map_err(ArchiveError::ManifestInvalid)?;
    check_name("runtime", &manifest.runtime).map_err(ArchiveError::ManifestInvalid)?;
    let files = check_files(&manifest.files, limits)?;
    if manifest.flows.is_empty() {
        return Err(ArchiveError::ManifestInvalid("there is no flow".to_owned()));
    }
    for (name, flow) in &manifest.flows {
        check_name("flow", name).map_err(ArchiveError::ManifestInvalid)?;
        let Some(program) = flow.entry.first() else {
            return Err(ArchiveError::ManifestInvalid(format!("flow '{name}' has an empty entry")));
        };
        if manifest.runtime == EXEC {
            check_program(name, program, &files)?;
        }
    }
    Ok(())
}

/// The program of an `exec` flow is a file of the archive, since nothing outside of it is consulted on a node.
fn check_program(flow: &str, program: &str, files: &HashMap<&str, &FileEntry>) -> Result<(), ArchiveError> {
    let (flow, entry) = (flow.to_owned(), program.to_owned());
    match files.get(program.strip_prefix("./").unwrap_or(program)) {
        None => Err(ArchiveError::EntryMissing { flow, entry }),
        Some(file) if !file.executable => Err(ArchiveError::EntryNotExecutable { flow, entry }),
        Some(_) => Ok(()),
    }
}

fn check_files<'a>(files: &'a [FileEntry], limits: &Limits) -> Result<HashMap<&'a str, &'a FileEntry>, ArchiveError> {
    if files.len() as u64 > limits.max_files {
        return Err(ArchiveError::TooManyFiles(limits.max_files));
    }
    let mut by_path = HashMap::with_capacity(files.len());
    let mut total = 0_u64;
    for file in files {
        path::check(file.path.as_bytes())?;
        if file.path == MANIFEST_NAME || by_path.insert(file.path.as_str(), file).is_some() {
            return Err(ArchiveError::Duplicate(file.path.clone()));
        }
        if file.size > limits.max_file {
            return Err(ArchiveError::TooLarge { what: format!("file '{}'", file.path), limit: limits.max_file });
        }
        total = total.saturating_add(file.size);
        if total > limits.max_bytes {
            return Err(ArchiveError::TooLarge { what: "the archive".to_owned(), limit: limits.max_bytes });
        }
    }
    let both = |parent: &&str| by_path.contains_key(parent) || *parent == MANIFEST_NAME;
    match files.iter().flat_map(|file| path::parents(&file.path)).find(both) {
        Some(parent) => Err(ArchiveError::FileAndFolder(parent.to_owned())),
        None => Ok(by_path),
    }
}
