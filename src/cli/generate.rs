//! `generate`: completions and manual pages, made from the command line itself, schemas of what `--json` prints, and the
//! journal's message catalog.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use controller::incident;

use super::{Cli, NAMES, conclude, document};

/// The program's name, as packages install it.
const NAME: &str = "gha-runner-controller";

/// Arguments of `generate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to: `catalog`, `completions`, `man1` and `schemas` are made in it.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub(super) fn main(args: Args) -> ExitCode {
    conclude(write(&args).map(|()| ExitCode::SUCCESS))
}

fn write(args: &Args) -> anyhow::Result<()> {
    let parts = ["catalog", "completions", "man1", "schemas"];
    let [catalog, completions, man, schemas] = parts.map(|part| args.output.join(part));
    for directory in [&catalog, &completions, &man, &schemas] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let mut whole = Cli::command().name(NAME);
    whole.build();
    let mut commands = vec![(NAME, whole.clone())];
    for (name, path) in NAMES {
        let mut parts = path.iter().filter(|part| !part.starts_with('-'));
        let stands_for = parts.try_fold(&whole, |command, part| command.find_subcommand(part));
        let stands_for = stands_for.with_context(|| format!("{name} stands for no command"))?;
        commands.push((name, stands_for.clone().name(name).bin_name(name).display_name(name)));
    }
    for (name, mut command) in commands {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let file = clap_complete::generate_to(shell, &mut command, name, &completions)
                .with_context(|| format!("cannot write to {}", completions.display()))?;
            if shell == Shell::Bash {
                // It looks for what follows a name with a hyphen under two spellings, and offers nothing:
                // https://github.com/clap-rs/clap/issues/6421
                let script = fs::read_to_string(&file)?;
                fs::write(&file, script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__")))?;
            }
        }
        clap_mangen::generate_to(command, &man).with_context(|| format!("cannot write to {}", man.display()))?;
    }
    let configuration = ("configuration.json".to_owned(), settings::reference::schema());
    for (name, schema) in document::schemas()?.into_iter().chain([configuration]) {
        let file = schemas.join(name);
        let text = serde_json::to_string_pretty(&schema)?;
        fs::write(&file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    let catalog = catalog.join(format!("{NAME}.catalog"));
    fs::write(&catalog, incident::catalog()).with_context(|| format!("cannot write {}", catalog.display()))
}
