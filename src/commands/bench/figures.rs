//! What was measured, and how it is printed.

use crate::output::{self, Format, Table};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Latencies of one case in one round.
pub(super) struct Round {
    /// Each operation's time.
    pub(super) latencies: Vec<Duration>,
    /// Time of the whole round.
    pub(super) elapsed: Duration,
}

impl Round {
    /// Rate, median and 99th percentile.
    pub(super) fn figures(mut self) -> Figures {
        let rate = self.latencies.len() as f64 / self.elapsed.as_secs_f64();
        self.latencies.sort_unstable();
        let at = |percent: usize| {
            let index = self.latencies.len().saturating_sub(1) * percent / 100;
            self.latencies.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
        };
        Figures { rate, p50_us: Some(at(50)), p99_us: Some(at(99)) }
    }
}

/// Figures of one case in one round.
#[derive(Clone, Copy)]
pub(super) struct Figures {
    /// In the case's unit; a rate unless the unit says otherwise.
    pub(super) rate: f64,
    /// Median, in microseconds, where single operations are measured.
    pub(super) p50_us: Option<f64>,
    /// 99th percentile, in microseconds.
    pub(super) p99_us: Option<f64>,
}

impl Figures {
    /// Something that has a rate only.
    pub(super) const fn rate(rate: f64) -> Self {
        Self { rate, p50_us: None, p99_us: None }
    }

    fn json(self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("rate".to_owned(), rounded(self.rate).into());
        let latencies = [("p50_us", self.p50_us), ("p99_us", self.p99_us)];
        map.extend(latencies.into_iter().filter_map(|(name, time)| Some((name.to_owned(), rounded(time?).into()))));
        map
    }

    fn cells(self) -> [String; 3] {
        let time = |time: Option<f64>| time.map_or("-".to_owned(), shown);
        [shown(self.rate), time(self.p50_us), time(self.p99_us)]
    }
}

/// Four digits tell all that a noisy machine can.
fn rounded(number: f64) -> f64 {
    let step = match number.abs() {
        ..10.0 => 0.001,
        ..1000.0 => 0.1,
        _ => 1.0,
    };
    // Dividing by a whole number leaves no tail of binary digits.
    (number / step).round() / (1.0_f64 / step).round()
}

fn shown(number: f64) -> String {
    match number.abs() {
        ..10.0 => format!("{number:.3}"),
        ..1000.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// The figure that a case is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Main {
    /// More is better.
    Rate,
    /// The median latency: less is better.
    P50,
    /// The 99th percentile of the latency: less is better.
    P99,
}

impl Main {
    const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
        }
    }

    fn of(self, figures: Figures) -> f64 {
        match self {
            Self::Rate => figures.rate,
            Self::P50 => figures.p50_us.unwrap_or(f64::NAN),
            Self::P99 => figures.p99_us.unwrap_or(f64::NAN),
        }
    }
}

/// One case: ours beside its floors, round by round. The first floor is the one that counts.
pub(super) struct Case {
    name: String,
    unit: &'static str,
    main: Main,
    floors: Vec<&'static str>,
    rounds: Vec<(Figures, Vec<Figures>)>,
}

impl Case {
    pub(super) fn new(name: impl Into<String>, unit: &'static str, floors: &[&'static str]) -> Self {
        let floors = floors.to_vec();
        Self { name: name.into(), unit, main: Main::Rate, floors, rounds: Vec::new() }
    }

    /// The same with another main figure.
    pub(super) fn about(self, main: Main) -> Self {
        Self { main, ..self }
    }

    /// Adds a round: ours, and each of the floors.
    pub(super) fn add(&mut self, ours: Figures, floors: impl Into<Vec<Figures>>) {
        self.rounds.push((ours, floors.into()));
    }

    /// The round in the middle by the main figure.
    fn median(&self, side: impl Fn(&(Figures, Vec<Figures>)) -> Option<Figures>) -> Figures {
        let mut all: Vec<Figures> = self.rounds.iter().filter_map(side).collect();
        all.sort_by(|a, b| self.main.of(*a).total_cmp(&self.main.of(*b)));
        all.get(all.len() / 2).copied().unwrap_or(Figures::rate(f64::NAN))
    }

    fn ours(&self) -> Figures {
        self.median(|round| Some(round.0))
    }

    fn floor(&self, index: usize) -> Figures {
        self.median(|round| round.1.get(index).copied())
    }

    /// The ratio in the middle: each round's own, since both sides of a round had the same machine.
    fn ratio(&self, index: usize) -> f64 {
        let ratio = |round: &(Figures, Vec<Figures>)| Some(self.main.of(round.0) / self.main.of(*round.1.get(index)?));
        let mut ratios: Vec<f64> = self.rounds.iter().filter_map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn json(&self) -> Value {
        let floors = self.floors.iter().enumerate().map(|(index, name)| {
            let mut floor = Map::from_iter([("name".to_owned(), (*name).into())]);
            floor.extend(self.floor(index).json());
            floor.insert("ratio".to_owned(), rounded(self.ratio(index)).into());
            Value::Object(floor)
        });
        let mut floors: Vec<Value> = floors.collect();
        let others = floors.split_off(floors.len().min(1));
        let mut json = json!({"case": self.name, "unit": self.unit, "ours": self.ours().json()});
        if let Some(floor) = floors.pop() {
            json["ratio"] = floor["ratio"].clone();
            json["ratio_of"] = self.main.name().into();
            json["floor"] = floor;
        }
        if !others.is_empty() {
            json["other_floors"] = others.into();
        }
        json["rounds"] = self.rounds.len().into();
        json
    }

    fn rows(&self, table: &mut Table) {
        for index in 0..self.floors.len().max(1) {
            let mut cells = vec![String::new(); 5];
            if index == 0 {
                cells = vec![self.name.clone(), self.unit.to_owned()];
                cells.extend(self.ours().cells());
            }
            match self.floors.get(index) {
                Some(name) => {
                    cells.push((*name).to_owned());
                    cells.extend(self.floor(index).cells());
                    cells.push(format!("{:.3}", self.ratio(index)));
                    cells.push(self.main.name().to_owned());
                }
                None => cells.extend(std::iter::repeat_n("-".to_owned(), 6)),
            }
            table.row(cells);
        }
    }
}

/// Prints all cases.
pub(super) fn print(cases: &[Case], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&cases.iter().map(Case::json).collect::<Vec<_>>());
    }
    let names = ["CASE", "UNIT", "RATE", "P50 US", "P99 US", "FLOOR", "RATE", "P50 US", "P99 US", "RATIO", "OF"];
    let mut table = Table::new(&names, format == Format::Wide);
    cases.iter().for_each(|case| case.rows(&mut table));
    table.print()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(operations: u64) -> Figures {
        let latencies = (1..=operations).map(Duration::from_micros).collect();
        Round { latencies, elapsed: Duration::from_secs(1) }.figures()
    }

    #[test]
    fn the_median_round_counts() {
        let mut case = Case::new("c", "requests/s", &["floor", "other"]);
        for operations in [100, 300, 200] {
            case.add(round(operations), [round(1000), round(100)]);
        }
        let json = case.json();
        assert_eq!(json["ours"], json!({"rate": 200.0, "p50_us": 100.0, "p99_us": 198.0}));
        assert_eq!(json["floor"]["name"], "floor");
        assert_eq!((&json["ratio"], &json["ratio_of"]), (&json!(0.2), &json!("rate")));
        assert_eq!(json["other_floors"][0]["ratio"], 2.0);
        let latency = case.about(Main::P50).json();
        assert_eq!((&latency["ratio"], &latency["ratio_of"]), (&json!(0.2), &json!("p50_us")));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([7.12349, 271.828, 123_456.7].map(rounded), [7.123, 271.8, 123_457.0]);
        assert_eq!(json!(rounded(0.1 + 0.2)), json!(0.3));
    }
}
