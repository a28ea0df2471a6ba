//! Which values are quantized: those that products read, and what lies between products.
//!
//! What a layer reads is quantized. Quantization spreads
//! upwards over operators that only move elements, and over those that join or average tensors
//! which layers computed (carriers: residual additions, concatenations, pools), so that what lies in
//! memory between layers is narrow. Element-wise chains between a layer and the next quantized value
//! stay in float: they are computed in registers.

use super::facts::{CARRIERS, Facts, Layer, Origins, is_unary};
use super::stored::{is_recurrent, stored};
use super::{activations, logarithms};
use crate::compress::onnx::Node;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What is quantized.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Products, in order.
    pub layers: Vec<Layer>,
    /// Nodes that read quantized data: layers, carriers, moves.
    pub integer: BTreeSet<usize>,
    /// Values that are quantized, with the name of the group that shares a grid.
    pub values: BTreeMap<String, String>,
    /// Tables of constants that a Gather picks from: the nodes.
    pub tables: Vec<usize>,
    /// Recurrent operators and products that need floats: they compute in float with weights that are stored as
    /// integers.
    pub stored: BTreeSet<usize>,
    /// Layers in bodies whose weights stay in float, by name.
    pub inner: BTreeSet<String>,
    /// Quantized values whose float form does not lie in memory: all readers take the integers.
    pub narrow: BTreeSet<String>,
}

/// What the options and the search say of a plan.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Nodes that are left alone.
    pub float: BTreeSet<usize>,
    /// Layers in bodies that are left alone, by name.
    pub inner: BTreeSet<String>,
    /// Whether weights have a scale per channel.
    pub per_channel: bool,
    /// Whether what activations read is quantized, so that they are tables.
    pub activations: bool,
}

/// What to quantize.
pub fn plan(facts: &Facts, choice: &Choice) -> Plan {
    let logarithms = logarithms::products(facts.onnx);
    let float = &choice.float | &logarithms;
    let (nodes, writers, readers) = (&facts.onnx.nodes, facts.onnx.writers(), facts.onnx.readers());
    let layers = (0..nodes.len()).filter(|i| !float.contains(i));
    let in_float = |i: usize| is_recurrent(&nodes[i]) || logarithms.contains(&i);
    let weights = stored(facts.onnx, false, &|i| in_float(i) && !choice.float.contains(&i));
    let mut plan = Plan {
        layers: layers.clone().filter_map(|i| facts.layer(i, choice.per_channel)).collect(),
        tables: layers.filter(|&i| facts.is_table(&nodes[i])).collect(),
        stored: weights.into_iter().map(|s| s.node).collect(),
        inner: choice.inner.clone(),
        ..Plan::default()
    };
    let products: BTreeSet<usize> = plan.layers.iter().map(|l| l.node).collect();
    let (origins, mut wanted) = (facts.origins(), BTreeSet::new());
    for layer in &plan.layers {
        plan.integer.insert(layer.node);
        wanted.extend(layer.data.iter().map(|&i| nodes[layer.node].inputs[i].clone()));
    }
    let search = activations::Search {
        facts,
        origins: &origins,
        readers: &readers,
        products: &products,
        float: &float,
    };
    loop {
        let before = (wanted.len(), plan.integer.len());
        if choice.activations {
            wanted.extend(search.inputs(&wanted));
        }
        for (i, node) in nodes.iter().enumerate().rev() {
            if plan.integer.contains(&i)
                || float.contains(&i)
                || !facts.needed(node.output(), &wanted, &readers, 0)
            {
                continue;
            }
            let inputs = match () {
                _ if facts.is_move(node) => vec![node.inputs[0].as_str()],
                _ if carries(facts, node, &wanted, &products, &origins, &writers) => facts.data(node),
                _ => continue,
            };
            wanted.extend(inputs.into_iter().map(str::to_string));
            plan.integer.insert(i);
        }
        if before == (wanted.len(), plan.integer.len()) {
            break;
        }
    }
    // All results of a move are quantized alike.
    for &i in plan.integer.iter().filter(|i| facts.is_move(&nodes[**i])) {
        wanted.extend(nodes[i].outputs.iter().filter(|o| facts.is_data(o)).cloned());
    }
    plan.values = groups(facts, &plan, &wanted);
    plan.narrow =
        wanted.into_iter().filter(|v| comes_from_integers(facts, &plan, v, &origins, &writers)).collect();
    plan
}

/// Whether a node whose result is quantized takes quantized tensors, too.
fn carries(
    facts: &Facts,
    node: &Node,
    wanted: &BTreeSet<String>,
    products: &BTreeSet<usize>,
    origins: &Origins,
    writers: &HashMap<String, usize>,
) -> bool {
    let data = facts.data(node);
    if !CARRIERS.contains(&node.op()) || data.is_empty() {
        return false;
    }
    if matches!(node.op(), "Concat" | "AveragePool" | "GlobalAveragePool" | "ReduceMean") {
        return data.len() == node.inputs.len() || node.op() == "ReduceMean";
    }
    let different: BTreeSet<&str> = data.iter().map(|d| origins.of(d)).collect();
    let computed = |d: &str| {
        let by = writers.get(origins.of(d));
        wanted.contains(d)
            || by.is_some_and(|w| products.contains(w) || CARRIERS.contains(&facts.onnx.nodes[*w].op()))
    };
    data.len() == node.inputs.len() && different.len() > 1 && data.iter().all(|d| computed(d))
}

/// Whether a value is computed from quantized data, over element-wise operators.
fn comes_from_integers(
    facts: &Facts,
    plan: &Plan,
    value: &str,
    origins: &Origins,
    writers: &HashMap<String, usize>,
) -> bool {
    let mut name = value;
    while let Some(&writer) = writers.get(name) {
        let node = &facts.onnx.nodes[writer];
        if plan.integer.contains(&writer) {
            return true;
        }
        let data = facts.data(node);
        let Some(first) = data.first().filter(|_| is_unary(node.op())) else { return false };
        if data.iter().any(|d| origins.of(d) != origins.of(first)) {
            return false;
        }
        name = first;
    }
    false
}

/// Values by the group that shares a grid: over moves, and into concatenations that are the only
/// readers of what they take.
fn groups(facts: &Facts, plan: &Plan, wanted: &BTreeSet<String>) -> BTreeMap<String, String> {
    let readers = facts.onnx.readers();
    let mut groups: BTreeMap<String, String> = wanted.iter().map(|v| (v.clone(), v.clone())).collect();
    let mut join = |a: &str, b: &str| {
        let (Some(a), Some(b)) = (groups.get(a).cloned(), groups.get(b).cloned()) else { return };
        groups.values_mut().filter(|g| **g == b).for_each(|g| *g = a.clone());
    };
    for &i in &plan.integer {
        let node = &facts.onnx.nodes[i];
        if facts.is_move(node) {
            node.outputs.iter().for_each(|o| join(&node.inputs[0], o));
        } else if node.op() == "Concat" {
            let alone = node.inputs.iter().filter(|n| readers.get(*n).is_some_and(|r| r.len() == 1));
            alone.for_each(|n| join(node.output(), n));
        }
    }
    groups
}
