//! From a typed graph to a program: lowering, fusion, layouts, kernels, places.

use super::trail::apart;
use super::{Choose, Dump, Interface, Program, Request, build, verify};
use crate::base::abi;
use crate::definition::{self, DefBuilder, Definition, Lowering, ValueId};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::group::{self, Rims};
use crate::nest::nest;
use crate::schedule::choose::choose;
use crate::schedule::linear::{Layout, Linear};
use crate::schedule::{Prefer, Schedule, couple_halves, leaves_padding, lookups, word};
use crate::strips::{self, Kernels};
use crate::target::Target;
use crate::tile;
use std::cell::RefCell;
use std::collections::HashMap;

/// A model as stages, with its interface.
#[derive(Clone)]
pub struct Lowered {
    /// Values and stages.
    pub lowering: Lowering,
    /// The inputs: values, and what the application sees.
    pub inputs: Vec<(ValueId, Interface)>,
    /// The outputs likewise, each written by some stage.
    pub outputs: Vec<(ValueId, Interface)>,
    /// The sizes that the application sees, by number.
    pub visible: Vec<usize>,
}

/// Everything between a graph without sizes known only at run time and code generation.
pub fn program(graph: &Graph, name: &str, target: &Target) -> Result<Program> {
    plan(lowered(graph)?, name, target, &|linear| Ok(choose(linear, target)), Prefer::Speed, &|_, _| {})
}

/// The stages of a graph without sizes known only at run time.
pub fn lowered(graph: &Graph) -> Result<Lowered> {
    let mut lowering = crate::lower::lower(graph)?;
    let outputs = own_outputs(graph, &mut lowering);
    let interface = |v: ValueId| {
        let value = graph.value(v);
        Interface { name: value.name.clone(), ty: value.ty.clone(), symbolic: Vec::new() }
    };
    let inputs = graph.inputs.iter().map(|&v| (v, interface(v))).collect();
    let outputs = outputs.iter().zip(&graph.outputs).map(|(&v, &shown)| (v, interface(shown))).collect();
    Ok(Lowered { lowering, inputs, outputs, visible: Vec::new() })
}

/// Everything between lowering and code generation: `choose` gives the schedules, `dump` is given the text after each stage:
/// `lower`, `group`, `strips`, `schedule` (once per definition), `nest`, `plan`.
pub fn plan(
    lowered: Lowered,
    name: &str,
    target: &Target,
    choose: &Choose,
    prefer: Prefer,
    dump: &Dump,
) -> Result<Program> {
    let mut wanted: Vec<ValueId> = lowered.outputs.iter().map(|o| o.0).collect();
    wanted.extend(lowered.lowering.sizes.iter().map(|s| s.value));
    dump("lower", &|| Some(lowered.lowering.to_string()));
    definition::verify(&lowered.lowering).map_err(|e| e.at("after lower"))?;
    let known = RefCell::new(HashMap::new());
    let grouped = grouped(lowered, &wanted, target)?;
    dump("group", &|| None);
    let planning = Planning {
        grouped: &grouped,
        wanted: &wanted,
        name,
        target,
        choose: &|linear| chosen(&known, linear, choose),
    };
    planning.smallest(prefer, dump)
}

/// Fused stages, with the layouts of their values.
struct Grouped {
    lowered: Lowered,
    layouts: Vec<Layout>,
}

/// The fused stages: with less padding in memory first, where the target is no slower for that.
fn grouped(lowered: Lowered, wanted: &[ValueId], target: &Target) -> Result<Vec<Grouped>> {
    if !leaves_padding(target) {
        return Ok(vec![Grouped::of(lowered, wanted, target, Rims::Whole)?]);
    }
    let whole = Grouped::of(lowered.clone(), wanted, target, Rims::Whole)?;
    let less = Grouped::of(lowered, wanted, target, Rims::Outermost)?;
    let same = less.lowered.lowering == whole.lowered.lowering;
    Ok(if same { vec![less] } else { vec![less, whole] })
}

impl Grouped {
    fn of(mut lowered: Lowered, wanted: &[ValueId], target: &Target, rims: Rims) -> Result<Grouped> {
        let lowering = &mut lowered.lowering;
        group::fuse_within(lowering, wanted, rims);
        group::tabulate(lowering, &lookups(target));
        let inputs = lowered.inputs.iter().map(|i| i.0);
        let fixed: Vec<ValueId> = inputs.chain(wanted.iter().copied()).collect();
        if couple_halves(target) {
            group::order_channels(lowering, &fixed);
        }
        let mut layouts = group::layouts(lowering, &fixed);
        group::copy_factors(lowering, &mut layouts, word(target));
        definition::verify(lowering).map_err(|e| e.at("after group"))?;
        Ok(Grouped { lowered, layouts })
    }
}

/// The schedule of a definition, chosen once whatever its name.
fn chosen(known: &RefCell<HashMap<Linear, Schedule>>, linear: &Linear, choose: &Choose) -> Result<Schedule> {
    let key = Linear { name: String::new(), ..linear.clone() };
    if let Some(schedule) = known.borrow().get(&key) {
        return Ok(schedule.clone());
    }
    let schedule = choose(linear)?;
    known.borrow_mut().insert(key, schedule.clone());
    Ok(schedule)
}

/// Where compiling is to be quick, strips are planned that promise at most so much more than there is already.
const HARDLY: f64 = 1.04;

/// What is the same whatever strips are formed.
struct Planning<'a> {
    /// In the order in which they are tried.
    grouped: &'a [Grouped],
    wanted: &'a [ValueId],
    name: &'a str,
    target: &'a Target,
    choose: &'a Choose<'a>,
}

impl Planning<'_> {
    /// The program that takes least memory. What strips promise is found by a model, and the search for them is no
    /// complete one: others that promise hardly more than a plan takes are planned as well.
    fn smallest(&self, prefer: Prefer, dump: &Dump) -> Result<Program> {
        let speed = [(Prefer::Speed, true), (Prefer::Speed, false)];
        let size = [(Prefer::Size, true), (Prefer::Size, false)];
        // Of those that take as much the last, which loses least time.
        let (ways, hardly) = match prefer {
            Prefer::Speed => (speed.to_vec(), HARDLY),
            Prefer::Size => ([size, speed].concat(), f64::INFINITY),
        };
        let mut tried: Vec<Lowering> = Vec::new();
        let mut best: Option<(Program, Vec<(String, String)>)> = None;
        for (n, grouped) in self.grouped.iter().enumerate() {
            for &(prefer, follow) in &ways {
                let least = best.as_ref().map_or(usize::MAX, |b| b.0.arena_bytes);
                let (lowering, layouts, promised) = self.strips(grouped, prefer, follow);
                if promised as f64 > least as f64 * hardly || tried.contains(&lowering) {
                    continue;
                }
                let texts = RefCell::new(Vec::new());
                let keep = |stage: &str, text: Option<String>| {
                    text.map(|text| texts.borrow_mut().push((stage.to_string(), text)))
                };
                let later: &Dump = &|stage, text| dump(stage, &|| keep(stage, text()).and(None));
                later("group", &|| Some(grouped.lowered.lowering.to_string()));
                let program = self.program(&grouped.lowered, (&lowering, &layouts), later)?;
                tried.push(lowering);
                if n == 0 && program.arena_bytes <= least || program.arena_bytes < least {
                    best = Some((program, texts.into_inner()));
                }
            }
        }
        let (program, texts) = best.ok_or_else(|| Error::bug("a model has no plan"))?;
        texts.into_iter().for_each(|(stage, text)| dump(&stage, &|| Some(text.clone())));
        Ok(program)
    }

    /// Strips, and the bytes that they promise.
    fn strips(&self, of: &Grouped, prefer: Prefer, follow: bool) -> (Lowering, Vec<Layout>, usize) {
        let (mut lowering, mut layouts) = (of.lowered.lowering.clone(), of.layouts.clone());
        let kernels = Kernels {
            whole: &|low, at, def| filtered(low, at, def, self.choose),
            below: &|low, at, def, operand| below(low, at, (def, operand), (self.target, self.choose)),
            follow,
        };
        let to = (self.target, prefer);
        let promised = strips::form(&mut lowering, &mut layouts, self.wanted, to, &kernels);
        (lowering, layouts, promised)
    }

    /// From strips on.
    fn program(
        &self,
        of: &Lowered,
        (lowering, layouts): (&Lowering, &[Layout]),
        dump: &Dump,
    ) -> Result<Program> {
        dump("strips", &|| Some(lowering.to_string()));
        definition::verify(lowering).map_err(|e| e.at("after strips"))?;
        let Lowered { inputs, outputs, visible, .. } = of;
        let program = build(&Request {
            name: self.name,
            lowering,
            layouts,
            visible: visible.clone(),
            inputs: inputs.clone(),
            outputs: outputs.clone(),
            target: self.target,
            choose: self.choose,
            dump,
        })?;
        let kernels = || program.kernels.iter().map(|k| k.to_string()).collect::<Vec<_>>().join("\n");
        dump("nest", &|| Some(kernels()));
        program.kernels.iter().try_for_each(tile::verify).map_err(|e| e.at("after nest"))?;
        dump("plan", &|| Some(program.to_string()));
        verify(&program).map_err(|e| e.at("after plan"))?;
        Ok(program)
    }
}

/// Whether a definition is done by minimal filtering, which works on rows of tiles itself.
fn filtered(lowering: &Lowering, layouts: &[Layout], def: &Definition, choose: &Choose) -> bool {
    let windows = def.vars[def.axes..].iter().filter(|v| v.extent == 3).count();
    if windows < 2 || def.has_sizes() {
        return false;
    }
    choose(&linear(lowering, layouts, def)).is_ok_and(|s| s.winograd.is_some())
}

/// How far the output of a definition must begin before an operand that nothing reads later.
fn below(
    lowering: &Lowering,
    layouts: &[Layout],
    (def, operand): (&Definition, usize),
    (target, choose): (&Target, &Choose),
) -> Option<usize> {
    if def.has_sizes() {
        return None;
    }
    let linear = linear(lowering, layouts, def);
    let nested = nest(&linear, &choose(&linear).ok()?, target.fma, abi::ERR_INDEX).ok()?;
    Some(apart(&nested.kernel, operand, def.operands.len()))
}

fn linear(lowering: &Lowering, layouts: &[Layout], def: &Definition) -> Linear {
    let at: Vec<Layout> = def.operands.iter().map(|o| layouts[o.value as usize].clone()).collect();
    let constant = |v: ValueId| lowering.values[v as usize].constant.is_some();
    let constants: Vec<bool> = def.operands.iter().map(|o| constant(o.value)).collect();
    Linear::new(def, &at, &constants, &layouts[def.output.value as usize])
}

/// The values that the outputs are written to. An output that is an input, a constant, or another
/// output as well is copied into a value of its own.
pub fn own_outputs(graph: &Graph, lowering: &mut Lowering) -> Vec<ValueId> {
    let mut own: Vec<ValueId> = Vec::new();
    for &output in &graph.outputs {
        let value = graph.value(output);
        if value.constant.is_none() && !graph.inputs.contains(&output) && !own.contains(&output) {
            own.push(output);
            continue;
        }
        let copy = lowering.temporary(format!("{}.output{}", value.name, own.len()), value.ty.clone());
        let mut b = DefBuilder::new(&value.ty.shape);
        let axes = b.axes();
        let element = b.load(output, &value.ty, axes);
        lowering.define(b.finish(&value.name, copy, &value.ty, element));
        own.push(copy);
    }
    own
}
