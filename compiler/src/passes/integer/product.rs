//! Convolutions and matrix products of dequantized operands.
//!
//! The sum of integer products is exact. Where the result is quantized again, the operator that
//! requantizes takes both (QLinearConv, QuantizedGemm); otherwise the sum is scaled to a float, which what
//! follows takes in registers.

use super::super::Around;
use super::super::edit::{is, put, remove};
use super::bias::integer_bias;
use super::channels;
use super::filtered::float_filters;
use super::linear::{Linear, Product, only_quantize, source};
use super::sums::Sum;
use crate::base::{DType, Tensor};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, Graph, Node, ValueId};
use crate::ops::NodeBuilder;
use crate::scalar::{Scalar, fixed};

/// Sums of so many products of bytes always fit 32 bits.
const MAX_DEPTH: usize = 1 << 16;

/// Rewrites products; notes what stays in float.
pub fn products(graph: &mut Graph, around: &mut Around) -> Result<bool> {
    let (mut changed, mut i) = (false, 0);
    let mut floats: Vec<(String, Vec<String>)> = Vec::new();
    while i < graph.nodes.len() {
        let node = graph.nodes[i].clone();
        let products = ["Conv", "ConvTranspose", "Gemm", "MatMul"];
        let input = |k: usize| node.inputs.get(k).copied().flatten();
        let quantized = |k: usize| input(k).is_some_and(|id| source(graph, id).is_some());
        if products.iter().any(|n| is(&node, n)) && (quantized(0) || quantized(1)) {
            match rewrite(graph, i, &node, around) {
                Ok(()) => {
                    changed = true;
                    continue;
                }
                Err(reason) => {
                    let place = format!("node '{}' ({})", node.name, node.op.name);
                    match floats.iter_mut().find(|f| f.0 == reason) {
                        Some(found) => found.1.push(place),
                        None => floats.push((reason, vec![place])),
                    }
                }
            }
        }
        i += 1;
    }
    around.notes.extend(floats.iter().map(|(reason, places)| in_float(reason, places)));
    Ok(changed)
}

/// What is said of products that stay in float for one reason: one line, however many they are.
fn in_float(reason: &str, places: &[String]) -> String {
    match places {
        [place] => format!("{place} is computed in float: {reason}"),
        [place, second] => format!("{place} and {second} are computed in float: {reason}"),
        [place, rest @ ..] => format!("{place} and {} others are computed in float: {reason}", rest.len()),
        [] => String::new(),
    }
}

type Outcome<T> = std::result::Result<T, String>;

/// Weights of fewer bits are multiplied as bytes where each serves so many rows: read once, they are
/// unpacked in registers instead ...
const ROWS: usize = 4;

/// ... unless they are so few that they stay in a cache from one inference to the next: unpacking takes longer than
/// reading them then.
const FEW: usize = 1 << 18;

fn operand(graph: &mut Graph, node: &Node, i: usize, what: &str) -> Outcome<Linear> {
    let id = node.inputs.get(i).copied().flatten().ok_or("an input is missing")?;
    let linear = source(graph, id).ok_or_else(|| format!("{what} is not dequantized"))?;
    match linear.dtype(graph) {
        DType::I8 | DType::U8 => Ok(linear),
        DType::I16 | DType::U16 if i == 0 => Ok(linear),
        small
            if small.is_int() && small.bits() < 8 && (serves_rows(graph, node) || is_few(graph, &linear)) =>
        {
            linear
                .widened(graph)
                .ok_or_else(|| format!("{what} is dequantized from {small}, and no constant"))
        }
        other => {
            let bits = if i == 0 { "8 or 16" } else { "8" };
            Err(format!("{what} is dequantized from {other}, not from integers of {bits} bits"))
        }
    }
}

/// Whether each weight of a product serves several rows of data.
fn serves_rows(graph: &Graph, node: &Node) -> bool {
    let shape = node.inputs.first().copied().flatten().map(|x| &graph.value(x).ty.shape);
    let rows = |s: &Vec<usize>| s[..s.len().saturating_sub(1)].iter().product::<usize>();
    node.op.name.starts_with("Conv") || shape.map(rows).is_some_and(|rows| rows >= ROWS)
}

fn is_few(graph: &Graph, linear: &Linear) -> bool {
    graph.value(linear.value).ty.elems() <= FEW
}

fn rewrite(graph: &mut Graph, at: usize, node: &Node, around: &Around) -> Outcome<()> {
    let (x, w) = (operand(graph, node, 0, "the data")?, operand(graph, node, 1, "the second factor")?);
    let out = node.outputs.first().copied().flatten().ok_or("its output is not read")?;
    let most = x.dtype(graph).bits();
    if most > 8 && float_filters(graph, node, around)? {
        return Err("windows of 3x3 points are filtered, of floats alone".to_string());
    }
    let to = only_quantize(graph, out).filter(|(_, l)| l.dtype(graph).bits() <= most);
    let mut product = Product { x, w, to };
    channels::fold_data(graph, node, &mut product)?;
    if product.to.as_ref().is_some_and(|(_, to)| !channels::folds_result(graph, node, to)) {
        product.to = None;
    }
    if product.bias_is_coarse(graph, node) {
        product.to = None;
    }
    let target = product.to.as_ref().map_or(at, |t| t.0);
    match node.op.name {
        "Conv" => conv(graph, target, node, product)?,
        "ConvTranspose" => conv_transpose(graph, target, node, product)?,
        "Gemm" => gemm(graph, target, node, product)?,
        "MatMul" => matmul(graph, target, &product)?,
        name => return Err(format!("{name} has no integer form")),
    }
    if target != at {
        let dead: Vec<bool> = (0..graph.nodes.len()).map(|i| i == at).collect();
        remove(graph, &dead);
    }
    Ok(())
}

impl Product {
    /// Data, weights, their scales and zero points; then those of the result, if it is quantized.
    fn inputs(&self, b: &mut NodeBuilder, sum: &Sum) -> Vec<Option<ValueId>> {
        let mut list = Vec::new();
        for side in [&self.x, &self.w] {
            let zero = side.zero_point(b);
            list.extend([side.value, side.scale, zero].map(Some));
        }
        if let Some((_, to)) = &self.to {
            let zero = to.zero_point(b);
            list.extend([to.scale, zero].map(Some));
            let scales = self.settled(b.graph, to, sum);
            if scales != self.w.scales(b.graph) {
                let shape = b.graph.value(self.w.scale).ty.shape.clone();
                list[4] = Some(b.constant(Tensor::new(shape, &scales)));
            }
        }
        list
    }

    /// The weights' scales, so near to what they are that their own rounding is larger, with which the sum
    /// is requantized as by a fixed-point factor. They are looked for once for all samples.
    fn settled(&self, graph: &Graph, to: &Linear, sum: &Sum) -> Vec<f32> {
        let constant = |id: ValueId| graph.value(id).constant.as_ref();
        let Some(weights) = constant(self.w.value) else { return self.near(graph, to, sum) };
        let sides = [&self.w, &self.x, to].map(|side| [Some(side.scale), side.zero]);
        let inputs = sides.as_flattened().iter().map(|id| id.and_then(constant));
        let inputs: Vec<_> = inputs.chain([Some(weights), sum.bias]).collect();
        let what = || {
            let types = [self.x.dtype(graph), to.dtype(graph)];
            format!("settled {types:?} {:?} {} {:?}", self.range(graph), sum.axis, sum.alpha)
        };
        let near = || {
            let scales = self.near(graph, to, sum);
            Ok(vec![Some(Tensor::new([scales.len()], &scales))])
        };
        let found = graph.once(what, &inputs, near).unwrap_or_default().into_iter().flatten().next();
        found.and_then(|t| t.to_vec()).unwrap_or_else(|| self.w.scales(graph))
    }

    fn near(&self, graph: &Graph, to: &Linear, sum: &Sum) -> Vec<f32> {
        let (x, y) = (self.x.scales(graph)[0], to.scales(graph)[0]);
        let weights = self.w.scales(graph);
        // In the order of what computes it.
        let scales = |w: f32| match sum.alpha {
            None => vec![x * w / y],
            Some(alpha) => vec![w, x * alpha / y],
        };
        let product = |&w: &f32| scales(w).into_iter().map(f64::from).product::<f64>();
        let Some(shift) = fixed::shift(weights.iter().map(product).fold(0.0, f64::max)) else {
            return weights;
        };
        let (dtype, zero) = (to.dtype(graph), to.zeros(graph)[0]);
        if dtype.size() > 1 {
            // More steps than a factor of 31 bits tells apart.
            return weights;
        }
        let [low, high] = [Scalar::lowest(dtype), Scalar::highest(dtype)].map(|s| s.to_i64() - zero);
        let sums = self.sums(graph, sum);
        let settled = |(i, &w): (usize, &f32)| {
            let of = if weights.len() == sums.len() { &sums[i..=i] } else { &sums[..] };
            let (least, most) = of.iter().fold((0, 0), |hull, s| (hull.0.min(s.0), hull.1.max(s.1)));
            fixed::settled(w, scales, shift, &(least..=most), low..high)
        };
        weights.iter().enumerate().map(settled).collect()
    }

    /// The scale of the sum: one number, or one per channel.
    pub(super) fn scales(&self, graph: &Graph) -> Vec<f32> {
        let x = self.x.scales(graph)[0];
        self.w.scales(graph).iter().map(|w| x * w).collect()
    }
}

fn conv(graph: &mut Graph, at: usize, node: &Node, mut product: Product) -> Outcome<()> {
    let shape = graph.value(product.w.value).ty.shape.clone();
    let channels = shape[0];
    if product.w.axis.is_some_and(|a| a != 0) {
        return Err("the weights' scales are not per output channel".to_string());
    }
    if shape[1..].iter().product::<usize>() > MAX_DEPTH {
        return Err("it sums too many products for 32 bits".to_string());
    }
    let scales = product.scales(graph);
    let bias = node.inputs.get(2).copied().flatten();
    if product.to.is_some() {
        let bias = bias.map(|id| integer_bias(graph, id, &scales, channels, 1.0)).transpose()?;
        let sum = Sum { axis: 0, bias: bias.as_ref(), alpha: None };
        product.check(graph, &sum)?;
        channels::fold_result(graph, &mut product);
        return put(graph, at, |b| {
            let sum = Sum { axis: 0, bias: bias.as_ref(), alpha: None };
            let mut inputs = product.inputs(b, &sum);
            if let Some(bias) = bias {
                inputs.push(Some(b.constant(bias)));
            }
            Ok(b.node_in("", "QLinearConv", &inputs, node.attrs.clone(), 1)?[0])
        });
    }
    product.check(graph, &Sum { axis: 0, bias: None, alpha: None })?;
    put(graph, at, |b| {
        let zeros = [product.x.zero_point(b), product.w.zero_point(b)];
        let inputs = [product.x.value, product.w.value, zeros[0], zeros[1]];
        let sum = b.one("ConvInteger", &inputs, node.attrs.clone())?;
        let sum = b.cast(sum, DType::F32)?;
        let mut dims = vec![1; shape.len()];
        dims[1] = scales.len();
        let scale = b.constant(Tensor::new(dims.clone(), &scales));
        let scaled = b.binary("Mul", sum, scale)?;
        let Some(bias) = bias else { return Ok(scaled) };
        dims[1] = channels;
        let dims: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        let dims = b.constant(Tensor::new([dims.len()], &dims));
        let bias = b.binary("Reshape", bias, dims)?;
        b.binary("Add", scaled, bias)
    })
}

fn conv_transpose(graph: &mut Graph, at: usize, node: &Node, product: Product) -> Outcome<()> {
    let weights = graph.value(product.w.value);
    let shape = weights.ty.shape.clone();
    let groups = node.attrs.int("group", 1).map_err(|e: Error| e.to_string())?.max(1) as usize;
    let same = |list: &[i64]| list.windows(2).all(|w| w[0] == w[1]);
    if weights.constant.is_none() || !same(&product.w.zeros(graph)) || product.x.zeros(graph).len() != 1 {
        return Err("weights and zero points are not constants, one zero point each".to_string());
    }
    if product.w.axis.is_some_and(|a| a != 1) || (product.w.axis.is_some() && groups > 1) {
        return Err("the weights' scales are not per output channel".to_string());
    }
    if shape[0] * shape[2..].iter().product::<usize>() > MAX_DEPTH {
        return Err("it sums too many products for 32 bits".to_string());
    }
    let (scales, channels) = (product.scales(graph), shape[1] * groups);
    let float_bias = product.float_bias(graph, node);
    let bias = node.inputs.get(2).copied().flatten().filter(|_| float_bias.is_none());
    let bias = bias.map(|id| integer_bias(graph, id, &scales, channels, 1.0)).transpose()?;
    let sum = Sum { axis: 1, bias: bias.as_ref(), alpha: None };
    product.check(graph, &sum)?;
    put(graph, at, |b| {
        let mut inputs = product.inputs(b, &sum);
        inputs.resize(8, None);
        inputs.extend(bias.as_ref().map(|bias| Some(b.constant(bias.clone()))));
        let result = b.node_in("lmc", "QLinearConvTranspose", &inputs, node.attrs.clone(), 1)?[0];
        let Some(mut bias) = float_bias else { return Ok(result) };
        bias.ty.shape.resize(shape.len() - 1, 1);
        let bias = b.constant(bias);
        b.binary("Add", result, bias)
    })
}

fn gemm(graph: &mut Graph, at: usize, node: &Node, product: Product) -> Outcome<()> {
    let attr = |e: Error| e.to_string();
    let transposed = node.attrs.flag("transB", false).map_err(attr)?;
    if node.attrs.flag("transA", false).map_err(attr)? {
        return Err("the data is transposed".to_string());
    }
    let shape = graph.value(product.w.value).ty.shape.clone();
    let (columns, inner) = (usize::from(!transposed), usize::from(transposed));
    if product.w.axis.is_some_and(|a| a != columns) {
        return Err("the second factor's scales are not per column".to_string());
    }
    if shape[inner] > MAX_DEPTH {
        return Err("it sums too many products for 32 bits".to_string());
    }
    let alpha = node.attrs.float("alpha", 1.0).map_err(attr)?;
    let beta = node.attrs.float("beta", 1.0).map_err(attr)?;
    let scales = product.scales(graph);
    let float_bias = product.float_bias(graph, node);
    let bias = match node.inputs.get(2).copied().flatten().filter(|_| float_bias.is_none()) {
        Some(id) => {
            let ratio = f64::from(beta) / f64::from(alpha);
            Some(integer_bias(graph, id, &scales, shape[columns], ratio)?)
        }
        None => None,
    };
    let sum = Sum { axis: columns, bias: bias.as_ref(), alpha: Some(alpha) };
    product.check(graph, &sum)?;
    put(graph, at, |b| {
        let mut inputs = product.inputs(b, &sum);
        let result = inputs.split_off(6);
        inputs.push(bias.as_ref().map(|bias| b.constant(bias.clone())));
        inputs.extend(result);
        let attrs = Attrs::default()
            .with("alpha", Attr::Float(alpha))
            .with("transB", Attr::Int(i64::from(transposed)));
        let result = b.node_in("lmc", "QuantizedGemm", &inputs, attrs, 1)?[0];
        let Some(bias) = float_bias else { return Ok(result) };
        let bias = b.constant(bias);
        b.binary("Add", result, bias)
    })
}

fn matmul(graph: &mut Graph, at: usize, product: &Product) -> Outcome<()> {
    let shape = &graph.value(product.w.value).ty.shape;
    let rank = shape.len();
    if product.w.axis.is_some_and(|a| rank < 2 || a + 1 != rank) {
        return Err("the second factor's scales are not per column".to_string());
    }
    if shape[rank.saturating_sub(2)] > MAX_DEPTH {
        return Err("it sums too many products for 32 bits".to_string());
    }
    let sum = Sum { axis: rank.saturating_sub(1), bias: None, alpha: Some(1.0) };
    product.check(graph, &sum)?;
    put(graph, at, |b| {
        let inputs = product.inputs(b, &sum);
        if product.to.is_some() {
            return Ok(b.node_in("lmc", "QuantizedMatMul", &inputs, Attrs::default(), 1)?[0]);
        }
        let order = [0, 3, 1, 4, 2, 5].map(|i: usize| inputs[i]);
        Ok(b.node_in("com.microsoft", "MatMulIntegerToFloat", &order, Attrs::default(), 1)?[0])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Known, parse};
    use crate::target::resolve;
    use std::sync::Arc;

    /// What one sample found is taken by another only where everything that it depends on is alike.
    #[test]
    fn scales_are_found_once_for_what_is_alike() {
        let graph = "graph g {
  input x: f32[1,4,3]
  const s: f32[] = [0.1]
  const z: u8[] = [128]
  const w: i8[2,4,1] = random 1
  const ws: f32[2] = [0.0123, 0.0321]
  const b: f32[2] = [1.5, -2.5]
  const ys: f32[] = [0.3]
  const yz: u8[] = [100]
  xq: u8[1,4,3] = QuantizeLinear(x, s, z)
  xd: f32[1,4,3] = DequantizeLinear(xq, s, z)
  wd: f32[2,4,1] = DequantizeLinear(w, ws) { axis = 0 }
  c: f32[1,2,3] = Conv(xd, wd, b)
  y: u8[1,2,3] = QuantizeLinear(c, ys, yz)
  output y
}
";
        let rewritten = |text: &str, known: Option<Arc<Known>>| {
            let mut graph = parse(text, crate::ops::find).unwrap();
            graph.known = known;
            let target = resolve("x86_64", "generic").unwrap();
            assert!(products(&mut graph, &mut Around::new(&target)).unwrap());
            graph.to_string()
        };
        let others = [
            ("[0.1]", "[0.17]"),
            ("[128]", "[7]"),
            ("random 1", "random 2"),
            ("[0.0123, 0.0321]", "[0.0124, 0.0321]"),
            ("[1.5, -2.5]", "[1.5, 900.0]"),
            ("[0.3]", "[0.29]"),
            ("[100]", "[3]"),
            ("", ""),
        ];
        let known = Arc::new(Known::default());
        for (from, to) in others {
            let text = graph.replace(from, to);
            assert_eq!(rewritten(&text, Some(known.clone())), rewritten(&text, None), "{from} -> {to}");
        }
    }
}
