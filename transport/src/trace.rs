//! What happened on the way to an endpoint, layer by layer, for whoever wants to explain it to people.
//!
//! Dials note their stages here; where nobody listens, as in a running node, that costs a look and nothing is kept.

use crate::dial::{DialError, DialOptions, dial};
use crate::link::Link;
use longshore_wire::Endpoint;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// One layer of a dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What was done, for example `TLS`.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What the other side showed; empty when there is nothing to tell.
    pub told: String,
}

/// Stages with the moments at which they began.
type Noted = Vec<(Instant, Stage)>;

tokio::task_local! {
    static NOTED: RefCell<Noted>;
}

/// Dials an endpoint and tells what happened: the stages that were passed, and last the one that failed, if one did.
pub async fn dial_traced(endpoint: &Endpoint, options: &DialOptions) -> (Result<Link, DialError>, Vec<Stage>) {
    let traced = async {
        let result = dial(endpoint, options).await;
        (result, NOTED.with(RefCell::take))
    };
    let (result, mut noted) = NOTED.scope(RefCell::default(), traced).await;
    let mut end = Instant::now();
    for (began, stage) in noted.iter_mut().rev() {
        stage.took = end.saturating_duration_since(*began);
        end = *began;
    }
    (result, noted.into_iter().map(|(_, stage)| stage).collect())
}

/// A stage begins; the one before is over.
pub(crate) fn begin(name: &'static str) {
    // Without a listener there is no such local.
    let _ = NOTED.try_with(|noted| {
        noted.borrow_mut().push((Instant::now(), Stage { name, took: Duration::ZERO, told: String::new() }));
    });
}

/// What the other side has shown in the stage that goes on.
pub(crate) fn tell(text: impl FnOnce() -> String) {
    let _ = NOTED.try_with(|noted| {
        if let Some((_, stage)) = noted.borrow_mut().last_mut() {
            stage.told = text();
        }
    });
}
