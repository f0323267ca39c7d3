//! Requests of a client session: an operator's program that speaks the session protocol instead of HTTP.

use crate::edge::ClassRequest;
use crate::kv::KvRequest;
use crate::relay::{OutcomeOf, Relay};
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
    Relay(Relay),
    /// Asks what became of a relay, from version 2 on. Reply: [`crate::relay::OutcomeReply`].
    Outcome(OutcomeOf),
    /// An operation of the key-value store, from version 2 on. Reply: [`crate::kv::KvReply`].
    Kv(ClientKv),
}

/// An operation of the key-value store, asked for by a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientKv {
    /// Names a write: a repeat gets the first outcome. Without it nobody can repeat the write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    /// Whether it was sent before: refused rather than carried out twice, should the first outcome be forgotten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeat: bool,
    /// What.
    pub request: KvRequest,
}
