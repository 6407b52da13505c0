//! Fingerprints of certificates.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// The prefix of a fingerprint in text.
const PREFIX: &str = "sha256:";

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    pub(crate) fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// Parses `sha256:HEX`. Returns `None` if the text has another form, such as the name of a
    /// file.
    pub(crate) fn read(text: &str) -> Option<Result<Self, String>> {
        let digits = text.strip_prefix(PREFIX)?;
        // With colons, as `openssl x509 -fingerprint` writes it.
        let digits: Vec<u8> = digits.bytes().filter(|digit| *digit != b':').collect();
        let value = |digit: &u8| char::from(*digit).to_digit(16);
        let bytes: Option<Vec<u8>> = digits
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => u8::try_from(value(high)? * 16 + value(low)?).ok(),
                _ => None,
            })
            .collect();
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        Some(bytes.map(Self).ok_or_else(|| {
            format!("{text:?} is not a fingerprint: {PREFIX} is followed by 64 hexadecimal digits")
        }))
    }

    /// Makes it from the bytes in a database; `None` if their number is wrong.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The beginning, enough to distinguish certificates by eye.
    pub(crate) fn short(&self) -> String {
        self.to_string().chars().take(PREFIX.len() + 12).collect()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match Self::read(&text) {
            Some(read) => read.map_err(de::Error::custom),
            None => Err(de::Error::custom(format!("{text:?} is not a fingerprint"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_written() {
        let pin = Fingerprint::of(b"x");
        let read = |text: &str| Fingerprint::read(text).unwrap();
        assert_eq!(read(&pin.to_string()), Ok(pin));
        assert_eq!(
            read(&pin.to_string().to_uppercase().replace("SHA", "sha")),
            Ok(pin)
        );
        let digits = pin.to_string().split_off(7);
        let pairs: Vec<_> = digits
            .as_bytes()
            .chunks(2)
            .map(|p| std::str::from_utf8(p).unwrap())
            .collect();
        assert_eq!(read(&format!("sha256:{}", pairs.join(":"))), Ok(pin));
        let ones = format!("sha256:{}", "1".repeat(64));
        for wrong in [
            "sha256:",
            "sha256:12",
            "sha256:zz",
            &ones[..70],
            &format!("{ones}11"),
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Fingerprint::read("auth.pem"), None);
    }
}
