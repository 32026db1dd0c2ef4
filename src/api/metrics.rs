//! `GET /metrics`: the status as numbers, in the OpenMetrics text format.

use std::path::Path;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{Sources, health};
use crate::{
    controller::{
        phase::Phase,
        status::{ClassStatus, CredentialStatus, PausedBy, Status, TargetStatus},
    },
    webhook::Counts,
};

/// The media type of what [`render`] gives.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What every name begins with.
const PREFIX: &str = "gha_runner";

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge>;

/// The text, as of `now_ms`: made anew from the status each time it is asked for, besides what is counted.
pub(super) fn render(sources: &Sources, now_ms: u64) -> Result<String, std::fmt::Error> {
    let status = sources.status();
    let mut registry = Registry::with_prefix(PREFIX);
    let healthy = Gauge::<i64>::default();
    healthy.set(health(&status, now_ms).reasons.is_empty().into());
    registry.register("healthy", "1 while /health says ok", healthy);
    let status = status.at(now_ms);
    gauges(&mut registry, "build_info", "The running program", [(vec![("version", status.version.clone())], 1)]);
    sources.measures.register(&mut registry);
    disk(&mut registry, &sources.state_dir);
    containers(&mut registry, &status);
    classes(&mut registry, &status);
    targets(&mut registry, &status);
    credentials(&mut registry, &status);
    if let Some(counts) = status.webhook {
        deliveries(&mut registry, counts);
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// One family of gauges with these values.
fn gauges(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, i64)>) {
    let family = Gauges::default();
    for (labels, value) in values {
        family.get_or_create(&labels).set(value);
    }
    registry.register(name, help, family);
}

/// The file system of the controller's state; left out where it cannot be asked.
fn disk(registry: &mut Registry, state_dir: &Path) {
    let Ok(found) = rustix::fs::statvfs(state_dir) else { return };
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(found.f_frsize)).unwrap_or(i64::MAX);
    let help = "Bytes of the file system with the controller's state that are free to it";
    gauges(registry, "state_free_bytes", help, [(vec![], bytes(found.f_bavail))]);
    gauges(registry, "state_size_bytes", "Bytes of that file system", [(vec![], bytes(found.f_blocks))]);
}

fn containers(registry: &mut Registry, status: &Status) {
    // Also those that are zero: a series that comes and goes cannot be compared with its past.
    let phases = Phase::ALL.into_iter().filter(|phase| !phase.is_end());
    let count = |class: &str, phase| {
        let of =
            status.active_containers.iter().filter(|container| container.class == class && container.phase == phase);
        i64::try_from(of.count()).unwrap_or(i64::MAX)
    };
    let values = phases.flat_map(|phase| {
        let of =
            move |class: &str| (vec![("class", class.to_owned()), ("phase", phase.to_string())], count(class, phase));
        status.classes.iter().map(move |class| of(&class.name))
    });
    gauges(registry, "containers", "Containers now, by class and phase", values);
    let queued = Gauge::<i64>::default();
    queued.set(i64::try_from(status.queue.len()).unwrap_or(i64::MAX));
    registry.register("queued_jobs", "Queued jobs that were seen", queued);
}

fn classes(registry: &mut Registry, status: &Status) {
    let by_class = |value: &dyn Fn(&ClassStatus) -> Option<i64>| {
        let values = status.classes.iter().filter_map(move |class| {
            let version = class.runner_version.clone().unwrap_or_default();
            Some((vec![("class", class.name.clone()), ("version", version)], value(class)?))
        });
        values.collect::<Vec<_>>()
    };
    gauges(
        registry,
        "runner_version_days_left",
        "Days until the forge refuses the class's runner version; absent while no end is announced",
        by_class(&|class| class.runner_deprecated_in_days),
    );
    gauges(
        registry,
        "class_drained",
        "1 while the class or the host is drained",
        by_class(&|class| Some((class.drained || status.drained).into())),
    );
    gauges(
        registry,
        "class_outdated",
        "1 while the forge refuses the class's runner and nothing of the class is started",
        by_class(&|class| Some(class.outdated.into())),
    );
}

fn targets(registry: &mut Registry, status: &Status) {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let by_target = |value: &dyn Fn(&TargetStatus) -> Option<u64>| {
        let values = status
            .targets
            .iter()
            .filter_map(|target| Some((vec![("target", target.repo.clone())], number(value(target)?))));
        values.collect::<Vec<_>>()
    };
    gauges(
        registry,
        "poll_age_seconds",
        "Seconds since the target's last successful poll; absent before the first",
        by_target(&|target| target.last_poll_age_seconds),
    );
}

fn credentials(registry: &mut Registry, status: &Status) {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let by_credential = |value: &dyn Fn(&CredentialStatus) -> Option<u64>| {
        let values = status
            .credentials
            .iter()
            .filter_map(|credential| Some((vec![("credential", credential.name.clone())], number(value(credential)?))));
        values.collect::<Vec<_>>()
    };
    gauges(
        registry,
        "rate_limit_remaining",
        "Calls left to the credential in the forge's current window; of an App's installations, the fewest",
        by_credential(&|credential| Some(credential.rate_limit?.remaining)),
    );
    gauges(
        registry,
        "rate_limit",
        "Calls the credential has in a window",
        by_credential(&|credential| Some(credential.rate_limit?.limit)),
    );
    let paused = status.credentials.iter().flat_map(|credential| {
        [("forge", PausedBy::Forge), ("share", PausedBy::Share)].map(|(word, by)| {
            let labels = vec![("credential", credential.name.clone()), ("by", word.to_owned())];
            (labels, i64::from(credential.paused_by == Some(by)))
        })
    });
    let help = "1 while nothing is asked with the credential: the forge's limit is reached, or the controller's share";
    gauges(registry, "credential_paused", help, paused);
}

fn deliveries(registry: &mut Registry, counts: Counts) {
    let family = Family::<Labels, Counter>::default();
    for (outcome, count) in [
        ("accepted", counts.accepted),
        ("duplicate", counts.duplicate),
        ("ignored", counts.ignored),
        ("refused", counts.refused),
        ("dropped", counts.dropped),
    ] {
        family.get_or_create(&vec![("outcome", outcome.to_owned())]).inc_by(count);
    }
    registry.register("webhook_deliveries", "Webhook deliveries by what came of them", family);
}
