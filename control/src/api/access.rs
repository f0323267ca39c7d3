//! Who may ask what: tokens, scopes, and a line in the log for every change.
//!
//! The Unix socket is guarded by its mode, and a loopback listener may be configured as open; everybody else shows a token.
//! What a path needs is decided here alone, and what is not named needs the most. Must never log a token.

use super::Context;
use super::problem::{self, Problem};
use crate::clock::now_ms;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use longshore_state::{Scope, Token};
use longshore_wire::{Code, Digest, Failure};
use ring::digest::{SHA256, digest};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;
use subtle::ConstantTimeEq as _;

/// What guards a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// The mode of a Unix socket.
    Mode,
    /// Nothing: a loopback address that is configured so.
    Open,
    /// Tokens.
    Token,
}

/// What a request needs; `None` = nothing, for probes.
fn needed(method: &Method, path: &str) -> Option<Scope> {
    let below = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let reads = [Method::GET, Method::HEAD].contains(method);
    if reads && ["/livez", "/readyz"].contains(&path) {
        return None;
    }
    // A snapshot holds every value and verifier.
    let secret = ["/v1/snapshot", "/v1/tokens"].into_iter().any(below);
    let asks_worker = path.starts_with("/v1/nodes/") && path.ends_with("/request");
    let operates = ["/v1/kv", "/v1/leases", "/v1/apps", "/v1/instances"].into_iter().any(below) || asks_worker;
    Some(match (reads, operates) {
        _ if secret => Scope::Admin,
        (true, _) => Scope::Read,
        (false, true) => Scope::Operate,
        (false, false) => Scope::Admin,
    })
}

/// Lets a request through, or not; notes changes, and counts. Every request comes here first, so reads cost nothing here
/// but their check, and the plainest of them take the short way.
pub(super) async fn enter(
    State((context, guard)): State<(Arc<Context>, Guard)>,
    request: Request,
    next: Next,
) -> Response {
    let (begun, method) = (Instant::now(), request.method().clone());
    let response = checked(&context, guard, request, next).await;
    let response = problem::speak_problem(response).await;
    context.requests.count(&method, response.status(), begun.elapsed());
    response
}

async fn checked(context: &Context, guard: Guard, request: Request, next: Next) -> Response {
    let allowed = match guard {
        Guard::Mode => Ok(Cow::Borrowed("socket")),
        Guard::Open => Ok(Cow::Borrowed("loopback")),
        Guard::Token => {
            allowed(context, needed(request.method(), request.uri().path()), request.headers()).map(Cow::Owned)
        }
    };
    match allowed {
        Ok(who) => {
            let changes = ![Method::GET, Method::HEAD].contains(request.method());
            let noted = changes && tracing::enabled!(target: "longshore::audit", tracing::Level::INFO);
            let change = noted.then(|| (request.method().clone(), request.uri().clone()));
            let response = next.run(request).await;
            if let Some((method, uri)) = change {
                let (status, path) = (response.status().as_u16(), uri.path());
                tracing::info!(target: "longshore::audit", %who, %method, path, status, "audit: a change");
            }
            response
        }
        Err(Refused { who, failure }) => {
            let (status, why) = (failure.code.http_status(), failure.message.as_str());
            let (method, path) = (request.method(), request.uri().path());
            tracing::info!(target: "longshore::audit", who, %method, path, status, why, "audit: refused");
            let mut response = Problem::from(failure).into_response();
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
    }
}

/// Why somebody is not let through.
struct Refused {
    who: String,
    failure: Failure,
}

fn allowed(context: &Context, needed: Option<Scope>, headers: &HeaderMap) -> Result<String, Refused> {
    let Some(needed) = needed else { return Ok("probe".to_owned()) };
    let state = context.group.state();
    let refused =
        |who: &str, code: Code, why: String| Refused { who: who.to_owned(), failure: Failure::new(code, why) };
    let advice = "an admin makes one with `longshore token create` on a control node; the command line takes it from --token-file or LONGSHORE_TOKEN_FILE";
    let Some(shown) = bearer(headers) else {
        let why = format!("this address of the API asks for a token (Authorization: Bearer …); {advice}");
        return Err(refused("nobody", Code::Unauthenticated, why));
    };
    let Some(token) = find(state.tokens(), shown) else {
        let why = format!("this token is not known, or is revoked; {advice}");
        return Err(refused("unknown token", Code::Unauthenticated, why));
    };
    if token.expires_ms.is_some_and(|expires| expires <= now_ms()) {
        let why = format!("the token '{}' has expired; {advice}", token.name);
        return Err(refused(&token.name, Code::Unauthenticated, why));
    }
    if token.scope < needed {
        let why = format!("the token '{}' has the scope {}; this needs {needed}; {advice}", token.name, token.scope);
        return Err(refused(&token.name, Code::Forbidden, why));
    }
    Ok(token.name.clone())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares with all of them, each in constant time: how long it takes says nothing of how much was right.
fn find<'a>(tokens: impl Iterator<Item = &'a Token>, shown: &str) -> Option<&'a Token> {
    let shown = hash(shown);
    tokens.fold(None, |found, token| if token.digest.0.ct_eq(&shown.0).into() { Some(token) } else { found })
}

/// What is stored of a token.
pub(super) fn hash(token: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    Digest(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_needs_the_most() {
        let needs = |method: Method, path: &str| needed(&method, path);
        for path in ["/livez", "/readyz"] {
            assert_eq!(needs(Method::GET, path), None);
        }
        for path in ["/v1/nodes", "/v1/kv/a", "/metrics", "/v1/events", "/v1/credentials"] {
            assert_eq!(needs(Method::GET, path), Some(Scope::Read), "{path}");
        }
        for path in ["/v1/snapshot", "/v1/tokens"] {
            assert_eq!(needs(Method::GET, path), Some(Scope::Admin), "{path}");
        }
        for path in ["/v1/kv/a", "/v1/apps", "/v1/apps/a/flows/main", "/v1/instances/i/stop", "/v1/nodes/w/request"] {
            assert_eq!(needs(Method::POST, path), Some(Scope::Operate), "{path}");
        }
        for path in ["/v1/nodes/w", "/v1/tokens", "/v1/credentials/c/revoke", "/v1/cluster/voters", "/v1/kvx", "/livez"]
        {
            assert_eq!(needs(Method::POST, path), Some(Scope::Admin), "{path}");
        }
    }
}
