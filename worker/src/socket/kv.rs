//! `/v1/kv` of the app socket: HTTP in, KV operations out, HTTP back.
//!
//! Each HTTP request gets one request id, kept over all repeats, so that an increment is never applied twice.

use super::App;
use super::problem::Problem;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use longshore_wire::edge::TaskKv;
use longshore_wire::kv::{Consistency, Expect, KvEntry, KvReply, KvRequest, MAX_KEY, MAX_LIST, MAX_VALUE};
use longshore_wire::{Code, Failure, RequestId, base64};
use serde::Deserialize;
use serde_json::{Value, json};
use ulid::Ulid;

/// Revision of what was read or written.
const REVISION: HeaderName = HeaderName::from_static("x-longshore-revision");

/// Query of a read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    #[serde(default)]
    consistency: Consistency,
}

/// Query of a write; there is nothing to choose.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteQuery {}

/// Query of a listing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    prefix: String,
    after: Option<String>,
    limit: Option<u32>,
    #[serde(default)]
    consistency: Consistency,
}

type Asked<T> = Result<Query<T>, QueryRejection>;

pub(super) async fn read(
    State(app): State<App>,
    Path(key): Path<String>,
    query: Asked<ReadQuery>,
) -> Result<Response, Problem> {
    let key = check_key(key)?;
    let consistency = asked(query)?.consistency;
    match app.kv(KvRequest::Get { key: key.clone(), consistency }).await? {
        KvReply::Entry(Some(entry)) => {
            let kind = (header::CONTENT_TYPE, "application/octet-stream".to_owned());
            Ok(([kind, (REVISION, entry.revision.to_string())], entry.value).into_response())
        }
        KvReply::Entry(None) => Err(Failure::new(Code::NotFound, format!("there is no key '{key}'")).into()),
        _ => Err(odd()),
    }
}

pub(super) async fn write(
    State(app): State<App>,
    Path(key): Path<String>,
    query: Asked<WriteQuery>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let key = check_key(key)?;
    asked(query)?;
    let value = body.map_err(body_problem)?.to_vec();
    let request = match expected(&headers)? {
        None => KvRequest::Put { key: key.clone(), value },
        Some(expect) => KvRequest::Cas { key: key.clone(), value, expect },
    };
    match app.kv(request).await? {
        KvReply::Written { revision, created } => {
            Ok(written(revision, json!({"key": key, "revision": revision, "created": created})))
        }
        _ => Err(odd()),
    }
}

pub(super) async fn delete(
    State(app): State<App>,
    Path(key): Path<String>,
    query: Asked<WriteQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = check_key(key)?;
    asked(query)?;
    if expected(&headers)?.is_some() {
        return Err(Failure::new(Code::Unsupported, "a delete takes no If-Match and no If-None-Match").into());
    }
    match app.kv(KvRequest::Delete { key: key.clone() }).await? {
        KvReply::Deleted { revision, existed } => {
            Ok(written(revision, json!({"key": key, "revision": revision, "existed": existed})))
        }
        _ => Err(odd()),
    }
}

pub(super) async fn list(State(app): State<App>, query: Asked<ListQuery>) -> Result<Response, Problem> {
    let ListQuery { prefix, after, limit, consistency } = asked(query)?;
    let limit = limit.unwrap_or(MAX_LIST);
    if limit == 0 || limit > MAX_LIST {
        return Err(Failure::new(Code::Invalid, format!("limit is 1 to {MAX_LIST}")).into());
    }
    match app.kv(KvRequest::List { prefix, after, limit, consistency }).await? {
        KvReply::Entries { entries, more } => {
            let entries: Vec<_> = entries.into_iter().map(describe).collect();
            Ok(axum::Json(json!({"entries": entries, "more": more})).into_response())
        }
        _ => Err(odd()),
    }
}

impl App {
    async fn kv(&self, request: KvRequest) -> Result<KvReply, Failure> {
        let request_id = RequestId::from_u128(Ulid::generate().into());
        self.cluster.kv(TaskKv { task: self.spec.task.clone(), request_id, request }).await
    }
}

fn asked<T>(query: Asked<T>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|error| Failure::new(Code::Invalid, error.body_text()).into())
}

fn check_key(key: String) -> Result<String, Failure> {
    match key.len() {
        0 => Err(Failure::new(Code::Invalid, "the key is empty")),
        size if size > MAX_KEY => {
            Err(Failure::new(Code::TooLarge, format!("the key has {size} bytes; the limit is {MAX_KEY}")))
        }
        _ => Ok(key),
    }
}

fn body_problem(error: BytesRejection) -> Problem {
    let failure = match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Failure::new(Code::TooLarge, format!("the value is larger than {MAX_VALUE} bytes"))
        }
        _ => Failure::new(Code::Invalid, error.body_text()),
    };
    failure.into()
}

fn expected(headers: &HeaderMap) -> Result<Option<Expect>, Failure> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    Expect::from_headers(text(header::IF_MATCH), text(header::IF_NONE_MATCH))
}

fn written(revision: u64, body: Value) -> Response {
    ([(REVISION, revision.to_string())], axum::Json(body)).into_response()
}

fn odd() -> Problem {
    Failure::unknown(Code::Internal, "the owner's answer does not fit the question").into()
}

fn describe(entry: KvEntry) -> Value {
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
        "lease": entry.lease,
    })
}
