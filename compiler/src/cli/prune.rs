//! `lmc prune`: a model with fewer weights or channels.

use super::options::ModelArgs;
use super::quantize::{Results, keep_source};
use super::report::Report;
use super::source::Source;
use crate::compress;
use crate::compress::prune::{self, Options};
use crate::compress::quantize;
use crate::error::Result;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `lmc prune`.
#[derive(Args)]
pub(super) struct PruneArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The part of the weights that become zero; with --structured, of the channels that are removed.
    #[arg(long, value_name = "PART")]
    sparsity: f64,
    /// Remove whole channels from the graph.
    #[arg(long)]
    structured: bool,
    /// Take the smallest weights of all layers together, not those of each layer.
    #[arg(long, conflicts_with = "structured")]
    global: bool,
    /// Samples to compare the outputs on: as for lmc quantize.
    #[arg(long, value_name = "DIR", num_args = 1..)]
    data: Vec<PathBuf>,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Also write the report as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(super) fn run(args: &PruneArgs, report: &Report) -> Result<ExitCode> {
    keep_source(&args.model.model, &args.out)?;
    let place = args.model.model.display().to_string();
    let source = Source::read(&args.model)?;
    let samples = source.samples(&args.data)?;
    let known = match source.types(&samples) {
        Ok(types) => compress::observe::known_for(&source.model, &types).map_err(|e| e.at(&place))?,
        Err(error) if args.structured => return Err(error),
        // Weights are found without the types of values.
        Err(_) => compress::observe::Known::new(),
    };
    let options = Options { sparsity: args.sparsity, structured: args.structured, global: args.global };
    let made = report.follow(&[], |observer| {
        observer.progress("pruning", 0, 1);
        let made = prune::prune(&source.onnx, &options, &known)?;
        Ok((source.compared([&source.onnx, &made.onnx], &samples)?, made))
    });
    let ((compared, cosine), made) =
        made.map_err(|e: crate::error::Error| if e.exit_code() == 1 { e.at(&place) } else { e })?;
    made.notes.iter().for_each(|n| report.note(n));
    let what = if args.structured { "channels removed" } else { "weights zero" };
    let (samples, layers) = (samples.len(), made.layers);
    let found = quantize::Report { calibration: what, samples, compared, cosine, layers, kept: Vec::new() };
    let results =
        Results { reason: "pruned", source: &args.model.model, out: &args.out, json: args.report.as_deref() };
    results.write(&made.onnx, &found, report)?;
    Ok(ExitCode::SUCCESS)
}
