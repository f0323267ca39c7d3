//! `/v1/tokens`: a token is made here and shown once; only its hash is stored.

use super::access::hash;
use super::problem::Problem;
use super::read::{Asked, Freshness, asked, json};
use super::{Answer, Api};
use crate::clock::now_ms;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use bytes::Bytes;
use longshore_state::{Command, Scope, Token};
use longshore_wire::{Code, Failure, base64};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Deserialize;
use serde_json::{Value, json};

/// What every token begins with, so that scanners find one that got lost.
const PREFIX: &str = "lst_";
/// Random bytes of a token; a multiple of three, so that nothing is padded.
const RANDOM: usize = 33;

pub(super) async fn list(api: Api, query: Asked<Freshness>) -> Answer {
    let state = api.read(asked(query)?.consistency).await?;
    Ok(axum::Json(state.tokens().map(describe).collect::<Vec<_>>()).into_response())
}

/// Body of a new token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    scope: Scope,
    /// Milliseconds from now on.
    expires_in_ms: Option<u64>,
}

pub(super) async fn create(api: Api, body: Bytes) -> Answer {
    let New { name, scope, expires_in_ms } = json(&body)?;
    let mut random = [0; RANDOM];
    let failed = |_| Problem::from(Failure::new(Code::Internal, "the system gives no random numbers"));
    SystemRandom::new().fill(&mut random).map_err(failed)?;
    // The alphabet for URLs (RFC 4648 §5).
    let secret = format!("{PREFIX}{}", base64::encode(&random).replace('+', "-").replace('/', "_"));
    let (created_ms, digest) = (now_ms(), hash(&secret));
    let expires_ms = expires_in_ms.map(|millis| created_ms.saturating_add(millis));
    let token = Token { name, scope, digest, created_ms, expires_ms };
    api.group.propose_one(Command::CreateToken(token.clone())).await?;
    let mut answer = describe(&token);
    answer["token"] = secret.into();
    Ok((StatusCode::CREATED, axum::Json(answer)).into_response())
}

pub(super) async fn revoke(api: Api, Path(name): Path<String>) -> Answer {
    api.group.propose_one(Command::RevokeToken { name: name.clone() }).await?;
    Ok(axum::Json(json!({"name": name, "revoked": true})).into_response())
}

fn describe(token: &Token) -> Value {
    json!({
        "name": token.name,
        "scope": token.scope,
        "created": token.created_ms,
        "expires": token.expires_ms,
        "expired": token.expires_ms.is_some_and(|expires| expires <= now_ms()),
    })
}
