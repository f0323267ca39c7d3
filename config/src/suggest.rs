//! What somebody probably meant who wrote a name that does not exist.

use crate::file::{KEYS, Key};

/// A hint for a section that does not exist. A key of a section that stands outside of it is the usual slip.
pub(crate) fn for_section(name: &str) -> String {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return format!("did you mean '{name}' in section [{}]?", key.section);
    }
    let mut sections: Vec<&str> = KEYS.iter().map(|key| key.section).collect();
    sections.dedup();
    hint(name, &sections, "sections are")
}

/// A hint for a key that does not exist in `section`.
pub(crate) fn for_key(section: &str, name: &str) -> String {
    let here: Vec<&str> = KEYS.iter().filter(|key| key.section == section).map(|key| key.name).collect();
    if closest(name, &here).is_none()
        && let Some(key) = KEYS.iter().find(|key| key.name == name)
    {
        return format!("did you mean '{name}' in section [{}]?", key.section);
    }
    hint(name, &here, &format!("keys of [{section}] are"))
}

/// A hint for an environment variable that stands for no key.
pub(crate) fn for_variable(name: &str) -> String {
    let all: Vec<String> = KEYS.iter().map(Key::variable).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    closest(name, &all).map_or_else(
        || "variables are named LONGSHORE_SECTION_KEY, such as LONGSHORE_NODE_NAME".to_owned(),
        |variable| format!("did you mean {variable}?"),
    )
}

fn hint(name: &str, candidates: &[&str], all: &str) -> String {
    closest(name, candidates)
        .map_or_else(|| format!("{all} {}", candidates.join(", ")), |found| format!("did you mean '{found}'?"))
}

/// The nearest candidate, if it is near enough to be meant: a third of its letters may differ.
fn closest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    candidates
        .iter()
        .map(|candidate| (distance(name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (number, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = number + 1;
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(for_key("node", "nmae"), "did you mean 'name'?");
        assert_eq!(for_key("node", "label"), "did you mean 'labels'?");
        assert_eq!(for_key("node", "discovery"), "did you mean 'discovery' in section [cluster]?");
        assert_eq!(for_section("nodes"), "did you mean 'node'?");
        assert_eq!(for_section("data_dir"), "did you mean 'data_dir' in section [node]?");
        assert!(for_key("control", "zzz").starts_with("keys of [control] are voters"));
        assert_eq!(for_variable("LONGSHORE_NODE_NAM"), "did you mean LONGSHORE_NODE_NAME?");
    }
}
