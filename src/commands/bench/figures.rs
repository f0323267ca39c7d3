//! What was measured, and how it is printed.

use crate::output::{self, Format, Table};
use serde_json::{Value, json};
use std::time::Duration;

/// Latencies of one case in one round.
pub(super) struct Round {
    /// Each operation's time.
    pub(super) latencies: Vec<Duration>,
    /// Time of the whole round.
    pub(super) elapsed: Duration,
}

impl Round {
    /// Operations per second.
    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// Rate, median and 99th percentile.
    fn figures(mut self) -> Figures {
        let rate = self.rate();
        self.latencies.sort_unstable();
        let at = |percent: usize| {
            let index = self.latencies.len().saturating_sub(1) * percent / 100;
            self.latencies.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
        };
        Figures { rate, p50_us: at(50), p99_us: at(99) }
    }
}

/// Figures of one case in one round.
#[derive(Clone, Copy)]
struct Figures {
    rate: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Figures {
    fn json(self) -> Value {
        let tenths = |number: f64| (number * 10.0).round() / 10.0;
        json!({"rate": self.rate.round(), "p50_us": tenths(self.p50_us), "p99_us": tenths(self.p99_us)})
    }
}

/// One case: ours beside the floor, round by round.
pub(super) struct Case {
    name: String,
    unit: &'static str,
    floor: &'static str,
    rounds: Vec<(Figures, Figures)>,
}

impl Case {
    pub(super) fn new(name: impl Into<String>, unit: &'static str, floor: &'static str) -> Self {
        Self { name: name.into(), unit, floor, rounds: Vec::new() }
    }

    /// Adds a round.
    pub(super) fn add(&mut self, ours: Round, floor: Round) {
        self.rounds.push((ours.figures(), floor.figures()));
    }

    /// The round in the middle by rate, of ours or of the floor.
    fn median(&self, side: fn(&(Figures, Figures)) -> Figures) -> Figures {
        let mut all: Vec<Figures> = self.rounds.iter().map(side).collect();
        all.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        all.get(all.len() / 2).copied().unwrap_or(Figures { rate: f64::NAN, p50_us: f64::NAN, p99_us: f64::NAN })
    }

    /// The ratio in the middle: each round's own, since both sides of a round had the same machine.
    fn ratio(&self) -> f64 {
        let mut ratios: Vec<f64> = self.rounds.iter().map(|(ours, floor)| ours.rate / floor.rate).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn json(&self) -> Value {
        let mut floor = self.median(|round| round.1).json();
        floor["name"] = self.floor.into();
        let ratio = (self.ratio() * 1000.0).round() / 1000.0;
        let (case, unit, ours, rounds) =
            (&self.name, self.unit, self.median(|round| round.0).json(), self.rounds.len());
        json!({"case": case, "unit": unit, "ours": ours, "floor": floor, "ratio": ratio, "rounds": rounds})
    }
}

/// Prints all cases.
pub(super) fn print(cases: &[Case], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&cases.iter().map(Case::json).collect::<Vec<_>>());
    }
    let names = ["CASE", "RATE/S", "P50 US", "P99 US", "FLOOR", "RATE/S", "P50 US", "P99 US", "RATIO"];
    let mut table = Table::new(&names, format == Format::Wide);
    for case in cases {
        let (ours, floor) = (case.median(|round| round.0), case.median(|round| round.1));
        let mut cells = vec![case.name.clone()];
        cells.extend(shown(ours));
        cells.push(case.floor.to_owned());
        cells.extend(shown(floor));
        cells.push(format!("{:.3}", case.ratio()));
        table.row(cells);
    }
    table.print()
}

fn shown(figures: Figures) -> [String; 3] {
    [format!("{:.0}", figures.rate), format!("{:.1}", figures.p50_us), format!("{:.1}", figures.p99_us)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(operations: u64) -> Round {
        let latencies = (1..=operations).map(Duration::from_micros).collect();
        Round { latencies, elapsed: Duration::from_secs(1) }
    }

    #[test]
    fn the_median_round_counts() {
        let mut case = Case::new("c", "requests/s", "floor");
        for operations in [100, 300, 200] {
            case.add(round(operations), round(1000));
        }
        let json = case.json();
        assert_eq!(json["ours"], json!({"rate": 200.0, "p50_us": 100.0, "p99_us": 198.0}));
        assert_eq!(json["floor"]["name"], "floor");
        assert_eq!(json["ratio"], 0.2);
    }
}
