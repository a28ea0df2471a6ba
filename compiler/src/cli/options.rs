//! Options that several commands share.

use crate::base::affine::MAX_SIZE;
use crate::build::{Build, Prefer};
use crate::error::{Error, Result};
use crate::import::{self, Bindings, Model, Sum};
use crate::target::Target;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// The model and its free dimensions.
#[derive(Args, Clone, Debug)]
pub(super) struct ModelArgs {
    /// The ONNX file.
    pub model: PathBuf,
    /// Bind a free dimension by its name, as in batch=1, leave it to run time up to a bound, as in
    /// 'seq<=128' ('0<=past<=128' where it may be nothing, too), or say which sum or multiple of others it is, as in 'total=past+1', 'height=32*k'.
    #[arg(long = "dim", value_name = "NAME=N|NAME<=N|NAME=SUM")]
    dims: Vec<String>,
    /// Give the whole shape of an input, as in data=1x3x224x224, or name its free dimensions for --dim, as in
    /// data=batch,3,side,side, or say which branch is compiled where it is the condition of an If, as in
    /// use_cache_branch=true.
    #[arg(long = "input", value_name = "NAME=AxBxC|NAME=A,B,C|NAME=true|NAME=false")]
    inputs: Vec<String>,
}

/// What is compiled for.
#[derive(Args, Clone, Debug)]
pub(super) struct TargetArgs {
    /// native, x86_64, aarch64, or a triple.
    #[arg(long, default_value = "native")]
    pub target: String,
    /// A processor that `lmc cpus` lists, native (this machine's), or generic (any of the architecture), as without
    /// the option.
    #[arg(long)]
    cpu: Option<String>,
    /// What counts where speed and memory cannot both be had.
    #[arg(long, value_enum, default_value_t = Preferred::Speed)]
    prefer: Preferred,
}

/// [`Prefer`] as an option.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum Preferred {
    /// Time; where that exceeds a budget, bytes.
    Speed,
    /// Bytes: convolutions are not filtered (Winograd), since that multiplies their constants, weights that are
    /// kept narrow have no copies in floats, tiles have less code, and strips may cost time.
    Size,
}

/// Which form of the object is made: what keeps to budgets, or is scheduled as a file says.
#[derive(Args, Clone, Debug)]
pub(super) struct FormArgs {
    /// Fail where the arena is larger (64K, 1.5M).
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_ram: Option<usize>,
    /// Fail where code and constants are larger.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_flash: Option<usize>,
    /// Fail where the stack is larger.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_stack: Option<usize>,
    /// Schedules that `lmc tune` found.
    #[arg(long, value_name = "FILE")]
    schedule: Option<PathBuf>,
}

/// A model, what it is compiled for, and how that is run.
#[derive(Args, Clone, Debug)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub form: FormArgs,
    /// The command that starts programs of the target, as in 'qemu-aarch64 -cpu max'.
    #[arg(long, value_name = "COMMAND")]
    pub runner: Option<String>,
}

/// `NAME=VALUE`, split at the last `=`.
pub(super) fn split<'a>(option: &str, text: &'a str) -> Result<(&'a str, &'a str)> {
    let pair = text.rsplit_once('=').filter(|(name, _)| !name.is_empty());
    pair.ok_or_else(|| {
        let reason = format!("'{text}' names something without a value, or a value without a name");
        Error::options(reason).advise(format!("Write {option} NAME=VALUE")).at(option)
    })
}

fn size(option: &str, text: &str) -> Result<usize> {
    text.trim().parse().map_err(|_| Error::options(format!("'{text}' is not a size")).at(option))
}

/// The name in `NAME` or `0<=NAME`, which says that it may be nothing.
fn name_from(text: &str, whole: &str, bindings: &mut Bindings) -> Result<String> {
    let Some((least, name)) = text.split_once("<=") else { return Ok(text.trim().to_string()) };
    let name = name.trim().to_string();
    match least.trim() {
        "0" => drop(bindings.empty.insert(name.clone())),
        "1" => {}
        _ => {
            let reason = format!("'{whole}': a dimension begins at 1, or at 0 where that is said");
            return Err(Error::options(reason).advise("Write 'NAME<=N' or '0<=NAME<=N'").at("--dim"));
        }
    }
    Ok(name)
}

fn bound_of(text: &str) -> Result<usize> {
    match size("--dim", text)? {
        bound @ 1..=MAX_SIZE => Ok(bound),
        _ => Err(Error::options(format!("'{}' is no bound: 1 to {MAX_SIZE}", text.trim())).at("--dim")),
    }
}

/// A number of bytes: `20000`, `64K`, `1.5M`, `2KiB`; K and M are 1024 and its square.
pub(super) fn bytes(text: &str) -> std::result::Result<usize, String> {
    let lower = text.trim().to_lowercase();
    let plain = lower.trim_end_matches("ib").trim_end_matches('b');
    let (number, unit) = match plain.chars().last() {
        Some('k') => (&plain[..plain.len() - 1], 1024.0),
        Some('m') => (&plain[..plain.len() - 1], 1024.0 * 1024.0),
        Some('g') => (&plain[..plain.len() - 1], 1024.0 * 1024.0 * 1024.0),
        _ => (plain, 1.0),
    };
    let value: f64 = number.trim().parse().map_err(|_| "not a number of bytes (64K, 1.5M)".to_string())?;
    if value.is_finite() && value >= 0.0 {
        Ok((value * unit) as usize)
    } else {
        Err("out of range".to_string())
    }
}

/// A duration in seconds, at most an hour.
pub(super) fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let value: f64 = text.trim().parse().map_err(|_| "not a number of seconds".to_string())?;
    match (0.0..=3600.0).contains(&value) {
        true => Ok(Duration::from_secs_f64(value)),
        false => Err("not a number of seconds from 0 to 3600".to_string()),
    }
}

/// A number that is not negative, such as a tolerance.
pub(super) fn tolerance(text: &str) -> std::result::Result<f64, String> {
    match text.trim().parse() {
        Ok(value) if value >= 0.0 => Ok(value),
        _ => Err("not a number from 0 on".to_string()),
    }
}

/// The least cosine of results with a reference.
pub(super) fn cosine(text: &str) -> std::result::Result<f64, String> {
    match text.trim().parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("not a number from 0 to 1".to_string()),
    }
}

impl ModelArgs {
    /// The model, with the names that the options give to dimensions.
    pub(super) fn read(&self) -> Result<Model> {
        let mut model = import::read(&self.model)?;
        self.bindings()?.name_dims(&mut model.body)?;
        Ok(model)
    }

    /// The options as bindings.
    pub(super) fn bindings(&self) -> Result<Bindings> {
        let mut bindings = Bindings::default();
        for text in &self.dims {
            if let Some((name, bound)) = text.rsplit_once("<=") {
                let name = name_from(name, text, &mut bindings)?;
                bindings.bounds.insert(name, bound_of(bound)?);
                continue;
            }
            let (name, value) = split("--dim", text)?;
            if let Some(sum) = Sum::parse(value) {
                match sum.other_name() {
                    Some(other) => drop(bindings.equal.insert(name.to_string(), other.to_string())),
                    None => drop(bindings.sums.insert(name.to_string(), sum)),
                }
                continue;
            }
            bindings.dims.insert(name.to_string(), size("--dim", value)?);
        }
        for text in &self.inputs {
            let (name, value) = split("--input", text)?;
            if let Ok(branch) = value.parse::<bool>() {
                bindings.branches.insert(name.to_string(), branch);
                continue;
            }
            if value.starts_with(|c: char| c.is_alphabetic()) || value.contains(',') {
                let reason = format!("'{value}' is neither a shape nor names and sizes of dimensions");
                let advice = "Write --input NAME=AxBxC, or NAME=A,B,C with names in place of some sizes";
                let dims = Bindings::parse_dims(value);
                let dims = dims.ok_or_else(|| Error::options(reason).advise(advice).at("--input"))?;
                bindings.named.insert(name.to_string(), dims);
                continue;
            }
            let shape: Result<Vec<usize>> = match value {
                "" => Ok(Vec::new()),
                dims => dims.split('x').map(|d| size("--input", d)).collect(),
            };
            bindings.shapes.insert(name.to_string(), shape?);
        }
        Ok(bindings)
    }
}

impl TargetArgs {
    /// A build of the model for this target.
    pub(super) fn build(&self, model: &ModelArgs) -> Result<Build> {
        let prefer = match self.prefer {
            Preferred::Speed => Prefer::Speed,
            Preferred::Size => Prefer::Size,
        };
        let build = Build::new(&model.model).target(&self.target).prefer(prefer).bindings(model.bindings()?);
        Ok(match &self.cpu {
            Some(cpu) => build.cpu(cpu),
            None => build,
        })
    }

    /// What naming a processor would gain, where none is named.
    pub(super) fn advice(&self, target: &Target) -> Option<String> {
        let (arch, bits) = (target.triple.architecture, 8 * target.vector_bytes);
        self.cpu.is_none().then(|| {
            format!(
                "compiled for every {arch} processor, with vectors of {bits} bits; --cpu native, for this machine's, or \
                 a processor that `lmc cpus` lists makes it faster there"
            )
        })
    }
}

impl FormArgs {
    /// A build in this form.
    pub(super) fn of(&self, mut build: Build) -> Build {
        let budgets = [
            (self.max_ram, Build::max_ram as fn(Build, usize) -> Build),
            (self.max_flash, Build::max_flash),
            (self.max_stack, Build::max_stack),
        ];
        for (limit, set) in budgets {
            if let Some(limit) = limit {
                build = set(build, limit);
            }
        }
        match &self.schedule {
            Some(file) => build.schedules(file),
            None => build,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_units() {
        let read = |t| bytes(t).ok();
        assert_eq!(read("20000"), Some(20000));
        assert_eq!(read("64K"), Some(65536));
        assert_eq!(read("1.5MiB"), Some(1572864));
        assert_eq!(read("2 kB"), Some(2048));
        assert_eq!(read("x"), None);
        assert_eq!(read("-1"), None);
    }

    #[test]
    fn numbers_are_within_sense() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(tolerance("1e-3"), Ok(1e-3));
        for text in ["nan", "inf", "-1", "3601", "x"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        for text in ["nan", "-1e-9", "x"] {
            assert!(tolerance(text).is_err() && cosine(text).is_err(), "{text}");
        }
        assert!(cosine("1") == Ok(1.0) && cosine("1.001").is_err());
    }
}
