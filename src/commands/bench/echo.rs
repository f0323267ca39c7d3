//! The floor of a request: a bare echo of length-framed messages over the same kind of connection.

use super::figures::Round;
use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _, BytesMut};
use longshore_transport::{
    ClientTls, ClientTlsOptions, DialOptions, Io, Link, ListenOptions, Listener, MAX_PENDING, ServerTls, dial,
};
use longshore_wire::uri::{DEFAULT_WS_PATH, TlsVerify};
use longshore_wire::{Endpoint, Transport};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

/// Bytes of a message, without its length.
pub(super) const MESSAGE: usize = 64;
/// Bytes of the length before a message.
const LENGTH: usize = 4;
/// Room for what arrives at once.
const BUFFER: usize = 64 * 1024;

/// An endpoint on this machine.
pub(super) fn endpoint(transport: Transport, address: SocketAddr) -> Endpoint {
    let host = address.ip().to_string();
    Endpoint { transport, address, host, path: DEFAULT_WS_PATH.to_owned(), tls_verify: None }
}

/// How the benchmarks dial.
pub(super) fn dial_options() -> anyhow::Result<DialOptions> {
    let options = ClientTlsOptions { verify: TlsVerify::Binding, ca_file: None, pin_file: None };
    Ok(DialOptions::new(ClientTls::new(options)?))
}

/// Both ends of one connection.
pub(super) struct Echo {
    client: Box<dyn Io>,
    /// The other end; ends with this one.
    _server: JoinSet<()>,
}

impl Echo {
    /// Connects both ends.
    pub(super) async fn start(transport: Transport) -> anyhow::Result<Self> {
        let tls = ServerTls::self_signed(&[Ipv4Addr::LOCALHOST.to_string()], None)?;
        let options = ListenOptions {
            transport,
            bind: (Ipv4Addr::LOCALHOST, 0).into(),
            path: DEFAULT_WS_PATH.to_owned(),
            tls: transport.is_encrypted().then_some(tls),
            max_pending: MAX_PENDING,
        };
        let listener = Listener::bind(options).await?;
        let endpoint = endpoint(transport, listener.local_addr());
        let mut server = JoinSet::new();
        server.spawn(async move {
            if let Ok(pending) = listener.accept().await
                && let Ok(link) = pending.upgrade().await
            {
                // It ends when the client hangs up.
                drop(serve(link).await);
            }
        });
        let client = dial(&endpoint, &dial_options()?).await?.io;
        Ok(Self { client, _server: server })
    }

    /// Keeps `in_flight` messages under way for `time`.
    pub(super) async fn round(&mut self, in_flight: u32, time: Duration) -> anyhow::Result<Round> {
        let start = Instant::now();
        let mut round = Round { latencies: Vec::new(), elapsed: Duration::ZERO };
        let mut sent = VecDeque::new();
        let mut input = BytesMut::with_capacity(BUFFER);
        let mut output = BytesMut::with_capacity(BUFFER);
        (0..in_flight).for_each(|_| message(&mut output, &mut sent));
        while !sent.is_empty() {
            if !output.is_empty() {
                self.client.write_all(&output).await?;
                self.client.flush().await?;
                output.clear();
            }
            anyhow::ensure!(self.client.read_buf(&mut input).await? > 0, "the echo's other end hung up");
            while take(&mut input).is_some() {
                let begin: Instant = sent.pop_front().context("the echo answered twice")?;
                round.latencies.push(begin.elapsed());
                if start.elapsed() < time {
                    message(&mut output, &mut sent);
                }
            }
        }
        round.elapsed = start.elapsed();
        Ok(round)
    }
}

fn message(output: &mut BytesMut, sent: &mut VecDeque<Instant>) {
    output.put_u32(MESSAGE as u32);
    output.put_bytes(b'x', MESSAGE);
    sent.push_back(Instant::now());
}

/// Takes a whole message, if there is one.
fn take(input: &mut BytesMut) -> Option<BytesMut> {
    let length = input.get(..LENGTH)?.try_into().map(u32::from_be_bytes).ok()? as usize;
    if input.len() < LENGTH + length {
        return None;
    }
    input.advance(LENGTH);
    Some(input.split_to(length))
}

async fn serve(mut link: Link) -> std::io::Result<()> {
    let mut input = BytesMut::with_capacity(BUFFER);
    let mut output = BytesMut::with_capacity(BUFFER);
    while link.io.read_buf(&mut input).await? > 0 {
        while let Some(message) = take(&mut input) {
            output.put_u32(MESSAGE as u32);
            output.extend_from_slice(&message);
        }
        link.io.write_all(&output).await?;
        link.io.flush().await?;
        output.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_message_comes_back() {
        for transport in [Transport::Tcp, Transport::Wss] {
            let mut echo = Echo::start(transport).await.unwrap();
            let round = echo.round(8, Duration::from_millis(5)).await.unwrap();
            assert!(round.latencies.len() >= 8);
        }
    }
}
