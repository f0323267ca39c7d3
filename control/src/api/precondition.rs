//! `If-Match` and `If-None-Match` as preconditions of a KV write.

use super::problem::Problem;
use axum::http::{HeaderMap, header};
use longshore_wire::kv::Expect;

/// Reads what a write expects: `If-Match: 17` (quotes allowed) or `If-None-Match: *`; neither = anything goes.
pub(crate) fn expectation(headers: &HeaderMap) -> Result<Option<Expect>, Problem> {
    let matching = single(headers, &header::IF_MATCH)?;
    let none_matching = single(headers, &header::IF_NONE_MATCH)?;
    match (matching, none_matching) {
        (None, None) => Ok(None),
        (Some(revision), None) => parse_revision(revision).map(|revision| Some(Expect::Revision(revision))),
        (None, Some("*")) => Ok(Some(Expect::Absent)),
        (None, Some(_)) => Err(Problem::invalid("If-None-Match: only * is understood (write when the key is absent)")),
        (Some(_), Some(_)) => Err(Problem::invalid("If-Match and If-None-Match exclude each other; send one of them")),
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid(format!("the header {name} stands twice")));
    }
    let text = value.to_str().map_err(|_| Problem::invalid(format!("the header {name} is not plain text")))?;
    Ok(Some(text.trim()))
}

fn parse_revision(text: &str) -> Result<u64, Problem> {
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let digits = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
    let wrong = || Problem::invalid(format!("If-Match: '{text}' is not a revision (a whole number)"));
    if digits { bare.parse().map_err(|_| wrong()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(header::HeaderName, &'static str)]) -> Result<Option<Expect>, Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, header::HeaderValue::from_static(value));
        }
        expectation(&headers)
    }

    #[test]
    fn preconditions() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[(header::IF_MATCH, "17")]).unwrap(), Some(Expect::Revision(17)));
        assert_eq!(read(&[(header::IF_MATCH, "\"17\"")]).unwrap(), Some(Expect::Revision(17)));
        assert_eq!(read(&[(header::IF_NONE_MATCH, "*")]).unwrap(), Some(Expect::Absent));
        for wrong in ["", "*", "+1", "-1", "1, 2", "\"", "99999999999999999999"] {
            assert!(read(&[(header::IF_MATCH, wrong)]).is_err(), "{wrong}");
        }
        assert!(read(&[(header::IF_NONE_MATCH, "1")]).is_err());
        assert!(read(&[(header::IF_MATCH, "1"), (header::IF_NONE_MATCH, "*")]).is_err());
        assert!(read(&[(header::IF_MATCH, "1"), (header::IF_MATCH, "2")]).is_err());
    }
}
