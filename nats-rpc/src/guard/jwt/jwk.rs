//! One public key of a key document, checked before it is ever used (RFC 7517, 7518, 8037).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use super::keys::VerifyingKey;
use super::ring::document::Entry;
use super::thumbprint::thumbprint;

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("private or symmetric key material")]
    Private,
    #[error("key type and algorithm are unknown or do not belong together")]
    Kind,
    #[error("too short, too long, or not canonical base64url")]
    Form,
}

/// Public members by name; private ones only so that their presence is seen.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    #[serde(flatten)]
    rest: std::collections::BTreeMap<String, serde::de::IgnoredAny>,
}

const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Checks the key of `entry` for use with its `alg` alone; gives its thumbprint too.
///
/// jsonwebtoken's own conversion looks at neither `crv`, `alg` nor `use`, takes `oct`, and leaves
/// lengths to the cryptographic back end, one of which panics on a short key at the first token.
pub(crate) fn verifying_key(entry: &Entry) -> Result<(VerifyingKey, String), Unusable> {
    let alg = entry.alg.as_str();
    let jwk: Jwk = serde_json::from_str(entry.jwk.get()).map_err(|_| Unusable::Form)?;
    if jwk.kty == "oct" || PRIVATE_MEMBERS.iter().any(|member| jwk.rest.contains_key(*member)) {
        return Err(Unusable::Private);
    }
    if jwk.alg.as_deref().is_some_and(|named| named != alg) || jwk.usage.as_deref().is_some_and(|usage| usage != "sig")
    {
        return Err(Unusable::Kind);
    }
    let (algorithm, (decoding, thumbprint)) = match (alg, jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("EdDSA", "OKP", Some("Ed25519")) => (Algorithm::EdDSA, ed25519(&jwk)?),
        ("ES256", "EC", Some("P-256")) => (Algorithm::ES256, p256(&jwk)?),
        ("RS256", "RSA", None) => (Algorithm::RS256, rsa(&jwk)?),
        _ => return Err(Unusable::Kind),
    };
    let key = VerifyingKey {
        decoding,
        algorithm,
        typ: entry.typ.as_str().into(),
        issuer: Some(entry.iss.as_str().into()),
        not_before: entry.not_before(),
        not_after: entry.not_after(),
    };
    Ok((key, thumbprint))
}

/// A key with its thumbprint.
type Named = (DecodingKey, String);

fn ed25519(jwk: &Jwk) -> Result<Named, Unusable> {
    let x = present(jwk.x.as_deref())?;
    let key = DecodingKey::from_ed_der(&exactly::<32>(x)?);
    Ok((key, named([("crv", "Ed25519"), ("kty", "OKP"), ("x", x)])?))
}

fn p256(jwk: &Jwk) -> Result<Named, Unusable> {
    let (x, y) = (present(jwk.x.as_deref())?, present(jwk.y.as_deref())?);
    let mut point = vec![4]; // uncompressed (SEC 1, section 2.3.3)
    point.extend(exactly::<32>(x)?);
    point.extend(exactly::<32>(y)?);
    let key = DecodingKey::from_ec_der(&point);
    Ok((key, named([("crv", "P-256"), ("kty", "EC"), ("x", x), ("y", y)])?))
}

fn rsa(jwk: &Jwk) -> Result<Named, Unusable> {
    let (n, e) = (present(jwk.n.as_deref())?, present(jwk.e.as_deref())?);
    let (modulus, exponent) = (decode(n)?, decode(e)?);
    let bits = match modulus.first() {
        Some(&first) if first != 0 => modulus.len() * 8 - first.leading_zeros() as usize,
        _ => return Err(Unusable::Form),
    };
    let usual_exponent = matches!(exponent.as_slice(), [1, 0, 1]);
    if !(2048..=8192).contains(&bits) || !usual_exponent {
        return Err(Unusable::Form);
    }
    let key = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
    Ok((key, named([("e", e), ("kty", "RSA"), ("n", n)])?))
}

fn named<const MEMBERS: usize>(members: [(&'static str, &str); MEMBERS]) -> Result<String, Unusable> {
    thumbprint(members).map_err(|_| Unusable::Form)
}

fn present(value: Option<&str>) -> Result<&str, Unusable> {
    value.ok_or(Unusable::Form)
}

fn exactly<const LENGTH: usize>(value: &str) -> Result<[u8; LENGTH], Unusable> {
    decode(value)?.try_into().map_err(|_| Unusable::Form)
}

fn decode(value: &str) -> Result<Vec<u8>, Unusable> {
    URL_SAFE_NO_PAD.decode(value).map_err(|_| Unusable::Form)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(jwk: &str, alg: &str) -> Result<(), Unusable> {
        let (kid, alg, typ, iss) = ("k".to_owned(), alg.to_owned(), "at+jwt".to_owned(), "i".to_owned());
        let jwk = serde_json::value::RawValue::from_string(jwk.to_owned()).unwrap();
        verifying_key(&Entry { kid, alg, typ, iss, instance: None, not_before: None, not_after: None, jwk }).map(drop)
    }

    fn b64(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn rsa_jwk(modulus_bytes: usize, exponent: &[u8]) -> String {
        rsa_with(&vec![0xff; modulus_bytes], exponent)
    }

    fn rsa_with(modulus: &[u8], exponent: &[u8]) -> String {
        format!(r#"{{"kty":"RSA","n":"{}","e":"{}"}}"#, b64(modulus), b64(exponent))
    }

    #[test]
    fn an_ed25519_key_has_32_bytes_and_its_own_algorithm() {
        let jwk = |bytes: usize| format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, b64(&vec![1; bytes]));
        assert_eq!(check(&jwk(32), "EdDSA"), Ok(()));
        for bytes in [0, 3, 31, 33] {
            assert_eq!(check(&jwk(bytes), "EdDSA"), Err(Unusable::Form), "{bytes}");
        }
        assert_eq!(check(&jwk(32), "ES256"), Err(Unusable::Kind));
        assert_eq!(check(&jwk(32).replace("Ed25519", "Ed448"), "EdDSA"), Err(Unusable::Kind));
    }

    #[test]
    fn a_p256_key_has_two_coordinates_of_32_bytes() {
        let jwk = |x: usize, y: usize| {
            format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, b64(&vec![1; x]), b64(&vec![1; y]))
        };
        assert_eq!(check(&jwk(32, 32), "ES256"), Ok(()));
        assert_eq!(check(&jwk(31, 33), "ES256"), Err(Unusable::Form));
        assert_eq!(check(&jwk(32, 32).replace("P-256", "P-384"), "ES256"), Err(Unusable::Kind));
    }

    #[test]
    fn an_rsa_key_has_2048_bits_and_the_usual_exponent() {
        assert_eq!(check(&rsa_jwk(256, &[1, 0, 1]), "RS256"), Ok(()));
        assert_eq!(check(&rsa_jwk(128, &[1, 0, 1]), "RS256"), Err(Unusable::Form));
        assert_eq!(check(&rsa_jwk(2048, &[1, 0, 1]), "RS256"), Err(Unusable::Form));
        assert_eq!(check(&rsa_jwk(256, &[1]), "RS256"), Err(Unusable::Form));
        for alg in ["PS256", "RS384", "HS256", "none", ""] {
            assert_eq!(check(&rsa_jwk(256, &[1, 0, 1]), alg), Err(Unusable::Kind), "{alg}");
        }
    }

    #[test]
    fn the_bits_of_an_rsa_key_are_counted_from_the_first_that_is_set() {
        let beginning = |first: u8, bytes: usize| {
            let mut modulus = vec![0xff; bytes];
            modulus[0] = first;
            check(&rsa_with(&modulus, &[1, 0, 1]), "RS256")
        };
        assert_eq!(beginning(0x80, 256), Ok(()), "2048 bits");
        assert_eq!(beginning(0x7f, 256), Err(Unusable::Form), "2047 bits");
        assert_eq!(beginning(0x01, 257), Ok(()), "2049 bits");
        assert_eq!(beginning(0xff, 1_024), Ok(()), "8192 bits");
        assert_eq!(beginning(0x01, 1_025), Err(Unusable::Form), "8193 bits");
        // RFC 7518, section 6.3.1.1: no zeros in front, so that a key has one spelling.
        assert_eq!(beginning(0x00, 257), Err(Unusable::Form));
    }

    #[test]
    fn private_members_are_seen_in_every_kind_of_key() {
        for member in PRIVATE_MEMBERS {
            let jwk = rsa_jwk(256, &[1, 0, 1]).replace(r#""kty""#, &format!(r#""{member}":"AA","kty""#));
            assert_eq!(check(&jwk, "RS256"), Err(Unusable::Private), "{member}");
        }
        assert_eq!(check(r#"{"kty":"oct","k":"AAAA"}"#, "HS256"), Err(Unusable::Private));
    }

    #[test]
    fn alg_and_use_must_agree_where_they_are_given() {
        let with = |more: &str| format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}",{more}}}"#, b64(&[1; 32]));
        assert_eq!(check(&with(r#""alg":"EdDSA","use":"sig""#), "EdDSA"), Ok(()));
        assert_eq!(check(&with(r#""use":"enc""#), "EdDSA"), Err(Unusable::Kind));
        assert_eq!(check(&with(r#""alg":"ES256""#), "EdDSA"), Err(Unusable::Kind));
    }
}
