//! Whether the runner in each template is still served by the forge.

use std::time::Duration;

use controller::runner_version::{Standing, WARN_DAYS, days_left, in_template, known, standing};
use forge::{Forge, ForgeError, RunnerDeprecation};
use settings::{ForgeKind, Settings};

use super::Finding;

/// One finding for each template and forge. `now` since the Unix epoch.
pub async fn versions(settings: &Settings, forge: &impl Forge, now: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Only GitHub ends serving runners for their version.
    for (name, template) in settings.templates.iter().filter(|(_, template)| template.kind == ForgeKind::Github) {
        let about = format!("template.{name}");
        let tree = in_template(template);
        let Some(version) = known(tree.as_deref(), template.runner_version.as_deref(), None) else {
            findings.push(Finding::warning(
                about,
                "the version of its runner cannot be read, so its end is not seen coming",
                format!("set template.{name}.runner_version, or let the controller learn it from the first container"),
            ));
            continue;
        };
        let asked = settings.one_target_of_each_forge();
        for (api_url, target) in &asked {
            let about = if asked.len() > 1 { format!("{about} at {api_url}") } else { about.clone() };
            findings.push(finding(about, version, forge.runner_deprecation(&target.name, version).await, now));
        }
    }
    findings
}

/// What a forge's answer about `version` means.
fn finding(
    about: String,
    version: &str,
    said: Result<Option<RunnerDeprecation>, ForgeError>,
    now: Duration,
) -> Finding {
    match said {
        Ok(None) => Finding::fine(about, format!("runner {version}; the forge does not tell how long it is served")),
        Ok(Some(deprecation)) => {
            let days = days_left(deprecation, now);
            let remedy = "put a newer runner into the template";
            match (standing(deprecation, None, now), days) {
                (Standing::Outdated, _) => {
                    Finding::error(about, format!("runner {version} is not served any more"), remedy)
                }
                (Standing::Ageing, Some(days)) => Finding::warning(
                    about,
                    format!("runner {version} is served for {days} days more, less than {WARN_DAYS}"),
                    remedy,
                ),
                (_, Some(days)) => Finding::fine(about, format!("runner {version}, served for {days} days more")),
                (_, None) => Finding::fine(about, format!("runner {version}, no end announced")),
            }
        }
        Err(error) => Finding::warning(
            about,
            format!("runner {version}; how long it is served cannot be asked: {error}"),
            "try again later",
        ),
    }
}
