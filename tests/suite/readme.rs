//! README.md and the page on integration are true: the examples they show are those of `tests/examples`, their
//! commands run, and the links of all documents lead somewhere.

use crate::golden::check_file;
use crate::support::{self, repository, run, rustc, scratch, write};
use prost::Message;
use std::path::{Path, PathBuf};
use std::process::Command;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The blocks of code in one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let after = text.split(&fence).skip(1);
    after.map(|t| t.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// A folder from which the models can be reached as the documents name them, and the runtime's sources.
fn workspace(name: &str) -> PathBuf {
    let folder = scratch(name);
    let repository = std::fs::canonicalize(repository()).expect("the repository");
    for (from, to) in [("tests", "tests"), ("tests/models", "models"), ("runtime-stub", "lmc")] {
        std::os::unix::fs::symlink(repository.join(from), folder.join(to)).expect("a link");
    }
    folder
}

/// What commands print in a folder; `lmc`, and what lies in the folder's `bin`, are on the path.
fn shell(folder: &Path, commands: &str) -> String {
    let lmc = Path::new(env!("CARGO_BIN_EXE_lmc")).parent().expect("a folder");
    let (bin, path) = (folder.join("bin"), std::env::var("PATH").unwrap_or_default());
    let path = format!("{}:{}:{path}", bin.display(), lmc.display());
    run(Command::new("sh").args(["-e", "-c", commands]).current_dir(folder).env("PATH", path))
}

/// What the C example prints, built by the README's own commands.
fn c_example(readme: &str) -> String {
    let shown = blocks(readme, "c");
    assert_eq!(
        shown,
        [read(&repository().join("tests/examples/main.c"))],
        "README.md and tests/examples/main.c"
    );
    let folder = workspace("readme_c");
    write(&folder, "main.c", &shown[0]);
    let commands =
        blocks(readme, "sh").into_iter().find(|b| b.contains("lmc build")).expect("commands for C");
    let printed = shell(&folder, &commands);
    printed.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().map(|l| format!("{l}\n")).collect()
}

/// The newest library of lmc beside this test, as Cargo built it.
fn lmc_library() -> PathBuf {
    let folder = std::env::current_exe().expect("this test").parent().expect("a folder").to_owned();
    let entries = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path());
    let name = |p: &PathBuf| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let libraries = entries.filter(|p| name(p).starts_with("liblmc-") && name(p).ends_with(".rlib"));
    libraries.max_by_key(|p| p.metadata().and_then(|m| m.modified()).ok()).expect("lmc as a library")
}

/// What the Rust example prints: its build script compiled and run, and its program built, as Cargo
/// does it, but with the lmc that the tests were built with.
fn rust_example(readme: &str) -> String {
    let examples = repository().join("tests/examples");
    let files = ["build.rs", "main.rs"].map(|f| read(&examples.join(f)));
    assert_eq!(blocks(readme, "rust"), files, "README.md and tests/examples");
    let folder = workspace("readme_rust");
    let library = lmc_library();
    let mut compile = Command::new(rustc());
    compile.args(["--edition=2024", "--extern"]).arg(format!("lmc={}", library.display()));
    compile.arg("-L").arg(format!("dependency={}", library.parent().expect("a folder").display()));
    run(compile.arg(examples.join("build.rs")).arg("-o").arg(folder.join("build")));
    let out = folder.join("out");
    std::fs::create_dir(&out).expect("a folder");
    let mut script = Command::new(folder.join("build"));
    let printed = run(script.current_dir(&folder).env("OUT_DIR", &out).env("CARGO", "cargo"));

    let runtime = support::runtime_crate(&rustc(), "", &folder);
    let mut compile = Command::new(rustc());
    compile.args(["--edition=2024", "--extern"]).arg(format!("lmc_runtime={}", runtime.display()));
    for line in printed.lines() {
        match line.strip_prefix("cargo:").and_then(|l| l.split_once('=')) {
            Some(("rustc-link-search", path)) => compile.args(["-L", path]),
            Some(("rustc-link-lib", library)) => compile.args(["-l", library]),
            _ => &mut compile,
        };
    }
    let program = folder.join("app");
    run(compile.arg(examples.join("main.rs")).arg("-o").arg(&program).env("OUT_DIR", &out));
    run(&mut Command::new(program))
}

#[test]
fn examples_run_and_agree() {
    let readme = read(&repository().join("README.md"));
    let (c, rust) = (c_example(&readme), rust_example(&readme));
    assert_eq!(c, rust);
    let sum: f32 = c.lines().map(|l| l.parse::<f32>().expect("a score")).sum();
    assert!((sum - 1.0).abs() < 0.01, "{c}");
}

/// A command `ssh` that takes this machine for the board: what lies in its folder for temporary files is elsewhere
/// there.
const SSH: &str = r#"#!/bin/sh
shift
exec sh -c "$(printf %s "$*" | sed "s|$TMPDIR|$BOARD|g")"
"#;

#[test]
fn commands_of_the_page_on_integration_run() {
    let page = read(&repository().join("docs/integration.md"));
    let folder = workspace("readme_integration");
    for (language, files) in
        [("cmake", &["CMakeLists.txt"][..]), ("c", &["two_models.c", "any_model.c"]), ("bash", &["board.sh"])]
    {
        let paths: Vec<PathBuf> =
            files.iter().map(|file| repository().join("tests/examples").join(file)).collect();
        let texts: Vec<String> = paths.iter().map(|path| read(path)).collect();
        assert_eq!(blocks(&page, language), texts, "docs/integration.md and tests/examples");
        for (path, file) in paths.iter().zip(files) {
            std::fs::copy(path, folder.join(file)).expect("a copy");
        }
    }
    std::fs::write(folder.join("decoder_model_merged.onnx"), crate::chosen::decoder().encode_to_vec())
        .expect("a model");
    write(&folder, "main.c", read(&repository().join("tests/examples/main.c")));
    ["bin", "here", "board"].iter().for_each(|f| std::fs::create_dir(folder.join(f)).expect("a folder"));
    write(&folder, "bin/ssh", SSH);
    let setup = "chmod +x bin/ssh\nexport TMPDIR=$PWD/here BOARD=$PWD/board\n";
    let printed = shell(&folder, &(setup.to_owned() + &blocks(&page, "sh").concat()));
    for expected in
        ["\n0.025\n", "\n-34.730 0.025\n", "\nsuccess\n", "values agree", "all kernels", "minimum"]
    {
        assert!(printed.contains(expected), "'{expected}' is missing:\n{printed}");
    }
    assert!(
        std::fs::read_dir(folder.join("board")).expect("a folder").count() > 0,
        "nothing ran on the board"
    );
}

/// The operator that is added is a file that is compiled with lmc's own tests.
#[test]
fn the_operator_of_the_page_is_an_example() {
    let page = read(&repository().join("docs/adding-an-operator.md"));
    assert_eq!(blocks(&page, "rust"), [read(&repository().join("tests/examples/row_center.rs"))]);
}

/// The table of error codes has those of `lmc.h`, with their texts.
#[test]
fn error_codes_are_documented() {
    let page = read(&repository().join("docs/integration.md"));
    let header = read(&repository().join("runtime-stub/include/lmc.h"));
    let codes = header.lines().filter_map(|line| line.strip_prefix("#define LMC_ERR_")?.split_once(" /* "));
    let mut count = 0;
    for (code, text) in codes {
        let (name, number) = code.trim().split_once(' ').expect("a number");
        let row = format!("| {} | `LMC_ERR_{name}` | {} |", number.trim(), text.trim_end_matches(" */"));
        assert!(page.contains(&row), "docs/integration.md: {row}");
        count += 1;
    }
    assert!(count >= 7, "{count} codes");
}

/// The targets of `[text](target)` in a document, without those on the network.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|t| t.split_once(')')).map(|(target, _)| target);
    let local = targets.filter(|t| !t.contains("://") && !t.starts_with('#'));
    local.map(|t| t.split('#').next().unwrap_or_default().to_owned()).collect()
}

/// The pages that are printed from tables are what the tables say.
#[test]
fn generated_pages_are_up_to_date() {
    for (command, page) in [("ops", "operators"), ("cpus", "processors")] {
        let text = run(Command::new(env!("CARGO_BIN_EXE_lmc")).args([command, "--markdown"]));
        check_file(&repository().join(format!("docs/{page}.md")), &text);
    }
}

#[test]
fn every_module_of_the_suite_is_described() {
    let (page, suite) = ("docs/testing.md", "tests/suite/main.rs");
    let [page, suite] = [page, suite].map(|file| read(&repository().join(file)));
    let modules = suite.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let missing: Vec<&str> = modules.filter(|module| !page.contains(&format!("`{module}`"))).collect();
    assert!(missing.is_empty(), "docs/testing.md says nothing of {missing:?}");
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for folder in ["", "docs", "benches", "tests/models"] {
        let folder = repository().join(folder);
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|e| e != "md") {
                continue;
            }
            let missing = links(&read(&path)).into_iter().filter(|l| !folder.join(l).exists());
            wrong.extend(missing.map(|l| format!("{}: {l}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "links to nothing:\n{}", wrong.join("\n"));
}
