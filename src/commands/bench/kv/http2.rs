//! As much of HTTP/2 (RFC 9113) and gRPC as one call after the other needs.
//!
//! Answers' header fields are not read: a call that succeeded has a message, one that failed has none.

use super::line::Line;
use std::net::SocketAddr;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
/// Compressed or not, and the length.
const MESSAGE_HEAD: usize = 5;
/// Bytes that a side may send before it is granted more.
const WINDOW: i64 = 65_535;
/// More that the server may send at once, and when that is renewed.
const GRANT: u32 = 1 << 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// Of HEADERS and DATA.
const END_STREAM: u8 = 1;
/// Of HEADERS.
const END_HEADERS: u8 = 4;
/// Of SETTINGS and PING.
const ACK: u8 = 1;

/// One connection.
pub(super) struct Connection {
    line: Line,
    out: Vec<u8>,
    stream: u32,
    /// What may still be sent.
    window: i64,
    /// What has come since the server was granted more.
    received: u32,
    answer: Vec<u8>,
    authority: String,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let mut line = Line::connect(address).await?;
        let mut out = PREFACE.to_vec();
        frame(&mut out, SETTINGS, 0, 0, &[]);
        frame(&mut out, WINDOW_UPDATE, 0, 0, &(2 * GRANT).to_be_bytes());
        line.send(&out).await?;
        let authority = address.to_string();
        Ok(Self { line, out, stream: 0, window: WINDOW, received: 0, answer: Vec::new(), authority })
    }

    /// Calls a method; the answer's message.
    pub(super) async fn call(&mut self, path: &str, message: &[u8]) -> anyhow::Result<&[u8]> {
        let length = MESSAGE_HEAD + message.len();
        while self.window < length as i64 {
            self.frame().await?;
        }
        self.window -= length as i64;
        let first = self.stream == 0;
        self.stream = if first { 1 } else { self.stream + 2 };
        self.out.clear();
        let block = block(path, &self.authority, first);
        frame(&mut self.out, HEADERS, END_HEADERS, self.stream, &block);
        head(&mut self.out, length, DATA, END_STREAM, self.stream);
        self.out.push(0);
        self.out.extend_from_slice(&(message.len() as u32).to_be_bytes());
        self.out.extend_from_slice(message);
        self.line.send(&self.out).await?;
        self.answer.clear();
        while !self.frame().await? {}
        anyhow::ensure!(self.answer.len() >= MESSAGE_HEAD, "the call of {path} failed");
        Ok(self.answer.get(MESSAGE_HEAD..).unwrap_or_default())
    }

    /// Takes one frame; whether the answer is complete with it.
    async fn frame(&mut self) -> anyhow::Result<bool> {
        let head = self.line.at_least(FRAME_HEAD).await?;
        let &[a, b, c, kind, flags, s, t, u, v] = head else { anyhow::bail!("a frame's head has nine bytes") };
        let (length, stream) = (u32::from_be_bytes([0, a, b, c]) as usize, u32::from_be_bytes([s & 0x7f, t, u, v]));
        let whole = self.line.at_least(FRAME_HEAD + length).await?;
        let content = whole.get(FRAME_HEAD..).unwrap_or_default();
        self.out.clear();
        match kind {
            DATA => {
                // Nobody pads.
                self.answer.extend_from_slice(content);
                self.received += length as u32;
                if self.received >= GRANT {
                    frame(&mut self.out, WINDOW_UPDATE, 0, 0, &self.received.to_be_bytes());
                    self.received = 0;
                }
            }
            SETTINGS if flags & ACK == 0 => frame(&mut self.out, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(&mut self.out, PING, ACK, 0, content),
            WINDOW_UPDATE if stream == 0 => {
                let grant = content.try_into().map(u32::from_be_bytes)?;
                self.window += i64::from(grant);
            }
            RESET if stream == self.stream => anyhow::bail!("the server reset the call"),
            GOAWAY => anyhow::bail!("the server ends the connection"),
            _ => (),
        }
        self.line.taken(FRAME_HEAD + length);
        if !self.out.is_empty() {
            self.line.send(&self.out).await?;
        }
        Ok(matches!(kind, DATA | HEADERS) && stream == self.stream && flags & END_STREAM != 0)
    }
}

/// The header block of a call (RFC 7541 §6). The first one fills the server's table, the others point into it.
fn block(path: &str, authority: &str, first: bool) -> Vec<u8> {
    // Of the fixed table: POST, http; then :path, which does not go into the other one.
    let mut block = vec![0x83, 0x86, 0x04];
    string(&mut block, path);
    if !first {
        // The newest is 62.
        block.extend_from_slice(&[0x80 | 64, 0x80 | 63, 0x80 | 62]);
        return block;
    }
    block.push(0x41);
    string(&mut block, authority);
    block.push(0x40);
    string(&mut block, "te");
    string(&mut block, "trailers");
    block.push(0x40 | 31);
    string(&mut block, "application/grpc");
    block
}

/// A string of less than 127 bytes.
fn string(block: &mut Vec<u8>, text: &str) {
    block.push(text.len() as u8);
    block.extend_from_slice(text.as_bytes());
}

fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, content: &[u8]) {
    head(out, content.len(), kind, flags, stream);
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_calls_point_into_the_table() {
        let (first, second) = (block("/a/B", "127.0.0.1:1", true), block("/a/B", "127.0.0.1:1", false));
        assert_eq!(second, [0x83, 0x86, 0x04, 4, b'/', b'a', b'/', b'B', 0xc0, 0xbf, 0xbe]);
        assert_eq!(first.len(), 8 + 1 + 12 + 1 + 3 + 9 + 1 + 17);
    }
}
