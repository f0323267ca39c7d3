//! Dials candidates as happy eyeballs do (RFC 8305): in order, each a quarter of a second behind the former or at once
//! when that has failed; the first link that stands wins and the others are cut.
//!
//! A dead candidate costs a quarter of a second and not its whole deadline. It proves nobody: whose handshake fails goes
//! on with the rest, those that were cut included. Every candidate's end is told.

use crate::dial::{DialError, DialOptions, dial};
use crate::link::Link;
use longshore_wire::Endpoint;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

/// Time that a candidate has for itself before the next is dialled too (RFC 8305 §5, Connection Attempt Delay).
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// The end of one candidate's dialling.
#[derive(Debug)]
pub struct Dialled {
    /// The candidate.
    pub endpoint: Endpoint,
    /// Its link, or why there is none.
    pub result: Result<Link, DialError>,
    /// How long dialling took.
    pub took: Duration,
}

/// Candidates on their way. Dropped, it cuts all that is under way.
#[derive(Debug)]
pub struct Race {
    options: DialOptions,
    /// With their places in the order.
    waiting: VecDeque<(usize, Endpoint)>,
    running: Vec<(usize, Endpoint)>,
    dials: JoinSet<(usize, Dialled)>,
    next_at: Instant,
}

impl Race {
    /// Dials these, the most wanted first.
    pub fn new(endpoints: impl IntoIterator<Item = Endpoint>, options: &DialOptions) -> Self {
        Self {
            options: options.clone(),
            waiting: endpoints.into_iter().enumerate().collect(),
            running: Vec::new(),
            dials: JoinSet::new(),
            next_at: Instant::now(),
        }
    }

    /// Waits for the next candidate's end: a failure, or the first link that stands, upon which all others are cut. Asked
    /// again, the race goes on with every candidate whose end was not told yet. `None` when there is none left.
    pub async fn next(&mut self) -> Option<Dialled> {
        loop {
            if self.dials.is_empty() || Instant::now() >= self.next_at {
                self.start_next();
            }
            if self.dials.is_empty() {
                return None;
            }
            let ended = if self.waiting.is_empty() {
                self.dials.join_next().await
            } else {
                match tokio::time::timeout_at(self.next_at, self.dials.join_next()).await {
                    Ok(ended) => ended,
                    Err(_) => continue,
                }
            };
            if let Some(dialled) = ended.and_then(|ended| self.ended(ended)) {
                return Some(dialled);
            }
        }
    }

    fn start_next(&mut self) {
        let Some((place, endpoint)) = self.waiting.pop_front() else { return };
        self.running.push((place, endpoint.clone()));
        self.next_at = Instant::now() + NEXT_AFTER;
        let options = self.options.clone();
        self.dials.spawn(async move {
            let begun = Instant::now();
            let result = dial(&endpoint, &options).await;
            (place, Dialled { endpoint, result, took: begun.elapsed() })
        });
    }

    fn ended(&mut self, ended: Result<(usize, Dialled), JoinError>) -> Option<Dialled> {
        // Dials neither panic nor are they aborted while anybody waits for them; if one does, its candidate is given up.
        let (place, dialled) = ended.ok()?;
        self.running.retain(|(running, _)| *running != place);
        match dialled.result {
            Ok(_) => self.cut(),
            // The next has not to wait for its turn behind a candidate that is known to be dead.
            Err(_) => self.next_at = Instant::now(),
        }
        Some(dialled)
    }

    /// Cuts all others; they wait in their order in case the winner is not who it should be.
    fn cut(&mut self) {
        self.dials = JoinSet::new();
        self.running.sort_by_key(|(place, _)| *place);
        while let Some(cut) = self.running.pop() {
            self.waiting.push_front(cut);
        }
    }
}
