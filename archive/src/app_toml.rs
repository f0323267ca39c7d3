//! `app.toml`: what the author of an app writes.

use crate::ArchiveError;
use longshore_wire::app::{Flow, check_name};
use longshore_wire::task::{Limits, RestartPolicy};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;

/// Its name in the app's folder.
pub(crate) const APP_TOML: &str = "app.toml";

/// What it says, checked.
pub(crate) struct AppToml {
    pub(crate) name: Option<String>,
    pub(crate) runtime: String,
    pub(crate) flows: BTreeMap<String, Flow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: Option<Spanned<String>>,
    runtime: Spanned<String>,
    flows: BTreeMap<String, Spanned<RawFlow>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFlow {
    entry: Spanned<Vec<String>>,
    #[serde(default)]
    args: toml::Table,
    #[serde(default)]
    required: RawRequired,
    #[serde(default)]
    restart: RawRestart,
    #[serde(default)]
    limits: RawLimits,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequired {
    #[serde(default)]
    args: Vec<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRestart {
    #[serde(default)]
    policy: RestartPolicy,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    memory: Option<Spanned<String>>,
}

/// Reads the text of the file at `path`.
pub(crate) fn parse(path: &Path, text: &str) -> Result<AppToml, ArchiveError> {
    let source = Source { path, text };
    let raw: Raw = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        source.wrong(at, error.message().trim().replace('\n', ", "))
    })?;
    for (what, name) in [("app", raw.name.as_ref()), ("runtime", Some(&raw.runtime))] {
        if let Some(name) = name {
            check_name(what, name.get_ref()).map_err(|why| source.wrong(name.span().start, why))?;
        }
    }
    let flows = raw.flows.into_iter().map(|(name, flow)| {
        let at = flow.span().start;
        check_name("flow", &name).map_err(|why| source.wrong(at, why))?;
        Ok((name, source.flow(at, flow.into_inner())?))
    });
    let flows = flows.collect::<Result<BTreeMap<_, _>, ArchiveError>>()?;
    if flows.is_empty() {
        return Err(source.wrong(0, "there is no flow; write [flows.main] with its entry".to_owned()));
    }
    Ok(AppToml { name: raw.name.map(Spanned::into_inner), runtime: raw.runtime.into_inner(), flows })
}

struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn wrong(&self, at: usize, why: String) -> ArchiveError {
        let line = 1 + self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count();
        ArchiveError::AppToml { file: self.path.to_owned(), line, why }
    }

    fn flow(&self, at: usize, raw: RawFlow) -> Result<Flow, ArchiveError> {
        let mut args = BTreeMap::new();
        for (name, value) in raw.args {
            let value = json(value).map_err(|why| self.wrong(at, format!("argument '{name}': {why}")))?;
            args.insert(name, value);
        }
        for required in raw.required.args {
            let at = required.span().start;
            let name = required.into_inner();
            if let Some(default) = args.insert(name.clone(), Value::Null) {
                let why = format!("argument '{name}' is required, yet has a default ({default}) or stands twice");
                return Err(self.wrong(at, why));
            }
        }
        if raw.entry.get_ref().is_empty() {
            let why = "entry is empty; write for example entry = [\"./run.sh\"]".to_owned();
            return Err(self.wrong(raw.entry.span().start, why));
        }
        let memory = raw.limits.memory.map(|memory| {
            size(memory.get_ref()).ok_or_else(|| {
                let why = format!("'{}' is not a size such as \"256MiB\"", memory.get_ref());
                self.wrong(memory.span().start, why)
            })
        });
        Ok(Flow {
            entry: raw.entry.into_inner(),
            args,
            restart: raw.restart.policy,
            limits: Limits { memory: memory.transpose()? },
        })
    }
}

fn json(value: toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => {
            serde_json::Number::from_f64(number).map(Value::Number).ok_or("JSON has no such number")?
        }
        toml::Value::Boolean(flag) => Value::Bool(flag),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => Value::Array(items.into_iter().map(json).collect::<Result<_, _>>()?),
        toml::Value::Table(table) => {
            Value::Object(table.into_iter().map(|(key, value)| Ok((key, json(value)?))).collect::<Result<_, String>>()?)
        }
    })
}

/// Bytes, from a number with a unit; more than nothing.
fn size(text: &str) -> Option<u64> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("256MiB"), Some(256 << 20));
        assert_eq!(size("1 GB"), Some(1_000_000_000));
        for wrong in ["256", "MiB", "-1MiB", "0B", "1mib", "99999999999999999999GiB", ""] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn whole_file() {
        let text = "name = \"greeter\"\nruntime = \"exec\"\n[flows.main]\nentry = [\"./greet.sh\"]\n[flows.main.args]\n\
            greeting = \"hello\"\nlist = [1, 2.5, true]\n[flows.main.required]\nargs = [\"room\"]\n\
            [flows.main.restart]\npolicy = \"on-failure\"\n[flows.main.limits]\nmemory = \"256MiB\"\n";
        let app = parse(Path::new(APP_TOML), text).unwrap();
        let flow = &app.flows["main"];
        assert_eq!(
            serde_json::to_string(&flow.args).unwrap(),
            r#"{"greeting":"hello","list":[1,2.5,true],"room":null}"#
        );
        assert_eq!((flow.restart, flow.limits.memory), (RestartPolicy::OnFailure, Some(256 << 20)));
    }

    #[test]
    fn mistakes_have_a_line() {
        let head = "name = \"a\"\nruntime = \"exec\"\n";
        for (text, line, part) in [
            ("colour = 1\nruntime = \"exec\"\n[flows.main]\nentry = [\"x\"]\n", 1, "colour"),
            (&format!("{head}[flows.main]\nentry = [\"x\"]\n[flows.main.limit]\n"), 5, "limit"),
            (&format!("{head}[flows.main]\nentry = []\n"), 4, "empty"),
            (&format!("{head}[flows.main]\nentry = [\"x\"]\nlimits.memory = \"256\"\n"), 5, "256MiB"),
            (&format!("{head}[flows.main]\nentry = [\"x\"]\nargs.a = 1\nrequired.args = [\"a\"]\n"), 6, "required"),
            (&format!("{head}[flows.Main]\nentry = [\"x\"]\n"), 3, "Main"),
            (&format!("{head}[flows.main]\nentry = [\"x\"]\nrestart.policy = \"often\"\n"), 5, "often"),
            ("name = \"A b\"\nruntime = \"exec\"\n[flows.main]\nentry = [\"x\"]\n", 1, "A b"),
        ] {
            match parse(Path::new(APP_TOML), text).err().unwrap() {
                ArchiveError::AppToml { line: found, why, .. } => {
                    assert!(found == line && why.contains(part), "{found}: {why}")
                }
                other => panic!("{other}"),
            }
        }
    }
}
