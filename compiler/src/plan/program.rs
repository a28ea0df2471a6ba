//! From a typed graph to a program: lowering, fusion, layouts, kernels, places.

use super::{Dump, Interface, Program, Request, build, verify};
use crate::definition::{self, DefBuilder, Lowering, ValueId};
use crate::error::Result;
use crate::graph::Graph;
use crate::group;
use crate::target::Target;
use crate::tile;

/// Everything between the graph and code generation.
pub fn program(graph: &Graph, name: &str, target: &Target) -> Result<Program> {
    program_shown(graph, name, target, &|_, _| {})
}

/// [`program`], shown on its way: `dump` is given the text after each stage:
/// `lower`, `group`, `schedule` (once per definition), `nest`, `plan`.
pub fn program_shown(graph: &Graph, name: &str, target: &Target, dump: &Dump) -> Result<Program> {
    let mut lowering = crate::lower::lower(graph)?;
    let outputs = own_outputs(graph, &mut lowering);
    dump("lower", &|| lowering.to_string());
    definition::verify(&lowering).map_err(|e| e.at("after lower"))?;
    group::fuse(&mut lowering, &outputs);
    dump("group", &|| lowering.to_string());
    definition::verify(&lowering).map_err(|e| e.at("after group"))?;
    let fixed: Vec<ValueId> = graph.inputs.iter().chain(&outputs).copied().collect();
    let layouts = group::layouts(&lowering, &fixed);
    let interface = |v: ValueId| {
        let value = graph.value(v);
        Interface { name: value.name.clone(), ty: value.ty.clone(), symbolic: value.symbolic.clone() }
    };
    let program = build(&Request {
        name,
        lowering: &lowering,
        layouts: &layouts,
        inputs: graph.inputs.iter().map(|&v| (v, interface(v))).collect(),
        outputs: outputs.iter().zip(&graph.outputs).map(|(&v, &shown)| (v, interface(shown))).collect(),
        symbols: graph.symbols.clone(),
        target,
        dump,
    })?;
    let kernels = || program.kernels.iter().map(|k| k.to_string()).collect::<Vec<_>>().join("\n");
    dump("nest", &kernels);
    program.kernels.iter().try_for_each(tile::verify).map_err(|e| e.at("after nest"))?;
    dump("plan", &|| program.to_string());
    verify(&program).map_err(|e| e.at("after plan"))?;
    Ok(program)
}

/// The values that the outputs are written to. An output that is an input, a constant, or another
/// output as well is copied into a value of its own.
fn own_outputs(graph: &Graph, lowering: &mut Lowering) -> Vec<ValueId> {
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
