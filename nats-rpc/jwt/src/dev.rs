//! Development mode: accepts a `user` field in the payload without proof.

use std::sync::atomic::{AtomicU64, Ordering};

use super::config::JwtConfigError;

/// Proof that a payload's `user` may be accepted without verification: only this machine can send one.
///
/// Any client that can publish can then impersonate any user. This mode exists so that a developer can try a service
/// with only the `nats` command line. It cannot detect a tunnel: a port forwarded to a remote server looks like this
/// machine.
///
/// ```
/// use nats_rpc_jwt::InsecureDev;
///
/// assert!(InsecureDev::prove(Some("1"), true).is_ok());
/// assert!(InsecureDev::prove(Some("1"), false).is_err());
/// assert!(InsecureDev::prove(None, true).is_err());
/// ```
#[derive(Debug)]
pub struct InsecureDev {
    last_alarm: AtomicU64,
}

impl InsecureDev {
    /// The environment variable that must be `1`.
    pub(crate) const FLAG: &str = "NATS_RPC_INSECURE_DEV";

    /// Checks the conditions. `flag` is the value of `NATS_RPC_INSECURE_DEV`; `is_loopback` is `true` if the NATS
    /// connection stays on this machine.
    ///
    /// # Errors
    /// [`JwtConfigError::InsecureDevFlag`] unless the flag is `1`, [`JwtConfigError::InsecureDevServer`] if the
    /// connection leaves this machine.
    pub fn prove(flag: Option<&str>, is_loopback: bool) -> Result<Self, JwtConfigError> {
        if flag != Some("1") {
            return Err(JwtConfigError::InsecureDevFlag);
        }
        if !is_loopback {
            return Err(JwtConfigError::InsecureDevServer);
        }
        Ok(Self { last_alarm: AtomicU64::new(0) })
    }

    /// Logs a warning about this mode, at most once a minute. `now` in seconds since 1970.
    pub(crate) fn raise_alarm(&self, now: u64) -> bool {
        let last = self.last_alarm.load(Ordering::Relaxed);
        let due = now.saturating_sub(last) >= 60
            && self.last_alarm.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if due {
            tracing::error!("INSECURE: forwarded users are believed without proof ({}=1)", Self::FLAG);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_the_flag_and_the_loopback_are_needed() {
        for flag in [None, Some(""), Some("0"), Some("true"), Some("1 ")] {
            assert_eq!(InsecureDev::prove(flag, true).unwrap_err(), JwtConfigError::InsecureDevFlag);
        }
        assert_eq!(InsecureDev::prove(Some("1"), false).unwrap_err(), JwtConfigError::InsecureDevServer);
        assert!(InsecureDev::prove(Some("1"), true).is_ok());
    }

    #[test]
    fn the_alarm_is_raised_once_a_minute() {
        let dev = InsecureDev::prove(Some("1"), true).unwrap();
        let raised: Vec<_> = (1_000..1_121).filter(|now| dev.raise_alarm(*now)).collect();
        assert_eq!(raised, [1_000, 1_060, 1_120]);
    }
}
