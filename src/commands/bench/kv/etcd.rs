//! etcd as a peer: three nodes of the installed program, and its gRPC calls over plain HTTP/2 by hand.
//!
//! One request at a time on a connection, header fields out of the table that the first one filled (RFC 7541), the windows of
//! RFC 9113 §5.2 kept: lighter than any library.

use super::http2::Connection;
use super::node::Node;
use super::{NODES, VALUE, What, key};
use crate::commands::bench::children::free_address;
use anyhow::Context as _;
use std::net::SocketAddr;
use std::path::Path;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// Three nodes that know each other; none runs yet.
pub(super) fn nodes(folder: &Path) -> anyhow::Result<Vec<Node>> {
    let mut places = Vec::new();
    for number in 1..=NODES {
        places.push((format!("etcd-{number}"), free_address()?, free_address()?));
    }
    let cluster: Vec<String> = places.iter().map(|(name, _, peers)| format!("{name}=http://{peers}")).collect();
    let cluster = cluster.join(",");
    let node = |(name, clients, peers): (String, SocketAddr, SocketAddr)| {
        let (clients, peers) = (format!("http://{clients}"), format!("http://{peers}"));
        let arguments = [
            ("--name", name.clone()),
            ("--data-dir", folder.join(&name).display().to_string()),
            ("--listen-client-urls", clients.clone()),
            ("--advertise-client-urls", clients),
            ("--listen-peer-urls", peers.clone()),
            ("--initial-advertise-peer-urls", peers),
            ("--initial-cluster", cluster.clone()),
            ("--initial-cluster-token", "bench".to_owned()),
            ("--logger", "zap".to_owned()),
            ("--log-level", "error".to_owned()),
        ];
        let arguments = arguments.into_iter().flat_map(|(name, value)| [name.into(), value.into()]).collect();
        let log = folder.join(format!("{name}.log"));
        (arguments, log)
    };
    Ok(places
        .into_iter()
        .map(|place| {
            let address = place.1;
            let (arguments, log) = node(place);
            let advice = "apt-get install etcd-server";
            Node { program: "etcd", arguments, advice, log, address, child: None }
        })
        .collect())
}

/// One client.
pub(super) struct Client {
    connection: Connection,
    message: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { connection: Connection::open(address).await?, message: Vec::new() })
    }

    /// One request and its answer.
    pub(super) async fn run(&mut self, what: What, number: u32) -> anyhow::Result<()> {
        self.message.clear();
        field(&mut self.message, 1, key(number).as_bytes());
        let path = match what {
            What::Put => {
                field(&mut self.message, 2, &[b'x'; VALUE]);
                PUT
            }
            What::Get => RANGE,
            // The field 7, `serializable`: true.
            What::GetLocal => {
                self.message.extend_from_slice(&[7 << 3, 1]);
                RANGE
            }
            What::Livez => anyhow::bail!("etcd is not asked for that"),
        };
        let answer = self.connection.call(path, &self.message).await?;
        // A listing that found the key holds it and its value.
        let least = if what == What::Put { 1 } else { VALUE };
        anyhow::ensure!(answer.len() >= least, "etcd answered with {} bytes", answer.len());
        Ok(())
    }

    /// Whether the node that is asked leads.
    pub(super) async fn leads(&mut self) -> anyhow::Result<bool> {
        let answer = self.connection.call(STATUS, &[]).await?;
        let header = find(answer, 1).and_then(|field| field.bytes()).context("etcd's status has no header")?;
        let member = find(header, 2).and_then(|field| field.number());
        Ok(member.is_some() && member == find(answer, 4).and_then(|field| field.number()))
    }
}

/// Appends a field of bytes.
fn field(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | 2);
    let mut length = bytes.len();
    while length > 0x7f {
        message.push(length as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(bytes);
}

/// A field's content.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    const fn number(&self) -> Option<u64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    const fn bytes(&self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Some(*bytes) } else { None }
    }
}

/// The first field of this number; a message that is cut off has no more.
fn find(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut message)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        if tag >> 3 == wanted {
            return Some(field);
        }
    }
    None
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(first & 0x7f) << shift;
        if *first < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_and_found() {
        let mut message = vec![1 << 3, 0xac, 0x02];
        field(&mut message, 2, &[7; 300]);
        assert_eq!(find(&message, 1).unwrap().number(), Some(300));
        assert_eq!(find(&message, 2).unwrap().bytes(), Some(&[7; 300][..]));
        assert!(find(&message, 3).is_none() && find(&message[..5], 2).is_none());
    }
}
