use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The longest pause between two reconnect attempts to a server, before jitter.
const MAX: Duration = Duration::from_millis(100);

/// Doubles from 1 ms to the maximum; the jitter prevents many clients from reconnecting simultaneously.
pub(super) fn reconnect_delay(attempt: usize) -> Duration {
    if attempt <= 1 {
        return Duration::ZERO;
    }
    let exponent = u32::try_from(attempt).unwrap_or(u32::MAX).min(20);
    let delay = Duration::from_millis(1 << exponent).min(MAX);
    delay + delay.mul_f64(jitter())
}

/// Returns a number from 0 to 1 that differs from call to call. No security depends on its quality.
fn jitter() -> f64 {
    (RandomState::new().hash_one(0_u8) % 1_000) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnects_slow_down_to_the_cap() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        for attempt in [2, 5, 10, 1_000, usize::MAX] {
            assert!(reconnect_delay(attempt) <= MAX * 2);
        }
    }
}
