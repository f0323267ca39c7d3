//! From files and environment to one set of keys, with file and line in every complaint.

use crate::file::{File, KEYS, LISTEN};
use crate::proxy::Variables;
use crate::resolve::resolve;
use crate::{Config, ConfigError, environment, suggest};
use std::fs;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Loads the configuration: the file at `path`, then `conf.d/*.toml` beside it in the order of their names, then the
/// `LONGSHORE_…` variables of `environment`. A worker without `proxy.url` takes `HTTPS_PROXY` and `NO_PROXY` from there.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let mut all = read_file(path, folder)?;
    for drop_in in drop_ins(&folder.join("conf.d"))? {
        all.replace_by(read_file(&drop_in, folder)?);
    }
    let mut proxy = Variables::default();
    let environment = environment.inspect(|(name, value)| proxy.take(name, value));
    all.replace_by(environment::read(environment)?);
    resolve(path, all, &proxy)
}

/// The files of `conf.d`, sorted; none if there is no such folder.
fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |source| ConfigError::Read { path: folder.to_owned(), source };
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read_file(path: &Path, folder: &Path) -> Result<File, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let source = Source { path, text: &text };
    let table = DeTable::parse(&text).map_err(|error| source.wrong(&error))?;
    source.check_keys(table.get_ref())?;
    let mut file: File = toml::from_str(&text).map_err(|error| source.wrong(&error))?;
    // A path that is absolute already stays as it is.
    file.paths_mut().for_each(|path| *path = folder.join(&*path));
    Ok(file)
}

struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
    }

    /// Only the message and the line: the library's own text would repeat the line itself, which may hold a password.
    fn wrong(&self, error: &toml::de::Error) -> ConfigError {
        let line = self.line(error.span().map_or(0, |span| span.start));
        ConfigError::Value { path: self.path.to_owned(), line, message: error.message().trim().replace('\n', ", ") }
    }

    fn check_keys(&self, table: &DeTable<'_>) -> Result<(), ConfigError> {
        for (section, value) in table {
            let name: &str = section.get_ref();
            if !KEYS.iter().any(|key| key.section == name) {
                return Err(self.unknown(section, name.to_owned(), suggest::for_section(name)));
            }
            match value.get_ref() {
                DeValue::Table(keys) => self.check_section(name, keys)?,
                DeValue::Array(entries) if name == LISTEN => {
                    for keys in entries.iter().filter_map(|entry| entry.get_ref().as_table()) {
                        self.check_section(name, keys)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_section(&self, section: &str, table: &DeTable<'_>) -> Result<(), ConfigError> {
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !KEYS.iter().any(|key| key.section == section && key.name == name) {
                return Err(self.unknown(key, format!("{section}.{name}"), suggest::for_key(section, name)));
            }
        }
        Ok(())
    }

    fn unknown(&self, at: &Spanned<DeString<'_>>, key: String, hint: String) -> ConfigError {
        ConfigError::UnknownKey { path: self.path.to_owned(), line: self.line(at.span().start), key, hint }
    }
}
