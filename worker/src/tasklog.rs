//! One task's output: a file that the task itself appends to, and the file before it.
//!
//! ```text
//! log.1 (older) │ log (now)          positions count all bytes since this worker started
//! ```
//!
//! The task holds `log` open by itself, so it cannot be renamed away: when it grows past its size its content is copied
//! to `log.1` and it is emptied. Bytes written between the copy's last read and the emptying are lost; that is the price
//! for tasks that outlive their worker. All calls block; they belong on a blocking thread.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Size at which `log` is copied away and emptied.
const MAX_FILE: u64 = 8 * 1024 * 1024;
/// Bytes of one read.
const BLOCK: u64 = 64 * 1024;

/// A task's output.
#[derive(Debug)]
pub(crate) struct TaskLog {
    current: PathBuf,
    former: PathBuf,
    max: u64,
    starts: Mutex<Starts>,
}

/// Positions of the files' first bytes.
#[derive(Debug)]
struct Starts {
    former: u64,
    current: u64,
}

/// Bytes at a position.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Position of the first byte; behind the one asked for when what lay between is gone.
    pub(crate) at: u64,
    /// Empty at the end.
    pub(crate) bytes: Vec<u8>,
}

impl Chunk {
    /// The position behind it.
    #[cfg(test)]
    fn next(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }
}

impl TaskLog {
    /// The output in a task's folder.
    pub(crate) fn open(folder: &Path) -> Self {
        Self::sized(folder, MAX_FILE)
    }

    fn sized(folder: &Path, max: u64) -> Self {
        let former = folder.join("log.1");
        let starts = Mutex::new(Starts { former: 0, current: size(&former) });
        Self { current: folder.join("log"), former, max, starts }
    }

    /// The file that the task appends to.
    pub(crate) fn path(&self) -> &Path {
        &self.current
    }

    fn starts(&self) -> MutexGuard<'_, Starts> {
        self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Position behind the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.starts().current + size(&self.current)
    }

    /// Up to [`BLOCK`] bytes from a position on.
    pub(crate) fn read(&self, at: u64) -> io::Result<Chunk> {
        let starts = self.starts();
        if at < starts.current {
            let from = at.max(starts.former);
            let bytes = read_block(&self.former, from - starts.former, BLOCK)?;
            if !bytes.is_empty() {
                return Ok(Chunk { at: from, bytes });
            }
        }
        let at = at.max(starts.current);
        Ok(Chunk { at, bytes: read_block(&self.current, at - starts.current, BLOCK)? })
    }

    /// Where the last `lines` lines begin; `None` for all that is kept.
    pub(crate) fn tail(&self, lines: Option<u64>) -> io::Result<u64> {
        let end = self.end();
        let first = self.starts().former;
        let Some(lines) = lines else { return Ok(first) };
        if lines == 0 {
            return Ok(end);
        }
        let mut found = 0;
        let mut upper = end;
        while upper > first {
            let lower = upper.saturating_sub(BLOCK).max(first);
            let mut block = Vec::new();
            while lower + (block.len() as u64) < upper {
                let chunk = self.read(lower + block.len() as u64)?;
                if chunk.bytes.is_empty() {
                    break;
                }
                block.extend(chunk.bytes);
            }
            block.truncate(usize::try_from(upper - lower).unwrap_or(usize::MAX));
            for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                let behind = lower + index as u64 + 1;
                // The newline at the very end closes the last line; it does not begin another.
                found += u64::from(behind != end);
                if found == lines {
                    return Ok(behind);
                }
            }
            upper = lower;
        }
        Ok(first)
    }

    /// Copies the output away and empties its file, when it has grown past its size.
    pub(crate) fn rotate(&self) -> io::Result<()> {
        let mut starts = self.starts();
        let size = size(&self.current);
        if size <= self.max {
            return Ok(());
        }
        let from = size - self.max;
        let copied = self.copy_away(from);
        // Emptied even when the copy failed: a full disk is no reason to fill it further.
        OpenOptions::new().write(true).open(&self.current)?.set_len(0)?;
        let until = starts.current + size;
        *starts = Starts { former: starts.current + from, current: until };
        copied
    }

    fn copy_away(&self, from: u64) -> io::Result<()> {
        let new = self.former.with_extension("new");
        let copy = || {
            let mut source = File::open(&self.current)?;
            source.seek(SeekFrom::Start(from))?;
            let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            io::copy(&mut source.take(self.max), &mut out)?;
            fs::rename(&new, &self.former)
        };
        copy().inspect_err(|_| {
            let _ = fs::remove_file(&new);
            let _ = fs::remove_file(&self.former);
        })
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn read_block(path: &Path, from: u64, max: u64) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn all(log: &TaskLog, mut at: u64) -> String {
        let mut text = Vec::new();
        loop {
            let chunk = log.read(at).unwrap();
            if chunk.bytes.is_empty() {
                return String::from_utf8(text).unwrap();
            }
            at = chunk.next();
            text.extend(chunk.bytes);
        }
    }

    #[test]
    fn a_reader_sees_every_byte_across_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let log = TaskLog::sized(dir.path(), 100);
        let mut writer = OpenOptions::new().append(true).create(true).open(log.path()).unwrap();
        for number in 0..20 {
            writeln!(writer, "line {number:03}").unwrap();
        }
        let seen = log.read(0).unwrap();
        assert_eq!(seen.next(), 180);
        writeln!(writer, "line 020").unwrap();
        log.rotate().unwrap();
        assert_eq!(size(log.path()), 0);
        writeln!(writer, "line 021").unwrap();
        assert_eq!(all(&log, seen.next()), "line 020\nline 021\n");
        assert_eq!(all(&log, log.tail(Some(3)).unwrap()), "line 019\nline 020\nline 021\n");
        assert!(all(&log, log.tail(None).unwrap()).len() <= 109);
        assert_eq!(all(&log, log.tail(Some(0)).unwrap()), "");
        let again = TaskLog::sized(dir.path(), 100);
        assert_eq!(all(&again, again.tail(Some(2)).unwrap()), "line 020\nline 021\n");
    }

    #[test]
    fn tails_of_odd_files() {
        let dir = tempfile::tempdir().unwrap();
        let log = TaskLog::sized(dir.path(), 1000);
        assert_eq!(all(&log, log.tail(Some(5)).unwrap()), "");
        fs::write(log.path(), "one\ntwo").unwrap();
        assert_eq!(all(&log, log.tail(Some(1)).unwrap()), "two");
        assert_eq!(all(&log, log.tail(Some(9)).unwrap()), "one\ntwo");
    }
}
