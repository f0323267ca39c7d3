//! Requests of a client session: an operator's program that speaks the session protocol instead of HTTP.

use crate::edge::ClassRequest;
use crate::relay::OutcomeAsk;
use crate::{NodeId, RequestId};
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
    Relay {
        /// Names it for its whole life: its outcome can be asked for later.
        id: RequestId,
        /// The worker.
        node: NodeId,
        /// The job class.
        class: String,
        /// What.
        #[serde(with = "serde_bytes")]
        body: Vec<u8>,
    },
    /// Asks what became of a relay, from version 2 on. Reply: [`crate::relay::OutcomeReply`].
    Outcome {
        /// The worker.
        node: NodeId,
        /// Which relay.
        ask: OutcomeAsk,
    },
}
