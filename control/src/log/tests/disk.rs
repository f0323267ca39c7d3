//! A disk in memory: it has a volatile cache, tears what is not synced, breaks, and fills up.

use super::super::disk::{Disk, DiskFile};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

const SECTOR: usize = 512;

/// A folder. Clones are the same folder.
#[derive(Debug, Clone, Default)]
pub(super) struct TestDisk(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    files: Vec<Bytes>,
    /// What the program sees, and what a power cut leaves.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    operations: usize,
    /// The power goes with the operation of this number, counted from 0; a write is then done in part.
    limit: Option<usize>,
    /// Syncs fail.
    broken: bool,
    /// Files cannot grow.
    full: bool,
    dice: u64,
}

/// What a file holds for the program, and on the disk.
#[derive(Debug, Clone, Default)]
struct Bytes {
    cache: Vec<u8>,
    durable: Vec<u8>,
}

/// What is left of everything that was not synced.
#[derive(Debug, Clone, Copy)]
pub(super) enum Left {
    /// All of it: a killed process.
    All,
    /// Nothing.
    Nothing,
    /// Sectors by chance; names, too.
    Some(u64),
}

#[derive(Debug)]
struct TestFile(TestDisk, usize);

fn roll(dice: &mut u64) -> u64 {
    *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *dice >> 33
}

fn put(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let start = usize::try_from(offset).unwrap();
    let end = start + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(data);
}

impl TestDisk {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }

    pub(super) fn limited(limit: usize) -> Self {
        let content = Content { limit: Some(limit), dice: limit as u64, ..Content::default() };
        Self(Arc::new(Mutex::new(content)))
    }

    pub(super) fn set_broken(&self, broken: bool) {
        self.content().broken = broken;
    }

    pub(super) fn set_full(&self, full: bool) {
        self.content().full = full;
    }

    pub(super) fn operations(&self) -> usize {
        self.content().operations
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.content().names.keys().cloned().collect()
    }

    /// Works with a file's bytes, on the disk and off it.
    pub(super) fn spoil(&self, name: &str, work: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.content();
        let file = content.names[name];
        let file = &mut content.files[file];
        work(&mut file.cache);
        file.durable = file.cache.clone();
    }

    /// Takes a file away.
    pub(super) fn lose(&self, name: &str) {
        let mut content = self.content();
        content.names.remove(name).unwrap();
        content.durable_names = content.names.clone();
    }

    /// The disk afterwards.
    pub(super) fn cut(&self, left: Left) -> Self {
        let content = self.content();
        let mut dice = match left {
            Left::Some(seed) => seed,
            Left::All | Left::Nothing => 0,
        };
        let names = match left {
            Left::All => &content.names,
            Left::Nothing => &content.durable_names,
            // Either all of what happened to the names, or nothing: a journal keeps their order.
            Left::Some(_) if roll(&mut dice).is_multiple_of(2) => &content.names,
            Left::Some(_) => &content.durable_names,
        };
        let files = content.files.iter().map(|file| {
            let kept = match left {
                Left::All => file.cache.clone(),
                Left::Nothing => file.durable.clone(),
                Left::Some(_) => torn(file, &mut dice),
            };
            Bytes { cache: kept.clone(), durable: kept }
        });
        let after = Content {
            files: files.collect(),
            names: names.clone(),
            durable_names: names.clone(),
            ..Content::default()
        };
        Self(Arc::new(Mutex::new(after)))
    }

    /// Counts an operation; what it does when the power goes within it.
    fn count(content: &mut Content, in_part: impl FnOnce(&mut Content)) -> io::Result<()> {
        match content.limit {
            Some(limit) if content.operations > limit => return Err(io::Error::other("the power is gone")),
            Some(limit) if content.operations == limit => {
                content.operations += 1;
                in_part(content);
                return Err(io::Error::other("the power is gone"));
            }
            _ => content.operations += 1,
        }
        Ok(())
    }

    fn change(&self, work: impl FnOnce(&mut Content) -> io::Result<()>) -> io::Result<()> {
        let mut content = self.content();
        Self::count(&mut content, |_| ())?;
        work(&mut content)
    }
}

/// Each sector is as it was or as it was to be, by one of several kinds of luck.
fn torn(file: &Bytes, dice: &mut u64) -> Vec<u8> {
    let mut kept = file.durable.clone();
    let changed: Vec<usize> = (0..file.cache.len())
        .step_by(SECTOR)
        .filter(|start| {
            let new = &file.cache[*start..file.cache.len().min(start + SECTOR)];
            file.durable.get(*start..start + new.len()) != Some(new)
        })
        .collect();
    let (kind, middle) = (roll(dice) % 3, roll(dice) as usize % (changed.len() + 1));
    for (place, start) in changed.into_iter().enumerate() {
        let written = match kind {
            0 => place < middle,
            1 => place >= middle,
            _ => roll(dice).is_multiple_of(2),
        };
        if written {
            put(&mut kept, start as u64, &file.cache[start..file.cache.len().min(start + SECTOR)]);
        }
    }
    kept
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for TestDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(Self::names(self))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = self.content().names.get(name).copied().ok_or_else(missing)?;
        Ok(Box::new(TestFile(self.clone(), file)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut made = 0;
        self.change(|content| {
            made = content.files.len();
            content.files.push(Bytes::default());
            content.names.insert(name.to_owned(), made);
            Ok(())
        })?;
        Ok(Box::new(TestFile(self.clone(), made)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|content| {
            let file = content.names.remove(from).ok_or_else(missing)?;
            content.names.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|content| content.names.remove(name).map(drop).ok_or_else(missing))
    }

    fn sync(&self) -> io::Result<()> {
        self.change(|content| {
            content.durable_names = content.names.clone();
            Ok(())
        })
    }
}

impl DiskFile for TestFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.content().files[self.1].cache.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (content, start) = (self.0.content(), usize::try_from(offset).unwrap());
        let bytes = content.files[self.1].cache.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut content = self.0.content();
        if content.full && offset + data.len() as u64 > content.files[self.1].cache.len() as u64 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        TestDisk::count(&mut content, |content| {
            let length = roll(&mut content.dice) as usize % (data.len() + 1);
            put(&mut content.files[self.1].cache, offset, &data[..length]);
        })?;
        put(&mut content.files[self.1].cache, offset, data);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.0.content().broken {
            return Err(io::Error::other("the disk is gone"));
        }
        self.0.change(|content| {
            let file = &mut content.files[self.1];
            file.durable = file.cache.clone();
            Ok(())
        })
    }
}
