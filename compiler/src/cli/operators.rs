//! `lmc ops`: the operator table; `docs/operators.md` is its text as Markdown.

use super::report::{Report, table};
use crate::error::Result;
use crate::ops::{Operator, rows};
use clap::Args;
use serde_json::json;
use std::fmt::Write;
use std::process::ExitCode;

/// Options of `lmc ops`.
#[derive(Args)]
pub(super) struct OpsArgs {
    /// Print the page docs/operators.md.
    #[arg(long)]
    markdown: bool,
}

pub(super) fn run(args: &OpsArgs, report: &Report) -> Result<ExitCode> {
    let mut all: Vec<&Operator> = rows().filter(|r| r.domain != "lmc").collect();
    all.sort_by_key(|r| (r.domain, r.name));
    let list: Vec<_> = (all.iter())
        .map(|r| json!({ "domain": r.domain, "name": r.name, "versions": r.versions, "note": r.note }))
        .collect();
    let text = if args.markdown { page(&all) } else { plain(&all) };
    report.result("operators", &text, json!({ "operators": list }));
    Ok(ExitCode::SUCCESS)
}

fn versions(row: &Operator) -> String {
    row.versions.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}

fn plain(all: &[&Operator]) -> String {
    let mut lines = vec![["operator", "opsets", "note"].map(str::to_string).to_vec()];
    for row in all {
        let domain = if row.domain.is_empty() { String::new() } else { format!("{}.", row.domain) };
        lines.push(vec![format!("{domain}{}", row.name), versions(row), row.note.to_string()]);
    }
    table(&lines)
}

fn page(all: &[&Operator]) -> String {
    let mut text = String::from(
        "# Operators\n\n\
         What `lmc ops` prints. Opsets are the versions in which ONNX changed the operator; each has its own\n\
         meaning. A note says what is restricted; a model outside of it is refused with an error that names\n\
         the node.\n",
    );
    for part in all.chunk_by(|a, b| a.domain == b.domain) {
        let domain = if part[0].domain.is_empty() { "ai.onnx" } else { part[0].domain };
        let head = format!("\n## {domain} ({})\n\n| operator | opsets | note |\n|---|---|---|\n", part.len());
        text.push_str(&head);
        for row in part {
            // Writing to a string does not fail.
            let _ = writeln!(text, "| {} | {} | {} |", row.name, versions(row), row.note.replace('|', "\\|"));
        }
    }
    text
}
