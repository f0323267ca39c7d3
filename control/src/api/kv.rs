//! `/v1/kv`: raw values in and out, revisions in headers.

use super::precondition::expectation;
use super::problem::Problem;
use super::read::{Asked, Freshness, asked};
use super::{Answer, Api, base64};
use crate::identity::random_ulid;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use longshore_wire::kv::{Consistency, KvEntry, KvReply, KvRequest, MAX_LIST};
use longshore_wire::{Code, Failure, RequestId};
use serde::Deserialize;
use serde_json::{Value, json};

/// Revision of what was read or written.
const REVISION: HeaderName = HeaderName::from_static("x-longshore-revision");
/// Revision of the write that created the key.
const CREATED: HeaderName = HeaderName::from_static("x-longshore-created-revision");

/// Query of a write.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteQuery {
    lease: Option<String>,
}

/// Query of a listing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    prefix: String,
    after: Option<String>,
    limit: Option<u32>,
    #[serde(default)]
    consistency: Consistency,
}

pub(super) async fn read(api: Api, Path(key): Path<String>, query: Asked<Freshness>) -> Answer {
    if key == "watch" {
        return Err(Problem::unsupported("watching keys is not there yet in this release; read or list them again"));
    }
    let consistency = asked(query)?.consistency;
    match api.kv.execute(fresh(), KvRequest::Get { key: key.clone(), consistency }).await? {
        KvReply::Entry(Some(entry)) => {
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::ETAG, format!("\"{}\"", entry.revision)),
                (REVISION, entry.revision.to_string()),
                (CREATED, entry.created_revision.to_string()),
            ];
            Ok((headers, entry.value).into_response())
        }
        KvReply::Entry(None) => Err(Failure::new(Code::NotFound, format!("there is no key '{key}'")).into()),
        other => Err(odd(&other)),
    }
}

pub(super) async fn write(
    api: Api,
    Path(key): Path<String>,
    query: Asked<WriteQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    refuse_lease(query)?;
    crate::kv::check_value(body.len())?;
    let value = Vec::from(body);
    let request = match expectation(&headers)? {
        None => KvRequest::Put { key: key.clone(), value },
        Some(expect) => KvRequest::Cas { key: key.clone(), value, expect },
    };
    match api.kv.execute(fresh(), request).await? {
        KvReply::Written { revision, created } => {
            Ok(written(revision, json!({"key": key, "revision": revision, "created": created})))
        }
        other => Err(odd(&other)),
    }
}

pub(super) async fn delete(api: Api, Path(key): Path<String>, query: Asked<WriteQuery>, headers: HeaderMap) -> Answer {
    refuse_lease(query)?;
    if expectation(&headers)?.is_some() {
        return Err(Problem::unsupported("a delete takes no If-Match and no If-None-Match in this release"));
    }
    match api.kv.execute(fresh(), KvRequest::Delete { key: key.clone() }).await? {
        KvReply::Deleted { revision, existed } => {
            Ok(written(revision, json!({"key": key, "revision": revision, "existed": existed})))
        }
        other => Err(odd(&other)),
    }
}

pub(super) async fn list(api: Api, query: Asked<ListQuery>) -> Answer {
    let ListQuery { prefix, after, limit, consistency } = asked(query)?;
    let limit = limit.unwrap_or(MAX_LIST);
    match api.kv.execute(fresh(), KvRequest::List { prefix, after, limit, consistency }).await? {
        KvReply::Entries { entries, more } => {
            let entries: Vec<Value> = entries.into_iter().map(described).collect();
            Ok(axum::Json(json!({"entries": entries, "more": more})).into_response())
        }
        other => Err(odd(&other)),
    }
}

/// HTTP knows no request ids: each call is a new request.
fn fresh() -> RequestId {
    RequestId::from_u128(random_ulid())
}

fn refuse_lease(query: Asked<WriteQuery>) -> Result<(), Problem> {
    match asked(query)?.lease {
        None => Ok(()),
        Some(_) => Err(Problem::unsupported("leases are not there yet in this release; write without ?lease")),
    }
}

fn written(revision: u64, body: Value) -> Response {
    ([(REVISION, revision.to_string())], axum::Json(body)).into_response()
}

fn odd(reply: &KvReply) -> Problem {
    Failure::unknown(Code::Internal, format!("the store's answer does not fit the question: {reply:?}")).into()
}

fn described(entry: KvEntry) -> Value {
    let (encoding, value) = match String::from_utf8(entry.value) {
        Ok(text) => ("utf8", text),
        Err(error) => ("base64", base64::encode(error.as_bytes())),
    };
    json!({
        "key": entry.key,
        "value": value,
        "encoding": encoding,
        "revision": entry.revision,
        "created_revision": entry.created_revision,
        "lease": null,
    })
}
