//! Settings: required and optional.

use std::num::NonZeroUsize;
use std::time::Duration;

use nats_rpc::{Subject, renamed_variable};
use nats_rpc_jwt::SecretKey;
use nats_rpc_jwt::{DEFAULT_AUDIENCE, DEFAULT_ISSUER, JwtConfigError};

/// Renamed variables: old name, new name.
const RENAMED: [(&str, &str); 1] = [("KEY_MARGIN_MS", "KEY_ACTIVATION_DELAY_MS")];

/// The service's settings.
///
/// | variable | meaning | default |
/// |---|---|---|
/// | `JWT_SECRET` | secret that signs access tokens, at least 32 bytes; if not set, key pairs published in the key ring sign them | none |
/// | `KEY_ROTATION_HOURS` | signing time of a key pair, 1 to 8,760 | 24 |
/// | `KEY_ACTIVATION_DELAY_MS` | time between the publication of a key pair and its first signature, 1 to 600,000 | 10000 |
/// | `JWT_REFRESH_SECRET` | pepper of refresh tokens, at least 32 bytes, different from `JWT_SECRET` | none |
/// | `JWT_ISSUER`, `JWT_AUDIENCE` | `iss` and `aud` of access tokens | `nats-rpc-auth`, `nats-rpc` |
/// | `BCRYPT_COST` | 10 to 15; each step doubles the work | 12 |
/// | `SIGN_UPS_PER_MINUTE` | sign-ups per minute and instance by callers with a proven address, and as many by all others, 1 to 60,000; from one address 20 (or half of the limit, if that is less) and then one a minute, from its networks up to 60 | 120 |
/// | `LOG_INS_PER_MINUTE` | log-ins per minute and instance by callers without a proven address, 1 to 60,000 | 600 |
/// | `JWT_ASSERTION_SECRET` | only with a `JWT_SECRET`: secret that signs gateways' client IP proofs, at least 32 bytes, different from the others; without `JWT_SECRET`, gateways sign with keys in the ring `gw_jwks` | none: no proof is accepted |
/// | `SESSION_GRACE_MS` | grace period in which a used refresh token returns its successor again, unless the successor was used, 0 to 86,400,000 | 10000 |
/// | `SESSION_IDLE_HOURS` | lifetime of a session without a refresh, 1 to 87,600 | 168 |
/// | `SESSION_ABSOLUTE_HOURS` | maximum lifetime of a session, 1 to 87,600 | 720 |
/// | `SESSIONS_PER_USER` | maximum number of sessions per user, 1 to 1,000; one more ends the oldest | 50 |
/// | `DEVICE_LIFETIME_DAYS` | time for which a device is known after a log-in, 1 to 400 | 90 |
/// | `PASSWORD_MIN_LENGTH` | minimum length of a new password in characters, 8 to 64 | 8 |
/// | `PASSWORD_RESET_SUBJECT` | subject on which a mailer receives reset tokens; **only the mailer may subscribe to it** | none: `auth.password.reset.request` replies 404 |
///
/// Each secret can be read from a file, which `JWT_SECRET_FILE`, `JWT_REFRESH_SECRET_FILE` or
/// `JWT_ASSERTION_SECRET_FILE` names. Blanks around a secret are ignored.
#[derive(Debug)]
pub struct Settings {
    /// `None` selects the key ring.
    pub(crate) access_secret: Option<SecretKey>,
    pub(crate) key_rotation: Duration,
    pub(crate) key_activation_delay: Duration,
    pub(crate) refresh_secret: SecretKey,
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) bcrypt_cost: u32,
    pub(crate) rate_limits: RateLimits,
    pub(crate) sessions: SessionLimits,
    pub(crate) device_lifetime: Duration,
    pub(crate) password_min_length: usize,
    pub(crate) reset_subject: Option<String>,
    pub(crate) assertion_secret: Option<SecretKey>,
}

/// Rate limits of each instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateLimits {
    pub(crate) sign_ups: u32,
    pub(crate) log_ins: u32,
}

/// The limits of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionLimits {
    pub(crate) grace: Duration,
    pub(crate) idle: Duration,
    pub(crate) absolute: Duration,
    pub(crate) per_user: NonZeroUsize,
}

impl SessionLimits {
    fn from_vars(vars: impl Fn(&str) -> Option<String>, refused: &mut Vec<String>) -> Self {
        let grace = number(&vars, "SESSION_GRACE_MS", 10_000, 0..=86_400_000, refused);
        let idle = number(&vars, "SESSION_IDLE_HOURS", 168, 1..=87_600, refused);
        let absolute = number(&vars, "SESSION_ABSOLUTE_HOURS", 720, 1..=87_600, refused);
        let per_user = number(&vars, "SESSIONS_PER_USER", 50, 1..=1_000, refused) as usize;
        Self {
            grace: Duration::from_millis(u64::from(grace)),
            idle: Duration::from_hours(u64::from(idle)),
            absolute: Duration::from_hours(u64::from(absolute)),
            per_user: NonZeroUsize::new(per_user).unwrap_or(NonZeroUsize::MIN),
        }
    }
}

/// The two modes never mix: an unused secret would only add a risk.
const UNUSED_SECRET: &str = "JWT_ASSERTION_SECRET is of no use without JWT_SECRET: with a key ring, gateways prove \
                             where callers are with keys of their own";

/// Every setting that cannot be used, by name; the error repeats no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct SettingsError(Vec<String>);

impl Settings {
    /// Reads the settings through `vars`.
    ///
    /// ```
    /// let refused = auth::Settings::from_vars(|_| None).unwrap_err().to_string();
    /// assert!(refused.contains("JWT_REFRESH_SECRET"));
    /// ```
    ///
    /// # Errors
    /// [`SettingsError`] with every setting that is missing, too short, a duplicate secret, or out of bounds.
    pub fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let mut refused = Vec::new();
        if let Err(error) = renamed_variable(&vars, &RENAMED) {
            refused.push(error.to_string());
        }
        let access_secret = SecretKey::optional_from_vars("JWT_SECRET", &vars);
        let refresh_secret = SecretKey::from_vars("JWT_REFRESH_SECRET", &vars);
        if let (Ok(Some(access)), Ok(refresh)) = (&access_secret, &refresh_secret)
            && let Err(error) = access.distinct_from(refresh)
        {
            refused.push(error.to_string());
        }
        let bcrypt_cost = number(&vars, "BCRYPT_COST", 12, 10..=15, &mut refused);
        let sign_ups = number(&vars, "SIGN_UPS_PER_MINUTE", 120, 1..=60_000, &mut refused);
        let log_ins = number(&vars, "LOG_INS_PER_MINUTE", 600, 1..=60_000, &mut refused);
        let sessions = SessionLimits::from_vars(&vars, &mut refused);
        let days = number(&vars, "DEVICE_LIFETIME_DAYS", 90, 1..=400, &mut refused);
        let device_lifetime = Duration::from_hours(u64::from(days) * 24);
        let password_min_length = number(&vars, "PASSWORD_MIN_LENGTH", 8, 8..=64, &mut refused) as usize;
        let others = [access_secret.as_ref().ok().and_then(Option::as_ref), refresh_secret.as_ref().ok()];
        let assertion_secret = assertion_secret(&vars, others, &mut refused);
        if assertion_secret.is_some() && matches!(access_secret, Ok(None)) {
            refused.push(UNUSED_SECRET.to_owned());
        }
        let reset_subject = subject(&vars, "PASSWORD_RESET_SUBJECT", &mut refused);
        let hours = number(&vars, "KEY_ROTATION_HOURS", 24, 1..=8_760, &mut refused);
        let key_activation_delay = number(&vars, "KEY_ACTIVATION_DELAY_MS", 10_000, 1..=600_000, &mut refused);
        let key_activation_delay = Duration::from_millis(u64::from(key_activation_delay));
        let key_rotation = Duration::from_secs(u64::from(hours) * 3_600);
        let text = |name: &str, default: &str| {
            vars(name).filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
        };
        let (issuer, audience) = (text("JWT_ISSUER", DEFAULT_ISSUER), text("JWT_AUDIENCE", DEFAULT_AUDIENCE));
        match (access_secret, refresh_secret) {
            (Ok(access_secret), Ok(refresh_secret)) if refused.is_empty() => Ok(Self {
                access_secret,
                key_rotation,
                key_activation_delay,
                refresh_secret,
                issuer,
                audience,
                bcrypt_cost,
                rate_limits: RateLimits { sign_ups, log_ins },
                sessions,
                device_lifetime,
                password_min_length,
                reset_subject,
                assertion_secret,
            }),
            (access, refresh) => {
                let secrets = [access.err(), refresh.err()].into_iter().flatten();
                refused.extend(secrets.map(|error: JwtConfigError| error.to_string()));
                Err(SettingsError(refused))
            }
        }
    }
}

/// Returns the secret of gateways, if there is one; it must differ from the other secrets.
fn assertion_secret(
    vars: impl Fn(&str) -> Option<String>,
    others: [Option<&SecretKey>; 2],
    refused: &mut Vec<String>,
) -> Option<SecretKey> {
    let secret = SecretKey::optional_from_vars("JWT_ASSERTION_SECRET", vars).and_then(|secret| {
        if let Some(secret) = &secret {
            others.into_iter().flatten().try_for_each(|other| other.distinct_from(secret))?;
        }
        Ok(secret)
    });
    secret.map_err(|error| refused.push(error.to_string())).ok().flatten()
}

fn subject(vars: impl Fn(&str) -> Option<String>, name: &str, refused: &mut Vec<String>) -> Option<String> {
    let text = vars(name).filter(|text| !text.is_empty())?;
    match Subject::new(&text) {
        Ok(_) => Some(text),
        Err(error) => {
            refused.push(format!("{name} must be a subject: {error}"));
            None
        }
    }
}

fn number(
    vars: impl Fn(&str) -> Option<String>,
    name: &str,
    default: u32,
    bounds: std::ops::RangeInclusive<u32>,
    refused: &mut Vec<String>,
) -> u32 {
    let Some(text) = vars(name).filter(|text| !text.is_empty()) else { return default };
    match text.parse().ok().filter(|number| bounds.contains(number)) {
        Some(number) => number,
        None => {
            refused.push(format!("{name} must be a number from {} to {}", bounds.start(), bounds.end()));
            default
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210";

    fn from(vars: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::from_vars(|name| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn refused(vars: &[(&str, &str)]) -> Vec<String> {
        from(vars).unwrap_err().0
    }

    #[test]
    fn two_secrets_are_enough() {
        let settings = from(&[("JWT_SECRET", SECRET), ("JWT_REFRESH_SECRET", OTHER)]).unwrap();
        assert_eq!((settings.bcrypt_cost, settings.issuer.as_str()), (12, "nats-rpc-auth"));
        assert!(!format!("{settings:?}").contains(SECRET));
    }

    #[test]
    fn without_an_access_secret_there_is_the_key_ring() {
        for vars in [&[("JWT_REFRESH_SECRET", OTHER)][..], &[("JWT_SECRET", ""), ("JWT_REFRESH_SECRET", OTHER)]] {
            let settings = from(vars).unwrap();
            assert!(settings.access_secret.is_none());
            assert_eq!(settings.key_rotation, Duration::from_secs(86_400));
        }
        let vars = [("JWT_REFRESH_SECRET", OTHER), ("KEY_ROTATION_HOURS", "0")];
        assert!(refused(&vars)[0].starts_with("KEY_ROTATION_HOURS "));
    }

    #[test]
    fn renamed_variable_is_rejected_with_its_new_name() {
        for (old, new) in RENAMED {
            let vars = [("JWT_REFRESH_SECRET", OTHER), (old, "250")];
            assert_eq!(refused(&vars), [format!("{old} was renamed; set {new} instead")]);
        }
    }

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let both = refused(&[("JWT_SECRET", "short")]);
        assert_eq!(both.len(), 2);
        assert!(both[0].starts_with("JWT_SECRET ") && both[1].starts_with("JWT_REFRESH_SECRET "), "{both:?}");
        let one = refused(&[("JWT_SECRET", SECRET)]);
        assert!(one.len() == 1 && one[0].starts_with("JWT_REFRESH_SECRET "), "{one:?}");
    }

    #[test]
    fn the_secrets_of_the_seed_are_too_short() {
        let short = refused(&[("JWT_SECRET", "your-secret-key"), ("JWT_REFRESH_SECRET", "refresh-secret")]);
        assert_eq!(short.len(), 2);
        assert!(!short.join(" ").contains("your-secret-key"));
    }

    #[test]
    fn one_secret_for_both_is_refused() {
        let same = refused(&[("JWT_SECRET", SECRET), ("JWT_REFRESH_SECRET", SECRET)]);
        assert!(same[0].contains("JWT_SECRET") && same[0].contains("JWT_REFRESH_SECRET"), "{same:?}");
    }

    #[test]
    fn what_gateways_sign_with_is_a_secret_of_its_own() {
        let both = [("JWT_SECRET", SECRET), ("JWT_REFRESH_SECRET", OTHER)];
        let with = |value| from(&[&both[..], &[("JWT_ASSERTION_SECRET", value)]].concat());
        assert!(with("").unwrap().assertion_secret.is_none());
        assert!(with("an assertion secret of more than 32 bytes").unwrap().assertion_secret.is_some());
        for refused in [SECRET, OTHER, "short"] {
            assert!(with(refused).unwrap_err().0[0].contains("JWT_ASSERTION_SECRET"));
        }
    }

    #[test]
    fn every_secret_may_stand_in_a_file() {
        let path = std::env::temp_dir().join(format!("nats-rpc-auth-{}", std::process::id()));
        std::fs::write(&path, format!("{SECRET}\n")).unwrap();
        let file = path.to_str().unwrap();
        let settings = from(&[("JWT_SECRET_FILE", file), ("JWT_REFRESH_SECRET", OTHER)]).unwrap();
        assert!(settings.access_secret.is_some(), "not the key ring");
        assert!(from(&[("JWT_REFRESH_SECRET_FILE", file)]).unwrap().access_secret.is_none());
        let both = [("JWT_SECRET", OTHER), ("JWT_REFRESH_SECRET", "a refresh secret of more than 32 bytes")];
        let with = |vars: &[_]| from(&[&both[..], vars].concat());
        assert!(with(&[("JWT_ASSERTION_SECRET_FILE", file)]).unwrap().assertion_secret.is_some());
        let twice = with(&[("JWT_ASSERTION_SECRET_FILE", file), ("JWT_ASSERTION_SECRET", SECRET)]);
        assert!(twice.unwrap_err().0[0].contains("JWT_ASSERTION_SECRET_FILE"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn reset_tokens_go_to_a_subject_or_to_nobody() {
        let both = [("JWT_SECRET", SECRET), ("JWT_REFRESH_SECRET", OTHER)];
        let with = |value| from(&[&both[..], &[("PASSWORD_RESET_SUBJECT", value)]].concat());
        assert_eq!(from(&both).unwrap().reset_subject, None);
        assert_eq!(with("mail.reset").unwrap().reset_subject.as_deref(), Some("mail.reset"));
        assert!(with("mail.>").unwrap_err().0[0].starts_with("PASSWORD_RESET_SUBJECT "));
    }

    #[test]
    fn all_limits_of_sessions_are_settings() {
        let both = [("JWT_SECRET", SECRET), ("JWT_REFRESH_SECRET", OTHER)];
        let hours = Duration::from_hours;
        let limits = |seconds, idle, absolute, per_user| SessionLimits {
            grace: Duration::from_secs(seconds),
            idle: hours(idle),
            absolute: hours(absolute),
            per_user: NonZeroUsize::new(per_user).unwrap(),
        };
        let settings = from(&both).unwrap();
        assert_eq!((settings.sessions, settings.device_lifetime), (limits(10, 168, 720, 50), hours(90 * 24)));
        let others = [
            ("SESSION_GRACE_MS", "60000"),
            ("SESSION_IDLE_HOURS", "1"),
            ("SESSION_ABSOLUTE_HOURS", "8"),
            ("SESSIONS_PER_USER", "3"),
            ("DEVICE_LIFETIME_DAYS", "7"),
        ];
        let settings = from(&[&both[..], &others].concat()).unwrap();
        assert_eq!((settings.sessions, settings.device_lifetime), (limits(60, 1, 8, 3), hours(7 * 24)));
        for (name, _) in others {
            let refused = refused(&[&both[..], &[(name, "-1")]].concat());
            assert!(refused.len() == 1 && refused[0].starts_with(name), "{refused:?}");
        }
    }

    #[test]
    fn a_cost_out_of_bounds_is_refused() {
        for cost in ["9", "16", "-1", "twelve", "+12 "] {
            let vars = [("JWT_SECRET", SECRET), ("JWT_REFRESH_SECRET", OTHER), ("BCRYPT_COST", cost)];
            assert!(refused(&vars)[0].starts_with("BCRYPT_COST "), "{cost}");
        }
    }
}
