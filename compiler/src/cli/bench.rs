//! `lmc bench`: the time of one inference.

use super::execute::{Session, data_sets};
use super::options::{RunArgs, seconds};
use super::report::Report;
use crate::error::Result;
use crate::import;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `lmc bench`.
#[derive(Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    run: RunArgs,
    /// A folder of ONNX test data for the inputs; seeded ones otherwise.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How long to measure.
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: Duration,
}

/// Nanoseconds for people.
fn show(nanoseconds: u64) -> String {
    match nanoseconds as f64 {
        t if t < 1e5 => format!("{:.2} us", t / 1e3),
        t if t < 1e8 => format!("{:.3} ms", t / 1e6),
        t => format!("{:.3} s", t / 1e9),
    }
}

pub(super) fn run(args: &BenchArgs, report: &Report) -> Result<ExitCode> {
    let model = import::read(&args.run.model.model)?;
    let set = data_sets(&model, args.data.as_slice())?.into_iter().next();
    let data = set.map_or_else(|| vec![None; model.body.inputs.len()], |s| s.inputs);
    let mut session = Session::new(&args.run, &data, report)?;
    let inputs = session.inputs(&data)?;
    let mut times = session.executor.time(&inputs, args.seconds)?;
    times.sort_unstable();
    let (least, median) =
        (times.first().copied().unwrap_or(0), times.get(times.len() / 2).copied().unwrap_or(0));
    let macs = session.built.program.macs;
    let rate = 2.0 * macs as f64 / median.max(1) as f64;
    let text = format!(
        "minimum {}, median {}, {} inferences, {rate:.1} GFLOP/s of multiply-adds",
        show(least),
        show(median),
        times.len()
    );
    let json = json!({
        "minimum_ns": least, "median_ns": median, "inferences": times.len(), "multiply_adds": macs,
    });
    report.result("bench", &text, json);
    Ok(ExitCode::SUCCESS)
}
