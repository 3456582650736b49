//! Believing whoever says who they are: for a developer's own machine.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::config::JwtConfigError;

/// The environment variable that must be `1`.
pub(crate) const FLAG: &str = "NATS_RPC_INSECURE_DEV";

/// Proof that a payload's `user` may be believed as it is: nobody but this machine can send one.
///
/// Anyone who can publish is then anyone. It exists so that a service can be tried with nothing but the
/// `nats` command line, and it cannot be made where it would matter.
///
/// ```
/// use nats_rpc::jwt::InsecureDev;
///
/// assert!(InsecureDev::prove(Some("1"), "nats://127.0.0.1:4222").is_ok());
/// assert!(InsecureDev::prove(Some("1"), "nats://nats.example.com:4222").is_err());
/// assert!(InsecureDev::prove(None, "nats://127.0.0.1:4222").is_err());
/// ```
#[derive(Debug)]
pub struct InsecureDev {
    last_alarm: AtomicU64,
}

impl InsecureDev {
    /// `flag` is the value of `NATS_RPC_INSECURE_DEV`; `servers` the NATS URLs in use, separated by commas.
    ///
    /// # Errors
    /// [`JwtConfigError::InsecureDevFlag`] unless the flag is `1`, [`JwtConfigError::InsecureDevServer`]
    /// unless every server is `localhost` or a loopback address.
    pub fn prove(flag: Option<&str>, servers: &str) -> Result<Self, JwtConfigError> {
        if flag != Some("1") {
            return Err(JwtConfigError::InsecureDevFlag);
        }
        if !servers.split(',').all(is_loopback) {
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
            tracing::error!("INSECURE: forwarded users are believed without proof ({FLAG}=1)");
        }
        due
    }
}

/// Whether a server, as `[scheme://][user@]host[:port]`, is this machine.
fn is_loopback(server: &str) -> bool {
    let server = server.trim();
    let authority = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, rest)| rest);
    let host = match host_and_port.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host_and_port.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_the_flag_and_the_loopback_are_needed() {
        for flag in [None, Some(""), Some("0"), Some("true"), Some("1 ")] {
            assert_eq!(InsecureDev::prove(flag, "localhost").unwrap_err(), JwtConfigError::InsecureDevFlag);
        }
        for servers in [
            "",
            "nats.example.com",
            "10.0.0.1",
            "nats://localhost.example.com",
            "127.0.0.1.example.com",
            "127.0.0.1@example.com",
            "nats://127.0.0.1:4222,nats://10.0.0.1:4222",
            "0.0.0.0",
            "[::]:4222",
            "example.com/127.0.0.1",
            "example.com?@127.0.0.1",
        ] {
            let refused = InsecureDev::prove(Some("1"), servers).unwrap_err();
            assert_eq!(refused, JwtConfigError::InsecureDevServer, "{servers}");
        }
        for servers in
            ["localhost", "LOCALHOST:4222", "nats://127.0.0.1:4222", "tls://u:p@[::1]:4222", "127.8.8.8, localhost"]
        {
            assert!(InsecureDev::prove(Some("1"), servers).is_ok(), "{servers}");
        }
    }

    #[test]
    fn the_alarm_is_raised_once_a_minute() {
        let dev = InsecureDev::prove(Some("1"), "localhost").unwrap();
        let raised: Vec<_> = (1_000..1_121).filter(|now| dev.raise_alarm(*now)).collect();
        assert_eq!(raised, [1_000, 1_060, 1_120]);
    }
}
