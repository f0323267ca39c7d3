//! The limit of open files: every session is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many as strangers alone may take by default (`limits.pending`).
const ENOUGH: u64 = 16_384;

/// Raises the limit for a control node, and says in the log what it was, what it is, and whether that is enough.
pub(super) fn provide_descriptors() {
    let former = getrlimit(Resource::Nofile).current;
    let Some(limit) = raise_descriptors() else {
        tracing::info!("file descriptors: no limit");
        return;
    };
    match former.filter(|former| *former != limit) {
        Some(former) => {
            tracing::info!(former, limit, "the limit of file descriptors was raised; every session takes one")
        }
        None => tracing::info!(limit, "file descriptors: every session takes one"),
    }
    if limit < ENOUGH {
        tracing::warn!(
            limit,
            wanted = ENOUGH,
            "few file descriptors: workers beyond the limit are turned away; raise the hard limit (LimitNOFILE= of a systemd unit, ulimit -Hn of a shell)"
        );
    }
}

/// Raises the soft limit to the hard one, as a process that does not use `select(2)` may. Says what the limit is now;
/// `None` when there is none.
pub(crate) fn raise_descriptors() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be raised");
            current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let before = getrlimit(Resource::Nofile);
        let lower = before.current.map_or(1024, |current| current / 2);
        setrlimit(Resource::Nofile, Rlimit { current: Some(lower), ..before }).unwrap();
        assert_eq!(raise_descriptors(), before.maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
