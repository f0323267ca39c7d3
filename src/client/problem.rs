//! An answer that is no success, as one sentence.

use crate::error::{Exit, Failed};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use longshore_wire::{Code, Failure, Outcome};
use serde::Deserialize;

/// Most bytes that a description of a problem has.
const MAX_PROBLEM: usize = 64 * 1024;

/// `application/problem+json` (RFC 9457) as control nodes write it.
#[derive(Deserialize)]
struct Problem {
    code: Code,
    detail: String,
    outcome: Option<Outcome>,
}

pub(super) async fn read(response: Response<Incoming>) -> Failed {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_PROBLEM).collect().await;
    let problem = body.ok().and_then(|body| serde_json::from_slice::<Problem>(&body.to_bytes()).ok());
    match problem {
        Some(Problem { code, detail, outcome }) => {
            Failure { code, message: detail, outcome: outcome.unwrap_or(Outcome::NotDone) }.into()
        }
        None => Failed::new(exit(status), format!("the API answered HTTP {status}; is it a longshore node?")),
    }
}

/// What stands between us and the node knows no codes.
fn exit(status: StatusCode) -> Exit {
    match status {
        StatusCode::NOT_FOUND => Exit::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Unauthenticated,
        StatusCode::GATEWAY_TIMEOUT => Exit::TimedOut,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => Exit::Unreachable,
        _ => Exit::Failed,
    }
}
