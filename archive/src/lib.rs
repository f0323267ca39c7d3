//! Application archives: pack, verify, unpack safely.
//!
//! An archive is a plain tar: `app.json` first (the manifest), then every file of the manifest in its order, then the
//! end mark, and nothing else. Packing the same folder gives the same bytes on every machine.
//!
//! Owns the format and its limits. Never believes an archive: whatever the manifest, the headers and the length claim is
//! compared with the bytes, memory is bounded by [`Limits`] and never by what an archive says of itself, and nothing is
//! written outside the folder that the caller names. Blocking IO only; callers on a runtime use a blocking thread.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod app_toml;
mod digest;
mod error;
mod folder;
mod limits;
mod manifest;
mod pack;
mod path;
mod read;
mod tape;

pub use digest::{DigestReader, DigestWriter};
pub use error::ArchiveError;
pub use folder::{Promise, remove, sweep, unpack};
pub use limits::Limits;
pub use pack::{PackOptions, PackReport, UNFINISHED, pack};
pub use read::{Inspection, inspect};
