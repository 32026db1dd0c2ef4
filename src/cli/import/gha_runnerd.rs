//! gha-runnerd's config.yml: runners that always run, named `TYPE-SIZE[-CATEGORY]-NUMBER`.

use std::collections::BTreeMap;

use settings::{
    ClassSize, Limits, Problem,
    check::{is_host_name, is_name},
    file::Size,
};

use super::{
    draft::{Draft, Gone, Place, SOCKET, Table},
    keys::Keys,
};

const GONE: &[Gone] = &[
    (&["github.prefix"], "The controller names runners itself, one for each job."),
    (
        &["host.runner_base", "host.docker_user_uid", "host.docker_user_gid", "sudoers"],
        "No runner is installed on the host, and no user of it runs jobs: what a job writes goes with its container. \
         Delete the directory, the user and the file for sudo.",
    ),
    (&["host.docker_socket"], SOCKET),
    (
        &["cache"],
        "Jobs do not see a directory of the host. What should outlive containers is a cache of a class, \
         [class.NAME.cache.NAME]: docs/configuration.md#caches.",
    ),
    (
        &["runner"],
        "The runner is part of the container's template (docs/templates.md). `check` reports when the forge is about to \
         refuse its version.",
    ),
    (&["github_api"], "Each runner is registered with its class's labels, for one job: there is nothing to sync."),
    (
        &["systemd"],
        "`units` renders a unit for each class. A container is not restarted: the next job gets another one.",
    ),
    (&["sizes"], "No runner has this size."),
];

/// Runners of one name, but for the number.
struct Kind {
    name: String,
    gpu: bool,
    size: String,
    category: Option<String>,
    count: i64,
}

pub(super) fn import(keys: &mut Keys) -> Result<Draft, Problem> {
    let mut draft = Draft::new("gha-runnerd", GONE);
    let enterprise = match keys.text("github.scope")?.as_deref() {
        None | Some("org") => false,
        Some("enterprise") => true,
        Some(_) => return Err(Problem::new("github.scope", "is neither org nor enterprise", "write one of them")),
    };
    let (key, rights) = match enterprise {
        true => ("enterprise", "the scope manage_runners:enterprise, as a classic token"),
        false => ("org", "to read Actions, and to write the organisation's self-hosted runners"),
    };
    draft.token("gha-runnerd took what `gh` was logged in with.", rights);
    let owner = keys.needed(&format!("github.{key}"))?;
    let group = keys.text("github.runner_group.name")?;
    if group.is_none() && keys.take("github.runner_group.id").is_some() {
        draft.note(
            "github.runner_group.id",
            "Groups are named, not numbered: write runner_group = \"NAME\" below target.",
        );
    }

    let kinds = kinds(&keys.list("runners")?)?;
    draft.top().set("max_concurrent", kinds.iter().map(|kind| kind.count).sum::<i64>());
    let host = keys.text("host.label")?;
    let fits = host.as_deref().is_some_and(is_host_name);
    if let Some(host) = host.as_deref().filter(|host| is_host_name(host)) {
        draft.top().set_because("host_name", host, "A label of every class below, and part of runners' names.");
    }
    let short: Vec<String> = kinds.iter().filter(|kind| kind.is_short()).map(|kind| kind.name.clone()).collect();
    if !short.is_empty() {
        draft.top().set("runners", short);
    }
    let target = draft.table(Place::Target);
    target.set(key, owner);
    target.set_some("runner_group", group);
    // Several kinds may have one size.
    let mut sizes = BTreeMap::new();
    for kind in &kinds {
        if !sizes.contains_key(&kind.size) {
            sizes.insert(kind.size.clone(), Given::read(keys, &kind.size)?);
        }
        let class = draft.table(Place::Named(format!("class.{}", kind.name)));
        if !kind.is_short() || !fits {
            let category = kind.category.as_deref().unwrap_or("generic");
            let labels = ["self-hosted", "linux"].into_iter().chain(host.as_deref());
            let labels = labels.chain([if kind.gpu { "gpu" } else { "cpu" }, &kind.size, category]);
            class.set("labels", labels.map(str::to_owned).collect::<Vec<_>>());
        }
        class.set("max_concurrent", kind.count);
        set_limits(class, kind, sizes.get(&kind.size).and_then(Option::as_ref));
        if !kind.is_short() && kind.gpu {
            class.set("gpu", true);
        }
        match kind.category.as_deref() {
            None => class.set_because("docker.enable", true, "Its jobs had `container:`, which takes Docker."),
            Some("docker") => {}
            Some(category) => class.set_because(
                "docker.enable",
                true,
                format!(
                    "Leave it out if jobs for {category} need no Docker. What they need is in the class's template."
                ),
            ),
        }
        if enterprise {
            class.set_because("intake", "scale-set", "An enterprise cannot be polled.");
        }
    }
    Ok(draft)
}

impl Kind {
    /// Whether a word in `runners` says it all.
    fn is_short(&self) -> bool {
        self.category.as_deref().is_none_or(|category| category == "docker")
    }
}

fn kinds(runners: &[String]) -> Result<Vec<Kind>, Problem> {
    if runners.is_empty() {
        return Err(Problem::new("runners", "names none", "name at least one, e.g. cpu-small-1"));
    }
    let mut kinds: Vec<Kind> = Vec::new();
    for (index, runner) in runners.iter().enumerate() {
        let parts: Vec<&str> = runner.split('-').collect();
        let (kind, size, category) = match parts[..] {
            [kind, size, _] => (kind, size, None),
            [kind, size, category, _] => (kind, size, Some(category)),
            _ => ("", "", None),
        };
        let name = [kind, size].into_iter().chain(category).collect::<Vec<_>>().join("-");
        if !["cpu", "gpu"].contains(&kind) || preset(size).is_none() || !is_name(&name) {
            return Err(Problem::new(
                format!("runners[{index}]"),
                format!("{runner:?} is not TYPE-SIZE-NUMBER or TYPE-SIZE-CATEGORY-NUMBER"),
                "write e.g. cpu-small-1, with a short category in small letters; leave the runner out to go on",
            ));
        }
        match kinds.iter_mut().find(|kind| kind.name == name) {
            Some(kind) => kind.count += 1,
            None => kinds.push(Kind {
                gpu: kind == "gpu",
                size: size.to_owned(),
                category: category.map(str::to_owned),
                count: 1,
                name,
            }),
        }
    }
    Ok(kinds)
}

fn preset(size: &str) -> Option<Limits> {
    ClassSize::ALL.into_iter().find(|(word, _)| *word == size).map(|(_, size)| size.limits())
}

/// Limits as a size of gha-runnerd has them; none = no limit.
struct Given {
    cpus: Option<f64>,
    memory: Option<String>,
    bytes: Option<u64>,
    tasks: Option<i64>,
}

impl Given {
    /// What the file says of a size, if it says something.
    fn read(keys: &mut Keys, size: &str) -> Result<Option<Self>, Problem> {
        let key = format!("sizes.{size}");
        if !keys.has(&key) {
            return Ok(None);
        }
        let path = |limit: &str| format!("{key}.{limit}");
        let cpus = keys.parsed(&path("cpus"), "a number")?;
        let tasks = keys.parsed(&path("pids_limit"), "a whole number")?;
        let memory = keys.text(&path("mem_limit"))?;
        let bytes = match &memory {
            None => None,
            Some(text) => Some(Size::Text(text.clone()).bytes().ok_or_else(|| {
                Problem::new(path("mem_limit"), "is no size", "write a whole number with K, M, G or T, e.g. 16g")
            })?),
        };
        Ok(Some(Self { cpus, memory, bytes, tasks }))
    }
}

/// The limits of a class, as far as its size has others with us.
fn set_limits(class: &mut Table, kind: &Kind, given: Option<&Given>) {
    let ours = preset(&kind.size).unwrap_or_default();
    // A limit that our size has cannot be taken off by its key.
    let lifted = given.is_some_and(|given| {
        (given.cpus.is_none() && ours.cpus.is_some())
            || (given.bytes.is_none() && ours.memory.is_some())
            || (given.tasks.is_none() && ours.tasks.is_some())
    });
    let ours = if lifted { Limits::default() } else { ours };
    if lifted {
        class.set_because("size", "max", "gha-runnerd's size has fewer limits than ours.");
    } else if !kind.is_short() {
        class.set("size", kind.size.clone());
    }
    if let Some(given) = given {
        class.set_some("cpus", given.cpus.filter(|cpus| Some(*cpus) != ours.cpus));
        class.set_some("memory", given.memory.clone().filter(|_| given.bytes != ours.memory));
        class.set_some("tasks", given.tasks.filter(|tasks| u64::try_from(*tasks).ok() != ours.tasks));
    }
}
