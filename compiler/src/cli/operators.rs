//! `lmc ops`: the operator table.

use super::report::{Report, table};
use crate::error::Result;
use crate::ops::rows;
use serde_json::json;
use std::process::ExitCode;

pub(super) fn run(report: &Report) -> Result<ExitCode> {
    let mut all: Vec<_> = rows().filter(|r| r.domain != "lmc").collect();
    all.sort_by_key(|r| (r.domain, r.name));
    let mut lines = vec![vec!["operator".to_string(), "opsets".to_string(), "note".to_string()]];
    let mut list = Vec::new();
    for row in all {
        let versions: Vec<String> = row.versions.iter().map(i64::to_string).collect();
        let domain = if row.domain.is_empty() { String::new() } else { format!("{}.", row.domain) };
        lines.push(vec![format!("{domain}{}", row.name), versions.join(","), row.note.to_string()]);
        list.push(json!({
            "domain": row.domain, "name": row.name, "versions": row.versions, "note": row.note,
        }));
    }
    report.result("operators", &table(&lines), json!({ "operators": list }));
    Ok(ExitCode::SUCCESS)
}
