//! The thumbprint of a public key (RFC 7638).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Returns the thumbprint of the key with these members, which must be those that its kind requires, in any order.
pub(crate) fn thumbprint<const MEMBERS: usize>(
    members: [(&'static str, &str); MEMBERS],
) -> Result<String, serde_json::Error> {
    // Sorted by name and without white space, as section 3 hashes them.
    let hashed = serde_json::to_vec(&BTreeMap::from(members))?;
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(hashed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_rfc_7638_and_rfc_8037_have_the_thumbprints_given_there() {
        let n = concat!(
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3",
            "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdA",
            "ZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-",
            "kEgU8awapJzKnqDKgw",
        );
        let rsa = thumbprint([("n", n), ("kty", "RSA"), ("e", "AQAB")]).unwrap();
        assert_eq!(rsa, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let ed25519 = thumbprint([("kty", "OKP"), ("x", x), ("crv", "Ed25519")]).unwrap();
        assert_eq!(ed25519, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
