//! Channels that are one number everywhere, and which. Of quantized tensors, the number that is stored.

use super::{Operand, Product, averages_integers, is_depthwise, is_padded, joins, operands, output};
use crate::base::{DType, Tensor, TensorType};
use crate::graph::{Attr, Attrs, Graph, Node, ValueId};
use crate::ops::NodeBuilder;
use std::collections::HashMap;

/// Per value, the number that each channel is everywhere, where it is one.
pub type Constants = HashMap<ValueId, Vec<Option<f32>>>;

/// Sums of so many quantized numbers are exact as floats.
const EXACT: usize = 1 << 16;

/// The channels that are one number everywhere.
pub fn known_constants(graph: &Graph) -> Constants {
    let mut known = Constants::new();
    for n in 0..graph.nodes.len() {
        let node = &graph.nodes[n];
        let Some(to) = output(graph, n) else { continue };
        let given = node.inputs.iter().flatten().find_map(|from| known.get(from));
        let found = match Product::of(graph, n).filter(Product::convolves) {
            Some(product) => of_convolution(graph, n, &product, given),
            None => given.and_then(|given| match operands(graph, n, given.len()) {
                Some(operands) => of_elements(graph, node, &operands, &known, given.len()),
                None if joins(graph, n, given.len()) => passed(graph, node, given),
                None => None,
            }),
        };
        if let Some(found) = found.filter(|f| f.iter().any(Option::is_some)) {
            known.insert(to, found);
        }
    }
    known
}

/// What a convolution makes of nothing but zeros, or, depthwise, of constants.
fn of_convolution(
    graph: &Graph,
    n: usize,
    product: &Product,
    given: Option<&Vec<Option<f32>>>,
) -> Option<Vec<Option<f32>>> {
    let channels = product.weights.ty.shape[0];
    let bias = product.bias()?;
    let window = product.weights.ty.elems() / channels.max(1);
    let depthwise = is_depthwise(graph, n, channels);
    let padded = is_padded(&graph.nodes[n]);
    let sum = |c: usize| {
        let mut taps = product.numbers(c * window, window);
        let given = given.filter(|_| depthwise).and_then(|g| g[c]).map(|stored| product.counts(stored));
        match given {
            Some(0.0) => Some(bias[c]),
            Some(x) if !padded && product.is_quantized() => {
                Some(taps.fold(bias[c], |sum, w| sum + f64::from(w) * f64::from(x)))
            }
            Some(x) if !padded => Some(f64::from(taps.fold(bias[c] as f32, |sum, w| sum + w * x))),
            _ if taps.all(|w| w == 0.0) => Some(bias[c]),
            _ => None,
        }
    };
    let sums: Vec<Option<f64>> = (0..channels).map(sum).collect();
    match product.is_quantized() {
        true => requantized(graph, &graph.nodes[n], &sums),
        false => Some(sums.into_iter().map(|s| s.map(|s| s as f32)).collect()),
    }
}

/// What a quantized convolution makes of sums, by its own rule.
fn requantized(graph: &Graph, node: &Node, sums: &[Option<f64>]) -> Option<Vec<Option<f32>>> {
    let bias: Vec<i32> = sums.iter().map(|s| s.unwrap_or(0.0) as i64 as i32).collect();
    let zero = |i: usize| node.inputs.get(i).copied().flatten().map(|id| graph.value(id).ty.dtype);
    let [data, weights] = [zero(0)?, zero(3)?].map(|d| TensorType::new(d, [1, sums.len(), 1, 1]));
    let mut shape = weights.shape.clone();
    shape.swap(0, 1);
    let weights = TensorType::new(weights.dtype, shape);
    // Of no data but the zero point only the bias is left.
    let data = filled(graph, node, 2, data)?;
    let attrs = Attrs::default().with("group", Attr::Int(sums.len() as i64));
    let weights = filled(graph, node, 5, weights)?;
    let made =
        computed(graph, node, attrs, vec![(0, data), (3, weights), (8, Tensor::new([bias.len()], &bias))]);
    chosen(made?, sums.iter().map(Option::is_some))
}

/// A tensor of a zero point alone.
fn filled(graph: &Graph, node: &Node, zero: usize, ty: TensorType) -> Option<Tensor> {
    let byte = match node.inputs.get(zero).copied().flatten() {
        None => 0,
        Some(id) => *graph.value(id).constant.as_ref()?.data.first()?,
    };
    let data = vec![byte; ty.bytes()];
    (ty.dtype.size() == 1).then_some(Tensor { ty, data: data.into() })
}

/// The constant that a node would make of other inputs and attributes.
fn computed(graph: &Graph, node: &Node, attrs: Attrs, inputs: Vec<(usize, Tensor)>) -> Option<Tensor> {
    let mut alone = Graph::default();
    let mut list: Vec<Option<ValueId>> =
        vec![None; node.inputs.len().max(inputs.iter().map(|i| i.0 + 1).max()?)];
    for (i, place) in list.iter_mut().enumerate() {
        let given = inputs.iter().find(|g| g.0 == i).map(|g| g.1.clone());
        let kept = || node.inputs.get(i).copied().flatten().map(|id| graph.value(id).constant.clone());
        let tensor = match given {
            Some(tensor) => tensor,
            None => match kept() {
                Some(constant) => constant?,
                None => continue,
            },
        };
        *place = Some(alone.add_constant(format!("input{i}"), tensor));
    }
    let mut b = NodeBuilder::new(&mut alone, "constant", i64::MAX);
    let made = b.node_in(node.op.domain, node.op.name, &list, attrs, 1).ok()?;
    alone.value(*made.first()?).constant.clone()
}

/// The elements of a constant, where they count.
fn chosen(made: Tensor, known: impl Iterator<Item = bool>) -> Option<Vec<Option<f32>>> {
    let integers = || made.to_i64s().map(|list| list.into_iter().map(|n| n as f32).collect());
    let numbers: Vec<f32> = made.to_vec().or_else(integers)?;
    Some(numbers.into_iter().zip(known).map(|(n, known)| known.then_some(n)).collect())
}

/// A number for each channel as a tensor of bytes or floats; zero where it is not known.
fn numbers(given: &[Option<f32>], dtype: DType) -> Option<Tensor> {
    let known: Vec<f32> = given.iter().map(|x| x.unwrap_or(0.0)).collect();
    match dtype {
        DType::F32 => Some(Tensor::new([known.len()], &known)),
        DType::I8 | DType::U8 => {
            let bytes: Vec<u8> = known.into_iter().map(|x| x as i64 as u8).collect();
            Tensor::from_bytes(TensorType::new(dtype, [bytes.len()]), bytes)
        }
        _ => None,
    }
}

/// What an element-wise node makes of constant channels, by its own rule.
fn of_elements(
    graph: &Graph,
    node: &Node,
    operands: &[Operand],
    known: &Constants,
    channels: usize,
) -> Option<Vec<Option<f32>>> {
    let mut all = vec![true; channels];
    let mut inputs = Vec::with_capacity(operands.len());
    for (i, (operand, input)) in operands.iter().zip(&node.inputs).enumerate() {
        let tensor = match (operand, input) {
            (Operand::Value(id), _) => {
                let given = known.get(id)?;
                all.iter_mut().zip(given).for_each(|(all, x)| *all &= x.is_some());
                numbers(given, graph.value(*id).ty.dtype)?
            }
            (Operand::Each(_), Some(id)) => graph.value(*id).constant.as_ref()?.reshaped([channels])?,
            (_, Some(id)) => graph.value(*id).constant.as_ref()?.reshaped([])?,
            (_, None) => continue,
        };
        inputs.push((i, tensor));
    }
    chosen(computed(graph, node, node.attrs.clone(), inputs)?, all.into_iter())
}

/// What a node that keeps channels apart makes of constant channels; `None` of those where that is not said.
fn passed(graph: &Graph, node: &Node, given: &[Option<f32>]) -> Option<Vec<Option<f32>>> {
    if averages_integers(node) {
        return averaged(graph, node, given);
    }
    Some(given.iter().map(|x| x.and_then(|x| of_one(node, x))).collect())
}

/// Means of constant channels of quantized numbers, by their own rule.
fn averaged(graph: &Graph, node: &Node, given: &[Option<f32>]) -> Option<Vec<Option<f32>>> {
    let from = &graph.value(node.inputs.first().copied().flatten()?).ty;
    let points: usize = from.shape[2..].iter().product();
    if points > EXACT || is_padded(node) || node.attrs.flag("ceil_mode", false).ok()? {
        return None;
    }
    let data = numbers(given, from.dtype)?.reshaped([1, given.len(), 1, 1])?;
    let kernel = Attrs::default().with("kernel_shape", Attr::Ints(vec![1, 1]));
    let made = computed(graph, node, kernel, vec![(0, data)]);
    chosen(made?, given.iter().map(Option::is_some))
}

/// What a node that treats all points alike makes of one number.
fn of_one(node: &Node, x: f32) -> Option<f32> {
    match node.op.name {
        "AveragePool" if is_padded(node) && x != 0.0 => None,
        "MaxPool" if is_padded(node) => None,
        "AveragePool" | "MaxPool" | "GlobalAveragePool" | "GlobalMaxPool" | "Reshape" | "Flatten" => Some(x),
        "ReduceMean" | "ReduceMax" | "ReduceMin" => Some(x),
        _ => None,
    }
}
