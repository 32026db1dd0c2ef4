//! Every probe from inside a real container, from a privileged one, and from one without any fence.
//!
//! A probe that cannot succeed would prove nothing: without a fence each must. What no container can do, however open,
//! is tried as a service of the host.
#![allow(clippy::unwrap_used, missing_docs)]

mod house;

use std::collections::BTreeMap;

use breakout::{Found, Outcome, probes, targets};
use house::House;
use lab::Place;

const FENCED: &str = "j0000002";
const PRIVILEGED: &str = "j0000003";
const REMEDY: &str = "BREAKOUT_UPDATE=1 make breakout";
const TABLE_BEGINS: &str = "<!-- written by `make breakout` -->\n";
const TABLE_ENDS: &str = "<!-- until here -->\n";

#[test]
fn nothing_that_a_job_tries_reaches_the_host_or_its_neighbours() {
    let Some(house) = House::open() else { return };
    let mut fenced = house.try_in("medium", FENCED, 1);
    house.assert_unharmed("after the fenced container");
    let mut privileged = house.try_in("root", PRIVILEGED, 2);
    house.assert_unharmed("after the privileged container");
    let unfenced = house.try_in_unfenced_container();
    let names: Vec<&str> = probes::all().iter().map(|probe| probe.name).collect();
    for found in [&fenced, &privileged, &unfenced] {
        assert_eq!(found.len(), names.len(), "the probes did not run to their end: {found:#?}");
    }
    let barred: Vec<&str> =
        names.iter().copied().filter(|name| unfenced[*name].outcome != Outcome::Succeeded).collect();
    let service = house.try_as_a_service(&barred);
    // What the machine itself cannot do proves nothing here.
    for (name, found) in service.iter().filter(|(_, found)| found.outcome == Outcome::Skipped) {
        fenced.insert(name.clone(), found.clone());
        privileged.insert(name.clone(), found.clone());
    }

    for probe in probes::all() {
        println!("{}: {}", probe.name, probe.tried);
        let columns =
            [("fenced", &fenced), ("privileged", &privileged), ("no fence", &unfenced), ("service", &service)];
        for (who, found) in columns {
            if let Some(Found { outcome, seen }) = found.get(probe.name) {
                println!("    {who}: {}: {seen}", word(outcome));
            }
        }
        if fenced[probe.name].outcome == Outcome::Skipped {
            println!("skipped: {}: {}", probe.name, fenced[probe.name].seen);
        }
    }
    let escaped: Vec<&str> = names.iter().copied().filter(|name| fenced[*name].outcome == Outcome::Succeeded).collect();
    assert_eq!(escaped, Vec::<&str>::new(), "these got out");
    let idle: Vec<&str> = barred
        .iter()
        .copied()
        .filter(|name| !matches!(service[*name].outcome, Outcome::Skipped | Outcome::Succeeded))
        .collect();
    assert_eq!(idle, Vec::<&str>::new(), "these prove nothing: they fail without a fence, too");
    let proved = names.iter().filter(|name| fenced[**name].outcome == Outcome::Refused).count();
    println!("{proved} probes refused; {} of all succeed in the unfenced container", names.len() - barred.len());
    assert!(proved >= 40);
    house.assert_unharmed("in the end");
    compare_documentation(&fenced, &privileged, &unfenced, &service);
}

/// What was found, by probe.
type Report = BTreeMap<String, Found>;

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Refused => "refused",
        Outcome::Succeeded => "succeeds",
        Outcome::Skipped => "not tried here",
        Outcome::Witness(_) => "unknown",
    }
}

/// The table in docs/security.md is what was found, or is made so when BREAKOUT_UPDATE is set.
fn compare_documentation(fenced: &Report, privileged: &Report, unfenced: &Report, service: &Report) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut table =
        String::from("| probe | what is tried | container | privileged | succeeds |\n|---|---|---|---|---|\n");
    for probe in probes::all() {
        let show = |found: &Report| match word(&found[probe.name].outcome) {
            "succeeds" => "**succeeds**",
            other => other,
        };
        let succeeds = match (&unfenced[probe.name].outcome, service.get(probe.name).map(|found| &found.outcome)) {
            (Outcome::Succeeded, _) => "unfenced",
            (_, Some(Outcome::Succeeded)) => "on the host",
            _ => word(&Outcome::Skipped),
        };
        let (fenced, privileged) = (show(fenced), show(privileged));
        table += &format!("| {} | {} | {fenced} | {privileged} | {succeeds} |\n", probe.name, probe.tried);
    }
    let (before, rest) = text.split_once(TABLE_BEGINS).expect("docs/security.md has a place for the table");
    let (documented, after) = rest.split_once(TABLE_ENDS).expect("and an end of it");
    if std::env::var_os("BREAKOUT_UPDATE").is_some_and(|value| !value.is_empty()) {
        std::fs::write(path, format!("{before}{TABLE_BEGINS}{table}{TABLE_ENDS}{after}")).unwrap();
        return;
    }
    // Not every machine can try everything.
    let tried = |line: &&str| !line.contains(word(&Outcome::Skipped));
    let name = |line: &str| line.split(" | ").next().map(str::to_owned);
    let documented: BTreeMap<_, &str> = documented.lines().map(|line| (name(line), line)).collect();
    assert_eq!(documented.len(), table.lines().count(), "docs/security.md names other probes; {REMEDY}");
    // Where a probe succeeded is proof enough, whichever of the two it was.
    let promised = |line: &str| line.rsplit_once(" | ").map(|(promised, _)| promised.to_owned());
    for line in table.lines().filter(tried) {
        let known = documented.get(&name(line)).copied().unwrap_or_default();
        // Newer systemds keep more from a privileged container.
        let less = known.replace("**succeeds**", "refused");
        let same = [known, &less].iter().any(|known| promised(known) == promised(line));
        assert!(same || !tried(&known), "docs/security.md says {known}, found was {line}; {REMEDY}");
        if same && known != line {
            println!("docs/security.md says {known}, found was {line}");
        }
    }
}

#[test]
fn every_stand_in_lies_inside_the_lab() {
    for &place in Place::ALL {
        let address = targets::address(place);
        assert!(!address.is_global_unicast_of_somebody(), "{address}");
    }
}

/// Addresses that belong to nobody: private, link-local, or for documentation.
trait Nobodys {
    fn is_global_unicast_of_somebody(&self) -> bool;
}

impl Nobodys for std::net::Ipv4Addr {
    fn is_global_unicast_of_somebody(&self) -> bool {
        !(self.is_private() || self.is_link_local() || self.is_documentation())
    }
}
