//! MessagePack with field names: the one encoding of messages.
//!
//! Names instead of positions let a newer side add fields that an older one skips. Sizes are checked by whoever reads
//! the length in front, before anything is allocated.

use serde::{Serialize, de::DeserializeOwned};

/// Bytes that are not the message they should be.
#[derive(Debug, thiserror::Error)]
#[error("not a valid {what}: {source}")]
pub struct DecodeError {
    what: &'static str,
    source: rmp_serde::decode::Error,
}

/// Room for a message to begin with: most fit, and none has to move while it is written.
const ROOM: usize = 512;

/// Encodes a message. Our own types always encode; the only failure would be a map key that is no string.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ROOM);
    encode_behind(&mut bytes, message);
    bytes
}

/// Encodes a message behind what is there already.
pub fn encode_behind<T: Serialize>(bytes: &mut Vec<u8>, message: &T) {
    let encoded = message.serialize(&mut rmp_serde::Serializer::new(bytes).with_struct_map());
    encoded.expect("messages hold only types that MessagePack can carry");
}

/// Decodes a message.
///
/// # Errors
/// When the bytes are not MessagePack, or not of this type.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    rmp_serde::from_slice(bytes).map_err(|source| DecodeError { what: short_name::<T>(), source })
}

/// Decodes a message that fills its bytes: behind those of strangers nothing may hide.
///
/// # Errors
/// When the bytes are not MessagePack, not of this type, or more than the message.
pub fn decode_whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut rest = bytes;
    let decoded = rmp_serde::from_read(&mut rest).and_then(|message| match rest.len() {
        0 => Ok(message),
        more => Err(serde::de::Error::custom(format!("{more} bytes stand behind it"))),
    });
    decoded.map_err(|source| DecodeError { what: short_name::<T>(), source })
}

/// The type's name without its path, for errors.
fn short_name<T>() -> &'static str {
    let full = std::any::type_name::<T>();
    full.rsplit("::").next().unwrap_or(full)
}
