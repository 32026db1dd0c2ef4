//! Jobs whose container ends before them: the forge has the verdict and the reason at once, as the last line of the log.

use std::time::Instant;

use controller::{
    cause::Cause,
    phase::Phase,
    status::{ActiveContainer, Status},
};
use gitea::GITEA_RUNNER;
use stage::{SERVICE, Stage, StageConfig, unit};

use crate::{ACME, ENDED_BY, MINUTE, REPO, config, finished, nothing_left, one_token, stage, workflow};

/// Reports each end of the class's units as one for memory: the machine's control groups may not count it, and what
/// follows from it is the same.
const OUT_OF_MEMORY: &str = "unit='/etc/systemd/system/gha-runner-hungry@.service'; \
    stop=$(sed -n 's/^ExecStopPost=//p' \"$unit\"); mkdir -p /run/systemd/system/gha-runner-hungry@.service.d; \
    printf '[Service]\\nExecStopPost=\\nExecStopPost=/usr/bin/env SERVICE_RESULT=oom-kill %s\\n' \"$stop\" \
    > /run/systemd/system/gha-runner-hungry@.service.d/memory.conf; systemctl daemon-reload";

/// The container of a class whose runner has said which job it took, which is what the forge is told at its end. That it
/// runs may be known before, from the forge.
fn running(stage: &Stage, class: &str) -> ActiveContainer {
    let runs = |it: &&ActiveContainer| it.class == class && it.phase == Phase::Running;
    let of = |status: &Status| status.active_containers.iter().find(runs).cloned();
    let container = of(&stage.wait_for("its container", MINUTE, |status| of(status).is_some()).unwrap()).unwrap();
    let (took, deadline) = (format!("{}: runner took job", container.name), Instant::now() + MINUTE);
    while !stage.lab.journal(SERVICE).unwrap().contains(&took) {
        assert!(Instant::now() < deadline, "{class}: its runner takes no job");
    }
    container
}

#[test]
fn a_job_whose_container_ends_before_it_has_its_verdict_and_the_reason_at_the_forge_at_once() {
    let mut config: StageConfig = config(&[ACME]);
    config.classes += "[class.brief]\ntemplate = \"act\"\nlabels = [\"brief:host\"]\ntimeout = \"10s\"\n\
                       [class.hungry]\ntemplate = \"act\"\nlabels = [\"hungry:host\"]\n\
                       [class.killed]\ntemplate = \"act\"\nlabels = [\"killed:host\"]\n\
                       [class.off]\ntemplate = \"act\"\nlabels = [\"off:host\"]\n";
    config.top += "max_concurrent = 8\n";
    let Some((stage, gitea)) = stage(config, one_token) else { return };
    stage.lab.shell(OUT_OF_MEMORY).unwrap();
    let cases = [
        ("brief", "exec sleep 100", Cause::TimedOut, "failure", "timed out"),
        ("hungry", "exec sleep 100", Cause::OutOfMemory, "failure", "out of memory"),
        ("killed", "exec sleep 100", Cause::StoppedByOperator, "cancelled", "somebody stopped it"),
        ("off", "sleep 3; sudo poweroff --force; sleep 100", Cause::Unknown, "failure", "unknown"),
    ];
    for (class, script, ..) in cases {
        gitea.write(REPO, &format!(".gitea/workflows/{class}.yml"), &workflow(class, &["echo begun", script])).unwrap();
    }
    let runs = cases.map(|(class, ..)| gitea.dispatch(REPO, &format!("{class}.yml")).unwrap());
    for (run, (class, ..)) in runs.into_iter().zip(cases) {
        gitea.wait_job(REPO, run, MINUTE, |job| job.steps.len() >= 2 || job.status == "completed").unwrap();
        if matches!(class, "hungry" | "killed") {
            let unit = unit(class, &running(&stage, class).name);
            stage.systemctl(&["kill", "--signal=KILL", "--kill-whom=main", &unit]).unwrap();
        }
    }
    let began = Instant::now();
    for (run, (class, _, cause, conclusion, words)) in runs.into_iter().zip(cases) {
        let done = gitea.wait_completed(REPO, run, 2 * MINUTE).unwrap();
        println!("{class} ended at the forge after {:.1?}", began.elapsed());
        assert!(began.elapsed() < ENDED_BY, "{class}: {:?}\n{}", began.elapsed(), stage.lab.journal(SERVICE).unwrap());
        assert_eq!(done.conclusion.as_deref(), Some(conclusion), "{class}");
        let ended = finished(&stage, done.id);
        assert_eq!(
            (ended.cause, ended.conclusion.as_deref()),
            (cause, Some(conclusion)),
            "{class}: {ended:#?}\n{}",
            stage.lab.journal(SERVICE).unwrap()
        );
        let log = gitea.log(REPO, done.id).unwrap();
        let last = log.lines().last().unwrap();
        assert!(last.contains("gha-runner-controller: ") && last.contains(words), "{class}: {log}");
        // The real runner sends lines some seconds later than its steps write them; what it has not sent is lost.
        assert!(log.contains("begun") || std::env::var_os(GITEA_RUNNER).is_some(), "{class}: {log}");
    }
    nothing_left(&stage, &gitea);
}
