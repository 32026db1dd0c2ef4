//! `check`: tries everything that serving jobs needs.

use std::{path::Path, process::ExitCode};

use controller::{clock::RealClock, ports::Clock};
use serde::Serialize;
use settings::{PRIVILEGED_COST, Problems, Settings};
use utoipa::ToSchema;

use super::{ConfigFile, REFUSED, block_on, conclude, document};
use crate::{
    check::{Finding, Severity, capacity, elsewhere, forge, gpu, host, labels, reach, runner, selection, worst},
    open_forge::open_forge,
    units,
};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Look at the configuration alone: ask no forge and open no file it names.
    #[arg(long = "static")]
    is_static: bool,
    /// Look at graphics processors alone: all that containers of a class with `gpu` get, and whether its device nodes
    /// open as they do for a job. Needs root.
    #[arg(long, conflicts_with = "is_static")]
    gpu: bool,
    /// Print one document for programs.
    #[arg(long)]
    json: bool,
}

/// What `check --json` prints.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Checked {
    /// The worst of the findings.
    outcome: Severity,
    /// All that was looked at.
    findings: Vec<Finding>,
}

/// Exit status 0 = nothing stands against it (warnings may), 1 = something does, 2 = the configuration is refused.
pub(super) fn main(args: Args) -> ExitCode {
    let settings = match args.config.load() {
        Ok(settings) => settings,
        Err(problems) => {
            return conclude(print(refused(&problems), args.json).map(|_| ExitCode::from(REFUSED)));
        }
    };
    conclude(
        looked_at(&settings, &args)
            .and_then(|findings| print(findings, args.json))
            .map(|outcome| if outcome == Severity::Error { ExitCode::FAILURE } else { ExitCode::SUCCESS }),
    )
}

fn looked_at(settings: &Settings, args: &Args) -> anyhow::Result<Vec<Finding>> {
    match args.gpu {
        true => Ok(gpu::of_classes(Path::new("/"), settings, gpu::open_as_a_job)),
        false => findings(settings, args.is_static),
    }
}

/// What is found.
pub(super) fn findings(settings: &Settings, is_static: bool) -> anyhow::Result<Vec<Finding>> {
    let mut findings = vec![Finding::fine("configuration", "every key is known and every value is sound")];
    findings.extend(labels::clashes(settings));
    findings.extend(elsewhere::surprises(settings));
    findings.extend(selection::left_out(settings));
    for class in settings.classes.values().filter(|class| class.privileged) {
        let remedy = "give the class a user namespace (privileged = false) unless it needs none by its nature";
        findings.push(Finding::warning(format!("class.{}.privileged", class.name), PRIVILEGED_COST, remedy));
    }
    if is_static {
        return Ok(findings);
    }
    match units::check_host(settings) {
        Ok(()) => findings.push(Finding::fine("host", "credentials can be read and templates are there")),
        Err(problems) => findings.extend(refused(&problems)),
    }
    findings.extend(capacity::of_classes(capacity::Host::here(), settings));
    findings.extend(host::limits(Path::new("/"), settings));
    findings.extend(reach::proxy(settings, reach::connects));
    findings.extend(reach::services(settings, reach::connects));
    findings.extend(reach::unused_proxy(settings, |name| std::env::var(name).ok()));
    findings.extend(reach::forge(settings, reach::look_up));
    findings.extend(reach::resolvers(settings, reach::answers));
    block_on(async {
        let usable = usable(settings, &mut findings);
        if usable.targets.is_empty() {
            return Ok(());
        }
        let github = open_forge(&usable)?;
        for target in &usable.targets {
            findings.extend(github.probe(&target.name).await.into_iter().map(forge::told));
            if settings.retry.per_job > 0 {
                findings.extend(github.probe_rerun(&target.name).await.map(forge::told));
            }
        }
        findings.extend(runner::versions(&usable, &github, RealClock::start().wall().since_epoch()).await);
        anyhow::Ok(())
    })?;
    Ok(findings)
}

/// The settings without what no credential opens: that is found, and what the others open is tried all the same.
fn usable(settings: &Settings, findings: &mut Vec<Finding>) -> Settings {
    let mut usable = settings.clone();
    for name in settings.credentials.keys() {
        let mut alone = settings.clone();
        alone.credentials.retain(|other, _| other == name);
        alone.targets.retain(|target| target.credential == *name);
        let Err(error) = open_forge(&alone) else { continue };
        let told = match error.downcast_ref::<Problems>() {
            Some(problems) => refused(problems),
            None => vec![Finding::error(format!("credential.{name}"), format!("{error:#}"), "")],
        };
        // The look at the host may have found it before.
        findings.extend(told.into_iter().filter(|finding| !findings.contains(finding)).collect::<Vec<_>>());
        usable.credentials.remove(name);
        usable.targets.retain(|target| target.credential != *name);
    }
    usable
}

fn refused(problems: &Problems) -> Vec<Finding> {
    problems.0.iter().map(|problem| Finding::error(&problem.key, &problem.problem, &problem.remedy)).collect()
}

/// Prints them, and gives the worst.
fn print(findings: Vec<Finding>, json: bool) -> anyhow::Result<Severity> {
    let outcome = worst(&findings);
    if json {
        document::print(&Checked { outcome, findings })?;
    } else {
        for finding in findings {
            println!("{finding}");
        }
    }
    Ok(outcome)
}
