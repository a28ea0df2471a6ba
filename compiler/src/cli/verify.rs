//! `lmc verify`: the compiled object against reference results.

use super::execute::{Session, data_sets};
use super::layers;
use super::options::{RunArgs, cosine, tolerance};
use super::precision::least_cosine;
use super::report::{Report, table};
use crate::base::Tensor;
use crate::error::{Error, Result};
use crate::import;
use crate::run::compare::{Difference, Tolerance, compare};
use crate::run::limits;
use crate::run::reference::tract;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `lmc verify`.
#[derive(Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Folders of data (input_0.pb or .npy, output_0.pb ..., or a file for each name), or of such folders; without them
    /// tract computes the reference on seeded inputs, or lmc's naive loops where tract cannot.
    #[arg(long, value_name = "DIR", num_args = 1..)]
    data: Vec<PathBuf>,
    /// Relative tolerance.
    #[arg(long, default_value = "0.001", value_parser = tolerance, allow_negative_numbers = true)]
    rtol: f64,
    /// Absolute tolerance.
    #[arg(long, default_value = "0.0001", value_parser = tolerance, allow_negative_numbers = true)]
    atol: f64,
    /// Outputs of this cosine with the reference are right, too: where values are rounded to integers, a bit
    /// in the floats before moves some by a step, and half floats are off by many roundings near zero
    /// [default: 0.999 for quantized models, 0.9995 for those with f16, 0.97 with bf16, none for others].
    #[arg(long, value_name = "COSINE", value_parser = cosine, allow_negative_numbers = true)]
    min_cosine: Option<f64>,
    /// Compare every node with its naive loops and name the first that differs.
    #[arg(long)]
    per_layer: bool,
}

/// Inputs, and the outputs that are expected.
struct Case {
    name: String,
    inputs: Vec<Option<Tensor>>,
    outputs: Vec<Option<Tensor>>,
}

pub(super) fn run(args: &VerifyArgs, report: &Report) -> Result<ExitCode> {
    let model = import::read(&args.run.model.model)?;
    let tolerance = Tolerance { rtol: args.rtol, atol: args.atol };
    let least = args.min_cosine.or_else(|| least_cosine(&model.body));
    let sets = data_sets(&model, &args.data)?;
    let mut cases: Vec<Case> = sets
        .into_iter()
        .map(|s| Case { name: s.path.display().to_string(), inputs: s.inputs, outputs: s.outputs })
        .collect();
    if cases.is_empty() {
        let inputs = vec![None; model.body.inputs.len()];
        cases.push(Case { name: "seeded inputs".to_string(), inputs, outputs: Vec::new() });
    }
    let mut right = true;
    for case in &cases {
        let mut session = Session::new(&args.run, &case.inputs, report)?;
        let inputs = session.inputs(&case.inputs)?;
        if args.per_layer {
            right &= layers::run(&args.run, &inputs, (tolerance, least), report)?;
            continue;
        }
        let expected = match case.outputs.iter().any(Option::is_some) {
            true => case.outputs.clone(),
            false => reference(args, &inputs, report)?,
        };
        let results = session.executor.run(&inputs)?;
        let names = session.built.program.outputs.iter().map(|o| o.name.as_str());
        let found: Vec<(&str, Difference)> = names
            .zip(results.iter().zip(&expected))
            .filter_map(|(name, (result, want))| Some((name, compare(result, want.as_ref()?, tolerance))))
            .collect();
        right &= found.iter().all(|f| f.1.is_right(least));
        report.result("verified", &text(&case.name, &found, least), data(&case.name, &found, least));
    }
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The outputs by tract, where the model's values fit into memory; where it cannot run the model, by the naive loops of
/// the model's own definitions, which show what compiling made of them, but not whether they are right.
fn reference(args: &VerifyArgs, inputs: &[Tensor], report: &Report) -> Result<Vec<Option<Tensor>>> {
    let graph = layers::typed(&args.run, inputs)?;
    let advised = |e: Error| e.advise("Give reference results with --data DIR");
    limits::check_values(&graph).map_err(advised)?;
    let refused = match tract(&args.run.model.model, inputs) {
        Ok(outputs) => return Ok(outputs.into_iter().map(Some).collect()),
        Err(refused) => refused,
    };
    match layers::outputs(&graph, inputs).map_err(advised)? {
        Some(outputs) => {
            report.note(&format!("{refused}; compared with lmc's own naive loops instead"));
            Ok(outputs)
        }
        None => Err(advised(refused)),
    }
}

fn verdict(difference: &Difference, least: Option<f64>) -> String {
    match (&difference.mismatch, difference.first) {
        (Some(mismatch), _) => mismatch.clone(),
        (None, Some((at, is, should))) => format!(
            "{}: {} of {} elements outside, the first at {at}: {is} instead of {should}",
            if difference.is_right(least) { "right by its cosine" } else { "WRONG" },
            difference.outside,
            difference.elements
        ),
        _ => "right".to_string(),
    }
}

fn text(case: &str, found: &[(&str, Difference)], least: Option<f64>) -> String {
    let row = |(name, d): &(&str, Difference)| {
        vec![
            name.to_string(),
            format!("max abs {:.3e}", d.max_abs),
            format!("max rel {:.3e}", d.max_rel),
            format!("cosine {:.9}", d.cosine),
            verdict(d, least),
        ]
    };
    format!("{case}\n{}", table(&found.iter().map(row).collect::<Vec<_>>()))
}

fn data(case: &str, found: &[(&str, Difference)], least: Option<f64>) -> Value {
    let one = |(name, d): &(&str, Difference)| {
        json!({
            "name": name, "max_abs": d.max_abs, "max_rel": d.max_rel, "cosine": d.cosine,
            "outside": d.outside, "elements": d.elements, "right": d.is_right(least), "verdict": verdict(d, least),
        })
    };
    json!({ "case": case, "outputs": found.iter().map(one).collect::<Vec<_>>() })
}
