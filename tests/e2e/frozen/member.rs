//! FROZEN, never to be changed: a control node of version 1 that has joined the group. It votes for the leader, keeps
//! nothing of the log, and drives what it is given; its workers are in here.

use super::handshake::{Who, dial};
use super::messages::{ClassRequest, Failure, Join, PeerRequest, Uri, decode, encode};
use super::session::{Event, Session};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread;

/// First byte of Raft's messages.
const FORMAT: u8 = 1;

pub(crate) struct Member {
    session: Session,
    asked: Arc<Mutex<Vec<(String, ClassRequest)>>>,
}

impl Member {
    /// Comes to the leader and joins.
    pub(crate) fn join(address: SocketAddr, who: &Who, (name, boot): (&str, &str), at: Uri) -> Self {
        let (session, events) = Session::start(dial(address, who).unwrap(), true);
        let asked = Arc::default();
        let (serving, kept) = (session.clone(), Arc::clone(&asked));
        thread::spawn(move || serve(&serving, &kept, &events));
        let (node, name, boot) = (who.node.clone(), name.to_owned(), boot.to_owned());
        let join = Join { node, name, boot, addresses: vec![at], release: "0.1.0".to_owned() };
        let reply = session.request(&encode(&PeerRequest::Join(join))).expect("a joiner is taken in");
        assert_eq!(reply, b"", "the reply is empty");
        Self { session, asked }
    }

    /// What was asked of its workers.
    pub(crate) fn asked(&self) -> Vec<(String, ClassRequest)> {
        self.asked.lock().unwrap().clone()
    }

    /// Asks for a worker that the other drives.
    pub(crate) fn ask(&self, node: &str, class: &str, body: Value) -> Result<Value, Failure> {
        let request = ClassRequest { class: class.to_owned(), body };
        let asked = PeerRequest::Worker { node: node.to_owned(), request };
        self.session.request(&encode(&asked)).map(|reply| decode(&reply).expect("the reply is a value"))
    }

    /// What came that is not understood.
    pub(crate) fn strange(&self) -> Vec<String> {
        self.session.strange()
    }
}

fn serve(session: &Session, asked: &Mutex<Vec<(String, ClassRequest)>>, events: &Receiver<Event>) {
    for event in events {
        match event {
            Event::Request { id, body, .. } => session.reply(id, request(session, asked, &body)),
            Event::Notify(_) | Event::Open { .. } => session.wonder(format!("from a control node: {event:?}")),
            _ => {}
        }
    }
}

fn request(session: &Session, asked: &Mutex<Vec<(String, ClassRequest)>>, body: &[u8]) -> Result<Vec<u8>, Failure> {
    match decode(body) {
        Ok(PeerRequest::Raft { rpc, body }) if rpc == "append" && body.first() == Some(&FORMAT) => {
            Ok([&[FORMAT][..], &encode(&"all")].concat())
        }
        Ok(PeerRequest::Worker { node, request }) => {
            let ClassRequest { class, body } = request.clone();
            asked.lock().unwrap().push((node, request));
            match class.as_str() {
                "echo" => Ok(encode(&body)),
                _ => Err(Failure::new("not_found", "no worker of this control node has such a job class")),
            }
        }
        other => {
            session.wonder(format!("a request: {other:?}"));
            Err(Failure::new("unsupported", "this control node speaks version 1"))
        }
    }
}
