//! The floors of a request: length-framed messages over the same kind of connection, and nothing else.
//!
//! ```text
//! echo    this process ═══════════════▶ echo
//! relay   this process ═════▶ relay ═════▶ echo
//! ```
//!
//! Every other end is a process of its own, as a worker and a control node are: two tasks of one runtime would wake each
//! other without the kernel.

mod ends;

use super::figures::Round;
use super::load::in_a_task;
use super::push::bulk;
use crate::args::bench::{Kind, OtherEnd};
use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _, BytesMut};
use longshore_transport::{
    Admission, ClientTls, ClientTlsOptions, DialOptions, Io, ListenOptions, Listener, ServerTls, dial,
};
use longshore_wire::uri::{DEFAULT_WS_PATH, TlsVerify};
use longshore_wire::{Endpoint, Transport};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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

/// A process at the other end; killed when this is dropped.
pub(super) struct Other {
    /// Where it listens.
    pub(super) address: SocketAddr,
    _process: Child,
}

impl Other {
    /// Starts one, and waits until it listens.
    pub(super) async fn start(kind: Kind, transport: Transport, more: &[String]) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["bench", "other-end", kind.name(), transport.name()])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the other end cannot be started")?;
        let mut line = String::new();
        let stdout = process.stdout.take().context("its output is a pipe")?;
        tokio::time::timeout(PATIENCE, BufReader::new(stdout).read_line(&mut line)).await??;
        let address = line.trim().parse().context("the other end did not say where it listens")?;
        Ok(Self { address, _process: process })
    }
}

/// The measuring end of a connection to an echoing process, with or without a relay between.
pub(super) struct Bare {
    /// Absent while a round runs, and after one has failed.
    client: Option<Box<dyn Io>>,
    _others: Vec<Other>,
}

impl Bare {
    /// Starts an echo and connects to it.
    pub(super) async fn echo(transport: Transport) -> anyhow::Result<Self> {
        let echo = Other::start(Kind::Echo, transport, &[]).await?;
        Self::connect(transport, vec![echo]).await
    }

    /// Starts an echo and a relay to it, and connects to the relay.
    pub(super) async fn relay(transport: Transport) -> anyhow::Result<Self> {
        let echo = Other::start(Kind::Echo, transport, &[]).await?;
        let relay = Other::start(Kind::Relay, transport, &["--to".to_owned(), echo.address.to_string()]).await?;
        Self::connect(transport, vec![relay, echo]).await
    }

    async fn connect(transport: Transport, others: Vec<Other>) -> anyhow::Result<Self> {
        let first = others.first().context("there is an other end")?;
        let client = connect(transport, first.address).await?;
        Ok(Self { client: Some(client), _others: others })
    }

    /// Keeps `in_flight` messages under way for `time`.
    pub(super) async fn round(&mut self, in_flight: u32, time: Duration) -> anyhow::Result<Round> {
        let mut client = self.client.take().context("the connection was lost in a former round")?;
        let (round, client) =
            in_a_task(async move { Ok((round(&mut *client, in_flight, time).await, client)) }).await?;
        self.client = Some(client);
        round
    }
}

/// A bare connection.
pub(super) async fn connect(transport: Transport, address: SocketAddr) -> anyhow::Result<Box<dyn Io>> {
    Ok(dial(&endpoint(transport, address), &dial_options()?).await?.io)
}

async fn round(client: &mut dyn Io, in_flight: u32, time: Duration) -> anyhow::Result<Round> {
    let start = Instant::now();
    let mut round = Round { latencies: Vec::new(), elapsed: Duration::ZERO };
    let mut sent = VecDeque::new();
    let mut input = BytesMut::with_capacity(BUFFER);
    let mut output = BytesMut::with_capacity(BUFFER);
    (0..in_flight).for_each(|_| message(&mut output, &mut sent));
    while !sent.is_empty() {
        if !output.is_empty() {
            client.write_all(&output).await?;
            client.flush().await?;
            output.clear();
        }
        anyhow::ensure!(client.read_buf(&mut input).await? > 0, "the other end hung up");
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

/// The other end: says where it listens, and serves one connection to its end.
pub(super) async fn other_end(args: &OtherEnd) -> anyhow::Result<()> {
    let listener = listen(args.transport, Ipv4Addr::LOCALHOST.into()).await?;
    crate::output::line(&listener.local_addr().to_string())?;
    let onward = match args.to {
        Some(address) => Some(connect(args.transport, address).await?),
        None => None,
    };
    // It ends when the measuring end hangs up.
    let link = listener.accept().await?.upgrade().await?;
    let (kind, secret) = (args.kind, args.secret.clone());
    let end = async move {
        match kind {
            Kind::Echo => Ok(ends::echo(link.io).await?),
            Kind::Relay => Ok(ends::relay(link.io, onward.context("a relay needs --to")?).await?),
            Kind::Copy => bulk::give_copies(link.io).await,
            Kind::Stream => bulk::give_streams(link, secret.as_deref().context("a session needs --secret")?).await,
        }
    };
    in_a_task(end).await
}

/// Listens on a port that the system chooses.
pub(super) async fn listen(transport: Transport, ip: IpAddr) -> anyhow::Result<Listener> {
    let tls = ServerTls::self_signed(&[ip.to_string()], None)?;
    let options = ListenOptions {
        transport,
        bind: (ip, 0).into(),
        path: DEFAULT_WS_PATH.to_owned(),
        tls: transport.is_encrypted().then_some(tls),
        admission: Admission::default(),
    };
    Ok(Listener::bind(options).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn every_message_comes_back_through_the_relay() {
        for transport in [Transport::Tcp, Transport::Wss] {
            let mut ends = JoinSet::new();
            let echo = listen(transport, Ipv4Addr::LOCALHOST.into()).await.unwrap();
            let relay = listen(transport, Ipv4Addr::LOCALHOST.into()).await.unwrap();
            let (to, address) = (echo.local_addr(), relay.local_addr());
            ends.spawn(async move { ends::echo(echo.accept().await.unwrap().upgrade().await.unwrap().io).await });
            ends.spawn(async move {
                let onward = connect(transport, to).await.unwrap();
                ends::relay(relay.accept().await.unwrap().upgrade().await.unwrap().io, onward).await
            });
            let mut client = connect(transport, address).await.unwrap();
            let round = round(&mut *client, 8, Duration::from_millis(5)).await.unwrap();
            assert!(round.latencies.len() >= 8);
        }
    }
}
