//! Failures as `application/problem+json` (RFC 9457), with the stable code and the outcome.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use longshore_wire::{Code, Failure};
use serde_json::json;

/// A failure on its way to a task.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    failure: Failure,
}

impl Problem {
    /// A path that exists, asked in a way that does not.
    pub(super) fn method() -> Self {
        let failure = Failure::new(Code::Unsupported, "this path does not know that method");
        Self { status: StatusCode::METHOD_NOT_ALLOWED, failure }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self { status: status_of(failure.code), failure }
    }
}

fn status_of(code: Code) -> StatusCode {
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "code": self.failure.code,
            "detail": self.failure.message,
            "outcome": self.failure.outcome,
        });
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
    }
}
