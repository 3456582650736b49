use std::fmt;

/// The result of a scenario.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its name.
    pub scenario: &'static str,
    /// One line for each case.
    pub rows: Vec<Row>,
}

/// One case: its counts, and the expected ones.
#[derive(Clone, Debug)]
pub struct Row {
    /// The name of the case.
    pub case: String,
    /// The counts.
    pub counts: String,
    /// The expected counts.
    pub expected: &'static str,
    /// `true` if the counts are as expected.
    pub passed: bool,
}

impl Row {
    pub(super) fn new(
        case: impl Into<String>,
        expected: &'static str,
        passed: bool,
        counts: impl Into<String>,
    ) -> Self {
        Self { case: case.into(), counts: counts.into(), expected, passed }
    }
}

impl Report {
    /// Returns `true` if every case is as expected.
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.passed)
    }
}

impl fmt::Display for Report {
    /// Formats a Markdown table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = |row: &Row| if row.passed { "ok" } else { "FAILED" };
        let width = |heading: &str, cell: fn(&Row) -> &str| {
            let cells = self.rows.iter().map(|row| cell(row).chars().count());
            cells.chain([heading.len()]).max().unwrap_or_default()
        };
        let case = width(self.scenario, |row| &row.case);
        let counts = width("counted", |row| &row.counts);
        let expected = width("expected", |row| row.expected);
        let heading = self.scenario;
        writeln!(f, "| {heading:case$} | {:counts$} | {:expected$} | verdict |", "counted", "expected")?;
        let line = |width| "-".repeat(width);
        writeln!(f, "|-{}-|-{}-|-{}-|---------|", line(case), line(counts), line(expected))?;
        for row in &self.rows {
            let (name, told, wanted) = (&row.case, &row.counts, row.expected);
            writeln!(f, "| {name:case$} | {told:counts$} | {wanted:expected$} | {:7} |", verdict(row))?;
        }
        Ok(())
    }
}
