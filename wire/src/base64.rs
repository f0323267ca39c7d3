//! Base 64 (RFC 4648 §4), padded: how bytes that are no text stand in JSON.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes bytes.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let six = (bits >> (18 - 6 * digit)) & 63;
            let filled = digit <= chunk.len();
            text.push(if filled { char::from(ALPHABET[six as usize]) } else { '=' });
        }
    }
    text
}

/// Decodes a text; `None` when it is not whole, or holds anything else.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let padding = bytes.iter().rev().take_while(|byte| **byte == b'=').count();
    if !bytes.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let digits = &bytes[..bytes.len() - padding];
    let mut decoded = Vec::with_capacity(bytes.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits {
        bits = (bits << 6) | value(*digit)?;
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    // What is left over must be nothing, so that each text stands for other bytes.
    (bits & ((1 << count) - 1) == 0).then_some(decoded)
}

fn value(digit: u8) -> Option<u32> {
    Some(u32::from(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn rfc_4648_vectors() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(super::encode(bytes.as_bytes()), text);
            assert_eq!(super::decode(text), Some(bytes.as_bytes().to_vec()));
        }
        assert_eq!((super::encode(&[0xff, 0xfe]), super::decode("//4=")), ("//4=".to_owned(), Some(vec![0xff, 0xfe])));
        for wrong in ["Z", "Zg=", "Zg", "Zh==", "Z===", "====", "Zm9v=", "Z-9v", "Zg==Zg=="] {
            assert_eq!(super::decode(wrong), None, "{wrong}");
        }
    }
}
