//! SOCKS version 5 (RFC 1928), anonymous or with user and password (RFC 1929).

use super::{Login, ProxyError, Target};
use crate::link::Io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

const VERSION: u8 = 5;
const ANONYMOUS: u8 = 0;
const PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 255;
/// Version of RFC 1929's own dialogue.
const LOGIN_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Asks for a way to `target`. Afterwards the stream stands at the first byte of the peer behind the proxy.
pub(super) async fn connect<S: Io>(stream: &mut S, target: &Target, login: Option<&Login>) -> Result<(), ProxyError> {
    let wanted = request(target)?;
    let methods: &[u8] = if login.is_some() { &[VERSION, 2, ANONYMOUS, PASSWORD] } else { &[VERSION, 1, ANONYMOUS] };
    send(stream, methods).await?;
    let [version, method] = receive(stream).await?;
    match (version, method, login) {
        (VERSION, ANONYMOUS, _) => {}
        (VERSION, PASSWORD, Some(login)) => authenticate(stream, login).await?,
        // Many proxies refuse every method in place of asking for the one that was not offered.
        (VERSION, NONE_ACCEPTABLE, None) => return Err(ProxyError::LoginWanted("")),
        (VERSION, NONE_ACCEPTABLE, Some(_)) => return Err(ProxyError::NoMethod),
        _ => return Err(ProxyError::NotSocks),
    }
    send(stream, &wanted).await?;
    let [version, reply, _, kind] = receive(stream).await?;
    if version != VERSION {
        return Err(ProxyError::NotSocks);
    }
    if reply != 0 {
        return Err(refusal(reply, target));
    }
    // The address that the proxy uses on the other side, which nobody here needs.
    let rest = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(stream.read_u8().await.map_err(ProxyError::Broken)?),
        _ => return Err(ProxyError::NotSocks),
    };
    let mut skipped = [0; 255 + 2];
    stream.read_exact(&mut skipped[..rest + 2]).await.map(drop).map_err(ProxyError::Broken)
}

async fn authenticate<S: Io>(stream: &mut S, login: &Login) -> Result<(), ProxyError> {
    let length = |text: &str| u8::try_from(text.len()).ok().filter(|length| *length > 0).ok_or(ProxyError::LoginLength);
    let (user, password) = (&login.user, login.password.as_str());
    let mut message = Zeroizing::new(vec![LOGIN_VERSION, length(user)?]);
    message.extend_from_slice(user.as_bytes());
    message.push(length(password)?);
    message.extend_from_slice(password.as_bytes());
    send(stream, &message).await?;
    let [_, status] = receive(stream).await?;
    if status == 0 { Ok(()) } else { Err(ProxyError::LoginRefused("")) }
}

fn request(target: &Target) -> Result<Vec<u8>, ProxyError> {
    let mut message = vec![VERSION, CONNECT, 0];
    let port = match target {
        Target::Address(SocketAddr::V4(address)) => {
            message.push(IPV4);
            message.extend_from_slice(&address.ip().octets());
            address.port()
        }
        Target::Address(SocketAddr::V6(address)) => {
            message.push(IPV6);
            message.extend_from_slice(&address.ip().octets());
            address.port()
        }
        Target::Name(name, port) => {
            // A cluster URI's host is at most 253 bytes long.
            let length = u8::try_from(name.len()).map_err(|_| ProxyError::Unresolved(target.to_string()))?;
            message.extend_from_slice(&[NAME, length]);
            message.extend_from_slice(name.as_bytes());
            *port
        }
    };
    message.extend_from_slice(&port.to_be_bytes());
    Ok(message)
}

fn refusal(reply: u8, target: &Target) -> ProxyError {
    let unreachable = |said: &str| ProxyError::Unreachable {
        target: target.to_string(),
        said: format!("SOCKS reply {reply}: {said}"),
    };
    match reply {
        1 => unreachable("general failure"),
        2 => ProxyError::Forbidden { target: target.to_string(), code: " (SOCKS reply 2)" },
        3 => unreachable("network unreachable"),
        4 => unreachable("host unreachable"),
        5 => unreachable("connection refused"),
        6 => unreachable("TTL expired"),
        reply => ProxyError::Reply(reply),
    }
}

async fn send<S: Io>(stream: &mut S, message: &[u8]) -> Result<(), ProxyError> {
    stream.write_all(message).await.map_err(ProxyError::Broken)?;
    stream.flush().await.map_err(ProxyError::Broken)
}

async fn receive<S: Io, const N: usize>(stream: &mut S) -> Result<[u8; N], ProxyError> {
    let mut answer = [0; N];
    stream.read_exact(&mut answer).await.map_err(ProxyError::Broken)?;
    Ok(answer)
}
