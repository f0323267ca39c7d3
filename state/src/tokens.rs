//! Tokens of the API: who may ask what. Only hashes stand here; a token never enters the log.

use crate::command::{Outcome, Reply};
use crate::machine::{At, State};
use longshore_wire::{Code, Digest, Failure};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Most tokens of a cluster: all of them are compared with what a caller shows.
pub const MAX_TOKENS: usize = 1_024;
/// Longest name of a token, in bytes.
const MAX_NAME: usize = 64;

/// What the holder of a token may do. Each includes the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look at everything but secrets of the cluster.
    Read,
    /// Change keys, apps, flows; ask workers.
    Operate,
    /// All else: nodes, credentials, tokens, the control group, whole snapshots.
    Admin,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        })
    }
}

/// A token, as far as the control side knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its name: what audit lines say.
    pub name: String,
    /// What its holder may do.
    pub scope: Scope,
    /// SHA-256 of the token, which has 256 random bits: nothing slower is needed.
    pub digest: Digest,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// From when on it is refused, in Unix milliseconds, by the clock of the node that is asked; `None` = never.
    pub expires_ms: Option<u64>,
}

impl State {
    /// All tokens, by name.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.values().map(Arc::as_ref)
    }

    pub(crate) fn create_token(&mut self, at: At, token: &Token) -> Outcome {
        let fine = (1..=MAX_NAME).contains(&token.name.len())
            && token.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !fine {
            let message = format!("a token's name has 1 to {MAX_NAME} letters, digits and - _ .");
            return Err(Failure::new(Code::Invalid, message));
        }
        if self.tokens.contains_key(&token.name) {
            let message = format!("there is a token '{}'; revoke it first, or take another name", token.name);
            return Err(Failure::new(Code::Conflict, message));
        }
        if self.tokens.len() >= MAX_TOKENS {
            let message = format!("there are {MAX_TOKENS} tokens, the most that may be; revoke some");
            return Err(Failure::new(Code::Conflict, message));
        }
        let token = Token { created_ms: at.now_ms, ..token.clone() };
        self.tokens.insert(token.name.clone(), Arc::new(token));
        Ok(Reply::Done)
    }

    pub(crate) fn revoke_token(&mut self, name: &str) -> Outcome {
        match self.tokens.remove(name) {
            Some(_) => Ok(Reply::Done),
            None => {
                Err(Failure::new(Code::NotFound, format!("there is no token '{name}'; see `longshore token list`")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Proposal};
    use crate::snapshot;
    use longshore_wire::{ClusterId, RequestId};

    fn apply(state: &mut State, index: u64, command: Command) -> Outcome {
        let proposal = Proposal { request_id: RequestId::from_u128(u128::from(index)), now_ms: 7, command };
        state.apply(index, &[proposal]).remove(0)
    }

    fn token(name: &str) -> Token {
        let (scope, digest) = (Scope::Operate, Digest([7; 32]));
        Token { name: name.to_owned(), scope, digest, created_ms: 0, expires_ms: Some(9) }
    }

    #[test]
    fn tokens_are_made_once_kept_in_snapshots_and_revoked() {
        let mut state = State::default();
        let init = Command::InitCluster { cluster_id: ClusterId::default(), name: "c".into(), verifiers: vec![] };
        apply(&mut state, 1, init).unwrap();
        apply(&mut state, 2, Command::CreateToken(token("ci"))).unwrap();
        assert_eq!(apply(&mut state, 3, Command::CreateToken(token("ci"))).unwrap_err().code, Code::Conflict);
        assert_eq!(apply(&mut state, 4, Command::CreateToken(token("c i"))).unwrap_err().code, Code::Invalid);
        let mut bytes = Vec::new();
        snapshot::write(&state, b"", &mut bytes).unwrap();
        let (mut restored, _) = snapshot::read(&mut bytes.as_slice()).unwrap();
        assert_eq!(restored.tokens().cloned().collect::<Vec<_>>(), [Token { created_ms: 7, ..token("ci") }]);
        apply(&mut restored, 5, Command::RevokeToken { name: "ci".into() }).unwrap();
        assert_eq!(restored.tokens().count(), 0);
        let again = apply(&mut restored, 6, Command::RevokeToken { name: "ci".into() });
        assert_eq!(again.unwrap_err().code, Code::NotFound);
    }
}
