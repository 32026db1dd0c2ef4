//! Repositories that are left out, and get a runner all the same.

use settings::Settings;

use super::Finding;

/// Targets whose runners are those of a whole organisation or enterprise although not all its repositories are served.
///
/// The forge gives a queued job to any runner there that its repository may use, and a scale set is assigned the jobs of
/// all of them. An assigned job goes to nobody else, so that refusing it would leave it queued until it dies: who may
/// use the runners is for a runner group to say.
pub fn left_out(settings: &Settings) -> Vec<Finding> {
    let selects = |target: &&settings::Target| {
        !target.include.is_empty() || !target.exclude.is_empty() || target.pushed_within.is_some()
    };
    let shared = settings.targets.iter().filter(|target| !target.registers_with_repositories());
    shared
        .filter(selects)
        .filter(|target| target.runner_group.is_none())
        .map(|target| {
            Finding::warning(
                &target.name,
                "not all its repositories are served, and yet its runners are there for all: what is left out is not \
                 looked for, but its jobs with the same labels get these runners",
                "name a runner_group that only the repositories served may use, or set register = \"repository\"",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use settings::check::check;

    fn said(target: &str) -> Vec<String> {
        let text = format!("token_file = \"/run/token\"\n[[target]]\n{target}\n[class.a]\nlabels = [\"x\"]\n");
        left_out(&check(toml::from_str(&text).unwrap()).unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn leaving_repositories_of_an_organisation_out_does_not_keep_them_from_its_runners() {
        for choice in ["exclude = [\"x\"]", "include = [\"y*\"]", "pushed_within = \"30d\""] {
            let said = said(&format!("org = \"acme\"\n{choice}"));
            assert!(said.len() == 1 && said[0].contains("acme: not all its repositories are served"), "{said:?}");
        }
    }

    #[test]
    fn where_the_forge_keeps_them_apart_nothing_is_said() {
        for target in [
            "org = \"acme\"",
            "org = \"acme\"\nexclude = [\"x\"]\nrunner_group = \"ours\"",
            "org = \"acme\"\nexclude = [\"x\"]\nregister = \"repository\"",
            "user = \"octo\"\nexclude = [\"x\"]",
        ] {
            assert_eq!(said(target), [""; 0], "{target}");
        }
    }
}
