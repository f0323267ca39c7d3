//! Labels: metadata items on a node.
//!
//! Grammar: `item[;key[=value]]*` separated by commas, for example `core;group=group1;master, dc;name=eu-1`. Blanks
//! around delimiters are ignored; a key without a value is a flag; an item may stand only once.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Longest text of all labels of a node, in bytes.
pub const MAX_TEXT: usize = 4096;

/// The labels of one node: item → key → value (`None` for a flag).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(pub BTreeMap<String, BTreeMap<String, Option<String>>>);

/// Why a text is not a set of labels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// A comma, semicolon or equals sign with nothing where a name or value belongs.
    #[error("labels '{0}': a name or value is empty (write `item;key=value, item2`)")]
    Empty(String),
    /// The same item or key twice.
    #[error("labels: '{0}' stands twice")]
    Repeated(String),
    /// Longer than [`MAX_TEXT`].
    #[error("labels are {0} bytes long; the limit is {MAX_TEXT}")]
    TooLong(usize),
}

impl Labels {
    /// Whether there is no item at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Labels {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        if text.len() > MAX_TEXT {
            return Err(LabelError::TooLong(text.len()));
        }
        let mut labels = BTreeMap::new();
        if text.trim().is_empty() {
            return Ok(Self(labels));
        }
        for item in text.split(',') {
            let (name, keys) = parse_item(item)?;
            if labels.insert(name.clone(), keys).is_some() {
                return Err(LabelError::Repeated(name));
            }
        }
        Ok(Self(labels))
    }
}

fn parse_item(item: &str) -> Result<(String, BTreeMap<String, Option<String>>), LabelError> {
    let filled = |text: &str| match text.trim() {
        "" => Err(LabelError::Empty(item.trim().to_owned())),
        name => Ok(name.to_owned()),
    };
    let mut parts = item.split(';');
    let name = filled(parts.next().unwrap_or_default())?;
    let mut keys = BTreeMap::new();
    for part in parts {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (filled(key)?, Some(filled(value)?)),
            None => (filled(part)?, None),
        };
        if keys.insert(key.clone(), value).is_some() {
            return Err(LabelError::Repeated(format!("{name};{key}")));
        }
    }
    Ok((name, keys))
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (item, keys)) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if number == 0 { "" } else { ", " })?;
            for (key, value) in keys {
                match value {
                    Some(value) => write!(f, ";{key}={value}")?,
                    None => write!(f, ";{key}")?,
                }
            }
        }
        Ok(())
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        let labels: Labels = " core ; group = group1;master,dc;name=eu-1 ".parse().unwrap();
        assert_eq!(labels.to_string(), "core;group=group1;master, dc;name=eu-1");
        assert_eq!(labels.0["core"]["master"], None);
        assert_eq!("".parse(), Ok(Labels::default()));
        for wrong in ["a,", "a;", ";k=v", "a;=v", "a;k=", "a,a", "a;k=1;k=2"] {
            assert!(wrong.parse::<Labels>().is_err(), "{wrong}");
        }
    }
}
