//! `/v1/leases`: what keeps keys alive.

use super::precondition::ticket;
use super::problem::Problem;
use super::read::{Asked, Freshness, asked, json};
use super::{Answer, Api};
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use longshore_wire::{Code, Failure};
use serde::Deserialize;
use serde_json::{Value, json};

/// Body of a grant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    ttl_ms: u64,
}

pub(super) async fn list(api: Api, query: Asked<Freshness>) -> Answer {
    let state = api.read(asked(query)?.consistency).await?;
    let leases: Vec<Value> = state
        .leases()
        .map(|(lease, keys)| json!({"lease": lease.id, "ttl_ms": lease.ttl_ms, "renewals": lease.renewals, "keys": keys}))
        .collect();
    Ok(axum::Json(leases).into_response())
}

pub(super) async fn grant(api: Api, headers: HeaderMap, body: Bytes) -> Answer {
    let Grant { ttl_ms } = json(&body)?;
    let lease = api.kv.grant(ticket(&headers)?, ttl_ms).await?;
    Ok((StatusCode::CREATED, axum::Json(json!({"lease": lease, "ttl_ms": ttl_ms}))).into_response())
}

pub(super) async fn show(api: Api, Path(lease): Path<String>, query: Asked<Freshness>) -> Answer {
    let (id, state) = (number(&lease)?, api.read(asked(query)?.consistency).await?);
    let (lease, keys) = state.lease(id).ok_or_else(|| {
        Failure::new(Code::NotFound, format!("there is no lease {id}; it has ended, or was never granted"))
    })?;
    let keys: Vec<&str> = keys.collect();
    let body = json!({"lease": id, "ttl_ms": lease.ttl_ms, "renewals": lease.renewals, "keys": keys});
    Ok(axum::Json(body).into_response())
}

pub(super) async fn keep(api: Api, Path(lease): Path<String>) -> Answer {
    let lease = number(&lease)?;
    let ttl_ms = api.kv.keep(lease).await?;
    Ok(axum::Json(json!({"lease": lease, "ttl_ms": ttl_ms})).into_response())
}

pub(super) async fn revoke(api: Api, Path(lease): Path<String>, headers: HeaderMap) -> Answer {
    let lease = number(&lease)?;
    let keys = api.kv.revoke(ticket(&headers)?, lease).await?;
    Ok(axum::Json(json!({"lease": lease, "keys": keys})).into_response())
}

fn number(text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| Problem::invalid(format!("'{text}' is not the id of a lease (a whole number)")))
}
