//! Plain calls of a control node's API. Every one has a deadline.

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest time for one call: longer than anything that the API waits for itself.
const DEADLINE: Duration = Duration::from_secs(20);

/// What the API answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|error| format!("{error} in {self:?}"))
    }

    /// The body of an answer that says yes.
    pub(crate) fn good(self) -> Result<Value, String> {
        if (200..300).contains(&self.status) {
            return self.json();
        }
        Err(format!("{}: {}", self.status, String::from_utf8_lossy(&self.body)))
    }
}

/// A connection to an API that is kept open.
#[derive(Debug)]
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects.
    pub(crate) fn open(api: SocketAddr) -> Result<Self, String> {
        Self::patient(api, DEADLINE)
    }

    /// The same, with so much time for each step.
    pub(crate) fn patient(api: SocketAddr, deadline: Duration) -> Result<Self, String> {
        let stream = TcpStream::connect_timeout(&api, deadline).map_err(|error| error.to_string())?;
        for set in [stream.set_read_timeout(Some(deadline)), stream.set_write_timeout(Some(deadline))] {
            set.map_err(|error| error.to_string())?;
        }
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Asks, with more lines of the head, and waits for the answer.
    pub(crate) fn call(&mut self, method: &str, path: &str, more: &[&str], body: &[u8]) -> Result<Answer, String> {
        let more: String = more.iter().map(|line| format!("{line}\r\n")).collect();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{more}content-length: {}\r\n\r\n", body.len());
        self.talk(&[head.as_bytes(), body].concat()).map_err(|error| format!("{method} {path}: {error}"))
    }

    fn talk(&mut self, asked: &[u8]) -> std::io::Result<Answer> {
        self.0.get_mut().write_all(asked)?;
        let (mut line, mut length) = (String::new(), 0);
        self.0.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other(format!("no answer but '{line}'")))?;
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            let field = line.trim().to_ascii_lowercase();
            match field.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().map_err(std::io::Error::other)?,
                Some(_) => (),
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(Answer { status, body })
    }
}

/// One call over a connection of its own.
pub(crate) fn call(api: SocketAddr, method: &str, path: &str, body: &[u8]) -> Result<Answer, String> {
    Connection::open(api)?.call(method, path, &["connection: close"], body)
}
