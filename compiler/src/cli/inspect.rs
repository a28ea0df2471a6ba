//! `lmc inspect`: what a model is, and what of it is not supported.

use super::options::ModelArgs;
use super::report::{Report, error_json, table, thousands};
use crate::definition::{Expr, Stage};
use crate::error::{Error, Result};
use crate::graph::Attr;
use crate::import::{Body, Declared, Dim, Model};
use crate::lower::lower;
use crate::passes::{Given, infer_sample, is_supported};
use crate::scalar::Op;
use clap::Args;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

/// Options of `lmc inspect`.
#[derive(Args)]
pub(super) struct Inspect {
    #[command(flatten)]
    model: ModelArgs,
}

/// What is found out beyond the file's own statements.
#[derive(Default)]
struct Findings {
    inputs: Vec<String>,
    outputs: Vec<String>,
    macs: Option<u64>,
    notes: Vec<String>,
    errors: Vec<Error>,
}

pub(super) fn run(args: &Inspect, report: &Report) -> Result<ExitCode> {
    let model = args.model.read()?;
    let found = examine(&model, args)?;
    let operators = count_operators(&model.body);
    let parameters = parameters(&model.body);
    let text = text(&model, &found, &operators, parameters);
    report.result("inspect", &text, data(&model, &found, &operators, parameters));
    found.notes.iter().for_each(|n| report.note(n));
    Ok(if found.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn examine(model: &Model, args: &Inspect) -> Result<Findings> {
    let mut found = Findings::default();
    let bound = args.model.bindings()?.complete(&model.body);
    let bound = bound.and_then(|all| Ok((all.resolve(&model.body)?, Given::of(&all))));
    let ((types, notes), given) = match bound {
        Ok(bound) => bound,
        Err(error) => {
            found.errors.push(error);
            return Ok(found);
        }
    };
    found.notes = notes;
    let inferred = infer_sample(model, &types, 0, &given);
    found.notes.extend(inferred.notes);
    found.errors = inferred.errors;
    let graph = inferred.graph;
    let show = |ids: &[u32]| ids.iter().map(|&v| graph.value(v).ty.to_string()).collect();
    found.inputs = show(&graph.inputs);
    found.outputs = show(&graph.outputs);
    if found.errors.is_empty() {
        match lower(&graph) {
            Ok(lowering) => found.macs = Some(macs(&lowering.stages)),
            Err(error) => found.errors.push(error),
        }
    }
    Ok(found)
}

/// Multiply-adds: points of the sums whose terms are products.
fn macs(stages: &[Stage]) -> u64 {
    let one = |stage: &Stage| match stage {
        Stage::Define(d) => match &d.fold {
            Some(fold) if matches!(d.exprs[fold.body as usize], Expr::Op(Op::Mul, _)) => d.volume(),
            _ => 0,
        },
        Stage::Repeat(repeat) => (repeat.count as u64).saturating_mul(macs(&repeat.body)),
        _ => 0,
    };
    stages.iter().map(one).sum()
}

fn count_operators(body: &Body) -> BTreeMap<String, usize> {
    fn walk(body: &Body, counts: &mut BTreeMap<String, usize>) {
        for node in &body.nodes {
            let domain = if node.domain.is_empty() { String::new() } else { format!("{}.", node.domain) };
            *counts.entry(format!("{domain}{}", node.op)).or_default() += 1;
            node.bodies.values().for_each(|b| walk(b, counts));
        }
    }
    let mut counts = BTreeMap::new();
    walk(body, &mut counts);
    counts
}

/// The operators among `counts` that the table lacks. Sequences dissolve while the graph is typed.
fn missing(body: &Body) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for node in &body.nodes {
        if !is_supported(&node.domain, &node.op) {
            names.insert(node.op.clone());
        }
        node.bodies.values().for_each(|b| names.extend(missing(b)));
    }
    names
}

fn parameters(body: &Body) -> u64 {
    let own: usize = body.constants.iter().map(|c| c.1.ty.elems()).sum();
    let attributes = body.nodes.iter().flat_map(|n| n.attrs.0.values()).map(|a| match a {
        Attr::Tensor(t) => t.ty.elems(),
        _ => 0,
    });
    let inner = body.nodes.iter().flat_map(|n| n.bodies.values()).map(parameters);
    (own + attributes.sum::<usize>()) as u64 + inner.sum::<u64>()
}

fn declared(value: &Declared) -> String {
    let dtype = match value.dtype {
        Some(d) => d.to_string(),
        None if value.is_tensor => "?".to_string(),
        None => return "not a tensor".to_string(),
    };
    let Some(dims) = &value.dims else { return format!("{dtype}[...]") };
    let dims: Vec<String> = dims
        .iter()
        .map(|d| match d {
            Dim::Fixed(n) => n.to_string(),
            Dim::Free(name) => name.clone().unwrap_or_else(|| "?".to_string()),
        })
        .collect();
    format!("{dtype}[{}]", dims.join(","))
}

fn free_dimensions(body: &Body) -> Vec<String> {
    let dims = body.inputs.iter().flat_map(|i| i.dims.iter().flatten().map(move |d| (i, d)));
    let names: BTreeSet<String> = dims
        .filter_map(|(input, dim)| match dim {
            Dim::Free(Some(name)) => Some(name.clone()),
            Dim::Free(None) => Some(format!("unnamed in {}", input.name)),
            Dim::Fixed(_) => None,
        })
        .collect();
    names.into_iter().collect()
}

fn section(title: &str, values: &[Declared], types: &[String]) -> String {
    let row = |(i, v): (usize, &Declared)| {
        let mut row = vec![v.name.clone(), declared(v)];
        row.extend(types.get(i).filter(|t| **t != row[1]).map(|t| format!("-> {t}")));
        row
    };
    format!("{title}\n{}", table(&values.iter().enumerate().map(row).collect::<Vec<_>>()))
}

fn text(model: &Model, found: &Findings, operators: &BTreeMap<String, usize>, parameters: u64) -> String {
    let mut text = format!("model {}, opset {}", model.body.name, model.opset);
    match model.producer.trim() {
        "" => text.push('\n'),
        producer => text.push_str(&format!(", by {producer}\n")),
    }
    text.push_str(&section("inputs", &model.body.inputs, &found.inputs));
    text.push_str(&section("outputs", &model.body.outputs, &found.outputs));
    let free = free_dimensions(&model.body);
    if !free.is_empty() {
        text.push_str(&format!("free dimensions\n  {}\n", free.join(", ")));
    }
    let counts: Vec<String> = operators.iter().map(|(name, n)| format!("{name} {n}")).collect();
    text.push_str(&format!("operators\n  {}\n", counts.join(", ")));
    text.push_str(&format!("parameters    {}\n", thousands(parameters)));
    if let Some(macs) = found.macs {
        text.push_str(&format!("multiply-adds {}\n", thousands(macs)));
    }
    let missing: Vec<String> = missing(&model.body).into_iter().collect();
    if !missing.is_empty() {
        text.push_str(&format!("unsupported operators\n  {}\n", missing.join(", ")));
    }
    if !found.errors.is_empty() {
        text.push_str("problems\n");
        found.errors.iter().for_each(|e| text.push_str(&format!("  {e}\n")));
    }
    text
}

fn data(model: &Model, found: &Findings, operators: &BTreeMap<String, usize>, parameters: u64) -> Value {
    let values = |values: &[Declared], types: &[String]| -> Vec<Value> {
        let one = |(i, v): (usize, &Declared)| json!({ "name": v.name, "declared": declared(v), "type": types.get(i) });
        values.iter().enumerate().map(one).collect()
    };
    json!({
        "name": model.body.name, "opset": model.opset, "producer": model.producer.trim(),
        "inputs": values(&model.body.inputs, &found.inputs),
        "outputs": values(&model.body.outputs, &found.outputs),
        "free_dimensions": free_dimensions(&model.body),
        "operators": operators, "unsupported_operators": missing(&model.body), "parameters": parameters, "multiply_adds": found.macs,
        "errors": found.errors.iter().map(error_json).collect::<Vec<_>>(),
    })
}
