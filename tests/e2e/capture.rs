//! A TCP proxy that keeps a copy of every byte, in both directions.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What one connection carried.
#[derive(Default, Clone)]
pub(crate) struct Recording {
    /// From the dialler.
    pub(crate) from_dialler: Vec<u8>,
    /// From the acceptor.
    pub(crate) from_acceptor: Vec<u8>,
}

/// The proxy; it lives as long as the test process.
#[derive(Clone)]
pub(crate) struct Capture {
    recordings: Arc<Mutex<Vec<Recording>>>,
}

impl Capture {
    /// Forwards connections from `listen` to `to`.
    pub(crate) fn start(listen: SocketAddr, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(listen).expect("the address is free");
        let capture = Self { recordings: Arc::default() };
        let shared = capture.clone();
        std::thread::spawn(move || {
            for dialler in listener.incoming().flatten() {
                if let Ok(acceptor) = TcpStream::connect(to) {
                    shared.splice(dialler, acceptor);
                }
            }
        });
        capture
    }

    fn splice(&self, dialler: TcpStream, acceptor: TcpStream) {
        let number = {
            let mut recordings = self.recordings.lock().unwrap();
            recordings.push(Recording::default());
            recordings.len() - 1
        };
        let (dialler_reader, acceptor_reader) = (dialler.try_clone().unwrap(), acceptor.try_clone().unwrap());
        let (forth, back) = (self.clone(), self.clone());
        std::thread::spawn(move || {
            copy(dialler_reader, acceptor, |bytes| {
                forth.recordings.lock().unwrap()[number].from_dialler.extend_from_slice(bytes);
            });
        });
        std::thread::spawn(move || {
            copy(acceptor_reader, dialler, |bytes| {
                back.recordings.lock().unwrap()[number].from_acceptor.extend_from_slice(bytes);
            });
        });
    }

    /// All recordings so far.
    pub(crate) fn recordings(&self) -> Vec<Recording> {
        self.recordings.lock().unwrap().clone()
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut keep: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        keep(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}
