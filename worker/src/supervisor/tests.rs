//! The supervisor with real processes.

use super::*;
use crate::testing::{eventually, ground};
use longshore_wire::task::{Limits, RestartPolicy, TaskState};
use std::fs;
use std::path::Path;
use std::time::Instant;

/// A supervisor that can be dropped as if its process had been killed.
struct Rig {
    supervisor: Supervisor,
    spec: TaskSpec,
    vital: Vital,
    tracker: TaskTracker,
    folder: crate::folder::Folder,
}

impl Rig {
    async fn start(dir: &Path, script: &str) -> Self {
        let (vital, tracker) = (Vital::default(), TaskTracker::new());
        let (folder, ground, spec) = ground(dir, script, &tracker).await;
        let supervisor = Supervisor::start(ground, &tracker, vital.clone()).await.unwrap();
        Self { supervisor, spec, vital, tracker, folder }
    }

    /// Ends the supervisor without a word to its tasks.
    async fn crash(self) {
        self.vital.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    fn status(&self) -> Option<TaskStatus> {
        self.supervisor.statuses().borrow().iter().find(|status| status.task == self.spec.task).cloned()
    }

    fn output(&self) -> String {
        fs::read_to_string(self.folder.paths().task(&self.spec.task).join("log")).unwrap_or_default()
    }

    async fn run(&self, spec: &TaskSpec) -> Result<(), Failure> {
        self.supervisor.run(Box::new(spec.clone())).await.get().await
    }

    async fn reaches(&self, state: TaskState) -> TaskStatus {
        eventually(&format!("{state}; output {:?}", self.output()), || self.status().filter(|now| now.state == state))
            .await
    }

    async fn says(&self, text: &str) -> String {
        eventually(&format!("output {text:?}, status {:?}", self.status()), || {
            Some(self.output()).filter(|output| output.contains(text))
        })
        .await
    }

    async fn end(&self) {
        self.supervisor.end(self.spec.task.clone()).await.get().await.unwrap();
        eventually("the task is forgotten", || self.status().is_none().then_some(())).await;
    }
}

/// The pid that a task printed behind `name=`.
fn pid(output: &str, name: &str) -> i32 {
    let line = output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("no {name} in {output:?}")).parse().unwrap()
}

fn is_running(pid: i32) -> bool {
    process::Process::find(pid).is_ok()
}

#[tokio::test]
async fn a_task_finds_its_surroundings_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"echo "in $(pwd)"; echo "$LONGSHORE_TASK $LONGSHORE_NODE $LONGSHORE_ARGS $HOME $1" >&2
        touch "$LONGSHORE_DATA/mine"; [ -S "$LONGSHORE_SOCKET" ] && echo socket; [ -z "$CARGO_MANIFEST_DIR" ] && echo clean"#;
    let rig = Rig::start(dir.path(), script).await;
    let mut spec = rig.spec.clone();
    spec.args.insert("room".into(), "blue".into());
    spec.entry.push("given".into());
    rig.run(&spec).await.unwrap();
    let status = rig.reaches(TaskState::Stopped).await;
    assert_eq!((status.exit_code, status.restarts), (Some(0), 0));
    let output = rig.output();
    let data = rig.folder.paths().task_data(&spec.task);
    assert!(output.contains(&format!("in {}/cache/{}", rig.folder.paths().root().display(), spec.digest)), "{output}");
    assert!(output.contains(&format!("t-1 w1 {{\"room\":\"blue\"}} {} given\n", data.display())), "{output}");
    assert!(output.contains("socket\nclean\n"), "{output}");
    assert!(data.join("mine").exists());
    rig.end().await;
    assert!(data.join("mine").exists());
}

#[tokio::test]
async fn a_failure_is_started_again_and_a_repeated_order_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"n=$(cat "$LONGSHORE_DATA/n" 2>/dev/null || echo 0); echo $((n + 1)) >"$LONGSHORE_DATA/n"
        echo "run $n"; [ "$n" = 0 ] && kill -9 $$; sleep 100"#;
    let rig = Rig::start(dir.path(), script).await;
    rig.run(&rig.spec).await.unwrap();
    rig.says("run 1").await;
    let status = rig.reaches(TaskState::Running).await;
    assert_eq!((status.restarts, status.exit_code), (1, Some(137)));
    rig.run(&rig.spec).await.unwrap();
    assert_eq!(rig.status().unwrap().restarts, 1);
    rig.end().await;
    assert!(!rig.output().contains("run 2"));
}

#[tokio::test]
async fn a_stop_reaches_the_whole_group() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), "sleep 100 & echo child=$!; echo me=$$; wait").await;
    rig.run(&rig.spec).await.unwrap();
    let output = rig.says("me=").await;
    rig.end().await;
    for name in ["child", "me"] {
        let pid = pid(&output, name);
        eventually("the process is gone", || (!is_running(pid)).then_some(())).await;
    }
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), "trap '' TERM; echo me=$$; while :; do sleep 1; done").await;
    rig.run(&rig.spec).await.unwrap();
    let output = rig.says("me=").await;
    let begun = Instant::now();
    rig.supervisor.stop_all(Duration::from_millis(300)).await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(!is_running(pid(&output, "me")));
    assert_eq!(rig.status().unwrap().exit_code, Some(137));
    assert_eq!(rig.run(&rig.spec).await.unwrap_err().code, Code::NotReady);
}

#[tokio::test]
async fn a_killed_worker_finds_its_task_again() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo me=$$; trap 'exit 3' USR1; while :; do sleep 0.05; done";
    let rig = Rig::start(dir.path(), script).await;
    rig.run(&rig.spec).await.unwrap();
    let output = rig.says("me=").await;
    rig.reaches(TaskState::Running).await;
    rig.crash().await;
    let me = pid(&output, "me");
    assert!(is_running(me));

    let rig = Rig::start(dir.path(), script).await;
    assert_eq!(rig.status().unwrap().state, TaskState::Running);
    rig.run(&rig.spec).await.unwrap();
    assert!(is_running(me));
    assert_eq!(rig.output().matches("me=").count(), 1, "it was started twice");
    rig.end().await;
    assert!(!is_running(me));
}

#[tokio::test]
async fn what_ended_while_the_worker_was_away_starts_by_its_policy() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo me=$$; exec sleep 100";
    let rig = Rig::start(dir.path(), script).await;
    let never = TaskSpec { task: TaskId("t-2".into()), restart: RestartPolicy::Never, ..rig.spec.clone() };
    rig.run(&rig.spec).await.unwrap();
    rig.run(&never).await.unwrap();
    let first = pid(&rig.says("me=").await, "me");
    let log = rig.folder.paths().task(&never.task).join("log");
    let second = eventually("the second task", || {
        fs::read_to_string(&log).ok().filter(|text| text.ends_with('\n')).map(|text| pid(&text, "me"))
    })
    .await;
    rig.reaches(TaskState::Running).await;
    rig.crash().await;
    for pid in [first, second] {
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
        eventually("the process is gone", || (!is_running(pid)).then_some(())).await;
    }
    let rig = Rig::start(dir.path(), script).await;
    let statuses = rig.supervisor.statuses();
    let other = statuses.borrow().iter().find(|status| status.task == never.task).cloned().unwrap();
    assert_eq!((other.state, other.exit_code), (TaskState::Failed, None));
    eventually("a second run", || (rig.output().matches("me=").count() == 2).then_some(())).await;
    rig.end().await;
}

#[tokio::test]
async fn a_process_whose_pid_was_not_written_down_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo me=$$; while :; do sleep 0.05; done";
    let rig = Rig::start(dir.path(), script).await;
    rig.run(&rig.spec).await.unwrap();
    let me = pid(&rig.says("me=").await, "me");
    rig.reaches(TaskState::Running).await;
    let record = rig.folder.paths().task(&rig.spec.task).join("task.json");
    rig.crash().await;
    let mut content: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    content["step"] = "starting".into();
    fs::write(&record, content.to_string()).unwrap();

    let rig = Rig::start(dir.path(), script).await;
    assert_eq!(rig.status().unwrap().state, TaskState::Running);
    assert!(is_running(me));
    rig.end().await;
    assert!(!is_running(me));
    assert_eq!(rig.output().matches("me=").count(), 1);
}

#[tokio::test]
async fn orders_that_cannot_be_carried_out() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), "true").await;
    let refused = async |spec: TaskSpec| rig.run(&spec).await.unwrap_err().code;
    assert_eq!(refused(TaskSpec { task: TaskId("../x".into()), ..rig.spec.clone() }).await, Code::Invalid);
    assert_eq!(refused(TaskSpec { digest: Digest([1; 32]), ..rig.spec.clone() }).await, Code::NotFound);
    for (entry, runtime) in [("/bin/sh", "exec"), ("./absent", "exec"), ("./run.sh", "troy")] {
        let spec = TaskSpec { entry: vec![entry.into()], runtime: runtime.into(), ..rig.spec.clone() };
        rig.run(&spec).await.unwrap();
        let status = rig.reaches(TaskState::Failed).await;
        assert!(status.message.is_some());
        rig.end().await;
    }
}

#[tokio::test]
async fn memory_is_limited_and_archives_in_use_stay() {
    let dir = tempfile::tempdir().unwrap();
    let script = "while [ ! -e \"$LONGSHORE_DATA/go\" ]; do sleep 0.02; done; echo limit=$(ulimit -v); sleep 100";
    let rig = Rig::start(dir.path(), script).await;
    let spec = TaskSpec { limits: Limits { memory: Some(64 << 20) }, ..rig.spec.clone() };
    rig.run(&spec).await.unwrap();
    fs::write(rig.folder.paths().task_data(&spec.task).join("go"), "").unwrap();
    rig.says("limit=65536\n").await;
    let archive = rig.folder.paths().cache().join(spec.digest.to_string());
    rig.supervisor.drop_archives(vec![spec.digest]).await.get().await.unwrap();
    assert!(archive.exists());
    rig.end().await;
    rig.supervisor.drop_archives(vec![spec.digest]).await.get().await.unwrap();
    assert!(!archive.exists());
}
