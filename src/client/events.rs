//! Server-sent events (WHATWG HTML §9.2), as much of them as the API uses.

use anyhow::Context as _;
use serde_json::Value;

/// Most bytes of one event: a snapshot of a hundred thousand nodes.
const MAX_EVENT: usize = 64 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

/// Makes events of the pieces of a body.
#[derive(Debug, Default)]
pub(crate) struct Events(Vec<u8>);

impl Events {
    /// Takes the next piece; the events that are whole now.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> anyhow::Result<Vec<Event>> {
        // The end of an event may have begun in the piece before.
        let mut from = self.0.len().saturating_sub(1);
        self.0.extend_from_slice(piece);
        let (mut events, mut start) = (Vec::new(), 0);
        while let Some(end) = self.0[from..].windows(2).position(|pair| pair == b"\n\n") {
            events.extend(parse(&self.0[start..from + end])?);
            start = from + end + 2;
            from = start;
        }
        self.0.drain(..start);
        anyhow::ensure!(self.0.len() <= MAX_EVENT, "the API sends an event without an end; is it a longshore node?");
        Ok(events)
    }
}

/// A comment alone is no event.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<Event>> {
    let text = std::str::from_utf8(bytes).context("the API sends an event that is no text")?;
    let (mut name, mut id, mut data) = (None, None, None);
    for (field, value) in text.lines().filter_map(|line| line.split_once(": ")) {
        match field {
            "event" => name = Some(value.to_owned()),
            "id" => id = Some(value.to_owned()),
            "data" => data = Some(serde_json::from_str(value).context("the API sends an event that is no JSON")?),
            _ => (),
        }
    }
    Ok(name.zip(data).map(|(name, data)| Event { name, id: id.unwrap_or_default(), data }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_come_whole_however_they_are_cut() {
        let text = ": hello\n\nevent: put\nid: 7\ndata: {\"a\":\"b: c\"}\n\nevent: gap\nid: 9.1\ndata: 1\n\nevent: pu";
        let put = Event { name: "put".to_owned(), id: "7".to_owned(), data: json!({"a": "b: c"}) };
        let gap = Event { name: "gap".to_owned(), id: "9.1".to_owned(), data: json!(1) };
        for size in 1..text.len() {
            let mut events = Events::default();
            let pieces = text.as_bytes().chunks(size);
            let seen: Vec<Event> = pieces.flat_map(|piece| events.feed(piece).unwrap()).collect();
            assert_eq!(seen, [put.clone(), gap.clone()]);
        }
        assert!(Events::default().feed(b"event: put\ndata: x\n\n").is_err());
    }
}
