//! Installs what is under test into the host, as its documentation says.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{lab::Lab, place::Place};

/// Where the product's program lies in the host.
pub const PROGRAM: &str = "/usr/local/bin/gha-runner-controller";
/// Where its guest lies: beside it.
pub const GUEST: &str = "/usr/local/bin/gha-runner-guest";
/// Where its configuration lies.
pub const CONFIG: &str = "/etc/gha-runner-controller/config.toml";
/// The kernel's settings that it wants, for `systemd-sysctl`.
pub const SETTINGS: &str = "/etc/sysctl.d/60-gha-runner-controller.conf";
/// The controller's unit.
pub const SERVICE: &str = "gha-runner-controller.service";

/// What to install.
#[derive(Debug, Clone)]
pub struct Product {
    /// The program, built on this machine.
    pub binary: PathBuf,
    /// The text of its configuration file.
    pub config: String,
    /// Other files the configuration names: path, content, mode.
    pub files: Vec<(String, Vec<u8>, u32)>,
    /// Whether to start the controller.
    pub start: bool,
}

impl Product {
    /// This program with this configuration, to be started.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>, config: impl Into<String>) -> Self {
        Self { binary: binary.into(), config: config.into(), files: Vec::new(), start: true }
    }

    /// With this file beside, for example a credential.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<String>, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.files.push((path.into(), content.into(), mode));
        self
    }

    /// Installed, but not started.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        self.start = false;
        self
    }

    pub(crate) fn install(&self, lab: &Lab) -> Result<()> {
        let binary = std::fs::read(&self.binary).with_context(|| format!("cannot read {}", self.binary.display()))?;
        lab.write_host(PROGRAM, &binary, 0o755)?;
        let guest = self.binary.with_file_name("gha-runner-guest");
        let guest = std::fs::read(&guest).with_context(|| format!("cannot read {}; make build", guest.display()))?;
        lab.write_host(GUEST, &guest, 0o755)?;
        lab.write_host(CONFIG, self.config.as_bytes(), 0o644)?;
        for (path, content, mode) in &self.files {
            lab.write_host(path, content, *mode)?;
        }
        let mut steps: Vec<&[&str]> = vec![
            &[PROGRAM, "units", "--config", CONFIG, "--output", "/etc"],
            &["systemd-sysusers"],
            &["systemd-tmpfiles", "--create"],
            &["sh", "-c", "[ ! -e \"$1\" ] || exec systemctl restart systemd-sysctl", "sh", SETTINGS],
            &["udevadm", "control", "--reload"],
            &["systemctl", "daemon-reload"],
        ];
        if self.start {
            steps.push(&["systemctl", "start", SERVICE]);
        }
        for step in steps {
            let output = lab.exec(Place::Host, step)?;
            if !output.success() {
                let journal = lab.journal(SERVICE).unwrap_or_default();
                return Err(output.check().err().unwrap_or_else(|| anyhow::anyhow!("failed")))
                    .with_context(|| format!("the product is not installed; its journal:\n{journal}"));
            }
        }
        Ok(())
    }
}
