//! Replaces figures in the README.

use std::error::Error;
use std::fs;
use std::path::Path;

/// A Markdown table: a line for each contestant, a column for each load.
pub(crate) struct Matrix {
    columns: Vec<String>,
    lines: Vec<(String, Vec<String>)>,
}

impl Matrix {
    pub(crate) fn new() -> Self {
        Self { columns: Vec::new(), lines: Vec::new() }
    }

    /// Sets `cell` at `line` and `column`; new lines and columns are added at the end.
    pub(crate) fn put(&mut self, line: &str, column: &str, cell: String) {
        let column = self.columns.iter().position(|known| known == column).unwrap_or_else(|| {
            self.columns.push(column.to_owned());
            self.columns.len() - 1
        });
        let line = self.lines.iter().position(|(known, _)| known == line).unwrap_or_else(|| {
            self.lines.push((line.to_owned(), Vec::new()));
            self.lines.len() - 1
        });
        let cells = &mut self.lines[line].1;
        cells.resize(cells.len().max(column + 1), String::new());
        cells[column] = cell;
    }

    /// Returns the table, with a line break at the end.
    pub(crate) fn markdown(&self) -> String {
        let row = |first: &str, cells: &[String]| {
            let blank = String::new();
            let cells = (0..self.columns.len()).map(|column| cells.get(column).unwrap_or(&blank).as_str());
            format!("| {first} | {} |\n", cells.collect::<Vec<_>>().join(" | "))
        };
        let rule = format!("|---|{}\n", "--:|".repeat(self.columns.len()));
        let lines = self.lines.iter().map(|(name, cells)| row(name, cells));
        row("", &self.columns) + &rule + &lines.collect::<String>()
    }
}

/// Replaces the text in `file` between the lines `<!-- name -->` and `<!-- /name -->` by `text`.
///
/// # Errors
/// If the file has no such lines, or cannot be read or written.
pub(crate) fn replace(file: &Path, name: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let whole = fs::read_to_string(file)?;
    let replaced = replaced(&whole, name, text)
        .ok_or_else(|| format!("{} has no lines `<!-- {name} -->` and `<!-- /{name} -->`", file.display()))?;
    fs::write(file, replaced)?;
    println!("\nthe figures `{name}` in {} are those of this run", file.display());
    Ok(())
}

fn replaced(whole: &str, name: &str, text: &str) -> Option<String> {
    let (before, rest) = whole.split_once(&format!("<!-- {name} -->\n"))?;
    let (_, after) = rest.split_once(&format!("<!-- /{name} -->\n"))?;
    Some(format!("{before}<!-- {name} -->\n{text}<!-- /{name} -->\n{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contestant_has_one_line_and_a_load_one_column() {
        let mut matrix = Matrix::new();
        matrix.put("serial", "echo", "1.00".to_owned());
        matrix.put("ours", "echo", "1.05".to_owned());
        matrix.put("ours", "sleep", "0.80".to_owned());
        let lines = ["|  | echo | sleep |", "|---|--:|--:|", "| serial | 1.00 |  |", "| ours | 1.05 | 0.80 |", ""];
        assert_eq!(matrix.markdown(), lines.join("\n"));
    }

    #[test]
    fn only_what_stands_between_the_lines_is_replaced() {
        let whole = "a\n<!-- rpc -->\nold\n<!-- /rpc -->\nb\n";
        assert_eq!(replaced(whole, "rpc", "new\n").as_deref(), Some("a\n<!-- rpc -->\nnew\n<!-- /rpc -->\nb\n"));
        assert_eq!(replaced(whole, "other", "new\n"), None);
        assert_eq!(replaced("<!-- rpc -->\n", "rpc", "new\n"), None);
    }

    #[test]
    fn a_file_without_the_lines_is_left_as_it_is_and_named() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let before = fs::read_to_string(&file).expect("a manifest");
        let error = replace(&file, "rpc", "").expect_err("no such lines");
        assert!(error.to_string().contains("<!-- /rpc -->"), "{error}");
        assert_eq!(fs::read_to_string(&file).expect("a manifest"), before);
    }
}
