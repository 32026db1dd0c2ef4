//! Which of an owner's repositories a target serves. Pure.

use std::time::Duration;

use settings::Target;

use super::Repository;

/// Whether `target` serves `repository`, `now` since the Unix epoch.
pub fn serves(target: &Target, repository: &Repository, now: Duration) -> bool {
    let name = repository.name.rsplit('/').next().unwrap_or_default();
    // A push nobody tells of cannot be too old.
    let stale = target
        .pushed_within
        .zip(repository.pushed_at)
        .is_some_and(|(within, pushed)| now.saturating_sub(pushed) > within);
    !repository.archived && !stale && target.selects(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use settings::{ForgeKind, TargetKind};

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: Duration = Duration::from_secs(1_793_577_600);

    fn target(include: &[&str], exclude: &[&str]) -> Target {
        let own = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        Target {
            name: "acme".into(),
            kind: TargetKind::Organisation,
            forge: ForgeKind::Github,
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
}
