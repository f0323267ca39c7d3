//! The client of the HTTP API: one request a connection, or many over a kept one.
//!
//! It owns the way to the API (Unix socket, TCP, TLS), the deadline, the token, and the making of one clear sentence out of
//! every failure. It retries only what has a request id ([`Client::write`]): any other write that may have been carried out is
//! the operator's to repeat.

mod body;
mod events;
mod problem;
mod target;

pub(crate) use body::{Body, bytes, empty, file};
pub(crate) use events::{Event, Events};

use crate::args::Globals;
use crate::error::{Exit, Failed};
use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::{Duration, Instant};
use target::Target;
use tokio::task::JoinSet;

/// Most bytes of an answer that is taken in as a whole: a full listing of values at their limit would be larger, but is
/// paged long before.
const MAX_ANSWER: usize = 1 << 30;

/// Names a write.
const REQUEST: &str = "x-longshore-request-id";
/// Marks its repeats.
const REPEAT: &str = "x-longshore-repeat";
/// Time between attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Talks to one API.
#[derive(Clone)]
pub(crate) struct Client {
    targets: Vec<Target>,
    timeout: Duration,
    token: Option<HeaderValue>,
}

/// A request to the API.
pub(crate) struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Body,
}

impl Call {
    /// A request without body.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: empty() }
    }

    /// A GET.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A POST of JSON.
    pub(crate) fn post(path: impl Into<String>, json: &Value) -> Self {
        Self::new(Method::POST, path).header("content-type", "application/json").body(bytes(json.to_string()))
    }

    /// With a body.
    pub(crate) fn body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    /// With a header whose value is plain ASCII.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, HeaderValue::from_str(value).expect("the value is plain ASCII"));
        self
    }
}

impl Client {
    /// The API that the operator means.
    pub(crate) fn new(globals: &Globals) -> anyhow::Result<Self> {
        let targets = match globals.api.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => vec![text.parse::<Target>().map_err(Failed::usage)?],
            None => Target::defaults(),
        };
        let token = match &globals.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Some(text.with_context(|| format!("cannot read the token file {}", path.display()))?)
            }
            None => std::env::var("LONGSHORE_TOKEN").ok().filter(|token| !token.is_empty()),
        };
        let token = token.map(|token| bearer(token.trim())).transpose()?;
        if token.is_some() && targets.iter().any(|target| !target.keeps_secrets()) {
            let why = "a token does not go over plain HTTP to another machine; use https:// or unix://";
            return Err(Failed::usage(why).into());
        }
        Ok(Self { targets, timeout: globals.timeout, token })
    }

    /// The API at this address.
    pub(crate) fn at(address: &str, timeout: Duration) -> anyhow::Result<Self> {
        Ok(Self { targets: vec![address.parse().map_err(Failed::usage)?], timeout, token: None })
    }

    /// The deadline of an answer.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Connects. Of several addresses the first that answers counts.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        let connecting = async {
            let mut failure = None;
            for target in &self.targets {
                match target.connect().await {
                    Ok(stream) => return Connection::start(stream, target, self).await,
                    Err(error) => failure = Some(format!("nobody answers at {target}: {error}")),
                }
            }
            let why = failure.unwrap_or_else(|| "there is no address".to_owned());
            let hint =
                "start a node (`longshore run`, `longshore dev`), or say with --api or LONGSHORE_API where one is";
            Err(Failed::new(Exit::Unreachable, format!("{why}; {hint}")).into())
        };
        tokio::time::timeout(self.timeout, connecting).await.unwrap_or_else(|_| Err(self.late()))
    }

    /// Sends a request; an answer that is no success becomes a failure. The body is still to come.
    pub(crate) async fn open(&self, call: Call) -> anyhow::Result<Answer> {
        let mut connection = self.connect().await?;
        let response = connection.send(call).await?;
        Ok(Answer { response, timeout: self.timeout, _connection: connection })
    }

    /// Sends a write under a request id, and repeats it until the deadline while the cluster has no leader or the answer does
    /// not come: whatever was carried out, a repeat gets the first outcome.
    pub(crate) async fn write(&self, again: impl Fn() -> Call) -> anyhow::Result<Answer> {
        let id = ulid::Ulid::generate().to_string();
        let deadline = Instant::now() + self.timeout;
        let mut doubt = false;
        let mut call = again().header(REQUEST, &id);
        loop {
            let left = Self { timeout: deadline.saturating_duration_since(Instant::now()), ..self.clone() };
            let (failure, sent) = match left.connect().await {
                Ok(mut connection) => match connection.send(call).await {
                    Ok(response) => return Ok(Answer { response, timeout: left.timeout, _connection: connection }),
                    Err(failure) => (failure, true),
                },
                Err(failure) => (failure, false),
            };
            let failed = failure.downcast_ref::<Failed>();
            let first = !doubt && !sent;
            doubt |= sent && failed.is_none_or(|failed| !failed.is_not_done());
            if first || !failed.is_some_and(Failed::is_passing) || Instant::now() + PAUSE >= deadline {
                return Err(failed.filter(|_| doubt).map(Failed::doubting).map_or(failure, Into::into));
            }
            tokio::time::sleep(PAUSE).await;
            call = again().header(REQUEST, &id).header(REPEAT, "yes");
        }
    }

    /// Sends a request and takes the JSON of its answer.
    pub(crate) async fn json(&self, call: Call) -> anyhow::Result<Value> {
        self.open(call).await?.json().await
    }

    fn late(&self) -> anyhow::Error {
        late(self.timeout)
    }
}

fn late(timeout: Duration) -> anyhow::Error {
    let timeout = humantime::format_duration(timeout);
    Failed::new(Exit::TimedOut, format!("no answer within {timeout} (--timeout)")).into()
}

fn bearer(token: &str) -> anyhow::Result<HeaderValue> {
    let wrong = |_| Failed::usage("the token holds characters that no token has");
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(wrong)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A connection to the API, for one request after the other.
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    base: HeaderMap,
    timeout: Duration,
    /// Ends with the connection.
    _driver: JoinSet<()>,
}

impl Connection {
    async fn start(stream: target::Stream, target: &Target, client: &Client) -> anyhow::Result<Self> {
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.context("the API speaks no HTTP")?;
        let mut base = HeaderMap::new();
        base.insert(HOST, HeaderValue::from_str(&target.host()).context("the API's address is no host name")?);
        base.insert(USER_AGENT, HeaderValue::from_static(concat!("longshore/", env!("CARGO_PKG_VERSION"))));
        if let Some(token) = &client.token {
            base.insert(AUTHORIZATION, token.clone());
        }
        let mut driving = JoinSet::new();
        // Its errors come out of the requests as well.
        driving.spawn(async move { drop(driver.await) });
        Ok(Self { sender, base, timeout: client.timeout, _driver: driving })
    }

    /// Sends a request; an answer that is no success becomes a failure.
    pub(crate) async fn send(&mut self, call: Call) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::new(call.body);
        *request.method_mut() = call.method;
        *request.uri_mut() = call.path.parse().context("the path is no URI")?;
        *request.headers_mut() = self.base.clone();
        request.headers_mut().extend(call.headers);
        let lost =
            "the API ended the connection before it answered; nobody can say whether the request was carried out";
        let answering = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let response = tokio::time::timeout(self.timeout, answering).await.map_err(|_| late(self.timeout))?;
        let response = response.map_err(|error| Failed::new(Exit::Unreachable, format!("{lost} ({error})")))?;
        if response.status().is_success() { Ok(response) } else { Err(problem::read(response).await.into()) }
    }
}

/// An answer whose body is still to come.
pub(crate) struct Answer {
    response: Response<Incoming>,
    timeout: Duration,
    _connection: Connection,
}

impl Answer {
    /// A header, if it is there and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The whole body.
    pub(crate) async fn bytes(self) -> anyhow::Result<Bytes> {
        let Self { response, timeout, _connection } = self;
        let collecting = Limited::new(response.into_body(), MAX_ANSWER).collect();
        let collected = tokio::time::timeout(timeout, collecting).await.map_err(|_| late(timeout))?;
        let collected = collected.map_err(|error| anyhow::anyhow!("the API's answer broke off: {error}"))?;
        Ok(collected.to_bytes())
    }

    /// The whole body as JSON; nothing is `null`.
    pub(crate) async fn json(self) -> anyhow::Result<Value> {
        let bytes = self.bytes().await?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).context("the API answered something that is no JSON; is it a longshore node?")
    }

    /// The next piece of the body; `None` at its end. Waits as long as it takes.
    pub(crate) async fn chunk(&mut self) -> anyhow::Result<Option<Bytes>> {
        while let Some(frame) = self.response.body_mut().frame().await {
            if let Ok(data) = frame.context("the API's answer broke off")?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// A path of the API: fixed parts as they are, `{}` replaced by the escaped names in order.
pub(crate) fn path(pattern: &str, names: &[&str]) -> String {
    let mut names = names.iter();
    let mut parts = pattern.split("{}");
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        path.push_str(&escape(names.next().expect("a name for each {}")));
        path.push_str(part);
    }
    path
}

/// A query out of the parts that are there; with its question mark, or empty.
pub(crate) fn query(parts: &[(&str, Option<&str>)]) -> String {
    let given = parts.iter().filter_map(|(name, value)| Some(format!("{name}={}", escape((*value)?))));
    let text = given.collect::<Vec<_>>().join("&");
    if text.is_empty() { text } else { format!("?{text}") }
}

/// Percent-encoding (RFC 3986 §2.1); `/` stays, since keys have it as a delimiter.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                escaped.push(char::from(byte))
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped() {
        assert_eq!(path("/v1/kv/{}", &["a/ü?b c"]), "/v1/kv/a/%C3%BC%3Fb%20c");
        assert_eq!(path("/v1/apps/{}/flows/{}", &["x", "y"]), "/v1/apps/x/flows/y");
        assert_eq!(query(&[("a", Some("b&c")), ("d", None), ("e", Some("1"))]), "?a=b%26c&e=1");
        assert_eq!(query(&[("a", None)]), "");
    }
}
