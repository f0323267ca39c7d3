//! `longshore kv`: the key-value store.

use super::{Remote, items};
use crate::args::kv::{Cas, Kv, List, Put};
use crate::client::{Call, bytes, path, query};
use crate::error::Failed;
use crate::output::{self, Format, Table, cell};
use anyhow::Context as _;
use hyper::Method;
use longshore_wire::kv::MAX_VALUE;
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Read as _};

pub(super) async fn kv(remote: &Remote, args: Kv) -> anyhow::Result<()> {
    match args {
        Kv::Get { key, local } => get(remote, &key, local).await,
        Kv::Put(Put { key, value }) => {
            let call = Call::new(Method::PUT, key_path(&key, None)).body(bytes(read_value(value).await?));
            write(remote, &key, call).await
        }
        Kv::Delete { key } => write(remote, &key, Call::new(Method::DELETE, key_path(&key, None))).await,
        Kv::Cas(Cas { key, value, revision }) => {
            let call = Call::new(Method::PUT, key_path(&key, None)).body(bytes(read_value(value).await?));
            let call = match revision {
                0 => call.header("if-none-match", "*"),
                revision => call.header("if-match", &revision.to_string()),
            };
            write(remote, &key, call).await
        }
        Kv::List(args) => list(remote, &args).await,
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
    let (revision, created) = (revision("x-longshore-revision"), revision("x-longshore-created-revision"));
    let value = answer.bytes().await?;
    if remote.format != Format::Json {
        output::raw(&value)?;
        // Scripts get the bytes as they are; a person's prompt begins on a line of its own.
        return if std::io::stdout().is_terminal() && !value.ends_with(b"\n") { output::raw(b"\n") } else { Ok(()) };
    }
    let (text, encoding) = match std::str::from_utf8(&value) {
        Ok(text) => (text.to_owned(), "utf8"),
        Err(_) => (base64(&value), "base64"),
    };
    output::json(&json!({
        "key": key,
        "value": text,
        "encoding": encoding,
        "revision": revision,
        "created_revision": created,
        "lease": null,
    }))
}

async fn write(remote: &Remote, key: &str, call: Call) -> anyhow::Result<()> {
    let answer = remote.client.open(call).await?;
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

/// RFC 4648 §4, padded.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or_default()));
        for digit in 0..4 {
            let six = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { char::from(ALPHABET[six as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_values_have_a_text_form() {
        assert_eq!(base64(&[0xff, 0xfe]), "//4=");
        assert_eq!(base64(b"foobar"), "Zm9vYmFy");
    }

    #[test]
    fn keys_keep_their_slashes() {
        assert_eq!(key_path("a/b c", Some("local")), "/v1/kv/a/b%20c?consistency=local");
    }
}
