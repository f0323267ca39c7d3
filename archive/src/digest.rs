//! Digests of what passes through.

use longshore_wire::{Blake3, Digest};
use ring::digest::{Context, SHA256};
use std::io::{self, BufRead, ErrorKind, Read, Write};

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

/// The digests that are made of an archive while it is read.
#[derive(Default)]
pub(crate) struct Hashes {
    sha256: Option<Context>,
    blake3: Option<Box<blake3::Hasher>>,
}

impl Hashes {
    /// Makes the SHA-256, too.
    pub(crate) fn with_sha256(self) -> Self {
        Self { sha256: Some(Context::new(&SHA256)), ..self }
    }

    /// Makes the BLAKE3, too.
    pub(crate) fn with_blake3(self) -> Self {
        Self { blake3: Some(Box::default()), ..self }
    }

    fn update(&mut self, bytes: &[u8]) {
        if let Some(hash) = &mut self.sha256 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.blake3 {
            hash.update(bytes);
        }
    }
}

/// What was read of an archive.
pub(crate) struct Whole {
    pub(crate) sha256: Option<Digest>,
    pub(crate) blake3: Option<Blake3>,
    pub(crate) size: u64,
}

/// An input whose bytes are hashed as they come into its buffer, in pieces as large as it has them, and counted as they
/// are taken out.
pub(crate) struct Hashed<R> {
    inner: R,
    hashes: Hashes,
    /// Bytes in the buffer that are hashed already.
    ahead: usize,
    count: u64,
}

impl<R: BufRead> Hashed<R> {
    pub(crate) fn new(inner: R, hashes: Hashes) -> Self {
        Self { inner, hashes, ahead: 0, count: 0 }
    }

    /// Bytes taken so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The bytes at hand; none at the end.
    pub(crate) fn look(&mut self) -> io::Result<&[u8]> {
        while let Err(error) = self.inner.fill_buf() {
            if error.kind() != ErrorKind::Interrupted {
                return Err(error);
            }
        }
        let bytes = self.inner.fill_buf()?;
        if self.ahead < bytes.len() {
            self.hashes.update(&bytes[self.ahead..]);
            self.ahead = bytes.len();
        }
        Ok(bytes)
    }

    /// Takes some of the bytes at hand.
    pub(crate) fn take(&mut self, count: usize) {
        self.inner.consume(count);
        self.ahead -= count;
        self.count += count as u64;
    }

    /// The digests of everything read; to be asked at the end of the input.
    pub(crate) fn finish(self) -> Whole {
        let Hashes { sha256, blake3 } = self.hashes;
        let blake3 = blake3.map(|hash| Blake3(*hash.finalize().as_bytes()));
        Whole { sha256: sha256.map(finish), blake3, size: self.count }
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
