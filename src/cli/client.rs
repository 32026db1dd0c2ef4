//! Asks the controller on this host: over its local socket, or over HTTP where the socket is not for us.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, bail};
use api::ErrorAnswer;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use settings::token_file::{self, Holds};
use tokio::net::{TcpStream, UnixStream};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
const BODY_LIMIT: usize = 16 << 20;
const DEFAULT_PORT: u16 = 8080;

/// Where the controller is asked.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Reach {
    /// The controller's local socket; readers who may not use it ask over HTTP.
    #[arg(long, value_name = "PATH", default_value = contract::paths::CONTROL_SOCKET)]
    socket: PathBuf,
    /// Ask over HTTP, at this address.
    #[arg(long)]
    address: Option<IpAddr>,
    /// Ask over HTTP, at this port [default: 8080]
    #[arg(long, env = "HTTP_PORT")]
    port: Option<u16>,
    /// File with the token that the controller asks HTTP readers for (`http.token_file`).
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// An answer.
pub(super) struct Answer {
    pub code: StatusCode,
    pub body: Bytes,
}

impl Reach {
    /// Reads a document.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let answer = self.answer(Method::GET, path, None).await?;
        parse(path, &answer.checked(path)?)
    }

    /// Reads a document as it is written.
    pub async fn text(&self, path: &str) -> anyhow::Result<Bytes> {
        self.answer(Method::GET, path, None).await?.checked(path)
    }

    /// Asks for something to be done. Only over the local socket.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        let answer = self.answer(Method::POST, path, Some(serde_json::to_vec(body)?.into())).await?;
        parse(path, &answer.checked(path)?)
    }

    /// Asks, whatever the answer is.
    pub async fn answer(&self, method: Method, path: &str, body: Option<Bytes>) -> anyhow::Result<Answer> {
        let ask = async {
            let response = self.send(method, path, body).await?;
            let code = response.status();
            match Limited::new(response.into_body(), BODY_LIMIT).collect().await {
                Ok(body) => Ok(Answer { code, body: body.to_bytes() }),
                Err(error) => bail!("the answer broke off: {error}"),
            }
        };
        let late = || bail!("the controller did not answer within {} s", TIMEOUT.as_secs());
        tokio::time::timeout(TIMEOUT, ask).await.unwrap_or_else(|_| late())
    }

    async fn send(&self, method: Method, path: &str, body: Option<Bytes>) -> anyhow::Result<hyper::Response<Incoming>> {
        let changes = method != Method::GET;
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        if let Some(file) = &self.token_file {
            let token = token_file::read("--token-file", file, Holds::Token).map_err(|p| anyhow::anyhow!("{p}"))?;
            request = request.header("authorization", format!("Bearer {}", token.expose()));
        }
        let request = request.body(Full::new(body.unwrap_or_default()))?;
        let over_http = self.address.is_some() || self.port.is_some();
        if over_http && !changes {
            return self.send_over_http(request).await;
        }
        match UnixStream::connect(&self.socket).await {
            Ok(stream) => exchange(stream, request).await,
            Err(error) if !changes && is_not_for_us(error.kind()) => self.send_over_http(request).await,
            Err(error) => Err(error).with_context(|| {
                let remedy = "systemctl status gha-runner-controller; be root or in the group of operators";
                format!("the controller at {} cannot be asked. Remedy: {remedy}", self.socket.display())
            }),
        }
    }

    async fn send_over_http(&self, request: Request<Full<Bytes>>) -> anyhow::Result<hyper::Response<Incoming>> {
        let address = self.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let at = SocketAddr::from((address, self.port.unwrap_or(DEFAULT_PORT)));
        let stream = TcpStream::connect(at).await.with_context(|| {
            format!("the controller at {at} cannot be asked. Remedy: systemctl status gha-runner-controller, or --port")
        })?;
        exchange(stream, request).await
    }
}

impl Answer {
    /// The body of a good answer; of another, what it says.
    fn checked(self, path: &str) -> anyhow::Result<Bytes> {
        if self.code.is_success() {
            return Ok(self.body);
        }
        match serde_json::from_slice::<ErrorAnswer>(&self.body) {
            Ok(problem) => bail!("{}", problem.error),
            Err(_) => bail!("{path} answered {}", self.code),
        }
    }
}

fn parse<T: DeserializeOwned>(path: &str, body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body).with_context(|| format!("the answer of {path} is of another version"))
}

fn is_not_for_us(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::ConnectionRefused)
}

async fn exchange(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<hyper::Response<Incoming>> {
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(client.send_request(request).await?)
}
