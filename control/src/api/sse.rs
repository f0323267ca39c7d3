//! Server-sent events (WHATWG HTML §9.2): how one is written, and the answer that carries them. Knows none of them.

use axum::body::Body;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde_json::Value;
use std::convert::Infallible;
use std::fmt::{Display, Write as _};

/// Id of the last event that a reader has got.
pub(super) const LAST: HeaderName = HeaderName::from_static("last-event-id");

/// One event. JSON has no line breaks of its own, so one `data` line holds it.
pub(super) fn event(name: &str, id: impl Display, data: &Value) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(text, "event: {name}\nid: {id}\ndata: {data}\n\n");
    text
}

/// The answer, whose body goes on for as long as there are pieces.
pub(super) fn response(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx would collect the stream otherwise.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(pieces.map(Ok::<_, Infallible>))).into_response()
}
