//! A worker that the test plays: enough of the conversation to be driven.

use crate::rig::{self, Node};
use longshore_transport::{Identity, Inbound, Incoming, Keyring, Link, Secret, Session, SessionOptions, dial, prove};
use longshore_wire::client::FromClient;
use longshore_wire::edge::{
    Accepted, Attach, AttachReply, ClassRequest, OpenControl, OpenWorker, Order, Report, StreamResult, ToControl,
    ToWorker,
};
use longshore_wire::relay::OutcomeReply;
use longshore_wire::task::{NodeState, TaskState, TaskStatus};
use longshore_wire::{ClusterUri, Digest, Endpoint, Epoch, Failure, NodeId, RequestId, Role, decode, encode};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const WAIT: Duration = Duration::from_secs(10);

pub(crate) struct Player {
    pub(crate) id: NodeId,
    pub(crate) tasks: Vec<TaskStatus>,
    pub(crate) archives: Vec<Digest>,
    pub(crate) starts: usize,
}

pub(crate) enum Attached {
    Yes(Box<Accepted>, Session, Inbound),
    Elsewhere(NodeId, Session),
    Wait,
}

fn endpoint(uri: &ClusterUri) -> Endpoint {
    Endpoint {
        transport: uri.transport.unwrap(),
        address: format!("{}:{}", uri.host, uri.port.unwrap()).parse().unwrap(),
        host: uri.host.clone(),
        path: "/longshore".to_owned(),
        tls_verify: None,
    }
}

pub(crate) async fn connect(id: NodeId, uri: &ClusterUri, role: Role) -> Option<(Session, Inbound)> {
    let link = dial(&endpoint(uri), &rig::dial()).await.ok()?;
    conversation(id, link, role).await
}

async fn conversation(id: NodeId, link: Link, role: Role) -> Option<(Session, Inbound)> {
    converse_as(id, link, role, role.name()).await
}

/// The same with another credential of the workers' secret.
pub(crate) async fn connect_as(
    id: NodeId,
    uri: &ClusterUri,
    role: Role,
    credential: &str,
) -> Option<(Session, Inbound)> {
    let link = dial(&endpoint(uri), &rig::dial()).await.ok()?;
    converse_as(id, link, role, credential).await
}

pub(crate) async fn converse_as(id: NodeId, link: Link, role: Role, credential: &str) -> Option<(Session, Inbound)> {
    let me = Identity::new(id, role, "test", "test");
    let keyring = Keyring::new(Secret::from_bytes(rig::WORKER.as_bytes()).unwrap(), credential.to_owned());
    let proven = prove(link, &me, &keyring, Role::Control).await.ok()?;
    Some(Session::start(proven, SessionOptions::default()))
}

impl Player {
    pub(crate) fn new(number: u128) -> Self {
        Self { id: NodeId::from_u128(1 << 80 | number), tasks: vec![], archives: vec![], starts: 0 }
    }

    fn report(&self) -> Report {
        Report { state: NodeState::Ready, tasks: self.tasks.clone(), archives: self.archives.clone() }
    }

    /// Asks to be driven over a session.
    pub(crate) async fn attach(&self, session: Session, inbound: Inbound) -> Attached {
        let attach = Attach {
            name: format!("w{}", self.id.as_u128() & 0xff),
            boot: RequestId::from_u128(7),
            labels: "core;group=a".parse().unwrap(),
            release: "test".to_owned(),
            runtimes: vec!["exec".to_owned()],
            epoch: Epoch(0),
            published: vec![],
            report: self.report(),
        };
        let reply = session.request(encode(&ToControl::Attach(attach)), WAIT).await;
        match reply.map(|reply| decode::<AttachReply>(&reply).unwrap()) {
            Ok(AttachReply::Accepted(accepted)) => Attached::Yes(Box::new(accepted), session, inbound),
            Ok(AttachReply::Elsewhere { owner, .. }) => Attached::Elsewhere(owner, session),
            Ok(AttachReply::Wait { .. }) | Err(_) => Attached::Wait,
        }
    }

    /// Attaches through this node, by tunnel where it is not the owner.
    pub(crate) async fn arrive(&self, uri: &ClusterUri) -> (Box<Accepted>, Session, Inbound, Option<Session>) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while tokio::time::Instant::now() < deadline {
            let Some((session, inbound)) = connect(self.id, uri, Role::Worker).await else { continue };
            match self.attach(session, inbound).await {
                Attached::Yes(accepted, session, inbound) => return (accepted, session, inbound, None),
                Attached::Elsewhere(to, outer) => {
                    let Ok(stream) = outer.open(encode(&OpenControl::Tunnel { to })).await else { continue };
                    let link = Link::tunnel(stream);
                    let Some((session, inbound)) = conversation(self.id, link, Role::Worker).await else { continue };
                    if let Attached::Yes(accepted, session, inbound) = self.attach(session, inbound).await {
                        return (accepted, session, inbound, Some(outer));
                    }
                }
                Attached::Wait => (),
            }
        }
        panic!("the worker found no owner");
    }

    /// Does what the proxy orders until the session ends.
    pub(crate) async fn obey(&mut self, session: &Session, inbound: &mut Inbound) {
        while let Some(incoming) = inbound.next().await {
            match incoming {
                Incoming::Request(request) => match decode::<ToWorker>(&request.body).unwrap() {
                    ToWorker::Order { order, .. } => {
                        self.order(order);
                        request.reply(Ok(vec![]));
                        let _ = session.request(encode(&ToControl::Report(self.report())), WAIT).await;
                    }
                    ToWorker::Request(ClassRequest { class, body }) => {
                        let echo = class == "echo";
                        let unknown = || Failure::new(longshore_wire::Code::NotFound, "no such class");
                        request.reply(if echo { Ok(encode(&body)) } else { Err(unknown()) });
                    }
                    ToWorker::Relay { class, body, .. } => {
                        let unknown = || Failure::new(longshore_wire::Code::NotFound, "no such class");
                        request.reply(if class == "echo" { Ok(body) } else { Err(unknown()) });
                    }
                    ToWorker::Outcome(_) => request.reply(Ok(encode(&OutcomeReply::Unknown))),
                },
                Incoming::Open { head, mut stream } => match decode::<OpenWorker>(&head).unwrap() {
                    OpenWorker::Archive { digest, size, .. } => {
                        let mut bytes = Vec::new();
                        stream.read_to_end(&mut bytes).await.unwrap();
                        assert_eq!(bytes.len() as u64, size);
                        self.archives.push(digest);
                        stream.write_all(&encode(&StreamResult::Ok)).await.unwrap();
                        stream.shutdown().await.unwrap();
                    }
                    OpenWorker::Logs(_) => {
                        stream.write_all(b"a line\n").await.unwrap();
                        stream.shutdown().await.unwrap();
                    }
                },
                Incoming::Notify(_) => (),
            }
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Start(spec) => {
                self.starts += 1;
                self.tasks.retain(|task| task.task != spec.task);
                self.tasks.push(TaskStatus {
                    task: spec.task,
                    revision: spec.revision,
                    state: TaskState::Running,
                    restarts: 0,
                    exit_code: None,
                    since_ms: 1,
                    message: None,
                });
            }
            Order::Stop { task } => self.tasks.retain(|each| each.task != task),
            Order::DropArchives { digests } => self.archives.retain(|digest| !digests.contains(digest)),
        }
    }
}

/// Packs and deploys an app of one file.
pub(crate) async fn deploy(node: &Node) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let toml = "name = \"hello\"\nruntime = \"exec\"\n[flows.main]\nentry = [\"./run.sh\"]\n";
    std::fs::write(folder.path().join("app.toml"), toml).unwrap();
    let script = folder.path().join("run.sh");
    std::fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut tar = Vec::new();
    longshore_archive::pack(folder.path(), &longshore_archive::PackOptions::default(), &mut tar).unwrap();
    let deployed = node.ask("PUT /v1/apps", "", &tar).await;
    assert_eq!(deployed.status, 200, "{:?}", String::from_utf8_lossy(&deployed.body));
    deployed.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_driven() {
    let node = rig::start("c1", &[]).await;
    let mut player = Player::new(1);
    let (accepted, session, mut inbound, outer) = player.arrive(&node.uri).await;
    assert_eq!((accepted.owner, outer.is_none()), (node.control.node_id(), true));
    let id = player.id;
    let driven = tokio::task::JoinSet::from_iter([{
        let session = session.clone();
        async move {
            player.obey(&session, &mut inbound).await;
            player
        }
    }]);
    node.until("/v1/nodes/w1", |worker| worker["state"] == "ready" && worker["transport"] == "tcp").await;
    assert_eq!(deploy(&node).await["version"], 1);
    let started = node.ask("POST /v1/apps/hello/flows/main", "", br#"{"instance":"hi","where":"core"}"#).await;
    assert_eq!(started.status, 201);
    let running = |instance: &Value| instance["tasks"][0]["state"] == "running";
    let instance = node.until("/v1/instances/hi", running).await;
    let task = instance["tasks"][0]["task"].as_str().unwrap().to_owned();
    assert_eq!(node.ask(&format!("GET /v1/tasks/{task}/logs"), "", b"").await.status, 200);
    requests(&node, id).await;
    assert_eq!(node.ask("DELETE /v1/nodes/w1", "", b"").await.status, 409);
    assert_eq!(node.ask("POST /v1/instances/hi/stop", "", b"{}").await.status, 200);
    node.until("/v1/instances/hi", |instance| instance["tasks"].as_array().is_some_and(Vec::is_empty)).await;

    session.abort();
    let player = driven.join_all().await.pop().unwrap();
    assert_eq!(player.starts, 1);
    node.until("/v1/nodes/w1", |worker| worker["state"] == "not_connected").await;
    let asked = node.ask("POST /v1/nodes/w1/request", "", br#"{"class":"echo"}"#).await;
    assert_eq!((asked.status, asked.json()["code"].as_str()), (503, Some("not_connected")));
    node.stop().await;
}

async fn requests(node: &Node, worker: NodeId) {
    let asked = node.ask("POST /v1/nodes/w1/request", "", br#"{"class":"echo","body":{"a":1}}"#).await;
    let answer = asked.json();
    assert_eq!((&answer["outcome"], &answer["reply"]), (&"done".into(), &json!({"a": 1})));
    let unknown = node.ask("POST /v1/nodes/w1/request", "", br#"{"class":"none"}"#).await;
    assert_eq!(unknown.json()["code"], "not_found");

    let (client, _inbound) = connect(NodeId::from_u128(99), &node.uri, Role::Client).await.unwrap();
    let request =
        FromClient::Request { node: worker, request: ClassRequest { class: "echo".to_owned(), body: json!(5) } };
    let reply = client.request(encode(&request), WAIT).await.unwrap();
    assert_eq!(decode::<Value>(&reply).unwrap(), json!(5));
}
