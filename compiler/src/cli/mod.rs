//! The command line: options to calls of the library, errors to exit codes.
//!
//! Exit codes: 0 success, 1 the model or a file, 2 the options, 3 a defect of lmc. An error is
//! one paragraph on stderr, or one JSON object per line on stdout with `--message-format json`.

mod inspect;
mod operators;
mod options;
mod report;

use clap::{Parser, Subcommand};
use report::{Format, Report};
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
    /// List inputs, outputs, free dimensions, operators, sizes, and what is unsupported and why.
    Inspect(inspect::Inspect),
    /// List the operators that are supported.
    Ops,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let report = Report::new(cli.message_format);
    let result = match cli.command {
        Command::Inspect(args) => inspect::run(&args, &report),
        Command::Ops => operators::run(&report),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            report.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
