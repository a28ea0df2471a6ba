//! Definitions and lowerings: text forms read and printed, verified, and run.

use crate::golden::check_folder;
use lmc::definition::{explain, explain_lowering, parse, parse_definition, verify, verify_definition};

/// The text as printed, with what the verifier finds under the guilty lines.
fn read_and_verify(text: &str) -> String {
    let lowering = text.lines().any(|l| l.starts_with("lowering"));
    let answer = if lowering { read_lowering(text) } else { read_definition(text) };
    answer.unwrap_or_else(|error| format!("{error}\n"))
}

fn read_definition(text: &str) -> lmc::error::Result<String> {
    let definition = parse_definition(text)?;
    let verdict = match verify_definition(&definition) {
        Ok(()) => "valid",
        Err(_) => "invalid",
    };
    if verdict == "valid" {
        assert_eq!(parse_definition(&definition.to_string())?, definition);
    }
    Ok(format!("{}{verdict}\n", explain(&definition)))
}

fn read_lowering(text: &str) -> lmc::error::Result<String> {
    let lowering = parse(text)?;
    let verdict = match verify(&lowering) {
        Ok(()) => "valid",
        Err(_) => "invalid",
    };
    if verdict == "valid" {
        assert_eq!(parse(&format!("{lowering:#}"))?, lowering);
    }
    Ok(format!("{}{verdict}\n", explain_lowering(&lowering)))
}

#[test]
fn text_and_verifier() {
    check_folder("definition", read_and_verify);
}
