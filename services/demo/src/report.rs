//! A line for each step: what was expected, what came, how long it took.

use std::io::{self, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use crate::BoxError;

/// How long something may take in silence, and how often it then says that it still runs.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the steps came to.
#[derive(Debug)]
pub struct Report {
    prints: bool,
    done: usize,
    failed: Vec<&'static str>,
}

impl Report {
    /// Prints a line for each step.
    pub fn printing() -> Self {
        Self { prints: true, done: 0, failed: Vec::new() }
    }

    /// Keeps the outcomes to itself; for tests.
    pub fn silent() -> Self {
        Self { prints: false, ..Self::printing() }
    }

    /// The steps that did not do what they should, in order.
    pub fn failed(&self) -> &[&'static str] {
        &self.failed
    }

    /// How many steps were taken.
    pub fn steps(&self) -> usize {
        self.done
    }

    /// Runs one step: `work` gives what came, and a value for the steps behind it; an error is what came
    /// instead of what was expected.
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
            // Whoever closed the pipe does not want to know.
            let _ = writeln!(io::stdout(), "{line}");
        }
    }

    /// Says what it all came to; whether every step did what it should.
    pub(crate) fn conclude(&self) -> bool {
        match self.failed.as_slice() {
            [] => self.say(&format!("all {} steps did what they should", self.done)),
            failed => self.say(&format!("{} of {} steps failed: {}", failed.len(), self.done, failed.join(", "))),
        }
        self.failed.is_empty()
    }
}
