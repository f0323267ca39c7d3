//! Selectors: expressions that pick workers.
//!
//! ```text
//! selector = [ term *( "," term ) ]          all terms must hold; an empty selector picks every worker
//! term     = [ "!" ] ( item / node )         "!" turns the term around
//! item     = name *( ";" key [ "=" value ] ) the node has this label item with these keys
//! node     = "node=" text                    the node has this name or node id
//! ```
//!
//! `core` picks nodes with the item `core`; `core;group=group1` those whose `core` has `group` set to `group1`;
//! `core;master` those whose `core` has the key `master`, whatever its value. Blanks around delimiters are ignored.

use crate::record::Node;
use longshore_wire::Labels;
use std::str::FromStr;

/// Longest selector, in bytes.
pub const MAX_SELECTOR: usize = 4096;

/// A parsed selector.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    negated: bool,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Node(String),
    Item { name: String, keys: Vec<(String, Option<String>)> },
}

/// Why a text is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("selector, character {position}: {why} (write for example `core;group=group1, !node=edge-7`)")]
pub struct SelectorError {
    /// Where, counted in characters from 1.
    pub position: usize,
    why: &'static str,
}

impl Selector {
    /// Whether the selector picks this node.
    pub fn matches(&self, node: &Node) -> bool {
        self.terms.iter().all(|term| term.matches(node))
    }
}

impl Term {
    fn matches(&self, node: &Node) -> bool {
        let holds = match &self.test {
            Test::Node(text) => node.name == *text || node.id.to_string().eq_ignore_ascii_case(text),
            Test::Item { name, keys } => has_item(&node.labels, name, keys),
        };
        holds != self.negated
    }
}

fn has_item(labels: &Labels, name: &str, keys: &[(String, Option<String>)]) -> bool {
    let Some(item) = labels.0.get(name) else { return false };
    keys.iter().all(|(key, wanted)| match (item.get(key), wanted) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(found), Some(_)) => found == wanted,
    })
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_SELECTOR {
            return Err(SelectorError { position: 1, why: "longer than 4096 bytes" });
        }
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let parse = |(at, part)| parse_term(Part { text: part, at }).map_err(|(at, why)| locate(text, at, why));
        split(text, 0, ',').map(parse).collect::<Result<_, _>>().map(|terms| Self { terms })
    }
}

/// A piece of the selector and the byte where it starts.
#[derive(Clone, Copy)]
struct Part<'a> {
    text: &'a str,
    at: usize,
}

type Located<T> = Result<T, (usize, &'static str)>;

fn locate(text: &str, at: usize, why: &'static str) -> SelectorError {
    SelectorError { position: text[..at].chars().count() + 1, why }
}

fn split(text: &str, at: usize, delimiter: char) -> impl Iterator<Item = (usize, &str)> {
    text.split(delimiter).scan(at, move |next, part| {
        let start = *next;
        *next += part.len() + delimiter.len_utf8();
        Some((start, part))
    })
}

impl<'a> Part<'a> {
    fn trimmed(self) -> Self {
        let start = self.text.trim_start();
        Self { text: start.trim_end(), at: self.at + self.text.len() - start.len() }
    }

    fn filled(self, why: &'static str) -> Located<&'a str> {
        let part = self.trimmed();
        if part.text.is_empty() { Err((part.at, why)) } else { Ok(part.text) }
    }
}

fn parse_term(part: Part<'_>) -> Located<Term> {
    let part = part.trimmed();
    let (negated, part) = match part.text.strip_prefix('!') {
        Some(rest) => (true, Part { text: rest, at: part.at + 1 }.trimmed()),
        None => (false, part),
    };
    let test = match part.text.strip_prefix("node=") {
        Some(name) => parse_node(Part { text: name, at: part.at + "node=".len() })?,
        None => parse_item(part)?,
    };
    Ok(Term { negated, test })
}

fn parse_node(part: Part<'_>) -> Located<Test> {
    let name = part.filled("the name of a node is missing")?;
    match part.text.find([';', '!', '=']) {
        Some(offset) => Err((part.at + offset, "a node's name does not hold ; ! or =")),
        None => Ok(Test::Node(name.to_owned())),
    }
}

fn parse_item(part: Part<'_>) -> Located<Test> {
    let mut parts = split(part.text, part.at, ';').map(|(at, text)| Part { text, at });
    let first = parts.next().unwrap_or(part);
    let name = first.filled("the name of a label item is missing")?;
    if let Some(offset) = first.text.find(['=', '!']) {
        return Err((first.at + offset, "a label item's name does not hold = or !; a key is written `item;key=value`"));
    }
    let keys = parts.map(parse_key).collect::<Result<_, _>>()?;
    Ok(Test::Item { name: name.to_owned(), keys })
}

fn parse_key(part: Part<'_>) -> Located<(String, Option<String>)> {
    let (key, value) = match part.text.split_once('=') {
        Some((key, value)) => (key, Some(Part { text: value, at: part.at + key.len() + 1 })),
        None => (part.text, None),
    };
    let key = Part { text: key, at: part.at }.filled("a key is missing")?.to_owned();
    let value = value.map(|value| value.filled("a value is missing")).transpose()?;
    Ok((key, value.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::tests::worker;

    fn matches(selector: &str, labels: &str) -> bool {
        selector.parse::<Selector>().unwrap().matches(&worker("edge-7", labels))
    }

    #[test]
    fn terms() {
        let labels = "core;group=group1;master, dc;name=eu-1";
        for yes in
            ["", " ", "core", "core;group=group1", "core ; master", "core;group", "dc, core", "node=edge-7", "! lab"]
        {
            assert!(matches(yes, labels), "{yes}");
        }
        for no in [
            "lab",
            "core;group=group2",
            "core;slave",
            "core;master=1",
            "!core",
            "node=edge-8",
            "core,!dc",
            "!node=edge-7",
        ] {
            assert!(!matches(no, labels), "{no}");
        }
    }

    #[test]
    fn a_turned_term_with_a_key_picks_nodes_without_the_item() {
        assert!(matches("!core;group=group1", "dc"));
        assert!(matches("!core;group=group1", "core;group=group2"));
        assert!(!matches("!core;group=group1", "core;group=group1"));
    }

    #[test]
    fn errors_say_where() {
        for (text, position) in [
            ("core,", 6),
            ("ä, core;", 9),
            ("core;=1", 6),
            ("core; k= ,b", 9),
            ("group=1", 6),
            ("!", 2),
            ("node=", 6),
            ("!!a", 2),
        ] {
            assert_eq!(text.parse::<Selector>().unwrap_err().position, position, "{text}");
        }
        assert!("x".repeat(MAX_SELECTOR + 1).parse::<Selector>().is_err());
    }
}
