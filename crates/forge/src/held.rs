//! A secret in use: read again when its file changed, or the forge refused it.

use std::{cell::RefCell, rc::Rc};

use settings::{renewable::Renewable, token_file::Token};
use tracing::{info, warn};

/// A secret in use by one client.
#[derive(Debug)]
pub struct Held {
    used: RefCell<Token>,
    renewable: Option<Rc<Renewable>>,
}

/// One that never changes.
impl From<Token> for Held {
    fn from(token: Token) -> Self {
        Self { used: RefCell::new(token), renewable: None }
    }
}

impl From<Rc<Renewable>> for Held {
    fn from(renewable: Rc<Renewable>) -> Self {
        Self { used: RefCell::new(renewable.secret()), renewable: Some(renewable) }
    }
}

impl Held {
    /// The secret that is used.
    pub fn token(&self) -> Token {
        self.used.borrow().clone()
    }

    /// Its file has another one by now, which was not used yet.
    pub fn has_fresh(&self) -> bool {
        let Some(renewable) = &self.renewable else { return false };
        if let Err(problem) = renewable.look(false) {
            warn!(%problem, "a renewed secret cannot be used; the one before is");
        }
        *self.used.borrow() != renewable.secret()
    }

    /// From now on another one is used than before: its file changed. It is looked at now if the forge refused it.
    pub fn renewed(&self, was_refused: bool) -> bool {
        let Some(renewable) = &self.renewable else { return false };
        if let Err(problem) = renewable.look(was_refused) {
            warn!(%problem, "a renewed secret cannot be used; the one before is");
        }
        let fresh = renewable.secret();
        let is_another = *self.used.borrow() != fresh;
        if is_another {
            info!("a renewed secret is used from now on");
            self.used.replace(fresh);
        }
        is_another
    }
}
