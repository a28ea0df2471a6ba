//! The command line: options to calls of the library, errors to exit codes.
//!
//! Exit codes: 0 success, 1 the model or a file, 2 the options, 3 a defect of lmc. An error is
//! one paragraph on stderr, or one JSON object per line on stdout with `--message-format json`.

mod bench;
mod build;
mod execute;
mod inspect;
mod layers;
mod operators;
mod options;
mod precision;
mod processors;
mod prune;
mod quantize;
mod report;
mod run;
mod source;
mod tune;
mod verify;

use crate::error::Error;
use clap::{Parser, Subcommand};
use report::{Format, Report};
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

/// Compiles ONNX models to standalone object files.
#[derive(Parser)]
#[command(name = "lmc", version, about, max_term_width = 100)]
struct Cli {
    /// How results and errors are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Human)]
    message_format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile a model to an object file, a C header and a Rust binding.
    Build(build::BuildArgs),
    /// Compile a model and run it once; the outputs become .npy files.
    Run(run::RunOnceArgs),
    /// Compile a model, run the object, and compare with reference results.
    Verify(verify::VerifyArgs),
    /// Compile a model and measure the time of one inference.
    Bench(bench::BenchArgs),
    /// Search schedules on this machine; the file is for build --schedule.
    Tune(tune::TuneArgs),
    /// List inputs, outputs, free dimensions, operators, sizes, and what is unsupported and why.
    Inspect(inspect::Inspect),
    /// Replace floats by integers: static quantization after training, to standard ONNX.
    Quantize(quantize::QuantizeArgs),
    /// Set the smallest weights to zero, or remove the lightest channels.
    Prune(prune::PruneArgs),
    /// List the operators that are supported.
    Ops(operators::OpsArgs),
    /// List the processors that --cpu names.
    Cpus(processors::CpusArgs),
}

/// Prints what is wrong with the options, or the help that they ask for.
fn usage(error: &clap::Error) -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let asked = args.iter().any(|a| a == "--message-format=json")
        || args.windows(2).any(|w| w[0] == "--message-format" && w[1] == "json");
    if !(asked && error.use_stderr()) {
        error.exit();
    }
    let text = error.to_string();
    let reason = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let error = Error::options(reason).advise("Options: lmc --help");
    Report::new(Format::Json).error(&error);
    ExitCode::from(error.exit_code())
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let report = Report::new(cli.message_format);
    let run = || match cli.command {
        Command::Build(args) => build::run(&args, &report),
        Command::Run(args) => run::run(&args, &report),
        Command::Verify(args) => verify::run(&args, &report),
        Command::Bench(args) => bench::run(&args, &report),
        Command::Tune(args) => tune::run(&args, &report),
        Command::Inspect(args) => inspect::run(&args, &report),
        Command::Quantize(args) => quantize::run(&args, &report),
        Command::Prune(args) => prune::run(&args, &report),
        Command::Ops(args) => operators::run(&args, &report),
        Command::Cpus(args) => processors::run(&args, &report),
    };
    // A panic is a defect: its message is printed by then, the exit code says the rest.
    let result = std::panic::catch_unwind(AssertUnwindSafe(run));
    match result.unwrap_or_else(|_| Err(Error::bug("lmc panicked"))) {
        Ok(code) => code,
        Err(error) => {
            report.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
