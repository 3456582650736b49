//! The outcome of a run: one line for each attack.

use std::fmt;

/// The outcome of each attack of an [`AttackSuite`](super::AttackSuite), in the order in which they ran.
///
/// Its `Display` prints one line for each attack and a summary.
#[derive(Clone, Debug)]
#[must_use = "findings go unnoticed unless `assert_clean` or `findings` is called"]
pub struct AttackReport {
    results: Vec<AttackResult>,
}

/// The outcome of one attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttackResult {
    name: String,
    finding: Option<String>,
}

impl AttackReport {
    pub(super) fn new(results: Vec<AttackResult>) -> Self {
        Self { results }
    }

    /// Returns the outcome of every attack.
    pub fn results(&self) -> &[AttackResult] {
        &self.results
    }

    /// Returns the attacks that the service did not withstand.
    pub fn findings(&self) -> impl Iterator<Item = &AttackResult> {
        self.results.iter().filter(|result| result.finding.is_some())
    }

    /// Asserts that the service withstood every attack.
    ///
    /// # Panics
    /// If there is a finding; the message lists all of them.
    #[track_caller]
    pub fn assert_clean(&self) {
        let findings: Vec<String> = self.findings().map(ToString::to_string).collect();
        let (found, all) = (findings.len(), self.results.len());
        assert!(findings.is_empty(), "{found} of {all} attacks succeeded:\n{}", findings.join("\n"));
    }
}

impl AttackResult {
    pub(super) fn new(name: String, finding: Option<String>) -> Self {
        Self { name, finding }
    }

    /// Returns the name of the attack.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what went wrong; `None` if the service withstood the attack.
    pub fn finding(&self) -> Option<&str> {
        self.finding.as_deref()
    }
}

impl fmt::Display for AttackResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.finding {
            None => write!(f, "ok      {}", self.name),
            Some(finding) => write!(f, "FINDING {}: {finding}", self.name),
        }
    }
}

impl fmt::Display for AttackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for result in &self.results {
            writeln!(f, "{result}")?;
        }
        write!(f, "{} attacks, {} findings", self.results.len(), self.findings().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(finding: Option<&str>) -> AttackReport {
        let result = |finding: Option<&str>| AttackResult::new("poison".to_owned(), finding.map(str::to_owned));
        AttackReport::new(vec![result(None), result(finding)])
    }

    #[test]
    fn report_prints_a_line_per_attack() {
        assert_eq!(
            report(Some("no reply")).to_string(),
            "ok      poison\nFINDING poison: no reply\n2 attacks, 1 findings"
        );
        report(None).assert_clean();
    }

    #[test]
    #[should_panic(expected = "1 of 2 attacks succeeded:\nFINDING poison: no reply")]
    fn report_with_a_finding_is_not_clean() {
        report(Some("no reply")).assert_clean();
    }
}
