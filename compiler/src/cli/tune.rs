//! `lmc tune`: searches schedules on this machine.

use super::options::{ModelArgs, TargetArgs, seconds};
use super::report::{Report, table};
use crate::build::Observer;
use crate::error::{Error, Kind, Result};
use crate::schedule::{Linear, Schedules};
use crate::target::Target;
use crate::tune::{Found, tune};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `lmc tune`.
#[derive(Args)]
pub(super) struct TuneArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// The file of schedules; otherwise the model's name with .schedules, in the current folder.
    #[arg(short, long)]
    out: Option<PathBuf>,
    /// How long to search for each kernel.
    #[arg(long, default_value = "2", value_parser = seconds, allow_negative_numbers = true)]
    seconds: Duration,
}

/// What was found for each definition, or why nothing could be.
type Outcome = Vec<(Linear, Result<Found>)>;

fn search(args: &TuneArgs, observer: &dyn Observer) -> Result<(Target, Outcome)> {
    let build = args.target.build(&args.model)?;
    let target = build.resolve_target()?;
    if !crate::run::executor::is_host(&target) {
        let (triple, cpu) = (&target.triple, &target.cpu);
        return Err(Error::options(format!("this machine does not run code for {triple} ({cpu})"))
            .advise(
                "Schedules are measured on the machine that they are for: run lmc there, with --cpu native",
            )
            .at("--target"));
    }
    let definitions = build.definitions(observer)?;
    let total = definitions.len();
    let one = |(i, linear): (usize, Linear)| {
        observer.progress("tuning", i, total);
        let found = tune(&linear, &target, args.seconds);
        (linear, found)
    };
    let outcome = definitions.into_iter().enumerate().map(one).collect();
    Ok((target, outcome))
}

pub(super) fn run(args: &TuneArgs, report: &Report) -> Result<ExitCode> {
    let (target, outcome) = report.follow(&[], |observer| search(args, observer))?;
    let mut schedules = Schedules::new(&target);
    let (mut rows, mut kernels) = (Vec::new(), Vec::new());
    for (linear, found) in &outcome {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                report.note(&format!("'{}' is not tuned: {error}", linear.name));
                continue;
            }
        };
        for wrong in &found.wrong {
            report.note(&format!("a defect of lmc: wrong results of {}", wrong.display(linear)));
        }
        let ((chosen, before), (best, after)) = (&found.chosen, &found.best);
        if best != chosen {
            schedules.insert(linear, best);
        }
        let micro = |t: f64| format!("{:10.2} us", t / 1e3);
        let gain =
            if best == chosen { String::new() } else { format!("{:5.2} times faster", before / after) };
        rows.push(vec![
            linear.name.clone(),
            micro(*before),
            micro(*after),
            gain,
            format!("of {}", found.tried),
        ]);
        kernels.push(json!({
            "kernel": linear.name, "chosen_ns": before, "best_ns": after, "tried": found.tried,
            "schedule": best.display(linear),
        }));
    }
    let stem = args.model.model.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let file = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{stem}.schedules")));
    std::fs::write(&file, schedules.to_string()).map_err(|e| {
        Error::new(Kind::Io, format!("cannot be written: {e}")).at(file.display().to_string())
    })?;
    let text = format!(
        "{}{}: for `lmc build --schedule`, with the same --target and --cpu",
        table(&rows),
        file.display()
    );
    report.result("tuned", &text, json!({ "file": file, "kernels": kernels }));
    Ok(ExitCode::SUCCESS)
}
