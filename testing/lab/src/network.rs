//! The network of a place, for this process: a client under test can be in it as it is.

use std::{fs::File, os::fd::AsFd, path::Path, thread};

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace, which stays while this lives.
#[derive(Debug)]
pub struct Network(File);

impl Network {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self(File::open(path).with_context(|| format!("cannot open {}", path.display()))?))
    }

    /// Runs `act` in a thread whose sockets are in this network. A runtime it needs is made in it.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        let act = || -> Result<T> {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
                .context("cannot enter the network")?;
            Ok(act())
        };
        thread::scope(|scope| scope.spawn(act).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}
