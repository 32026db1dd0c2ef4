//! The real wire: octocrab for raw calls, nothing else of it (docs/github.md#octocrab), over HTTP/1.1 and TLS with the
//! host's root certificates.
//!
//! Its retries (which repeat POSTs), redirect following, authentication and typed models are left out: the models break
//! on real data, and it renews a token seconds before it expires, by a clock of its own.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use octocrab::{AuthState, OctoBody, Octocrab, OctocrabBuilder};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use settings::Proxy;
use tower::service_fn;

use super::{
    way,
    wire::{Answer, NoAnswer, Request, Wire},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A poll is silent for most of a minute; this finds out sooner than its timeout that nobody is there any more.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_TRIES: u32 = 3;
const IDLE: Duration = Duration::from_secs(90);
/// What to do where the server has a certificate of an authority of one's own.
const UNKNOWN_ISSUER: &str = ". Remedy: add the authority that signed the server's certificate to those this host \
                              trusts, then restart the controller";

/// The wire to GitHub: its REST API and its Actions service. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Https {
    client: Octocrab,
}

impl Https {
    /// A client that trusts the host's root certificates, and goes through the proxy if there is one. Must be called
    /// inside a tokio runtime, where octocrab queues calls. Plain `http://` URLs work as well: a GitHub in a lab.
    pub fn new(proxy: Option<&Proxy>) -> anyhow::Result<Self> {
        Self::trusting(None, proxy)
    }

    /// The same, trusting the authorities in `ca_file` alone if there is one.
    pub fn trusting(ca_file: Option<&Path>, proxy: Option<&Proxy>) -> anyhow::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_TRIES));
        let proxy = proxy.cloned();
        let provider = Arc::new(ring::default_provider());
        let tls = match ca_file {
            None => HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(provider)
                .context("the host's root certificates cannot be read. Remedy: install ca-certificates")?,
            Some(file) => {
                let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
                let config = config.with_root_certificates(authorities(file)?);
                HttpsConnectorBuilder::new().with_tls_config(config.with_no_client_auth())
            }
        };
        let tls = tls
            .https_or_http()
            .enable_http1()
            .wrap_connector(service_fn(move |to| way::connect(tcp.clone(), proxy.clone(), to)));
        let client: Client<_, OctoBody> = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            // A request that was not carried out because an idle connection had closed is sent once more.
            .retry_canceled_requests(true)
            .build(tls);
        let client = OctocrabBuilder::new_empty().with_service(client).with_auth(AuthState::None).build()?;
        Ok(Self { client })
    }

    async fn exchange(&self, request: Request) -> Result<Answer, NoAnswer> {
        let response = self.client.execute(request.into_http()?).await.map_err(|error| NoAnswer(chain(&error)))?;
        Answer::read(response).await
    }
}

impl Wire for Https {
    async fn send(&self, request: Request) -> Result<Answer, NoAnswer> {
        let timeout = request.timeout;
        tokio::time::timeout(timeout, self.exchange(request))
            .await
            .unwrap_or_else(|_| Err(NoAnswer(format!("no answer within {} s", timeout.as_secs()))))
    }

    fn now(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        // Without dice the waits are merely less spread.
        let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        u64::from_ne_bytes(bytes)
    }
}

/// The authorities in a file.
fn authorities(file: &Path) -> anyhow::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let unusable = || format!("{} has no certificate of an authority", file.display());
    for certificate in CertificateDer::pem_file_iter(file).with_context(unusable)? {
        store.add(certificate.with_context(unusable)?).with_context(unusable)?;
    }
    anyhow::ensure!(!store.is_empty(), unusable());
    Ok(store)
}

/// An error with its causes, without repeating what a cause already said.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    if text.contains("UnknownIssuer") {
        text.push_str(UNKNOWN_ISSUER);
    }
    text
}
