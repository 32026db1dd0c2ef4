//! Which of an owner's repositories a target serves. Pure.

use std::time::Duration;

use super::Repository;
use crate::config::Target;

/// Whether `target` serves `repository`, `now` since the Unix epoch.
pub fn serves(target: &Target, repository: &Repository, now: Duration) -> bool {
    let name = repository.name.rsplit('/').next().unwrap_or_default();
    let named = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, name));
    // A push nobody tells of cannot be too old.
    let stale = target
        .pushed_within
        .zip(repository.pushed_at)
        .is_some_and(|(within, pushed)| now.saturating_sub(pushed) > within);
    !repository.archived && !stale && (target.include.is_empty() || named(&target.include)) && !named(&target.exclude)
}

/// `*` stands for any characters, `?` for one; upper and lower case are the same, as they are to the forge.
fn matches(pattern: &str, name: &str) -> bool {
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
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::config::TargetKind;

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: Duration = Duration::from_secs(1_793_577_600);

    fn target(include: &[&str], exclude: &[&str]) -> Target {
        let own = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        Target {
            name: "acme".into(),
            kind: TargetKind::Organisation,
            credential: "main".into(),
            register_per_repository: false,
            runner_group: None,
            include: own(include),
            exclude: own(exclude),
            pushed_within: None,
            rediscover: DAY,
            classes: Vec::new(),
            priority: 0,
            weight: 1,
            max_concurrent: 1,
            allow_forks: false,
        }
    }

    fn repository(name: &str) -> Repository {
        Repository { name: format!("acme/{name}"), public: None, archived: false, pushed_at: None }
    }

    #[test]
    fn what_is_included_and_not_excluded_is_served() {
        for (include, exclude, name, served) in [
            (&[][..], &[][..], "web", true),
            (&["web-*"], &[], "web-shop", true),
            (&["web-*"], &[], "web", false),
            (&["WEB-*"], &[], "web-Shop", true),
            (&["a", "web"], &[], "web", true),
            (&["*"], &["*-old"], "web-old", false),
            (&["*"], &["*-old"], "web-older", true),
            (&["w?b"], &[], "web", true),
            (&["w?b"], &[], "wb", false),
            // A pattern is about the name, not about its owner.
            (&["acme*"], &[], "web", false),
        ] {
            assert_eq!(serves(&target(include, exclude), &repository(name), NOW), served, "{include:?} {name}");
        }
    }

    #[test]
    fn what_is_archived_or_was_not_pushed_to_for_long_is_not_served() {
        let recent = Target { pushed_within: Some(30 * DAY), ..target(&[], &[]) };
        let pushed = |ago: Duration| Repository { pushed_at: Some(NOW - ago), ..repository("web") };
        assert!(serves(&recent, &pushed(29 * DAY), NOW));
        assert!(!serves(&recent, &pushed(31 * DAY), NOW));
        assert!(serves(&recent, &repository("web"), NOW), "the forge did not tell");
        assert!(serves(&target(&[], &[]), &pushed(999 * DAY), NOW));
        assert!(!serves(&target(&[], &[]), &Repository { archived: true, ..repository("web") }, NOW));
    }

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
