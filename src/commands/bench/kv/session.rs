//! Our store over client sessions, each with a connection of its own.

use super::{VALUE, What, key};
use crate::RELEASE;
use crate::commands::bench::bare;
use crate::commands::bench::children::{CLUSTER, Children};
use longshore_transport::{Identity, Inbound, Keyring, Session, SessionOptions, dial, prove};
use longshore_wire::client::{ClientKv, FromClient};
use longshore_wire::kv::{Consistency, KvReply, KvRequest};
use longshore_wire::{NodeId, Role, Transport, decode, encode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use ulid::Ulid;

/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(30);

/// Opens sessions.
#[derive(Clone)]
pub(super) struct Dialler(Arc<Keyring>);

impl Dialler {
    pub(super) fn new(children: &Children) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Keyring::new(children.secret(Role::Client)?, Role::Client.name().to_owned()))))
    }

    pub(super) async fn connect(&self, address: SocketAddr) -> anyhow::Result<Client> {
        let node = NodeId::from_u128(Ulid::generate().into());
        let identity = Identity::new(node, Role::Client, CLUSTER, RELEASE);
        let link = dial(&bare::endpoint(Transport::Tcp, address), &bare::dial_options()?).await?;
        let proven = prove(link, &identity, &self.0, Role::Control).await?;
        let (session, inbound) = Session::start(proven, SessionOptions::default());
        Ok(Client { session, _inbound: inbound })
    }
}

/// One session with a control node.
pub(super) struct Client {
    session: Session,
    /// Nothing comes in; dropping it would end the session.
    _inbound: Inbound,
}

impl Client {
    /// One operation.
    pub(super) async fn run(&mut self, what: What, number: u32) -> anyhow::Result<()> {
        let key = key(number);
        let request = match what {
            What::Put => KvRequest::Put { key, value: vec![b'x'; VALUE] },
            What::Get => KvRequest::Get { key, consistency: Consistency::Linearizable },
            What::GetLocal => KvRequest::Get { key, consistency: Consistency::Local },
            What::Livez => anyhow::bail!("sessions do not ask for that"),
        };
        let asked = FromClient::Kv(ClientKv { id: None, repeat: false, request });
        let reply = self.session.request(encode(&asked), DEADLINE).await?;
        let fits = match decode::<KvReply>(&reply)? {
            KvReply::Written { .. } => what == What::Put,
            KvReply::Entry(Some(entry)) => what != What::Put && entry.value.len() == VALUE,
            _ => false,
        };
        anyhow::ensure!(fits, "the store answered something else");
        Ok(())
    }
}
