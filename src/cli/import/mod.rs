//! `import`: reads another tool's configuration and prints ours, with a comment for what has no counterpart.
//!
//! A tool's file takes the keys that it knows from [`keys::Keys`] and puts what they mean into a [`draft::Draft`]. What
//! it did not take becomes a comment, so that nothing is lost without a word. Values of such keys are never printed:
//! any of them may be a secret.

mod act_runner;
mod as_nix;
mod as_toml;
mod compose;
mod draft;
mod gha_runnerd;
mod keys;
mod poller;
mod runner_kit;
mod variables;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::ValueEnum;
use settings::{Problem, Problems, check, file::SettingsWritten};

use self::{act_runner::Forge, draft::Draft, keys::Keys};
use super::{REFUSED, conclude};

/// Largest file read, in bytes; an alias in YAML can stand for a hundred times as much.
const LIMIT: u64 = 64 << 10;

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The other tool's configuration: YAML, JSON, or lines NAME=VALUE.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The tool that it belongs to [default: the one whose keys it has]
    #[arg(long, value_name = "TOOL")]
    from: Option<Tool>,
    /// Print a NixOS module.
    #[arg(long)]
    nix: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tool {
    /// config.yml of gha-runnerd.
    GhaRunnerd,
    /// config.yaml of Gitea's act_runner.
    ActRunner,
    /// config.yaml of Forgejo's runner.
    ForgejoRunner,
    /// .env of runners in Docker Compose.
    Compose,
    /// The environment of a poller of one repository.
    Poller,
    /// The keys of runner_kit.
    RunnerKit,
}

impl Tool {
    /// By keys that no other tool has.
    fn of(keys: &Keys) -> Option<Self> {
        let any = |names: &[&str]| names.iter().any(|name| keys.has(name));
        if any(&["github.org", "github.enterprise", "github.prefix"]) {
            Some(Self::GhaRunnerd)
        } else if any(&["runner", "container.docker_host", "container.valid_volumes"]) {
            let forgejo =
                ["log.job_level", "runner.report_interval", "container.enable_ipv6", "cache.proxy_port", "server"];
            Some(if any(&forgejo) { Self::ForgejoRunner } else { Self::ActRunner })
        } else if any(&["GITHUB_PAT", "REPO_OWNER", "REPO_NAME"]) {
            Some(Self::Compose)
        } else if any(&["GITHUB_REPO"]) {
            Some(Self::Poller)
        } else if any(&["since_days", "max_runners", "filter_by_arch", "poll_interval"]) {
            Some(Self::RunnerKit)
        } else {
            None
        }
    }

    fn import(self, keys: &mut Keys) -> Result<Draft, Problem> {
        match self {
            Self::GhaRunnerd => gha_runnerd::import(keys),
            Self::ActRunner => act_runner::import(keys, Forge::Gitea),
            Self::ForgejoRunner => act_runner::import(keys, Forge::Forgejo),
            Self::Compose => compose::import(keys),
            Self::Poller => poller::import(keys),
            Self::RunnerKit => runner_kit::import(keys),
        }
    }
}

/// Exit status 2 = the file is refused, or what it became would be: that is printed all the same, to be corrected.
pub(super) fn main(args: Args) -> ExitCode {
    let printed = print(&args).map_err(|problem| Problems::from(problem).into());
    conclude(printed.map(|sound| if sound { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) }))
}

fn print(args: &Args) -> Result<bool, Problem> {
    let name = args.file.display().to_string();
    let mut keys = read(&args.file).map_err(|(problem, remedy)| Problem::new(&name, problem, remedy))?;
    let Some(tool) = args.from.or_else(|| Tool::of(&keys)) else {
        return Err(Problem::new(
            name,
            "has keys of none of the tools known",
            "name the tool that it is for: --from TOOL",
        ));
    };
    let mut draft = tool.import(&mut keys)?;
    draft.leave_rest(keys);
    let ours = as_toml::text(&draft);
    print!("{}", if args.nix { as_nix::text(&draft) } else { ours.clone() });
    let refused = match toml::from_str::<SettingsWritten>(&ours) {
        Ok(written) => check::check(written).err(),
        Err(error) => Some(Problem::new("what is printed", error.to_string(), "correct it").into()),
    };
    if let Some(problems) = &refused {
        eprintln!("{problems}");
    }
    Ok(refused.is_none())
}

/// The keys of a file, or what is wrong with it and what to do.
fn read(path: &Path) -> Result<Keys, (String, &'static str)> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| (format!("cannot be read: {error}"), "name an existing file"))?;
    file.take(LIMIT + 1)
        .read_to_string(&mut text)
        .map_err(|error| (format!("cannot be read: {error}"), "name a readable UTF-8 text file"))?;
    if text.len() as u64 > LIMIT {
        return Err(("is longer than 64 KiB".to_owned(), "name the tool's configuration"));
    }
    if variables::looks_like(&text) {
        return variables::parse(&text).map(Keys::new).map_err(|said| (said, "write NAME=VALUE in each line"));
    }
    match serde_saphyr::from_str(&text) {
        Ok(serde_json::Value::Object(table)) => Ok(Keys::new(table)),
        Ok(_) => Err(("is not a table of keys".to_owned(), "name the tool's configuration")),
        Err(error) => {
            // The lines after the first show the file's, which may have secrets.
            let said = error.to_string();
            let said = said.lines().next().unwrap_or_default().trim_start_matches("error: ");
            Err((format!("is not YAML: {said}"), "correct the line"))
        }
    }
}
