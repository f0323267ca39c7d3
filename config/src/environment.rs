//! `LONGSHORE_…` variables as a source of configuration.

use crate::file::{File, KEYS, Key, Kind, LISTEN};
use crate::{ConfigError, suggest};
use toml::{Table, Value};

const PREFIX: &str = "LONGSHORE_";

/// Variables of the command line, of the log output, of tests, and those that a worker gives to its tasks (from where
/// somebody may well start another node). None of them is a key.
const RESERVED: &[&str] = &[
    "API",
    "APP",
    "ARGS",
    "CONFIG",
    "DATA",
    "FLOW",
    "FULL",
    "INSTANCE",
    "NODE",
    "PARTITIONS",
    "SHORT_ID",
    "SOCKET",
    "TASK",
    "TOKEN",
    "TOKEN_FILE",
    "VERSION",
];
const RESERVED_PREFIXES: &[&str] = &["LOG", "TEST_", "BENCH_"];

impl Key {
    /// The environment variable that stands for this key.
    pub(crate) fn variable(&self) -> String {
        format!("{PREFIX}{}_{}", self.section, self.name).to_ascii_uppercase()
    }

    fn value(&self, text: &str) -> Result<Value, String> {
        Ok(match self.kind {
            Kind::Text => Value::String(text.to_owned()),
            Kind::Number => Value::Integer(text.trim().parse().map_err(|_| format!("'{text}' is not a number"))?),
            Kind::Texts => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Value::Array(parts.map(|part| Value::String(part.to_owned())).collect())
            }
        })
    }
}

/// Reads all variables that stand for keys. The two of a listener make one listener together.
pub(crate) fn read(variables: impl Iterator<Item = (String, String)>) -> Result<File, ConfigError> {
    let mut file = File::default();
    let mut listen = Table::new();
    for (name, text) in variables {
        let Some(key) = key_of(&name)? else { continue };
        let value = key.value(&text).map_err(|message| ConfigError::Variable { name: name.clone(), message })?;
        if key.section == LISTEN {
            listen.insert(key.name.to_owned(), value);
        } else {
            let section = Table::from_iter([(key.name.to_owned(), value)]);
            file.replace_by(parse(name, key.section, Value::Table(section))?);
        }
    }
    if !listen.is_empty() {
        let name = format!("{PREFIX}LISTEN_URI");
        file.replace_by(parse(name, LISTEN, Value::Array(vec![Value::Table(listen)]))?);
    }
    Ok(file)
}

fn key_of(name: &str) -> Result<Option<&'static Key>, ConfigError> {
    let Some(rest) = name.strip_prefix(PREFIX) else { return Ok(None) };
    if RESERVED.contains(&rest) || RESERVED_PREFIXES.iter().any(|prefix| rest.starts_with(prefix)) {
        return Ok(None);
    }
    let key = KEYS.iter().find(|key| key.variable() == name);
    key.map(Some)
        .ok_or_else(|| ConfigError::UnknownVariable { name: name.to_owned(), hint: suggest::for_variable(name) })
}

fn parse(name: String, section: &str, value: Value) -> Result<File, ConfigError> {
    let table = Table::from_iter([(section.to_owned(), value)]);
    table
        .try_into()
        .map_err(|error: toml::de::Error| ConfigError::Variable { name, message: error.message().to_owned() })
}
