//! Runs the commands of scripts. Nodes are called by name; ids, boots and log indexes are given out in order.
//!
//! Arguments are words; quotes hold blanks together; `key=value` words are options. `repeat` proposes the last command
//! again under its request id, `reload` goes on with what a snapshot gives back, `skip N` lets the log index grow.

use longshore_state::{
    CloneAlarm, Command, ControlNode, Holder, InstanceSpec, Node, Outcome, Proposal, Reply, State, StoredSecret, Task,
    placement, snapshot,
};
use longshore_wire::app::{Flow, MANIFEST_FORMAT, Manifest};
use longshore_wire::credential::Verifier;
use longshore_wire::kv::{Expect, KvEntry, KvRequest};
use longshore_wire::task::{NodeState, TaskState, TaskStatus};
use longshore_wire::{ClusterId, Digest, Epoch, NodeId, RequestId, TaskId};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[path = "kv.rs"]
mod kv;

#[derive(Default)]
pub(crate) struct Runner {
    state: State,
    /// Added to the log index by `skip`.
    index: u64,
    requests: u128,
    ids: BTreeMap<String, NodeId>,
    last: Option<Proposal>,
    answers: String,
}

/// One line: its words without options, and its options.
struct Line {
    words: Vec<String>,
    options: BTreeMap<String, String>,
}

impl Line {
    fn parse(line: &str) -> Self {
        let mut words = vec![];
        let mut options = BTreeMap::new();
        for word in split_words(line) {
            match word.split_once('=') {
                Some((key, value)) if key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'.') => {
                    options.insert(key.to_owned(), value.to_owned());
                }
                _ => words.push(word),
            }
        }
        Self { words, options }
    }

    fn word(&self, number: usize) -> &str {
        self.words.get(number).map_or("", String::as_str)
    }

    fn option(&self, key: &str) -> &str {
        self.options.get(key).map_or("", String::as_str)
    }

    fn number(&self, key: &str, default: u64) -> u64 {
        self.options.get(key).map_or(default, |text| text.parse().unwrap())
    }

    fn list(&self, key: &str) -> Vec<String> {
        self.option(key).split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }
}

fn split_words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

impl Runner {
    pub(crate) fn take_answers(&mut self) -> String {
        std::mem::take(&mut self.answers)
    }

    pub(crate) fn run(&mut self, text: &str) {
        let line = Line::parse(text);
        match line.word(0) {
            "skip" => self.index += line.word(1).parse::<u64>().unwrap(),
            "repeat" => self.repeat(),
            "reload" => self.reload(),
            "nodes" => self.show_nodes(),
            "owners" => self.show_owners(),
            "apps" => self.show_apps(),
            "instances" => self.show_instances(),
            "tasks" => self.show_tasks(),
            "find" => self.find(line.word(1)),
            "get" => self.get(line.word(1)),
            "list" => self.list(&line),
            "watch" => self.watch(&line),
            "leases" => self.leases(),
            "plan" => self.plan(),
            "credentials" => self.show_credentials(),
            _ => {
                let command = self.command(&line).unwrap_or_else(|| panic!("what is '{text}'?"));
                self.requests += 1;
                let request_id = RequestId::from_u128(self.requests);
                self.propose(Proposal { request_id, now_ms: 1_000 * self.index, command });
            }
        }
    }

    fn propose(&mut self, proposal: Proposal) {
        self.index += 1;
        let outcome = self.state.apply(self.index, std::slice::from_ref(&proposal)).remove(0);
        self.last = Some(proposal);
        self.answer(&show_outcome(&outcome));
    }

    fn answer(&mut self, text: &str) {
        writeln!(self.answers, "{text}").unwrap();
    }

    fn id(&mut self, name: &str) -> NodeId {
        let next = NodeId::from_u128((0x0192_3c1a << 96) | (self.ids.len() as u128 + 1));
        *self.ids.entry(name.to_owned()).or_insert(next)
    }

    fn nodes(&mut self, names: &[String]) -> Vec<NodeId> {
        names.iter().map(|name| self.id(name)).collect()
    }

    fn name(&self, id: NodeId) -> String {
        self.ids.iter().find(|(_, known)| **known == id).map_or_else(|| id.to_string(), |(name, _)| name.clone())
    }

    /// The epoch under which a worker is owned now, unless the line gives one.
    fn epoch(&self, line: &Line, worker: NodeId) -> Epoch {
        Epoch(line.number("epoch", self.state.owner_of(worker).map_or(0, |(_, epoch)| epoch.0)))
    }

    fn command(&mut self, line: &Line) -> Option<Command> {
        let first = line.word(1).to_owned();
        Some(match line.word(0) {
            "init" => Command::InitCluster {
                cluster_id: ClusterId::from_u128(line.number("id", 1).into()),
                name: first,
                verifiers: line.list("credentials").iter().map(|name| verifier(name, line)).collect(),
            },
            "control" => self.control(&first, line),
            "worker" => self.worker(&first, line),
            "connected" => self.connected(&first, line),
            "alive" => Command::SetAlive { node: self.id(&first), alive: line.word(2) == "yes" },
            "ring" => Command::SetRing { owners: self.nodes(&line.words[1..]) },
            "voters" => Command::SetVoters { wanted: first.parse().unwrap() },
            "remove" => Command::RemoveNode { node: self.id(&first) },
            "put" => Command::Kv(KvRequest::Put { key: first, value: line.word(2).into() }),
            "delete" => Command::Kv(KvRequest::Delete { key: first }),
            "cas" => {
                Command::Kv(KvRequest::Cas { key: first, value: line.word(2).into(), expect: expect(line.word(3)) })
            }
            "txn" => Command::Txn(kv::txn(&line.words[1..])),
            "grant" => Command::GrantLease { ttl_ms: first.parse().unwrap() },
            "keep" => Command::KeepLease { lease: first.parse().unwrap() },
            "end-lease" => {
                Command::RevokeLease { lease: first.parse().unwrap(), renewals: Some(line.number("renewals", 0)) }
            }
            "revoke-lease" => Command::RevokeLease { lease: first.parse().unwrap(), renewals: None },
            "quota" => Command::SetQuota { bytes: first.parse().ok() },
            "brake" => Command::SetBrake { writes: first.parse().ok() },
            "install" => install(&first, line),
            "remove-app" => Command::RemoveApp { app: first },
            "start" => Command::StartInstance(start(&first, line)),
            "stop" => Command::StopInstance { instance: first },
            "assign" => self.assign(first, line),
            "report" => self.report(&first, line),
            "credential" => self.credential(&first, line),
            "add-secret" => Command::AddSecret { verifier: verifier(&first, line) },
            "retire" => Command::RetireSecret { credential: first, secret: line.word(2).parse().unwrap() },
            "revoke" => Command::RevokeCredential { credential: first },
            "bind" => Command::BindCredential { credential: first, node: self.id(line.word(2)) },
            _ => return None,
        })
    }

    /// `control NAME [node=NODE] [boot=1]`
    fn control(&mut self, name: &str, line: &Line) -> Command {
        Command::RegisterControl(ControlNode {
            node: self.id(line.options.get("node").map_or(name, String::as_str)),
            name: name.to_owned(),
            boot: RequestId::from_u128(line.number("boot", 1).into()),
            addresses: vec![],
            release: "0.1.0".into(),
        })
    }

    /// `worker NAME [node=NODE] [boot=1] [labels=TEXT] [runtimes=exec,…]`
    fn worker(&mut self, name: &str, line: &Line) -> Command {
        let runtimes = if line.options.contains_key("runtimes") { line.list("runtimes") } else { vec!["exec".into()] };
        Command::RegisterWorker {
            node: self.id(line.options.get("node").map_or(name, String::as_str)),
            name: name.to_owned(),
            boot: RequestId::from_u128(line.number("boot", 1).into()),
            labels: line.option("labels").parse().unwrap(),
            release: "0.1.0".into(),
            runtimes,
            addresses: vec![],
        }
    }

    /// `connected WORKER STATE [epoch=N] [owner=CONTROL] [transport=wss] [clone=BOOT]`
    fn connected(&mut self, worker: &str, line: &Line) -> Command {
        let node = self.id(worker);
        let owner = match line.option("owner") {
            "" => self.state.owner_of(node).map_or_else(NodeId::default, |(owner, _)| owner),
            name => self.id(name),
        };
        Command::SetConnected {
            node,
            epoch: self.epoch(line, node),
            owner,
            state: node_state(line.word(2)),
            transport: line.option("transport").to_owned(),
            remote: None,
            clone: (!line.option("clone").is_empty())
                .then(|| CloneAlarm { boot: RequestId::from_u128(line.number("clone", 0).into()), remote: None }),
        }
    }

    /// `assign INSTANCE [add=W,…] [drop=W,…] [revision=N]`
    fn assign(&mut self, instance: String, line: &Line) -> Command {
        let known = self.state.instance(&instance).map_or(0, |instance| instance.revision);
        let (add, drop) = (self.nodes(&line.list("add")), self.nodes(&line.list("drop")));
        Command::Assign { instance, revision: line.number("revision", known), add, drop }
    }

    /// `report WORKER [epoch=N] [ended=none] TASK:STATE[@REVISION]…`, all tasks of the worker; `ended=none`: made before
    /// anything was to end
    fn report(&mut self, worker: &str, line: &Line) -> Command {
        let node = self.id(worker);
        let tasks: Vec<TaskStatus> = line.words[2..].iter().map(|word| self.status(word)).collect();
        let early = line.option("ended") == "none";
        let ended = if early { Vec::new() } else { self.state.ended_tasks(node, &tasks) };
        Command::ReportTasks { node, epoch: self.epoch(line, node), tasks, ended }
    }

    /// `credential NAME [role=worker] [node=NODE] [awaits=NAME] [key=1] [salt=16] [rounds=4096] [keys=32]`
    fn credential(&mut self, name: &str, line: &Line) -> Command {
        let holder = match (line.option("node"), line.option("awaits")) {
            ("", "") => None,
            ("", awaited) => Some(Holder::Awaited(awaited.to_owned())),
            (node, _) => Some(Holder::Node(self.id(node))),
        };
        Command::CreateCredential { verifier: verifier(name, line), holder }
    }

    fn status(&self, word: &str) -> TaskStatus {
        let (task, state) = word.split_once(':').unwrap();
        let task = TaskId(task.to_owned());
        let known = self.state.task(&task).map_or(0, |task| task.revision);
        let (state, revision) =
            state.split_once('@').map_or((state, known), |(state, at)| (state, at.parse().unwrap()));
        let (restarts, exit_code, since_ms, message) = (0, None, 0, None);
        TaskStatus { task, revision, state: task_state(state), restarts, exit_code, since_ms, message }
    }

    /// Proposes the last proposal again, request id and all.
    fn repeat(&mut self) {
        let last = self.last.clone().unwrap();
        self.propose(last);
    }

    /// Goes on with what a snapshot gives back.
    fn reload(&mut self) {
        let mut bytes = vec![];
        snapshot::write(&self.state, b"", &mut bytes).unwrap();
        self.state = snapshot::read(&mut bytes.as_slice()).unwrap().0;
    }

    fn plan(&mut self) {
        let commands = placement::plan(&self.state);
        if commands.is_empty() {
            self.answer("nothing to do");
        }
        for command in commands {
            let Command::Assign { instance, add, drop, .. } = &command else { panic!("{command:?}") };
            let add = add.iter().map(|node| format!(" +{}", self.name(*node)));
            let changes: String = add.chain(drop.iter().map(|node| format!(" -{}", self.name(*node)))).collect();
            let text = format!("{instance}:{changes}");
            self.answer(&text);
            self.requests += 1;
            let request_id = RequestId::from_u128(self.requests);
            self.propose(Proposal { request_id, now_ms: 0, command });
        }
    }

    fn find(&mut self, text: &str) {
        let first = self.state.nodes().next().map(|node| node.id.to_string()).unwrap_or_default();
        let found = self.state.find_node(&text.replace("FIRST", &first));
        let text = found.map_or_else(|failure| format!("{}: {failure}", failure.code), |node| node.name.clone());
        self.answer(&text);
    }

    fn get(&mut self, key: &str) {
        let text = self.state.kv_get(key).as_ref().map_or_else(|| "absent".to_owned(), show_entry);
        self.answer(&text);
    }

    /// `list PREFIX [after=KEY] [limit=N]`
    fn list(&mut self, line: &Line) {
        let limit = u32::try_from(line.number("limit", 1000)).unwrap();
        let (entries, more) = self.state.kv_list(line.word(1), line.options.get("after").map(String::as_str), limit);
        entries.iter().for_each(|entry| self.answer(&show_entry(entry)));
        self.answer(if more { "more follow" } else { "end" });
    }

    fn show_nodes(&mut self) {
        let mut nodes: Vec<Node> = self.state.nodes().cloned().collect();
        nodes.sort_by_key(|node| node.short_id);
        for node in nodes {
            let roles: Vec<&str> = node.roles.iter().map(|role| role.name()).collect();
            let (id, name, generation, roles) = (node.short_id, &node.name, node.generation, roles.join("+"));
            let alive = if node.is_control() && !node.alive { " dead" } else { "" };
            let via = node.via.map(|via| format!(" over {}", via.transport)).unwrap_or_default();
            let clone = node.clone.map(|clone| format!(" clone {}", clone.boot.as_u128())).unwrap_or_default();
            self.answer(&format!(
                "{id} {name} generation {generation} {roles} {}{alive}{via}{clone} [{}]",
                node.state, node.labels
            ));
        }
    }

    fn show_owners(&mut self) {
        let ring = self.state.ring().clone();
        for owner in ring.owners() {
            let (name, partitions) = (self.name(*owner), ring.partitions_of(*owner).count());
            self.answer(&format!("{name}: {} workers, {partitions} partitions", ring.workers_of(*owner)));
        }
    }

    fn show_credentials(&mut self) {
        let banished: Vec<String> = self.state.banished().into_iter().map(|node| self.name(node)).collect();
        if !banished.is_empty() {
            self.answer(&format!("banished: {}", banished.join(" ")));
        }
        let credentials: Vec<_> = self.state.credentials().cloned().collect();
        for each in credentials {
            let holder = match &each.holder {
                None => String::new(),
                Some(Holder::Node(node)) => format!(" of {}", self.name(*node)),
                Some(Holder::Awaited(name)) => format!(" awaits {name}"),
            };
            let secret = |secret: &StoredSecret| {
                let key = secret.verifier.stored_key[0];
                format!(" {}:key {key}{}", secret.number, if secret.retired_ms.is_some() { " retired" } else { "" })
            };
            let secrets: String = each.secrets.iter().map(secret).collect();
            let revoked = if each.revoked_ms.is_some() { " revoked" } else { "" };
            let accepted: Vec<String> =
                (0..9).filter(|number| each.accepts(*number)).map(|number| number.to_string()).collect();
            self.answer(&format!(
                "{} {}{holder}{revoked}{secrets}, accepts [{}]",
                each.name,
                each.role.name(),
                accepted.join(" ")
            ));
        }
    }

    fn show_apps(&mut self) {
        let apps: Vec<_> = self.state.apps().cloned().collect();
        for app in apps {
            let versions: Vec<String> = app
                .versions
                .values()
                .map(|version| format!("{}:{:02x}", version.version, version.digest.0[0]))
                .collect();
            self.answer(&format!("{} {}", app.name, versions.join(" ")));
        }
        let archives = self.state.blobs().len();
        self.answer(&format!("{archives} archives"));
    }

    fn show_instances(&mut self) {
        let instances: Vec<_> = self.state.instances().cloned().collect();
        for each in instances {
            let (name, app, version, flow) = (&each.name, &each.app, each.version, &each.flow);
            let args = serde_json::to_string(&each.args).unwrap();
            self.answer(&format!("{name} {app}/{flow} version {version} on {} {} {args}", each.on, each.wanted.name()));
        }
    }

    fn show_tasks(&mut self) {
        let tasks: Vec<Task> = self.state.tasks().cloned().collect();
        for task in tasks {
            let leaving = if task.assigned { "" } else { ", shall end" };
            let spec = self.state.task_spec(&task).unwrap();
            assert_eq!((spec.task, spec.revision), (task.id.clone(), task.revision));
            self.answer(&format!("{} on {}: {}{leaving}", task.id, self.name(task.node), task.state()));
        }
    }
}

fn expect(text: &str) -> Expect {
    if text == "absent" { Expect::Absent } else { Expect::Revision(text.parse().unwrap()) }
}

/// `install APP [digest=N] [runtime=exec] [args=a,b] [required=c,d] [format=1]`: flows `main` (with the arguments) and `side`
fn install(app: &str, line: &Line) -> Command {
    let flow =
        |args| Flow { entry: vec!["./run".into()], args, restart: Default::default(), limits: Default::default() };
    let optional = line.list("args").into_iter().map(|name| (name, Value::from("default")));
    let args = optional.chain(line.list("required").into_iter().map(|name| (name, Value::Null))).collect();
    let manifest = Manifest {
        format: u32::try_from(line.number("format", MANIFEST_FORMAT.into())).unwrap(),
        name: app.to_owned(),
        sha256: Digest([0; 32]),
        runtime: line.options.get("runtime").map_or("exec", String::as_str).to_owned(),
        flows: BTreeMap::from([("main".to_owned(), flow(args)), ("side".to_owned(), flow(BTreeMap::new()))]),
        files: vec![],
    };
    let digest = Digest([u8::try_from(line.number("digest", 1)).unwrap(); 32]);
    Command::InstallApp { manifest, digest, size: 100, blake3: None }
}

/// `start INSTANCE app=A [flow=main] [on=all] [where=SELECTOR] [arg.NAME=VALUE]…`
fn start(instance: &str, line: &Line) -> InstanceSpec {
    let or = |key: &str, default: &str| line.options.get(key).map_or(default, String::as_str).to_owned();
    let args = line.options.iter().filter_map(|(key, value)| Some((key.strip_prefix("arg.")?, value)));
    InstanceSpec {
        instance: instance.to_owned(),
        app: or("app", ""),
        flow: or("flow", "main"),
        args: args.map(|(key, value)| (key.to_owned(), Value::from(value.as_str()))).collect(),
        on: or("on", "all").parse().unwrap(),
        selector: or("where", ""),
    }
}

/// The role is the option's, else the credential's name up to its first `-`.
fn verifier(name: &str, line: &Line) -> Verifier {
    let role = line.options.get("role").map_or_else(|| name.split('-').next().unwrap_or(""), String::as_str);
    let size = |key, default| usize::try_from(line.number(key, default)).unwrap();
    Verifier {
        credential: name.to_owned(),
        role: role.parse().unwrap(),
        salt: vec![7; size("salt", 16)],
        iterations: u32::try_from(line.number("rounds", 4096)).unwrap(),
        stored_key: vec![u8::try_from(line.number("key", 1)).unwrap(); size("keys", 32)],
        server_key: vec![2; 32],
    }
}

fn node_state(text: &str) -> NodeState {
    serde_json::from_value(text.into()).unwrap()
}

fn task_state(text: &str) -> TaskState {
    serde_json::from_value(text.into()).unwrap()
}

fn show_entry(entry: &KvEntry) -> String {
    let value = String::from_utf8_lossy(&entry.value);
    let lease = entry.lease.map(|lease| format!(" lease {lease}")).unwrap_or_default();
    format!("{} = '{value}' revision {} created {}{lease}", entry.key, entry.revision, entry.created_revision)
}

fn show_outcome(outcome: &Outcome) -> String {
    match outcome {
        Err(failure) => format!("{}: {failure}", failure.code),
        Ok(Reply::Done) => "ok".to_owned(),
        Ok(Reply::Registered { short_id, generation }) => format!("short id {short_id}, generation {generation}"),
        Ok(Reply::Ring { moved }) => format!("{moved} moved"),
        Ok(Reply::Installed { app, version }) => format!("{app} version {version}"),
        Ok(Reply::Secret { number }) => format!("secret {number}"),
        Ok(Reply::Started { version, .. }) => format!("started, version {version}"),
        Ok(Reply::Kv(reply)) => kv::show_reply(reply),
        Ok(Reply::Txn(reply)) => kv::show_txn(reply),
        Ok(Reply::Lease { lease, ttl_ms }) => format!("lease {lease}, {ttl_ms} ms"),
        Ok(Reply::LeaseEnded { keys }) => format!("ended, {keys} keys"),
    }
}
