//! Requests of a client session: an operator's program that speaks the session protocol instead of HTTP.

use crate::NodeId;
use crate::edge::ClassRequest;
use crate::relay::{OutcomeOf, Relay};
use serde::{Deserialize, Serialize};

/// A request from a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromClient {
    /// A request to a worker's job class, through its proxy wherever that is. Reply: a JSON value.
    Request {
        /// The worker.
        node: NodeId,
        /// What.
        request: ClassRequest,
    },
    /// The same in bytes, from version 2 on. Reply: bytes.
    Relay(Relay),
    /// Asks what became of a relay, from version 2 on. Reply: [`crate::relay::OutcomeReply`].
    Outcome(OutcomeOf),
}
