//! Our API over a kept HTTP/1.1 connection (RFC 9112), written by hand: as light as the other load generators.

use super::line::Line;
use super::{VALUE, What, key};
use anyhow::Context as _;
use std::io::Write as _;
use std::net::SocketAddr;

/// One connection to a control node's API.
pub(super) struct Client {
    line: Line,
    request: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { line: Line::connect(address).await?, request: Vec::new() })
    }

    /// One request and its answer.
    pub(super) async fn run(&mut self, what: What, number: u32) -> anyhow::Result<()> {
        self.request.clear();
        let (request, key) = (&mut self.request, key(number));
        match what {
            What::Put => {
                write!(request, "PUT /v1/kv/{key} HTTP/1.1\r\nhost: bench\r\ncontent-length: {VALUE}\r\n\r\n")?
            }
            What::Get => write!(request, "GET /v1/kv/{key} HTTP/1.1\r\nhost: bench\r\n\r\n")?,
            What::GetLocal => write!(request, "GET /v1/kv/{key}?consistency=local HTTP/1.1\r\nhost: bench\r\n\r\n")?,
            What::Livez => write!(request, "GET /livez HTTP/1.1\r\nhost: bench\r\n\r\n")?,
        }
        if what == What::Put {
            request.extend_from_slice(&[b'x'; VALUE]);
        }
        self.line.send(&self.request).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> anyhow::Result<()> {
        const END: &[u8] = b"\r\n\r\n";
        let head = loop {
            match self.line.arrived().windows(END.len()).position(|window| window == END) {
                Some(end) => break end + END.len(),
                None => self.line.more().await?,
            }
        };
        let (status, body) = parsed(self.line.at_least(head).await?)?;
        let whole = self.line.at_least(head + body).await?;
        anyhow::ensure!((200..300).contains(&status), "the API answered: {}", String::from_utf8_lossy(whole));
        self.line.taken(head + body);
        Ok(())
    }
}

/// Status, and the length of the body.
fn parsed(head: &[u8]) -> anyhow::Result<(u16, usize)> {
    let text = std::str::from_utf8(head).context("the answer's head is no text")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("the answer has no status")?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse())
    });
    Ok((status.parse()?, length.transpose()?.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        assert_eq!(parsed(b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 12\r\n\r\n").unwrap(), (200, 12));
        assert_eq!(parsed(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(), (204, 0));
        assert!(parsed(b"nonsense").is_err());
    }
}
