//! Workers that can reach only one control node are driven by all of them, through it.

use crate::cluster::{Cluster, Reach};
use crate::process::wait_for;

#[test]
fn workers_come_in_by_tunnel() {
    let cluster = Cluster::start(3, Reach::FirstOnly);
    cluster.wait_spread(3);
    wait_for("the workers of the two other owners to come through a tunnel", || {
        let workers = cluster.worker_records(0)?;
        let tunnels = workers.iter().filter(|node| node["transport"] == "tunnel").count();
        if tunnels == 2 { Ok(()) } else { Err(format!("{workers:#?}")) }
    });

    cluster.run_app("counter", &["--arg", "increments=20"]);
    wait_for("the counter to add up through the tunnels", || {
        let value = cluster.cli(1).try_json(&["kv", "get", "apps/counter/counter"])?;
        if value.to_string().contains("60") { Ok(()) } else { Err(value.to_string()) }
    });
    for worker in &cluster.workers {
        let reply = cluster.cli(2).json(&["request", &worker.name, "echo", r#"{"hello": 1}"#]);
        assert_eq!(reply["outcome"], "done", "{reply}");
        assert_eq!(reply["reply"]["hello"], 1, "{reply}");
    }
}
