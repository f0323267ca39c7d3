//! What handlers have in common: fresh state, JSON bodies, queries.

use super::Context;
use super::problem::Problem;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use bytes::Bytes;
use longshore_state::State;
use longshore_wire::kv::Consistency;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// A query that is checked by [`asked`].
pub(super) type Asked<T> = Result<Query<T>, QueryRejection>;

/// How fresh an answer must be.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Freshness {
    #[serde(default)]
    pub(super) consistency: Consistency,
}

/// The query, or what is wrong with it.
pub(super) fn asked<T>(query: Asked<T>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|error| Problem::invalid(format!("the query: {}", error.body_text())))
}

/// A JSON object as body; nothing at all stands for `{}`.
pub(super) fn json<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    // serde would read an array as the fields in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::invalid("the body: a JSON object is expected, not an array"));
    }
    serde_json::from_slice(body).map_err(|error| Problem::invalid(format!("the body: {error}")))
}

impl Context {
    /// The state, as fresh as asked for.
    pub(super) async fn read(&self, consistency: Consistency) -> Result<Arc<State>, Problem> {
        if consistency == Consistency::Linearizable {
            self.group.read_index().await?;
        }
        Ok(self.group.state())
    }

    /// The state after a write of this request.
    pub(super) async fn read_after_write(&self) -> Arc<State> {
        // The write is done, whatever becomes of this read: an answer that is a little behind is better than an error.
        if let Err(failure) = self.group.read_index().await {
            tracing::debug!(%failure, "the answer to a write may be behind");
        }
        self.group.state()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wish {
        #[serde(default)]
        name: String,
    }

    #[test]
    fn bodies_are_strict() {
        assert_eq!(json::<Wish>(&Bytes::from_static(b"")).unwrap().name, "");
        assert_eq!(json::<Wish>(&Bytes::from_static(b"{\"name\":\"a\"}")).unwrap().name, "a");
        for wrong in ["nonsense", "{\"nam\":\"a\"}", "[]", "{} {}"] {
            assert!(json::<Wish>(&Bytes::from_static(wrong.as_bytes())).is_err(), "{wrong}");
        }
    }
}
