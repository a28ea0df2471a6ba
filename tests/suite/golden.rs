//! Golden tests: whole texts compared with files, so that a change of any decision shows as a diff.
//!
//! A case is a file `tests/golden/FOLDER/NAME.txt`: the input, a line `----`, and everything that
//! the function under test answers. `LMC_BLESS=1` writes the answers into the files.

use std::fmt::Write;
use std::path::{Path, PathBuf};

const RULE: &str = "----\n";

/// The folder of the repository's tests.
pub fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests")
}

fn blessing() -> bool {
    std::env::var_os("LMC_BLESS").is_some_and(|v| v == "1")
}

/// Runs `answer` on the input of every case in a folder and compares the whole answers.
pub fn check_folder(folder: &str, answer: impl Fn(&str) -> String) {
    let dir = tests_folder().join("golden").join(folder);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("a readable folder").path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "txt"));
    files.sort();
    assert!(!files.is_empty(), "no cases in {}", dir.display());
    let failures: String = files.iter().filter_map(|f| check_case(f, &answer)).collect();
    assert!(failures.is_empty(), "{failures}\nIf this is meant, run again with LMC_BLESS=1.");
}

fn check_case(file: &Path, answer: &impl Fn(&str) -> String) -> Option<String> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let (input, wanted) = text.split_once(RULE).unwrap_or((&text, ""));
    let got = with_newline(answer(input));
    compare(file, wanted, &got, || format!("{}{RULE}{got}", with_newline(input.to_string())))
}

/// Compares one whole text with the file `tests/golden/PATH`, which holds nothing else.
pub fn check_text(path: &str, got: &str) {
    check_file(&tests_folder().join("golden").join(path), got);
}

/// Compares one whole text with a file.
pub fn check_file(file: &Path, got: &str) {
    let wanted = std::fs::read_to_string(file).unwrap_or_default();
    let got = with_newline(got.to_string());
    if let Some(failure) = compare(file, &wanted, &got, || got.clone()) {
        panic!("{failure}\nIf this is meant, run again with LMC_BLESS=1.");
    }
}

fn compare(file: &Path, wanted: &str, got: &str, blessed: impl Fn() -> String) -> Option<String> {
    if wanted == got {
        return None;
    }
    if blessing() {
        std::fs::write(file, blessed()).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        return None;
    }
    Some(format!("{} differs (- golden, + now):\n{}", file.display(), diff(wanted, got)))
}

fn with_newline(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The lines between the common beginning and the common end, with two lines of context.
fn diff(wanted: &str, got: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), got.lines().collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let rest = a.len().min(b.len()) - head;
    let tail = a.iter().rev().zip(b.iter().rev()).take(rest).take_while(|(x, y)| x == y).count();
    let mut text = String::new();
    let mut put = |sign: &str, lines: &[&str]| {
        lines.iter().for_each(|l| writeln!(text, "{sign} {l}").expect("writing to a string"));
    };
    put(" ", &a[head.saturating_sub(2)..head]);
    put("-", &a[head..a.len() - tail]);
    put("+", &b[head..b.len() - tail]);
    put(" ", &a[a.len() - tail..(a.len() - tail + 2).min(a.len())]);
    text
}

#[test]
fn the_diff_shows_what_changed() {
    assert_eq!(diff("a\nb\nc\nd\n", "a\nb\nx\nd\n"), "  a\n  b\n- c\n+ x\n  d\n");
}
