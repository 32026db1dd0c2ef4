//! The keys of runner_kit's `RunnerConfig`, in YAML, in JSON or as lines.

use settings::Problem;

use super::{
    draft::{Draft, Gone, IMAGE, Place, SOCKET},
    keys::Keys,
};

const GONE: &[Gone] = &[
    (&["enable_p2p"], "Hosts do not speak to each other: each finds jobs at the forge by itself."),
    (&["runner_image"], IMAGE),
    (
        &["runner_work_dir"],
        "Jobs do not write into a directory of the host: what they write goes with their container.",
    ),
    (
        &["token_file"],
        "It held tokens to register runners with. The controller asks the forge for one registration a job; delete the \
         file.",
    ),
    (
        &["network_mode"],
        "Each container has a network of its own, and never the host's. What it reaches beyond the internet is named in \
         class.default.network.allow.",
    ),
];

pub(super) fn import(keys: &mut Keys) -> Result<Draft, Problem> {
    let mut draft = Draft::new("runner_kit", GONE);
    draft.token(
        "runner_kit took what `gh` was logged in with.",
        "to read Actions, and to write the organisation's self-hosted runners",
    );
    let top = draft.top();
    top.set_some("max_concurrent", keys.parsed::<i64>("max_runners", "a whole number")?);
    top.set_some("poll_interval", keys.duration("poll_interval")?);
    let owner = keys.text("owner")?;
    let days = keys.parsed::<u32>("since_days", "a whole number")?.filter(|days| *days > 0);
    let target = draft.table(Place::Target);
    let comment = match owner {
        Some(_) => "A personal account is `user` in place of `org`.",
        None => {
            "runner_kit served all that its login could reach. Name each organisation (`org`) and account (`user`)."
        }
    };
    target.set_because("org", owner.unwrap_or_else(|| "OWNER".to_owned()), comment);
    let comment = "Of the last push to a repository; runner_kit looked at runs.";
    if let Some(days) = days {
        target.set_because("pushed_within", format!("{days}days"), comment);
    }
    let class = draft.table(Place::Named("class.default".to_owned()));
    let mut labels = ["self-hosted", "linux", "docker"].map(str::to_owned).to_vec();
    let mut comment = "Those that runner_kit registers.";
    if keys.text("filter_by_arch")?.is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        labels.push(if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" }.to_owned());
        comment = "Those that runner_kit registers, and this host's architecture: jobs for another one wait elsewhere.";
    }
    class.set_because("labels", labels, comment);
    class.set_some("cpus", keys.parsed::<f64>("cpu_limit", "a number")?);
    class.set_some("memory", keys.text("memory_limit")?);
    class.set("docker.enable", true);
    draft.note("Docker", SOCKET);
    Ok(draft)
}
