//! The `lmc` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    lmc::cli::main()
}
