//! What stands between a worker and its cluster: real balancers and proxies, run from folders of their own; and one small
//! forward proxy of the tests, for what only it can show.

use crate::process::wait_for;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Where a program is, or a line that says what is skipped for want of it.
pub(crate) fn installed(program: &str, skipped: &str) -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/sbin", "/bin"];
    let found = folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists());
    if found.is_none() {
        println!("{program} is not installed: {skipped} is skipped");
    }
    found
}

/// A program that listens somewhere; ends when dropped.
pub(crate) struct Middlebox {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    doors: Vec<SocketAddr>,
    child: Option<Child>,
}

impl Middlebox {
    /// Starts a program and waits until all `doors` are open.
    pub(crate) fn start(program: PathBuf, arguments: &[&str], log: PathBuf, doors: &[SocketAddr]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut started = Self { program, arguments, log, doors: doors.to_vec(), child: None };
        started.restart();
        started
    }

    /// Kills it, if it runs, and starts it again.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("an installed program starts");
        self.child = Some(child);
        for door in &self.doors {
            wait_for(&format!("{} at {door}", self.program.display()), || {
                let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
                TcpStream::connect(door).map(drop).map_err(|error| format!("{error}; it says: {}", log()))
            });
        }
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            child.wait().expect("a killed program ends");
        }
    }
}

impl Drop for Middlebox {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until a connection to `door`, over which nothing is said, is cut: so long does the box between suffer silence.
pub(crate) fn wait_silence_cut(door: SocketAddr) {
    let mut idle = TcpStream::connect(door).unwrap();
    idle.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    let mut nothing = Vec::new();
    // A reset is an end as well; patience that ran out is not.
    let cut = idle.read_to_end(&mut nothing);
    assert!(
        !matches!(&cut, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
        "silence is not cut: {cut:?}"
    );
}

/// A forward proxy that knows one name which nobody else knows, and no other. Serves until the tests end.
pub(crate) fn knowing(at: SocketAddr, name: &str, meaning: SocketAddr) {
    let listener = TcpListener::bind(at).unwrap();
    let wanted = format!("CONNECT {name} HTTP/1.1\r\n");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let wanted = wanted.clone();
            std::thread::spawn(move || pass(client, &wanted, meaning));
        }
    });
}

/// A firewall that forgets a connection over which nothing is said for so long, and cuts it. Serves until the tests end.
pub(crate) fn forgetful(at: SocketAddr, to: SocketAddr, patience: Duration) {
    let listener = TcpListener::bind(at).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(to) else { continue };
            let said = Arc::new(Mutex::new(Instant::now()));
            for (from, into) in [(&client, &server), (&server, &client)] {
                let (Ok(from), Ok(into)) = (from.try_clone(), into.try_clone()) else { continue };
                let said = Arc::clone(&said);
                std::thread::spawn(move || pump(from, into, &said, patience));
            }
        }
    });
}

fn pump(mut from: TcpStream, mut into: TcpStream, said: &Mutex<Instant>, patience: Duration) {
    const LOOK: Duration = Duration::from_millis(50);
    let mut bytes = [0; 16 * 1024];
    from.set_read_timeout(Some(LOOK)).unwrap();
    while said.lock().unwrap().elapsed() < patience {
        let read = match from.read(&mut bytes) {
            Ok(read @ 1..) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Ok(0) | Err(_) => break,
        };
        *said.lock().unwrap() = Instant::now();
        if into.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    for end in [from, into] {
        let _gone = end.shutdown(std::net::Shutdown::Both);
    }
}

fn pass(mut client: TcpStream, wanted: &str, meaning: SocketAddr) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    if !head.starts_with(wanted.as_bytes()) {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").ok();
    }
    let server = TcpStream::connect(meaning).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (mut back_from, mut back_to) = (server.try_clone().ok()?, client.try_clone().ok()?);
    let back = std::thread::spawn(move || {
        let _end = std::io::copy(&mut back_from, &mut back_to);
        let _gone = back_to.shutdown(std::net::Shutdown::Both);
    });
    let mut server = server;
    let _end = std::io::copy(&mut client, &mut server);
    let _gone = server.shutdown(std::net::Shutdown::Both);
    back.join().ok()
}

/// A CA of a test, and certificates of it.
pub(crate) struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "CA of a test");
        Self { issuer: rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap() }
    }

    /// Writes its own certificate.
    pub(crate) fn write(&self, file: &Path) {
        std::fs::write(file, self.issuer.pem()).unwrap();
    }

    /// Writes a certificate for `name` with its key: `STEM.pem`, `STEM.key`, and both in `STEM.both.pem`.
    pub(crate) fn issue(&self, name: &str, stem: &Path) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        let key = key.serialize_pem();
        let put = |extension: &str, text: &str| {
            let beside = stem.with_extension("new");
            std::fs::write(&beside, text).unwrap();
            std::fs::rename(beside, stem.with_extension(extension)).unwrap();
        };
        put("both.pem", &format!("{cert}{key}"));
        put("key", &key);
        put("pem", &cert);
    }
}
