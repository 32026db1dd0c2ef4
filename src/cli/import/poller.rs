//! The environment of a controller that polls one repository.

use settings::Problem;

use super::{
    draft::{Draft, Gone, Place},
    keys::Keys,
};

const GONE: &[Gone] = &[
    (&["RUNNER_NAME", "RUNNER_NAME_PREFIX"], "The controller names runners itself; host_name is its part of the host."),
    (&["LOG_LEVEL", "RUST_LOG"], "Set it in a drop-in of gha-runner-controller.service: Environment=RUST_LOG=debug."),
];

pub(super) fn import(keys: &mut Keys) -> Result<Draft, Problem> {
    let mut draft = Draft::new("a poller of one repository", GONE);
    let rights = "to read Actions and to write Administration of the repository";
    let token = keys.take("GITHUB_TOKEN").is_some();
    match keys.text("GITHUB_TOKEN_FILE")? {
        Some(file) if !token => draft.top().set("token_file", file),
        _ => draft.token("It is in GITHUB_TOKEN; delete it there.", rights),
    }
    let top = draft.top();
    top.set_some("max_concurrent", keys.parsed::<i64>("MAX_CONCURRENT", "a whole number")?);
    top.set_some("poll_interval", keys.duration("POLL_INTERVAL")?);
    top.set_some("job_timeout", keys.duration("JOB_TIMEOUT")?);
    top.set_some("state_dir", keys.text("STATE_DIR")?);
    top.set_some("http.port", keys.parsed::<i64>("HTTP_PORT", "a whole number")?);
    let labels = keys.words("RUNNER_LABELS")?;
    if !labels.is_empty() {
        top.set("runner_labels", labels);
    }
    let repos = keys.words("GITHUB_REPO")?;
    if repos.is_empty() {
        return Err(Problem::new("GITHUB_REPO", "is not there, or empty", "write owner/repository"));
    }
    for repo in repos {
        // Also as the address of its page.
        let name = repo.trim_start_matches("https://github.com/").trim_end_matches('/').trim_end_matches(".git");
        draft.table(Place::Target).set("repo", name);
    }
    Ok(draft)
}
