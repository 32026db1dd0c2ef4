//! `X-Hub-Signature-256`: proof that a delivery was sent by somebody who knows the secret (docs/github.md#signature).

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// What the header's value starts with.
const SCHEME: &str = "sha256=";

/// The secret shared with the forge.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

/// A secret anybody could guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the webhook's secret is empty. Remedy: write the secret that the webhook was made with into its file")]
pub struct EmptySecret;

impl Secret {
    /// From the secret's bytes.
    pub fn new(secret: &[u8]) -> Result<Self, EmptySecret> {
        match Hmac::new_from_slice(secret) {
            Ok(key) if !secret.is_empty() => Ok(Self(key)),
            _ => Err(EmptySecret),
        }
    }

    /// Begins to judge a body.
    pub fn proof(&self) -> Proof {
        Proof(self.0.clone())
    }
}

/// What is known of a body's signature so far.
#[derive(Clone)]
pub struct Proof(Hmac<Sha256>);

impl Proof {
    /// With the next bytes of the body, as they came.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        Self(self.0.chain_update(bytes))
    }

    /// Whether `signature`, the header's value, is that of the whole body. Takes the same time however much of it is
    /// right.
    pub fn holds(self, signature: &str) -> bool {
        let digest = signature.strip_prefix(SCHEME).and_then(|digest| hex::decode(digest).ok());
        digest.is_some_and(|digest| self.0.verify_slice(&digest).is_ok())
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(…)")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn secret() -> Secret {
        Secret::new(b"It's a Secret to Everybody").unwrap()
    }

    fn signed(body: &[u8], signature: &str) -> bool {
        body.chunks(5).fold(secret().proof(), Proof::with).holds(signature)
    }

    #[test]
    fn githubs_own_example_is_right() {
        assert!(signed(b"Hello, World!", SIGNATURE));
    }

    #[test]
    fn everything_else_is_wrong() {
        for (body, signature) in [
            ("Hello, World?", SIGNATURE),
            ("Hello, World!", ""),
            ("Hello, World!", "sha256="),
            ("Hello, World!", "sha1=757107ea0eb2509fc211221cce984b8a37570b6d"),
            ("Hello, World!", &SIGNATURE[..SIGNATURE.len() - 2]),
            ("Hello, World!", &SIGNATURE["sha256=".len()..]),
            ("Hello, World!", &SIGNATURE.replace("7571", "75zz")),
            ("Hello, World!", &format!("{SIGNATURE}00")),
        ] {
            assert!(!signed(body.as_bytes(), signature), "{signature}");
        }
        assert!(!Secret::new(b"another").unwrap().proof().with(b"Hello, World!").holds(SIGNATURE));
    }

    #[test]
    fn a_secret_is_something_and_is_not_shown() {
        assert_eq!(Secret::new(b"").unwrap_err(), EmptySecret);
        assert!(!format!("{:?}", Secret::new(b"swordfish").unwrap()).contains("swordfish"));
    }

    proptest! {
        #[test]
        fn no_header_breaks_it(header in ".{0,100}") {
            prop_assert!(!signed(b"Hello, World?", &header));
        }
    }
}
