/// Returns the one of `known` that `word` was probably meant to be.
pub(crate) fn closest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let far = word.len().div_ceil(3);
    let near = known.iter().map(|known| (distance(word, known), *known)).filter(|(distance, _)| *distance <= far);
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// Returns the number of letters to add, remove or change to turn `a` into `b` (Levenshtein distance).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let known = ["queue", "timeout_ms", "concurrency", "run_to_completion", "crate"];
        assert_eq!(closest("queu", &known), Some("queue"));
        assert_eq!(closest("timeout", &known), Some("timeout_ms"));
        assert_eq!(closest("concurency", &known), Some("concurrency"));
        assert_eq!(closest("retries", &known), None);
        assert_eq!(closest("", &known), None);
    }
}
