//! `/v1/kv`: raw values in and out, revisions in headers; watches and transactions.

mod txn;
mod watch;

use super::precondition::{expectation, ticket};
use super::problem::Problem;
use super::read::{Asked, asked};
use super::{Answer, Api, Context};
use crate::kv::Ticket;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use longshore_wire::kv::{Compare, Consistency, Expect, KvEntry, KvReply, KvRequest, MAX_LIST, Txn, TxnOp};
use longshore_wire::{Code, Failure, base64};
use serde::Deserialize;
use serde_json::{Value, json};

/// Revision of what was read or written.
const REVISION: HeaderName = HeaderName::from_static("x-longshore-revision");
/// Revision of the write that created the key.
const CREATED: HeaderName = HeaderName::from_static("x-longshore-created-revision");

/// The lease with which the key goes.
const LEASE: HeaderName = HeaderName::from_static("x-longshore-lease");
/// Marks an answer out of what this node has applied: it may be stale. Other answers do not have it.
const CONSISTENCY: HeaderName = HeaderName::from_static("x-longshore-consistency");
/// The path of watches, below `/v1/kv/`; a key of this name can only be listed.
const WATCH: &str = "watch";
/// The path of transactions.
const TXN: &str = "txn";

/// Query of a read, or of a watch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    #[serde(default)]
    consistency: Consistency,
    prefix: Option<String>,
    from: Option<u64>,
}

/// Query of a write.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteQuery {
    lease: Option<u64>,
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

pub(super) async fn read(api: Api, Path(key): Path<String>, query: Asked<ReadQuery>, headers: HeaderMap) -> Answer {
    let ReadQuery { consistency, prefix, from } = asked(query)?;
    if key == WATCH {
        return watch::watch(&api, prefix.unwrap_or_default(), from, consistency, &headers).await;
    }
    if prefix.is_some() || from.is_some() {
        return Err(Problem::invalid("the query: prefix and from go with /v1/kv/watch"));
    }
    get(&api, &key, consistency).await
}

async fn get(context: &Context, key: &str, consistency: Consistency) -> Answer {
    let Some(entry) = context.kv.get(key, consistency).await? else {
        let absent = Problem::from(Failure::new(Code::NotFound, format!("there is no key '{key}'")));
        return Ok((marked(consistency), absent).into_response());
    };
    let mut response = Response::new(Body::from(entry.value));
    let headers = response.headers_mut();
    headers.reserve(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", entry.revision)) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(REVISION, entry.revision.into());
    headers.insert(CREATED, entry.created_revision.into());
    if let Some(lease) = entry.lease {
        headers.insert(LEASE, lease.into());
    }
    if consistency == Consistency::Local {
        headers.insert(CONSISTENCY, HeaderValue::from_static("local"));
    }
    Ok(response)
}

pub(super) async fn write(
    api: Api,
    Path(key): Path<String>,
    query: Asked<WriteQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    crate::kv::check_value(body.len())?;
    let (lease, value, expect) = (asked(query)?.lease, Vec::from(body), expectation(&headers)?);
    let (ticket, named) = (ticket(&headers)?, key.clone());
    let reply = match (lease, expect) {
        (None, None) => api.kv.execute(ticket, KvRequest::Put { key, value }).await?,
        (None, Some(expect)) => api.kv.execute(ticket, KvRequest::Cas { key, value, expect }).await?,
        (lease, expect) => conditional(&api, ticket, expect, TxnOp::Put { key, value, lease }).await?,
    };
    match reply {
        KvReply::Written { revision, created } => {
            Ok(written(revision, json!({"key": named, "revision": revision, "created": created})))
        }
        other => Err(odd(&other)),
    }
}

pub(super) async fn delete(api: Api, Path(key): Path<String>, query: Asked<WriteQuery>, headers: HeaderMap) -> Answer {
    if asked(query)?.lease.is_some() {
        return Err(Problem::invalid("a delete takes no lease"));
    }
    let (ticket, named) = (ticket(&headers)?, key.clone());
    let reply = match expectation(&headers)? {
        None => api.kv.execute(ticket, KvRequest::Delete { key }).await?,
        expect => conditional(&api, ticket, expect, TxnOp::Delete { key }).await?,
    };
    match reply {
        KvReply::Deleted { revision, existed } => {
            Ok(written(revision, json!({"key": named, "revision": revision, "existed": existed})))
        }
        other => Err(odd(&other)),
    }
}

/// One write, if its key is as expected.
async fn conditional(api: &Api, ticket: Ticket, expect: Option<Expect>, op: TxnOp) -> Result<KvReply, Problem> {
    let (TxnOp::Put { key, .. } | TxnOp::Delete { key } | TxnOp::Get { key }) = &op;
    let compare = expect.map(|expect| Compare { key: key.clone(), condition: expect.into() });
    let txn = Txn { compare: compare.into_iter().collect(), then: vec![op], otherwise: vec![] };
    let mut reply = api.kv.txn(ticket, txn).await?;
    match (reply.unmet, reply.results.pop()) {
        (Some(unmet), _) => Err(Failure::new(Code::Conflict, unmet).into()),
        (None, Some(result)) => Ok(result),
        (None, None) => Err(Failure::unknown(Code::Internal, "the store's answer to a write is empty").into()),
    }
}

/// `POST /v1/kv/txn`. Other keys cannot be posted to.
pub(super) async fn post(api: Api, Path(key): Path<String>, headers: HeaderMap, body: Body) -> Answer {
    if key != TXN { Err(Problem::method_not_allowed()) } else { txn::txn(&api, &headers, body).await }
}

pub(super) async fn list(api: Api, query: Asked<ListQuery>) -> Answer {
    let ListQuery { prefix, after, limit, consistency } = asked(query)?;
    let limit = limit.unwrap_or(MAX_LIST);
    let (revision, reply) = api.kv.list(KvRequest::List { prefix, after, limit, consistency }).await?;
    match reply {
        KvReply::Entries { entries, more } => {
            let entries: Vec<Value> = entries.into_iter().map(described).collect();
            let body = json!({"entries": entries, "more": more, "revision": revision});
            Ok((marked(consistency), written(revision, body)).into_response())
        }
        other => Err(odd(&other)),
    }
}

/// The header that says that an answer may be stale.
fn marked(consistency: Consistency) -> Option<[(HeaderName, &'static str); 1]> {
    (consistency == Consistency::Local).then_some([(CONSISTENCY, "local")])
}

fn written(revision: u64, body: Value) -> Response {
    ([(REVISION, revision.to_string())], axum::Json(body)).into_response()
}

fn odd(reply: &KvReply) -> Problem {
    Failure::unknown(Code::Internal, format!("the store's answer does not fit the question: {reply:?}")).into()
}

/// One key as scripts see it.
fn described(entry: KvEntry) -> Value {
    let (encoding, value) = text_of(entry.value);
    json!({
        "key": entry.key,
        "value": value,
        "encoding": encoding,
        "revision": entry.revision,
        "created_revision": entry.created_revision,
        "lease": entry.lease,
    })
}

/// A value as JSON holds it, and how.
fn text_of(value: Vec<u8>) -> (&'static str, String) {
    match String::from_utf8(value) {
        Ok(text) => ("utf8", text),
        Err(error) => ("base64", base64::encode(error.as_bytes())),
    }
}
