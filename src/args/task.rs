//! Arguments of `longshore task` and `longshore request`.

use clap::{Args, Subcommand};
use serde_json::Value;

/// `longshore task`
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// All tasks
    List {
        /// Only those of this instance
        #[arg(long)]
        instance: Option<String>,
        /// Only those on this node
        #[arg(long)]
        node: Option<String>,
    },
    /// All of one task
    Show {
        /// The task
        task: String,
    },
    /// What a task has written
    Logs(Logs),
}

/// `longshore task logs`
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The task
    pub(crate) task: String,
    /// Go on with new output until the task has ended
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last so many lines
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u64>,
}

/// `longshore request`
#[derive(Debug, Args)]
pub(crate) struct Request {
    /// Name, node id, short id, or a unique beginning of either id
    pub(crate) node: String,
    /// The job class; `echo` is built in
    pub(crate) class: String,
    /// What to send
    #[arg(value_parser = json, allow_hyphen_values = true)]
    pub(crate) json: Value,
}

/// `longshore outcome`
#[derive(Debug, Args)]
pub(crate) struct Outcome {
    /// Name, node id, short id, or a unique beginning of either id
    pub(crate) node: String,
    /// The request's id, as `longshore request` printed it
    pub(crate) id: String,
    /// The worker's boot at the time, as printed with the id: only then the worker can say that the request never came
    #[arg(long, value_name = "ID")]
    pub(crate) boot: Option<String>,
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}
