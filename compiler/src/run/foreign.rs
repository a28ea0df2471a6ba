//! Runs an object as a program of its own, for targets that this process cannot call into.
//!
//! The object is linked with `driver.c` by a C compiler for the target, and started through an
//! emulator where host and target differ. Both are found by themselves, or the error says what to
//! install; `--runner` names another way to start a program (a board over ssh, another emulator).

use crate::error::{Error, Kind, Result};
use crate::target::{Arch, Feature, Target};
use std::path::{Path, PathBuf};
use std::process::Command;
use target_lexicon::{BinaryFormat, HOST};

/// The source of the program that objects are linked with.
pub const DRIVER: &str = include_str!("driver.c");

/// Its exit code where the processor lacks what the model was compiled for.
const CANNOT_RUN_HERE: i32 = 2;

/// An object linked into a program, and how to start it.
pub struct Foreign {
    folder: PathBuf,
    program: PathBuf,
    runner: Vec<String>,
}

/// What one start of the program gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// 0, or the `LMC_ERR_*` that the model returned; outputs are then unspecified.
    pub status: i32,
    /// The bytes of each output.
    pub outputs: Vec<Vec<u8>>,
    /// The run-time sizes, after the call.
    pub symbols: Vec<i64>,
    /// Wall time of each inference. Under an emulator only good for comparing with itself.
    pub nanoseconds: Vec<u64>,
}

impl Foreign {
    /// Links `object`, which exports `NAME_model`, into a program in `folder` (which must exist and
    /// keeps the program and its data). `runner` replaces the emulator that would be found.
    pub fn link(
        object: &Path,
        name: &str,
        target: &Target,
        runner: Option<&str>,
        folder: &Path,
    ) -> Result<Self> {
        if target.triple.binary_format != BinaryFormat::Elf {
            let reason = format!("objects for {} cannot be linked and run on this machine", target.triple);
            return Err(Error::new(Kind::Target, reason)
                .advise("Objects for ELF targets can: give --target aarch64 or x86_64"));
        }
        let compiler = find(&compilers(target.arch), target)?;
        let runner = match runner {
            Some(command) => command.split_whitespace().map(str::to_owned).collect(),
            None => emulator(target)?,
        };
        write(&folder.join("lmc.h"), lmc_runtime::C_HEADER.as_bytes())?;
        let sources = [("lmc.c", lmc_runtime::C_SOURCE), ("driver.c", DRIVER)];
        for (name, text) in sources {
            write(&folder.join(name), text.as_bytes())?;
        }
        let program = folder.join("driver");
        let output = Command::new(&compiler)
            .args(["-std=gnu99", "-O1", "-static"])
            .arg(format!("-DLMC_MODEL={name}_model"))
            .args(sources.map(|(name, _)| folder.join(name)))
            .arg(object)
            .arg("-o")
            .arg(&program)
            .output()
            .map_err(|e| cannot(&compiler, &e.to_string()))?;
        if !output.status.success() {
            return Err(cannot(&compiler, &tail(&output.stderr)).at(object.display().to_string()));
        }
        Ok(Foreign { folder: folder.to_owned(), program, runner })
    }

    /// Runs the model `repeat` times on the same inputs, one slice of raw bytes each. `symbols`:
    /// the run-time sizes, any value for those that depend on the data. `outputs`: how many.
    pub fn run(&self, inputs: &[&[u8]], symbols: &[i64], outputs: usize, repeat: u32) -> Result<Outcome> {
        let file = |kind: &str, number: usize| self.folder.join(format!("{kind}_{number}.bin"));
        for (number, bytes) in inputs.iter().enumerate() {
            write(&file("input", number), bytes)?;
        }
        let sizes = self.folder.join("symbols.bin");
        write(&sizes, &symbols.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>())?;

        let mut words = self.runner.iter();
        let program = self.program.to_string_lossy();
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(&*program);
                command
            }
            None => Command::new(&*program),
        };
        command.arg(&self.folder).arg(repeat.to_string());
        let output = command.output().map_err(|e| match self.runner.first() {
            Some(runner) => cannot(runner, &format!("it cannot be started: {e}"))
                .advise("Name a command that starts programs of the target with --runner"),
            None => cannot(&program, &e.to_string()),
        })?;
        if !output.status.success() {
            let reason = format!("{} ended with {}", self.shown(), output.status);
            let error = Error::new(Kind::Target, format!("{reason}: {}", tail(&output.stderr)));
            return Err(match output.status.code() {
                Some(CANNOT_RUN_HERE) => error.advise(
                    "Compile for this processor with --cpu, or name what emulates another with --runner",
                ),
                _ => error,
            });
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = text.lines();
        let status = lines.next().and_then(|l| l.parse().ok());
        let status =
            status.ok_or_else(|| Error::new(Kind::Target, format!("{} printed no status", self.shown())))?;
        Ok(Outcome {
            status,
            outputs: (0..outputs).map(|n| read(&file("output", n))).collect::<Result<_>>()?,
            symbols: read(&sizes)?
                .chunks_exact(8)
                .map(|c| i64::from_le_bytes(c.try_into().unwrap_or_default()))
                .collect(),
            nanoseconds: lines.filter_map(|l| l.parse().ok()).collect(),
        })
    }

    /// The command, for messages.
    fn shown(&self) -> String {
        let words = self.runner.iter().cloned().chain([self.program.display().to_string()]);
        format!("`{}`", words.collect::<Vec<_>>().join(" "))
    }
}

fn host_is(arch: Arch) -> bool {
    match arch {
        Arch::X86_64 => HOST.architecture == target_lexicon::Architecture::X86_64,
        Arch::Aarch64 => matches!(HOST.architecture, target_lexicon::Architecture::Aarch64(_)),
    }
}

fn gnu_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "x86_64",
        Arch::Aarch64 => "aarch64",
    }
}

/// C compilers for an architecture, best first.
fn compilers(arch: Arch) -> Vec<String> {
    let mut names = vec![format!("{}-linux-gnu-gcc", gnu_name(arch))];
    if host_is(arch) {
        names.insert(0, "gcc".to_owned());
        names.insert(0, "cc".to_owned());
    }
    names
}

/// The command that starts a program of the target; empty where the host runs it itself.
fn emulator(target: &Target) -> Result<Vec<String>> {
    if host_is(target.arch) {
        return Ok(Vec::new());
    }
    let qemu = find(&[format!("qemu-{}", gnu_name(target.arch))], target)?;
    Ok(vec![qemu, "-cpu".to_owned(), emulated_cpu(target).to_owned()])
}

/// The smallest processor of the emulator that has the target's features, so that an instruction
/// the target lacks is caught.
fn emulated_cpu(target: &Target) -> &'static str {
    match target.arch {
        Arch::X86_64 => "max",
        Arch::Aarch64 if target.has(Feature::I8mm) || target.has(Feature::Bf16) => "max",
        Arch::Aarch64 if target.has(Feature::DotProd) || target.has(Feature::Fp16) => "neoverse-n1",
        Arch::Aarch64 => "cortex-a53",
    }
}

/// The first of the programs that is installed.
fn find(names: &[String], target: &Target) -> Result<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = |name: &&String| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    if let Some(found) = names.iter().find(installed) {
        return Ok(found.clone());
    }
    let packages = match target.arch {
        arch if host_is(arch) => "gcc libc6-dev",
        Arch::Aarch64 => "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user",
        Arch::X86_64 => "gcc-x86-64-linux-gnu libc6-dev-amd64-cross qemu-user",
    };
    let reason =
        format!("none of {} is installed, and running for {} needs one", names.join(", "), target.triple);
    let advice =
        format!("On Debian: apt-get install {packages}. Elsewhere name a way to run programs with --runner");
    Err(Error::new(Kind::Target, reason).advise(advice))
}

fn cannot(program: &str, why: &str) -> Error {
    Error::new(Kind::Target, format!("`{program}` failed: {why}"))
}

/// The last lines of what a program complained about.
fn tail(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(file, bytes)
        .map_err(|e| Error::new(Kind::Io, e.to_string()).at(file.display().to_string()))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|e| Error::new(Kind::Io, e.to_string()).at(file.display().to_string()))
}
