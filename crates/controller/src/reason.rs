//! Why a job is not running: one answer, in one wording, for the command line, the API and whoever shows either. Pure.

use contract::Labels;

use super::status::{
    BreakerKind, BreakerState, BreakerStatus, ClassStatus, QueuedJob, ScopeStatus, Status, WaitingFor,
};

/// Gives every queued job its reason, and says how many come before it.
pub fn explain(status: &mut Status) {
    let places = |waiting| matches!(waiting, WaitingFor::Capacity | WaitingFor::Share | WaitingFor::TargetLimit);
    let key = |job: &QueuedJob| (job.visible_ms, job.job_id);
    let answers: Vec<(usize, String)> = status
        .queue
        .iter()
        .map(|job| {
            let rivals = status.queue.iter().filter(|other| places(job.waiting) && places(other.waiting));
            let ahead = rivals.filter(|other| key(other) < key(job)).count();
            (ahead, reason(job, ahead, status))
        })
        .collect();
    for (job, (ahead, reason)) in status.queue.iter_mut().zip(answers) {
        job.ahead = ahead;
        job.reason = reason;
    }
}

fn reason(job: &QueuedJob, ahead: usize, status: &Status) -> String {
    let class = job.class.as_ref().and_then(|name| status.classes.iter().find(|class| class.name == *name));
    let name = job.class.as_deref().unwrap_or("?");
    let before = match ahead {
        0 => "it is next".to_owned(),
        1 => "1 job is ahead of it".to_owned(),
        many => format!("{many} jobs are ahead of it"),
    };
    match job.waiting {
        WaitingFor::NoMatchingClass => no_class(&job.labels, &status.classes),
        WaitingFor::Runner => "a container is coming or idle for it".to_owned(),
        WaitingFor::Capacity => match class.filter(|class| class.active >= class.max_concurrent) {
            Some(class) => {
                format!("class {name} has {} of {} containers; {before}", class.active, class.max_concurrent)
            }
            None => {
                format!(
                    "the host has {} of {} containers; {before}",
                    status.active_containers.len(),
                    status.max_concurrent
                )
            }
        },
        WaitingFor::Share => format!("the host is full and its target has its share; {before}"),
        WaitingFor::TargetLimit => {
            let target = target_of(job, status);
            let limit = status.targets.iter().find(|known| Some(known.repo.as_str()) == target);
            match limit {
                Some(limit) => {
                    format!(
                        "target {} has {} of {} containers; {before}",
                        limit.repo, limit.active, limit.max_concurrent
                    )
                }
                None => format!("its target has as many containers as it may; {before}"),
            }
        }
        WaitingFor::BackOff => back_off(job, status),
        WaitingFor::RunnerVersion => {
            let version = class.and_then(|class| class.runner_version.as_deref()).unwrap_or("of unknown version");
            format!("the forge refuses the runner of class {name} ({version}): update its template")
        }
        WaitingFor::Refused => {
            let why = job.refusal.as_deref().unwrap_or("it may come from a fork");
            format!("it is refused: {why}")
        }
        WaitingFor::RunnerGroup => {
            job.refusal.clone().unwrap_or_else(|| "its runner group gives it to no runner here".to_owned())
        }
        WaitingFor::Quarantine => {
            let known = status.repositories.iter().find(|known| known.repo == job.repo);
            let why = known.and_then(|known| known.quarantine.as_deref()).unwrap_or("see the journal");
            format!("its repository cannot be served: {why}")
        }
        WaitingFor::Assignment => {
            format!("the forge has not assigned it to the scale set of class {name}, which serves it")
        }
        WaitingFor::Intake => "the controller is stopping; the next one takes it".to_owned(),
        WaitingFor::Drained if status.drained => "the host is drained: resume it to run the job".to_owned(),
        WaitingFor::Drained => format!("class {name} is drained: resume it to run the job"),
        WaitingFor::Host => match status.strains.first() {
            Some(strain) => strain.to_string(),
            None => "the host is short of disk or under pressure".to_owned(),
        },
        WaitingFor::Approval => {
            "the forge holds it back: it waits for an approval there, or for its concurrency group".to_owned()
        }
    }
}

/// Which of its labels nobody has; or, if each has somebody, who has most of them.
fn no_class(labels: &[String], classes: &[ClassStatus]) -> String {
    if labels.is_empty() {
        return "it names no labels, and the forge does not say which runner group it waits for. Remedy: write labels \
                beside the group: runs-on: {group: NAME, labels: [self-hosted]}"
            .to_owned();
    }
    let lacks = |class: &ClassStatus| -> Vec<&str> {
        let own = Labels::of(&class.labels, class.labels_have_case);
        labels.iter().filter(|label| !own.has(label)).map(String::as_str).collect()
    };
    let nowhere: Vec<&str> = labels
        .iter()
        .map(String::as_str)
        .filter(|label| classes.iter().all(|class| lacks(class).contains(label)))
        .collect();
    if let Some(told) = nowhere.iter().find_map(|label| in_other_letters(label, classes)) {
        return told;
    }
    match (nowhere.as_slice(), classes.iter().min_by_key(|class| lacks(class).len())) {
        ([], Some(nearest)) if lacks(nearest).is_empty() => {
            format!("class {} has its labels, and does not serve its target", nearest.name)
        }
        ([], Some(nearest)) => {
            format!("no class has all of its labels; class {} lacks {}", nearest.name, lacks(nearest).join(", "))
        }
        ([label], _) => format!("no class has label {label}"),
        (several, _) => format!("no class has labels {}", several.join(", ")),
    }
}

/// Somebody has this label in other letters, where case counts.
fn in_other_letters(label: &str, classes: &[ClassStatus]) -> Option<String> {
    classes.iter().filter(|class| class.labels_have_case).find_map(|class| {
        let own = class.labels.iter().find(|own| own.to_lowercase() == label.to_lowercase())?;
        let name = &class.name;
        Some(format!(
            "no class has label {label}; class {name} has {own}, and upper and lower case differ at this forge"
        ))
    })
}

/// What it waits for failed, and is left alone for a while.
fn back_off(job: &QueuedJob, status: &Status) -> String {
    let target = target_of(job, status);
    let concerns = |breaker: &&BreakerStatus| match breaker.kind {
        BreakerKind::Class => job.class.as_ref() == Some(&breaker.name),
        BreakerKind::Target => {
            let is_ours = |scope: &ScopeStatus| scope.name == breaker.name && Some(scope.target.as_str()) == target;
            breaker.name == job.repo || status.scopes.iter().any(is_ours)
        }
        BreakerKind::Credential => {
            status.targets.iter().any(|known| Some(known.repo.as_str()) == target && known.credential == breaker.name)
        }
    };
    let holds = |breaker: &&BreakerStatus| breaker.next_try_ms.is_some() || breaker.state == BreakerState::HalfOpen;
    let Some(BreakerStatus { kind, name, state, failures, cause, next_try_ms }) =
        status.breakers.iter().filter(concerns).filter(holds).max_by_key(|breaker| breaker.next_try_ms)
    else {
        return "it is tried again in a moment, after failures".to_owned();
    };
    let next = match next_try_ms.filter(|_| *state != BreakerState::HalfOpen) {
        Some(until) => format!("it is tried again {}", clock(until, status.updated_ms)),
        None => "one is tried now, and the others wait for it".to_owned(),
    };
    match kind {
        BreakerKind::Class => format!("class {name} failed to boot {failures} times in a row ({cause}); {next}"),
        BreakerKind::Target => format!("runners cannot be registered with {name} ({cause}); {next}"),
        BreakerKind::Credential => format!("the forge refuses credential {name} ({cause}); {next}"),
    }
}

fn target_of<'a>(job: &QueuedJob, status: &'a Status) -> Option<&'a str> {
    let repository = status.repositories.iter().find(|known| known.repo == job.repo);
    let named = status.targets.iter().find(|target| target.repo == job.repo);
    repository.map(|repository| repository.target.as_str()).or(named.map(|target| target.repo.as_str()))
}

/// A time of day, and how long until then.
fn clock(at_ms: u64, now_ms: u64) -> String {
    let of_day = at_ms / 1000 % 86_400;
    let left = at_ms.saturating_sub(now_ms).div_ceil(1000);
    format!("at {:02}:{:02}:{:02} UTC, in {left} s", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn class(name: &str, labels: &[&str]) -> ClassStatus {
        ClassStatus {
            labels_have_case: false,
            name: name.into(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            active: 0,
            max_concurrent: 2,
            boot_failures: 0,
            runner_version: Some("2.300.0".into()),
            runner_deprecated_in_days: None,
            outdated: false,
            privileged: false,
            held_until_ms: None,
            drained: false,
            cpus: None,
            memory: None,
            timeout_seconds: 3600,
        }
    }

    fn job(id: u64, waiting: WaitingFor, labels: &[&str]) -> QueuedJob {
        QueuedJob {
            repo: "o/r".into(),
            job_id: id,
            name: "build".into(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            class: Some("small".into()),
            waiting,
            reason: String::new(),
            ahead: 0,
            refusal: None,
            visible_ms: id,
            waiting_seconds: 0,
        }
    }

    fn told(mut status: Status) -> Vec<String> {
        explain(&mut status);
        status.queue.into_iter().map(|job| job.reason).collect()
    }

    #[test]
    fn a_label_that_differs_by_case_alone_is_explained_where_case_counts() {
        let told = |labels_have_case| {
            let classes = vec![ClassStatus { labels_have_case, ..class("small", &["Nix"]) }];
            let queue = vec![job(1, WaitingFor::NoMatchingClass, &["nix"])];
            told(Status { classes, queue, ..Status::default() }).remove(0)
        };
        assert!(told(true).contains("no class has label nix; class small has Nix"), "{}", told(true));
        assert!(!told(false).contains("differ"));
    }

    #[test]
    fn the_label_that_nobody_has_is_named() {
        let status = Status {
            classes: vec![class("small", &["self-hosted", "linux"]), class("gpu", &["gpu"])],
            queue: vec![
                job(1, WaitingFor::NoMatchingClass, &["Linux", "windows"]),
                job(2, WaitingFor::NoMatchingClass, &["linux", "gpu", "self-hosted"]),
                job(3, WaitingFor::NoMatchingClass, &["linux"]),
                job(4, WaitingFor::NoMatchingClass, &[]),
            ],
            ..Status::default()
        };
        assert_eq!(
            told(status),
            [
                "no class has label windows",
                "no class has all of its labels; class small lacks gpu",
                "class small has its labels, and does not serve its target",
                "it names no labels, and the forge does not say which runner group it waits for. Remedy: write labels \
                 beside the group: runs-on: {group: NAME, labels: [self-hosted]}",
            ]
        );
    }

    #[test]
    fn at_capacity_the_place_in_the_queue_is_told() {
        let full = ClassStatus { active: 2, ..class("small", &["linux"]) };
        let queue = [3, 1, 2].map(|id| job(id, WaitingFor::Capacity, &["linux"]));
        let status = Status { classes: vec![full], queue: queue.to_vec(), ..Status::default() };
        assert_eq!(
            told(status),
            [
                "class small has 2 of 2 containers; 2 jobs are ahead of it",
                "class small has 2 of 2 containers; it is next",
                "class small has 2 of 2 containers; 1 job is ahead of it",
            ]
        );
        let queue = vec![job(1, WaitingFor::Capacity, &["linux"])];
        let host = Status { classes: vec![class("small", &["linux"])], queue, max_concurrent: 7, ..Status::default() };
        assert_eq!(told(host), ["the host has 0 of 7 containers; it is next"]);
    }

    #[test]
    fn a_pause_after_failures_names_who_failed_and_how_and_its_end() {
        let told = |kind, name: &str, state| {
            let breaker = BreakerStatus {
                kind,
                name: name.into(),
                state,
                failures: 3,
                cause: "broken".into(),
                next_try_ms: Some(3_661_000).filter(|_| state != BreakerState::HalfOpen),
            };
            let other = BreakerStatus { name: "other".into(), next_try_ms: Some(u64::MAX), ..breaker.clone() };
            let queue = vec![job(1, WaitingFor::BackOff, &["linux"])];
            told(Status { breakers: vec![breaker, other], queue, updated_ms: 3_651_500, ..Status::default() }).remove(0)
        };
        let next = "it is tried again at 01:01:01 UTC, in 10 s";
        assert_eq!(
            told(BreakerKind::Class, "small", BreakerState::Closed),
            format!("class small failed to boot 3 times in a row (broken); {next}")
        );
        assert_eq!(
            told(BreakerKind::Target, "o/r", BreakerState::Open),
            format!("runners cannot be registered with o/r (broken); {next}")
        );
        assert!(
            told(BreakerKind::Target, "o/r", BreakerState::HalfOpen)
                .ends_with("; one is tried now, and the others wait for it")
        );
    }

    #[test]
    fn every_reason_there_is_has_words() {
        for waiting in [
            WaitingFor::NoMatchingClass,
            WaitingFor::Runner,
            WaitingFor::Capacity,
            WaitingFor::Share,
            WaitingFor::TargetLimit,
            WaitingFor::BackOff,
            WaitingFor::RunnerVersion,
            WaitingFor::Refused,
            WaitingFor::RunnerGroup,
            WaitingFor::Quarantine,
            WaitingFor::Assignment,
            WaitingFor::Intake,
            WaitingFor::Drained,
            WaitingFor::Host,
            WaitingFor::Approval,
        ] {
            let answer = told(Status { queue: vec![job(1, waiting, &["linux"])], ..Status::default() });
            assert!(answer[0].len() > 10, "{waiting:?}: {answer:?}");
        }
    }
}
