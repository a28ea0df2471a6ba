//! The compiler as a library: [`Build`] says what to compile, [`Built`] is what comes out.
//!
//! The command line and build scripts are thin layers over it. In a `build.rs`:
//!
//! ```no_run
//! # fn main() -> lmc::error::Result<()> {
//! lmc::Build::new("kws.onnx").dim("batch", 1).compile()?;
//! # Ok(())
//! # }
//! ```
//! writes the object, the header, the binding and a library into `OUT_DIR` and tells Cargo to link it;
//! the application says `lmc_runtime::include_model!("kws")`.

mod archive;
mod batch;
mod budget;
mod files;
mod observed;
mod sized;
mod timing;

pub use archive::archive;
pub use files::Files;
pub use timing::Timing;

use crate::emit::Emitted;
use crate::error::{Error, Kind, Result};
use crate::graph::Graph;
use crate::import::{Bindings, Declared, Dim, Model};
use crate::ops::data_decide_sizes;
use crate::package;
use crate::passes::{Around, Given};
use crate::plan::{Aim, Choose, Dump, Lowered, Plan, Program};
pub use crate::schedule::Prefer;
use crate::schedule::choose::{choose, choose_fast, choose_small};
use crate::schedule::{Linear, Schedule, Schedules};
use crate::target::Target;
use crate::{codegen, emit, import, passes, plan, target};
use batch::by_entries;
use budget::Budgets;
use observed::{rewrite, show, typed_graph};
use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use timing::Clock;

/// Follows a build.
pub trait Observer: Sync {
    /// A step has begun or gone on: `done` of `total` parts. Called from several threads.
    fn progress(&self, _step: &str, _done: usize, _total: usize) {}

    /// Whether [`Observer::dump`] wants the text after this stage.
    fn wants(&self, _stage: &str) -> bool {
        false
    }

    /// The text of the intermediate form after a stage.
    fn dump(&self, _stage: &str, _text: &str) {}
}

/// An observer that does nothing.
pub struct Silent;

impl Observer for Silent {}

/// What to compile, for what, and within which budgets.
#[derive(Clone, Debug)]
pub struct Build {
    model: PathBuf,
    target: Option<String>,
    cpu: String,
    name: Option<String>,
    bindings: Bindings,
    out_dir: Option<PathBuf>,
    budgets: Budgets,
    schedules: Option<PathBuf>,
    prefer: Prefer,
    first: bool,
}

/// A compiled model.
pub struct Built {
    /// What was compiled for.
    pub target: Target,
    /// Kernels, steps, memory; the model's interface.
    pub program: Program,
    /// The object file.
    pub object: Emitted,
    /// Bytes of stack that one inference needs at most.
    pub stack_bytes: usize,
    /// Whether convolutions are filtered (Winograd), with constants that grow by it.
    pub filtered: bool,
    /// What inputs and outputs of strings are numbers of.
    pub strings: package::Strings,
    /// The files that were read beside the model: external data, schedules.
    pub sources: Vec<PathBuf>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// The time each stage took, in their order.
    pub timings: Vec<Timing>,
}

/// Stages that can be printed: `graph`, the passes by name, and those that [`plan::plan`] names.
pub fn stages() -> Vec<&'static str> {
    let passes = passes::PASSES.iter().map(|p| p.name);
    ["graph"]
        .into_iter()
        .chain(passes)
        .chain(["lower", "group", "strips", "schedule", "nest", "plan"])
        .collect()
}

impl Build {
    /// A build of a model file with the defaults: the host's target (in a build script, Cargo's),
    /// its generic processor, the file's name.
    pub fn new(model: impl Into<PathBuf>) -> Self {
        Build {
            model: model.into(),
            target: None,
            cpu: "generic".to_string(),
            name: None,
            bindings: Bindings::default(),
            out_dir: None,
            budgets: Budgets::default(),
            schedules: None,
            prefer: Prefer::default(),
            first: false,
        }
    }

    /// The target: `native`, `x86_64`, `aarch64`, or a triple.
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// The processor: a name, `native` or `generic`.
    pub fn cpu(mut self, cpu: impl Into<String>) -> Self {
        self.cpu = cpu.into();
        self
    }

    /// The prefix of the symbols and files; otherwise from the file's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Binds a free dimension by its name.
    pub fn dim(mut self, name: impl Into<String>, size: usize) -> Self {
        self.bindings.dims.insert(name.into(), size);
        self
    }

    /// Leaves a free dimension to run time, up to a bound.
    pub fn dim_up_to(mut self, name: impl Into<String>, bound: usize) -> Self {
        self.bindings.bounds.insert(name.into(), bound);
        self
    }

    /// The same of one that may be 0, too: a cache that is empty at first.
    pub fn dim_from_zero(mut self, name: impl Into<String>, bound: usize) -> Self {
        let name = name.into();
        self.bindings.empty.insert(name.clone());
        self.dim_up_to(name, bound)
    }

    /// Gives the whole shape of an input.
    pub fn input(mut self, name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        self.bindings.shapes.insert(name.into(), shape.into());
        self
    }

    /// Names dimensions of an input, for [`Build::dim`] and [`Build::dim_up_to`]: those without a name, or with one that
    /// another of another size has; as in `batch,3,side,side`.
    pub fn input_dims(mut self, name: impl Into<String>, dims: impl Into<Vec<Dim>>) -> Self {
        self.bindings.named.insert(name.into(), dims.into());
        self
    }

    /// Compiles one branch of the If whose condition is an input of this name; `run` returns an error for the other.
    pub fn branch(mut self, input: impl Into<String>, taken: bool) -> Self {
        self.bindings.branches.insert(input.into(), taken);
        self
    }

    /// All bindings at once.
    pub fn bindings(mut self, bindings: Bindings) -> Self {
        self.bindings = bindings;
        self
    }

    /// The folder for the files; otherwise `OUT_DIR` in a build script, the current one elsewhere.
    pub fn out_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.out_dir = Some(folder.into());
        self
    }

    /// Fails the build where the arena exceeds this many bytes.
    pub fn max_ram(mut self, bytes: usize) -> Self {
        self.budgets.ram = Some(bytes);
        self
    }

    /// Fails the build where code and constants exceed this many bytes.
    pub fn max_flash(mut self, bytes: usize) -> Self {
        self.budgets.flash = Some(bytes);
        self
    }

    /// Fails the build where the stack exceeds this many bytes.
    pub fn max_stack(mut self, bytes: usize) -> Self {
        self.budgets.stack = Some(bytes);
        self
    }

    /// What counts where speed and memory cannot both be had.
    pub fn prefer(mut self, prefer: Prefer) -> Self {
        self.prefer = prefer;
        self
    }

    /// The first plan that is found, in place of the one that takes least memory: for what runs a few times.
    pub fn first_plan(mut self) -> Self {
        self.first = true;
        self
    }

    /// Takes the schedules of a file that `lmc tune` wrote, for the kernels it has any for.
    pub fn schedules(mut self, file: impl Into<PathBuf>) -> Self {
        self.schedules = Some(file.into());
        self
    }

    fn read_schedules(&self, target: &Target) -> Result<Schedules> {
        let Some(path) = &self.schedules else { return Ok(Schedules::new(target)) };
        let text = std::fs::read_to_string(path)
            .map_err(|e| self.in_schedules(Error::new(Kind::Io, format!("cannot be read: {e}"))))?;
        Schedules::read(&text, target).map_err(|e| self.in_schedules(e))
    }

    /// An error of the file of schedules.
    fn in_schedules(&self, error: Error) -> Error {
        let advice = "docs/ir.md has the grammar of schedules; `lmc tune` writes files of them";
        match &self.schedules {
            Some(path) => error.or_advise(advice).at(path.display().to_string()),
            None => error,
        }
    }

    /// The definitions that become kernels, each once.
    pub fn definitions(&self, observer: &dyn Observer) -> Result<Vec<Linear>> {
        let target = self.resolve_target()?;
        observer.progress("reading", 0, 1);
        let model = self.import()?;
        let found = RefCell::new(Vec::new());
        let record = |linear: &Linear| {
            found.borrow_mut().push(linear.clone());
            Ok(choose(linear, &target))
        };
        let aim = Aim { prefer: self.prefer, ..Aim::fast(&record) };
        self.plan_model(&model, &target, "model", &aim, observer, &Clock::start())?;
        Ok(found.into_inner())
    }

    /// The target that the options name.
    pub fn resolve_target(&self) -> Result<Target> {
        let from_cargo = || std::env::var("TARGET").ok().filter(|_| std::env::var_os("OUT_DIR").is_some());
        let named = self.target.clone().or_else(from_cargo).unwrap_or_else(|| "native".to_string());
        target::resolve(&named, &self.cpu)
    }

    /// The prefix of symbols, an identifier.
    fn symbol_name(&self) -> Result<String> {
        let text = match &self.name {
            Some(name) => name.clone(),
            None => self.model.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default(),
        };
        match &self.name {
            Some(name) if package::names::identifier(name) != *name => {
                Err(Error::options(format!("'{name}' is not an identifier"))
                    .advise(format!(
                        "Symbols and files are named after it; '{}' would do",
                        package::names::identifier(name)
                    ))
                    .at("--name"))
            }
            _ => Ok(package::names::identifier(&text)),
        }
    }

    /// The decoded model.
    pub fn import(&self) -> Result<Model> {
        import::read(&self.model)
    }

    /// Compiles in memory; nothing is written. Where speed is preferred and a budget exceeded, the model
    /// is compiled again: with fewer filtered convolutions, if that will do, or for size.
    pub fn build(&self, observer: &dyn Observer) -> Result<Built> {
        let built = self.build_once(observer)?;
        let Err(exceeded) = self.budgets.check(&built) else { return Ok(built) };
        if self.prefer == Prefer::Size {
            return Err(exceeded.at(self.model.display().to_string()));
        }
        let budgets = self.budgets.of_constants(&built);
        drop(built);
        if let Some(budgets) = budgets {
            let mut fewer = Build { budgets, ..self.clone() }.build_once(observer)?;
            if self.budgets.check(&fewer).is_ok() {
                fewer.notes.push(budget::UNFILTERED.to_string());
                return Ok(fewer);
            }
        }
        let mut smaller = self.clone().prefer(Prefer::Size).build(observer)?;
        smaller.notes.push(budget::PREFERRED.to_string());
        Ok(smaller)
    }

    fn build_once(&self, observer: &dyn Observer) -> Result<Built> {
        let target = self.resolve_target()?;
        let name = self.symbol_name()?;
        observer.progress("reading", 0, 1);
        let clock = Clock::start();
        let model = self.import()?;
        clock.end("read");
        let place = self.model.display().to_string();
        self.build_timed(model, target, &name, observer, clock).map_err(|e| match e.kind {
            Kind::Options | Kind::Target if !e.place.is_empty() => e,
            _ => e.at(place),
        })
    }

    /// Compiles a decoded model.
    pub fn build_model(
        &self,
        model: &Model,
        target: Target,
        name: &str,
        observer: &dyn Observer,
    ) -> Result<Built> {
        let built = self.build_timed(model.clone(), target, name, observer, Clock::start())?;
        self.budgets.check(&built)?;
        Ok(built)
    }

    fn build_timed(
        &self,
        mut model: Model,
        target: Target,
        name: &str,
        observer: &dyn Observer,
        clock: Clock,
    ) -> Result<Built> {
        self.bindings.name_dims(&mut model.body)?;
        let schedules = self.read_schedules(&target)?;
        let given = |linear: &Linear, otherwise: fn(&Linear, &Target) -> Schedule| {
            let found = schedules.get(linear).map_err(|e| self.in_schedules(e))?;
            Ok(found.unwrap_or_else(|| otherwise(linear, &target)))
        };
        let (fast, small): (&Choose, &Choose) =
            (&|linear| given(linear, choose_fast), &|linear| given(linear, choose_small));
        let (choose, other) = if self.prefer == Prefer::Size { (small, fast) } else { (fast, small) };
        let (other, first) = (Some(other), self.first);
        let Budgets { ram, constants, .. } = self.budgets;
        let aim = Aim { prefer: self.prefer, choose, other, ram, constants, first };
        let (plan, mut notes) = self.plan_model(&model, &target, name, &aim, observer, &clock)?;
        let Plan { mut program, filtered, .. } = plan;
        // Values of a graph have names of their own; outputs of a file may share one.
        for (output, declared) in program.outputs.iter_mut().zip(&model.body.outputs) {
            output.name.clone_from(&declared.name);
        }
        let words = |values: &[Declared]| values.iter().map(|v| v.words).collect::<Vec<bool>>();
        let (inputs, outputs) = (words(&model.body.inputs), words(&model.body.outputs));
        let any = inputs.iter().chain(&outputs).any(|&w| w);
        let words = if any { model.words.list().to_vec() } else { Vec::new() };
        let strings = package::Strings { words, inputs, outputs };
        let sources = model.files.iter().chain(&self.schedules).cloned().collect();
        // What its constants became is in the program.
        drop(model);
        notes.extend(schedules.unused());
        Ok(Built {
            notes,
            sources,
            strings,
            filtered,
            ..Self::build_program(program, target, observer, clock)?
        })
    }

    /// What passes know.
    fn around<'a>(&self, target: &'a Target) -> Around<'a> {
        Around { filters: self.prefer == Prefer::Speed, ..Around::new(target) }
    }

    /// Everything before code generation: the plan of a decoded model, and notes.
    fn plan_model(
        &self,
        model: &Model,
        target: &Target,
        name: &str,
        aim: &Aim,
        observer: &dyn Observer,
        clock: &Clock,
    ) -> Result<(Plan, Vec<String>)> {
        let (bindings, around) = (self.bindings.complete(&model.body)?, self.around(target));
        let (types, mut notes) = bindings.resolve(&model.body)?;
        let mut sized = !bindings.bounds.is_empty();
        if !sized {
            let (mut graph, more) = typed_graph(model, &types, 0, &Given::of(&bindings), observer, clock)?;
            sized = data_decide_sizes(&graph);
            if !sized {
                let rewritten = rewrite(&mut graph, around.clone(), observer, clock)?;
                observer.progress("planning", 0, 1);
                notes.extend(more.into_iter().chain(rewritten));
                let whole = plan::lowered(&graph)?;
                let compact = self.prefer == Prefer::Size;
                let apart = by_entries((model, &graph, &whole), &bindings, &around, compact);
                let lowered = apart.unwrap_or(whole);
                return self.plan_lowered(lowered, (name, target, aim), notes, &show(observer, clock));
            }
        }
        let (lowered, notes) = sized::lowered(model, &bindings, &around, observer, clock)?;
        observer.progress("planning", 0, 1);
        self.plan_lowered(lowered, (name, target, aim), notes, &show(observer, clock))
    }

    /// The plan of stages, with notes of what it takes as well.
    fn plan_lowered(
        &self,
        lowered: Lowered,
        (name, target, aim): (&str, &Target, &Aim),
        mut notes: Vec<String>,
        dump: &Dump,
    ) -> Result<(Plan, Vec<String>)> {
        let read = budget::read_reachable(&lowered.lowering)?;
        let plan = plan::plan(lowered, name, target, aim, dump)?;
        notes.extend(plan.slower.then(|| budget::SLOWER.to_string()));
        let free = plan.filtered && self.budgets.flash.is_none();
        notes.extend(budget::grown(&plan.program, read).filter(|_| free));
        Ok((plan, notes))
    }

    /// Compiles a graph as it is: no pass runs.
    pub fn build_graph(
        &self,
        graph: &Graph,
        target: Target,
        name: &str,
        observer: &dyn Observer,
    ) -> Result<Built> {
        let clock = Clock::start();
        observer.progress("planning", 0, 1);
        let choose = |linear: &Linear| Ok(choose(linear, &target));
        let lowered = plan::lowered(graph)?;
        let aim = Aim { first: self.first, ..Aim::fast(&choose) };
        let found = plan::plan(lowered, name, &target, &aim, &show(observer, &clock))?;
        Self::build_program(found.program, target, observer, clock)
    }

    fn build_program(
        program: Program,
        target: Target,
        observer: &dyn Observer,
        clock: Clock,
    ) -> Result<Built> {
        budget::reachable(&program)?;
        let (total, done) = (program.kernels.len(), AtomicUsize::new(0));
        let compiled = codegen::compile(&program, &target, &|| {
            observer.progress("compiling", done.fetch_add(1, Ordering::Relaxed) + 1, total);
        })?;
        clock.end("code");
        let object = emit::emit(&program, &compiled, &target)?;
        clock.end("object");
        let (sources, notes, timings) = (Vec::new(), Vec::new(), clock.timings());
        let stack_bytes = compiled.stack_bytes;
        let strings = package::Strings::default();
        Ok(Built { target, program, object, stack_bytes, filtered: false, strings, sources, notes, timings })
    }
}
