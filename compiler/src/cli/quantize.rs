//! `lmc quantize`: a model with integers in place of floats.

use super::options::{ModelArgs, cosine};
use super::report::{Report, table, thousands};
use super::source::Source;
use crate::base::DType;
use crate::build::Observer;
use crate::compress::half::{Halved, half};
use crate::compress::observe::{self, Known, Sample};
use crate::compress::onnx::Onnx;
use crate::compress::quantize::{self, Compared, Data, Made, Method, Options, Quantized};
use crate::compress::samples;
use crate::error::{Error, Kind, Result};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Options of `lmc quantize`.
#[derive(Args)]
pub(super) struct QuantizeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Samples: folders of ONNX test data (input_0.pb or .npy ...) or with a file for each input's name, folders of such
    /// folders, or, for a model with one input, .npy files; an array may hold many samples, one after the other.
    #[arg(long, value_name = "DIR", num_args = 1..)]
    data: Vec<PathBuf>,
    /// Use so many seeded random samples in place of data: for a try, not for a product.
    #[arg(long, value_name = "N", conflicts_with = "data", value_parser = count)]
    random_data: Option<NonZeroUsize>,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// How ranges of activations are chosen; auto tries all and takes the best outputs.
    #[arg(long, value_enum, default_value_t = Calibration::Auto)]
    calibration: Calibration,
    /// The part of the elements that --calibration percentile keeps, in percent.
    #[arg(long, default_value = "99.99", value_parser = percent, allow_negative_numbers = true)]
    percentile: f64,
    /// Integers for weights; activations become integers when they are computed. Needs no data.
    #[arg(long, conflicts_with_all = ["weights_only", "fp16"])]
    dynamic: bool,
    /// Integers in the file, floats in the arithmetic. Needs no data.
    #[arg(long, value_enum, value_name = "TYPE", conflicts_with = "fp16")]
    weights_only: Option<Stored>,
    /// Half precision instead of integers. Needs no data.
    #[arg(long)]
    fp16: bool,
    /// Type of the activations.
    #[arg(long, value_enum, default_value_t = Activations::U8)]
    activations: Activations,
    /// One scale for all weights of a layer, not one per channel.
    #[arg(long)]
    per_tensor: bool,
    /// Compute activations (Sigmoid, SiLU, GELU, ...) in float, not by tables of bytes.
    #[arg(long)]
    float_activations: bool,
    /// Leave the ranges of channels as they are.
    #[arg(long)]
    no_balancing: bool,
    /// Leave biases as they are.
    #[arg(long)]
    no_bias_correction: bool,
    /// Round each weight to its nearest integer, whatever the data.
    #[arg(long)]
    no_compensation: bool,
    /// Leave the most sensitive layers in float until all outputs have this cosine with the float model.
    #[arg(long, value_name = "COSINE", value_parser = cosine, allow_negative_numbers = true)]
    min_cosine: Option<f64>,
    /// Leave a node in float, by its name.
    #[arg(long, value_name = "NODE")]
    exclude: Vec<String>,
    /// Also write the report as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Calibration {
    Auto,
    MinMax,
    Percentile,
    Entropy,
    Mse,
}

#[derive(Clone, Copy, ValueEnum)]
enum Activations {
    U8,
    I8,
    I16,
}

/// So many nodes that stay in `f32` for one reason are named in the text.
const NAMED: usize = 3;

#[derive(Clone, Copy, ValueEnum)]
enum Stored {
    Int8,
    Int4,
}

/// Samples of random numbers at most: they are all in memory.
const MOST_SAMPLES: usize = 10_000;

fn count(text: &str) -> std::result::Result<NonZeroUsize, String> {
    let count = text.trim().parse().ok().filter(|n: &NonZeroUsize| n.get() <= MOST_SAMPLES);
    count.ok_or_else(|| format!("not a number from 1 to {MOST_SAMPLES}"))
}

/// A part of more than half, in percent.
fn percent(text: &str) -> std::result::Result<f64, String> {
    match text.trim().parse() {
        Ok(value) if (50.0..=100.0).contains(&value) => Ok(value),
        _ => Err("not a number from 50 to 100".to_string()),
    }
}

impl QuantizeArgs {
    fn options(&self) -> Options {
        Options {
            calibration: match self.calibration {
                Calibration::Auto => None,
                Calibration::MinMax => Some(Method::MinMax),
                Calibration::Percentile => Some(Method::Percentile(self.percentile)),
                Calibration::Entropy => Some(Method::Entropy),
                Calibration::Mse => Some(Method::Mse),
            },
            activations: match self.activations {
                Activations::U8 => DType::U8,
                Activations::I8 => DType::I8,
                Activations::I16 => DType::I16,
            },
            per_channel: !self.per_tensor,
            balance: !self.no_balancing,
            compensate: !self.no_compensation,
            correct: !self.no_bias_correction,
            tables: !self.float_activations,
            min_cosine: self.min_cosine,
            exclude: self.exclude.clone(),
        }
    }

    /// Whether ranges of activations are needed.
    fn is_static(&self) -> bool {
        !self.dynamic && !self.fp16 && self.weights_only.is_none()
    }

    /// The samples that the options name.
    fn samples(&self, source: &Source) -> Result<Vec<Sample>> {
        if let Some(count) = self.random_data {
            return samples::random(&source.types(&[])?, count.get());
        }
        if self.data.is_empty() && self.is_static() {
            return Err(Error::options("no data are given to find the ranges of activations")
                .advise(
                    "Give --data with samples of real inputs (ten to a few hundred), or --random-data N to try \
                     without, or --dynamic or --weights-only, which need none",
                )
                .at("--data"));
        }
        source.samples(&self.data)
    }

    /// What is known of the model's values.
    fn known(&self, source: &Source, samples: &[Sample]) -> Result<Known> {
        match source.types(samples) {
            Ok(types) => observe::known_for(&source.model, &types),
            // Only fp16 needs the types of all values.
            Err(_) if !self.fp16 => Ok(Known::new()),
            Err(error) => Err(error),
        }
    }

    /// Quantizes as the options say.
    fn quantize(&self, source: &Source, observer: &dyn Observer) -> Result<Quantized> {
        let (samples, onnx) = (self.samples(source)?, &source.onnx);
        if self.is_static() {
            let mut made = quantize::quantize(onnx, &samples, &self.options(), observer)?;
            if self.random_data.is_some() {
                made.report.compared = Compared::SeededInputs;
            }
            return Ok(made);
        }
        let known = self.known(source, &samples)?;
        if self.fp16 {
            return self.half(source, &known, &samples, observer);
        }
        let data = Data { samples: if self.no_compensation { &[] } else { &samples }, observer };
        let (name, Made { onnx: made, layers }) = match self.weights_only {
            None => ("dynamic", quantize::dynamic(onnx, &known, &data)?),
            Some(Stored::Int8) => ("int8 weights", quantize::weights_only(onnx, DType::I8, &known, &data)?),
            Some(Stored::Int4) => ("int4 weights", quantize::weights_only(onnx, DType::I4, &known, &data)?),
        };
        let (compared, cosine) = source.compared([onnx, &made], &samples)?;
        let (samples, kept) = (samples.len(), Vec::new());
        let report = quantize::Report { calibration: name, samples, compared, cosine, layers, kept };
        Ok(Quantized { onnx: made, report })
    }

    /// Half precision; without samples, seeded ones show what it cannot hold, where the model runs on them.
    fn half(
        &self,
        source: &Source,
        known: &Known,
        samples: &[Sample],
        observer: &dyn Observer,
    ) -> Result<Quantized> {
        let onnx = &source.onnx;
        let seeded = source.types(samples).and_then(|types| samples::random(&types, 1));
        let Halved { onnx: made, kept } = match (samples, seeded) {
            ([], Ok(seeded)) => {
                half(onnx, known, &seeded, observer).or_else(|_| half(onnx, known, &[], observer))?
            }
            _ => half(onnx, known, samples, observer)?,
        };
        let (compared, cosine) = source.compared([onnx, &made], samples)?;
        let (calibration, samples, layers) = ("fp16", samples.len(), Vec::new());
        let report = quantize::Report { calibration, samples, compared, cosine, layers, kept };
        Ok(Quantized { onnx: made, report })
    }
}

pub(super) fn run(args: &QuantizeArgs, report: &Report) -> Result<ExitCode> {
    keep_source(&args.model.model, &args.out)?;
    let place = args.model.model.display().to_string();
    let source = Source::read(&args.model)?;
    let made = report.follow(&[], |observer| args.quantize(&source, observer));
    let inside =
        |e: Error| if e.exit_code() == 1 && e.place.first() != Some(&place) { e.at(&place) } else { e };
    let made = made.map_err(inside)?;
    let results = Results {
        reason: "quantized",
        source: &args.model.model,
        out: &args.out,
        json: args.report.as_deref(),
    };
    results.write(&made.onnx, &made.report, report)?;
    Ok(ExitCode::SUCCESS)
}

/// What is written and printed at the end.
pub(super) struct Results<'a> {
    pub reason: &'static str,
    pub source: &'a Path,
    pub out: &'a Path,
    pub json: Option<&'a Path>,
}

/// An error where the model read would be written over.
pub(super) fn keep_source(source: &Path, out: &Path) -> Result<()> {
    let same = matches!((source.canonicalize(), out.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if same {
        return Err(Error::options(format!("{} is the model that is read", out.display()))
            .advise("Name another file, so that the model is kept")
            .at("--out"));
    }
    Ok(())
}

impl Results<'_> {
    /// Writes the model and the report.
    pub(super) fn write(&self, onnx: &Onnx, found: &quantize::Report, report: &Report) -> Result<()> {
        let before = std::fs::metadata(self.source).map_or(0, |m| m.len());
        let after = onnx.write(self.out)?;
        let json = json!({ "file": self.out, "bytes": after, "bytes_before": before, "report": found });
        if let Some(file) = self.json {
            std::fs::write(file, format!("{json:#}\n")).map_err(|e| {
                Error::new(Kind::Io, format!("cannot be written: {e}")).at(file.display().to_string())
            })?;
        }
        let head = format!(
            "{}: {} bytes instead of {}; {}, {} samples",
            self.out.display(),
            thousands(after as u64),
            thousands(before),
            found.calibration,
            found.samples
        );
        let text = format!("{head}\n{}{}{}", layers(found), kept(found), outputs(found));
        report.result(self.reason, &text, json);
        Ok(())
    }
}

/// The layers as a table.
fn layers(found: &quantize::Report) -> String {
    if found.layers.is_empty() {
        return String::new();
    }
    let titles = ["layer", "operator", "weights", "error", "of all", "data", "saturated"];
    let mut rows = vec![titles.map(str::to_string).to_vec()];
    for layer in &found.layers {
        let (error, total) = (format!("{:.2e}", layer.error), layer.total_error);
        rows.push(vec![
            layer.name.clone(),
            layer.op.clone(),
            thousands(layer.weights as u64),
            if layer.float { "float".to_string() } else { error },
            total.map(|t| format!("{t:.2e}")).unwrap_or_default(),
            layer.range.map(|[lo, hi]| format!("{lo:.4} to {hi:.4}")).unwrap_or_default(),
            layer.saturation.map(|s| format!("{:.4} %", 100.0 * s)).unwrap_or_default(),
        ]);
    }
    table(&rows)
}

/// The nodes that stay in `f32`, those of one reason together.
fn kept(found: &quantize::Report) -> String {
    let mut reasons: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    found.kept.iter().for_each(|k| reasons.entry((&k.op, &k.why)).or_default().push(&k.name));
    let row = |((op, why), names): ((&str, &str), Vec<&str>)| {
        let more = names.len().saturating_sub(NAMED);
        let listed = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        vec!["in f32".to_string(), op.to_string(), format!("{listed}{more}"), why.to_string()]
    };
    table(&reasons.into_iter().map(row).collect::<Vec<_>>())
}

fn outputs(found: &quantize::Report) -> String {
    let on = match found.compared {
        Compared::Samples => "",
        Compared::SeededInputs => " on seeded inputs",
        Compared::Nothing => return "outputs  not compared: give --data with samples\n".to_string(),
    };
    let row =
        |(name, cosine): &(String, f64)| vec![name.clone(), format!("cosine with float {cosine:.6}{on}")];
    table(&found.cosine.iter().map(row).collect::<Vec<_>>())
}
