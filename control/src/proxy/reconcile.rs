//! What to do so that a worker runs what it should: a pure comparison of wishes with a report.
//!
//! Never acts, never waits, never remembers: the actor does.

use longshore_wire::edge::Report;
use longshore_wire::task::TaskSpec;
use longshore_wire::{Digest, TaskId};
use std::collections::HashSet;

/// One step towards the wishes. Steps of one comparison are independent of each other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// The worker lacks this archive; what needs it starts after a later comparison.
    Push(Digest),
    /// Start this task.
    Start(Box<TaskSpec>),
    /// End this task.
    Stop(TaskId),
    /// These archives are of no more use.
    DropArchives(Vec<Digest>),
}

/// Names a step while it is under way, so that it is not begun twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum StepKey {
    /// Of [`Step::Push`].
    Push(Digest),
    /// Of [`Step::Start`], with the revision: a newer wish need not wait for an older one.
    Start(TaskId, u64),
    /// Of [`Step::Stop`].
    Stop(TaskId),
    /// Of [`Step::DropArchives`].
    DropArchives,
}

impl Step {
    pub(crate) fn key(&self) -> StepKey {
        match self {
            Self::Push(digest) => StepKey::Push(*digest),
            Self::Start(spec) => StepKey::Start(spec.task.clone(), spec.revision),
            Self::Stop(task) => StepKey::Stop(task.clone()),
            Self::DropArchives(_) => StepKey::DropArchives,
        }
    }
}

/// Compares what should run with what does. `referenced` = the archives that some app still names.
pub(crate) fn steps(wanted: &[TaskSpec], report: &Report, referenced: &HashSet<Digest>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut pushed = HashSet::new();
    for spec in wanted {
        // A higher revision at the worker means that this node is behind; its own state will come up to it.
        if report.tasks.iter().any(|status| status.task == spec.task && status.revision >= spec.revision) {
            continue;
        }
        if report.archives.contains(&spec.digest) {
            steps.push(Step::Start(Box::new(spec.clone())));
        } else if pushed.insert(spec.digest) {
            steps.push(Step::Push(spec.digest));
        }
    }
    let extra = report.tasks.iter().filter(|status| wanted.iter().all(|spec| spec.task != status.task));
    steps.extend(extra.map(|status| Step::Stop(status.task.clone())));
    // Only a worker at rest is tidied: while something changes, an archive may be needed again in a moment.
    let useless: Vec<_> = report.archives.iter().filter(|digest| !referenced.contains(digest)).copied().collect();
    if steps.is_empty() && !useless.is_empty() {
        steps.push(Step::DropArchives(useless));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_wire::task::{NodeState, TaskState, TaskStatus};

    fn spec(task: &str, revision: u64, digest: u8) -> TaskSpec {
        TaskSpec {
            task: TaskId(task.to_owned()),
            revision,
            instance: "i".to_owned(),
            app: "a".to_owned(),
            version: 1,
            digest: Digest([digest; 32]),
            flow: "main".to_owned(),
            runtime: "exec".to_owned(),
            entry: vec!["run".to_owned()],
            args: Default::default(),
            restart: Default::default(),
            limits: Default::default(),
        }
    }

    fn report(tasks: &[(&str, u64)], archives: &[u8]) -> Report {
        let status = |(task, revision): &(&str, u64)| TaskStatus {
            task: TaskId((*task).to_owned()),
            revision: *revision,
            state: TaskState::Running,
            restarts: 0,
            exit_code: None,
            since_ms: 0,
            message: None,
        };
        Report {
            state: NodeState::Ready,
            tasks: tasks.iter().map(status).collect(),
            archives: archives.iter().map(|digest| Digest([*digest; 32])).collect(),
        }
    }

    #[test]
    fn a_missing_archive_comes_first_and_once() {
        let wanted = [spec("a-1", 5, 7), spec("b-1", 5, 7)];
        assert_eq!(steps(&wanted, &report(&[], &[]), &HashSet::new()), [Step::Push(Digest([7; 32]))]);
        let started = steps(&wanted, &report(&[("b-1", 5)], &[7]), &HashSet::from([Digest([7; 32])]));
        assert_eq!(started, [Step::Start(Box::new(wanted[0].clone()))]);
    }

    #[test]
    fn revisions_decide() {
        let used = HashSet::from([Digest([7; 32])]);
        let wanted = [spec("a-1", 5, 7)];
        assert_eq!(steps(&wanted, &report(&[("a-1", 5)], &[7]), &used), []);
        assert_eq!(steps(&wanted, &report(&[("a-1", 6)], &[7]), &used), []);
        assert_eq!(steps(&wanted, &report(&[("a-1", 4)], &[7]), &used), [Step::Start(Box::new(wanted[0].clone()))]);
    }

    #[test]
    fn what_is_too_much_goes() {
        let used = HashSet::new();
        assert_eq!(steps(&[], &report(&[("a-1", 5)], &[7]), &used), [Step::Stop(TaskId("a-1".to_owned()))]);
        assert_eq!(steps(&[], &report(&[], &[7]), &used), [Step::DropArchives(vec![Digest([7; 32])])]);
    }
}
