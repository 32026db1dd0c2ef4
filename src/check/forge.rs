//! What a credential reaches at the forge, told as findings.

use forge::{Finding as Probed, Reach};

use super::Finding;

/// One tried reach as a finding. The forge's errors carry their remedy.
pub fn told(probed: Probed) -> Finding {
    let what = match probed.reach {
        Reach::Version => "its version has all that is needed",
        Reach::Repositories => "its repositories can be listed",
        Reach::Runs => "runs and jobs can be read",
        Reach::Runners => "registered runners can be listed",
        Reach::Register => "runners can be registered",
        Reach::Rerun => "jobs can be run again",
        Reach::Group => "its runner group is there",
        Reach::PublicRepositories => "its runner group serves every repository of the target",
    };
    match probed.problem {
        None => Finding::fine(probed.place, what),
        Some(error) => Finding::error(probed.place, format!("not so: {what}. {error}"), ""),
    }
}
