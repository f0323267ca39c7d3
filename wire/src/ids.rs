//! Names of things: nodes, clusters, requests, partitions, contents.
//!
//! Every id is a type of its own, so that one cannot stand where another is meant.

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use ulid::Ulid;

/// How many partitions the ring has. Fixed for the life of a cluster: a worker's partition is stored nowhere.
pub const PARTITIONS: u16 = 1024;

/// A text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a {what}")]
pub struct IdError {
    what: &'static str,
    text: String,
}

impl IdError {
    fn new(what: &'static str, text: &str) -> Self {
        Self { what, text: text.chars().take(80).collect() }
    }
}

/// Reads an id out of its text without a copy of it.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = IdError>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id as text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(u128);

        impl $name {
            /// Takes the 128 bits of a ULID.
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits)
            }

            /// The 128 bits of the ULID.
            pub const fn as_u128(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&Ulid::from(self.0).to_string())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Ulid::from_string(text).map(|id| Self(id.into())).map_err(|_| IdError::new($what, text))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut text = [0; ulid::ULID_LEN];
                serializer.serialize_str(Ulid::from(self.0).array_to_str(&mut text))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text(PhantomData))
            }
        }
    };
}

ulid_id! {
    /// A node's persistent identity: a ULID made at its first start and kept in its data folder.
    NodeId, "node id (26 characters of Crockford base 32)"
}
ulid_id! {
    /// A cluster's identity: a ULID made when it is bootstrapped.
    ClusterId, "cluster id (26 characters of Crockford base 32)"
}
ulid_id! {
    /// Names one request for its whole life, retries included: a repeat gets the first outcome.
    RequestId, "request id (26 characters of Crockford base 32)"
}

impl From<u64> for NodeId {
    /// An id with these low bits. No first start makes such an id, so it suits simulations and tests.
    fn from(low: u64) -> Self {
        Self(low.into())
    }
}

impl NodeId {
    /// The partition of the ring that this node hashes to (FNV-1a over the 16 bytes, folded to [`PARTITIONS`]).
    ///
    /// The hash needs spread, not secrecy: whoever may enrol a worker may command it anyway.
    pub fn partition(self) -> Partition {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let hash = self.0.to_be_bytes().iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
        let folded = hash ^ (hash >> 32);
        Partition(u16::try_from(folded % u64::from(PARTITIONS)).unwrap_or(0))
    }
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number_id! {
    /// Small positive number, unique among the nodes of a cluster.
    ShortId(u32)
}
number_id! {
    /// Rises each time the node registers with a new boot; tells a restarted node from its former self.
    Generation(u64)
}
number_id! {
    /// Rises with every change of a partition's owner; a worker refuses orders from a lower one than it has seen.
    Epoch(u64)
}
number_id! {
    /// One of the [`PARTITIONS`] slices of the ring.
    Partition(u16)
}

/// Name of one running copy: `INSTANCE-SHORTID`, for example `greeter-3`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub String);

impl TaskId {
    /// The task of `instance` on the worker with `node`'s short id.
    pub fn new(instance: &str, node: ShortId) -> Self {
        Self(format!("{instance}-{node}"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// 32 bytes that name some content.
macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let what = concat!($what, " (64 lowercase hexadecimal digits)");
                digits(text).map(Self).ok_or_else(|| IdError::new(what, text))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

digest!(
    /// A SHA-256 of some content (FIPS 180-4); text form is 64 lowercase hexadecimal digits.
    Digest,
    "SHA-256"
);
digest!(
    /// A BLAKE3 of some content (256 bits, no key); text form is 64 lowercase hexadecimal digits.
    Blake3,
    "BLAKE3"
);

fn digits(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_id_round_trips_as_text() {
        let id = NodeId::from_u128(0x0192_3c1a_0000_0000_0000_0000_dead_beef);
        assert_eq!(id.to_string().len(), 26);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("not-an-id".parse::<NodeId>().is_err());
    }

    #[test]
    fn partitions_spread() {
        let mut seen = vec![0_u32; usize::from(PARTITIONS)];
        for low in 0..10_240_u128 {
            seen[usize::from(NodeId::from_u128((0x0192_3c1a << 96) | low).partition().0)] += 1;
        }
        assert!(seen.iter().all(|count| (1..=40).contains(count)), "ids that differ in one counter crowd together");
    }

    #[test]
    fn digest_text_is_strict() {
        let digest = Digest([0xab; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("ab".parse::<Digest>().is_err());
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
        assert!(("+a".to_owned() + &"ab".repeat(31)).parse::<Digest>().is_err());
    }
}
