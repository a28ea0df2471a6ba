//! The layering rule: a module uses only modules that stand above it in the table of
//! `docs/architecture.md`, so data goes one way and no stage knows a later one.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules at the top of the crate that are its interface and stand below all stages.
const CRATE_ROOTS: [&str; 2] = ["lib", "main"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The modules of the table's first column, in order.
fn layers() -> Vec<String> {
    let text = fs::read_to_string(repository().join("docs/architecture.md")).expect("the table of modules");
    let cells = text.lines().filter_map(|l| l.strip_prefix("| `")).filter_map(|l| l.split("` |").next());
    cells.map(str::to_string).collect()
}

#[test]
fn the_crate_lists_its_modules_in_this_order() {
    let text = fs::read_to_string(repository().join("compiler/src/lib.rs")).expect("the crate's root");
    let listed = text.lines().filter_map(|l| l.strip_prefix("pub mod ")).map(|l| l.trim_end_matches(';'));
    assert_eq!(listed.collect::<Vec<_>>(), layers());
}

fn source_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder") {
        let path = entry.expect("a source entry").path();
        if path.is_dir() {
            source_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The modules named after `crate::` in a line that is no comment.
fn used_modules(line: &str) -> Vec<String> {
    if line.trim_start().starts_with("//") {
        return Vec::new();
    }
    let name = |s: &str| s.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let names = |s: &str| match s.strip_prefix('{') {
        Some(list) => list.split(',').map(name).collect(),
        None => vec![name(s)],
    };
    line.split("crate::").skip(1).flat_map(names).collect()
}

#[test]
fn modules_use_only_modules_above_them() {
    let layers = layers();
    let level = |module: &str| layers.iter().position(|m| m == module);
    let source = repository().join("compiler/src");
    let mut files = Vec::new();
    source_files(&source, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&source).expect("inside the folder");
        let first = relative.components().next().expect("a file name").as_os_str().to_string_lossy();
        let module = first.trim_end_matches(".rs").to_string();
        if CRATE_ROOTS.contains(&module.as_str()) {
            continue;
        }
        let Some(mine) = level(&module) else {
            wrong.push(format!("{}: `{module}` is missing in docs/architecture.md", relative.display()));
            continue;
        };
        let text = fs::read_to_string(&file).expect("a source file");
        for (number, line) in text.lines().enumerate() {
            for used in used_modules(line) {
                if level(&used).is_some_and(|theirs| theirs > mine) {
                    wrong.push(format!("{}:{}: uses `{used}`", relative.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "modules that use what stands below them:\n{}", wrong.join("\n"));
}
