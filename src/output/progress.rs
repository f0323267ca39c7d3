//! A progress line on a terminal; nothing anywhere else.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Time between two drawings.
const PACE: Duration = Duration::from_millis(100);

/// How far a transfer is.
pub(crate) struct Progress {
    what: String,
    total: u64,
    done: u64,
    drawn: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// A transfer of `total` bytes.
    pub(crate) fn new(what: impl Into<String>, total: u64) -> Self {
        Self { what: what.into(), total, done: 0, drawn: None, terminal: std::io::stderr().is_terminal() }
    }

    /// So many bytes more are done.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.done += bytes;
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() > PACE);
        if self.terminal && (due || self.done >= self.total) {
            self.drawn = Some(Instant::now());
            let percent = (self.done * 100).checked_div(self.total).unwrap_or(100);
            let (what, done, total) = (&self.what, size(self.done), size(self.total));
            drop(write!(std::io::stderr().lock(), "\r\x1b[K{what}: {percent} % of {total} ({done})"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            drop(write!(std::io::stderr().lock(), "\r\x1b[K"));
        }
    }
}

/// Bytes with a unit.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, factor)| bytes >= *factor) {
        // Tenths in whole numbers: sizes need no more.
        Some((unit, factor)) => format!("{}.{} {unit}", bytes / factor, bytes % factor * 10 / factor),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(5 << 30), "5.0 GiB");
    }
}
