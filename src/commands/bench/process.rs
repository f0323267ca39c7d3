//! What the kernel says of a process.

use anyhow::Context as _;
use std::time::Duration;

/// Ticks of `/proc/PID/stat` in a second: the same on every Linux that this program runs on.
const TICKS: f64 = 100.0;

/// Resident memory, in KiB.
pub(super) fn resident(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("smaps_rollup names no Rss")?;
    let number = line.trim().trim_end_matches(" kB").trim();
    number.parse().with_context(|| format!("Rss is '{number}'"))
}

/// Processor time used so far.
pub(super) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The fields stand behind the name, which is in brackets and may hold anything; user and system time are the 12th
    // and 13th of them.
    let (_, fields) = text.rsplit_once(") ").context("stat has no name")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_has_worked() {
        assert!(resident(std::process::id()).unwrap() > 100.0);
        let before = cpu(std::process::id()).unwrap();
        while cpu(std::process::id()).unwrap() == before {
            std::hint::spin_loop();
        }
    }
}
