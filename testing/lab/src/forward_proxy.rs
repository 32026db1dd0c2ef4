//! A forward proxy that others made: Debian's tinyproxy, in a place of the lab.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{exec::Running, lab::Lab, place::Place};

const PROGRAM: &str = "/usr/bin/tinyproxy";

/// A running proxy. Dropping it ends it.
#[derive(Debug)]
pub struct ForwardProxy {
    log: PathBuf,
    _running: Running,
}

impl ForwardProxy {
    /// Where it listens.
    pub const PORT: u16 = 3128;

    /// What is missing on this machine, if something is.
    #[must_use]
    pub fn missing() -> Option<String> {
        let there = std::path::Path::new(PROGRAM).exists();
        (!there).then(|| format!("{PROGRAM} is missing. Remedy: make setup"))
    }

    /// Starts it, for everybody and every port.
    pub fn start(lab: &Lab, place: Place) -> Result<Self> {
        let [log, configuration] = ["log", "conf"].map(|kind| lab.shared().join(format!("tinyproxy.{kind}")));
        let text = format!(
            "Port {}\nListen {}\nTimeout 120\nMaxClients 100\nLogLevel Info\nLogFile \"{}\"\n",
            Self::PORT,
            place.address(),
            log.display()
        );
        std::fs::write(&configuration, text).context("cannot configure the proxy")?;
        let running = lab.spawn_in(place, &[PROGRAM, "-d", "-c", &configuration.display().to_string()])?;
        Ok(Self { log, _running: running })
    }

    /// The requests it had, one a line: method, address and version, in their order.
    pub fn requests(&self) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(&self.log).context("the proxy has no log")?;
        let of = |line: &str| Some(line.split_once("Request (file descriptor ")?.1.split_once("): ")?.1.to_owned());
        Ok(text.lines().filter_map(of).collect())
    }
}
