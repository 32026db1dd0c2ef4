//! A token and a session: what a runner needs before it listens.

use crate::{code, console, link, version};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use github_sim::{
    jit::{JitConfig, is_true},
    key::Algorithm,
};
use serde_json::json;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the assertion is good for.
const ASSERTION_LIFE: u64 = 300;

/// An open session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    broker: String,
    token: String,
    id: String,
}

/// Why there is none.
enum Refused {
    /// The runner ends so.
    End(u8),
    /// It is tried again.
    Again(String),
}

/// Tells a streak of connection errors from single ones, and says so once.
#[derive(Debug, Default)]
pub(crate) struct Streak(u32);

impl Streak {
    pub(crate) async fn failed(&mut self, error: &str) {
        if self.0 == 0 {
            console::stamped_error(&format!("Runner connect error: {error}. Retrying until reconnected."));
        }
        self.0 += 1;
        // The real one waits 15 seconds and more; tests have less patience.
        tokio::time::sleep(Duration::from_secs(u64::from(self.0.min(5)))).await;
    }

    pub(crate) fn went_well(&mut self) {
        if self.0 > 0 {
            console::stamped("Runner reconnected.");
        }
        self.0 = 0;
    }
}

impl Session {
    /// Opens it, however long that takes.
    ///
    /// # Errors
    /// The exit status of a runner that the server does not want.
    pub(crate) async fn open(config: &JitConfig) -> Result<Self, u8> {
        let mut streak = Streak::default();
        loop {
            match Self::try_open(config).await {
                Ok(session) => {
                    streak.went_well();
                    return Ok(session);
                }
                Err(Refused::End(code)) => return Err(code),
                Err(Refused::Again(error)) => streak.failed(&error).await,
            }
        }
    }

    async fn try_open(config: &JitConfig) -> Result<Self, Refused> {
        let token = token(config).await?;
        let broker = config.runner.server_url_v2.clone();
        let body = json!({
            "sessionId": "00000000-0000-0000-0000-000000000000",
            "ownerName": format!("{} (PID: {})", crate::machine(), std::process::id()),
            "agent": {
                "id": config.runner.agent_id,
                "name": config.runner.agent_name,
                "version": version(),
                "osDescription": "Linux",
            },
            "useFipsEncryption": false,
        });
        let answer = link::ask("POST", &format!("{broker}session"), &token, Some(&body)).await;
        let answer = answer.map_err(|error| Refused::Again(error.to_string()))?;
        match answer.status {
            200 => {
                let id = answer.body["sessionId"].as_str().unwrap_or_default().to_owned();
                Ok(Self { broker, token, id })
            }
            403 => {
                console::error("Failed to create session. Error: Forbidden");
                Err(Refused::End(code::TERMINATED))
            }
            409 => {
                // The real one says the first line every 30 seconds and the second after four minutes.
                console::error("A session for this runner already exists.");
                console::error("Stop retry on SessionConflictException after retried for 240 seconds.");
                console::error("Failed to create session. Error: Conflict");
                Err(Refused::End(code::SESSION_CONFLICT))
            }
            status => Err(Refused::Again(format!("Failed to create broker session: {status}"))),
        }
    }

    /// Asks the broker something of this session.
    async fn ask(&self, method: &str, what: &str, body: Option<&serde_json::Value>) -> io::Result<link::Answer> {
        let address = format!(
            "{}{what}&sessionId={}&runnerVersion={}&os=Linux&architecture=X64&disableUpdate=true",
            self.broker,
            self.id,
            version()
        );
        link::ask(method, &address, &self.token, body).await
    }

    /// Asks for a message.
    pub(crate) async fn message(&self, is_busy: bool) -> io::Result<link::Answer> {
        let status = if is_busy { "Busy" } else { "Online" };
        self.ask("GET", &format!("message?status={status}"), None).await
    }

    /// Says that it was heard that there is a job.
    pub(crate) async fn acknowledge(&self, id: &str) -> io::Result<link::Answer> {
        self.ask("POST", "acknowledge?status=Online", Some(&json!({ "runnerRequestId": id }))).await
    }

    /// Takes a job from the run service.
    pub(crate) async fn acquire(&self, run_service: &str, id: &str) -> io::Result<link::Answer> {
        let body = json!({ "jobMessageId": id, "runnerOS": "Linux" });
        link::ask("POST", &format!("{run_service}acquirejob"), &self.token, Some(&body)).await
    }

    /// Ends it. Errors are nobody's business.
    pub(crate) async fn close(&self) {
        let _ = link::ask("DELETE", &format!("{}session", self.broker), &self.token, None).await;
    }
}

/// Proves to the token service who this is.
async fn token(config: &JitConfig) -> Result<String, Refused> {
    let data = &config.credentials.data;
    let algorithm = match is_true(&data.require_fips_cryptography) {
        true => Algorithm::Ps256,
        false => Algorithm::Rs256,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!(
        "{}.{}",
        part(json!({ "alg": algorithm.name(), "typ": "JWT" })),
        part(json!({
            "sub": data.client_id,
            "iss": data.client_id,
            "aud": data.authorization_url,
            "jti": crate::pages::uuid(),
            "nbf": now,
            "exp": now + ASSERTION_LIFE,
        }))
    );
    let signature = config.rsa_params.sign(algorithm, signed.as_bytes()).map_err(|error| {
        console::error(&format!("An error occurred: {error}"));
        Refused::End(code::TERMINATED)
    })?;
    let assertion = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        .append_pair("client_assertion", &assertion)
        .finish();
    let answer = link::post_form(&data.authorization_url, form).await;
    let answer = answer.map_err(|error| Refused::Again(error.to_string()))?;
    if let Some(token) = answer.body["access_token"].as_str() {
        return Ok(token.to_owned());
    }
    let description = answer.body["error_description"].as_str().unwrap_or_default();
    if description.contains("Current server time is") {
        // The real one says the first line every 30 seconds and the others after half an hour.
        console::error(
            "The local machine's clock may be out of sync with the server time by more than five minutes. Please sync \
             your clock with your domain or internet time and try again.",
        );
        console::error("Stopped retrying OAuth token request exception after 1800 seconds.");
        console::error(&format!("Failed to create session. {description}"));
        return Err(Refused::End(code::TERMINATED));
    }
    if answer.body["error"] == "invalid_client" {
        console::error(
            "Failed to create a session. The runner registration has been deleted from the server, please re-configure. \
             Runner registrations are automatically deleted for runners that have not connected to the service recently.",
        );
        return Err(Refused::End(code::TERMINATED));
    }
    Err(Refused::Again(format!("the token service answered {}", answer.status)))
}
