//! From a typed graph to a program: lowering, fusion, layouts, kernels, places.

use super::grouped::{Lowered, grouped};
use super::search::{Aim, Plan, Planning};
use super::{Dump, Interface, Program};
use crate::definition::{self, DefBuilder, Lowering, ValueId};
use crate::error::Result;
use crate::graph::Graph;
use crate::schedule::Linear;
use crate::schedule::choose::choose;
use crate::target::Target;

/// Everything between a graph without sizes known only at run time and code generation.
pub fn program(graph: &Graph, name: &str, target: &Target) -> Result<Program> {
    let choose = |linear: &Linear| Ok(choose(linear, target));
    Ok(plan(lowered(graph)?, name, target, &Aim::fast(&choose), &|_, _| {})?.program)
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
    Ok(Lowered { lowering, inputs, outputs, visible: Vec::new(), entries: None })
}

/// Everything between lowering and code generation: `dump` is given the text after each stage:
/// `lower`, `group`, `strips`, `schedule` (once per definition), `nest`, `plan`.
pub fn plan(lowered: Lowered, name: &str, target: &Target, aim: &Aim, dump: &Dump) -> Result<Plan> {
    let mut wanted: Vec<ValueId> = lowered.outputs.iter().map(|o| o.0).collect();
    wanted.extend(lowered.lowering.sizes.iter().map(|s| s.value));
    dump("lower", &|| Some(lowered.lowering.to_string()));
    definition::verify(&lowered.lowering).map_err(|e| e.at("after lower"))?;
    let grouped = grouped(lowered, &wanted, target)?;
    dump("group", &|| None);
    Planning::new(&grouped, &wanted, name, target, aim).search(dump)
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
