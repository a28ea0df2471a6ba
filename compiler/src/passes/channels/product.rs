//! Products with constant weights, of floats and of quantized numbers: where each has its constants.

use crate::base::{DType, Tensor};
use crate::graph::{Graph, ValueId};

/// Where an operator has its inputs.
struct Row {
    domain: &'static str,
    name: &'static str,
    weights: usize,
    /// What is added to each channel's sum, in its units.
    bias: Option<usize>,
    /// The zero points of the data and of the weights.
    zeros: Option<[usize; 2]>,
    /// Constants of each channel of the result beside weights and bias; of one element: of all.
    each: &'static [usize],
}

const fn floats(name: &'static str, bias: Option<usize>) -> Row {
    Row { domain: "", name, weights: 1, bias, zeros: None, each: &[] }
}

const fn integers(domain: &'static str, name: &'static str, weights: usize, zeros: [usize; 2]) -> Row {
    Row { domain, name, weights, bias: None, zeros: Some(zeros), each: &[] }
}

const ROWS: &[Row] = &[
    floats("Conv", Some(2)),
    floats("MatMul", None),
    floats("Gemm", None),
    Row { bias: Some(8), each: &[4, 5], ..integers("", "QLinearConv", 3, [2, 5]) },
    integers("", "QLinearMatMul", 3, [2, 5]),
    integers("", "MatMulInteger", 1, [2, 3]),
    integers("com.microsoft", "MatMulIntegerToFloat", 1, [4, 5]),
    integers("com.microsoft", "QGemm", 3, [2, 5]),
    integers("lmc", "QuantizedMatMul", 3, [2, 5]),
    integers("lmc", "QuantizedGemm", 3, [2, 5]),
];

/// A product with constant weights, and a constant bias if any.
pub struct Product<'a> {
    row: &'static Row,
    /// The weights as they are stored.
    pub weights: &'a Tensor,
    bias: Option<&'a Tensor>,
    /// Zero points of data and weights.
    zeros: [i64; 2],
}

impl<'a> Product<'a> {
    /// What a node multiplies by; `None` where it is no such product, or not all of that is constant.
    pub fn of(graph: &'a Graph, node: usize) -> Option<Product<'a>> {
        let node = &graph.nodes[node];
        let row = ROWS.iter().find(|r| r.name == node.op.name && r.domain == node.op.domain)?;
        let input = |i: usize| node.inputs.get(i).copied().flatten();
        let constant = |id: ValueId| graph.value(id).constant.as_ref();
        let weights = constant(input(row.weights)?)?;
        let fits = match row.zeros {
            None => weights.ty.dtype == DType::F32,
            Some(_) => matches!(weights.ty.dtype, DType::I8 | DType::U8),
        };
        let zero = |i: usize| match input(i) {
            None => Some(0),
            Some(id) => one(&constant(id)?.to_i64s()?),
        };
        let zeros = match row.zeros {
            None => [0, 0],
            Some([x, w]) => [zero(x)?, zero(w)?],
        };
        let bias = match row.bias.and_then(input) {
            None => None,
            Some(id) => Some(constant(id)?),
        };
        (fits && weights.ty.rank() >= 2).then_some(Product { row, weights, bias, zeros })
    }

    /// Whether it is a convolution.
    pub fn convolves(&self) -> bool {
        self.row.bias.is_some()
    }

    /// Whether its numbers are integers.
    pub fn is_quantized(&self) -> bool {
        self.row.zeros.is_some()
    }

    /// The input with the weights; then the one with the bias, of convolutions.
    pub fn inputs(&self) -> (usize, Option<usize>) {
        (self.row.weights, self.row.bias)
    }

    /// All inputs that have an element of each channel of the result.
    pub fn of_results(&self) -> impl Iterator<Item = usize> + use<> {
        let row = self.row;
        [row.weights].into_iter().chain(row.bias).chain(row.each.iter().copied())
    }

    /// What a stored number of the data counts for.
    pub fn counts(&self, stored: f32) -> f32 {
        stored - self.zeros[0] as f32
    }

    /// What neighbouring weights count for.
    pub fn numbers(&self, start: usize, count: usize) -> impl Iterator<Item = f32> {
        let (zero, dtype) = (self.zeros[1] as f32, self.weights.ty.dtype);
        let size = dtype.size();
        let number = move |e: &[u8]| match (dtype, e) {
            (DType::I8, &[b]) => f32::from(b as i8) - zero,
            (_, &[b]) => f32::from(b) - zero,
            (_, e) => e.try_into().map_or(f32::NAN, f32::from_le_bytes),
        };
        self.weights.data[size * start..size * (start + count)].chunks_exact(size).map(number)
    }

    /// What is added to the sum of each channel; integers, where the product is one of integers.
    pub fn bias(&self) -> Option<Vec<f64>> {
        let channels = self.weights.ty.shape[0];
        let numbers = match self.bias {
            None => vec![0.0; channels],
            Some(bias) if self.is_quantized() => bias.to_i64s()?.into_iter().map(|b| b as f64).collect(),
            Some(bias) => bias.to_vec::<f32>()?.into_iter().map(f64::from).collect(),
        };
        (numbers.len() == channels).then_some(numbers)
    }
}

/// The number that all are.
fn one(list: &[i64]) -> Option<i64> {
    let first = *list.first()?;
    list.iter().all(|&z| z == first).then_some(first)
}
