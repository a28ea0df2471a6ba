//! What is printed: text for people, one JSON object per line for tools.

use crate::build::Observer;
use crate::error::{Error, Kind};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text.
    Human,
    /// One JSON object per line on stdout, each with a `reason`.
    Json,
}

/// Prints results.
pub(super) struct Report {
    format: Format,
}

impl Report {
    pub(super) fn new(format: Format) -> Self {
        Report { format }
    }

    /// Writes a line to stdout; a reader that went away is no error.
    fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// A result: `text` for people, `json` with its `reason` for tools.
    pub(super) fn result(&self, reason: &str, text: &str, mut json: Value) {
        match self.format {
            Format::Human => self.line(text.trim_end()),
            Format::Json => {
                json["reason"] = reason.into();
                self.line(&json.to_string());
            }
        }
    }

    /// Something the user should know.
    pub(super) fn note(&self, text: &str) {
        match self.format {
            Format::Human => eprintln!("note: {text}"),
            Format::Json => self.line(&json!({ "reason": "note", "message": text }).to_string()),
        }
    }

    /// An error that ends the command.
    pub(super) fn error(&self, error: &Error) {
        match self.format {
            Format::Human => eprintln!("error: {error}"),
            Format::Json => {
                let mut json = error_json(error);
                json["reason"] = "error".into();
                self.line(&json.to_string());
            }
        }
    }
}

/// Shows progress on a terminal, and prints what is dumped.
struct Follow<'a> {
    report: &'a Report,
    bar: Option<ProgressBar>,
    dumps: &'a [String],
}

impl Observer for Follow<'_> {
    fn progress(&self, step: &str, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.update(|state| {
                state.set_len(total as u64);
                state.set_pos(done as u64);
            });
            bar.set_message(step.to_string());
        }
    }

    fn wants(&self, stage: &str) -> bool {
        self.dumps.iter().any(|d| d == stage)
    }

    fn dump(&self, stage: &str, text: &str) {
        self.report.result("dump", text, json!({ "stage": stage, "text": text }));
    }
}

impl Report {
    /// Runs a build with a progress bar on a terminal, none in a pipe or with JSON.
    pub(super) fn follow<T>(&self, dumps: &[String], f: impl FnOnce(&dyn Observer) -> T) -> T {
        let shown = self.format == Format::Human && std::io::stderr().is_terminal();
        let bar = shown.then(|| {
            let style = ProgressStyle::with_template("{msg:10} {bar:30} {pos}/{len} {elapsed}");
            let bar = ProgressBar::new(1);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let follow = Follow { report: self, bar, dumps };
        let result = f(&follow);
        if let Some(bar) = &follow.bar {
            bar.finish_and_clear();
        }
        result
    }
}

/// An error as data.
pub(super) fn error_json(error: &Error) -> Value {
    let kind = match error.kind {
        Kind::Model => "model",
        Kind::Options => "options",
        Kind::Target => "target",
        Kind::Io => "io",
        Kind::Bug => "bug",
    };
    json!({
        "kind": kind, "place": error.place, "message": error.reason, "advice": error.advice,
    })
}

/// Rows as columns of equal width, two spaces apart.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        // Names may be longer than what a format's width can say.
        let pad = |t: &String, w: usize| " ".repeat(w.saturating_sub(t.chars().count()));
        let cells: Vec<String> = row.iter().zip(&widths).map(|(t, &w)| format!("{t}{}", pad(t, w))).collect();
        text.push_str(&format!("  {}\n", cells.join("  ").trim_end()));
    }
    text
}

/// A number with its thousands separated: `1,234,567`.
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}
