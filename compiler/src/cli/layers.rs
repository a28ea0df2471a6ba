//! `lmc verify --per-layer`: every node's result, compiled, against the naive loops.
//!
//! The graph is compiled with all its values as outputs, and the model as read, before any pass,
//! is interpreted. Values keep their names, so that the first node that differs can be named.

use super::options::RunArgs;
use super::report::{Report, table};
use crate::base::Tensor;
use crate::build::Silent;
use crate::definition::{Env, Lowering, interpret};
use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::import;
use crate::lower::lower;
use crate::passes::{Around, infer, run_passes};
use crate::run::compare::{Tolerance, compare};
use crate::run::executor::Executor;
use crate::run::limits;
use serde_json::json;
use std::collections::HashMap;

/// Compares all nodes; true where all are right: within the tolerance, or of the least cosine that is enough.
pub(super) fn run(
    args: &RunArgs,
    inputs: &[Tensor],
    (tolerance, least): (Tolerance, Option<f64>),
    report: &Report,
) -> Result<bool> {
    let graph = typed(args, inputs)?;
    limits::check_values(&graph)?;
    let wanted = naive(&graph, inputs)?;
    let mut rewritten = graph;
    let build = args.target.build(&args.model)?;
    run_passes(&mut rewritten, Around::new(&build.resolve_target()?), &mut |_, _, _| {})?;
    let every: Vec<(ValueId, String)> = rewritten
        .nodes
        .iter()
        .flat_map(|n| n.outputs.iter().flatten().map(|&o| (o, n.name.clone())))
        .collect();
    rewritten.outputs = every.iter().map(|e| e.0).collect();
    let built = build.build_graph(&rewritten, build.resolve_target()?, "layers", &Silent)?;
    let runner = args.runner.as_deref();
    let results = Executor::new(&built.program, &built.object.bytes, &built.target, runner)?.run(inputs)?;
    let mut compared = 0;
    for ((id, node), result) in every.iter().zip(&results) {
        let name = &rewritten.value(*id).name;
        let Some(want) = wanted.get(name) else { continue };
        compared += 1;
        let found = compare(result, want, tolerance);
        if !found.is_right(least) {
            let row = vec![
                format!("node '{node}'"),
                format!("value '{name}' {}", result.ty),
                format!("max abs {:.3e}", found.max_abs),
                format!("{} of {} elements outside", found.outside, found.elements),
            ];
            let text = format!("the first node that differs, after {compared} values\n{}", table(&[row]));
            let json = json!({ "node": node, "value": name, "max_abs": found.max_abs, "right": false });
            report.result("layers", &text, json);
            return Ok(false);
        }
    }
    let text = format!("all {compared} values agree with the naive loops");
    report.result("layers", &text, json!({ "values": compared, "right": true }));
    Ok(true)
}

/// The model as read, for inputs of these types.
pub(super) fn typed(args: &RunArgs, inputs: &[Tensor]) -> Result<Graph> {
    let model = import::read(&args.model.model)?;
    let types: Vec<_> = inputs.iter().map(|t| t.ty.clone()).collect();
    Ok(infer(&model, &types).into_result()?.0)
}

/// The model's outputs by the interpreter of definitions; `None` where sizes depend on data.
pub(super) fn outputs(graph: &Graph, inputs: &[Tensor]) -> Result<Option<Vec<Option<Tensor>>>> {
    let lowering = lower(graph)?;
    if !lowering.sizes.is_empty() {
        return Ok(None);
    }
    let env = interpreted(graph, &lowering, inputs)?;
    Ok(Some(graph.outputs.iter().map(|&id| env.get(id, &graph.value(id).ty)).collect()))
}

fn interpreted(graph: &Graph, lowering: &Lowering, inputs: &[Tensor]) -> Result<Env> {
    limits::check_naive(&lowering.stages)?;
    let mut env = Env::new(lowering);
    graph.inputs.iter().zip(inputs).for_each(|(&id, t)| env.set(id, t));
    interpret(lowering, &mut env)?;
    Ok(env)
}

/// The results of all nodes by the interpreter of definitions, by name.
fn naive(graph: &Graph, inputs: &[Tensor]) -> Result<HashMap<String, Tensor>> {
    let env = interpreted(graph, &lower(graph)?, inputs)?;
    let written = graph.nodes.iter().flat_map(|n| n.outputs.iter().flatten().copied());
    let named = |id: ValueId| Some((graph.value(id).name.clone(), env.get(id, &graph.value(id).ty)?));
    Ok(written.filter_map(named).collect())
}
