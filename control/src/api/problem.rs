//! Failures as HTTP answers: `application/problem+json` (RFC 9457) with `code`, `detail` and `outcome`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use longshore_wire::{Code, Failure};
use serde_json::json;

/// The media type of every error.
const PROBLEM: &str = "application/problem+json";
/// Longest error text of the HTTP library that is passed on, in bytes.
const MAX_TEXT: usize = 4096;

/// Marks an answer that is no problem in spite of its status.
#[derive(Debug, Clone, Copy)]
pub(super) struct AsIs;

/// A failure on its way out.
#[derive(Debug)]
pub(crate) struct Problem {
    failure: Failure,
    status: StatusCode,
}

impl Problem {
    /// A request that is wrong in itself.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Failure::new(Code::Invalid, detail).into()
    }

    /// Something that this version does not do.
    pub(crate) fn unsupported(detail: impl Into<String>) -> Self {
        Failure::new(Code::Unsupported, detail).into()
    }

    /// A path that does not know the method.
    pub(crate) fn method_not_allowed() -> Self {
        let failure = Failure::new(Code::Unsupported, "this path does not know that method");
        Self { failure, status: StatusCode::METHOD_NOT_ALLOWED }
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}

/// The status that fits a code.
pub(crate) fn status(code: Code) -> StatusCode {
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The code that fits a status which something below the handlers has chosen.
fn code(status: StatusCode) -> Code {
    match status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        StatusCode::METHOD_NOT_ALLOWED => Code::Unsupported,
        status if status.is_client_error() => Code::Invalid,
        _ => Code::Internal,
    }
}

/// Makes a problem of every error that the HTTP library answers by itself, such as a path that is no UTF-8.
pub(crate) async fn speak_problem(response: Response) -> Response {
    let status = response.status();
    let spoken = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM);
    let spoken = spoken || response.extensions().get::<AsIs>().is_some();
    if spoken || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), MAX_TEXT).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let detail = if text.is_empty() { status.to_string() } else { text.into_owned() };
    Problem { failure: Failure::new(code(status), detail), status }.into_response()
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self { status: status(failure.code), failure }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.failure.code,
            "detail": self.failure.message,
            "outcome": self.failure.outcome,
        });
        let mut response = (self.status, body.to_string()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        if self.failure.code == Code::Busy {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_tells_code_detail_and_outcome() {
        let response = Problem::from(Failure::unknown(Code::Timeout, "late")).into_response();
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&body["code"], &body["detail"], &body["outcome"]),
            (&"timeout".into(), &"late".into(), &"unknown".into())
        );
    }

    #[tokio::test]
    async fn what_the_library_says_becomes_a_problem() {
        let response = speak_problem((StatusCode::PAYLOAD_TOO_LARGE, "length limit exceeded").into_response()).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM);
        assert_eq!(speak_problem(StatusCode::NO_CONTENT.into_response()).await.status(), StatusCode::NO_CONTENT);
    }

    #[test]
    fn who_is_busy_says_when_to_come_back() {
        let retry_after = |code| {
            let response = Problem::from(Failure::new(code, "x")).into_response();
            response.headers().get(header::RETRY_AFTER).cloned()
        };
        assert_eq!(retry_after(Code::Busy).unwrap(), "1");
        assert_eq!(retry_after(Code::Conflict), None);
    }

    #[test]
    fn unsupported_is_501() {
        assert_eq!(Problem::unsupported("x").status(), StatusCode::NOT_IMPLEMENTED);
        assert_eq!(Problem::invalid("x").status(), StatusCode::BAD_REQUEST);
    }
}
