//! Finding ghosts by hand: registrations of this host that no container claims.

use std::collections::BTreeSet;

use forge::{Forge, ForgeError, Runner, selection::serves};
use settings::{Settings, Target};

use super::{ports::PortError, record::Record, runner_name::ghosts, time::Wall};

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Ghosts, each with the scope it is registered with.
    pub ghosts: Vec<(String, Runner)>,
    /// Scopes looked through.
    pub scopes: usize,
    /// What could not be looked at.
    pub errors: Vec<ForgeError>,
}

/// Looks through every scope of every target. `records` are read after a scope was listed: a registration is only
/// made once its record is written, so that one made meanwhile is claimed.
pub async fn find(
    forge: &impl Forge,
    settings: &Settings,
    host: &str,
    records: impl Fn() -> Result<Vec<Record>, PortError>,
    now: Wall,
) -> Result<Found, PortError> {
    let mut found = Found::default();
    let mut seen = BTreeSet::new();
    for target in &settings.targets {
        let scopes = match scopes(forge, target, now).await {
            Ok(scopes) => scopes,
            Err(error) => {
                found.errors.push(error);
                continue;
            }
        };
        for scope in scopes.into_iter().filter(|scope| seen.insert(scope.to_ascii_lowercase())) {
            found.scopes += 1;
            match forge.list_runners(&scope).await {
                Ok(runners) => {
                    let records = records()?;
                    let claimed = records.iter().map(|record| record.runner_name.as_str()).collect();
                    found
                        .ghosts
                        .extend(ghosts(runners, host, &claimed).into_iter().map(|ghost| (scope.clone(), ghost)));
                }
                Err(error) => found.errors.push(error),
            }
        }
    }
    Ok(found)
}

/// Where the runners of a target are registered now.
async fn scopes(forge: &impl Forge, target: &Target, now: Wall) -> Result<Vec<String>, ForgeError> {
    if !target.registers_with_repositories() || target.name.contains('/') {
        return Ok(vec![target.name.clone()]);
    }
    let listed = forge.discover(&target.name).await?;
    Ok(listed
        .into_iter()
        .filter(|repository| serves(target, repository, now.since_epoch()))
        .map(|found| found.name)
        .collect())
}
