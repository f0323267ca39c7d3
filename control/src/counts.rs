//! How often things have happened since the node's start, by what they were: counters with labels, for the metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counts by label. There must be few labels, whatever others send: each is kept for ever.
#[derive(Debug)]
pub(crate) struct Counts<L>(Mutex<BTreeMap<L, u64>>);

impl<L> Default for Counts<L> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<L: Ord + Clone> Counts<L> {
    /// It has happened once more.
    pub(crate) fn add(&self, label: L) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(label).or_default() += 1;
    }

    /// All counts. What never happened is missing.
    pub(crate) fn all(&self) -> BTreeMap<L, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
