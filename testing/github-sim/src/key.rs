//! The key in runners' configurations: a real one of 2048 bits, the same for every runner of every simulator.
//!
//! GitHub makes one for each runner. Here the token service tells runners apart by their client id, so that a world
//! stays as fast as it is and the same for the same seed. The key opens nothing but simulators.

use crate::jit::{JitError, RsaParamsFile};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{
    rand::SystemRandom,
    rsa::{KeyPairComponents, PublicKeyComponents},
    signature::{
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};

/// How a runner signs what it says to the token service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Where `RequireFipsCryptography` is true.
    Ps256,
    /// Elsewhere.
    Rs256,
}

impl Algorithm {
    /// As the header of a JWT has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ps256 => "PS256",
            Self::Rs256 => "RS256",
        }
    }

    /// By that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Ps256, Self::Rs256].into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl RsaParamsFile {
    /// The simulator's.
    #[must_use]
    pub fn of_the_simulator() -> Self {
        // A file of this tree, and a test reads it.
        serde_json::from_str(include_str!("key.json")).unwrap_or_else(|_| unreachable!("key.json is a key"))
    }

    fn pair(&self) -> Result<RsaKeyPair, JitError> {
        let part = |name: &str, text: &str| {
            STANDARD.decode(text).map_err(|error| JitError::Base64(format!("RSA {name}"), error))
        };
        let components = KeyPairComponents {
            public_key: PublicKeyComponents {
                n: part("modulus", &self.modulus)?,
                e: part("exponent", &self.exponent)?,
            },
            d: part("d", &self.d)?,
            p: part("p", &self.p)?,
            q: part("q", &self.q)?,
            dP: part("dp", &self.dp)?,
            dQ: part("dq", &self.dq)?,
            qInv: part("inverseQ", &self.inverse_q)?,
        };
        RsaKeyPair::from_components(&components).map_err(|_| JitError::Unusable("the RSA key is none"))
    }

    /// That it is a key.
    pub(crate) fn check(&self) -> Result<(), JitError> {
        self.pair().map(drop)
    }

    /// A signature of `message`.
    ///
    /// # Errors
    /// If this is no key.
    pub fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, JitError> {
        let pair = self.pair()?;
        let mut signature = vec![0; pair.public().modulus_len()];
        let padding: &'static dyn RsaEncoding = match algorithm {
            Algorithm::Ps256 => &RSA_PSS_SHA256,
            Algorithm::Rs256 => &RSA_PKCS1_SHA256,
        };
        pair.sign(padding, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| JitError::Unusable("the RSA key cannot sign"))?;
        Ok(signature)
    }

    /// Whether `signature` is this key's for `message`.
    #[must_use]
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let (Ok(n), Ok(e)) = (STANDARD.decode(&self.modulus), STANDARD.decode(&self.exponent)) else {
            return false;
        };
        let padding = match algorithm {
            Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        };
        PublicKeyComponents { n, e }.verify(padding, message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_the_key_signs_it_verifies_and_nothing_else() {
        let key = RsaParamsFile::of_the_simulator();
        for algorithm in [Algorithm::Ps256, Algorithm::Rs256] {
            let signature = key.sign(algorithm, b"said").unwrap();
            assert_eq!(signature.len(), 256, "a key of 2048 bits");
            assert!(key.verifies(algorithm, b"said", &signature));
            assert!(!key.verifies(algorithm, b"sald", &signature));
            assert_eq!(Algorithm::named(algorithm.name()), Some(algorithm));
        }
        let signature = key.sign(Algorithm::Rs256, b"said").unwrap();
        assert!(!key.verifies(Algorithm::Ps256, b"said", &signature));
    }
}
