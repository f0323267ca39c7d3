//! What the worker remembers of its cluster: the highest epoch that it has obeyed, the cluster's id, its own short id.
//!
//! An epoch is on the disk before anything of it is obeyed, so that a worker that was killed still refuses an owner that
//! was replaced before. It never forgets an epoch while the cluster's name stays the same.

use crate::StartError;
use crate::folder::replace;
use longshore_wire::{ClusterId, Code, Epoch, Failure, ShortId};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// Version of the file's format.
const FORMAT: u32 = 1;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    format: u32,
    cluster: String,
    /// The cluster's id, once known.
    pub(crate) cluster_id: Option<ClusterId>,
    /// The highest epoch obeyed.
    pub(crate) epoch: Epoch,
    /// The short id, once known.
    pub(crate) short_id: Option<ShortId>,
}

/// Refuses orders of a replaced owner.
pub(crate) struct Fence {
    path: PathBuf,
    /// Held while the file is written, so that writes keep their order, also when whoever asked for one no longer waits.
    writing: Arc<Mutex<()>>,
    known: Arc<watch::Sender<Remembered>>,
}

impl Fence {
    /// Reads the file, if there is one.
    pub(crate) fn open(path: &Path, cluster: &str) -> Result<Self, StartError> {
        let fresh = Remembered {
            format: FORMAT,
            cluster: cluster.to_owned(),
            cluster_id: None,
            epoch: Epoch(0),
            short_id: None,
        };
        let known = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fresh,
            Err(source) => return Err(StartError::Folder { path: path.to_owned(), source }),
            Ok(bytes) => match parse(&bytes) {
                Ok(known) if known.cluster == cluster => known,
                Ok(known) => {
                    tracing::warn!(before = known.cluster, now = cluster, "this worker now belongs to another cluster");
                    fresh
                }
                Err(reason) => return Err(StartError::Damaged { path: path.to_owned(), reason }),
            },
        };
        Ok(Self { path: path.to_owned(), writing: Arc::default(), known: Arc::new(watch::channel(known).0) })
    }

    /// What is known now.
    pub(crate) fn known(&self) -> Remembered {
        self.known.borrow().clone()
    }

    /// Takes note of an owner's epoch before it is obeyed.
    ///
    /// # Errors
    /// [`Code::StaleEpoch`] for a lower one than ever seen; [`Code::Internal`] when it cannot be written down.
    pub(crate) async fn admit(&self, epoch: Epoch) -> Result<(), Failure> {
        self.update(epoch, |_| ()).await
    }

    /// As [`Fence::admit`], and notes who this worker is to its cluster.
    ///
    /// # Errors
    /// As [`Fence::admit`].
    pub(crate) async fn accept(
        &self,
        epoch: Epoch,
        short_id: ShortId,
        cluster_id: Option<ClusterId>,
    ) -> Result<(), Failure> {
        self.update(epoch, |known| {
            known.short_id = Some(short_id);
            known.cluster_id = cluster_id.or(known.cluster_id);
        })
        .await
    }

    async fn update(&self, epoch: Epoch, change: impl FnOnce(&mut Remembered)) -> Result<(), Failure> {
        let order = Arc::clone(&self.writing).lock_owned().await;
        let before = self.known();
        if epoch < before.epoch {
            let text = format!("epoch {epoch} has been replaced: this worker already obeys epoch {}", before.epoch);
            return Err(Failure::new(Code::StaleEpoch, text));
        }
        let mut after = Remembered { epoch, ..before.clone() };
        change(&mut after);
        if after == before {
            return Ok(());
        }
        let bytes = serde_json::to_vec_pretty(&after).expect("plain values are JSON");
        let (path, known) = (self.path.clone(), Arc::clone(&self.known));
        let written = tokio::task::spawn_blocking(move || {
            let _order = order;
            replace(&path, &bytes)?;
            known.send_replace(after);
            Ok(())
        });
        match written.await.map_err(io::Error::other).flatten() {
            Ok(()) => Ok(()),
            Err(error) => Err(Failure::new(
                Code::Internal,
                format!("{}: {error}; the worker cannot note its owner's epoch", self.path.display()),
            )),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Remembered, String> {
    let known: Remembered =
        serde_json::from_slice(bytes).map_err(|error| format!("{error}; remove the file to start anew"))?;
    if known.format == FORMAT { Ok(known) } else { Err(format!("format {} is of a newer release", known.format)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn epochs_only_rise_and_outlive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.json");
        let fence = Fence::open(&path, "prod").unwrap();
        fence.accept(Epoch(7), ShortId(3), Some(ClusterId::from_u128(1))).await.unwrap();
        fence.admit(Epoch(7)).await.unwrap();
        assert_eq!(fence.admit(Epoch(6)).await.unwrap_err().code, Code::StaleEpoch);
        let again = Fence::open(&path, "prod").unwrap();
        assert_eq!(again.admit(Epoch(6)).await.unwrap_err().code, Code::StaleEpoch);
        assert_eq!(again.known().short_id, Some(ShortId(3)));
        assert_eq!(Fence::open(&path, "other").unwrap().known().epoch, Epoch(0));
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(Fence::open(&path, "prod"), Err(StartError::Damaged { .. })));
    }
}
