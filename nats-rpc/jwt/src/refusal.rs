//! Why a caller was not believed: for logs and metrics, never for the caller.

use nats_rpc::RpcError;

/// Why a token or another proof of identity was refused.
///
/// The caller learns none of it: every refusal becomes the same 401, except that
/// [`Expired`](Self::Expired) says so, because the remedy (refresh) is the caller's, and that
/// [`NoKeys`](Self::NoKeys), [`StaleRevocations`](Self::StaleRevocations) and [`ReplaySetFull`](Self::ReplaySetFull) are
/// a 503: the proof may be good, and this service cannot tell now. The reason goes to the log as the error's source.
///
/// ```
/// use nats_rpc::RpcError;
/// use nats_rpc_jwt::JwtRejection;
///
/// assert_eq!(RpcError::from(JwtRejection::Signature).message(), "unauthenticated");
/// assert_eq!(RpcError::from(JwtRejection::Expired).message(), "token expired");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum JwtRejection {
    /// None of the sources that are open brought a proof.
    #[error("no token")]
    NoToken,
    /// More than one source brought a proof; even if they agree, one of them is not the gateway's.
    #[error("more than one source of identity")]
    SeveralSources,
    /// The header is there twice, under whatever spellings.
    #[error("more than one value of the header")]
    SeveralValues,
    /// The header is not `Bearer`, one space, and a token.
    #[error("the header is not `Bearer <token>`")]
    Scheme,
    /// The payload's token field is there and is no string, or is there twice.
    #[error("the payload's token field is not one string")]
    PayloadToken,
    /// More than 4 KiB.
    #[error("token too large")]
    TooLarge,
    /// A character outside of `A-Z a-z 0-9 - _ .`.
    #[error("character outside of base64url")]
    Charset,
    /// Not exactly three parts.
    #[error("not three parts")]
    Parts,
    /// A header that is not base64url of one JSON object with `alg`, `typ`, `kid` and nothing else.
    #[error("malformed token header")]
    Header,
    /// A key id where none is allowed, none where one is needed, or one of impossible form.
    #[error("key id absent, unexpected or malformed")]
    KeyId,
    /// A well-formed key id that the key ring does not hold.
    #[error("unknown key id")]
    UnknownKeyId,
    /// A key that the key ring holds for another time: before its `not_before` or after its `not_after`.
    #[error("key not in use now")]
    KeyNotInUse,
    /// The key ring holds no key that is in use now for tokens of this type, so that no token can be verified: it is
    /// still empty, or all its keys have ended. 503 rather than 401, as the token may be good.
    #[error("no key to verify tokens with")]
    NoKeys,
    /// Another algorithm than the key's only one.
    #[error("not the key's algorithm")]
    Algorithm,
    /// Another media type than the key's only one.
    #[error("not the key's token type")]
    Type,
    /// The signature does not verify, or is not canonical base64url.
    #[error("signature does not verify")]
    Signature,
    /// The standard claims are not typed as they must be, or one is there twice.
    #[error("malformed standard claims")]
    Claims,
    /// Another issuer, or none.
    #[error("wrong issuer")]
    Issuer,
    /// Meant for another audience, or for none.
    #[error("wrong audience")]
    Audience,
    /// Past its expiry; the only reason that the caller learns.
    #[error("token expired")]
    Expired,
    /// Before its `nbf`.
    #[error("not valid yet")]
    NotYetValid,
    /// Issued in the future, or without saying when.
    #[error("issued in the future or at no time")]
    IssuedAt,
    /// Expires before it was issued, or longer after it than allowed.
    #[error("lifetime out of bounds")]
    Lifetime,
    /// A `sub` that is empty, over 256 characters, or holds control characters.
    #[error("malformed subject claim")]
    Subject,
    /// A `jti` or `sid` that is missing, empty, over 64 bytes, or not visible ASCII.
    #[error("malformed token id or session id")]
    Id,
    /// The token, its session, or all of its user's or everybody's tokens of its epoch.
    #[error("revoked")]
    Revoked,
    /// Nothing has proved for too long that all revocations are known here; 503 rather than 401.
    #[error("whether the token was revoked cannot be told")]
    StaleRevocations,
    /// The application's own claims type cannot be read from the token.
    #[error("claims do not fit the claims type")]
    CustomClaims,
    /// The assertion was made for another NATS subject.
    #[error("assertion for another subject")]
    AssertedSubject,
    /// The assertion was made for another payload.
    #[error("assertion for another payload")]
    AssertedPayload,
    /// The assertion is past its ten seconds. The caller's token may be good for longer, so the caller does
    /// not learn it.
    #[error("assertion expired")]
    AssertionExpired,
    /// The assertion was used before, with this instance and since it started.
    #[error("assertion replayed")]
    Replayed,
    /// So many assertions were used within their lifetime (262,144) that replays can no longer be told; closed
    /// rather than open, with 503 rather than 401.
    #[error("too many assertions in flight")]
    ReplaySetFull,
    /// The forwarded `user` is no object of the claims type, or contradicts the assertion.
    #[error("forwarded user malformed or contradicting the assertion")]
    ForwardedUser,
}

impl From<JwtRejection> for RpcError {
    fn from(refusal: JwtRejection) -> Self {
        #[derive(serde::Serialize)]
        struct Details {
            reason: &'static str,
        }

        match refusal {
            JwtRejection::Expired => Self::unauthenticated("token expired")
                .with_details(Details { reason: "token_expired" })
                .with_source(refusal),
            JwtRejection::StaleRevocations => {
                Self::unavailable("whether the token was revoked cannot be told now").with_source(refusal)
            }
            JwtRejection::NoKeys => {
                Self::unavailable("no key to verify tokens with is published at the moment").with_source(refusal)
            }
            JwtRejection::ReplaySetFull => Self::unavailable("too many calls are vouched for now").with_source(refusal),
            _ => Self::unauthenticated("unauthenticated").with_source(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use nats_rpc::Code;

    use super::*;

    #[test]
    fn all_refusals_look_the_same_except_expiry_and_not_knowing() {
        for refusal in [
            JwtRejection::NoToken,
            JwtRejection::Revoked,
            JwtRejection::Signature,
            JwtRejection::Replayed,
            JwtRejection::AssertionExpired,
        ] {
            let error = RpcError::from(refusal);
            assert_eq!((error.code(), error.message()), (Code::Unauthenticated, "unauthenticated"));
            assert!(error.details().is_none());
        }
        let error = RpcError::from(JwtRejection::Expired);
        assert_eq!(error.code(), Code::Unauthenticated);
        assert_eq!(error.details().unwrap().get(), r#"{"reason":"token_expired"}"#);
        for unknown in [JwtRejection::NoKeys, JwtRejection::StaleRevocations, JwtRejection::ReplaySetFull] {
            assert_eq!(RpcError::from(unknown).code(), Code::Unavailable, "{unknown}");
        }
    }
}
