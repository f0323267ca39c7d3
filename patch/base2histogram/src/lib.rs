//! A histogram that keeps nothing: as much of the published crate's interface as openraft asks for. There it counts the sizes
//! of batches and the times of entries, for statistics that this program never asks for.
//!
//! The published crate fills, at the first use, tables for sixteen resolutions of which openraft uses one: 26 MiB that every
//! control node would hold.

use std::fmt;
use std::marker::PhantomData;

/// Takes values, and keeps none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Histogram<T = ()>(PhantomData<T>);

impl<T> Histogram<T> {
    /// A histogram.
    pub const fn new() -> Self {
        Self(PhantomData)
    }

    /// Takes a value.
    pub const fn record(&mut self, _value: u64) {}

    /// Takes a value so many times.
    pub const fn record_n(&mut self, _value: u64, _times: u64) {}

    /// What is known of the values: that none was kept.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats::default()
    }
}

/// What is known of a histogram's values; all are 0, the number of samples first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[not kept]")
    }
}

/// A chart of histograms.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart(());

impl AsciiChart {
    /// A chart.
    pub const fn new() -> Self {
        Self(())
    }

    /// Takes one more.
    #[must_use]
    pub fn add(self, _name: &str, _histogram: Histogram) -> Self {
        self
    }
}
