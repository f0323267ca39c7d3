//! Requests to job classes as opaque bytes, each with an id under which its outcome can be asked for later.
//!
//! Protocol version 2: a peer of version 1 is never sent any of these. They are the hottest messages that there are, so
//! they are read in place and written into one buffer.

use crate::{Failure, NodeId, RequestId};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use ulid::{ULID_LEN, Ulid};

/// The first protocol version that knows these messages.
pub const RELAY_VERSION: u16 = 2;

/// How every relay begins: a map of one entry, its key `relay`.
const TAG: &[u8] = b"\x81\xa5relay";
/// How a relay for a worker begins: the same, and three fields.
pub const FOR_WORKER: &[u8] = b"\x81\xa5relay\x83";
/// The name of the first field, and what stands before a text of 26 bytes.
const ID: &[u8] = b"\xa2id\xba";
/// The same for the second field.
const NODE: &[u8] = b"\xa4node\xba";
/// The name of the third field.
const CLASS: &[u8] = b"\xa5class";
/// The name of the last field.
const BODY: &[u8] = b"\xa4body";

/// A request to a worker's job class, of a client or of a control node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// Names it for its whole life: its outcome can be asked for later.
    pub id: RequestId,
    /// The worker.
    pub node: NodeId,
    /// The job class.
    pub class: String,
    /// What.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

/// Asks what became of a relay, by way of a control node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeOf {
    /// The worker.
    pub node: NodeId,
    /// Which relay.
    pub ask: OutcomeAsk,
}

/// A relay read in place: of a client, of a control node, or for a worker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RelayView<'a> {
    /// Names the request for its whole life.
    pub id: RequestId,
    /// The worker; absent in what the worker itself gets.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// The job class.
    #[serde(borrow)]
    pub class: &'a str,
    /// What is asked.
    #[serde(borrow, with = "serde_bytes")]
    pub body: &'a [u8],
}

impl<'a> RelayView<'a> {
    /// Reads a relay; `None` for everything else, and for one that is written in a rare form: decode that as a whole.
    #[inline]
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let fields = message.strip_prefix(TAG)?;
        Self::in_order(fields).or_else(|| rmp_serde::from_slice(fields).ok())
    }

    /// The fields as [`Self::write`] puts them, a tenth of the time that a general decoder needs; `None` for another order
    /// or shape.
    fn in_order(fields: &'a [u8]) -> Option<Self> {
        let (count, rest) = fields.split_first()?;
        let (id, rest) = ulid(rest.strip_prefix(ID)?)?;
        let (node, rest) = match count {
            0x83 => (None, rest),
            0x84 => {
                let (node, rest) = ulid(rest.strip_prefix(NODE)?)?;
                (Some(NodeId::from_u128(node)), rest)
            }
            _ => return None,
        };
        let (class, rest) = short_text(rest.strip_prefix(CLASS)?)?;
        let body = whole_bin(rest.strip_prefix(BODY)?)?;
        Some(Self { id: RequestId::from_u128(id), node, class, body })
    }

    /// Where in a client's or a control node's relay that is what its worker gets behind [`FOR_WORKER`]; `None` for one in a
    /// rare form: write that anew.
    #[inline]
    pub fn parts_for_worker(message: &[u8]) -> Option<[Range<usize>; 2]> {
        const FIELDS: usize = FOR_WORKER.len();
        const NODE_AT: usize = FIELDS + ID.len() + ULID_LEN;
        const REST_AT: usize = NODE_AT + NODE.len() + ULID_LEN;
        let usual = message.get(FIELDS - 1) == Some(&0x84)
            && message.get(FIELDS..)?.starts_with(ID)
            && message.get(NODE_AT..)?.starts_with(NODE)
            && message.len() > REST_AT;
        usual.then_some([FIELDS..NODE_AT, REST_AT..message.len()])
    }

    /// This relay as the worker gets it.
    pub fn for_worker(&self) -> Vec<u8> {
        self.write(None)
    }

    /// This relay as another control node gets it.
    pub fn for_peer(&self, node: NodeId) -> Vec<u8> {
        self.write(Some(node))
    }

    fn write(&self, node: Option<NodeId>) -> Vec<u8> {
        let names = TAG.len() + 1 + ID.len() + ULID_LEN + CLASS.len() + BODY.len();
        let node_length = node.map_or(0, |_| NODE.len() + ULID_LEN);
        let class_length = length_of(self.class.len(), true) + self.class.len();
        let body_length = length_of(self.body.len(), false) + self.body.len();
        // Exact: whatever shares the bytes later takes them over as they are.
        let mut bytes = Vec::with_capacity(names + node_length + class_length + body_length);
        bytes.extend_from_slice(TAG);
        bytes.push(if node.is_some() { 0x84 } else { 0x83 });
        bytes.extend_from_slice(ID);
        push_ulid(&mut bytes, self.id.as_u128());
        if let Some(node) = node {
            bytes.extend_from_slice(NODE);
            push_ulid(&mut bytes, node.as_u128());
        }
        bytes.extend_from_slice(CLASS);
        push_length(&mut bytes, self.class.len(), [0xd9, 0xda, 0xdb], Some(0xa0));
        bytes.extend_from_slice(self.class.as_bytes());
        bytes.extend_from_slice(BODY);
        push_length(&mut bytes, self.body.len(), [0xc4, 0xc5, 0xc6], None);
        bytes.extend_from_slice(self.body);
        bytes
    }
}

/// A ULID's text in front of `bytes`, and what follows.
#[inline]
fn ulid(bytes: &[u8]) -> Option<(u128, &[u8])> {
    let (text, rest) = bytes.split_at_checked(ULID_LEN)?;
    let id = Ulid::from_string(std::str::from_utf8(text).ok()?).ok()?;
    Some((id.into(), rest))
}

#[inline]
fn push_ulid(bytes: &mut Vec<u8>, id: u128) {
    let mut text = [0; ULID_LEN];
    Ulid::from(id).array_to_str(&mut text);
    bytes.extend_from_slice(&text);
}

/// A text of at most 31 bytes in front of `bytes`, and what follows.
#[inline]
fn short_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let length = length.checked_sub(0xa0).filter(|length| *length < 32)?;
    let (text, rest) = rest.split_at_checked(length.into())?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// Bytes that end where their message does.
#[inline]
fn whole_bin(bytes: &[u8]) -> Option<&[u8]> {
    let (length, body) = match *bytes {
        [0xc4, a, ref body @ ..] => (a.into(), body),
        [0xc5, a, b, ref body @ ..] => (u16::from_be_bytes([a, b]).into(), body),
        [0xc6, a, b, c, d, ref body @ ..] => (u32::from_be_bytes([a, b, c, d]), body),
        _ => return None,
    };
    (length as usize == body.len()).then_some(body)
}

/// Bytes that [`push_length`] adds.
#[inline]
const fn length_of(length: usize, short: bool) -> usize {
    match length {
        ..32 if short => 1,
        ..0x100 => 2,
        0x100..0x1_0000 => 3,
        _ => 5,
    }
}

/// The length of text or bytes, in MessagePack: `markers` for 8, 16 and 32 bits, `short` for one below 32 in the marker.
#[inline]
fn push_length(bytes: &mut Vec<u8>, length: usize, markers: [u8; 3], short: Option<u8>) {
    let [one, two, four] = markers;
    // What is longer than 32 bits can say does not fit into a frame either.
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    match (length, short) {
        (..32, Some(short)) => bytes.push(short | d),
        (..0x100, _) => bytes.extend_from_slice(&[one, d]),
        (..0x1_0000, _) => bytes.extend_from_slice(&[two, c, d]),
        _ => bytes.extend_from_slice(&[four, a, b, c, d]),
    }
}

/// Asks what became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeAsk {
    /// The request.
    pub id: RequestId,
    /// The boot of the worker to which it was sent, as far as known. Only a worker of this very boot can say that the
    /// request never came; from then on it refuses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<RequestId>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeReply {
    /// It was answered.
    Done {
        /// With this.
        reply: RelayResult,
    },
    /// It is in work.
    Running,
    /// It never came, and is refused if it still comes.
    NotDone,
    /// The worker was started anew since, or has forgotten it.
    Unknown,
}

/// A worker's answer to a relay, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayResult {
    /// Its bytes.
    Ok(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Its failure.
    Failed(Failure),
}

impl From<RelayResult> for Result<Vec<u8>, Failure> {
    fn from(result: RelayResult) -> Self {
        match result {
            RelayResult::Ok(bytes) => Ok(bytes),
            RelayResult::Failed(failure) => Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::FromClient;
    use crate::edge::ToWorker;
    use crate::peer::PeerRequest;
    use crate::{Code, decode, encode};

    const ID: RequestId = RequestId::from_u128(7);
    const NODE: NodeId = NodeId::from_u128(9);

    fn view(node: Option<NodeId>) -> RelayView<'static> {
        RelayView { id: ID, node, class: "echo", body: b"\x00\xff" }
    }

    /// What another program writes by hand: names in MessagePack, the body as `bin`.
    fn golden(node: Option<NodeId>) -> Vec<u8> {
        let mut bytes = b"\x81\xa5relay".to_vec();
        bytes.push(if node.is_some() { 0x84 } else { 0x83 });
        bytes.extend_from_slice(b"\xa2id\xba00000000000000000000000007");
        if let Some(node) = node {
            bytes.extend_from_slice(b"\xa4node\xba");
            bytes.extend_from_slice(node.to_string().as_bytes());
        }
        bytes.extend_from_slice(b"\xa5class\xa4echo\xa4body\xc4\x02\x00\xff");
        bytes
    }

    #[test]
    fn golden_relays() {
        let to_worker = ToWorker::Relay { id: ID, class: "echo".into(), body: vec![0, 255] };
        assert_eq!(encode(&to_worker), golden(None));
        assert_eq!(view(None).for_worker(), golden(None));
        assert_eq!(RelayView::read(&golden(None)), Some(view(None)));
        assert_eq!(decode::<ToWorker>(&golden(None)).unwrap(), to_worker);

        let relay = Relay { id: ID, node: NODE, class: "echo".into(), body: vec![0, 255] };
        let (from_client, from_peer) = (FromClient::Relay(relay.clone()), PeerRequest::Relay(relay));
        assert_eq!(encode(&from_client), golden(Some(NODE)));
        assert_eq!(encode(&from_peer), golden(Some(NODE)));
        assert_eq!(view(None).for_peer(NODE), golden(Some(NODE)));
        assert_eq!(RelayView::read(&golden(Some(NODE))), Some(view(Some(NODE))));
        assert_eq!(decode::<FromClient>(&golden(Some(NODE))).unwrap(), from_client);
    }

    #[test]
    fn a_rare_form_is_decoded_as_a_whole() {
        // A map with a 16-bit length, and the body as an array of numbers: legal MessagePack.
        let mut bytes = b"\xde\x00\x01\xa5relay\x83\xa2id\xba00000000000000000000000007".to_vec();
        bytes.extend_from_slice(b"\xa5class\xa4echo\xa4body\x92\x00\xcc\xff");
        assert_eq!(RelayView::read(&bytes), None);
        let expected = ToWorker::Relay { id: ID, class: "echo".into(), body: vec![0, 255] };
        assert_eq!(decode::<ToWorker>(&bytes).unwrap(), expected);
        assert_eq!(RelayView::read(b"\x81\xa5relay"), None);
        assert_eq!(RelayView::read(&encode(&PeerRequest::ReadIndex)), None);
    }

    #[test]
    fn any_length_is_written_as_messagepack_says() {
        for length in [0, 1, 31, 32, 255, 256, 65_535, 65_536, 1_000_000] {
            let class = "c".repeat(length.min(70_000));
            let body = vec![7; length];
            let view = RelayView { id: ID, node: Some(NODE), class: &class, body: &body };
            let owned = FromClient::Relay(Relay { id: ID, node: NODE, class: class.clone(), body: body.clone() });
            assert_eq!(view.for_peer(NODE), encode(&owned));
            assert_eq!(view.for_peer(NODE).capacity(), view.for_peer(NODE).len());
            assert_eq!(RelayView::read(&view.for_peer(NODE)), Some(view));
        }
    }

    #[test]
    fn a_relay_is_cut_for_its_worker() {
        let cut = |message: &[u8]| {
            let [first, second] = RelayView::parts_for_worker(message)?;
            Some([FOR_WORKER, &message[first], &message[second]].concat())
        };
        assert_eq!(cut(&golden(Some(NODE))), Some(golden(None)));
        assert_eq!(cut(&golden(None)), None, "it names no worker");
        let mut other = b"\x81\xa5relay\x84\xa4node\xba00000000000000000000000009".to_vec();
        other.extend_from_slice(b"\xa2id\xba00000000000000000000000007\xa5class\xa4echo\xa4body\xc4\x02\x00\xff");
        assert_eq!(RelayView::read(&other), Some(view(Some(NODE))));
        assert_eq!(cut(&other), None, "another order");
        for end in 0..70 {
            assert_eq!(cut(&golden(Some(NODE))[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn fields_in_another_order_are_read_too() {
        let mut bytes = b"\x81\xa5relay\x83\xa5class\xa4echo\xa4body\xc4\x02\x00\xff".to_vec();
        bytes.extend_from_slice(b"\xa2id\xba00000000000000000000000007");
        assert_eq!(RelayView::in_order(&bytes[TAG.len()..]), None);
        assert_eq!(RelayView::read(&bytes), Some(view(None)));
        let whole = golden(Some(NODE));
        assert!(RelayView::in_order(&whole[TAG.len()..]).is_some());
        for end in 0..whole.len() {
            assert_eq!(RelayView::read(&whole[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn outcomes_round_trip() {
        let ask = OutcomeAsk { id: ID, boot: None };
        assert_eq!(encode(&ask), b"\x81\xa2id\xba00000000000000000000000007");
        assert_eq!(decode::<OutcomeAsk>(&encode(&ask)).unwrap(), ask);
        let asked =
            b"\x81\xa7outcome\x82\xa4node\xba00000000000000000000000009\xa3ask\x81\xa2id\xba00000000000000000000000007";
        assert_eq!(encode(&FromClient::Outcome(OutcomeOf { node: NODE, ask })), asked);
        assert_eq!(encode(&PeerRequest::Outcome(OutcomeOf { node: NODE, ask })), asked);
        let failed = RelayResult::Failed(Failure::new(Code::NotFound, "no such class"));
        let replies = [
            OutcomeReply::Done { reply: RelayResult::Ok(vec![1, 2]) },
            OutcomeReply::Done { reply: failed },
            OutcomeReply::Running,
            OutcomeReply::NotDone,
            OutcomeReply::Unknown,
        ];
        for reply in replies {
            assert_eq!(decode::<OutcomeReply>(&encode(&reply)).unwrap(), reply);
        }
        assert_eq!(encode(&OutcomeReply::NotDone), b"\xa8not_done");
        let done = OutcomeReply::Done { reply: RelayResult::Ok(vec![7]) };
        assert_eq!(encode(&done), b"\x81\xa4done\x81\xa5reply\x81\xa2ok\xc4\x01\x07");
    }
}
