//! Access tokens.

use std::time::{Duration, SystemTime};

use nats_rpc::__private::unrelated_id;
use nats_rpc::RpcError;
use nats_rpc_jwt::__private::{ACCESS_TOKEN_TYPE, Clock, Signer};
use nats_rpc_jwt::{DEFAULT_AUDIENCE, DEFAULT_ISSUER, SecretKey, SigningKeys};
use serde::Serialize;

/// The default lifetime of an access token: 15 min.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(15);

/// Issues access tokens that a [`JwtGuard`](nats_rpc_jwt::JwtGuard) with the same secret or ring accepts.
///
/// A token's header is `{"alg":"HS256","typ":"at+jwt"}` without a key id, or
/// `{"alg":"EdDSA","typ":"at+jwt","kid":"…"}`; its claims are `iss`, `aud`, `sub`,
/// `iat`, `exp`, `jti`, `sid`, `ep`, `rep`, `roles` and `scope` (RFC 9068, section 2.2).
///
/// ```
/// use nats_rpc_auth::{Grant, TokenIssuer};
/// use nats_rpc_jwt::{JwtConfig, JwtGuard, SecretKey, UserClaims};
///
/// let secret = SecretKey::new("JWT_SECRET", "0123456789abcdef0123456789abcdef")?;
/// let issuer = TokenIssuer::hs256(&secret);
/// let token = issuer.issue(&Grant::new("0192f0c1", "session-1").roles(&["admin".to_owned()]))?;
///
/// let guard = JwtGuard::<UserClaims>::new(JwtConfig::hs256(secret))?;
/// assert_eq!(guard.verify(&token)?.sub, "0192f0c1");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct TokenIssuer {
    signer: Signer,
    issuer: String,
    audience: String,
    lifetime: Duration,
    clock: Clock,
}

/// The user of an access token, and the permissions that it grants.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Grant<'a> {
    sub: &'a str,
    sid: &'a str,
    epoch: u64,
    global_epoch: u64,
    roles: &'a [String],
    scope: &'a str,
}

impl<'a> Grant<'a> {
    /// Creates a grant to user `sub` in session `sid`, without roles or scopes.
    pub fn new(sub: &'a str, sid: &'a str) -> Self {
        Self { sub, sid, epoch: 0, global_epoch: 0, roles: &[], scope: "" }
    }

    /// Sets the user's epoch (`ep`); raising it invalidates all tokens of a lower one. Default: 0.
    pub fn epoch(mut self, epoch: u64) -> Self {
        self.epoch = epoch;
        self
    }

    /// Sets the global epoch (`rep`, omitted if 0); raising it invalidates all users' tokens of a lower one. Default:
    /// 0.
    pub fn global_epoch(mut self, epoch: u64) -> Self {
        self.global_epoch = epoch;
        self
    }

    /// Sets the roles.
    pub fn roles(mut self, roles: &'a [String]) -> Self {
        self.roles = roles;
        self
    }

    /// Sets the scopes, separated by one space each.
    pub fn scope(mut self, scope: &'a str) -> Self {
        self.scope = scope;
        self
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    iat: u64,
    exp: u64,
    jti: &'a str,
    sid: &'a str,
    ep: u64,
    #[serde(skip_serializing_if = "is_first")]
    rep: u64,
    roles: &'a [String],
    scope: &'a str,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_first(epoch: &u64) -> bool {
    *epoch == 0
}

impl TokenIssuer {
    /// Signs with HS256 and `secret`, as issuer `nats-rpc-auth`, for audience `nats-rpc`.
    pub fn hs256(secret: &SecretKey) -> Self {
        Self {
            signer: Signer::hs256(secret, ACCESS_TOKEN_TYPE),
            issuer: DEFAULT_ISSUER.to_owned(),
            audience: DEFAULT_AUDIENCE.to_owned(),
            lifetime: DEFAULT_LIFETIME,
            clock: Clock::default(),
        }
    }

    /// Signs with the key of `keys` that is active when a token is issued, with their issuer, for audience `nats-rpc`.
    pub fn ring(keys: &SigningKeys) -> Self {
        let config = keys.config();
        Self {
            signer: keys.signer(),
            issuer: config.issuer.clone(),
            audience: DEFAULT_AUDIENCE.to_owned(),
            lifetime: config.token_lifetime,
            clock: config.clock.clone(),
        }
    }

    /// Sets the issuer. A key of a ring is bound to one issuer: set it at the
    /// [keys](nats_rpc_jwt::SigningKeyConfig::issuer).
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = issuer.into();
        self
    }

    /// Sets the audience.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = audience.into();
        self
    }

    /// Sets the lifetime, in whole seconds. Default: 15 min; guards accept up to 1 h. With a key of a ring it should
    /// be no longer than [the keys' setting](nats_rpc_jwt::SigningKeyConfig::token_lifetime), or issuing fails.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Reads the time from `now` instead of the system clock; for tests.
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }

    /// Returns a new access token.
    ///
    /// # Errors
    /// A 500 if the claims cannot be signed, a 503 while no key is published for the token's lifetime.
    pub fn issue(&self, grant: &Grant<'_>) -> Result<String, RpcError> {
        let iat = self.clock.unix_seconds();
        let exp = iat + self.lifetime.as_secs();
        let claims = Claims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: grant.sub,
            iat,
            exp,
            jti: &unrelated_id(),
            sid: grant.sid,
            ep: grant.epoch,
            rep: grant.global_epoch,
            roles: grant.roles,
            scope: grant.scope,
        };
        self.signer.sign(&claims, exp)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use nats_rpc_jwt::testing::{NOW, at, config, now, secret};
    use nats_rpc_jwt::{JwtGuard, JwtRejection, UserClaims};
    use serde_json::{Value, json};

    use super::*;

    fn issuer() -> TokenIssuer {
        TokenIssuer::hs256(&secret()).clock(now)
    }

    fn part(token: &str, index: usize) -> Value {
        let part = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn a_token_holds_what_was_granted_and_nothing_else() {
        let roles = ["user".to_owned()];
        let grant = Grant::new("u1", "s1").epoch(3).global_epoch(2).roles(&roles).scope("profile:read");
        let token = issuer().issue(&grant).unwrap();
        assert_eq!(part(&token, 0), json!({ "alg": "HS256", "typ": "at+jwt" }));
        let mut claims = part(&token, 1);
        assert!(claims.as_object_mut().unwrap().remove("jti").unwrap().as_str().unwrap().len() >= 16);
        assert_eq!(
            claims,
            json!({
                "iss": "nats-rpc-auth", "aud": "nats-rpc", "sub": "u1", "iat": NOW, "exp": NOW + 900,
                "sid": "s1", "ep": 3, "rep": 2, "roles": ["user"], "scope": "profile:read",
            })
        );
    }

    #[test]
    fn the_realms_epoch_is_left_out_until_it_was_raised() {
        let claims = part(&issuer().issue(&Grant::new("u1", "s1")).unwrap(), 1);
        assert!(claims.get("rep").is_none() && claims["ep"] == 0, "{claims}");
    }

    #[test]
    fn the_guard_takes_it_for_15_minutes() {
        let token = issuer().issue(&Grant::new("u1", "s1")).unwrap();
        for (now, expected) in [(NOW, Ok(())), (NOW + 904, Ok(())), (NOW + 905, Err(JwtRejection::Expired))] {
            let guard = JwtGuard::<UserClaims>::new(config().clock(move || at(now))).unwrap();
            assert_eq!(guard.verify(&token).map(drop), expected, "{now}");
        }
        let elsewhere = JwtGuard::<UserClaims>::new(config().audience("other")).unwrap();
        assert_eq!(elsewhere.verify(&token).unwrap_err(), JwtRejection::Audience);
    }

    #[test]
    fn two_tokens_of_one_second_differ() {
        let issue = || issuer().issue(&Grant::new("u1", "s1")).unwrap();
        assert_ne!(issue(), issue());
    }
}
