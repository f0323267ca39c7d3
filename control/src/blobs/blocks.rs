//! A file, block by block: one is read ahead while the one before is on its way. Memory is used again once nobody holds it.

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes read at a time.
const BLOCK: usize = 512 * 1024;
/// Bytes handed out at a time: a data frame.
const PIECE: usize = 64 * 1024;
/// Blocks whose memory is waited for: more than a stream keeps.
const KEPT: usize = 4;

/// An open file.
pub(super) struct Blocks {
    file: Arc<File>,
    /// Where the next block begins.
    at: u64,
    ahead: Option<JoinHandle<io::Result<Vec<u8>>>>,
    block: Bytes,
    given: VecDeque<Bytes>,
}

impl Blocks {
    /// Opens a file and begins to read it.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        let file = Arc::new(spawn_blocking(move || File::open(path)).await.map_err(io::Error::other)??);
        let (block, given) = (Bytes::new(), VecDeque::with_capacity(KEPT));
        let mut blocks = Self { file, at: 0, ahead: None, block, given };
        blocks.read_ahead();
        Ok(blocks)
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        if self.block.is_empty()
            && let Some(ahead) = self.ahead.take()
        {
            let read = ahead.await.map_err(io::Error::other)??;
            if !read.is_empty() {
                self.at += read.len() as u64;
                self.read_ahead();
                self.block = Bytes::from(read);
                self.given.push_back(self.block.clone());
            }
        }
        let piece = self.block.split_to(PIECE.min(self.block.len()));
        Ok((!piece.is_empty()).then_some(piece))
    }

    fn read_ahead(&mut self) {
        let (file, at, mut block) = (Arc::clone(&self.file), self.at, self.memory());
        self.ahead = Some(spawn_blocking(move || {
            while block.len() < BLOCK {
                let from = at + block.len() as u64;
                match rustix::io::pread(&file, spare_capacity(&mut block), from) {
                    Ok(0) => break,
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(block)
        }));
    }

    fn memory(&mut self) -> Vec<u8> {
        if let Some(mut oldest) = self.given.pop_front_if(|oldest| oldest.is_unique()) {
            oldest.clear();
            return oldest.into();
        }
        if self.given.len() == KEPT {
            self.given.pop_front();
        }
        Vec::with_capacity(BLOCK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_comes_out_whole_whoever_holds_its_pieces() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..5 * BLOCK + 12_345).map(|at| (at / 7) as u8).collect();
        std::fs::write(file.path(), &content).unwrap();
        for keep in [0, 3, usize::MAX] {
            let mut blocks = Blocks::open(file.path()).await.unwrap();
            let (mut held, mut seen) = (VecDeque::new(), Vec::new());
            while let Some(piece) = blocks.piece().await.unwrap() {
                held.push_back(piece);
                if held.len() > keep {
                    seen.extend_from_slice(&held.pop_front().unwrap());
                }
            }
            held.iter().for_each(|piece| seen.extend_from_slice(piece));
            assert!(seen == content, "with {keep} pieces kept");
            assert_eq!(blocks.piece().await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn an_empty_file_has_no_piece() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(Blocks::open(file.path()).await.unwrap().piece().await.unwrap(), None);
        assert!(Blocks::open(Path::new("/nowhere/at/all")).await.is_err());
    }
}
