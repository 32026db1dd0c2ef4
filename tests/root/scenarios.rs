//! The scenarios that nix/tests plays on NixOS hold in the lab.
#![allow(clippy::unwrap_used, missing_docs)]

use stage::{Stage, StageConfig, TOKEN, scenario::Scenario};

#[test]
fn a_job_its_secrets_and_its_fence_are_as_on_a_nixos_host() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    let play = Scenario { hub: &stage.hub, host: &stage.lab };
    play.job().unwrap();
    play.secrets(TOKEN).unwrap();
    play.fence().unwrap();
    play.undisturbed(&play.usual(), |_| stage.systemctl(&["restart", stage::SERVICE])).unwrap();
    play.nothing_left().unwrap();
}

#[test]
fn what_the_host_does_after_it_lost_power_is_as_on_a_nixos_host() {
    let losing = StageConfig { simulator: vec!["--hurry".into(), "300".into()], ..StageConfig::default() };
    let Some(mut stage) = Stage::boot(&losing).unwrap() else { return };
    Scenario { hub: &stage.hub, host: &stage.lab }.endless().unwrap();
    stage.lab.pull_the_plug().unwrap();
    stage.lab.start_host().unwrap();
    stage.systemctl(&["start", stage::SERVICE]).unwrap();
    Scenario { hub: &stage.hub, host: &stage.lab }.afterwards().unwrap();
}
