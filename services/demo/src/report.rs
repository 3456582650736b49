//! The report: for each step its expected result, its actual result, and its duration.

use std::io::{self, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use crate::BoxError;

/// Time after which a running step prints that it still runs, and the interval of further lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// The outcomes of the steps.
#[derive(Debug)]
pub struct Report {
    prints: bool,
    done: usize,
    failed: Vec<&'static str>,
}

impl Report {
    /// Creates a report that prints one line per step.
    pub fn printing() -> Self {
        Self { prints: true, done: 0, failed: Vec::new() }
    }

    /// Creates a report that prints nothing; for tests.
    pub fn silent() -> Self {
        Self { prints: false, ..Self::printing() }
    }

    /// Returns the failed steps, in order.
    pub fn failed(&self) -> &[&'static str] {
        &self.failed
    }

    /// Returns the number of steps taken.
    pub fn steps(&self) -> usize {
        self.done
    }

    /// Runs one step: `work` returns the actual result and a value for later steps; an error is the unexpected result.
    pub(crate) async fn step<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        work: impl Future<Output = Result<(String, T), BoxError>>,
    ) -> Option<T> {
        let started = Instant::now();
        let mut work = pin!(work);
        let outcome = loop {
            match tokio::time::timeout(PATIENCE, &mut work).await {
                Ok(outcome) => break outcome,
                Err(_) if self.prints => eprintln!("            {name} … {} s", started.elapsed().as_secs()),
                Err(_) => {}
            }
        };
        let millis = started.elapsed().as_millis();
        self.done += 1;
        let (verdict, came, value) = match outcome {
            Ok((came, value)) => ("ok", came, Some(value)),
            Err(error) => {
                self.failed.push(name);
                ("FAILED", error.to_string(), None)
            }
        };
        self.say(&format!("{verdict:<6} {millis:>5} ms  {name:<42} expected: {expected}; got: {came}"));
        value
    }

    pub(crate) fn say(&self, line: &str) {
        if self.prints {
            // A closed pipe is no error.
            let _ = writeln!(io::stdout(), "{line}");
        }
    }

    /// Prints the overall outcome; returns `true` if every step had its expected result.
    pub(crate) fn conclude(&self) -> bool {
        match self.failed.as_slice() {
            [] => self.say(&format!("all {} steps did what they should", self.done)),
            failed => self.say(&format!("{} of {} steps failed: {}", failed.len(), self.done, failed.join(", "))),
        }
        self.failed.is_empty()
    }
}
