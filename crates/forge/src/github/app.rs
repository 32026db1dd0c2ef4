//! Tokens of a GitHub App's installation: found, minted, renewed ahead of time (docs/github.md#github-app-tokens).

use std::{cell::RefCell, fmt, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{Method, StatusCode};
use ring::{error::KeyRejected, rand::SystemRandom, rsa, signature::RSA_PKCS1_SHA256};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde::Deserialize;
use serde_json::json;
use settings::token_file::Token;
use tokio::sync::Mutex;
use tracing::warn;

use crate::answer::said;

use super::{
    rest::Rest,
    transport::{Answer, Call, NoAnswer},
};
use crate::{timestamp::Timestamp, wire::Wire};

/// A token is renewed this long before it expires.
const RENEW_BEFORE: Duration = Duration::from_secs(600);
/// What a token is taken to live at least and at most, whatever our clock makes of its end: GitHub gives an hour.
const LIFE: (Duration, Duration) = (Duration::from_secs(1200), Duration::from_secs(3600));
/// Pause after a renewal that failed, and between two replacements of a token that was refused.
const PAUSE: Duration = Duration::from_secs(60);
/// Claims of the App's own token: issued this long ago, since clocks differ, and good for so long from now.
const ISSUED_AGO: u64 = 60;
const GOOD_FOR: u64 = 540;

/// A GitHub App, able to sign as itself.
#[derive(Clone)]
pub struct App {
    id: u64,
    key: Arc<rsa::KeyPair>,
}

/// What is wrong with a private key; says nothing of its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// It is no private key in PEM.
    #[error("it is not a private key in PEM")]
    Pem,
    /// It cannot sign.
    #[error("it is no RSA key of 2048 to 4096 bits: {0}")]
    Rejected(String),
}

impl From<KeyRejected> for BadKey {
    fn from(error: KeyRejected) -> Self {
        Self::Rejected(error.to_string())
    }
}

impl App {
    /// The App with this id and private key.
    ///
    /// # Errors
    /// If the key is no RSA private key in PEM that can sign.
    pub fn new(id: u64, private_key: &Token) -> Result<Self, BadKey> {
        let key = PrivateKeyDer::from_pem_slice(private_key.expose().as_bytes()).map_err(|_| BadKey::Pem)?;
        let key = match &key {
            // GitHub's own files.
            PrivateKeyDer::Pkcs1(der) => rsa::KeyPair::from_der(der.secret_pkcs1_der())?,
            PrivateKeyDer::Pkcs8(der) => rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der())?,
            _ => return Err(BadKey::Pem),
        };
        Ok(Self { id, key: Arc::new(key) })
    }

    /// A token that says it is the App: a JSON Web Token by RS256 (RFC 7519, RFC 7515), the one kind GitHub takes.
    fn sign(&self, now: Duration) -> Result<Token, NoAnswer> {
        let now = now.as_secs();
        let claims =
            json!({ "iat": now.saturating_sub(ISSUED_AGO), "exp": now + GOOD_FOR, "iss": self.id.to_string() });
        let part = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&json!({ "typ": "JWT", "alg": "RS256" })), part(&claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|error| NoAnswer(format!("cannot sign as GitHub App {}: {error}", self.id)))?;
        Ok(Token::new(format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))))
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Where the App is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installation {
    /// Its id is known.
    Id(u64),
    /// It is looked up: paths such as `/orgs/acme/installation`, of which the first that answers is believed.
    Lookup(Vec<String>),
}

/// The tokens of one installation.
#[derive(Debug)]
pub(super) struct AppTokens {
    app: RefCell<App>,
    installation: Installation,
    /// Held while a token is minted, so that there are never two at once.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    installation_id: Option<u64>,
    current: Option<Current>,
    /// No renewal ahead of time is tried before.
    pause_until: Duration,
    /// When a token was last replaced because it was refused.
    replaced_at: Option<Duration>,
}

#[derive(Debug, Clone)]
struct Current {
    token: Token,
    minted_at: Duration,
    life: Duration,
}

impl Current {
    /// What is left of its life. Nothing if the clock went back behind its birth.
    fn left(&self, now: Duration) -> Duration {
        now.checked_sub(self.minted_at).map_or(Duration::ZERO, |age| self.life.saturating_sub(age))
    }
}

/// A token, or what to answer the call with that needed it.
pub(super) type Obtained = Result<Token, Result<Answer, NoAnswer>>;

#[derive(Deserialize)]
struct InstallationModel {
    id: u64,
}

#[derive(Deserialize)]
struct TokenModel {
    token: String,
    #[serde(default)]
    expires_at: Timestamp,
}

impl AppTokens {
    pub fn new(app: App, installation: Installation) -> Self {
        Self { app: RefCell::new(app), installation, state: Mutex::default() }
    }

    /// Signs with this private key from now on; false = it cannot.
    pub fn sign_with(&self, private_key: &Token) -> bool {
        let app = App::new(self.id(), private_key);
        match app {
            Ok(app) => drop(self.app.replace(app)),
            Err(error) => {
                warn!(%error, "the renewed private key of the GitHub App cannot be used; the one before is");
                return false;
            }
        }
        true
    }

    /// A token that is good for minutes; another one than `refused`, if there is such.
    pub async fn token<W: Wire>(&self, rest: &Rest<W>, refused: Option<&Token>) -> Obtained {
        let mut state = self.state.lock().await;
        let now = rest.now();
        if let Some(current) = state.current.clone() {
            let (left, is_refused) = (current.left(now), refused == Some(&current.token));
            let just_replaced = state.replaced_at.is_some_and(|at| now.saturating_sub(at) < PAUSE);
            let renewal_due = left < RENEW_BEFORE && now >= state.pause_until;
            if !left.is_zero() && ((is_refused && just_replaced) || (!is_refused && !renewal_due)) {
                return Ok(current.token);
            }
            if is_refused {
                state.replaced_at = Some(now);
            }
            match self.mint(rest, &mut state).await {
                Err(_) if !is_refused && !left.is_zero() => {
                    state.pause_until = now + PAUSE;
                    Ok(current.token)
                }
                obtained => obtained,
            }
        } else {
            self.mint(rest, &mut state).await
        }
    }

    fn id(&self) -> u64 {
        self.app.borrow().id
    }

    async fn mint<W: Wire>(&self, rest: &Rest<W>, state: &mut State) -> Obtained {
        let jwt = self.app.borrow().sign(rest.now()).map_err(Err)?;
        let id = match (&self.installation, state.installation_id) {
            (Installation::Id(id), _) => *id,
            (_, Some(id)) => id,
            (Installation::Lookup(paths), None) => self.find(rest, paths, &jwt).await?,
        };
        state.installation_id = Some(id);
        let path = format!("/app/installations/{id}/access_tokens");
        let call = Call { method: Method::POST, path: path.clone(), if_none_match: None, body: None };
        let answer = rest.exchange(call, &jwt).await.map_err(Err)?;
        if answer.status != StatusCode::CREATED && answer.status != StatusCode::OK {
            // Installed anew, it has another id.
            state.installation_id = None;
            return Err(self.refused(&format!("POST {path}"), answer));
        }
        let minted: TokenModel = serde_json::from_slice(&answer.body)
            .map_err(|error| Err(NoAnswer(format!("{path}: answer not understood: {error}"))))?;
        let now = rest.now();
        let life = minted.expires_at.0.map_or(LIFE.1, |end| end.saturating_sub(now)).clamp(LIFE.0, LIFE.1);
        let token = Token::new(minted.token);
        state.current = Some(Current { token: token.clone(), minted_at: now, life });
        Ok(token)
    }

    async fn find<W: Wire>(
        &self,
        rest: &Rest<W>,
        paths: &[String],
        jwt: &Token,
    ) -> Result<u64, Result<Answer, NoAnswer>> {
        for path in paths {
            let call = Call { method: Method::GET, path: path.clone(), if_none_match: None, body: None };
            let answer = rest.exchange(call, jwt).await.map_err(Err)?;
            match answer.status {
                StatusCode::OK => {
                    let found: InstallationModel = serde_json::from_slice(&answer.body)
                        .map_err(|error| Err(NoAnswer(format!("{path}: answer not understood: {error}"))))?;
                    return Ok(found.id);
                }
                StatusCode::NOT_FOUND => {}
                _ => return Err(self.refused(&format!("GET {path}"), answer)),
            }
        }
        let message = format!(
            "GitHub App {} is not installed there ({}). Remedy: install it, or correct app_id",
            self.id(),
            paths.join(", ")
        );
        Err(Ok(Answer::made_up(StatusCode::UNAUTHORIZED, &message)))
    }

    /// What the call that needed a token is answered with: never with a status that would mean something else there.
    fn refused(&self, shown: &str, answer: Answer) -> Result<Answer, NoAnswer> {
        let said = said(&answer);
        let message = format!("no token for GitHub App {}: {shown}: {}: {said}", self.id(), answer.status);
        match answer.status {
            StatusCode::TOO_MANY_REQUESTS => Ok(answer),
            StatusCode::FORBIDDEN if answer.headers.contains_key("retry-after") => Ok(answer),
            StatusCode::FORBIDDEN if said.to_ascii_lowercase().contains("rate limit") => Ok(answer),
            status if status.is_client_error() => Ok(Answer::made_up(StatusCode::UNAUTHORIZED, &message)),
            _ => Err(NoAnswer(message)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    const KEY: &str = include_str!("tests/app-key.pem");

    #[test]
    fn the_apps_own_token_is_signed_by_its_key_and_allows_for_clocks_that_differ() {
        let app = App::new(7, &Token::new(KEY)).unwrap();
        let token = app.sign(Duration::from_secs(1_000_000)).unwrap();
        let (text, signature) = token.expose().rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, app.key.public());
        public.verify(text.as_bytes(), &signature).unwrap();
        let parts: Vec<serde_json::Value> = text
            .split('.')
            .map(|part| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
            .collect();
        assert_eq!(parts[0], json!({ "alg": "RS256", "typ": "JWT" }));
        assert_eq!(parts[1], json!({ "iat": 1_000_000 - 60, "exp": 1_000_000 + 540, "iss": "7" }));
    }

    #[test]
    fn a_file_that_is_no_rsa_key_is_refused_without_its_text() {
        for text in ["", "sesame", "-----BEGIN PRIVATE KEY-----\nc2VzYW1l\n-----END PRIVATE KEY-----"] {
            let error = App::new(7, &Token::new(text)).unwrap_err().to_string();
            assert!(
                error.starts_with("it is no") && !error.contains("c2VzYW1l") && !error.contains("sesame"),
                "{error}"
            );
        }
    }
}
