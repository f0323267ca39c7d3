//! The power is cut while keys are written: every acknowledged one is there afterwards. Needs root and a loop device.

use crate::disk::Disk;
use crate::process::{PATIENCE, wait_for};
use crate::single::Single;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

/// Half of them with the process halted, half while it runs.
const CUTS: usize = 6;
const WRITERS: usize = 4;
/// Acknowledged writes before a cut.
const WRITES: usize = 400;
/// Records of the plain files.
const RECORDS: usize = 2000;
const RECORD: usize = 256;

/// A disk, or a loud skip.
fn disk(test: &str) -> Option<Disk> {
    let disk = Disk::new();
    if let Err(why) = &disk {
        // Past the capture of a test's output: a skip must be seen.
        drop(writeln!(io::stderr(), "\n!!! SKIPPED: {test} did not run and shows nothing: {why}\n"));
    }
    disk.ok()
}

/// How the power goes.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// The process is halted first, between two system calls.
    Halted,
    /// The process goes on, so the disk may hold half of what it is told to sync.
    Running,
}

impl Cut {
    /// Cuts; the node is dead then. What is on the disk, and what was acknowledged before.
    fn now(self, single: &mut Single, disk: &Disk, load: Load) -> (Disk, Vec<usize>) {
        match self {
            Self::Halted => {
                single.control.halt();
                let after = disk.cut();
                single.control.kill();
                // Answers that were on their way count: they were sent before the halt.
                (after, load.ended())
            }
            Self::Running => {
                let counts = load.counts();
                let after = disk.cut();
                single.control.kill();
                load.ended();
                (after, counts)
            }
        }
    }
}

#[test]
fn a_power_cut_loses_no_acknowledged_key() {
    let Some(mut disk) = disk("a_power_cut_loses_no_acknowledged_key") else { return };
    let mut single = Single::start_on(&disk.path().join("data"));
    let api = SocketAddr::new(single.subnet.host(1), 8138);
    let mut acknowledged: Vec<Vec<usize>> = Vec::new();
    for round in 0..CUTS {
        let load = Load::start(api, round);
        wait_for("writes", || load.reached(WRITES));
        let cut = if round % 2 == 0 { Cut::Halted } else { Cut::Running };
        let (after, counts) = cut.now(&mut single, &disk, load);
        acknowledged.push(counts);
        let start = Instant::now();
        disk = after;
        single.restart_on(&disk.path().join("data"));
        let lost = lost(api, &acknowledged);
        let total: usize = acknowledged.iter().flatten().sum();
        let (gone, time) = (lost.len(), start.elapsed());
        println!("cut {round} ({cut:?}): {gone} of {total} acknowledged keys lost; restarted and read in {time:?}");
        assert!(lost.is_empty(), "acknowledged keys are lost: {lost:?}");
    }
}

#[test]
fn a_cut_shows_what_was_not_synced() {
    let Some(disk) = disk("a_cut_shows_what_was_not_synced") else { return };
    for (name, sync) in [("synced", File::sync_data as fn(&File) -> io::Result<()>), ("unsynced", |_| Ok(()))] {
        let mut file = File::create(disk.path().join(name)).unwrap();
        for number in 0..RECORDS {
            file.write_all(&record(number)).unwrap();
            sync(&file).unwrap();
        }
    }
    let after = disk.cut();
    let synced = kept(&after.path().join("synced"));
    let unsynced = kept(&after.path().join("unsynced"));
    println!("of {RECORDS} acknowledged records are left: {synced} of a synced file, {unsynced} of an unsynced one");
    assert_eq!(synced, RECORDS, "what was synced outlives the cut");
    assert!(unsynced < RECORDS, "the cut shows nothing: it keeps what was never synced");
}

fn record(number: usize) -> Vec<u8> {
    let mut record = format!("record {number}").into_bytes();
    record.resize(RECORD, b'.');
    record
}

/// Whole records from the start of a file; none when there is no file.
fn kept(file: &Path) -> usize {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.chunks(RECORD).enumerate().take_while(|(number, chunk)| *chunk == record(*number)).count()
}

/// Threads that write keys, each as soon as its former one is acknowledged.
struct Load {
    counts: Arc<[AtomicUsize; WRITERS]>,
    writers: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(api: SocketAddr, round: usize) -> Self {
        let counts: Arc<[AtomicUsize; WRITERS]> = Arc::default();
        let writers = (0..WRITERS).map(|writer| {
            let counts = counts.clone();
            std::thread::spawn(move || write(api, round, writer, &counts[writer]))
        });
        Self { writers: writers.collect(), counts }
    }

    /// How many keys of each writer are acknowledged.
    fn counts(&self) -> Vec<usize> {
        self.counts.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }

    fn reached(&self, wanted: usize) -> Result<(), String> {
        assert!(!self.writers.iter().any(JoinHandle::is_finished), "a writer ended early");
        let sum: usize = self.counts().iter().sum();
        if sum >= wanted { Ok(()) } else { Err(format!("{sum} of {wanted}")) }
    }

    /// Waits until the writers have seen the end of the node; what was acknowledged by then.
    fn ended(mut self) -> Vec<usize> {
        for writer in self.writers.drain(..) {
            writer.join().expect("a writer ends with its connection");
        }
        self.counts()
    }
}

/// Writes until the connection breaks.
fn write(api: SocketAddr, round: usize, writer: usize, count: &AtomicUsize) {
    let mut http = Http::connect(api).expect("the node listens");
    for number in 0.. {
        let (key, value) = pair(round, writer, number);
        match http.call("PUT", &key, &value) {
            Ok((200, _)) => count.store(number + 1, Ordering::SeqCst),
            Ok((status, body)) => panic!("{key}: {status} {}", String::from_utf8_lossy(&body)),
            Err(_) => return,
        }
    }
}

fn pair(round: usize, writer: usize, number: usize) -> (String, Vec<u8>) {
    let key = format!("cut/{round}/{writer}/{number}");
    let value = format!("value of {key} ").repeat(8).into_bytes();
    (key, value)
}

/// The acknowledged keys that are not there with their values.
fn lost(api: SocketAddr, acknowledged: &[Vec<usize>]) -> Vec<String> {
    let mut http = Http::connect(api).expect("the node listens");
    wait_for("a leader", || match http.call("GET", "nothing", &[]) {
        Ok((404, _)) => Ok(()),
        Ok((status, body)) => Err(format!("{status} {}", String::from_utf8_lossy(&body))),
        Err(error) => Err(error.to_string()),
    });
    let mut lost = Vec::new();
    for (round, counts) in acknowledged.iter().enumerate() {
        for (writer, count) in counts.iter().enumerate() {
            for (key, value) in (0..*count).map(|number| pair(round, writer, number)) {
                let (status, body) = http.call("GET", &key, &[]).expect("the node answers");
                if (status, &body) != (200, &value) {
                    lost.push(format!("{key}: {status}"));
                }
            }
        }
    }
    lost
}

/// One kept-alive connection to the API.
struct Http {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

impl Http {
    fn connect(host: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream), host })
    }

    /// Status and body of the answer.
    fn call(&mut self, method: &str, key: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let (host, length) = (self.host, body.len());
        let head = format!("{method} /v1/kv/{key} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n");
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        let status =
            self.line()?.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let mut length = 0;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok((status, answer))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}
