//! How one value is sealed for the disk: a format byte, a CRC-32 (big endian) over the rest, the value in MessagePack.

use serde::{Serialize, de::DeserializeOwned};

/// Format of the records. A newer program reads older ones; an older program refuses newer ones by this byte.
const FORMAT: u8 = 1;
/// Bytes in front of the value.
const HEADER: usize = 5;

/// Seals a value.
pub(crate) fn seal_record<T: Serialize>(value: &T) -> Vec<u8> {
    let body = longshore_wire::encode(value);
    let mut record = Vec::with_capacity(HEADER + body.len());
    record.push(FORMAT);
    record.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
    record.extend_from_slice(&body);
    record
}

/// Whether a sealed value is intact, but of a newer format.
pub(crate) fn is_newer(record: &[u8]) -> bool {
    match record {
        [format, c0, c1, c2, c3, body @ ..] => {
            *format > FORMAT && u32::from_be_bytes([*c0, *c1, *c2, *c3]) == crc32fast::hash(body)
        }
        _ => false,
    }
}

/// Opens a sealed value.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence.
pub(crate) fn open_record<T: DeserializeOwned>(record: &[u8]) -> Result<T, String> {
    let [format, c0, c1, c2, c3, body @ ..] = record else {
        return Err(format!("it has {} bytes, fewer than a header", record.len()));
    };
    if *format != FORMAT {
        return Err(format!("its format is {format}, this release reads format {FORMAT}"));
    }
    let (wanted, found) = (u32::from_be_bytes([*c0, *c1, *c2, *c3]), crc32fast::hash(body));
    if wanted != found {
        return Err(format!("its checksum is {found:08x} instead of {wanted:08x}"));
    }
    longshore_wire::decode(body).map_err(|error| error.to_string())
}
