//! The bias of a product: a number of units of the sum, or a float that is added to the scaled sum where it
//! is too far from whole units.

use super::linear::{Product, of, source};
use crate::base::Tensor;
use crate::graph::{Graph, Node, ValueId};

/// Rounding a bias to units of the sum may be off by this part of a step of the result.
const COARSE: f64 = 1.0 / 256.0;

/// A bias that is off by less, in units of the sum, was rounded by the model.
const ROUNDED: f64 = 1e-3;

/// A constant as real numbers: floats, or dequantized integers.
fn real(graph: &Graph, id: ValueId) -> Option<Vec<f64>> {
    if let Some(tensor) = &graph.value(id).constant {
        return Some(tensor.to_vec::<f32>()?.into_iter().map(f64::from).collect());
    }
    let linear = source(graph, id)?;
    let elems = graph.value(linear.value).constant.as_ref()?.to_i64s()?;
    let (scales, zeros) = (linear.scales(graph), linear.zeros(graph));
    let fits = |n: usize| n == 1 || n == elems.len();
    (fits(scales.len()) && fits(zeros.len())).then(|| {
        let elem = |(i, &v): (usize, &i64)| (v - of(&zeros, i)) as f64 * f64::from(of(&scales, i));
        elems.iter().enumerate().map(elem).collect()
    })
}

/// A bias in units of the sum: exact where its own scale is that of the sum.
pub(super) fn integer_bias(
    graph: &Graph,
    id: ValueId,
    scales: &[f32],
    channels: usize,
    factor: f64,
) -> Result<Tensor, String> {
    let real = real(graph, id).ok_or("the bias is not a constant")?;
    if real.len() != channels && real.len() != 1 {
        return Err("the bias is not one number per channel".to_string());
    }
    let step = |c: usize| (of(&real, c) * factor / f64::from(of(scales, c))).round_ties_even();
    let steps: Vec<f64> = (0..channels).map(step).collect();
    if steps.iter().any(|s| !s.is_finite() || s.abs() >= 2f64.powi(31)) {
        return Err("the bias is too large for the scale of the products".to_string());
    }
    Ok(Tensor::new([channels], &steps.iter().map(|&s| s as i32).collect::<Vec<i32>>()))
}

impl Product {
    /// How far a constant bias is from whole units of the sum, in those, and the unit; of each channel.
    fn rests(&self, graph: &Graph, node: &Node) -> Vec<(f64, f64)> {
        let bias = node.inputs.get(2).copied().flatten().and_then(|id| real(graph, id)).unwrap_or_default();
        let units = self.scales(graph);
        let factor = |name| f64::from(node.attrs.float(name, 1.0).unwrap_or(1.0));
        let (alpha, beta) = (factor("alpha"), factor("beta"));
        let rest = |c: usize| {
            let unit = f64::from(of(&units, c)) * alpha;
            let steps = of(&bias, c) * beta / unit;
            ((steps - steps.round()).abs(), unit.abs())
        };
        let fits = bias.len() == 1 || units.len() == 1 || units.len() == bias.len();
        let count = if bias.is_empty() || !fits { 0 } else { bias.len().max(units.len()) };
        (0..count).map(rest).collect()
    }

    /// Whether a bias in units of the sum would be off by too much of a step of the quantized result.
    pub(super) fn bias_is_coarse(&self, graph: &Graph, node: &Node) -> bool {
        let Some((_, to)) = &self.to else { return false };
        let steps = to.scales(graph);
        let coarse =
            |(c, (rest, unit)): (usize, &(f64, f64))| rest * unit > COARSE * f64::from(of(&steps, c));
        self.rests(graph, node).iter().enumerate().any(coarse)
    }

    /// The bias of a float result, where it is not in whole units of the sum: what is added to the result.
    pub(super) fn float_bias(&self, graph: &Graph, node: &Node) -> Option<Tensor> {
        let id = node.inputs.get(2).copied().flatten().filter(|_| self.to.is_none())?;
        if self.rests(graph, node).iter().all(|(rest, _)| *rest < ROUNDED) {
            return None;
        }
        let beta = f64::from(node.attrs.float("beta", 1.0).unwrap_or(1.0));
        let values: Vec<f32> = real(graph, id)?.iter().map(|b| (b * beta) as f32).collect();
        Some(Tensor::new([values.len()], &values))
    }
}
