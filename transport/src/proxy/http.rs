//! HTTP CONNECT (RFC 9110 §9.3.6) with Basic authentication (RFC 7617).

use super::{Login, ProxyError, Target};
use crate::link::Io;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

/// Longest head of an answer; proxies with long policies in their headers stay below.
const MAX_HEAD: usize = 16 * 1024;

/// Asks for a way to `target`. Afterwards the stream stands at the first byte of the peer behind the proxy.
pub(super) async fn connect<S: Io>(stream: &mut S, target: &Target, login: Option<&Login>) -> Result<(), ProxyError> {
    let request = request(target, login);
    stream.write_all(request.as_bytes()).await.map_err(ProxyError::Broken)?;
    stream.flush().await.map_err(ProxyError::Broken)?;
    let mut budget = MAX_HEAD;
    loop {
        let head = head(stream, &mut budget).await?;
        // Interim answers (RFC 9110 §15.2) may come before the one that counts.
        match status(&head).ok_or(ProxyError::NotHttp)? {
            100..=199 => {}
            200..=299 => return Ok(()),
            status => return Err(refusal(status, &head, target, login.is_some())),
        }
    }
}

fn request(target: &Target, login: Option<&Login>) -> Zeroizing<String> {
    let release = env!("CARGO_PKG_VERSION");
    let authorization = login.map(|Login { user, password }| {
        let plain = Zeroizing::new(format!("{user}:{}", **password));
        Zeroizing::new(format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(plain.as_bytes())))
    });
    let authorization = authorization.as_ref().map_or("", |line| line.as_str());
    Zeroizing::new(format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: longshore/{release}\r\n{authorization}\r\n"
    ))
}

/// Reads up to and with the empty line, and not one byte more: the next ones are the peer's. Byte by byte, since that
/// needs no buffer that would have to be carried along for the whole life of the connection.
async fn head<S: Io>(stream: &mut S, budget: &mut usize) -> Result<Vec<u8>, ProxyError> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        *budget = budget.checked_sub(1).ok_or(ProxyError::TooLong(MAX_HEAD))?;
        head.push(stream.read_u8().await.map_err(ProxyError::Broken)?);
        if !b"HTTP/1.".starts_with(&head[..head.len().min(7)]) {
            return Err(ProxyError::NotHttp);
        }
    }
    Ok(head)
}

/// The status of `HTTP/1.x NNN …`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r' || *byte == b'\n').next()?;
    let digits = line.get(9..12).filter(|_| line.get(8) == Some(&b' '))?;
    let fine = digits.iter().all(u8::is_ascii_digit) && line.get(12).is_none_or(|byte| *byte == b' ');
    fine.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

fn refusal(status: u16, head: &[u8], target: &Target, logged_in: bool) -> ProxyError {
    match status {
        // Meant for origin servers, yet tinyproxy answers so to a wrong password.
        401 if logged_in => ProxyError::LoginRefused(" (HTTP 401)"),
        407 => match foreign_schemes(head) {
            Some(schemes) => ProxyError::Scheme(schemes),
            None if logged_in => ProxyError::LoginRefused(" (HTTP 407)"),
            None => ProxyError::LoginWanted(" (HTTP 407)"),
        },
        403 => ProxyError::Forbidden { target: target.to_string(), code: " (HTTP 403)" },
        500 | 502..=504 => ProxyError::Unreachable { target: target.to_string(), said: format!("HTTP {status}") },
        status => ProxyError::Status(status),
    }
}

/// The ways of authentication that a 407 names, if Basic is not among them.
fn foreign_schemes(head: &[u8]) -> Option<String> {
    const NAME: &str = "proxy-authenticate:";
    let text = String::from_utf8_lossy(head);
    let schemes: Vec<&str> = text
        .lines()
        .filter(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))
        .filter_map(|line| line[NAME.len()..].split_whitespace().next())
        .filter(|scheme| scheme.len() <= 32 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
        .collect();
    let foreign = !schemes.is_empty() && !schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic"));
    foreign.then(|| schemes.join(", "))
}
