//! From a GitHub credential to the Actions service: which scope, which API root, and the admin connection
//! (docs/github.md#connecting-to-the-actions-service).

use std::time::Duration;

use base64::{Engine, alphabet, engine::GeneralPurposeConfig, engine::general_purpose::GeneralPurpose};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;
use url::Url;

use super::{
    models::{Registration, RegistrationToken, read},
    pace,
    service::{exchange, refused},
};
use crate::{
    ErrorKind, ForgeError,
    github::{
        refusal,
        transport::{Call, Transport},
    },
    wire::{CALL_TIMEOUT, Request, Wire},
};

/// Tries of the registration; a fresh token takes a moment to be known everywhere.
const TRIES: u32 = 5;
/// Life assumed of a token that does not say.
const UNKNOWN_LIFE: Duration = Duration::from_secs(300);

/// Whose runners a scale set has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// One repository: owner and name.
    Repository(String, String),
    /// An organisation.
    Organization(String),
    /// An enterprise.
    Enterprise(String),
}

impl Scope {
    /// The scope a configuration URL stands for, e.g. `https://github.com/owner/repository`; `None` if for none.
    pub fn of(config_url: &str) -> Option<Self> {
        let url = Url::parse(config_url.trim_matches('/')).ok().filter(Url::has_host)?;
        match url.path().trim_matches('/').split('/').collect::<Vec<_>>()[..] {
            [organization] if !organization.is_empty() => Some(Self::Organization(organization.to_owned())),
            [kind, name] if kind.eq_ignore_ascii_case("enterprises") => Some(Self::Enterprise(name.to_owned())),
            [owner, name] if !owner.is_empty() => Some(Self::Repository(owner.to_owned(), name.to_owned())),
            _ => None,
        }
    }

    /// The configuration URL of this scope on the server whose API root is `api_url`; the inverse of [`Scope::of`]
    /// and [`api_root`]. `None` if `api_url` is not a URL.
    pub fn config_url(&self, api_url: &str) -> Option<String> {
        let mut url = Url::parse(api_url).ok().filter(Url::has_host)?;
        let host = url.host_str()?;
        if let Some(host) = host.strip_prefix("api.").filter(|host| hosted(host)).map(str::to_owned) {
            url.set_host(Some(&host)).ok()?;
        }
        url.set_path(&match self {
            Self::Repository(owner, name) => format!("/{owner}/{name}"),
            Self::Organization(name) => format!("/{name}"),
            Self::Enterprise(name) => format!("/enterprises/{name}"),
        });
        Some(url.into())
    }

    /// Path of the scope below the API root.
    fn path(&self) -> String {
        match self {
            Self::Repository(owner, name) => format!("/repos/{owner}/{name}"),
            Self::Organization(name) => format!("/orgs/{name}"),
            Self::Enterprise(name) => format!("/enterprises/{name}"),
        }
    }
}

/// GitHub's own servers, whose API has a host of its own.
fn hosted(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    matches!(host.as_str(), "github.com" | "www.github.com" | "github.localhost") || host.ends_with(".ghe.com")
}

/// The API root of the server that a configuration URL is on, without a slash at its end; `None` if it is not a URL.
pub fn api_root(config_url: &str) -> Option<String> {
    let mut url = Url::parse(config_url).ok().filter(Url::has_host)?;
    let host = url.host_str()?.to_owned();
    if hosted(&host) {
        let host = host.strip_prefix("www.").unwrap_or(&host);
        url.set_host(Some(&format!("api.{host}"))).ok()?;
        url.set_path("");
    } else {
        url.set_path("/api/v3");
    }
    url.set_query(None);
    Some(String::from(url).trim_end_matches('/').to_owned())
}

/// Where the Actions service is, and what opens it. `Debug` does not show the token.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    /// Base of its paths.
    pub url: Url,
    /// The `Authorization` header.
    pub bearer: HeaderValue,
    /// End of the token's life, since the Unix epoch.
    pub expires_at: Duration,
}

/// The admin connection: a registration token by REST, turned into an Actions service URL and token.
pub(super) async fn connect<T: Transport, W: Wire>(
    transport: &T,
    wire: &W,
    (api_url, config_url, scope): (&str, &str, &Scope),
    user_agent: HeaderValue,
) -> Result<Connection, ForgeError> {
    let path = format!("{}/actions/runners/registration-token", scope.path());
    let shown = format!("POST {path}");
    let call = Call { method: Method::POST, path, if_none_match: None, body: None };
    let answer = transport.send(call).await.map_err(|error| unavailable(&shown, &error.to_string()))?;
    if answer.status != StatusCode::CREATED && answer.status != StatusCode::OK {
        return Err(with_remedy(refusal(&shown, &answer, transport.now()), scope));
    }
    let token: RegistrationToken = read(&answer.body).map_err(|error| unavailable(&shown, &error))?;

    let shown = "POST /actions/runner-registration";
    let url = Url::parse(&format!("{}/actions/runner-registration", api_url.trim_end_matches('/')))
        .map_err(|error| ForgeError::new(ErrorKind::Refused, format!("{api_url} is not a URL: {error}")))?;
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, secret(shown, "RemoteAuth", &token.token)?);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, user_agent);
    let body = json!({"url": config_url, "runner_event": "register"}).to_string().into_bytes();
    let secure = url.scheme() == "https";
    let request = Request { method: Method::POST, url, headers, body: Some(body), timeout: CALL_TIMEOUT };

    let mut tries = 1;
    let answer = loop {
        // A fresh registration token may be refused for a moment.
        let failure = match exchange(wire, shown, request.clone()).await {
            Ok(answer) if answer.status.is_success() => break answer,
            Ok(answer) => refused(shown, &answer, wire.now()),
            Err(error) => error,
        };
        let again = matches!(failure.kind, ErrorKind::Unavailable | ErrorKind::Unauthorized | ErrorKind::Forbidden);
        if !again || tries >= TRIES {
            return Err(failure);
        }
        sleep(pace::registration(tries, wire.random())).await;
        tries += 1;
    };
    let registration: Registration = read(&answer.body).map_err(|error| unavailable(shown, &error))?;
    let url = Url::parse(&registration.url)
        .ok()
        .filter(|url| safe(url, secure))
        .ok_or_else(|| unavailable(shown, "the answer names no usable Actions service URL"))?;
    Ok(Connection {
        url,
        bearer: secret(shown, "Bearer", &registration.token)?,
        expires_at: expiry(&registration.token).unwrap_or(wire.now() + UNKNOWN_LIFE),
    })
}

/// A URL that an answer told us: one that a token may go to. Nobody talks us down from TLS.
pub(super) fn safe(url: &Url, secure: bool) -> bool {
    url.has_host() && (url.scheme() == "https" || (url.scheme() == "http" && !secure))
}

/// An `Authorization` header that `Debug` does not show.
pub(super) fn secret(shown: &str, scheme: &str, token: &str) -> Result<HeaderValue, ForgeError> {
    let mut value = HeaderValue::from_str(&format!("{scheme} {token}"))
        .map_err(|_| unavailable(shown, "the answer holds a token that no header can carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn unavailable(shown: &str, why: &str) -> ForgeError {
    ForgeError::new(ErrorKind::Unavailable, format!("{shown}: {why}"))
}

fn with_remedy(error: ForgeError, scope: &Scope) -> ForgeError {
    let permission = match scope {
        Scope::Repository(..) => "a token with administration:write of the repository (classic: repo)",
        Scope::Organization(_) => "a token with self-hosted runners:write of the organisation (classic: admin:org)",
        Scope::Enterprise(_) => {
            "a classic token with manage_runners:enterprise; a GitHub App is reported not to work for an enterprise"
        }
    };
    match error.kind {
        ErrorKind::Unauthorized | ErrorKind::Forbidden | ErrorKind::NotFound => {
            ForgeError::new(error.kind, format!("{}. Remedy: {permission}", error.message))
        }
        _ => error,
    }
}

/// `exp` of a JWT, since the Unix epoch, not verified: it is for us to plan by, not to trust anybody by.
fn expiry(token: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let engine = GeneralPurpose::new(
        &alphabet::URL_SAFE,
        GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );
    let claims = engine.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Duration::try_from_secs_f64(claims.exp).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_configuration_url_names_its_scope() {
        let repository = Scope::Repository("o".into(), "r".into());
        assert_eq!(Scope::of("https://github.com/o/r"), Some(repository.clone()));
        assert_eq!(Scope::of("https://github.com/o/r/"), Some(repository));
        assert_eq!(Scope::of("https://github.com/o"), Some(Scope::Organization("o".into())));
        assert_eq!(Scope::of("https://ghe.example/enterprises/e"), Some(Scope::Enterprise("e".into())));
        for wrong in ["https://github.com", "https://github.com/", "https://github.com/a/b/c", "o/r", "", "file:///o/r"]
        {
            assert_eq!(Scope::of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_api_root_follows_from_the_host_and_back() {
        for (config_url, root) in [
            ("https://github.com/o/r", "https://api.github.com"),
            ("https://acme.ghe.com/o", "https://api.acme.ghe.com"),
            ("http://github.localhost/o/r", "http://api.github.localhost"),
            ("https://ghe.example/enterprises/e", "https://ghe.example/api/v3"),
            ("http://127.0.0.1:8080/o/r", "http://127.0.0.1:8080/api/v3"),
        ] {
            assert_eq!(api_root(config_url).unwrap(), root);
            assert_eq!(Scope::of(config_url).unwrap().config_url(root).unwrap(), config_url);
        }
        assert_eq!(api_root("https://www.github.com/o").unwrap(), "https://api.github.com");
        assert_eq!(api_root("nonsense"), None);
    }

    #[test]
    fn the_end_of_a_token_is_read_from_it() {
        assert_eq!(expiry("e30.eyJleHAiOjE3OTM1NzcwMDB9.s"), Some(Duration::from_secs(1_793_577_000)));
        for wrong in ["", "a.b.c", "opaque", "e30.e30.s", "e30.eyJleHAiOi0xfQ.s"] {
            assert_eq!(expiry(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nobody_talks_a_token_down_from_tls() {
        let url = |text: &str| Url::parse(text).unwrap();
        assert!(safe(&url("https://a.example/x"), true));
        assert!(!safe(&url("http://a.example/x"), true));
        assert!(safe(&url("http://127.0.0.1:1/x"), false));
        assert!(!safe(&url("file:///x"), false));
    }
}
