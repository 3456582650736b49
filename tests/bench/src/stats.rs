//! Medians, percentiles, slopes.

/// Returns the middle value, or the mean of the two in the middle; NaN if there is no value.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Returns the smallest value that at least `percent` of all values do not exceed; 0 if there is no value.
pub(crate) fn percentile(sorted: &[u32], percent: f64) -> u32 {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0)
}

/// Returns the cost of one more unit, from two counts and their costs; fixed costs cancel out.
pub(crate) fn slope((few, cost_of_few): (u64, u64), (many, cost_of_many): (u64, u64)) -> f64 {
    (cost_of_many as f64 - cost_of_few as f64) / (many as f64 - few as f64)
}

/// Returns the median of the ratios between each round's value and the same round's baseline.
///
/// Rounds are compared pairwise, because the speed of a shared machine varies from round to round.
pub(crate) fn paired_ratio(values: &[f64], baseline: &[f64]) -> f64 {
    let ratios: Vec<f64> = values.iter().zip(baseline).map(|(value, base)| value / base).collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn an_outlier_does_not_move_the_median() {
        assert_eq!(median(&[1.0, 1.0, 1.0, 1.0, 1_000.0]), 1.0);
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let values: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&values, 50.0), 50);
        assert_eq!(percentile(&values, 99.0), 99);
        assert_eq!(percentile(&values, 100.0), 100);
        assert_eq!(percentile(&values, 0.0), 1);
        assert_eq!(percentile(&[5], 99.0), 5);
        assert_eq!(percentile(&[1, 9], 50.0), 1);
        assert_eq!(percentile(&[], 50.0), 0);
    }

    #[test]
    fn the_slope_leaves_out_what_is_paid_once() {
        assert_eq!(slope((1_000, 500_000 + 8_000_000), (11_000, 500_000 + 88_000_000)), 8_000.0);
    }

    #[test]
    fn rounds_are_compared_each_with_itself() {
        // In the second round, the machine was half as fast for both.
        assert_eq!(paired_ratio(&[1.1, 2.2, 1.1], &[1.0, 2.0, 1.0]), 1.1);
    }
}
