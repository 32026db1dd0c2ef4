//! Builds Debian trees.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
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
    if recipe.packages.is_empty() {
        return build_whole(recipe, &list, tree, &log);
    }
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
    tried(&mut bootstrap, tree, &log).context("mmdebstrap could not build the tree")?;

    let mut finish = Command::new("sh");
    finish.arg("-c").arg(recipe.script).arg(recipe.name).arg(tree);
    logged(&mut finish, &log).context("the recipe's script failed")
}

/// Runs a script that builds the tree by itself, as a person would. Its mmdebstrap takes packages from where this machine
/// does, and what it unpacks as a release of the runner is a directory for one.
fn build_whole(recipe: &Recipe, list: &Path, tree: &Path, log: &Path) -> Result<()> {
    let here = list.with_file_name("workplace");
    let programs = here.join("programs");
    std::fs::create_dir_all(&programs)?;
    let bootstrap = programs.join("mmdebstrap");
    let unreleased = recipe.suite.is_some_and(|suite| !suite.is_released());
    let validity = if unreleased { "--aptopt='Acquire::Check-Valid-Until \"false\"'" } else { "" };
    let line = format!(
        "#!/bin/sh\nPATH=${{PATH#*:}}\nexec mmdebstrap --quiet --dpkgopt=force-unsafe-io {validity} \"$@\" '{}'\n",
        list.display()
    );
    std::fs::write(&bootstrap, line)?;
    std::fs::set_permissions(&bootstrap, std::fs::Permissions::from_mode(0o755))?;
    std::fs::create_dir_all(here.join("release/bin"))?;
    let archive = "actions-runner-linux-x64-0.0.0.tar.gz";
    let mut pack = Command::new("tar");
    pack.current_dir(&here).args(["-C", "release", "-czf", archive, "bin"]);
    logged(&mut pack, log)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&path)))?;
    let mut script = Command::new("sh");
    script.current_dir(&here).env("PATH", path).args(["-euc", recipe.script, recipe.name]).arg(tree);
    tried(&mut script, tree, log).context("the recipe could not build the tree")?;
    Ok(std::fs::remove_dir_all(here)?)
}

/// Runs what builds a tree, again if it fails.
fn tried(command: &mut Command, tree: &Path, log: &Path) -> Result<()> {
    let mut tries = 0;
    while let Err(error) = logged(command, log) {
        tries += 1;
        if tries == TRIES {
            return Err(error);
        }
        if tree.exists() {
            std::fs::remove_dir_all(tree)?;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
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
