//! One way to run a compiled model, wherever it runs: in this process, or as a program of its own.

use super::foreign::Foreign;
use super::limits;
use super::load::{Arena, Loaded};
use crate::base::Tensor;
use crate::error::{Error, Kind, Result};
use crate::plan::{Interface, Program, Symbol};
use crate::target::{self, Target};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use target_lexicon::BinaryFormat;

/// A folder for temporary files, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lmc-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| {
            Error::new(Kind::Io, format!("cannot be made: {e}")).at(path.display().to_string())
        })?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

enum How {
    Here(Box<Loaded>, Arena),
    There(Foreign, #[allow(dead_code, reason = "keeps the folder")] Scratch),
}

/// A compiled model that can be run.
pub struct Executor {
    how: How,
    inputs: Vec<Interface>,
    outputs: Vec<Interface>,
    symbols: Vec<Symbol>,
}

/// Whether code for a target runs on this processor as it is.
pub fn is_host(target: &Target) -> bool {
    let Ok(host) = target::resolve("native", "native") else { return false };
    host.arch == target.arch
        && target.triple.binary_format == BinaryFormat::Elf
        && target.features.iter().all(|&f| host.has(f))
}

impl Executor {
    /// Makes an object of a program ready to run. `runner` is the command that starts programs of the
    /// target; without one the object runs in this process, or under an emulator that is installed. An error where a
    /// run would take more memory or time than [`limits`] has.
    pub fn new(program: &Program, object: &[u8], target: &Target, runner: Option<&str>) -> Result<Executor> {
        limits::check(program)?;
        let how = if runner.is_none() && is_host(target) {
            let loaded = Loaded::load(object, &program.name)?;
            let arena = Arena::new(loaded.model())?;
            How::Here(Box::new(loaded), arena)
        } else {
            let scratch = Scratch::new()?;
            let file = scratch.0.join("model.o");
            write(&file, object)?;
            How::There(Foreign::link(&file, &program.name, target, runner, &scratch.0)?, scratch)
        };
        Ok(Executor {
            how,
            inputs: program.inputs.clone(),
            outputs: program.outputs.clone(),
            symbols: program.symbols.clone(),
        })
    }

    /// Runs one inference. Inputs in the model's order; sizes known only at run time are taken from
    /// their shapes, and the outputs have the sizes that came out.
    pub fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.run_timed(inputs).map(|(outputs, _)| outputs)
    }

    /// As [`Executor::run`], with the nanoseconds that it took.
    pub fn run_timed(&mut self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, u64)> {
        let mut symbols = self.sizes(inputs)?;
        let bytes = self.padded(inputs);
        let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        let mut outputs = Vec::new();
        let (status, nanoseconds) = match &mut self.how {
            How::Here(loaded, arena) => {
                let start = Instant::now();
                let status = loaded.run_in(arena, &slices, &mut symbols, &mut outputs)?;
                (status, start.elapsed().as_nanos() as u64)
            }
            How::There(foreign, _) => {
                let outcome = foreign.run(&slices, &symbols, self.outputs.len(), 1)?;
                (outputs, symbols) = (outcome.outputs, outcome.symbols);
                (outcome.status, outcome.nanoseconds.first().copied().unwrap_or(0))
            }
        };
        checked(status)?;
        let actual = |(bytes, i): (Vec<u8>, &Interface)| i.actual(bytes, &symbols);
        Ok((outputs.into_iter().zip(&self.outputs).map(actual).collect::<Result<_>>()?, nanoseconds))
    }

    /// Runs for about the given time; gives the nanoseconds of each inference.
    pub fn time(&mut self, inputs: &[Tensor], budget: Duration) -> Result<Vec<u64>> {
        let mut symbols = self.sizes(inputs)?;
        let bytes = self.padded(inputs);
        let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        let mut outputs = Vec::new();
        match &mut self.how {
            How::Here(loaded, arena) => {
                let mut times = Vec::new();
                let start = Instant::now();
                while times.len() < 3 || start.elapsed() < budget {
                    let before = Instant::now();
                    let status = loaded.run_in(arena, &slices, &mut symbols, &mut outputs)?;
                    times.push(before.elapsed().as_nanos() as u64);
                    checked(status)?;
                }
                Ok(times)
            }
            How::There(foreign, _) => {
                let first = foreign.run(&slices, &symbols, self.outputs.len(), 1)?;
                checked(first.status)?;
                let one = first.nanoseconds.first().copied().unwrap_or(1).max(1);
                let repeat = (budget.as_nanos() / u128::from(one)).clamp(3, 100_000) as u32;
                Ok(foreign.run(&slices, &symbols, self.outputs.len(), repeat)?.nanoseconds)
            }
        }
    }

    /// The sizes known only at run time, from the inputs' shapes; the bounds of the others.
    /// An error where an input has another type.
    pub fn sizes(&self, inputs: &[Tensor]) -> Result<Vec<i64>> {
        if inputs.len() != self.inputs.len() {
            let (need, have) = (self.inputs.len(), inputs.len());
            return Err(Error::options(format!("the model takes {need} inputs, {have} are given")));
        }
        let mut sizes: Vec<i64> = self.symbols.iter().map(|s| s.max as i64).collect();
        for (tensor, wanted) in inputs.iter().zip(&self.inputs) {
            let (have, want) = (&tensor.ty, &wanted.ty);
            let free = |axis: usize| wanted.symbolic.get(axis).copied().flatten();
            let fits = have.rank() == want.rank()
                && have.dtype == want.dtype
                && (0..want.rank()).all(|a| match free(a) {
                    Some(_) => have.shape[a] <= want.shape[a],
                    None => have.shape[a] == want.shape[a],
                });
            // A single element is the same bytes at any rank; files keep scalars as lists of one.
            let fixed = wanted.symbolic.iter().all(Option::is_none);
            let single = fixed && have.dtype == want.dtype && have.elems() == 1 && want.elems() == 1;
            if !fits && !single {
                let advice = match have.dtype == want.dtype {
                    true => "Bind the model's dimensions to those of the data with --dim or --input",
                    false => "Save the data with the element type of the input",
                };
                return Err(Error::options(format!("the data are {have}, the model takes {want}"))
                    .advise(advice)
                    .at(format!("input '{}'", wanted.name)));
            }
            for axis in 0..want.rank() {
                if let Some(symbol) = free(axis) {
                    sizes[symbol as usize] = have.shape[axis] as i64;
                }
            }
        }
        Ok(sizes)
    }

    /// The bytes of the inputs, at their bounds.
    fn padded(&self, inputs: &[Tensor]) -> Vec<Vec<u8>> {
        let pad = |(tensor, wanted): (&Tensor, &Interface)| {
            let mut bytes = tensor.data.to_vec();
            bytes.resize(wanted.ty.bytes(), 0);
            bytes
        };
        inputs.iter().zip(&self.inputs).map(pad).collect()
    }
}

fn checked(status: i32) -> Result<()> {
    lmc_runtime::Error::check(status).map_err(|e| {
        Error::model(format!("the model returned an error at run time: {}", e.text()))
            .advise("The input data are not what the model expects")
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes)
        .map_err(|e| Error::new(Kind::Io, format!("cannot be written: {e}")).at(path.display().to_string()))
}
