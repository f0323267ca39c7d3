//! FROZEN, never to be changed: a worker that speaks version 1. It takes archives, says that it runs what it is ordered to
//! run, and answers `echo`.

use super::carrier::Carrier;
use super::handshake::{Who, dial_over};
use super::messages::{
    Accepted, Attach, AttachReply, ClassRequest, Failure, Goodbye, KvReply, KvRequest, LogRequest, NotifyWorker,
    OpenWorker, Order, Report, StreamResult, TaskKv, TaskStatus, ToControl, ToWorker, decode, encode,
};
use super::session::{Event, Session};
use ring::digest;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread;

/// What a task's output holds.
pub(crate) const OUTPUT: &[u8] = b"a line of version 1\n";

/// What has happened to the worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) orders: Vec<(u64, Order)>,
    /// Digest and size of the archives that came whole.
    pub(crate) archives: Vec<(String, u64)>,
    pub(crate) requests: Vec<ClassRequest>,
    pub(crate) logs: Vec<LogRequest>,
    pub(crate) notices: Vec<NotifyWorker>,
    pub(crate) goodbye: Option<Goodbye>,
    pub(crate) tasks: Vec<TaskStatus>,
}

/// A worker in session.
pub(crate) struct Worker {
    pub(crate) session: Session,
    pub(crate) reply: AttachReply,
    seen: Arc<Mutex<Seen>>,
}

impl Worker {
    /// Comes with this name and asks to be driven.
    pub(crate) fn enter(address: SocketAddr, who: &Who, name: &str, boot: &str) -> Self {
        Self::enter_over(Carrier::Tcp, address, who, name, boot)
    }

    /// As [`Self::enter`], over this carrier.
    pub(crate) fn enter_over(carrier: Carrier, address: SocketAddr, who: &Who, name: &str, boot: &str) -> Self {
        let (session, events) = Session::start(dial_over(carrier, address, who).unwrap(), true);
        let attach = ToControl::Attach(Attach {
            name: name.to_owned(),
            boot: boot.to_owned(),
            labels: "old;site=edge".to_owned(),
            release: "0.1.0".to_owned(),
            runtimes: vec!["exec".to_owned()],
            epoch: 0,
            published: Vec::new(),
            report: report(&Seen::default()),
        });
        let reply = session.request(&encode(&attach)).expect("an attach is answered");
        let reply = decode(&reply).expect("the answer is understood");
        let seen = Arc::<Mutex<Seen>>::default();
        let mut desk = Desk { session: session.clone(), seen: Arc::clone(&seen), arriving: HashMap::new() };
        thread::spawn(move || desk.run(&events));
        let worker = Self { session, reply, seen };
        worker.session.request(&encode(&ToControl::Report(report(&worker.seen())))).expect("a report is taken");
        worker
    }

    /// What it was told when it came.
    pub(crate) fn accepted(&self) -> &Accepted {
        match &self.reply {
            AttachReply::Accepted(accepted) => accepted,
            other => panic!("not accepted: {other:?}"),
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// A task's operation on the cluster's KV.
    pub(crate) fn kv(&self, task: &str, request_id: &str, request: KvRequest) -> Result<KvReply, Failure> {
        let asked = TaskKv { task: task.to_owned(), request_id: request_id.to_owned(), request };
        let reply = self.session.request(&encode(&ToControl::Kv(asked)))?;
        Ok(decode(&reply).expect("the reply is understood"))
    }
}

fn report(seen: &Seen) -> Report {
    let archives = seen.archives.iter().map(|(digest, _)| digest.clone()).collect();
    Report { state: "ready".to_owned(), tasks: seen.tasks.clone(), archives }
}

/// Takes what the owner sends.
struct Desk {
    session: Session,
    seen: Arc<Mutex<Seen>>,
    arriving: HashMap<u32, (OpenWorker, Vec<u8>)>,
}

impl Desk {
    fn run(&mut self, events: &Receiver<Event>) {
        for event in events {
            match event {
                Event::Request { id, body, .. } => self.request(id, &body),
                Event::Notify(body) => match decode(&body) {
                    Ok(notice) => self.seen.lock().unwrap().notices.push(notice),
                    Err(why) => self.session.wonder(format!("a notice: {why}")),
                },
                Event::Open { id, head } => self.open(id, &head),
                Event::Data { id, bytes } => {
                    if let Some((_, held)) = self.arriving.get_mut(&id) {
                        held.extend_from_slice(&bytes);
                        self.session.grant(id, bytes.len());
                    }
                }
                Event::Finish(id) => self.finish(id),
                Event::Reset { id, .. } => drop(self.arriving.remove(&id)),
                Event::Goodbye(goodbye) => self.seen.lock().unwrap().goodbye = Some(goodbye),
                Event::Cancel(_) | Event::Closed => {}
            }
        }
    }

    fn request(&mut self, id: u32, body: &[u8]) {
        let reply = match decode(body) {
            Ok(ToWorker::Order { epoch, order }) => {
                self.order(&order);
                self.seen.lock().unwrap().orders.push((epoch, order));
                Ok(Vec::new())
            }
            Ok(ToWorker::Request(asked)) => {
                self.seen.lock().unwrap().requests.push(asked.clone());
                match asked.class.as_str() {
                    "echo" => Ok(encode(&asked.body)),
                    _ => Err(Failure::new("not_found", "this worker of version 1 has no such job class")),
                }
            }
            Err(why) => {
                self.session.wonder(format!("a request: {why}"));
                Err(Failure::new("unsupported", &why))
            }
        };
        self.session.reply(id, reply);
        self.report();
    }

    fn order(&self, order: &Order) {
        let mut seen = self.seen.lock().unwrap();
        match order {
            Order::Start(spec) => {
                seen.tasks.retain(|status| status.task != spec.task);
                seen.tasks.push(TaskStatus {
                    task: spec.task.clone(),
                    revision: spec.revision,
                    state: "running".to_owned(),
                    restarts: 0,
                    exit_code: None,
                    since_ms: 1,
                    message: None,
                });
            }
            Order::Stop { task } => seen.tasks.retain(|status| status.task != *task),
            Order::DropArchives { digests } => seen.archives.retain(|(digest, _)| !digests.contains(digest)),
        }
    }

    /// Says how things stand; the answer does not matter, and this thread must not wait for it.
    fn report(&self) {
        let (session, report) = (self.session.clone(), report(&self.seen.lock().unwrap()));
        thread::spawn(move || session.request(&encode(&ToControl::Report(report))));
    }

    fn open(&mut self, id: u32, head: &[u8]) {
        match decode(head) {
            Ok(OpenWorker::Logs(asked)) => {
                self.seen.lock().unwrap().logs.push(asked);
                self.session.send(id, OUTPUT);
            }
            Ok(archive @ OpenWorker::Archive { .. }) => drop(self.arriving.insert(id, (archive, Vec::new()))),
            Err(why) => {
                self.session.wonder(format!("a stream: {why}"));
                self.session.reset(id, &Failure::new("unsupported", &why));
            }
        }
    }

    fn finish(&mut self, id: u32) {
        let Some((OpenWorker::Archive { digest, size, .. }, bytes)) = self.arriving.remove(&id) else { return };
        let found = hex(digest::digest(&digest::SHA256, &bytes).as_ref());
        let result = if found == digest && bytes.len() as u64 == size {
            self.seen.lock().unwrap().archives.push((digest, size));
            StreamResult::Ok
        } else {
            StreamResult::Failed(Failure::new("corrupt", &format!("{} bytes with digest {found}", bytes.len())))
        };
        self.session.send(id, &encode(&result));
        self.report();
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
