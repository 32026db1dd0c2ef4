//! The .env of ephemeral runners in Docker Compose, which register themselves with one repository.

use settings::Problem;

use super::{
    draft::{Draft, Gone, Place, SOCKET},
    keys::Keys,
};

const GONE: &[Gone] = &[
    (&["DOCKER_GID"], SOCKET),
    (
        &["DOCKERHUB_USERNAME", "DOCKERHUB_TOKEN"],
        "Keep both as secrets of the repository, and log in in the workflow; or name a registry that is asked first: \
         class.default.docker.mirror.",
    ),
    (
        &["PRUNE_THRESHOLD_GB"],
        "Nothing accumulates: what a job writes goes with its container. class.default.disk bounds each, \
         docker.keep_size what is kept of images, and where the disk fills the longest unused goes.",
    ),
    (
        &["WATCHDOG_MAX_FIRES", "SESSION_CONFLICT_WAIT"],
        "A runner lives for one job and has no session to lose. One that does not listen within boot_timeout is stopped, \
         and its class pauses, ever longer.",
    ),
    (
        &["EXTERNAL_MONGODB", "MONGODB_URI"],
        "Put the database into the workflow's `services:`; or name where it is as [network.shared.NAME], and that in \
         class.default.network.shared, and give the workflow its address as a secret.",
    ),
    (&["RUNNER_NAME"], "The controller names runners itself, one for each job."),
    (&["COMPOSE_PROJECT_NAME", "CURL_CMD", "RUNNER_WORKDIR"], "It has no use here."),
];

pub(super) fn import(keys: &mut Keys) -> Result<Draft, Problem> {
    let mut draft = Draft::new("runners in Docker Compose", GONE);
    keys.take("GITHUB_PAT");
    draft.token(
        "It is in GITHUB_PAT; delete it there.",
        "the scope `repo`, or, fine-grained, to read Actions and to write Administration of the repository",
    );
    let repo = format!("{}/{}", keys.needed("REPO_OWNER")?, keys.needed("REPO_NAME")?);
    let count = keys.parsed::<i64>("RUNNER_COUNT", "a whole number")?;
    let comment = match count {
        Some(_) => "",
        None => "Write the number of runners in docker-compose.yml.",
    };
    draft.top().set_because("max_concurrent", count.unwrap_or(2), comment);
    draft.table(Place::Target).set("repo", repo);
    let class = draft.table(Place::Named("class.default".to_owned()));
    let mut labels = keys.words("RUNNER_LABELS")?;
    if labels.is_empty() {
        labels = ["self-hosted", "Linux", "X64"].map(str::to_owned).to_vec();
    }
    class.set_because("labels", labels, "Those that jobs name in `runs-on`.");
    class.set_some("cpus", keys.parsed::<f64>("RUNNER_CPUS", "a number")?);
    let memory = keys.text("RUNNER_MEMORY")?;
    let limited = memory.is_some();
    class.set_some("memory", memory);
    class.set("docker.enable", true);
    if !limited {
        draft.note("mem_limit", "It stands in docker-compose.yml: write it as class.default.memory.");
    }
    Ok(draft)
}
