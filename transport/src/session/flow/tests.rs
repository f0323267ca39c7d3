//! A writer with endless bulk over a simulated line: a queue that empties at a rate, and a way to and fro.

use super::*;

const MS: Duration = Duration::from_millis(1);
/// 100 Mbit/s, in bytes a second.
const NARROW_LINE: u64 = 12_500_000;

struct Line {
    /// Bytes a second.
    rate: u64,
    /// To and fro.
    trip: Duration,
    /// What somebody else has in the queue.
    others: Duration,
}

/// What a stretch of time showed.
#[derive(Debug)]
struct Shown {
    /// Part of the rate that arrived.
    used: f64,
    /// The longest round trip of a ping.
    longest: Duration,
}

struct Simulation {
    flow: Flow,
    now: Instant,
    /// When the line has sent all that it was given.
    free: Instant,
    /// Answers under way.
    answers: VecDeque<(Instant, u64, Instant)>,
    /// Credit under way.
    credit: VecDeque<(Instant, u64)>,
}

impl Simulation {
    fn new() -> Self {
        let now = Instant::now();
        Self { flow: Flow::new(), now, free: now, answers: VecDeque::new(), credit: VecDeque::new() }
    }

    /// Runs for so long, with at most `credit` bytes under way for other reasons.
    fn run(&mut self, line: &Line, time: Duration, credit: u64) -> Shown {
        let (end, before) = (self.now + time, self.flow.arrived);
        let mut longest = Duration::ZERO;
        let mut lent: u64 = self.credit.iter().map(|(_, bytes)| bytes).sum();
        while self.now < end {
            while let Some((_, bytes)) = self.credit.pop_front_if(|(at, _)| *at <= self.now) {
                lent -= bytes;
            }
            let allowed = credit.saturating_sub(lent) as usize;
            let bytes = self.flow.room().min(allowed);
            if bytes > 0 {
                self.free = self.free.max(self.now) + Duration::from_nanos(bytes as u64 * 1_000_000_000 / line.rate);
                lent += bytes as u64;
                let there = self.free + line.trip + line.others;
                self.credit.push_back((there, bytes as u64));
                if let Some(stamp) = self.flow.wrote(bytes, self.now) {
                    self.answers.push_back((there, stamp, self.now));
                }
                continue;
            }
            if let Some((at, _)) = self.credit.front().filter(|_| self.flow.room() > 0) {
                self.now = self.now.max(*at);
                if self.answers.front().is_none_or(|(answer, ..)| *answer > self.now) {
                    continue;
                }
            }
            let (at, stamp, sent) = self.answers.pop_front().expect("a full flow has an answer under way");
            self.now = self.now.max(at);
            longest = longest.max(self.now - sent);
            self.flow.answered(stamp, self.now);
        }
        let arrived = (self.flow.arrived - before) as f64;
        Shown { used: arrived / time.as_secs_f64() / line.rate as f64, longest }
    }
}

fn line(rate: u64, trip: Duration) -> Line {
    Line { rate, trip, others: Duration::ZERO }
}

#[test]
fn little_waits_on_a_narrow_line_that_stays_full() {
    for trip in [MS / 5, MS, 10 * MS, 40 * MS] {
        let (mut simulation, line) = (Simulation::new(), line(NARROW_LINE, trip));
        let begin = simulation.run(&line, 500 * MS, u64::MAX);
        assert!(begin.longest <= trip + 50 * MS, "{trip:?}: {begin:?}");
        let shown = simulation.run(&line, 60_000 * MS, u64::MAX);
        assert!(shown.longest <= trip + 30 * MS && shown.used > 0.97, "{trip:?}: {shown:?}");
    }
}

#[test]
fn a_long_path_is_used() {
    let (mut simulation, line) = (Simulation::new(), line(NARROW_LINE, 200 * MS));
    let begin = simulation.run(&line, 3_000 * MS, 16 << 20);
    assert!(begin.used > 0.5, "{begin:?}");
    let shown = simulation.run(&line, 30_000 * MS, 16 << 20);
    assert!(shown.used > 0.93 && shown.longest < 300 * MS, "{shown:?}");
}

#[test]
fn a_fast_path_is_not_held_back() {
    for (rate, trip) in [(4_000_000_000, MS / 20), (1_000_000_000, MS / 10), (1_250_000_000, 30 * MS)] {
        let (mut simulation, line) = (Simulation::new(), line(rate, trip));
        simulation.run(&line, 100 * MS + 20 * trip, 64 << 20);
        let shown = simulation.run(&line, 11_000 * MS, 64 << 20);
        assert!(shown.used > 0.95, "{rate} {trip:?}: {shown:?}");
        assert!(!simulation.flow.is_narrow());
    }
}

#[test]
fn what_is_no_limit_grows_from_what_was_seen() {
    let (mut simulation, line) = (Simulation::new(), line(1_000_000_000, MS / 10));
    simulation.run(&line, 100 * MS, 64 * 1024);
    assert!(simulation.flow.window > 4 << 20, "{}", simulation.flow.window);
}

#[test]
fn a_path_that_becomes_longer_is_used_again() {
    let mut simulation = Simulation::new();
    simulation.run(&line(NARROW_LINE, MS), 5_000 * MS, 16 << 20);
    let longer = line(NARROW_LINE, 100 * MS);
    simulation.run(&longer, 6_000 * MS, 16 << 20);
    let shown = simulation.run(&longer, 10_000 * MS, 16 << 20);
    assert!(shown.used > 0.9, "{shown:?}");
    // And back: the next period finds it.
    let near = line(NARROW_LINE, MS);
    simulation.run(&near, 25_000 * MS, 16 << 20);
    let shown = simulation.run(&near, 10_000 * MS, 16 << 20);
    assert!(shown.longest <= 17 * MS, "{shown:?}");
}

#[test]
fn a_path_that_becomes_wider_is_used_again() {
    let mut simulation = Simulation::new();
    simulation.run(&line(500_000, 200 * MS), 9_000 * MS, 64 << 20);
    let wider = line(50_000_000, 200 * MS);
    simulation.run(&wider, 6_000 * MS, 64 << 20);
    let shown = simulation.run(&wider, 3_000 * MS, 64 << 20);
    assert!(shown.used > 0.95, "{shown:?}");
}

#[test]
fn the_queue_of_others_does_not_starve_it() {
    let mut simulation = Simulation::new();
    simulation.run(&line(NARROW_LINE, MS), 2_000 * MS, 16 << 20);
    let shared = Line { rate: NARROW_LINE / 2, trip: MS, others: 60 * MS };
    simulation.run(&shared, 4_000 * MS, 16 << 20);
    let shown = simulation.run(&shared, 30_000 * MS, 16 << 20);
    assert!(shown.used > 0.7, "{shown:?}");
}

#[test]
fn a_foreign_answer_changes_nothing() {
    let now = Instant::now();
    let mut flow = Flow::new();
    let stamp = flow.wrote(FIRST as usize, now).unwrap();
    assert!(Flow::is_mark(stamp) && flow.room() == 0);
    flow.answered(stamp + 1, now + MS);
    flow.answered(0, now + MS);
    assert_eq!(flow.room(), 0);
    flow.answered(stamp, now + MS);
    assert!(flow.room() > 0);
    flow.answered(stamp, now + MS);
    assert_eq!(flow.arrived, FIRST);
}
