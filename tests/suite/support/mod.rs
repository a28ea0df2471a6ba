//! Helpers of several test modules: folders for what tests make, commands, compilers.

pub mod batch;
pub mod kws;
pub mod models;
pub mod onnx;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// An empty folder of the test `name`, under `target`.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    folder
}

/// Writes a text file and returns its path.
pub fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    file
}

/// Runs a command that must succeed; returns what it printed.
pub fn run(command: &mut Command) -> String {
    let advice = "tests/run installs what the tests need";
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; {advice}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A C or C++ compiler with every warning an error, and `lmc.h` to be found.
pub fn c_compiler(program: &str) -> Command {
    let mut command = Command::new(program);
    let std = if program.ends_with("g++") { "-std=c++11" } else { "-std=c99" };
    command.args([std, "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", "-I"]);
    command.arg(repository().join("runtime-stub/include"));
    command
}

/// The runtime crate, compiled by `rustc` for `target` (the host where empty) into `folder`.
pub fn runtime_crate(rustc: &Path, target: &str, folder: &Path) -> PathBuf {
    let library = folder.join(format!("liblmc_runtime{target}.rlib"));
    let mut command = Command::new(rustc);
    command.args(["--edition=2024", "--crate-name=lmc_runtime", "--crate-type=rlib", "-Copt-level=1"]);
    if !target.is_empty() {
        command.arg("--target").arg(target);
    }
    run(command.arg("-o").arg(&library).arg(repository().join("runtime-stub/src/lib.rs")));
    library
}

/// The host's `rustc`.
pub fn rustc() -> PathBuf {
    std::env::var_os("RUSTC").unwrap_or("rustc".into()).into()
}

/// The C compiler for aarch64 Linux: a cross compiler, or the host's own on such a host.
pub fn aarch64_gcc() -> &'static str {
    if cfg!(target_arch = "aarch64") { "gcc" } else { "aarch64-linux-gnu-gcc" }
}

/// A `rustc` for aarch64 Linux, set up by `tests/tools/rust-aarch64` where there is none.
pub fn aarch64_rustc() -> PathBuf {
    let path = run(&mut Command::new(repository().join("tests/tools/rust-aarch64")));
    path.trim().into()
}
