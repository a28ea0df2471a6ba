//! Stages to a program: a kernel per definition, a place per value, steps in order.

mod definition;
mod repeats;

use super::alternate::alternate;
use super::arena::ALIGN;
use super::buffers::Buffers;
use super::draft::{Draft, Place, Planned};
use super::entries::repeat_entries;
use super::grouped::Batch;
use super::kept::{keeping, show};
use super::kernels::Kernels;
use super::margins::margins;
use super::overrun::{self, Writers};
use super::packed::{Leads, Packed};
use super::ranges::Ranges;
use super::symbols::{check, symbols};
use super::tables::{self, Laid};
use super::uses::Uses;
use super::{Base, Choose, Dump, Interface, Program, Symbol};
use crate::base::{DType, TensorType};
use crate::definition::{DefBuilder, Lowering, Routine, Size, Stage, ValueId};
use crate::error::Result;
use crate::schedule::Prefer;
use crate::schedule::linear::{Layout, Linear};
use crate::target::Target;
use crate::tile::Kernel;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// What the program is planned for.
#[derive(Clone)]
pub struct Request<'a> {
    /// Name of the model.
    pub name: &'a str,
    /// Fused stages.
    pub lowering: &'a Lowering,
    /// Layout of each value.
    pub layouts: &'a [Layout],
    /// Sizes that the application sees, in the order of the program's symbols, by their number among
    /// the lowering's.
    pub visible: Vec<usize>,
    /// The batch for each of whose entries all steps are repeated.
    pub entries: Option<&'a Batch>,
    /// The model's inputs: values and interfaces.
    pub inputs: Vec<(ValueId, Interface)>,
    /// The model's outputs, each written by some stage.
    pub outputs: Vec<(ValueId, Interface)>,
    /// The target.
    pub target: &'a Target,
    /// What counts.
    pub prefer: Prefer,
    /// Gives the schedules.
    pub choose: &'a Choose<'a>,
    /// Where intermediate forms are shown.
    pub dump: &'a Dump<'a>,
}

struct Planner<'a> {
    request: &'a Request<'a>,
    buffers: Buffers,
    places: HashMap<ValueId, Place>,
    kernels: Kernels<'a>,
    macs: u64,
    /// How often the strips and loops around the stage run.
    times: u64,
    /// What writes each value.
    writers: Writers<'a>,
    /// How many of these stages have been planned.
    written: HashMap<ValueId, usize>,
    /// Values that one definition has filled.
    filled: HashSet<ValueId>,
    /// How large values are.
    ranges: Ranges,
    /// What strips see parts of.
    wholes: HashMap<ValueId, ValueId>,
    /// Where values with margins of zeros may be something else.
    nonzero: BTreeMap<ValueId, Vec<Range<i64>>>,
    /// The definitions that are steps, by name.
    named: HashMap<usize, String>,
    /// Constants of which rows are picked, as a product packs them.
    tables: HashSet<ValueId>,
    /// How constants are packed that several definitions read.
    leads: Leads,
    /// The forms in which constants are packed.
    packed: Packed,
}

/// Plans a program.
pub fn build(request: &Request) -> Result<Planned> {
    let planner = || Planner::new(request, HashSet::new(), Leads::default());
    match tables::lay(request.lowering, request.layouts, &|def, operand| planner().rows(def, operand))? {
        Some(Laid { lowering, layouts, tables }) => {
            plan(&Request { lowering: &lowering, layouts: &layouts, ..request.clone() }, &tables)
        }
        None => plan(request, &HashSet::new()),
    }
}

/// The program; where definitions pack the same constants in several ways, another one in which they follow each other.
fn plan(request: &Request, tables: &HashSet<ValueId>) -> Result<Planned> {
    let with = |leads: Leads| {
        keeping(request.dump, |dump| {
            let request = Request { dump, ..request.clone() };
            Planner::new(&request, tables.clone(), leads).plan()
        })
    };
    let ((mut planned, packed), mut texts) = with(Leads::default())?;
    let leads = packed.leads();
    if !leads.is_empty() {
        let constants = |p: &Planned| p.program.constants.iter().map(|c| c.bytes.len()).sum::<usize>();
        let ((other, _), others) = with(leads)?;
        if constants(&other) < constants(&planned) {
            (planned, texts) = (other, others);
        }
    }
    show(request.dump, texts);
    Ok(planned)
}

impl<'a> Planner<'a> {
    fn new(request: &'a Request, tables: HashSet<ValueId>, leads: Leads) -> Self {
        let mut writers = Writers::new();
        overrun::writers(&request.lowering.stages, true, &mut writers);
        Planner {
            request,
            buffers: Buffers::default(),
            places: HashMap::new(),
            kernels: Kernels::new(request),
            macs: 0,
            times: 1,
            writers,
            written: HashMap::new(),
            filled: HashSet::new(),
            ranges: Ranges::new(&request.lowering.stages),
            wholes: HashMap::new(),
            nonzero: margins(&request.lowering.stages),
            named: HashMap::new(),
            tables,
            leads,
            packed: Packed::default(),
        }
    }

    fn plan(mut self) -> Result<(Planned, Packed)> {
        let request = self.request;
        for (i, (value, _)) in request.inputs.iter().enumerate() {
            self.fixed(*value, Base::Input(i as u32));
        }
        for (i, (value, _)) in request.outputs.iter().enumerate() {
            self.fixed(*value, Base::Output(i as u32));
        }
        for (i, &size) in request.visible.iter().enumerate() {
            self.fixed_at(request.lowering.sizes[size].value, Base::Symbols, 8 * i);
        }
        let mut drafts: Vec<Draft> = self.check_symbols().into_iter().collect();
        let once = drafts.len();
        drafts.extend(self.stages(&request.lowering.stages, &[])?);
        let packed = std::mem::take(&mut self.packed);
        Ok((self.finish(drafts, once)?, packed))
    }
}

impl Planner<'_> {
    fn ty(&self, value: ValueId) -> &TensorType {
        &self.request.lowering.values[value as usize].ty
    }

    fn layout(&self, value: ValueId) -> &Layout {
        &self.request.layouts[value as usize]
    }

    fn bytes(&self, value: ValueId) -> usize {
        self.layout(value).span(&self.ty(value).shape) * self.ty(value).dtype.size()
    }

    fn fixed(&mut self, value: ValueId, base: Base) {
        self.fixed_at(value, base, 0);
    }

    fn fixed_at(&mut self, value: ValueId, base: Base, offset: usize) {
        let buffer = self.buffers.add(Some(base), self.bytes(value));
        self.places.insert(value, Place::start(buffer).moved(offset));
    }

    /// The sizes that the application sees.
    fn symbols(&self) -> Vec<Symbol> {
        let (visible, lowering) = (&self.request.visible, self.request.lowering);
        let sizes: Vec<&Size> = visible.iter().map(|&n| &lowering.sizes[n]).collect();
        symbols(&sizes, |size| visible.iter().position(|&v| v == size))
    }

    /// A kernel that compares the sizes given by the caller with what they may be.
    fn check_symbols(&mut self) -> Option<Draft> {
        let kernel = check(&self.symbols())?;
        let first = self.request.lowering.sizes[*self.request.visible.first()?].value;
        let buffer = self.place(first).buffer;
        Some(self.call(&kernel, vec![Place::start(buffer)]))
    }

    /// The place of a value; a new arena buffer where it has none yet.
    fn place(&mut self, value: ValueId) -> Place {
        if let Some(place) = self.places.get(&value) {
            return place.clone();
        }
        let lowered = &self.request.lowering.values[value as usize];
        let buffer = match &lowered.constant {
            Some(tensor) => self.buffers.constant(&lowered.name, tensor.data.to_vec()),
            None => self.buffers.add(None, self.bytes(value)),
        };
        let place = Place::start(buffer);
        self.places.insert(value, place.clone());
        place
    }

    fn stages(&mut self, stages: &[Stage], outside: &[ValueId]) -> Result<Vec<Draft>> {
        let mut drafts = Vec::new();
        let uses = Uses::of(stages);
        for (i, stage) in stages.iter().enumerate() {
            // Made here, and wanted by no one outside the list.
            let own = |v: ValueId| uses.made_before(v, i) && !outside.contains(&v);
            match stage {
                Stage::Define(def) => {
                    let mut dying = stage.reads();
                    dying.retain(|&v| own(v) && uses.ends_at(v, i));
                    drafts.extend(self.definition(def, &dying)?);
                }
                Stage::Routine(routine) => drafts.push(self.routine(routine)),
                Stage::Reshape { from, to } => drafts.extend(self.reshape(*from, *to, own(*from))?),
                Stage::Repeat(repeat) => drafts.extend(self.repeat(repeat)?),
                Stage::Strips(strips) => drafts.extend(self.strips(strips)?),
            }
            stage.writes().into_iter().for_each(|v| *self.written.entry(v).or_default() += 1);
        }
        Ok(drafts)
    }

    fn call(&mut self, kernel: &Kernel, args: Vec<Place>) -> Draft {
        self.buffers.step(self.kernels.number(kernel), args)
    }

    fn routine(&mut self, routine: &Routine) -> Draft {
        let args = routine.operands.iter().map(|o| self.place(o.value)).collect();
        self.call(&routine.kernel, args)
    }

    /// A reshape of dense memory: the same buffer where both may share it, a copy otherwise.
    /// `own`: the value is made in the list of stages, and wanted by no one outside of it.
    fn reshape(&mut self, from: ValueId, to: ValueId, own: bool) -> Result<Option<Draft>> {
        self.ranges.same(from, to);
        let place = self.place(from);
        let fixed = self.places.contains_key(&to);
        let constant = self.request.lowering.values[from as usize].constant.is_some();
        if !fixed && !constant && own {
            self.places.insert(to, place);
            return Ok(None);
        }
        self.copy(from, to)
    }

    /// Copies all elements, in the order of memory of dense values.
    fn copy(&mut self, from: ValueId, to: ValueId) -> Result<Option<Draft>> {
        let ty = TensorType::new(self.ty(from).dtype, [self.ty(from).elems()]);
        if ty.elems() == 0 {
            return Ok(None);
        }
        let mut b = DefBuilder::new(&ty.shape);
        let axes = b.axes();
        let element = b.load(from, &ty, axes);
        let def = b.finish("copy", to, &ty, element);
        let dense = Layout::dense(&ty.shape);
        let linear = Linear::new(&def, std::slice::from_ref(&dense), &[false], &dense);
        let nested = self.kernels.nest(&linear)?;
        let args = vec![self.place(from), self.place(to)];
        Ok(Some(self.call(&nested.kernel, args)))
    }

    /// The program; the first steps, so many, are no part of any repetition.
    fn finish(mut self, mut drafts: Vec<Draft>, once: usize) -> Result<Planned> {
        // Booleans that are neither true nor false must not be left behind where a run ends early, and what lies in an
        // output in turn for each entry is aligned for all of them.
        let lends = |n: u32| {
            let step = self.request.entries.map_or(0, |batch| batch.outputs[n as usize]);
            let boolean = self.request.outputs[n as usize].1.ty.dtype == DType::Bool;
            !boolean && step.is_multiple_of(size_of::<i64>())
        };
        let placed = self.buffers.place(&drafts, &self.kernels.list, &lends)?;
        self.kernels.turn(&mut drafts, &placed.backwards)?;
        let steps = self.buffers.steps(&drafts, &placed)?;
        let mut program = Program {
            name: self.request.name.to_string(),
            inputs: self.request.inputs.iter().map(|i| i.1.clone()).collect(),
            outputs: self.request.outputs.iter().map(|o| o.1.clone()).collect(),
            symbols: self.symbols(),
            arena_bytes: placed.arena.bytes,
            arena_align: ALIGN,
            arena_bound: placed.arena.bound,
            constants: self.buffers.constants,
            kernels: self.kernels.list,
            steps,
            macs: self.macs,
        };
        alternate(&mut program, self.request.target);
        if let Some(batch) = self.request.entries {
            repeat_entries(&mut program, batch, once);
        }
        super::constants::arrange(&mut program);
        let names = |steps: &Vec<usize>| steps.iter().filter_map(|s| self.named.get(s).cloned()).collect();
        let fullest = placed.fullest.each_ref().map(names);
        Ok(Planned { program, fullest })
    }
}
