//! Log output: `LONGSHORE_LOG` says what, `LONGSHORE_LOG_FORMAT` how (`text` or `json`); always to standard error.

use crate::error::Failed;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

const LEVELS: &str = "LONGSHORE_LOG";
const FORMAT: &str = "LONGSHORE_LOG_FORMAT";
/// openraft calls each message that a dead node does not answer an error, hundreds a second; its faults are told by `control`.
/// Libraries that tell at `info` and `warn` what only their authors understand; `LONGSHORE_LOG=openraft=debug` still shows it.
const QUIET: &str = "openraft=off,hickory_net=error,hickory_proto=error,hickory_resolver=error,tungstenite=error";

/// Starts the log output; `default` counts when `LONGSHORE_LOG` is not set.
pub(crate) fn start(default: &str) -> anyhow::Result<()> {
    let levels = std::env::var(LEVELS).ok().filter(|text| !text.is_empty());
    let levels = levels.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(format!("{QUIET},{levels}"))
        .map_err(|error| Failed::usage(format!("{LEVELS}='{levels}': {error}; write for example info or warn")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match std::env::var(FORMAT).as_deref() {
        Ok("json") => builder.json().flatten_event(true).init(),
        Ok("text" | "") | Err(_) => builder.with_ansi(colours()).with_target(false).init(),
        Ok(other) => return Err(Failed::usage(format!("{FORMAT}='{other}': formats are text and json")).into()),
    }
    Ok(())
}

/// Whether the reader is a person who has not asked for plain text (<https://no-color.org>).
fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
