//! What keeps the code readable: functions fit a screen, files are read in some minutes, and files use each other one
//! way, so that a folder can be read from the bottom up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Lines of a function, from the one with its name to its closing brace.
const FUNCTION: usize = 60;
/// Lines of a file.
const FILE: usize = 500;

/// Rust files of a folder, by path from the repository's root.
fn sources(folder: &str) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut found, mut open) = (BTreeMap::new(), vec![root.join(folder)]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("a source folder") {
            let path = entry.expect("a source entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(&root).expect("inside").to_string_lossy().replace('\\', "/");
                found.insert(name, fs::read_to_string(&path).expect("a source file"));
            }
        }
    }
    found
}

/// The name of the function that begins in a line.
fn function(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    while let Some(word) = ["pub ", "pub(super) ", "pub(crate) ", "const ", "unsafe ", "extern \"C\" "]
        .into_iter()
        .find(|word| rest.starts_with(word))
    {
        rest = &rest[word.len()..];
    }
    let name = rest.strip_prefix("fn ")?;
    Some(name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(name))
}

/// Lines of the function that begins in the first of some lines: up to its closing brace, or the end of a declaration,
/// as rustfmt places them.
fn length(lines: &[&str]) -> usize {
    let indent = lines[0].len() - lines[0].trim_start().len();
    let ends = |line: &str| {
        let declared = line.ends_with(';') && line.trim_start().starts_with(')');
        line.len() - line.trim_start().len() == indent && (line.trim() == "}" || declared)
    };
    match lines[0].ends_with(['}', ';']) {
        true => 1,
        false => 2 + lines[1..].iter().position(|line| ends(line)).unwrap_or(lines.len() - 1),
    }
}

#[test]
fn functions_fit_a_screen_and_files_are_short() {
    let mut long = Vec::new();
    for (path, text) in ["compiler", "tests", "benches", "runtime-stub"].into_iter().flat_map(sources) {
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE {
            long.push(format!("{path}: {} lines", lines.len()));
        }
        for (i, line) in lines.iter().enumerate() {
            let Some(name) = function(line) else { continue };
            let count = length(&lines[i..]);
            if count > FUNCTION {
                long.push(format!("{path}:{}: {name}: {count} lines", i + 1));
            }
        }
    }
    assert!(long.is_empty(), "files over {FILE} or functions over {FUNCTION} lines:\n{}", long.join("\n"));
}

/// The parts of a list in braces that lie at its top level, each behind what stands before the braces.
fn expanded(path: &str) -> Vec<String> {
    let Some((before, list)) = path.split_once('{') else { return vec![path.trim().to_string()] };
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("one").push(c);
    }
    parts.iter().flat_map(|part| expanded(&format!("{}{}", before.trim(), part.trim()))).collect()
}

/// The paths that a file uses outside of its tests: `use` lists, and others that begin at the crate or beside the file.
fn paths(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let code: String =
        code.lines().filter(|l| !l.trim_start().starts_with("//")).map(|l| format!("{l} ")).collect();
    let uses = code.split("use ").skip(1).filter_map(|rest| rest.split(';').next()).flat_map(expanded);
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let inline = code.split(|c: char| !part(c)).map(str::to_string);
    uses.chain(inline).collect()
}

/// The module that a path of a file leads to: the longest part of it that is one.
fn target(from: &[String], path: &str, modules: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
    let mut parts = path.split("::").map(str::trim).peekable();
    let mut place: Vec<String> = match parts.next()? {
        "crate" => Vec::new(),
        "self" => from.to_vec(),
        "super" => from[..from.len() - 1].to_vec(),
        _ => return None,
    };
    while parts.next_if_eq(&"super").is_some() {
        place.pop();
    }
    for part in parts {
        place.push(part.to_string());
        if !modules.contains(&place) {
            place.pop();
            break;
        }
    }
    Some(place)
}

/// Which files use which, by module; a module and those inside it may use each other.
fn uses() -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let module = |path: &String| -> Vec<String> {
        let path = path.trim_start_matches("compiler/src/").trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').map(str::to_string).collect()
    };
    let files: BTreeMap<Vec<String>, String> =
        sources("compiler/src").into_iter().map(|(path, text)| (module(&path), text)).collect();
    let modules: BTreeSet<Vec<String>> = files.keys().cloned().collect();
    let used = |(from, text): (&Vec<String>, &String)| {
        let within = |to: &Vec<String>| to.starts_with(from) || from.starts_with(to);
        let found = paths(text).into_iter().filter_map(|path| target(from, &path, &modules));
        (from.clone(), found.filter(|to| !within(to)).collect())
    };
    files.iter().map(used).collect()
}

#[test]
fn files_use_each_other_one_way() {
    let mut uses = uses();
    // What uses nothing that is left, or is used by nothing that is left, is in no circle.
    loop {
        let used: BTreeSet<Vec<String>> = uses.values().flatten().cloned().collect();
        let left: BTreeSet<Vec<String>> = uses
            .iter()
            .filter(|(from, to)| !to.is_empty() && used.contains(*from))
            .map(|u| u.0.clone())
            .collect();
        let before = uses.len();
        uses.retain(|from, _| left.contains(from));
        uses.values_mut().for_each(|to| to.retain(|to| left.contains(to)));
        if uses.len() == before {
            break;
        }
    }
    let list = |(from, to): (&Vec<String>, &BTreeSet<Vec<String>>)| {
        let to: Vec<String> = to.iter().map(|to| to.join("/")).collect();
        format!("{} uses {}", from.join("/"), to.join(", "))
    };
    let circles: Vec<String> = uses.iter().map(list).collect();
    assert!(circles.is_empty(), "files that use each other:\n{}", circles.join("\n"));
}
