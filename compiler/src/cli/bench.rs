//! `lmc bench`: the time of one inference, or of each kernel within it.

use super::execute::{Session, data_sets};
use super::options::{RunArgs, seconds};
use super::report::{Report, table};
use crate::error::Result;
use crate::import;
use crate::run::profile::{KernelTime, profile};
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
    /// A folder of data for the inputs (input_0.pb or .npy ..., or a file for each name); seeded ones otherwise.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How long to measure.
    #[arg(long, default_value = "1", value_parser = seconds, allow_negative_numbers = true)]
    seconds: Duration,
    /// Measure each kernel of the model: medians over inferences, the longest first.
    #[arg(long)]
    per_kernel: bool,
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
    args.run.target.advice(&session.built.target).iter().for_each(|n| report.note(n));
    if args.per_kernel {
        let (program, target) = (&session.built.program, &session.built.target);
        let times = profile(program, target, args.run.runner.as_deref(), &inputs, args.seconds)?;
        report.result("profile", &kernel_table(&times), kernel_json(&times));
        return Ok(ExitCode::SUCCESS);
    }
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

/// The kernels by the time they take, with their shares of all.
fn kernel_table(times: &[KernelTime]) -> String {
    let all: f64 = times.iter().map(|t| t.nanoseconds).sum();
    let mut sorted: Vec<&KernelTime> = times.iter().collect();
    sorted.sort_by(|a, b| b.nanoseconds.total_cmp(&a.nanoseconds));
    let head = ["time", "share", "calls", "kernel"].map(str::to_string).to_vec();
    let row = |t: &&KernelTime| {
        let share = 100.0 * t.nanoseconds / all.max(1.0);
        vec![show(t.nanoseconds as u64), format!("{share:.1} %"), t.calls.to_string(), t.name.clone()]
    };
    let sum = vec![show(all as u64), "100 %".to_string(), String::new(), "all kernels".to_string()];
    let rows: Vec<Vec<String>> = [head].into_iter().chain(sorted.iter().map(row)).chain([sum]).collect();
    table(&rows)
}

/// The kernels in the order of their first calls.
fn kernel_json(times: &[KernelTime]) -> serde_json::Value {
    let one = |t: &KernelTime| json!({ "name": t.name, "calls": t.calls, "median_ns": t.nanoseconds });
    json!({ "kernels": times.iter().map(one).collect::<Vec<_>>() })
}
