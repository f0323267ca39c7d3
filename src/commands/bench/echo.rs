//! The floor of a request: a bare echo of length-framed messages over the same kind of connection.
//!
//! The other end is a process of its own, as a worker is: two tasks of one runtime would wake each other without the kernel.

use super::figures::Round;
use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _, BytesMut};
use longshore_transport::{
    Admission, ClientTls, ClientTlsOptions, DialOptions, Io, Link, ListenOptions, Listener, ServerTls, dial,
};
use longshore_wire::uri::{DEFAULT_WS_PATH, TlsVerify};
use longshore_wire::{Endpoint, Transport};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

/// Bytes of a message, without its length.
pub(super) const MESSAGE: usize = 64;
/// Bytes of the length before a message.
const LENGTH: usize = 4;
/// Time for the other end to come up.
const PATIENCE: Duration = Duration::from_secs(10);
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

/// The measuring end of a connection to an echoing process.
pub(super) struct Echo {
    client: Box<dyn Io>,
    /// The other end; killed with this one.
    _server: Option<Child>,
}

impl Echo {
    /// Starts the other end, and connects.
    pub(super) async fn start(transport: Transport) -> anyhow::Result<Self> {
        let mut server = Command::new(std::env::current_exe()?)
            .args(["bench", "echo", transport.name()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the echo's other end cannot be started")?;
        let mut line = String::new();
        let stdout = server.stdout.take().context("its output is a pipe")?;
        tokio::time::timeout(PATIENCE, BufReader::new(stdout).read_line(&mut line)).await??;
        let address = line.trim().parse().context("the echo's other end did not say where it listens")?;
        Ok(Self { _server: Some(server), ..Self::connect(transport, address).await? })
    }

    async fn connect(transport: Transport, address: SocketAddr) -> anyhow::Result<Self> {
        let client = dial(&endpoint(transport, address), &dial_options()?).await?.io;
        Ok(Self { client, _server: None })
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

/// The other end: says where it listens, and echoes one connection to its end.
pub(super) async fn other_end(transport: Transport) -> anyhow::Result<()> {
    let listener = listen(transport).await?;
    crate::output::line(&listener.local_addr().to_string())?;
    // It ends when the measuring end hangs up.
    Ok(serve(listener.accept().await?.upgrade().await?).await?)
}

async fn listen(transport: Transport) -> anyhow::Result<Listener> {
    let tls = ServerTls::self_signed(&[Ipv4Addr::LOCALHOST.to_string()], None)?;
    let options = ListenOptions {
        transport,
        bind: (Ipv4Addr::LOCALHOST, 0).into(),
        path: DEFAULT_WS_PATH.to_owned(),
        tls: transport.is_encrypted().then_some(tls),
        admission: Admission::default(),
    };
    Ok(Listener::bind(options).await?)
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
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn every_message_comes_back() {
        for transport in [Transport::Tcp, Transport::Wss] {
            let listener = listen(transport).await.unwrap();
            let address = listener.local_addr();
            let mut server = JoinSet::new();
            server.spawn(async move { serve(listener.accept().await.unwrap().upgrade().await.unwrap()).await });
            let mut echo = Echo::connect(transport, address).await.unwrap();
            let round = echo.round(8, Duration::from_millis(5)).await.unwrap();
            assert!(round.latencies.len() >= 8);
        }
    }
}
