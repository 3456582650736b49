//! Exponential backoff.

use std::time::Duration;

/// Returns `first`, doubled `times` times; `longest` at most.
pub fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    let factor = 1_u32.checked_shl(times);
    factor.and_then(|factor| first.checked_mul(factor)).map_or(longest, |wait| wait.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_twice_as_long_as_the_one_before_up_to_the_longest() {
        let wait = |times| doubled(Duration::from_millis(5), times, Duration::from_millis(200)).as_millis();
        assert_eq!((0..7).map(wait).collect::<Vec<_>>(), [5, 10, 20, 40, 80, 160, 200]);
        assert_eq!([31, 32, u32::MAX].map(wait), [200; 3]);
        assert_eq!(doubled(Duration::MAX, 1, Duration::MAX), Duration::MAX);
    }
}
