//! One message to the simulator and its answer.

use github_sim::{
    http_client::{self, AnswerLimits},
    runner_protocol::{Answer, Message, PATH},
};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const LIMITS: AnswerLimits = AnswerLimits { time: Duration::from_secs(15), bytes: 4 * 1024 * 1024 };

#[derive(Debug, Clone)]
pub(crate) struct Link {
    authority: String,
    path: String,
}

impl Link {
    /// To the address in `.runner`.
    pub(crate) fn new(server: &str) -> io::Result<Self> {
        let uri: http::Uri = server.parse().map_err(io::Error::other)?;
        if uri.scheme_str() != Some("http") {
            return Err(io::Error::other(format!(
                "{server:?} is not an http address, and this stand-in speaks nothing else"
            )));
        }
        let authority = uri.authority().ok_or_else(|| io::Error::other("the server address has no host"))?;
        Ok(Self {
            authority: match authority.port() {
                Some(_) => authority.to_string(),
                None => format!("{authority}:80"),
            },
            path: format!("{}{PATH}", uri.path()),
        })
    }

    pub(crate) async fn send(&self, message: &Message) -> io::Result<Answer> {
        let body = serde_json::to_vec(message)?;
        let connect = TcpStream::connect(self.authority.as_str());
        let stream = tokio::time::timeout(CONNECT_LIMIT, connect)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let _ = stream.set_nodelay(true);
        let response = http_client::post(stream, &self.authority, &self.path, body, LIMITS).await?;
        serde_json::from_slice(response.body())
            .map_err(|_| io::Error::other(format!("the server answered {} and no message", response.status())))
    }
}
