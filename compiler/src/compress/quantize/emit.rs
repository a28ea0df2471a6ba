//! Writes the quantized graph: QuantizeLinear and DequantizeLinear around what is computed in integers.
//!
//! The form is that of ONNX's own tools (QDQ): weights are integers with a DequantizeLinear, biases
//! `i32` in units of the product of both scales, and each quantized value has a pair of its own.

use super::compensate::Rounded;
use super::facts::{Layer, Weights};
use super::grid::{Grid, integer};
use super::plan::Plan;
use super::stored::{store_all, store_inner, stored};
use super::tables::Tables;
use super::weights::{Share, quantize};
use crate::base::{DType, Tensor};
use crate::compress::onnx::{Node, Onnx};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What is written beside the plan.
pub struct Recipe<'a> {
    /// What is quantized.
    pub plan: &'a Plan,
    /// Grids by group.
    pub grids: &'a BTreeMap<String, Grid>,
    /// Weights that are integers already.
    pub rounded: &'a Rounded,
}

/// The graph under construction.
struct Writer<'a> {
    onnx: Onnx,
    recipe: &'a Recipe<'a>,
    nodes: Vec<Node>,
    /// Names of scale and zero point by group.
    parameters: HashMap<String, (String, String)>,
    /// Names of values after quantization and back.
    rounded: HashMap<String, String>,
    /// Names of dequantized weights, and their scales, by name and axis, and by bias and data where these raise them.
    weights: HashMap<String, (String, Vec<f32>)>,
    tables: Tables,
    replaced: BTreeSet<String>,
}

/// The quantized form of a model.
pub fn qdq(onnx: &Onnx, recipe: &Recipe) -> Result<Onnx> {
    let mut writer = Writer::new(onnx, recipe);
    onnx.inputs.iter().for_each(|i| writer.pair(&i.name));
    for (i, node) in onnx.nodes.iter().enumerate() {
        writer.node(i, node)?;
    }
    let Writer { onnx: mut made, nodes, replaced, .. } = writer;
    made.nodes = nodes;
    made.drop_unread(&replaced);
    let kept: Vec<&[String]> = recipe.plan.stored.iter().map(|&i| onnx.nodes[i].outputs.as_slice()).collect();
    let weights = stored(&made, false, &|i| kept.contains(&made.nodes[i].outputs.as_slice()));
    store_all(&mut made, &weights, DType::I8, &Rounded::new());
    store_inner(&mut made, &recipe.plan.inner);
    Ok(made)
}

/// The float model `onnx`, and beside each layer its quantized form on the same data (with the biases
/// of `float`), whose result is named by [`own`].
pub fn probe(onnx: &Onnx, float: &Onnx, recipe: &Recipe) -> Result<Onnx> {
    let mut writer = Writer::new(float, recipe);
    onnx.inputs.iter().for_each(|i| writer.pair(&i.name));
    for (i, node) in onnx.nodes.iter().enumerate() {
        writer.nodes.push(node.clone());
        if let Some(layer) = recipe.plan.layers.iter().find(|l| l.node == i) {
            let mut copy = float.nodes[i].clone();
            writer.layer(layer, &mut copy)?;
            for &input in &layer.data {
                if let Some(back) = writer.rounded.get(&copy.inputs[input]) {
                    copy.inputs[input] = back.clone();
                }
            }
            copy.outputs[0] = own(node.output());
            writer.nodes.push(copy);
        }
        node.outputs.iter().for_each(|o| writer.pair(o));
    }
    // The constants of the float model under the names that its nodes read.
    let Writer { onnx: mut made, nodes, .. } = writer;
    made.nodes = nodes;
    for initializer in &onnx.initializers {
        if let Some(at) = made.initializers.iter().position(|i| i.proto.name == initializer.proto.name) {
            made.initializers[at] = initializer.clone();
        }
    }
    Ok(made)
}

/// The name of a layer's own result in a probe.
pub fn own(value: &str) -> String {
    format!("{value}_own")
}

impl<'a> Writer<'a> {
    fn new(onnx: &Onnx, recipe: &'a Recipe<'a>) -> Self {
        Writer {
            onnx: onnx.clone(),
            recipe,
            nodes: Vec::new(),
            parameters: HashMap::new(),
            rounded: HashMap::new(),
            weights: HashMap::new(),
            tables: Tables::default(),
            replaced: BTreeSet::new(),
        }
    }

    fn grid(&self, value: &str) -> Result<(String, Grid)> {
        let group = self.recipe.plan.values.get(value);
        let grid = group.and_then(|g| Some((g.clone(), *self.recipe.grids.get(g)?)));
        grid.ok_or_else(|| Error::bug(format!("value '{value}' has no grid")))
    }

    /// Adds the pair of a value that is quantized.
    fn pair(&mut self, value: &str) {
        let Ok((group, grid)) = self.grid(value) else { return };
        if !self.parameters.contains_key(&group) {
            let scale = self.onnx.add_constant(&format!("{group}_scale"), &grid.scale_tensor());
            let zero = self.onnx.add_constant(&format!("{group}_zero_point"), &grid.zero_tensor());
            self.parameters.insert(group.clone(), (scale, zero));
        }
        let (scale, zero) = self.parameters[&group].clone();
        let (scale, zero) = (scale.as_str(), zero.as_str());
        // Node names are optional, and long ones are much of a small model.
        let integers = self.onnx.fresh(&format!("{value}_quantized"));
        let back = self.onnx.fresh(&format!("{value}_dequantized"));
        let quantize = Node::new("QuantizeLinear", "", &[value, scale, zero], &[&integers]);
        let dequantize = Node::new("DequantizeLinear", "", &[&integers, scale, zero], &[&back]);
        self.rounded.insert(value.to_string(), back);
        self.nodes.extend([quantize, dequantize]);
    }

    fn node(&mut self, index: usize, node: &Node) -> Result<()> {
        let plan = self.recipe.plan;
        let mut node = node.clone();
        let layer = plan.layers.iter().find(|l| l.node == index);
        if let Some(layer) = layer {
            self.layer(layer, &mut node)?;
        }
        let integer = plan.integer.contains(&index);
        for input in &mut node.inputs {
            if let Some(back) = self.rounded.get(input).filter(|_| integer || plan.narrow.contains(input)) {
                *input = back.clone();
            }
        }
        let outputs = node.outputs.clone();
        if plan.tables.contains(&index) {
            self.replaced.insert(node.inputs[0].clone());
            self.nodes.extend(self.tables.pick(&mut self.onnx, node)?.nodes);
        } else {
            self.nodes.push(node);
        }
        outputs.iter().for_each(|o| self.pair(o));
        Ok(())
    }

    /// Puts integers for the weights and the bias of a layer.
    fn layer(&mut self, layer: &Layer, node: &mut Node) -> Result<()> {
        let Some(weights) = &layer.weights else { return Ok(()) };
        let (_, data) = self.grid(&node.inputs[layer.data[0]])?;
        let bias = layer.bias.as_ref().and_then(|b| Some((b, self.onnx.floats(b)?.1)));
        let share = Share::of_axis(weights.axis);
        let floor = bias.as_ref().map(|(_, b)| floor(b, data.scale, share));
        let (name, scales) =
            self.shared_weights(weights, data.scale, layer.bias.as_deref(), floor.as_deref())?;
        node.set_input(weights.input, name);
        self.replaced.insert(weights.name.clone());
        if let Some((name, bias)) = bias {
            let units: Vec<f32> = scales.iter().map(|s| s * data.scale).collect();
            let dequantized = self.dequantized_bias(name, &bias, &units);
            node.set_input(2, dequantized);
            self.replaced.insert(name.clone());
        }
        Ok(())
    }

    /// The weights of a layer dequantized, and their scales. Layers that have the same share them, but where the bias
    /// of one asks for larger scales.
    fn shared_weights(
        &mut self,
        weights: &Weights,
        data: f32,
        bias: Option<&str>,
        floor: Option<&[f32]>,
    ) -> Result<(String, Vec<f32>)> {
        let fits = |scales: &[f32]| floor.is_none_or(|f| scales.iter().zip(f).all(|(s, f)| s > f));
        let plain = format!("{} {:?}", weights.name, weights.axis);
        if let Some(made) = self.weights.get(&plain).filter(|made| fits(&made.1)) {
            return Ok(made.clone());
        }
        let raised = format!("{plain} {bias:?} {data}");
        if let Some(made) = self.weights.get(&raised) {
            return Ok(made.clone());
        }
        let made = self.dequantized_weights(&weights.name, Share::of_axis(weights.axis), floor)?;
        let key = if fits(&made.1) { plain } else { raised };
        self.weights.insert(key, made.clone());
        Ok(made)
    }

    fn dequantized_weights(
        &mut self,
        name: &str,
        share: Share,
        floor: Option<&[f32]>,
    ) -> Result<(String, Vec<f32>)> {
        let missing = || Error::bug(format!("the weights '{name}' are no constant of f32"));
        let (shape, weights) = self.onnx.floats(name).ok_or_else(missing)?;
        let plain = || quantize(&shape, &weights, share, DType::I8, floor, false);
        let above = |scales: &[f32]| floor.is_none_or(|f| scales.iter().zip(f).all(|(s, f)| s >= f));
        let rounded = self.recipe.rounded.get(name).filter(|r| above(&r.scales));
        let made = rounded.cloned().unwrap_or_else(plain);
        let integers = self.onnx.add_constant(&format!("{name}_quantized"), &made.values);
        let scale = Tensor::new(made.scale_shape.clone(), &made.scales);
        let scale = self.onnx.add_constant(&format!("{name}_scale"), &scale);
        let zero = integer(DType::I8, &made.scale_shape, &vec![0; made.scales.len()]);
        let zero = self.onnx.add_constant(&format!("{name}_zero_point"), &zero);
        let out = self.onnx.fresh(&format!("{name}_dequantized"));
        let mut node = Node::new("DequantizeLinear", "", &[&integers, &scale, &zero], &[&out]);
        if let Share::Axis(axis) = share {
            node.set_int("axis", axis as i64);
        }
        self.nodes.push(node);
        Ok((out, made.scales))
    }

    fn dequantized_bias(&mut self, name: &str, bias: &[f32], units: &[f32]) -> String {
        let unit = |i: usize| f64::from(units[i.min(units.len() - 1)]);
        let steps = bias.iter().enumerate().map(|(i, &b)| (f64::from(b) / unit(i)).round_ties_even() as i64);
        let steps: Vec<i64> = steps.collect();
        let integers = integer(DType::I32, &[bias.len()], &steps);
        let integers = self.onnx.add_constant(&format!("{name}_quantized"), &integers);
        let shape = if units.len() == 1 { Vec::new() } else { vec![units.len()] };
        let scale = self.onnx.add_constant(&format!("{name}_scale"), &Tensor::new(shape, units));
        let out = self.onnx.fresh(&format!("{name}_dequantized"));
        let mut node = Node::new("DequantizeLinear", "", &[&integers, &scale], &[&out]);
        if units.len() > 1 {
            node.set_int("axis", 0);
        }
        self.nodes.push(node);
        out
    }
}

/// The least scales of weights with which a bias fits 32 bits, with room for the sum.
fn floor(bias: &[f32], data: f32, share: Share) -> Vec<f32> {
    let least = |b: f32| (f64::from(b.abs()) / f64::from(data) / 2f64.powi(30)) as f32;
    match share {
        Share::Tensor => vec![bias.iter().map(|&b| least(b)).fold(0.0, f32::max)],
        _ => bias.iter().map(|&b| least(b)).collect(),
    }
}
