//! Configuration of a guard, complete before the first request.

use std::time::{Duration, SystemTime};

use super::clock::Clock;
use super::dev::InsecureDev;
use super::revocation::{MAX_REVOCABLE_LIFETIME, Revocations};
use super::ring::KeyRing;
use super::secret::{MIN_SECRET_BYTES, SecretKey};
use nats_rpc::RenamedVariable;

/// The default issuer of access tokens, used if `JWT_ISSUER` is not set.
pub const DEFAULT_ISSUER: &str = "nats-rpc-auth";
/// The default audience of access tokens, used if `JWT_AUDIENCE` is not set.
pub const DEFAULT_AUDIENCE: &str = "nats-rpc";
/// The token type of access tokens (RFC 9068, section 2.1).
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";
/// The token type that `@nestjs/jwt` gives to every token.
pub(crate) const NEST_TYPE: &str = "JWT";
/// The default clock skew allowed: 5 s.
pub(crate) const DEFAULT_LEEWAY: Duration = Duration::from_secs(5);
/// The default maximum lifetime of a token: 1 h.
const DEFAULT_MAX_LIFETIME: Duration = Duration::from_secs(3600);
/// The maximum leeway. More skew indicates a broken clock and must not make expired tokens valid.
const MAX_LEEWAY: Duration = Duration::from_secs(60);

/// The tokens that a [`JwtGuard`](super::JwtGuard) accepts, and their sources.
///
/// | | [`hs256`](Self::hs256), [`ring`](Self::ring) | [`nest_compatible`](Self::nest_compatible) |
/// |---|---|---|
/// | `typ` | `at+jwt` | `JWT` |
/// | `kid` | none with a secret, needed with a ring | ignored |
/// | `iss`, `aud` | checked, `nats-rpc-auth` and `nats-rpc` unless set (a ring key's own `iss`) | checked if set |
/// | `sub`, `exp` | needed | needed |
/// | `iat`, `jti` | needed | checked if there |
/// | longest lifetime | 1 h | none |
/// | clock skew | 5 s | 5 s |
///
/// ```
/// use std::time::Duration;
/// use nats_rpc_jwt::{JwtConfig, JwtGuard, SecretKey, UserClaims};
///
/// let secret = SecretKey::new("JWT_SECRET", "0123456789abcdef0123456789abcdef")?;
/// let config = JwtConfig::hs256(secret).issuer("https://login.example.com").leeway(Duration::from_secs(2));
/// let guard = JwtGuard::<UserClaims>::new(config)?;
/// # Ok::<_, nats_rpc_jwt::JwtConfigError>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct JwtConfig {
    pub(crate) signed_with: SignedWith,
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) leeway: Duration,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) payload_field: Option<String>,
    pub(crate) assertion: Option<AssertedWith>,
    pub(crate) insecure_dev: Option<InsecureDev>,
    pub(crate) keep_user_field: bool,
    pub(crate) revocations: Option<Revocations>,
    pub(crate) accept_stale: bool,
    pub(crate) clock: Clock,
}

#[derive(Debug)]
pub(crate) enum SignedWith {
    Secret(SecretKey),
    NestSecret(SecretKey),
    Ring(KeyRing),
}

/// The keys that verify a gateway's assertions.
#[derive(Debug)]
pub(crate) enum AssertedWith {
    Secret(SecretKey),
    Ring(KeyRing),
}

impl JwtConfig {
    /// Accepts access tokens signed with HS256 and `secret`.
    ///
    /// Every service that verifies with a secret can also issue tokens with it. Use it for a few services of one team;
    /// otherwise use a [`ring`](Self::ring).
    pub fn hs256(secret: SecretKey) -> Self {
        Self {
            issuer: Some(DEFAULT_ISSUER.to_owned()),
            max_lifetime: Some(DEFAULT_MAX_LIFETIME),
            audience: Some(DEFAULT_AUDIENCE.to_owned()),
            ..Self::bare(SignedWith::Secret(secret))
        }
    }

    /// Accepts access tokens signed with the key of `ring` that their `kid` names.
    pub fn ring(ring: KeyRing) -> Self {
        Self {
            max_lifetime: Some(DEFAULT_MAX_LIFETIME),
            audience: Some(DEFAULT_AUDIENCE.to_owned()),
            ..Self::bare(SignedWith::Ring(ring))
        }
    }

    /// Accepts tokens as stock `@nestjs/jwt` issues them with HS256, so that an existing gateway works unchanged.
    ///
    /// This mode is less strict. Any token signed with the secret is an access token, including a refresh token signed
    /// with the same secret. A token for another audience is accepted unless [`audience`](Self::audience) is set.
    /// Without `jti`, `sid` and `ep`, a token can only be revoked together with all tokens of its user. Its issuer
    /// decides its lifetime unless [`max_lifetime`](Self::max_lifetime) is set. Algorithm, signature, `exp` and `sub`
    /// are checked as always.
    pub fn nest_compatible(secret: SecretKey) -> Self {
        Self::bare(SignedWith::NestSecret(secret))
    }

    /// Reads `JWT_SECRET` (at least 32 bytes, no default), `JWT_ISSUER` (default `nats-rpc-auth`) and `JWT_AUDIENCE`
    /// (default `nats-rpc`) through `vars`. It supports the static secret only. With a connection,
    /// [`load`](Self::load) uses the key ring if there is no secret.
    ///
    /// ```
    /// use nats_rpc_jwt::{JwtConfig, JwtConfigError};
    ///
    /// let refused = JwtConfig::from_vars(|_| None).unwrap_err();
    /// assert_eq!(refused, JwtConfigError::Missing { name: "JWT_SECRET" });
    /// ```
    ///
    /// # Errors
    /// [`JwtConfigError::Missing`] or [`JwtConfigError::ShortSecret`], naming the variable.
    pub fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Result<Self, JwtConfigError> {
        let mut config = Self::hs256(SecretKey::from_vars("JWT_SECRET", &vars)?);
        if let Some(issuer) = vars("JWT_ISSUER") {
            config = config.issuer(issuer);
        }
        if let Some(audience) = vars("JWT_AUDIENCE") {
            config = config.audience(audience);
        }
        Ok(config)
    }

    fn bare(signed_with: SignedWith) -> Self {
        Self {
            signed_with,
            issuer: None,
            audience: None,
            leeway: DEFAULT_LEEWAY,
            max_lifetime: None,
            payload_field: None,
            assertion: None,
            insecure_dev: None,
            keep_user_field: false,
            revocations: None,
            accept_stale: false,
            clock: Clock::default(),
        }
    }

    /// Accepts tokens of this issuer only.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Accepts tokens for this audience only.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Sets the clock skew allowed, in whole seconds up to 60. Default: 5 s.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Sets the longest time between `iat` and `exp`, in whole seconds. Default: 1 h.
    pub fn max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = Some(lifetime);
        self
    }

    /// Accepts also a token from this top-level string field of the payload, for requests without the header.
    pub fn payload_source(mut self, field: impl Into<String>) -> Self {
        self.payload_field = Some(field.into());
        self
    }

    /// Accepts also a gateway's [assertion](super::AssertionSigner), signed with `secret`.
    pub fn forwarded_assertion(mut self, secret: SecretKey) -> Self {
        self.assertion = Some(AssertedWith::Secret(secret));
        self
    }

    /// Accepts also a gateway's [assertion](super::AssertionSigner), signed with one of the keys of `ring`.
    ///
    /// The ring should hold the keys of gateways and no others: a client that can write to it can impersonate any
    /// user.
    pub fn forwarded_assertion_ring(mut self, ring: KeyRing) -> Self {
        self.assertion = Some(AssertedWith::Ring(ring));
        self
    }

    /// Accepts also a payload's `user` without proof. For development on one machine only, as [`InsecureDev`] proves.
    pub fn insecure_dev_forwarded_user(mut self, proof: InsecureDev) -> Self {
        self.insecure_dev = Some(proof);
        self
    }

    /// Leaves a top-level field `user` in the payload for the handler.
    ///
    /// By default the guard removes it: no guard verifies the field, and a handler that reads it trusts the sender.
    pub fn keep_user_field(mut self) -> Self {
        self.keep_user_field = true;
        self
    }

    /// Rejects tokens that `revocations` lists. Default: no token is treated as revoked.
    ///
    /// Tokens must then have an `iat` and a lifetime of at most one hour, because a revocation is kept no longer.
    pub fn revocations(mut self, revocations: Revocations) -> Self {
        self.revocations = Some(revocations);
        self
    }

    /// Accepts tokens until they expire while the revocation list is stale.
    ///
    /// It applies to all handlers behind the guard; [`FailOpenJwtGuard`](super::FailOpenJwtGuard) applies to one.
    pub fn accept_stale_revocations(mut self) -> Self {
        self.accept_stale = true;
        self
    }

    /// Reads the time from `now` instead of the system clock; for tests.
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }

    pub(crate) fn check(&self) -> Result<(), JwtConfigError> {
        let empty = |value: &Option<String>| value.as_deref() == Some("");
        if empty(&self.issuer) {
            return Err(JwtConfigError::Empty { name: "issuer" });
        }
        if empty(&self.audience) {
            return Err(JwtConfigError::Empty { name: "audience" });
        }
        if empty(&self.payload_field) {
            return Err(JwtConfigError::Empty { name: "payload field" });
        }
        if self.leeway > MAX_LEEWAY {
            return Err(JwtConfigError::Leeway);
        }
        if self.max_lifetime.is_some_and(|lifetime| lifetime < Duration::from_secs(1)) {
            return Err(JwtConfigError::MaxLifetime);
        }
        if self.revocations.is_some() && self.max_lifetime.is_none_or(|lifetime| lifetime > MAX_REVOCABLE_LIFETIME) {
            return Err(JwtConfigError::NotRevocable);
        }
        if let (Some(AssertedWith::Secret(assertion)), SignedWith::Secret(secret) | SignedWith::NestSecret(secret)) =
            (&self.assertion, &self.signed_with)
        {
            secret.distinct_from(assertion)?;
        }
        Ok(())
    }
}

/// The reason why a configuration is invalid. No message contains a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtConfigError {
    /// A variable that has no default is not set.
    #[error("{name} is not set; it needs at least {MIN_SECRET_BYTES} bytes and has no default")]
    Missing {
        /// The variable.
        name: &'static str,
    },
    /// A secret is shorter than 32 bytes.
    #[error("{name} has {bytes} bytes; it needs at least {MIN_SECRET_BYTES}")]
    ShortSecret {
        /// The variable or setting.
        name: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// A secret is set by its variable and by its `_FILE` variable.
    #[error("set {name} or {name}_FILE, not both")]
    #[non_exhaustive]
    SecretTwice {
        /// The variable of the secret.
        name: &'static str,
    },
    /// The file of a secret cannot be read.
    #[error("the file that {name}_FILE names cannot be read: {why}")]
    #[non_exhaustive]
    SecretFile {
        /// The variable of the secret.
        name: &'static str,
        /// The error of the operating system.
        why: std::io::ErrorKind,
    },
    /// Two secrets that protect different things are the same.
    #[error("{first} and {second} are the same; they must differ")]
    SameSecret {
        /// One of them.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A setting is present but empty.
    #[error("the {name} is empty")]
    Empty {
        /// The setting.
        name: &'static str,
    },
    /// A variable has an invalid value.
    #[error("{name} must be {wanted}")]
    #[non_exhaustive]
    Variable {
        /// The variable.
        name: &'static str,
        /// The expected value.
        wanted: &'static str,
    },
    /// A variable is set by its old name.
    #[error(transparent)]
    Renamed(#[from] RenamedVariable),
    /// More than 60 s of clock skew.
    #[error("the leeway is above 60 s")]
    Leeway,
    /// A maximum lifetime below 1 s: no token would be valid.
    #[error("the longest lifetime is below 1 s")]
    MaxLifetime,
    /// The tokens may live longer than a revocation is kept.
    #[error("with revocations, the longest lifetime of a token must be set, to 1 h at most")]
    NotRevocable,
    /// An interval so short that key pairs would be generated or published in a busy loop.
    #[error("the interval of rotations or heartbeats is below 10 ms")]
    Interval,
    /// `NATS_RPC_INSECURE_DEV` is not `1`.
    #[error("believing a forwarded user needs NATS_RPC_INSECURE_DEV=1")]
    InsecureDevFlag,
    /// The NATS server is not on this machine.
    #[error("believing a forwarded user needs a NATS server on this machine")]
    InsecureDevServer,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::revocation::DenyList;
    use super::*;

    fn secret(byte: u8) -> SecretKey {
        SecretKey::new("JWT_SECRET", [byte; 32]).unwrap()
    }

    #[test]
    fn the_environment_needs_a_secret_and_nothing_else() {
        let with = |vars: &'static [(&'static str, &'static str)]| {
            JwtConfig::from_vars(move |name| {
                vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let config = with(&[("JWT_SECRET", "0123456789abcdef0123456789abcdef")]).unwrap();
        assert_eq!(config.issuer.as_deref(), Some("nats-rpc-auth"));
        assert_eq!(config.audience.as_deref(), Some("nats-rpc"));
        let config =
            with(&[("JWT_SECRET", "0123456789abcdef0123456789abcdef"), ("JWT_ISSUER", "me"), ("JWT_AUDIENCE", "you")])
                .unwrap();
        assert_eq!((config.issuer.as_deref(), config.audience.as_deref()), (Some("me"), Some("you")));
        assert_eq!(
            with(&[("JWT_SECRET", "your-secret-key")]).unwrap_err(),
            JwtConfigError::ShortSecret { name: "JWT_SECRET", bytes: 15 }
        );
        assert_eq!(with(&[]).unwrap_err(), JwtConfigError::Missing { name: "JWT_SECRET" });
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let seconds = Duration::from_secs;
        let cases = [
            (JwtConfig::hs256(secret(1)).issuer(""), JwtConfigError::Empty { name: "issuer" }),
            (JwtConfig::hs256(secret(1)).audience(""), JwtConfigError::Empty { name: "audience" }),
            (JwtConfig::hs256(secret(1)).payload_source(""), JwtConfigError::Empty { name: "payload field" }),
            (JwtConfig::hs256(secret(1)).leeway(seconds(61)), JwtConfigError::Leeway),
            (JwtConfig::hs256(secret(1)).max_lifetime(seconds(0)), JwtConfigError::MaxLifetime),
            (
                JwtConfig::hs256(secret(1)).forwarded_assertion(SecretKey::new("B", [1; 32]).unwrap()),
                JwtConfigError::SameSecret { first: "JWT_SECRET", second: "B" },
            ),
        ];
        for (config, refused) in cases {
            assert_eq!(config.check(), Err(refused));
        }
        assert_eq!(JwtConfig::hs256(secret(1)).forwarded_assertion(secret(2)).check(), Ok(()));
        let outermost = JwtConfig::hs256(secret(1)).leeway(seconds(60)).max_lifetime(seconds(1));
        assert_eq!(outermost.check(), Ok(()));
    }

    #[test]
    fn no_token_outlives_what_is_remembered_of_its_revocation() {
        let view = || Revocations::new(Arc::new(DenyList::new(Duration::from_secs(30))));
        for config in [JwtConfig::hs256, JwtConfig::nest_compatible] {
            let living =
                |seconds| config(secret(1)).max_lifetime(Duration::from_secs(seconds)).revocations(view()).check();
            assert_eq!(living(1), Ok(()));
            assert_eq!(living(3_600), Ok(()));
            assert_eq!(living(3_601), Err(JwtConfigError::NotRevocable));
        }
        let nest = || JwtConfig::nest_compatible(secret(1));
        assert_eq!(nest().revocations(view()).check(), Err(JwtConfigError::NotRevocable));
        assert_eq!(nest().check(), Ok(()));
    }

    #[test]
    fn no_secret_is_printed() {
        let config = JwtConfig::hs256(SecretKey::new("A", "correct horse battery staple, twice").unwrap());
        assert!(!format!("{config:?}").contains("horse"));
    }
}
