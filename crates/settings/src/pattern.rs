//! Patterns of repository names. Pure.

/// `*` stands for any characters, `?` for one; upper and lower case are the same, as they are to the forge.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where to go on after the last star when what follows it does not fit: the star takes one more.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == b'?' || c.eq_ignore_ascii_case(&name[n]) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((after, taken)) = star else { return false };
                star = Some((after, taken + 1));
                p = after;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pattern_matches_as_it_does_when_every_way_is_tried(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            fn every_way(pattern: &[u8], name: &[u8]) -> bool {
                match (pattern.split_first(), name.split_first()) {
                    (None, None) => true,
                    (Some((b'*', rest)), _) => {
                        every_way(rest, name) || name.split_first().is_some_and(|(_, left)| every_way(pattern, left))
                    }
                    (Some((c, rest)), Some((first, left))) => (*c == b'?' || c == first) && every_way(rest, left),
                    _ => false,
                }
            }
            prop_assert_eq!(matches(&pattern, &name), every_way(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
