//! `longshore cluster`: the control group, and the limits that hold for the cluster.

mod events;

use super::{Remote, items};
use crate::args::cluster::{Cluster, Setting};
use crate::client::{Call, bytes};
use crate::output::{self, Table, cell};
use hyper::Method;
use serde_json::{Value, json};
use std::time::Duration;

pub(super) async fn cluster(remote: &Remote, args: &Cluster) -> anyhow::Result<()> {
    match args {
        Cluster::Events(args) => return events::events(remote, args).await,
        Cluster::Quota { size } => return limits(remote, "quota", size.map(|Setting(size)| json!(size))).await,
        Cluster::Brake { writes } => return limits(remote, "brake", writes.map(|Setting(writes)| json!(writes))).await,
        Cluster::Voters { count } => return voters(remote, *count).await,
        Cluster::Leave => return leave(remote).await,
        Cluster::Status | Cluster::Members => (),
    }
    let status = remote.client.json(Call::get("/v1/cluster")).await?;
    match args {
        Cluster::Status => remote.print(&status, |status| {
            summary(status)?;
            output::line("")?;
            members(remote, &status["members"])
        }),
        _ => remote.print(&status["members"], |list| members(remote, list)),
    }
}

/// Shows how many control nodes vote, after a change where that is wanted.
async fn voters(remote: &Remote, wanted: Option<u32>) -> anyhow::Result<()> {
    const PATH: &str = "/v1/cluster/voters";
    let call = match wanted {
        None => Call::get(PATH),
        Some(voters) => Call::new(Method::PUT, PATH).body(bytes(json!({ "voters": voters }).to_string())),
    };
    let voters = remote.client.json(call).await?;
    remote.print(&voters, |voters| {
        output::line(&format!("{} wanted, {} now", cell(&voters["voters"]), items(&voters["now"]).len()))
    })
}

async fn leave(remote: &Remote) -> anyhow::Result<()> {
    let left = remote.client.json(Call::new(Method::POST, "/v1/cluster/leave")).await?;
    remote.print(&left, |left| output::line(&format!("{} has left the cluster, and stops", cell(&left["id"]))))
}

/// Shows the limits of the key-value store, with one of them changed where that is wanted.
async fn limits(remote: &Remote, name: &str, wanted: Option<Value>) -> anyhow::Result<()> {
    const PATH: &str = "/v1/cluster/limits";
    let call = match wanted {
        None => Call::get(PATH),
        Some(value) => Call::new(Method::PUT, PATH).body(bytes(json!({ name: value }).to_string())),
    };
    let limits = remote.client.json(call).await?;
    remote.print(&limits, |limits| {
        let brake = if limits["brake"].is_null() { "off".to_owned() } else { cell(&limits["brake"]) + " writes/s" };
        output::line(&format!("quota {} bytes, {} used", cell(&limits["quota"]), cell(&limits["used"])))?;
        output::line(&format!("brake {brake}"))
    })
}

fn summary(status: &Value) -> anyhow::Result<()> {
    let leader = &status["leader"];
    let named = items(&status["members"]).iter().find(|member| member["id"] == *leader || member["name"] == *leader);
    let leader = named.map_or_else(|| cell(leader), |member| cell(&member["name"]));
    let leader = if leader == "-" { "none: no majority of the voters can be reached".to_owned() } else { leader };
    let changing = if status["voters_changing"] == true { ", changing: the former ones are needed too" } else { "" };
    for (name, text) in [
        ("cluster", format!("{} ({})", cell(&status["cluster"]), cell(&status["cluster_id"]))),
        ("leader", leader),
        ("quorum", yes_no(&status["quorum"])),
        ("voters", format!("{} wanted{changing}", cell(&status["voters_wanted"]))),
        (
            "log",
            format!(
                "term {}, committed {}, applied here {}",
                cell(&status["term"]),
                cell(&status["committed"]),
                cell(&status["applied"])
            ),
        ),
    ] {
        output::line(&format!("{name:<8} {}", output::plain(&text)))?;
    }
    Ok(())
}

fn members(remote: &Remote, list: &Value) -> anyhow::Result<()> {
    let names =
        ["NAME", "SHORT", "ROLE", "ALIVE", "LAG", "DISK FREE", "SNAPSHOT", "ADDRESS", "(LOG)", "(ID)", "(GENERATION)"];
    let mut table = Table::new(&names, remote.wide());
    for member in items(list) {
        let text = |name: &str| cell(&member[name]);
        let bytes = |name: &str| member[name].as_u64().map_or_else(|| "-".to_owned(), output::size);
        let alive = yes_no(&member["alive"]);
        table.row(vec![
            text("name"),
            text("short_id"),
            text("role"),
            alive,
            text("lag"),
            bytes("disk_free") + if member["disk_short"] == true { " (full)" } else { "" },
            age(&member["snapshot_age_ms"]),
            text("address"),
            bytes("log_bytes"),
            text("id"),
            text("generation"),
        ]);
    }
    table.print()
}

/// Milliseconds as a duration in its largest unit or two.
fn age(millis: &Value) -> String {
    let Some(millis) = millis.as_u64() else { return "-".to_owned() };
    let text = humantime::format_duration(Duration::from_secs(millis / 1000)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ") + " old"
}

fn yes_no(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => cell(other),
    }
}
