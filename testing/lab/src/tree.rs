//! Builds Debian trees.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{
    cache::Cache,
    recipe::Recipe,
    shelf::{Kept, Shelf},
    sources::Sources,
};

/// How often a tree is tried: now and then a package comes damaged.
const TRIES: u32 = 3;
/// Pause between tries.
const PAUSE: Duration = Duration::from_secs(2);

/// A built Debian tree in the cache. Never written to.
#[derive(Debug)]
pub struct Tree {
    kept: Kept,
}

impl Tree {
    /// The tree of `recipe`: from the cache, or built now, which takes about half a minute.
    pub fn ensure(cache: &Cache, recipe: &Recipe) -> Result<Self> {
        let mut sources = Sources::find()?;
        if let Some(suite) = recipe.suite {
            sources = sources.of(suite);
        }
        // Each release has a shelf of its own: trees of one do not push those of another out.
        let name = format!("{}-{}", recipe.name, sources.suite);
        let shelf = Shelf { cache, directory: cache.trees(), name: &name, kept: 2 };
        let build = |path: &Path| build(recipe, &sources, path).with_context(|| format!("for the tree {name}"));
        let kept = shelf.get(&recipe.key(), build)?;
        Ok(Self { kept })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.kept.path()
    }
}

fn build(recipe: &Recipe, sources: &Sources, tree: &Path) -> Result<()> {
    let log = tree.with_extension("log");
    let list = tree.with_file_name(sources.file_name());
    std::fs::write(&list, &sources.text)?;
    let mut bootstrap = Command::new("mmdebstrap");
    bootstrap
        .arg("--quiet")
        .arg("--mode=root")
        .arg("--variant=minbase")
        .arg(format!("--include={}", recipe.packages.join(",")))
        .arg("--aptopt=Acquire::Languages \"none\"")
        .arg("--dpkgopt=force-unsafe-io")
        .args(["doc", "man", "info", "locale"].map(|share| format!("--dpkgopt=path-exclude=/usr/share/{share}/*")))
        .args(
            recipe.suite.filter(|suite| !suite.is_released()).map(|_| "--aptopt=Acquire::Check-Valid-Until \"false\""),
        )
        .arg(&sources.suite)
        .arg(tree)
        .arg(&list);
    let mut tries = 0;
    while let Err(error) = logged(&mut bootstrap, &log) {
        tries += 1;
        if tries == TRIES {
            return Err(error.context("mmdebstrap could not build the tree"));
        }
        if tree.exists() {
            std::fs::remove_dir_all(tree)?;
        }
        std::thread::sleep(PAUSE);
    }

    let mut finish = Command::new("sh");
    finish.arg("-c").arg(recipe.script).arg(recipe.name).arg(tree);
    logged(&mut finish, &log).context("the recipe's script failed")
}

/// Runs `command`; when it fails, says how its output ended.
fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let file = File::create(log)?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !status.success() {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(20)..];
        bail!("{status}:\n{}", tail.join("\n"));
    }
    Ok(())
}
