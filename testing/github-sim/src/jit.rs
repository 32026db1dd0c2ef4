//! The blob that `generate-jitconfig` hands out: three files of the runner, packed into one string.
//!
//! The simulator packs, the runner stand-in unpacks, and both use these types, so that a blob mangled on its way
//! through controller, disk and container is noticed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// Name of the settings file.
pub const RUNNER: &str = ".runner";
/// Name of the credentials file.
pub const CREDENTIALS: &str = ".credentials";
/// Name of the private key file.
pub const RSA_PARAMS: &str = ".credentials_rsaparams";

/// Larger than any blob GitHub makes (about 4 KiB) by far.
const MAX_BLOB: usize = 64 * 1024;

/// Content of `.runner`: every value is a text, as github.com writes it (docs/github.md#contents-of-a-jit-configuration).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunnerFile {
    /// Id of the runner record.
    pub agent_id: String,
    /// Name of the runner record.
    pub agent_name: String,
    /// Whether the runner refuses to update itself: `True` or `False`. Whoever unpacks the file may have set it anew.
    #[serde(default, deserialize_with = "text_or_bool")]
    pub disable_update: String,
    /// Whether the runner ends after one job: `True` or `False`.
    pub ephemeral: String,
    /// The page of the scope at GitHub.
    pub git_hub_url: String,
    /// Id of the runner group.
    pub pool_id: String,
    /// Name of the runner group.
    pub pool_name: String,
    /// Older service address. The same as the broker's spares a runner the older service.
    pub server_url: String,
    /// Address of the message broker, with a trailing slash.
    pub server_url_v2: String,
    /// Whether the message broker is used: `true` or `false`, in small letters.
    pub use_v2_flow: String,
    /// Where jobs work, relative to the root.
    pub work_folder: String,
}

/// Whether a text says yes, as the runner reads it.
#[must_use]
pub fn is_true(text: &str) -> bool {
    text.eq_ignore_ascii_case("true")
}

fn text_or_bool<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Bool(bool),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Text(text) => text,
        Either::Bool(true) => "True".to_owned(),
        Either::Bool(false) => "False".to_owned(),
    })
}

/// Content of `.credentials`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CredentialsFile {
    /// Always `OAuth`.
    pub scheme: String,
    /// Who the runner is and where it gets its tokens.
    pub data: CredentialsData,
}

/// The inner part of `.credentials`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CredentialsData {
    /// Identity of the runner towards the token service.
    pub client_id: String,
    /// Address of the token service.
    pub authorization_url: String,
    /// GitHub writes this one as text.
    #[serde(default)]
    pub require_fips_cryptography: String,
}

/// Content of `.credentials_rsaparams`: an RSA private key, each part in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names of the RSA parameters say it")]
pub struct RsaParamsFile {
    pub d: String,
    pub dp: String,
    pub dq: String,
    pub exponent: String,
    pub inverse_q: String,
    pub modulus: String,
    pub p: String,
    pub q: String,
}

/// All three files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JitConfig {
    /// `.runner`
    pub runner: RunnerFile,
    /// `.credentials`
    pub credentials: CredentialsFile,
    /// `.credentials_rsaparams`
    pub rsa_params: RsaParamsFile,
}

/// Why a blob or its files were refused.
#[derive(Debug, Error)]
pub enum JitError {
    /// Longer than any real one.
    #[error("the configuration has {0} bytes, more than any real one")]
    TooLong(usize),
    /// Outer or inner base64 is damaged.
    #[error("{0} is not valid base64: {1}")]
    Base64(String, base64::DecodeError),
    /// JSON is damaged or lacks a field.
    #[error("{0} is not what a runner expects: {1}")]
    Json(String, serde_json::Error),
    /// One of the three is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// There is something else in it.
    #[error("unexpected entry {0:?}")]
    Unexpected(String),
    /// The parts do not make a usable configuration.
    #[error("{0}")]
    Unusable(&'static str),
}

/// The three files as they lie on disk, still as bytes.
pub type Files = BTreeMap<&'static str, Vec<u8>>;

impl JitConfig {
    /// Packs the three files.
    ///
    /// # Errors
    /// Only if a value could not be written as JSON.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        let pack = |bytes: Vec<u8>| STANDARD.encode(bytes);
        let outer: BTreeMap<&str, String> = BTreeMap::from([
            (RUNNER, pack(serde_json::to_vec(&self.runner)?)),
            (CREDENTIALS, pack(serde_json::to_vec(&self.credentials)?)),
            (RSA_PARAMS, pack(serde_json::to_vec(&self.rsa_params)?)),
        ]);
        Ok(STANDARD.encode(serde_json::to_vec(&outer)?))
    }

    /// Unpacks and checks a blob.
    ///
    /// # Errors
    /// If anything is missing, damaged or too much.
    pub fn decode(blob: &str) -> Result<Self, JitError> {
        Self::from_files(&unpack(blob)?)
    }

    /// Reads the three files after they were unpacked by someone.
    ///
    /// # Errors
    /// If one is missing or does not hold what the runner needs.
    pub fn from_files(files: &Files) -> Result<Self, JitError> {
        fn read<T: serde::de::DeserializeOwned>(files: &Files, name: &'static str) -> Result<T, JitError> {
            let bytes = files.get(name).ok_or(JitError::Missing(name))?;
            // The runner's own reader skips a byte order mark, so a file written with one is fine.
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            serde_json::from_slice(bytes).map_err(|error| JitError::Json(name.to_owned(), error))
        }
        let config = Self {
            runner: read(files, RUNNER)?,
            credentials: read(files, CREDENTIALS)?,
            rsa_params: read(files, RSA_PARAMS)?,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), JitError> {
        if self.credentials.scheme != "OAuth" {
            return Err(JitError::Unusable("the credential scheme is not OAuth"));
        }
        if !self.runner.server_url_v2.ends_with('/') {
            // The real runner resolves relative addresses against it and would lose its last part.
            return Err(JitError::Unusable("ServerUrlV2 does not end in a slash"));
        }
        if self.runner.agent_name.is_empty() || self.credentials.data.client_id.is_empty() {
            return Err(JitError::Unusable("the runner has no name or no client id"));
        }
        if !is_true(&self.runner.use_v2_flow) {
            return Err(JitError::Unusable("UseV2Flow is not true, and this runner knows nothing older"));
        }
        self.rsa_params.check()
    }
}

/// Undoes the two layers of base64 and gives the bytes of exactly the three files.
///
/// # Errors
/// If the blob is damaged, lacks a file or holds another one.
pub fn unpack(blob: &str) -> Result<Files, JitError> {
    if blob.len() > MAX_BLOB {
        return Err(JitError::TooLong(blob.len()));
    }
    let outer = STANDARD
        .decode(blob.trim_end_matches(['\n', '\r']))
        .map_err(|error| JitError::Base64("the configuration".to_owned(), error))?;
    let outer: BTreeMap<String, String> =
        serde_json::from_slice(&outer).map_err(|error| JitError::Json("the configuration".to_owned(), error))?;
    let names = [RUNNER, CREDENTIALS, RSA_PARAMS];
    if let Some(extra) = outer.keys().find(|key| !names.contains(&key.as_str())) {
        return Err(JitError::Unexpected(extra.clone()));
    }
    names
        .into_iter()
        .map(|name| {
            let packed = outer.get(name).ok_or(JitError::Missing(name))?;
            let bytes = STANDARD.decode(packed).map_err(|error| JitError::Base64(name.to_owned(), error))?;
            Ok((name, bytes))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config() -> JitConfig {
        JitConfig {
            runner: RunnerFile {
                agent_id: "23".to_owned(),
                agent_name: "host1-nix-01jc".to_owned(),
                disable_update: "True".to_owned(),
                ephemeral: "True".to_owned(),
                git_hub_url: "https://github.com/o/r".to_owned(),
                pool_id: "1".to_owned(),
                pool_name: "Default".to_owned(),
                server_url: "http://sim/".to_owned(),
                server_url_v2: "http://sim/".to_owned(),
                use_v2_flow: "true".to_owned(),
                work_folder: "_work".to_owned(),
            },
            credentials: CredentialsFile {
                scheme: "OAuth".to_owned(),
                data: CredentialsData {
                    client_id: "c".to_owned(),
                    authorization_url: "http://sim/token".to_owned(),
                    require_fips_cryptography: "False".to_owned(),
                },
            },
            rsa_params: RsaParamsFile::of_the_simulator(),
        }
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let blob = config().encode().unwrap();
        assert_eq!(JitConfig::decode(&blob).unwrap(), config());
    }

    #[test]
    fn the_names_inside_are_those_of_the_runner() {
        let files = unpack(&config().encode().unwrap()).unwrap();
        let runner: serde_json::Value = serde_json::from_slice(&files[RUNNER]).unwrap();
        for key in ["AgentId", "AgentName", "PoolId", "WorkFolder", "UseV2Flow", "ServerUrlV2", "GitHubUrl"] {
            assert!(runner[key].is_string(), "{key}");
        }
        let rsa: serde_json::Value = serde_json::from_slice(&files[RSA_PARAMS]).unwrap();
        assert!(rsa.get("inverseQ").is_some());
        let credentials: serde_json::Value = serde_json::from_slice(&files[CREDENTIALS]).unwrap();
        assert!(credentials["Data"]["ClientId"].is_string());
    }

    #[test]
    fn a_key_that_is_none_is_refused_and_what_an_unpacker_wrote_anew_is_read() {
        let mut damaged = config();
        damaged.rsa_params.p = damaged.rsa_params.q.clone();
        assert!(matches!(JitConfig::decode(&damaged.encode().unwrap()), Err(JitError::Unusable(_))));
        let mut files = unpack(&config().encode().unwrap()).unwrap();
        let mut runner: serde_json::Value = serde_json::from_slice(&files[RUNNER]).unwrap();
        runner["DisableUpdate"] = true.into();
        files.insert(RUNNER, runner.to_string().into_bytes());
        assert_eq!(JitConfig::from_files(&files).unwrap(), config());
    }

    #[test]
    fn damage_is_refused() {
        let blob = config().encode().unwrap();
        assert!(matches!(unpack(&blob[..blob.len() - 3]), Err(JitError::Base64(..))));
        let two = STANDARD.encode(r#"{".runner":"e30=",".credentials":"e30="}"#);
        assert!(matches!(unpack(&two), Err(JitError::Missing(RSA_PARAMS))));
        let four = STANDARD.encode(r#"{".runner":"",".credentials":"",".credentials_rsaparams":"","x":""}"#);
        assert!(matches!(unpack(&four), Err(JitError::Unexpected(_))));
        let empty = STANDARD.encode(r#"{".runner":"e30=",".credentials":"e30=",".credentials_rsaparams":"e30="}"#);
        assert!(matches!(JitConfig::decode(&empty), Err(JitError::Json(..))));
        let mut slashless = config();
        slashless.runner.server_url_v2 = "http://sim".to_owned();
        assert!(JitConfig::decode(&slashless.encode().unwrap()).is_err());
    }
}
