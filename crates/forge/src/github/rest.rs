//! One REST API root over the wire: which headers a call carries, and that its token goes nowhere else.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use settings::token_file::Token;
use url::Url;

use super::transport::Call;
use crate::wire::{Answer, CALL_TIMEOUT, NoAnswer, PRODUCT, Request, Wire};

/// The version of the API that is spoken.
const API_VERSION: &str = "2022-11-28";

/// The API at one root.
#[derive(Debug, Clone)]
pub struct Rest<W> {
    wire: W,
    /// Without a slash at its end.
    root: String,
}

impl<W: Wire> Rest<W> {
    /// The API at `api_url`.
    pub fn new(wire: W, api_url: &str) -> Self {
        Self { wire, root: api_url.trim_end_matches('/').to_owned() }
    }

    /// Exchanges one call for one answer, with this token. Never retries.
    pub(super) async fn exchange(&self, call: Call, bearer: &Token) -> Result<Answer, NoAnswer> {
        // A path cannot change the host before it, so that the token goes to the API root and nowhere else.
        let url = Some(&call.path).filter(|path| path.starts_with('/')).map(|path| format!("{}{path}", self.root));
        let url = url.and_then(|url| Url::parse(&url).ok().filter(Url::has_host));
        let url = url.ok_or_else(|| NoAnswer(format!("{}: no path below {}", call.path, self.root)))?;
        let no_header = |what: &str| NoAnswer(format!("the {what} has characters that no header may have"));
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {}", bearer.expose())).map_err(|_| no_header("token"))?;
        authorization.set_sensitive(true);
        let mut headers = HeaderMap::from_iter([
            (header::AUTHORIZATION, authorization),
            (header::ACCEPT, HeaderValue::from_static("application/vnd.github+json")),
            (header::USER_AGENT, HeaderValue::from_static(PRODUCT)),
        ]);
        headers.insert("x-github-api-version", HeaderValue::from_static(API_VERSION));
        if let Some(etag) = call.if_none_match {
            headers.insert(header::IF_NONE_MATCH, etag.parse().map_err(|_| no_header("ETag"))?);
        }
        if call.body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let body = call.body.map(|body| body.to_string().into_bytes());
        self.wire.send(Request { method: call.method, url, headers, body, timeout: CALL_TIMEOUT }).await
    }

    /// The wall clock, since the Unix epoch.
    pub(super) fn now(&self) -> Duration {
        self.wire.now()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::Https;

    /// Answers one request with 401 and gives what was asked.
    async fn asked(root: &str) -> (String, Answer) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rest = Rest::new(Https::new(None).unwrap(), &format!("http://{}{root}", listener.local_addr().unwrap()));
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
        let (request, answer) = tokio::join!(serve, rest.exchange(call, &token));
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

    #[tokio::test]
    async fn a_path_that_is_none_takes_the_token_nowhere() {
        let rest = Rest::new(Https::new(None).unwrap(), "http://127.0.0.1:9");
        for path in ["@elsewhere.example/", "0/", ""] {
            let error = rest.exchange(Call::get(path), &Token::new("sesame")).await.unwrap_err();
            assert!(error.0.contains("no path below http://127.0.0.1:9"), "{error}");
        }
    }
}
