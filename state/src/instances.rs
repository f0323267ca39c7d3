//! Instances and their tasks: start, stop, the placer's assignments, the workers' reports.

use crate::apps::app_not_found;
use crate::command::{InstanceSpec, Outcome, Reply};
use crate::machine::{At, State};
use crate::record::{Instance, Node, Task, Wanted};
use crate::registry::stale;
use crate::selector::Selector;
use longshore_wire::app::{Flow, check_name};
use longshore_wire::task::{TaskSpec, TaskStatus};
use longshore_wire::{Code, Epoch, Failure, NodeId, TaskId};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Instance {
    /// What a worker must know to run this task.
    pub(crate) fn task_spec(&self, task: &Task) -> TaskSpec {
        TaskSpec {
            task: task.id.clone(),
            revision: task.revision,
            instance: self.name.clone(),
            app: self.app.clone(),
            version: self.version,
            digest: self.digest,
            flow: self.flow.clone(),
            runtime: self.runtime.clone(),
            entry: self.entry.clone(),
            args: self.args.clone(),
            restart: self.restart,
            limits: self.limits.clone(),
        }
    }
}

impl State {
    pub(crate) fn start_instance(&mut self, at: At, spec: &InstanceSpec) -> Outcome {
        let invalid = |message: String| Failure::new(Code::Invalid, message);
        check_name("instance", &spec.instance).map_err(invalid)?;
        spec.selector.parse::<Selector>().map_err(|error| invalid(error.to_string()))?;
        self.check_free(&spec.instance)?;
        let app = self.app(&spec.app).and_then(|app| app.newest()).ok_or_else(|| app_not_found(&spec.app))?;
        let flow = app.manifest.flows.get(&spec.flow).ok_or_else(|| flow_not_found(spec, &app.manifest.flows))?;
        let mut instance = Instance {
            name: spec.instance.clone(),
            revision: 0,
            app: spec.app.clone(),
            version: app.version,
            digest: app.digest,
            flow: spec.flow.clone(),
            runtime: app.manifest.runtime.clone(),
            entry: flow.entry.clone(),
            args: fill_args(spec, flow)?,
            restart: flow.restart,
            limits: flow.limits.clone(),
            on: spec.on,
            selector: spec.selector.clone(),
            wanted: Wanted::Running,
            started_ms: at.now_ms,
        };
        instance.revision = self.next_stamp(at);
        let reply = Reply::Started { revision: instance.revision, version: instance.version };
        self.instances.insert(instance.name.clone(), Arc::new(instance));
        Ok(reply)
    }

    /// Refuses a name that is in use. A stopped instance gives its name away as soon as its tasks are gone.
    fn check_free(&self, name: &str) -> Result<(), Failure> {
        let Some(present) = self.instance(name) else { return Ok(()) };
        let message = match (present.wanted, self.tasks_of_instance(name).count()) {
            (Wanted::Stopped, 0) => return Ok(()),
            (Wanted::Stopped, tasks) => {
                format!("the instance '{name}' is stopping and still has {tasks} tasks; wait or choose another name")
            }
            (Wanted::Running, _) => format!("the instance '{name}' exists already; stop it or choose another name"),
        };
        Err(Failure::new(Code::Conflict, message))
    }

    pub(crate) fn stop_instance(&mut self, name: &str) -> Outcome {
        let Some(instance) = self.instances.get_mut(name) else {
            return Err(instance_not_found(name));
        };
        Arc::make_mut(instance).wanted = Wanted::Stopped;
        let nodes: Vec<NodeId> = self.tasks_of_instance(name).map(|task| task.node).collect();
        self.unassign(name, &nodes);
        Ok(Reply::Done)
    }

    pub(crate) fn assign(&mut self, at: At, name: &str, revision: u64, add: &[NodeId], drop: &[NodeId]) -> Outcome {
        let Some(instance) = self.instances.get(name).cloned() else {
            return Err(instance_not_found(name));
        };
        if instance.revision != revision || instance.wanted == Wanted::Stopped {
            return Err(Failure::new(Code::Conflict, format!("the instance '{name}' has changed since; plan again")));
        }
        let unassigned = |node: &&NodeId| !self.task_at(name, **node).is_some_and(|task| task.assigned);
        let mut fresh: Vec<NodeId> = add.iter().filter(unassigned).copied().collect();
        fresh.sort_unstable();
        fresh.dedup();
        if let Some(unknown) = fresh.iter().find(|node| !self.node(**node).is_some_and(Node::is_worker)) {
            return Err(Failure::new(Code::NotFound, format!("no worker {unknown}; plan again")));
        }
        self.check_limit(&instance, &fresh)?;
        let stamp = self.next_stamp(at);
        for node in fresh {
            self.put_task(name, node, stamp);
        }
        self.unassign(name, drop);
        Ok(Reply::Done)
    }

    /// A task that shall end counts until its worker has reported it gone: `one` never runs twice.
    fn check_limit(&self, instance: &Instance, fresh: &[NodeId]) -> Result<(), Failure> {
        let Some(limit) = instance.on.limit() else { return Ok(()) };
        let present: Vec<NodeId> = self.tasks_of_instance(&instance.name).map(|task| task.node).collect();
        let total = present.len() + fresh.iter().filter(|node| !present.contains(node)).count();
        if fresh.is_empty() || total <= limit {
            return Ok(());
        }
        let message = format!("the instance '{}' would have {total} tasks; it runs on {}", instance.name, instance.on);
        Err(Failure::new(Code::Conflict, message))
    }

    /// Why an instance's task ends there is told by the order, not here: the record waits for the worker's report.
    fn unassign(&mut self, instance: &str, nodes: &[NodeId]) {
        for node in nodes {
            if let Some(task) = self.tasks.get_mut(&(Arc::from(instance), *node)) {
                Arc::make_mut(task).assigned = false;
            }
        }
    }

    pub(crate) fn report_tasks(
        &mut self,
        worker: NodeId,
        epoch: Epoch,
        reported: &[TaskStatus],
        ended: &[(TaskId, u64)],
    ) -> Outcome {
        match self.owner_of(worker) {
            Some((_, current)) if current == epoch => {}
            current => return Err(stale(worker, epoch, current.map(|(_, epoch)| epoch))),
        }
        for change in self.changes(worker, reported, ended) {
            match change {
                Change::Status(key, status) => {
                    if let Some(task) = self.tasks.get_mut(&key) {
                        Arc::make_mut(task).status = status;
                    }
                }
                Change::Gone(key) => self.remove_task(&key),
            }
        }
        Ok(Reply::Done)
    }

    /// Whether committing this report of a worker's tasks would change anything.
    pub fn report_differs(&self, worker: NodeId, reported: &[TaskStatus], ended: &[(TaskId, u64)]) -> bool {
        !self.changes(worker, reported, ended).is_empty()
    }

    /// The tasks of a worker that shall end and are not in its report, with their revisions. Whether a start of one of
    /// them is still on its way to the worker, only its proxy knows.
    pub fn ended_tasks(&self, worker: NodeId, reported: &[TaskStatus]) -> Vec<(TaskId, u64)> {
        let ended = self.tasks_on(worker).filter(|task| !task.assigned);
        let ended = ended.filter(|task| reported.iter().all(|status| status.task != task.id));
        ended.map(|task| (task.id.clone(), task.revision)).collect()
    }

    /// What a report of all tasks of a worker changes. Tasks that are not known here, or of an older assignment, count
    /// for nothing: the proxy orders them to stop.
    fn changes(&self, worker: NodeId, reported: &[TaskStatus], ended: &[(TaskId, u64)]) -> Vec<Change> {
        let by_id: BTreeMap<&TaskId, &TaskStatus> = reported.iter().map(|status| (&status.task, status)).collect();
        let change = |task: &Task| {
            let key = (Arc::from(task.instance.as_str()), worker);
            match by_id.get(&task.id) {
                None if !task.assigned => {
                    ended.iter().any(|(id, at)| *id == task.id && *at == task.revision).then_some(Change::Gone(key))
                }
                None => task.status.is_some().then_some(Change::Status(key, None)),
                Some(status) if status.revision != task.revision => None,
                Some(status) => {
                    (task.status.as_ref() != Some(status)).then(|| Change::Status(key, Some((*status).clone())))
                }
            }
        };
        self.tasks_on(worker).filter_map(change).collect()
    }

    pub(crate) fn forget_tasks_on(&mut self, node: NodeId) {
        let keys: Vec<TaskKey> = self.tasks_on(node).map(|task| (task.instance.as_str().into(), node)).collect();
        keys.iter().for_each(|key| self.remove_task(key));
    }

    pub(crate) fn task_at(&self, instance: &str, node: NodeId) -> Option<&Task> {
        self.tasks.get(&(Arc::from(instance), node)).map(Arc::as_ref)
    }

    fn put_task(&mut self, instance: &str, node: NodeId, revision: u64) {
        let Some(short_id) = self.node(node).map(|node| node.short_id) else { return };
        let id = TaskId::new(instance, short_id);
        self.insert_task(Task { id, instance: instance.to_owned(), node, revision, assigned: true, status: None });
    }

    /// Enters a task into all indexes.
    pub(crate) fn insert_task(&mut self, task: Task) {
        let instance: Arc<str> = task.instance.as_str().into();
        self.tasks_by_node.insert((task.node, Arc::clone(&instance)));
        self.tasks.insert((instance, task.node), Arc::new(task));
    }

    fn remove_task(&mut self, key: &TaskKey) {
        self.tasks.remove(key);
        self.tasks_by_node.remove(&(key.1, Arc::clone(&key.0)));
    }
}

type TaskKey = (Arc<str>, NodeId);

/// What one report changes of one task.
enum Change {
    Status(TaskKey, Option<TaskStatus>),
    Gone(TaskKey),
}

fn instance_not_found(name: &str) -> Failure {
    Failure::new(Code::NotFound, format!("no instance '{name}'; see `longshore flow list`"))
}

fn flow_not_found(spec: &InstanceSpec, flows: &BTreeMap<String, Flow>) -> Failure {
    let known: Vec<&str> = flows.keys().map(String::as_str).collect();
    let message = format!("the app '{}' has no flow '{}'; its flows are {}", spec.app, spec.flow, known.join(", "));
    Failure::new(Code::NotFound, message)
}

/// The flow's defaults under the given arguments; all required ones must be there, and no others than the flow names.
fn fill_args(spec: &InstanceSpec, flow: &Flow) -> Result<BTreeMap<String, Value>, Failure> {
    let unknown: Vec<&str> =
        spec.args.keys().filter(|name| !flow.args.contains_key(*name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let known: Vec<&str> = flow.args.keys().map(String::as_str).collect();
        let known =
            if known.is_empty() { "it takes none".to_owned() } else { format!("it takes {}", known.join(", ")) };
        let message = format!("the flow '{}' has no argument {}; {known}", spec.flow, unknown.join(", "));
        return Err(Failure::new(Code::Invalid, message));
    }
    let mut args = flow.args.clone();
    args.extend(spec.args.clone());
    let missing: Vec<&str> = args.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name.as_str()).collect();
    if !missing.is_empty() {
        let message = format!("the flow '{}' needs the argument {}; give it with --arg", spec.flow, missing.join(", "));
        return Err(Failure::new(Code::Invalid, message));
    }
    Ok(args)
}
