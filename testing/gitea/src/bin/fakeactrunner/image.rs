//! The image that a label names for a job's steps, by Docker's command.

use std::collections::BTreeMap;

/// A container of it.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    image: String,
    container: String,
}

impl Image {
    /// For the task of this number: the image of the first of the runner's labels that the job asks for and that has one.
    pub(crate) fn of(task: u64, runs_on: &[&str], labels: &[String]) -> Option<Self> {
        let mut images = labels.iter().filter_map(|label| label.split_once(":docker://"));
        let (_, image) = images.find(|(name, _)| runs_on.contains(name))?;
        Some(Self { image: image.to_owned(), container: format!("GITEA-ACTIONS-TASK-{task}") })
    }

    /// Pulls it and starts a container that waits for steps.
    pub(crate) fn start(&self) -> Vec<String> {
        let name = format!("--name={}", self.container);
        ["run", "--detach", &name, "--entrypoint=/bin/sleep", &self.image, "10800"].map(str::to_owned).to_vec()
    }

    /// Runs a script in it.
    pub(crate) fn run(&self, environment: &BTreeMap<String, String>, script: &str) -> Vec<String> {
        let variables = environment.iter().map(|(name, value)| format!("--env={name}={value}"));
        let command = [&*self.container, "sh", "-e", "-c", script].map(str::to_owned);
        std::iter::once("exec".to_owned()).chain(variables).chain(command).collect()
    }

    /// Removes it.
    pub(crate) fn remove(&self) -> [&str; 3] {
        ["rm", "--force", &self.container]
    }
}
