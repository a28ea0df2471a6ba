//! Graphs: text forms read and printed, verified.

use crate::golden::check_folder;
use lmc::graph::{explain, parse, verify};

/// The text of a graph as printed, with what the verifier finds under the guilty lines.
fn read_and_verify(text: &str) -> String {
    let graph = match parse(text, lmc::ops::find) {
        Ok(graph) => graph,
        Err(error) => return format!("{error}\n"),
    };
    let full = format!("{graph:#}");
    let again = parse(&full, lmc::ops::find).expect("printed text is read back");
    assert_eq!(format!("{again:#}"), full);
    let verdict = match verify(&graph) {
        Ok(()) => "valid",
        Err(_) => "invalid",
    };
    format!("{}{verdict}\n", explain(&graph))
}

#[test]
fn text_and_verifier() {
    check_folder("graph", read_and_verify);
}
