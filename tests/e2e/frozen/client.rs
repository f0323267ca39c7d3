//! FROZEN, never to be changed: an operator's program that speaks version 1.

use super::handshake::{Who, dial};
use super::messages::{ClassRequest, Failure, FromClient, decode, encode};
use super::session::{Event, Session};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;

/// A client in session.
pub(crate) struct Client {
    pub(crate) session: Session,
    events: Receiver<Event>,
}

impl Client {
    pub(crate) fn enter(address: SocketAddr, who: &Who) -> Self {
        let (session, events) = Session::start(dial(address, who).unwrap(), true);
        Self { session, events }
    }

    /// Asks a worker's job class.
    pub(crate) fn ask(&self, node: &str, class: &str, body: Value) -> Result<Value, Failure> {
        let request = ClassRequest { class: class.to_owned(), body };
        let asked = FromClient::Request { node: node.to_owned(), request };
        self.session.request(&encode(&asked)).map(|reply| decode(&reply).expect("the reply is a value"))
    }

    /// What came that no client of version 1 understands: a client is asked, told and sent nothing.
    pub(crate) fn strange(&self) -> Vec<String> {
        let came = self.events.try_iter().filter(|event| !matches!(event, Event::Closed | Event::Goodbye(_)));
        came.map(|event| format!("{event:?}")).chain(self.session.strange()).collect()
    }
}
