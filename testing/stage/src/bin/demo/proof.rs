//! The proof that nothing is left, item by item.

use contract::HANDOVER_DIR;
use github_sim::world::JobView;
use lab::{Inventory, Kind};
use stage::{SERVICE, Stage};

use crate::cast::{Fate, Part};

/// Prints a line an item. Returns how many are not clean.
pub fn show(stage: &Stage, parts: &[Part], jobs: &[JobView]) -> anyhow::Result<usize> {
    let left = stage.left_over()?;
    let runners: Vec<String> = stage.hub.runners()?.into_iter().map(|runner| runner.name).collect();
    let touched: Vec<String> = parts
        .iter()
        .filter(|part| part.fate == Fate::Untouched)
        .filter(|part| !jobs.iter().any(|job| job.id == part.id && part.fate.is_met(job)))
        .map(|part| part.name.to_owned())
        .collect();
    let active = stage.lab.shell(&format!("systemctl is-active {SERVICE} || true"))?;
    let troubled = if active == "active" { Vec::new() } else { vec![format!("{SERVICE} is {active}")] };
    let items = [
        ("units", of(&left, Kind::Unit)),
        ("machines (machined)", of(&left, Kind::Machine)),
        ("mounts", of(&left, Kind::Mount)),
        ("network namespaces", of(&left, Kind::Namespace)),
        ("network links", of(&left, Kind::Link)),
        ("firewall tables", of(&left, Kind::Table)),
        ("control groups", of(&left, Kind::Cgroup)),
        ("processes", of(&left, Kind::Process)),
        ("hand-overs and grants", paths(&left, true)),
        ("files and directories", paths(&left, false)),
        ("registrations at the forge", runners),
        ("the job that is not ours, untouched", touched),
        ("the controller, still running", troubled),
    ];
    let mut unclean = 0;
    for (what, found) in items {
        if found.is_empty() {
            println!("  ok    {what}");
        } else {
            unclean += 1;
            println!("  LEFT  {what}: {}", found.join(", "));
        }
    }
    Ok(unclean)
}

fn of(left: &Inventory, kind: Kind) -> Vec<String> {
    left.of(kind).map(str::to_owned).collect()
}

fn paths(left: &Inventory, handed_over: bool) -> Vec<String> {
    let is_handover = |path: &&str| path.starts_with(HANDOVER_DIR);
    left.of(Kind::Path).filter(|path| is_handover(path) == handed_over).map(str::to_owned).collect()
}
