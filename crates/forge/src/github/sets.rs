//! The scale sets of all targets, each with the credential of its scope.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use tokio::sync::watch;

use super::{
    Github,
    governed::Governed,
    scale_set::{self, ScaleSet, SetSpec, Tidings},
    transport::Transport,
};
use crate::{ErrorKind, ForgeError, Minted, Scope, SetKey, SetRequest, Sets};
use crate::{
    tally::Tally,
    wire::{Answer, NoAnswer, Request, Wire},
};

/// Clients of scale sets, made when first asked for.
#[derive(Debug)]
pub struct ScaleSets<T, W> {
    github: Rc<Github<T>>,
    wire: W,
    owner: String,
    open: RefCell<BTreeMap<SetKey, Client<T, W>>>,
}

type Client<T, W> = Rc<ScaleSet<Rc<Governed<T>>, Counted<W>>>;

/// A wire whose calls are counted with those of the login that opened it.
#[derive(Debug)]
struct Counted<W> {
    wire: W,
    tally: Rc<Tally>,
}

impl<W: Wire> Wire for Counted<W> {
    async fn send(&self, request: Request) -> Result<Answer, NoAnswer> {
        let sent = self.now();
        let answer = self.wire.send(request).await;
        self.tally.made(answer.as_ref().ok(), sent, self.now());
        answer
    }

    fn now(&self) -> Duration {
        self.wire.now()
    }

    fn random(&self) -> u64 {
        self.wire.random()
    }
}

impl<T: Transport, W: Wire + Clone> ScaleSets<T, W> {
    /// With the credentials of `github`. `owner` tells people who holds a session: stable for a host.
    pub fn new(github: Rc<Github<T>>, wire: W, owner: impl Into<String>) -> Self {
        Self { github, wire, owner: owner.into(), open: RefCell::default() }
    }

    fn make(&self, key: &SetKey, request: &SetRequest) -> Result<Client<T, W>, ForgeError> {
        let (transport, api_url) = self.github.transport_of(&key.scope)?;
        let refused = || ForgeError::new(ErrorKind::Refused, format!("{key}: {api_url:?} is no URL of a GitHub"));
        let scope = match Scope::parse(&key.scope) {
            Scope::Repository(name) => {
                let (owner, name) = name.split_once('/').ok_or_else(refused)?;
                scale_set::Scope::Repository(owner.to_owned(), name.to_owned())
            }
            Scope::Organisation(name) => scale_set::Scope::Organization(name),
            Scope::Enterprise(name) => scale_set::Scope::Enterprise(name),
        };
        let spec = SetSpec {
            config_url: scope.config_url(&api_url).ok_or_else(refused)?,
            api_url: api_url.clone(),
            scope,
            set_name: request.name.clone(),
            runner_group: request.runner_group.clone(),
            labels: request.labels.clone(),
            owner_name: self.owner.clone(),
        };
        let wire = Counted { wire: self.wire.clone(), tally: transport.tally().clone() };
        Ok(Rc::new(ScaleSet::new(spec, transport, wire)))
    }

    fn client(&self, key: &SetKey) -> Result<Client<T, W>, ForgeError> {
        let found = self.open.borrow().get(key).cloned();
        found.ok_or_else(|| ForgeError::new(ErrorKind::NotFound, format!("{key}: not open")))
    }
}

impl<T: Transport, W: Wire + Clone> Sets for ScaleSets<T, W> {
    async fn open(&self, key: &SetKey, request: &SetRequest) -> Result<Vec<String>, ForgeError> {
        let client = match self.client(key) {
            Ok(client) => client,
            Err(_) => self.make(key, request)?,
        };
        self.open.borrow_mut().insert(key.clone(), client.clone());
        Ok(client.open().await?.missing_labels)
    }

    async fn listen(&self, key: &SetKey, capacity: &mut watch::Receiver<u32>) -> Result<Tidings, ForgeError> {
        self.client(key)?.listen(capacity).await
    }

    fn held_for(&self, key: &SetKey) -> Option<Duration> {
        self.client(key).ok()?.held_for()
    }

    async fn acknowledge(&self, key: &SetKey, message_id: u64) {
        if let Ok(client) = self.client(key) {
            client.acknowledge(message_id).await;
        }
    }

    async fn mint(&self, key: &SetKey, runner_name: &str) -> Result<Minted, ForgeError> {
        self.client(key)?.mint(runner_name).await
    }

    async fn release(&self, key: &SetKey) -> Result<(), ForgeError> {
        self.client(key)?.release().await
    }
}
