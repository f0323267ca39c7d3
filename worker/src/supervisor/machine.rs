//! What happens to one task: events and the time in, actions out. Pure: no clock, no process, no file.
//!
//! ```text
//!  Waiting ──tick──▶ Starting ──started──▶ Running ──ended──▶ Waiting (policy) | Ended
//!     ▲                                      │stop
//!     └────────── replaced, or at rest ── Stopping ──ended──▶ forgotten
//! ```

use super::process::Process;
use longshore_wire::task::{RestartPolicy, TaskSpec, TaskState, TaskStatus};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Pause before the first restart; doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A run of this length counts as a success: the next pause is the first one again.
const STEADY: Duration = Duration::from_secs(60);
/// From SIGTERM to SIGKILL.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(10);

/// The time, both ways: for waiting and for people.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Monotonic.
    pub(crate) instant: Instant,
    /// Unix milliseconds.
    pub(crate) unix_ms: u64,
}

/// Where a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Before a start.
    Waiting { until: Instant },
    /// A process is being made.
    Starting,
    /// A process runs.
    Running { process: Process, since: Instant },
    /// A process has been asked to end; `kill_at` is `None` once it was forced to.
    Stopping { process: Process, kill_at: Option<Instant> },
    /// Nothing more will happen by itself.
    Ended(TaskState),
}

/// What follows when a process that was asked to end has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Then {
    /// The task is forgotten.
    Forget,
    /// This runs in its place.
    Replace(Box<TaskSpec>),
    /// The task rests until the worker's next start.
    Rest,
}

/// What the supervisor has to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make a process; tell [`Machine::started`] or [`Machine::spawn_failed`].
    Spawn,
    /// Ask this process group to end.
    Term(Process),
    /// Force this process group to end.
    Kill(Process),
    /// Remove every trace but the output and the task's own files.
    Forget,
}

/// One task.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(super) spec: TaskSpec,
    pub(super) phase: Phase,
    pub(super) then: Then,
    pub(super) runs: u32,
    pub(super) exit_code: Option<i32>,
    pub(super) since_ms: u64,
    pub(super) message: Option<String>,
    failures: u32,
}

impl Machine {
    /// A task that starts at the next tick.
    pub(crate) fn new(spec: TaskSpec, now: Now) -> Self {
        Self {
            spec,
            phase: Phase::Waiting { until: now.instant },
            then: Then::Rest,
            runs: 0,
            exit_code: None,
            since_ms: now.unix_ms,
            message: None,
            failures: 0,
        }
    }

    /// What is told to the owner.
    pub(crate) fn status(&self) -> TaskStatus {
        let state = match &self.phase {
            Phase::Waiting { .. } => TaskState::Pending,
            Phase::Starting => TaskState::Starting,
            Phase::Running { .. } => TaskState::Running,
            Phase::Stopping { .. } => TaskState::Stopping,
            Phase::Ended(state) => *state,
        };
        TaskStatus {
            task: self.spec.task.clone(),
            revision: self.spec.revision,
            state,
            restarts: self.runs.saturating_sub(1),
            exit_code: self.exit_code,
            since_ms: self.since_ms,
            message: self.message.clone(),
        }
    }

    /// The process, if there is one.
    pub(crate) const fn process(&self) -> Option<&Process> {
        match &self.phase {
            Phase::Running { process, .. } | Phase::Stopping { process, .. } => Some(process),
            _ => None,
        }
    }

    /// When [`Machine::tick`] has something to do.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting { until } => Some(*until),
            Phase::Stopping { kill_at, .. } => *kill_at,
            _ => None,
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Now) -> Option<Action> {
        match &mut self.phase {
            Phase::Waiting { until } if *until <= now.instant => {
                self.enter(Phase::Starting, now);
                Some(Action::Spawn)
            }
            Phase::Stopping { process, kill_at } if kill_at.is_some_and(|at| at <= now.instant) => {
                *kill_at = None;
                Some(Action::Kill(process.clone()))
            }
            _ => None,
        }
    }

    /// A process has been made, or one of a former worker was found.
    pub(crate) fn started(&mut self, process: Process, now: Now) {
        self.runs = self.runs.saturating_add(1);
        self.message = None;
        self.enter(Phase::Running { process, since: now.instant }, now);
    }

    /// No process could be made. `lasting` = another attempt would fail the same way. Whatever may pass is tried again under
    /// every policy: what never ran does not run twice.
    pub(crate) fn spawn_failed(&mut self, lasting: bool, message: String, now: Now) {
        self.message = Some(message);
        if lasting {
            self.enter(Phase::Ended(TaskState::Failed), now);
        } else {
            let until = now.instant + self.pause();
            self.enter(Phase::Waiting { until }, now);
        }
    }

    /// The process has ended. `None`: nobody can know how, since it was not this worker's child.
    pub(crate) fn ended(&mut self, code: Option<i32>, now: Now) -> Option<Action> {
        self.exit_code = code;
        match std::mem::replace(&mut self.phase, Phase::Starting) {
            Phase::Stopping { .. } => match std::mem::replace(&mut self.then, Then::Rest) {
                Then::Forget => {
                    self.enter(Phase::Ended(TaskState::Stopped), now);
                    return Some(Action::Forget);
                }
                Then::Replace(spec) => *self = Self::new(*spec, now),
                Then::Rest if self.spec.restart == RestartPolicy::Never => {
                    self.message = Some("stopped with its worker; its restart policy is never".into());
                    self.enter(Phase::Ended(TaskState::Stopped), now);
                }
                Then::Rest => self.enter(Phase::Waiting { until: now.instant }, now),
            },
            Phase::Running { since, .. } => self.run_ended(now.instant.duration_since(since), now),
            other => self.phase = other,
        }
        None
    }

    fn run_ended(&mut self, lasted: Duration, now: Now) {
        let bad = self.exit_code != Some(0);
        let how = match self.exit_code {
            Some(code) if code > 128 => format!("ended by signal {} (code {code})", code - 128),
            Some(code) => format!("ended with code {code}"),
            None => "ended; its exit code is not known, since an earlier run of its worker had started it".into(),
        };
        let again = match self.spec.restart {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => bad,
            RestartPolicy::Never => false,
        };
        if again {
            if lasted >= STEADY {
                self.failures = 0;
            }
            let pause = self.pause();
            self.message = Some(format!("{how}; starts again after {} s", pause.as_secs()));
            self.enter(Phase::Waiting { until: now.instant + pause }, now);
        } else {
            self.message = bad.then_some(how);
            self.enter(Phase::Ended(if bad { TaskState::Failed } else { TaskState::Stopped }), now);
        }
    }

    /// Stops the process, if there is one; `then` says what follows.
    pub(crate) fn stop(&mut self, then: Then, grace: Duration, now: Now) -> Option<Action> {
        match &mut self.phase {
            Phase::Running { process, .. } => {
                let process = process.clone();
                self.then = then;
                self.enter(Phase::Stopping { process: process.clone(), kill_at: Some(now.instant + grace) }, now);
                Some(Action::Term(process))
            }
            Phase::Stopping { kill_at, .. } => {
                // A closing worker may shorten the grace of a stop under way, and must not undo why it was asked for.
                *kill_at = kill_at.map(|at| at.min(now.instant + grace));
                if then != Then::Rest {
                    self.then = then;
                }
                None
            }
            Phase::Waiting { .. } | Phase::Starting | Phase::Ended(_) => match then {
                Then::Forget => Some(Action::Forget),
                Then::Replace(spec) => {
                    *self = Self::new(*spec, now);
                    None
                }
                Then::Rest => None,
            },
        }
    }

    /// The owner orders a start of a task that is already known. A repeat changes nothing; a higher revision replaces
    /// what runs; and whatever is on its way out comes back when it has gone.
    pub(crate) fn order(&mut self, spec: TaskSpec, now: Now) -> Option<Action> {
        let leaving = matches!(self.phase, Phase::Stopping { .. }) && self.then == Then::Forget;
        if spec.revision > self.spec.revision || leaving {
            return self.stop(Then::Replace(Box::new(spec)), STOP_GRACE, now);
        }
        None
    }

    /// The pause before the next start; longer each time.
    fn pause(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    fn enter(&mut self, phase: Phase, now: Now) {
        self.phase = phase;
        self.since_ms = now.unix_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;

    fn at(start: Instant, seconds: u64) -> Now {
        Now { instant: start + Duration::from_secs(seconds), unix_ms: seconds * 1000 }
    }

    fn running(restart: RestartPolicy, start: Instant) -> Machine {
        let mut machine = Machine::new(TaskSpec { restart, ..spec("t-1", &["x"]) }, at(start, 0));
        assert_eq!(machine.tick(at(start, 0)), Some(Action::Spawn));
        machine.started(Process::fake(7), at(start, 0));
        machine
    }

    #[test]
    fn pauses_grow_to_a_minute_and_a_steady_run_resets_them() {
        let start = Instant::now();
        let mut machine = running(RestartPolicy::OnFailure, start);
        let mut clock = 0;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(machine.ended(Some(1), at(start, clock)), None);
            assert_eq!(machine.status().state, TaskState::Pending);
            let until = machine.deadline().unwrap();
            pauses.push((until - at(start, clock).instant).as_secs());
            assert_eq!(machine.tick(Now { instant: until - Duration::from_millis(1), unix_ms: 0 }), None);
            clock += pauses.last().unwrap();
            assert_eq!(machine.tick(at(start, clock)), Some(Action::Spawn));
            machine.started(Process::fake(8), at(start, clock));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(machine.status().restarts, 8);
        machine.ended(Some(143), at(start, clock + 60));
        assert_eq!(machine.deadline().unwrap(), at(start, clock + 61).instant);
        assert_eq!(machine.status().exit_code, Some(143));
    }

    #[test]
    fn policies() {
        let start = Instant::now();
        for (policy, code, expected) in [
            (RestartPolicy::Always, Some(0), TaskState::Pending),
            (RestartPolicy::OnFailure, Some(0), TaskState::Stopped),
            (RestartPolicy::OnFailure, Some(137), TaskState::Pending),
            (RestartPolicy::OnFailure, None, TaskState::Pending),
            (RestartPolicy::Never, Some(0), TaskState::Stopped),
            (RestartPolicy::Never, Some(1), TaskState::Failed),
        ] {
            let mut machine = running(policy, start);
            assert_eq!(machine.ended(code, at(start, 1)), None);
            assert_eq!(machine.status().state, expected, "{policy:?} {code:?}");
        }
    }

    #[test]
    fn a_stop_is_polite_then_firm() {
        let start = Instant::now();
        let mut machine = running(RestartPolicy::Always, start);
        assert_eq!(machine.stop(Then::Forget, STOP_GRACE, at(start, 1)), Some(Action::Term(Process::fake(7))));
        assert_eq!(machine.tick(at(start, 10)), None);
        assert_eq!(machine.stop(Then::Rest, STOP_GRACE, at(start, 5)), None);
        assert_eq!(machine.tick(at(start, 11)), Some(Action::Kill(Process::fake(7))));
        assert_eq!(machine.tick(at(start, 12)), None);
        assert_eq!(machine.ended(Some(137), at(start, 12)), Some(Action::Forget));
    }

    #[test]
    fn a_higher_revision_replaces_and_a_repeat_does_not() {
        let start = Instant::now();
        let mut machine = running(RestartPolicy::Always, start);
        assert_eq!(machine.order(machine.spec.clone(), at(start, 1)), None);
        assert_eq!(machine.status().state, TaskState::Running);
        let newer = TaskSpec { revision: 9, ..machine.spec.clone() };
        assert!(matches!(machine.order(newer, at(start, 2)), Some(Action::Term(_))));
        assert_eq!(machine.ended(Some(143), at(start, 3)), None);
        assert_eq!(machine.tick(at(start, 3)), Some(Action::Spawn));
        assert_eq!((machine.status().revision, machine.status().restarts), (9, 0));
    }

    #[test]
    fn a_stop_that_is_taken_back_starts_again_after_the_end() {
        let start = Instant::now();
        let mut machine = running(RestartPolicy::Always, start);
        machine.stop(Then::Forget, STOP_GRACE, at(start, 1));
        assert_eq!(machine.order(machine.spec.clone(), at(start, 1)), None);
        assert_eq!(machine.ended(Some(143), at(start, 2)), None);
        assert_eq!(machine.tick(at(start, 2)), Some(Action::Spawn));
    }

    #[test]
    fn rest_keeps_the_wish_except_where_the_policy_is_never() {
        let start = Instant::now();
        for (policy, expected) in
            [(RestartPolicy::OnFailure, TaskState::Pending), (RestartPolicy::Never, TaskState::Stopped)]
        {
            let mut machine = running(policy, start);
            machine.stop(Then::Rest, STOP_GRACE, at(start, 1));
            assert_eq!(machine.ended(Some(143), at(start, 2)), None);
            assert_eq!(machine.status().state, expected);
        }
    }

    #[test]
    fn a_start_that_may_still_work_is_tried_again_under_every_policy() {
        let start = Instant::now();
        for (lasting, expected) in [(false, TaskState::Pending), (true, TaskState::Failed)] {
            let spec = TaskSpec { restart: RestartPolicy::Never, ..spec("t-1", &["x"]) };
            let mut machine = Machine::new(spec, at(start, 0));
            machine.tick(at(start, 0));
            machine.spawn_failed(lasting, "the disk is full".into(), at(start, 0));
            assert_eq!(machine.status().state, expected);
        }
    }
}
