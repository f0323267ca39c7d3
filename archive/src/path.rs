//! Which paths may stand in an archive.

use crate::ArchiveError;

/// Longest path: what a ustar header holds in its name and prefix, with the slash between them.
const MAX_PATH: usize = 256;

/// Takes a path as it stands in an archive: parts with `/` between them, none of them empty, `.` or `..`.
pub(crate) fn check(bytes: &[u8]) -> Result<&str, ArchiveError> {
    let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_PATH)]).escape_debug().to_string();
    let bad = |why| Err(ArchiveError::BadPath { path: shown(), why });
    if bytes.first() == Some(&b'/') {
        return Err(ArchiveError::AbsolutePath(shown()));
    }
    if bytes.split(|byte| matches!(byte, b'/' | b'\\')).any(|part| part == b"..") {
        return Err(ArchiveError::PathTraversal(shown()));
    }
    let Ok(path) = std::str::from_utf8(bytes) else { return bad("the path is not UTF-8") };
    if path.len() > MAX_PATH {
        return bad("the path is longer than a tar header holds");
    }
    if path.split('/').any(|part| part.is_empty() || part == ".") {
        return bad("the path has an empty part or '.'");
    }
    if path.chars().any(|letter| letter.is_control() || letter == '\\') {
        return bad("the path has a control character or a backslash");
    }
    Ok(path)
}

/// The folders above a path, nearest first.
pub(crate) fn parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(path.rsplit_once('/'), |(parent, _)| parent.rsplit_once('/')).map(|(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for fine in ["a", "a/b", ".hidden", "a..b", "...", "ä/ö"] {
            assert_eq!(check(fine.as_bytes()).unwrap(), fine);
        }
        for (bytes, expected) in [
            (&b"/a"[..], "AbsolutePath"),
            (b"..", "PathTraversal"),
            (b"a/../b", "PathTraversal"),
            (b"a\\..\\b", "PathTraversal"),
            (b"", "BadPath"),
            (b"a//b", "BadPath"),
            (b"a/", "BadPath"),
            (b"./a", "BadPath"),
            (b"a\nb", "BadPath"),
            (b"\xff", "BadPath"),
            (&[b'a'; 300], "BadPath"),
        ] {
            let error = format!("{:?}", check(bytes).unwrap_err());
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(parents("a/b/c").collect::<Vec<_>>(), ["a/b", "a"]);
    }
}
