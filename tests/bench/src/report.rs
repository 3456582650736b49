//! Reports: tables for people, JSON for programs.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use serde::Serialize;

/// A table with a header; numbers are right-aligned.
pub(crate) struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, head: &[&str]) -> Self {
        Self { title: title.into(), rows: vec![head.iter().map(|&name| name.to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn print(&self) {
        println!("\n{}", self.title);
        for line in self.lines() {
            println!("{line}");
        }
    }

    fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(move |row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// A performance target, and its measured result.
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) at_most: f64,
}

impl Target {
    pub(crate) fn new(what: impl Into<String>, measured: f64, at_most: f64) -> Self {
        Self { what: what.into(), measured, at_most }
    }

    fn verdict(&self) -> String {
        match self.measured <= self.at_most {
            true => "met".to_owned(),
            false => format!("missed by {:.1} %", (self.measured / self.at_most - 1.0) * 100.0),
        }
    }
}

/// Prints all targets with their verdicts.
pub(crate) fn print_targets(targets: &[Target]) {
    let mut table = Table::new("targets", &["", "measured", "at most", ""]);
    for target in targets {
        let number = |value: f64| format!("{value:.3}");
        table.row([target.what.clone(), number(target.measured), number(target.at_most), target.verdict()]);
    }
    table.print();
}

/// Returns the folder of results, `target/bench`; creates it if it does not exist.
pub(crate) fn folder() -> Result<PathBuf, Box<dyn Error>> {
    // This program is target/release/nats-rpc-bench, wherever the target folder is.
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).ok_or("this program is in no target folder")?;
    let folder = target.join("bench");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Writes `rows` to `target/bench/<name>.json`.
pub(crate) fn write_json(name: &str, rows: &impl Serialize) -> Result<(), Box<dyn Error>> {
    let path = folder()?.join(name).with_extension("json");
    fs::write(&path, serde_json::to_string_pretty(rows)? + "\n")?;
    println!("\nwritten to {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new("t", &["name", "µs"]);
        table.row(["a".to_owned(), "1000".to_owned()]);
        table.row(["long name".to_owned(), "7".to_owned()]);
        assert_eq!(table.lines(), ["name         µs", "a          1000", "long name     7"]);
    }

    #[test]
    fn a_missed_target_says_by_how_much() {
        assert_eq!(Target::new("", 1.10, 1.10).verdict(), "met");
        assert_eq!(Target::new("", 1.21, 1.10).verdict(), "missed by 10.0 %");
    }
}
