//! One public key of a key document, checked before it is ever used (RFC 7517, 7518, 8037).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use curve25519_dalek::edwards::CompressedEdwardsY;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use super::keys::VerifyingKey;
use super::ring::document::Entry;
use super::thumbprint::thumbprint;

/// The reason why a key is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("private or symmetric key material")]
    Private,
    #[error("key type and algorithm are unknown or do not belong together")]
    Kind,
    #[error("too short, too long, or not canonical base64url")]
    Form,
    #[error("no point of its curve in the only encoding allowed")]
    Point,
    #[error("a point of small order: tokens can be forged without a private key")]
    Order,
    #[error("an RSA modulus that is even or has a small factor, or an exponent other than 65537")]
    Modulus,
}

impl Unusable {
    /// Returns `true` if the key may be of a kind that a later version supports, and not a weak or broken one.
    pub(crate) fn is_unknown_kind(self) -> bool {
        self == Self::Kind
    }
}

/// Public members by name; private ones only to detect their presence.
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

/// Checks the key of `entry` for use with its `alg` only; returns its thumbprint too.
///
/// jsonwebtoken's own conversion checks neither `crv`, `alg` nor `use`, and accepts `oct`. It leaves lengths to the
/// cryptographic back end, one of which panics on a short key at the first token.
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
    let point = exactly::<32>(x)?;
    check_ed25519(&point)?;
    let key = DecodingKey::from_ed_der(&point);
    Ok((key, named([("crv", "Ed25519"), ("kty", "OKP"), ("x", x)])?))
}

/// Accepts a point of large order in its canonical encoding, as key generation produces it.
///
/// AWS-LC verifies with any point. With one of small order, an attacker can create signatures without a private key; a
/// second encoding would give one key two ids.
fn check_ed25519(encoded: &[u8; 32]) -> Result<(), Unusable> {
    let encoded = CompressedEdwardsY(*encoded);
    let point = encoded.decompress().ok_or(Unusable::Point)?;
    // RFC 8032, section 5.1.3: `y` is below the modulus, and an `x` of zero has no sign.
    if point.compress() != encoded {
        return Err(Unusable::Point);
    }
    if point.is_small_order() {
        return Err(Unusable::Order);
    }
    Ok(())
}

fn p256(jwk: &Jwk) -> Result<Named, Unusable> {
    let (x, y) = (present(jwk.x.as_deref())?, present(jwk.y.as_deref())?);
    let mut point = vec![4]; // uncompressed (SEC 1, section 2.3.3)
    point.extend(exactly::<32>(x)?);
    point.extend(exactly::<32>(y)?);
    // The curve has prime order, and the point at infinity has no such encoding, so that the check for a point on the
    // curve is sufficient.
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).map_err(|_| Unusable::Point)?;
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
    if !(2048..=8192).contains(&bits) {
        return Err(Unusable::Form);
    }
    if exponent != [1, 0, 1] || has_small_factor(&modulus) {
        return Err(Unusable::Modulus);
    }
    let key = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
    Ok((key, named([("e", e), ("kty", "RSA"), ("n", n)])?))
}

/// Returns `true` if a prime below 752 divides the number (NIST SP 800-89, section 5.3.3).
fn has_small_factor(modulus: &[u8]) -> bool {
    let remainder = |divisor: u32| modulus.iter().fold(0, |rest, &byte| (rest << 8 | u32::from(byte)) % divisor);
    // A composite divisor has a smaller prime divisor, so that trying all odd numbers is equivalent.
    remainder(2) == 0 || (3..752).step_by(2).any(|divisor| remainder(divisor) == 0)
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
    use super::super::ring::testing::Key;
    use super::super::ring::weak::{SMALL_ORDER, bytes};
    use super::*;

    fn check(jwk: &str, alg: &str) -> Result<(), Unusable> {
        let (kid, alg, typ, iss) = ("k".to_owned(), alg.to_owned(), "at+jwt".to_owned(), "i".to_owned());
        let jwk = serde_json::value::RawValue::from_string(jwk.to_owned()).unwrap();
        verifying_key(&Entry { kid, alg, typ, iss, instance: None, not_before: None, not_after: None, jwk }).map(drop)
    }

    fn b64(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn rsa_with(modulus: &[u8], exponent: &[u8]) -> String {
        format!(r#"{{"kty":"RSA","n":"{}","e":"{}"}}"#, b64(modulus), b64(exponent))
    }

    /// Returns a modulus of so many bytes that begins with `first` and has no small factor.
    fn modulus(first: u8, bytes: usize) -> Vec<u8> {
        let ending = |end: u16| {
            let mut modulus = vec![0xff; bytes];
            modulus[0] = first;
            modulus[bytes - 2..].copy_from_slice(&end.to_be_bytes());
            modulus
        };
        (1..).step_by(2).map(ending).find(|modulus| !has_small_factor(modulus)).unwrap()
    }

    fn rsa_jwk(modulus_bytes: usize, exponent: &[u8]) -> String {
        rsa_with(&modulus(0xff, modulus_bytes), exponent)
    }

    fn ed25519_jwk(x: &[u8]) -> String {
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, b64(x))
    }

    /// The key of RFC 8037, appendix A.
    const X: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    #[test]
    fn an_ed25519_key_has_32_bytes_and_its_own_algorithm() {
        let x = bytes(X);
        assert_eq!(check(&ed25519_jwk(&x), "EdDSA"), Ok(()));
        for x in [&[][..], &x[..3], &x[..31], &[&x[..], &[0]].concat()] {
            assert_eq!(check(&ed25519_jwk(x), "EdDSA"), Err(Unusable::Form), "{}", x.len());
        }
        assert_eq!(check(&ed25519_jwk(&x), "ES256"), Err(Unusable::Kind));
        assert_eq!(check(&ed25519_jwk(&x).replace("Ed25519", "Ed448"), "EdDSA"), Err(Unusable::Kind));
    }

    /// The other encodings of points of small order that libsodium lists, and other second encodings.
    const NOT_CANONICAL: [&str; 7] = [
        // `x` is zero and has a sign.
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        // `y` is the modulus, or one more.
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        // `y` is the modulus and three, which is on the curve as three is.
        "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];

    #[test]
    fn an_ed25519_key_is_canonical_and_of_large_order() {
        let judge = |hex: &str| check(&ed25519_jwk(&bytes(hex)), "EdDSA");
        for small in SMALL_ORDER {
            assert_eq!(judge(small), Err(Unusable::Order), "{small}");
        }
        for other in NOT_CANONICAL {
            assert_eq!(judge(other), Err(Unusable::Point), "{other}");
        }
        // No point has this `y`.
        assert_eq!(judge(&("02".to_owned() + &"00".repeat(31))), Err(Unusable::Point));
    }

    /// The coordinates of the base point (FIPS 186-4, section D.1.2.3).
    const P256: [&str; 2] = [
        "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    ];

    fn p256_jwk(x: &[u8], y: &[u8]) -> String {
        format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, b64(x), b64(y))
    }

    #[test]
    fn a_p256_key_has_two_coordinates_of_32_bytes() {
        let [x, y] = P256.map(bytes);
        assert_eq!(check(&p256_jwk(&x, &y), "ES256"), Ok(()));
        for (x, y) in [(&x[1..], &y[..]), (&x[..], &y[1..]), (&x[1..], &[&[0], &y[..]].concat()), (&[], &[])] {
            assert_eq!(check(&p256_jwk(x, y), "ES256"), Err(Unusable::Form));
        }
        assert_eq!(check(&p256_jwk(&x, &y).replace("P-256", "P-384"), "ES256"), Err(Unusable::Kind));
    }

    #[test]
    fn a_p256_key_is_a_point_of_its_curve() {
        let [x, y] = P256.map(bytes);
        let mut off = y.clone();
        off[31] ^= 1;
        // Five is the `x` of a point; the modulus and five are another spelling of it.
        let modulus = "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff";
        let above = "ffffffff00000001000000000000000000000001000000000000000000000004";
        let of_five = "459243b9aa581806fe913bce99817ade11ca503c64d9a3c533415c083248fbcc";
        let five = [[0; 31].as_slice(), &[5]].concat();
        assert_eq!(check(&p256_jwk(&five, &bytes(of_five)), "ES256"), Ok(()), "the control");
        for (x, y) in [
            (x.clone(), off),
            (y.clone(), x.clone()),
            (vec![0; 32], vec![0; 32]),
            (bytes(above), bytes(of_five)),
            (bytes(modulus), y),
            (vec![0xff; 32], vec![0xff; 32]),
        ] {
            assert_eq!(check(&p256_jwk(&x, &y), "ES256"), Err(Unusable::Point), "{x:?} {y:?}");
        }
    }

    #[test]
    fn an_rsa_key_has_2048_bits_and_the_usual_exponent() {
        assert_eq!(check(&rsa_jwk(256, &[1, 0, 1]), "RS256"), Ok(()));
        assert_eq!(check(&rsa_jwk(128, &[1, 0, 1]), "RS256"), Err(Unusable::Form));
        assert_eq!(check(&rsa_jwk(2048, &[1, 0, 1]), "RS256"), Err(Unusable::Form));
        for exponent in [&[][..], &[0], &[1], &[2], &[3], &[17], &[1, 0, 0], &[0, 1, 0, 1], &[1, 0, 0, 1], &[0xff; 32]]
        {
            assert_eq!(check(&rsa_jwk(256, exponent), "RS256"), Err(Unusable::Modulus), "{exponent:?}");
        }
        for alg in ["PS256", "RS384", "HS256", "none", ""] {
            assert_eq!(check(&rsa_jwk(256, &[1, 0, 1]), alg), Err(Unusable::Kind), "{alg}");
        }
    }

    #[test]
    fn an_rsa_modulus_is_odd_and_has_no_small_factor() {
        let good = modulus(0xc0, 256);
        assert_eq!(check(&rsa_with(&good, &[1, 0, 1]), "RS256"), Ok(()));
        let mut even = good.clone();
        even[255] &= 0xfe;
        assert_eq!(check(&rsa_with(&even, &[1, 0, 1]), "RS256"), Err(Unusable::Modulus));
        for factor in [3, 5, 17, 257, 743, 751] {
            // The next multiple that is odd.
            let rest = good.iter().fold(0_u32, |rest, &byte| (rest * 256 + u32::from(byte)) % factor);
            let up = (factor - rest) % factor;
            let up = if up % 2 == 0 { up } else { up + factor };
            let mut multiple = good.clone();
            let end = u32::from(u16::from_be_bytes([good[254], good[255]])) + up;
            multiple[254..].copy_from_slice(&u16::try_from(end).unwrap().to_be_bytes());
            assert_eq!(check(&rsa_with(&multiple, &[1, 0, 1]), "RS256"), Err(Unusable::Modulus), "{factor}");
        }
        // Key generation never produces one with a small factor.
        let jwk = Key::rsa("k").jwk.to_string();
        assert_eq!(check(&jwk, "RS256"), Ok(()));
    }

    #[test]
    fn the_bits_of_an_rsa_key_are_counted_from_the_first_that_is_set() {
        let beginning = |first: u8, bytes: usize| check(&rsa_with(&modulus(first, bytes), &[1, 0, 1]), "RS256");
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
        let with = |more: &str| format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}",{more}}}"#, b64(&bytes(X)));
        assert_eq!(check(&with(r#""alg":"EdDSA","use":"sig""#), "EdDSA"), Ok(()));
        assert_eq!(check(&with(r#""use":"enc""#), "EdDSA"), Err(Unusable::Kind));
        assert_eq!(check(&with(r#""alg":"ES256""#), "EdDSA"), Err(Unusable::Kind));
    }
}
