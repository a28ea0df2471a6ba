//! `lmc run`: one inference, outputs as `.npy` files.

use super::execute::{Session, data_sets, input_files};
use super::options::RunArgs;
use super::report::{Report, table};
use crate::base::Tensor;
use crate::data::{STEM, write_npy};
use crate::error::{Error, Kind, Result};
use crate::import;
use crate::package::names::Scope;
use crate::run::compare::numbers;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `lmc run`.
#[derive(Args)]
pub(super) struct RunOnceArgs {
    #[command(flatten)]
    run: RunArgs,
    /// A folder of data: input_0.pb or .npy ..., or a file for each input's name.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A tensor for one input, .npy or .pb.
    #[arg(long = "input-file", value_name = "NAME=FILE")]
    files: Vec<String>,
    /// Folder for the outputs, one .npy file each.
    #[arg(short, long, default_value = ".")]
    out: PathBuf,
}

pub(super) fn run(args: &RunOnceArgs, report: &Report) -> Result<ExitCode> {
    let model = import::read(&args.run.model.model)?;
    let mut data = input_files(&model, &args.files)?;
    let sets = data_sets(&model, args.data.as_slice())?;
    if let (Some(folder), 2..) = (&args.data, sets.len()) {
        return Err(Error::options(format!("holds {} sets of data", sets.len()))
            .advise("Name one of its folders")
            .at(folder.display().to_string()));
    }
    for set in sets {
        for (slot, tensor) in data.iter_mut().zip(set.inputs) {
            *slot = slot.take().or(tensor);
        }
    }
    if let Some(at) = data.iter().position(Option::is_none) {
        let name = &model.body.inputs[at].name;
        return Err(Error::options(format!("no data are given for input '{name}'"))
            .advise(format!("Give --data DIR or --input-file '{name}=FILE.npy'")));
    }
    let mut session = Session::new(&args.run, &data, report)?;
    let inputs = session.inputs(&data)?;
    let outputs = session.executor.run(&inputs)?;
    std::fs::create_dir_all(&args.out).map_err(|e| {
        Error::new(Kind::Io, format!("the folder cannot be made: {e}")).at(args.out.display().to_string())
    })?;
    let mut rows = Vec::new();
    let mut list = Vec::new();
    let mut files = Scope::default();
    for (tensor, interface) in outputs.iter().zip(&session.built.program.outputs) {
        let short: String = interface.name.chars().take(STEM).collect();
        let file = args.out.join(format!("{}.npy", files.unique(&short)));
        write_npy(&file, tensor)?;
        rows.push(vec![
            interface.name.clone(),
            tensor.ty.to_string(),
            summary(tensor),
            file.display().to_string(),
        ]);
        list.push(json!({ "name": interface.name, "type": tensor.ty.to_string(), "file": file }));
    }
    report.result("ran", &table(&rows), json!({ "outputs": list }));
    Ok(ExitCode::SUCCESS)
}

/// The range of a tensor, and where its largest element is.
fn summary(tensor: &Tensor) -> String {
    let all = numbers(tensor);
    let most = all.iter().enumerate().fold(None, |best: Option<(usize, f64)>, (i, &v)| match best {
        Some((_, b)) if v <= b || v.is_nan() => best,
        _ => Some((i, v)),
    });
    let least = all.iter().copied().fold(f64::INFINITY, f64::min);
    most.map_or_else(|| "empty".to_string(), |(i, v)| format!("{least:.5} to {v:.5} (at {i})"))
}
