//! Believing whoever says who they are: for a developer's own machine.

use std::sync::atomic::{AtomicU64, Ordering};

use super::config::JwtConfigError;

/// Proof that a payload's `user` may be believed as it is: nobody but this machine can send one.
///
/// Anyone who can publish is then anyone. It exists so that a service can be tried with nothing but the
/// `nats` command line. What it cannot see is a tunnel: a port forwarded to a server elsewhere looks like
/// this machine.
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

    /// `flag` is the value of `NATS_RPC_INSECURE_DEV`; `is_loopback` whether the NATS connection stays on this
    /// machine.
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

    /// Says so in the log, at most once a minute. `now` in seconds since 1970.
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
