//! SHA-256 of what passes through.

use longshore_wire::Digest;
use ring::digest::{Context, SHA256};
use std::io::{self, Read, Write};

/// A reader that hashes and counts what is read through it.
pub struct DigestReader<R> {
    inner: R,
    hash: Context,
    count: u64,
}

impl<R> DigestReader<R> {
    /// Wraps `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, hash: Context::new(&SHA256), count: 0 }
    }

    /// Bytes read so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The digest of everything read, and how many bytes that was.
    pub fn finish(self) -> (Digest, u64) {
        (finish(self.hash), self.count)
    }
}

impl<R: Read> Read for DigestReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}

/// A writer that hashes and counts what is written through it.
pub struct DigestWriter<W> {
    inner: W,
    hash: Context,
    count: u64,
}

impl<W> DigestWriter<W> {
    /// Wraps `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Context::new(&SHA256), count: 0 }
    }

    /// Bytes written so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The inner writer, the digest of everything written, and how many bytes that was. Does not flush.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, finish(self.hash), self.count)
    }
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hash.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The digest of bytes in memory.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    let mut hash = Context::new(&SHA256);
    hash.update(bytes);
    finish(hash)
}

fn finish(hash: Context) -> Digest {
    Digest(hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
}
