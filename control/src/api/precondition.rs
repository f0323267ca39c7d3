//! What the headers of a KV write say: what it expects, and under which name it may be repeated.

use super::problem::Problem;
use crate::kv::Ticket;
use axum::http::{HeaderMap, HeaderName, header};
use longshore_wire::kv::Expect;

/// Names a write, a ULID: a repeat gets the first outcome.
const REQUEST: HeaderName = HeaderName::from_static("x-longshore-request-id");
/// `yes` marks a repeat: it is refused rather than carried out a second time, should the first outcome be forgotten.
const REPEAT: HeaderName = HeaderName::from_static("x-longshore-repeat");

/// Reads what a write expects: `If-Match: 17` (quotes allowed) or `If-None-Match: *`; neither = anything goes.
pub(crate) fn expectation(headers: &HeaderMap) -> Result<Option<Expect>, Problem> {
    Ok(Expect::from_headers(single(headers, &header::IF_MATCH)?, single(headers, &header::IF_NONE_MATCH)?)?)
}

/// Reads the name of a write; without one it is a new request.
pub(crate) fn ticket(headers: &HeaderMap) -> Result<Ticket, Problem> {
    let id = single(headers, &REQUEST)?;
    let wrong = |text| Problem::invalid(format!("{REQUEST}: '{text}' is not a ULID (26 characters)"));
    let id = id.map(|text| text.parse().map_err(|_| wrong(text))).transpose()?;
    match (id, single(headers, &REPEAT)?) {
        (None, None) => Ok(Ticket::fresh()),
        (Some(id), None | Some("no")) => Ok(Ticket::first(id)),
        (Some(id), Some("yes")) => Ok(Ticket::repeat(id)),
        (None, Some(_)) => Err(Problem::invalid(format!("{REPEAT} goes with {REQUEST}"))),
        (Some(_), Some(_)) => Err(Problem::invalid(format!("{REPEAT}: yes or no"))),
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid(format!("the header {name} stands twice")));
    }
    let text = value.to_str().map_err(|_| Problem::invalid(format!("the header {name} is not plain text")))?;
    Ok(Some(text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn preconditions() {
        assert_eq!(expectation(&headers(&[])).unwrap(), None);
        assert_eq!(expectation(&headers(&[(header::IF_MATCH, "\"17\"")])).unwrap(), Some(Expect::Revision(17)));
        let mut twice = headers(&[(header::IF_MATCH, "1")]);
        twice.append(header::IF_MATCH, HeaderValue::from_static("2"));
        assert!(expectation(&twice).is_err());
    }

    #[test]
    fn names_of_writes() {
        const ID: &str = "01J8ZJ3V5T0000000000000000";
        assert!(ticket(&headers(&[])).is_ok());
        assert_eq!(ticket(&headers(&[(REQUEST, ID)])).unwrap(), Ticket::first(ID.parse().unwrap()));
        assert_eq!(ticket(&headers(&[(REQUEST, ID), (REPEAT, "yes")])).unwrap(), Ticket::repeat(ID.parse().unwrap()));
        for wrong in [&[(REQUEST, "1")][..], &[(REPEAT, "yes")], &[(REQUEST, ID), (REPEAT, "maybe")]] {
            assert!(ticket(&headers(wrong)).is_err(), "{wrong:?}");
        }
    }
}
