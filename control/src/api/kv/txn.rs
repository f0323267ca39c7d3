//! `POST /v1/kv/txn`: a transaction as JSON.
//!
//! ```text
//! {"if":   [{"key": "a", "revision": 7}, {"key": "b", "absent": true}, {"key": "c", "exists": true}, {"key": "d", "value": "x"}],
//!  "then": [{"put": "a", "value": "y", "lease": 12}, {"delete": "d"}, {"get": "c"}],
//!  "else": [{"get": "a"}]}
//! ```
//!
//! Values that are no text come with `"encoding": "base64"`.

use super::super::precondition::ticket;
use super::super::problem::Problem;
use super::super::read::json;
use super::super::{Answer, Api};
use super::{described, written};
use axum::body::Body;
use axum::http::HeaderMap;
use longshore_wire::kv::{Compare, Condition, KvReply, MAX_TXN_BYTES, Txn, TxnOp, TxnReply};
use longshore_wire::{Code, Failure, base64};
use serde::Deserialize;
use serde_json::{Value, json};

/// Largest body: values in base 64, or with every character escaped, and room for the rest.
const MAX_BODY: usize = 4 * MAX_TXN_BYTES;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    #[serde(default, rename = "if")]
    compare: Vec<CompareWish>,
    #[serde(default)]
    then: Vec<OpWish>,
    #[serde(default, rename = "else")]
    otherwise: Vec<OpWish>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompareWish {
    key: String,
    absent: Option<bool>,
    exists: Option<bool>,
    revision: Option<u64>,
    value: Option<String>,
    #[serde(default)]
    encoding: Encoding,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpWish {
    put: Option<String>,
    delete: Option<String>,
    get: Option<String>,
    value: Option<String>,
    #[serde(default)]
    encoding: Encoding,
    lease: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Encoding {
    #[default]
    Utf8,
    Base64,
}

pub(super) async fn txn(api: &Api, headers: &HeaderMap, body: Body) -> Answer {
    let ticket = ticket(headers)?;
    let too_large = |_| Failure::new(Code::TooLarge, format!("the body is larger than {MAX_BODY} bytes, or broke off"));
    let body = axum::body::to_bytes(body, MAX_BODY).await.map_err(too_large)?;
    let txn = wanted(json::<Wish>(&body)?)?;
    let keys = |ops: &[TxnOp]| ops.iter().map(|op| key(op).to_owned()).collect::<Vec<_>>();
    let (then, otherwise) = (keys(&txn.then), keys(&txn.otherwise));
    let TxnReply { revision, unmet, results } = api.kv.txn(ticket, txn).await?;
    let keys = if unmet.is_none() { then } else { otherwise };
    let results: Vec<Value> = keys.into_iter().zip(results).map(|(key, result)| shown(&key, result)).collect();
    let body = json!({"succeeded": unmet.is_none(), "unmet": unmet, "revision": revision, "results": results});
    Ok(written(revision, body))
}

fn wanted(wish: Wish) -> Result<Txn, Problem> {
    Ok(Txn {
        compare: wish.compare.into_iter().map(compare).collect::<Result<_, _>>()?,
        then: wish.then.into_iter().map(op).collect::<Result<_, _>>()?,
        otherwise: wish.otherwise.into_iter().map(op).collect::<Result<_, _>>()?,
    })
}

fn compare(wish: CompareWish) -> Result<Compare, Problem> {
    let CompareWish { key, absent, exists, revision, value, encoding } = wish;
    let condition = match (absent, exists, revision, value) {
        (Some(true), None, None, None) => Condition::Absent,
        (None, Some(true), None, None) => Condition::Exists,
        (None, None, Some(revision), None) => Condition::Revision(revision),
        (None, None, None, Some(text)) => Condition::Value(bytes_of(&key, text, encoding)?),
        _ => {
            let one = "one of \"absent\": true, \"exists\": true, \"revision\": N, \"value\": TEXT";
            return Err(Problem::invalid(format!("the comparison of '{key}' needs {one}")));
        }
    };
    Ok(Compare { key, condition })
}

fn op(wish: OpWish) -> Result<TxnOp, Problem> {
    let OpWish { put, delete, get, value, encoding, lease } = wish;
    match (put, delete, get, value, lease) {
        (Some(key), None, None, Some(text), lease) => {
            let value = bytes_of(&key, text, encoding)?;
            Ok(TxnOp::Put { key, value, lease })
        }
        (None, Some(key), None, None, None) => Ok(TxnOp::Delete { key }),
        (None, None, Some(key), None, None) => Ok(TxnOp::Get { key }),
        _ => Err(Problem::invalid(
            "an operation is {\"put\": KEY, \"value\": TEXT}, perhaps with a lease, {\"delete\": KEY} or {\"get\": KEY}",
        )),
    }
}

fn bytes_of(key: &str, text: String, encoding: Encoding) -> Result<Vec<u8>, Problem> {
    match encoding {
        Encoding::Utf8 => Ok(text.into_bytes()),
        Encoding::Base64 => base64::decode(&text)
            .ok_or_else(|| Problem::invalid(format!("the value of '{key}' is no base 64 (RFC 4648 §4, padded)"))),
    }
}

fn key(op: &TxnOp) -> &str {
    match op {
        TxnOp::Put { key, .. } | TxnOp::Delete { key } | TxnOp::Get { key } => key,
    }
}

fn shown(key: &str, result: KvReply) -> Value {
    match result {
        KvReply::Written { revision, created } => json!({"key": key, "revision": revision, "created": created}),
        KvReply::Deleted { revision, existed } => json!({"key": key, "revision": revision, "existed": existed}),
        KvReply::Entry(Some(entry)) => described(entry),
        KvReply::Entry(None) | KvReply::Entries { .. } => json!({"key": key, "absent": true}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Txn, Problem> {
        wanted(json(&text.to_owned().into())?)
    }

    #[test]
    fn transactions_as_json() {
        let text = r#"{"if": [{"key": "a", "revision": 7}, {"key": "b", "absent": true}, {"key": "c", "exists": true},
            {"key": "d", "value": "//4=", "encoding": "base64"}],
            "then": [{"put": "a", "value": "", "lease": 12}, {"delete": "d"}], "else": [{"get": "a"}]}"#;
        let txn = read(text).unwrap();
        let conditions: Vec<_> = txn.compare.into_iter().map(|compare| compare.condition).collect();
        let value = Condition::Value(vec![0xff, 0xfe]);
        assert_eq!(conditions, [Condition::Revision(7), Condition::Absent, Condition::Exists, value]);
        let put = TxnOp::Put { key: "a".to_owned(), value: vec![], lease: Some(12) };
        assert_eq!(txn.then, [put, TxnOp::Delete { key: "d".to_owned() }]);
        assert_eq!(txn.otherwise, [TxnOp::Get { key: "a".to_owned() }]);
        assert_eq!(read("{}").unwrap(), Txn::default());
    }

    #[test]
    fn what_is_unclear_is_refused() {
        for wrong in [
            r#"{"if": [{"key": "a"}]}"#,
            r#"{"if": [{"key": "a", "absent": false}]}"#,
            r#"{"if": [{"key": "a", "absent": true, "revision": 1}]}"#,
            r#"{"then": [{"put": "a"}]}"#,
            r#"{"then": [{"put": "a", "value": "b", "encoding": "hex"}]}"#,
            r#"{"then": [{"put": "a", "value": "b", "encoding": "base64"}]}"#,
            r#"{"then": [{"get": "a", "value": "b"}]}"#,
            r#"{"then": [{"put": "a", "value": "b", "delete": "c"}]}"#,
            r#"{"do": []}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
