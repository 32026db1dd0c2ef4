//! The real exchange: octocrab for raw calls, nothing else of it (PROTOCOLS A.9).
//!
//! Its retries (which repeat POSTs), redirect following and typed models are left out; its models break on real data.
//! So is its authentication: it renews a token seconds before it expires, by a clock of its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use http::{HeaderValue, Request, header};
use octocrab::Octocrab;
use settings::token_file::Token;

use super::transport::{Answer, CALL_TIMEOUT, Call, Exchange, NoAnswer};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The version of the API that is spoken.
const API_VERSION: &str = "2022-11-28";
/// What to do where the server has a certificate of an authority of one's own.
const UNKNOWN_ISSUER: &str = ". Remedy: add the authority that signed the server's certificate to those this host \
                              trusts, then restart the controller";

/// One API root.
#[derive(Debug, Clone)]
pub struct OctocrabExchange {
    client: Octocrab,
}

impl OctocrabExchange {
    /// A client for the API at `api_url`. Must be called inside a tokio runtime (octocrab spawns its buffer there).
    pub fn new(api_url: &str) -> anyhow::Result<Self> {
        let client = Octocrab::builder()
            .base_uri(api_url)
            .with_context(|| format!("{api_url} is not a URL"))?
            .set_connect_timeout(Some(CONNECT_TIMEOUT))
            .set_read_timeout(Some(CALL_TIMEOUT))
            .set_write_timeout(Some(CALL_TIMEOUT))
            .build()
            .context("the HTTP client cannot be built")?;
        Ok(Self { client })
    }

    async fn send(&self, call: Call, bearer: &Token) -> Result<Answer, NoAnswer> {
        let no_answer = |error: &dyn std::error::Error| NoAnswer(chain(error));
        // The path is relative, so that the token goes to the API root and nowhere else.
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", bearer.expose()))
            .map_err(|_| NoAnswer("the token has characters that no header may have".to_owned()))?;
        authorization.set_sensitive(true);
        let mut builder = Request::builder()
            .method(call.method)
            .uri(&call.path)
            .header(header::AUTHORIZATION, authorization)
            .header(header::ACCEPT, "application/vnd.github+json");
        if let Some(etag) = call.if_none_match {
            builder = builder.header(header::IF_NONE_MATCH, etag);
        }
        let mut request = self.client.build_request(builder, call.body.as_ref()).map_err(|error| no_answer(&error))?;
        // In place of octocrab's own: GitHub wants it once, and our models are of this version, whatever octocrab's are.
        request.headers_mut().insert("x-github-api-version", HeaderValue::from_static(API_VERSION));
        let response = self.client.execute(request).await.map_err(|error| no_answer(&error))?;
        Answer::read(response).await
    }
}

impl Exchange for OctocrabExchange {
    async fn exchange(&self, call: Call, bearer: &Token) -> Result<Answer, NoAnswer> {
        tokio::time::timeout(CALL_TIMEOUT, self.send(call, bearer))
            .await
            .unwrap_or_else(|_| Err(NoAnswer(format!("no answer within {} s", CALL_TIMEOUT.as_secs()))))
    }

    fn now(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Answers one request with 401 and gives what was asked.
    async fn asked(root: &str) -> (String, Answer) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let exchange = OctocrabExchange::new(&format!("http://{}{root}", listener.local_addr().unwrap())).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let answer = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            stream.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&request[..length]).to_ascii_lowercase()
        };
        let call = Call::get("/repos/acme/api/actions/runs?per_page=100");
        let token = Token::new("sesame");
        let (request, answer) = tokio::join!(serve, exchange.exchange(call, &token));
        (request, answer.unwrap())
    }

    #[tokio::test]
    async fn every_call_names_the_version_of_the_api_once() {
        let (request, _) = asked("").await;
        let named: Vec<&str> = request.lines().filter(|line| line.starts_with("x-github-api-version:")).collect();
        assert_eq!(named, ["x-github-api-version: 2022-11-28"], "{request}");
    }

    #[tokio::test]
    async fn the_token_goes_with_every_call_wherever_the_api_root_is() {
        for root in ["", "/api/v3"] {
            let (request, answer) = asked(root).await;
            assert!(request.starts_with(&format!("get {root}/repos/acme/api/actions/runs?per_page=100 http/1.1")));
            assert!(request.contains("authorization: bearer sesame\r\n"), "{request}");
            assert!(request.contains("user-agent: "), "{request}");
            assert_eq!(answer.status, 401);
        }
    }
}
