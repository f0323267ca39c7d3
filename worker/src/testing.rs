//! What the tests share.

use crate::cache::{Announced, Cache};
use crate::cluster::Cluster;
use crate::fence::Fence;
use crate::folder::Folder;
use crate::socket::{Place, Sockets};
use crate::supervisor::Ground;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use longshore_archive::{PackOptions, pack};
use longshore_wire::edge::{Accepted, TaskKv};
use longshore_wire::kv::KvReply;
use longshore_wire::task::{Limits, RestartPolicy, TaskSpec};
use longshore_wire::{Digest, Epoch, Failure, Generation, NodeId, Partition, ShortId, TaskId};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_util::task::TaskTracker;

/// A task that runs `entry` of a digest nobody has.
pub(crate) fn spec(task: &str, entry: &[&str]) -> TaskSpec {
    TaskSpec {
        task: TaskId(task.into()),
        revision: 1,
        instance: "t".into(),
        app: "app".into(),
        version: 1,
        digest: Digest([0; 32]),
        flow: "main".into(),
        runtime: "exec".into(),
        entry: entry.iter().map(ToString::to_string).collect(),
        args: BTreeMap::new(),
        restart: RestartPolicy::OnFailure,
        limits: Limits::default(),
    }
}

/// What an owner answers.
pub(crate) fn accepted(epoch: u64) -> Accepted {
    Accepted {
        epoch: Epoch(epoch),
        partition: Partition(1),
        short_id: ShortId(3),
        generation: Generation(1),
        owner: NodeId::from_u128(1),
        owner_name: "c1".into(),
    }
}

/// An archive with one shell script, `run.sh`.
pub(crate) fn pack_script(script: &str) -> (Digest, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let toml = "name = \"app\"\nruntime = \"exec\"\n[flows.main]\nentry = [\"./run.sh\"]\n";
    fs::write(dir.path().join("app.toml"), toml).unwrap();
    let path = dir.path().join("run.sh");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut bytes = Vec::new();
    let report = pack(dir.path(), &PackOptions::default(), &mut bytes).unwrap();
    (report.digest, bytes)
}

/// A cluster that answers what it is told to, and notes what it was asked.
#[derive(Default)]
pub(crate) struct FakeCluster {
    pub(crate) asked: Mutex<Vec<TaskKv>>,
    pub(crate) answers: Mutex<Vec<Result<KvReply, Failure>>>,
}

impl Cluster for FakeCluster {
    fn kv(&self, request: TaskKv) -> BoxFuture<'_, Result<KvReply, Failure>> {
        self.asked.lock().unwrap().push(request);
        let answer = self.answers.lock().unwrap().remove(0);
        std::future::ready(answer).boxed()
    }

    fn is_connected(&self) -> bool {
        true
    }
}

/// What a supervisor needs, in `dir`, with one script in the cache.
pub(crate) async fn ground(dir: &Path, script: &str, tracker: &TaskTracker) -> (Folder, Ground, TaskSpec) {
    let folder = Folder::open(dir).unwrap();
    let paths = folder.paths();
    let cache = Arc::new(Cache::open(paths.cache()).unwrap());
    let (digest, bytes) = pack_script(script);
    let announced = Announced { digest, size: bytes.len() as u64, blake3: None };
    cache.receive(announced, &mut bytes.as_slice()).await.unwrap();
    let place = Place::choose(paths.root()).unwrap();
    let node = (NodeId::from_u128(5), "w1".to_owned());
    let ground = Ground {
        fence: Arc::new(Fence::open(&paths.cluster(), "prod").unwrap()),
        sockets: Sockets::new(place, Arc::new(FakeCluster::default()), node, tracker.clone()),
        cache,
        paths,
        name: "w1".into(),
        runtimes: vec!["exec".into()],
    };
    (folder, ground, TaskSpec { digest, ..spec("t-1", &["./run.sh"]) })
}

/// Waits until `check` gives something; panics after 20 s.
pub(crate) async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < end, "waited too long for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
