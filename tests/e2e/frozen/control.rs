//! FROZEN, never to be changed: a control node that speaks version 1. It drives every worker that comes, and does what a
//! test tells it.

use super::handshake::{Who, accept, dial};
use super::messages::{
    Accepted, Attach, AttachReply, ClassRequest, Failure, KvReply, KvRequest, LogRequest, OpenWorker, Order,
    PeerRequest, Report, StreamResult, ToControl, ToWorker, decode, encode,
};
use super::session::{Event, Session};
use super::worker::hex;
use ring::digest;
use serde_json::Value;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread;

/// The epoch under which it owns everybody.
const EPOCH: u64 = 7;

/// What the worker has said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    pub(crate) attached: Vec<Attach>,
    pub(crate) reports: Vec<Report>,
    pub(crate) kv: Vec<(String, KvRequest)>,
    /// Bytes of streams, and whether all of them came.
    pub(crate) streams: HashMap<u32, (Vec<u8>, bool)>,
    pub(crate) resets: Vec<Failure>,
    pub(crate) refused: Vec<String>,
    /// Offered versions of the peers that came.
    pub(crate) versions: Vec<(u16, u16)>,
}

/// A control node that listens.
pub(crate) struct Control {
    heard: Arc<Mutex<Heard>>,
    sessions: Arc<Mutex<Vec<Session>>>,
}

impl Control {
    /// Listens; lets in who proves the secret.
    pub(crate) fn listen(address: SocketAddr, me: Who) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let control = Self { heard: Arc::default(), sessions: Arc::default() };
        let (heard, sessions) = (Arc::clone(&control.heard), Arc::clone(&control.sessions));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                match accept(stream, &me) {
                    Ok((stream, hello)) => {
                        heard.lock().unwrap().versions.push(hello.versions);
                        let (session, events) = Session::start(stream, false);
                        sessions.lock().unwrap().push(session.clone());
                        let (heard, owner) = (Arc::clone(&heard), me.node.clone());
                        thread::spawn(move || serve(&session, &owner, &heard, &events));
                    }
                    Err(why) => heard.lock().unwrap().refused.push(why),
                }
            }
        });
        control
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }

    /// The newest session.
    pub(crate) fn session(&self) -> Session {
        self.sessions.lock().unwrap().last().expect("a worker has come").clone()
    }

    /// What came in any session that is not understood.
    pub(crate) fn strange(&self) -> Vec<String> {
        self.sessions.lock().unwrap().iter().flat_map(Session::strange).collect()
    }

    pub(crate) fn order(&self, order: Order) -> Result<(), Failure> {
        let reply = self.session().request(&encode(&ToWorker::Order { epoch: EPOCH, order }))?;
        assert_eq!(reply, b"", "an order's reply is empty");
        Ok(())
    }

    pub(crate) fn ask(&self, class: &str, body: Value) -> Result<Value, Failure> {
        let request = ToWorker::Request(ClassRequest { class: class.to_owned(), body });
        self.session().request(&encode(&request)).map(|reply| decode(&reply).expect("the reply is a value"))
    }

    /// Sends an archive; gives its digest and the stream on which the answer comes.
    pub(crate) fn push(&self, archive: &[u8]) -> (String, u32) {
        let digest = hex(digest::digest(&digest::SHA256, archive).as_ref());
        let head = OpenWorker::Archive { epoch: EPOCH, digest: digest.clone(), size: archive.len() as u64 };
        let session = self.session();
        let id = session.open(&encode(&head));
        session.send(id, archive);
        (digest, id)
    }

    /// What was answered on the stream of an archive.
    pub(crate) fn pushed(&self, id: u32) -> Result<StreamResult, String> {
        match self.heard().streams.get(&id) {
            Some((bytes, true)) => decode(bytes),
            other => Err(format!("{other:?}")),
        }
    }

    /// Asks for a task's output.
    pub(crate) fn logs(&self, request: LogRequest) -> u32 {
        self.session().open(&encode(&OpenWorker::Logs(request)))
    }
}

fn serve(session: &Session, owner: &str, heard: &Mutex<Heard>, events: &Receiver<Event>) {
    for event in events {
        match event {
            Event::Request { id, body, .. } => session.reply(id, request(session, owner, heard, &body)),
            Event::Data { id, bytes } => {
                heard.lock().unwrap().streams.entry(id).or_default().0.extend_from_slice(&bytes);
                session.grant(id, bytes.len());
            }
            Event::Finish(id) => heard.lock().unwrap().streams.entry(id).or_default().1 = true,
            Event::Reset { reason, .. } => heard.lock().unwrap().resets.push(reason),
            Event::Notify(_) | Event::Open { .. } => session.wonder(format!("from a worker: {event:?}")),
            Event::Cancel(_) | Event::Goodbye(_) | Event::Closed => {}
        }
    }
}

fn request(session: &Session, owner: &str, heard: &Mutex<Heard>, body: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut heard = heard.lock().unwrap();
    match decode(body) {
        Ok(ToControl::Attach(attach)) => {
            heard.attached.push(attach);
            Ok(encode(&AttachReply::Accepted(Accepted {
                epoch: EPOCH,
                partition: 1,
                short_id: 4,
                generation: 1,
                owner: owner.to_owned(),
                owner_name: "old".to_owned(),
            })))
        }
        Ok(ToControl::Report(report)) => {
            heard.reports.push(report);
            Ok(Vec::new())
        }
        Ok(ToControl::Kv(kv)) => {
            heard.kv.push((kv.task, kv.request));
            Ok(encode(&KvReply::Written { revision: 12, created: true }))
        }
        Err(why) => {
            session.wonder(format!("a request: {why}"));
            Err(Failure::new("unsupported", &why))
        }
    }
}

/// A control node of version 1 that has dialled another.
pub(crate) struct Peer {
    pub(crate) session: Session,
    events: Receiver<Event>,
}

impl Peer {
    pub(crate) fn enter(address: SocketAddr, who: &Who) -> Self {
        let (session, events) = Session::start(dial(address, who).unwrap(), true);
        Self { session, events }
    }

    /// Asks for a worker that the other drives.
    pub(crate) fn ask(&self, node: &str, class: &str, body: Value) -> Result<Value, Failure> {
        let request = ClassRequest { class: class.to_owned(), body };
        let asked = PeerRequest::Worker { node: node.to_owned(), request };
        self.session.request(&encode(&asked)).map(|reply| decode(&reply).expect("the reply is a value"))
    }

    /// What came that is not understood: of requests, it knows only those that need no Raft.
    pub(crate) fn strange(&self) -> Vec<String> {
        let came = self.events.try_iter().filter(|event| !matches!(event, Event::Closed | Event::Goodbye(_)));
        came.map(|event| format!("{event:?}")).chain(self.session.strange()).collect()
    }
}
