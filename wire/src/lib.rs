//! What crosses a socket or a disk: ids, messages, frames, versions.
//!
//! Both sides of every conversation depend on this crate and on nothing else in common. It owns the types and their
//! encoding; it never opens a socket or a file, reads a clock, or draws a random number.

pub mod app;
pub mod base64;
pub mod client;
pub mod codec;
pub mod credential;
pub mod edge;
pub mod failure;
pub mod frame;
pub mod handshake;
pub mod ids;
pub mod kv;
pub mod labels;
pub mod peer;
pub mod relay;
pub mod task;
pub mod uri;

pub use codec::{DecodeError, decode, decode_whole, encode, encode_behind};
pub use failure::{Code, Failure, Outcome};
pub use ids::{
    Blake3, ClusterId, Digest, Epoch, Generation, NodeId, PARTITIONS, Partition, RequestId, ShortId, TaskId,
};
pub use labels::Labels;
pub use uri::{ClusterUri, Endpoint, Transport};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a node may do in the cluster, and what a credential entitles its holder to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A member of the control group.
    Control,
    /// An executing peer, driven by a proxy.
    Worker,
    /// A program of an operator that speaks the session protocol.
    Client,
}

impl Role {
    /// The role's name as written in configuration files and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Worker => "worker",
            Self::Client => "client",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "control" => Ok(Self::Control),
            "worker" => Ok(Self::Worker),
            "client" => Ok(Self::Client),
            other => Err(format!("'{other}' is not a role; roles are control, worker, client")),
        }
    }
}
