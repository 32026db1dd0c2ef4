//! What a configuration for another forge than GitHub may get wrong.

use std::{collections::BTreeSet, time::Duration};

use settings::{Class, ForgeKind, Settings};

use super::Finding;

/// How long the servers let a job run unless they are configured otherwise (`ENDLESS_TASK_TIMEOUT`).
const LONGEST_JOB: Duration = Duration::from_secs(3 * 3600);

/// Labels that differ by case alone, where case counts, and jobs that the forge ends before the class does.
pub fn surprises(settings: &Settings) -> Vec<Finding> {
    let own: Vec<&Class> = settings.classes.values().filter(|class| class.forge != ForgeKind::Github).collect();
    let labels: BTreeSet<&String> = own.iter().flat_map(|class| &class.labels).collect();
    let mut findings = Vec::new();
    for one in &labels {
        let same = |other: &&&String| one < *other && one.to_lowercase() == other.to_lowercase();
        findings.extend(labels.iter().filter(same).map(|other| {
            Finding::warning(
                "labels",
                format!("{one:?} and {other:?} differ by case alone, and case counts: a job finds one of them"),
                "write one of them everywhere",
            )
        }));
    }
    // What a class does not say itself is nobody's wish, and harmless: the server ends the job first.
    let wished = |class: &&&Class| class.timeout > LONGEST_JOB && class.timeout != settings.job_timeout;
    for class in own.iter().filter(wished) {
        findings.push(Finding::warning(
            format!("class.{}.timeout", class.name),
            format!("{} ends every job after three hours by itself, unless it is told otherwise", class.forge.name()),
            "raise ENDLESS_TASK_TIMEOUT of the server, or shorten the timeout",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use settings::check::check;

    #[test]
    fn case_and_long_jobs_are_told_where_they_matter() {
        let said = |kind: &str| {
            let url = if kind == "github" { "" } else { "url = \"https://git.lan\"\n" };
            let text = format!(
                "[credential.own]\nkind = \"{kind}\"\n{url}token_file = \"/t\"\n[[target]]\norg = \"acme\"\n\
                 [class.a]\nlabels = [\"nix\"]\ntimeout = \"4h\"\n[class.b]\nlabels = [\"Nix\", \"big\"]\n\
                 [template.default]\nkind = \"{kind}\"\n"
            );
            surprises(&check(toml::from_str(&text).unwrap()).unwrap())
        };
        let told: Vec<String> = said("gitea").iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("\"Nix\" and \"nix\" differ by case"), "{told:?}");
        assert!(told[1].contains("class.a.timeout: Gitea ends every job"), "{told:?}");
        assert_eq!(said("github"), []);
    }
}
