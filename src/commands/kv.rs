//! `longshore kv`: the key-value store.

mod lease;
mod watch;

use super::{Remote, items};
use crate::args::kv::{Cas, Delete, Kv, List, Put};
use crate::client::{Call, bytes, path, query};
use crate::error::{Exit, Failed};
use crate::output::{self, Format, Table, cell};
use anyhow::Context as _;
use hyper::Method;
use hyper::body::Bytes;
use longshore_wire::base64;
use longshore_wire::kv::MAX_VALUE;
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;

pub(super) async fn kv(remote: &Remote, args: Kv) -> anyhow::Result<()> {
    match args {
        Kv::Get { key, local } => get(remote, &key, local).await,
        Kv::Put(Put { key, value, lease }) => {
            let value = Bytes::from(read_value(value).await?);
            let lease = lease.map(|lease| lease.to_string());
            let path = key_path(&key, None) + &query(&[("lease", lease.as_deref())]);
            write(remote, &key, || Call::new(Method::PUT, path.clone()).body(bytes(value.clone()))).await
        }
        Kv::Delete(Delete { key, revision }) => {
            let call = || Call::new(Method::DELETE, key_path(&key, None));
            write(remote, &key, || match revision {
                None => call(),
                Some(revision) => call().header("if-match", &revision.to_string()),
            })
            .await
        }
        Kv::Cas(args) => cas(remote, args).await,
        Kv::List(args) => list(remote, &args).await,
        Kv::Watch(args) => watch::watch(remote, &args).await,
        Kv::Txn { file } => txn(remote, read_file(file).await?).await,
        Kv::Lease(args) => lease::lease(remote, args).await,
    }
}

async fn cas(remote: &Remote, Cas { key, value, revision, expect }: Cas) -> anyhow::Result<()> {
    let value = Bytes::from(read_value(value).await?);
    let call = || Call::new(Method::PUT, key_path(&key, None)).body(bytes(value.clone()));
    match (revision, expect) {
        (_, Some(expect)) => {
            let (value, encoding) = text_of(&value);
            let put = json!({"put": key, "value": value, "encoding": encoding});
            let wish = json!({"if": [{"key": key, "value": expect}], "then": [put]});
            txn(remote, wish.to_string().into_bytes()).await
        }
        (None | Some(0), None) => write(remote, &key, || call().header("if-none-match", "*")).await,
        (Some(revision), None) => write(remote, &key, || call().header("if-match", &revision.to_string())).await,
    }
}

/// Carries out a transaction. Its answer is printed even if a comparison did not hold: that is no error of the API.
async fn txn(remote: &Remote, wish: Vec<u8>) -> anyhow::Result<()> {
    let wish = Bytes::from(wish);
    let call = || Call::new(Method::POST, "/v1/kv/txn").body(bytes(wish.clone()));
    let answer = remote.client.write(call).await?.json().await?;
    remote.print(&answer, |answer| {
        output::say(&format!("revision {}", cell(&answer["revision"])));
        for result in items(&answer["results"]) {
            output::line(&result.to_string())?;
        }
        Ok(())
    })?;
    match answer["unmet"].as_str() {
        Some(unmet) => Err(Failed::new(Exit::Conflict, output::plain(unmet)).into()),
        None => Ok(()),
    }
}

fn key_path(key: &str, consistency: Option<&str>) -> String {
    path("/v1/kv/{}", &[key]) + &query(&[("consistency", consistency)])
}

fn consistency(local: bool) -> Option<&'static str> {
    local.then_some("local")
}

async fn get(remote: &Remote, key: &str, local: bool) -> anyhow::Result<()> {
    let answer = remote.client.open(Call::get(key_path(key, consistency(local)))).await?;
    let revision = |name| answer.header(name).and_then(|text| text.parse::<u64>().ok());
    let lease = revision("x-longshore-lease");
    let (revision, created) = (revision("x-longshore-revision"), revision("x-longshore-created-revision"));
    let value = answer.bytes().await?;
    if remote.format != Format::Json {
        output::raw(&value)?;
        // Scripts get the bytes as they are; a person's prompt begins on a line of its own.
        return if std::io::stdout().is_terminal() && !value.ends_with(b"\n") { output::raw(b"\n") } else { Ok(()) };
    }
    let (text, encoding) = text_of(&value);
    output::json(&json!({
        "key": key,
        "value": text,
        "encoding": encoding,
        "revision": revision,
        "created_revision": created,
        "lease": lease,
    }))
}

/// A value as JSON holds it, and how.
fn text_of(value: &[u8]) -> (String, &'static str) {
    match std::str::from_utf8(value) {
        Ok(text) => (text.to_owned(), "utf8"),
        Err(_) => (base64::encode(value), "base64"),
    }
}

async fn write(remote: &Remote, key: &str, call: impl Fn() -> Call) -> anyhow::Result<()> {
    let answer = remote.client.write(call).await?;
    let revision = answer.header("x-longshore-revision").and_then(|text| text.parse::<u64>().ok());
    let mut written = match answer.json().await? {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    };
    written.entry("key").or_insert_with(|| key.into());
    if let Some(revision) = revision {
        written.entry("revision").or_insert_with(|| revision.into());
    }
    remote.print(&Value::Object(written), |written| {
        output::say(&format!("{}: revision {}", output::plain(key), cell(&written["revision"])));
        Ok(())
    })
}

async fn list(remote: &Remote, args: &List) -> anyhow::Result<()> {
    let limit = args.limit.map(|limit| limit.to_string());
    let query = query(&[
        ("prefix", Some(&args.prefix)),
        ("limit", limit.as_deref()),
        ("after", args.after.as_deref()),
        ("consistency", consistency(args.local)),
    ]);
    let found = remote.client.json(Call::get(format!("/v1/kv{query}"))).await?;
    remote.print(&found, |found| {
        let mut table = Table::new(&["KEY", "REVISION", "VALUE"], remote.wide());
        let entries = if found.is_array() { found } else { &found["entries"] };
        for entry in items(entries) {
            let value: String = cell(&entry["value"]).chars().take(MAX_CELL).collect();
            table.row(vec![cell(&entry["key"]), cell(&entry["revision"]), value]);
        }
        table.print()?;
        if found["more"] == true {
            output::say("there are more; go on with --after and the last key");
        }
        Ok(())
    })
}

/// Most characters of a value that a table shows.
const MAX_CELL: usize = 60;

/// Most bytes of a transaction that are read; the API takes less.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// The value, from standard input where it is `-`.
async fn read_value(value: String) -> anyhow::Result<Vec<u8>> {
    if value != "-" {
        return Ok(value.into_bytes());
    }
    let reading = tokio::task::spawn_blocking(|| {
        let mut bytes = Vec::new();
        // One more than allowed shows that it is too much.
        std::io::stdin().lock().take(MAX_VALUE as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
    });
    let bytes = reading.await?.context("cannot read standard input")?;
    if bytes.len() > MAX_VALUE {
        return Err(
            Failed::usage(format!("standard input holds more than a value may have ({MAX_VALUE} bytes)")).into()
        );
    }
    Ok(bytes)
}

/// Reads a file, or standard input where it is `-`.
async fn read_file(file: PathBuf) -> anyhow::Result<Vec<u8>> {
    let shown = file.display().to_string();
    let reading = tokio::task::spawn_blocking(move || match file.as_os_str() == "-" {
        true => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().take(MAX_FILE).read_to_end(&mut bytes).map(|_| bytes)
        }
        false => std::fs::read(&file),
    });
    reading.await?.with_context(|| format!("cannot read {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_slashes() {
        assert_eq!(key_path("a/b c", Some("local")), "/v1/kv/a/b%20c?consistency=local");
    }
}
