//! `longshore dev`: a whole cluster in one process, and an app on it.

mod follow;
mod town;

use super::{app, flow, items};
use crate::args::app::Deploy;
use crate::args::flow::Start;
use crate::args::local::Dev;
use crate::client::{Call, Client, path};
use crate::error::{Exit, Failed};
use crate::output;
use crate::run::{STOP_DEADLINE, Signals, end_now};
use longshore_archive::{PackOptions, pack};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use town::Town;

/// Pause between two looks while something comes up.
const POLL: Duration = Duration::from_millis(50);

pub(super) async fn dev(args: Dev, timeout: Duration) -> anyhow::Result<()> {
    if let Some(dir) = args.app_dir.clone() {
        // Before anything starts: a folder that is no app is the most common mistake.
        tokio::task::spawn_blocking(move || pack(&dir, &PackOptions::default(), &mut std::io::sink())).await??;
    }
    let mut signals = Signals::new()?;
    let town = tokio::select! {
        town = Town::start(&args) => town?,
        signal = signals.wanted() => return Err(Failed::new(Exit::Failed, format!("{signal} while starting")).into()),
    };
    let result = tokio::select! {
        result = live(&args, &town, timeout) => result,
        why = town.stopped() => Err(Failed::new(Exit::Failed, why).into()),
        _ = signals.wanted() => {
            output::say("stopping; a second Ctrl-C ends the process at once");
            Ok(())
        }
    };
    tokio::select! {
        () = town.stop(STOP_DEADLINE) => {}
        _ = signals.wanted_again() => {
            output::say("ended at once; tasks of the app may still run");
            end_now();
        }
    }
    result
}

/// Waits for the cluster, runs the app, and follows it.
async fn live(args: &Dev, town: &Town, timeout: Duration) -> anyhow::Result<()> {
    let client = Client::at(town.socket(), timeout)?;
    wait_up(&client, args, timeout).await?;
    greet(args, town);
    let Some(dir) = &args.app_dir else { return std::future::pending().await };
    let instance = launch(&client, args, dir).await?;
    follow::follow(&client, &instance, args).await
}

/// Waits until there is a leader and every worker is driven.
async fn wait_up(client: &Client, args: &Dev, timeout: Duration) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let nodes = client.json(Call::get("/v1/nodes")).await;
        let seen = |role: &str| {
            let nodes = nodes.as_ref().ok().and_then(Value::as_array);
            let fits = |node: &&Value| node["state"] == "ready" && items(&node["roles"]).iter().any(|has| has == role);
            nodes.map_or(0, |nodes| nodes.iter().filter(fits).count())
        };
        let (workers, controls) = (seen("worker"), seen("control"));
        if workers >= usize::from(args.workers) && controls >= usize::from(args.control) {
            return Ok(());
        }
        if start.elapsed() > timeout {
            let why = nodes.err().map_or_else(
                || {
                    format!(
                        "{controls} of {} control nodes and {workers} of {} workers came up",
                        args.control, args.workers
                    )
                },
                |error| error.to_string(),
            );
            let hint = "LONGSHORE_LOG=info shows what they do";
            return Err(
                Failed::new(Exit::TimedOut, format!("the cluster is not up after {timeout:?}: {why}; {hint}")).into()
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

fn greet(args: &Dev, town: &Town) {
    let plural = |count: u8, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (controls, workers) = (plural(args.control, "control node"), plural(args.workers, "worker"));
    let data = match &args.data {
        Some(dir) => format!("data kept in {}", dir.display()),
        None if args.memory => "data in memory, thrown away at the end".to_owned(),
        None => "data thrown away at the end".to_owned(),
    };
    output::say(&format!("{controls} and {workers} over {}, {data}.", args.transport));
    if !args.once {
        let api = town.api();
        output::say(&format!("In another terminal:\n\n  export LONGSHORE_API={api}\n  longshore node list\n"));
        output::say("Ctrl-C stops everything.\n");
    }
}

/// Packs, deploys and starts; an instance that a former run left behind is stopped first. Gives the instance's name.
async fn launch(client: &Client, args: &Dev, dir: &Path) -> anyhow::Result<String> {
    let deployed = app::deploy(client, &Deploy { path: dir.to_owned(), name: None }).await?;
    let app = deployed["app"].as_str().unwrap_or_default().to_owned();
    output::say(&format!("app {app} version {} is deployed; its flow main starts on all workers", deployed["version"]));
    let place = path("/v1/instances/{}", &[&app]);
    let former = client.json(Call::get(&place)).await;
    if former.is_ok_and(|former| former["wanted"] != "stopped") {
        client.json(Call::post(format!("{place}/stop"), &json!({}))).await?;
        flow::wait_over(client, &app).await?;
    }
    let start = Start {
        flow: app.clone(),
        name: Some(app.clone()),
        on: "all".to_owned(),
        selector: None,
        args: args.args.clone(),
        wait: false,
    };
    flow::start(client, &start).await?;
    Ok(app)
}
