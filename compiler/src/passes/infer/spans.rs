//! Spans whose length is the same in every iteration of a loop, although it is computed: `x[i:min(i + 1, n)]`, as
//! converters of assignments to a row write it (Paddle's `set_value`).
//!
//! Where both ends depend on counters alone they are followed through the iterations, and the end is rewritten as the
//! start plus the distance: [`super::moving`] takes that.

use super::counters::{Counting, MAX_COUNTED};
use super::{Binding, Driver};
use crate::base::{DType, Tensor};
use crate::import::{Body, Declared, SourceNode};

/// Reads the shape alone.
const SHAPES: [&str; 2] = ["Shape", "Size"];

/// Which inputs of an operator are start and end.
const ENDS: [(&str, [usize; 2]); 2] = [("Range", [0, 1]), ("Slice", [1, 2])];

/// Names of start and end where a node computes both.
fn ends(node: &SourceNode) -> Option<(&str, &str, usize)> {
    let (_, [start, end]) = ENDS.iter().find(|(op, _)| node.domain.is_empty() && node.op == *op)?;
    let name = |i: usize| node.inputs.get(i).map(String::as_str);
    Some((name(*start)?, name(*end)?, *end))
}

impl Driver {
    /// The body of a loop of at most so many iterations with its spans rewritten; `None` where it has none.
    pub(super) fn spans(
        &mut self,
        body: &Body,
        most: Option<i64>,
        carried: &[Option<Binding>],
    ) -> Option<Body> {
        let most = most.filter(|&m| m > 0 && m <= MAX_COUNTED)?;
        let mut found: Vec<(usize, Tensor)> = Vec::new();
        let mut known: Option<Body> = None;
        for (place, node) in body.nodes.iter().enumerate() {
            let Some((start, end, _)) = ends(node) else { continue };
            if body.nodes.iter().all(|n| !n.outputs.iter().any(|o| o == end)) {
                continue;
            }
            let known = known.get_or_insert_with(|| self.with_shapes(body, carried));
            let declared = [start, end].map(Declared::plain).to_vec();
            let counting = self.counting(known, declared, carried);
            found.extend(counting.and_then(|c| self.distance(c, most)).map(|d| (place, d)));
        }
        let mut whole = (!found.is_empty()).then(|| body.clone())?;
        for (place, distance) in found.into_iter().rev() {
            let (start, end, input) = ends(&body.nodes[place])?;
            let [by, sum] = ["distance", "end"].map(|what| format!("{end}/{place}/{what}"));
            let add = SourceNode::plain("Add", 14, &[start, &by], &sum);
            whole.constants.push((by, distance));
            whole.nodes[place].inputs[input] = sum;
            whole.nodes.insert(place, add);
        }
        Some(whole)
    }

    /// The body with constants where only the shapes of carried values are read: these don't change.
    fn with_shapes(&self, body: &Body, carried: &[Option<Binding>]) -> Body {
        let mut body = body.clone();
        for (input, binding) in body.inputs.iter().skip(2).zip(carried) {
            let Some(Binding::Value(id)) = binding else { continue };
            let ty = self.graph().value(*id).ty.clone();
            let shaped = format!("{}/shape", input.name);
            let reads = |n: &&mut SourceNode| {
                SHAPES.contains(&n.op.as_str()) && n.inputs.first() == Some(&input.name)
            };
            let mut readers = body.nodes.iter_mut().filter(reads).peekable();
            let Some(zeros) =
                readers.peek().and_then(|_| Tensor::from_bytes(ty.clone(), vec![0; ty.bytes()]))
            else {
                continue;
            };
            readers.for_each(|n| n.inputs[0] = shaped.clone());
            body.constants.push((shaped, zeros));
        }
        body
    }

    /// The second of two names less the first, where that is the same in all iterations.
    fn distance(&mut self, mut counting: Counting, most: i64) -> Option<Tensor> {
        let mut same: Option<Tensor> = None;
        for _ in 0..most {
            let names = self.count(&mut counting)?;
            let [start, end] = names.as_slice() else { return None };
            let (from, to) = (start.to_i64s()?, end.to_i64s()?);
            let less = |(a, b): (&i64, &i64)| b.checked_sub(*a);
            let apart: Vec<i64> = from.iter().zip(&to).map(less).collect::<Option<_>>()?;
            let apart = match start.ty.dtype {
                _ if start.ty != end.ty => return None,
                DType::I64 => Tensor::new(start.ty.shape.clone(), &apart),
                DType::I32 => {
                    let narrow =
                        apart.iter().map(|&d| i32::try_from(d).ok()).collect::<Option<Vec<i32>>>()?;
                    Tensor::new(start.ty.shape.clone(), &narrow)
                }
                _ => return None,
            };
            if same.get_or_insert(apart.clone()) != &apart {
                return None;
            }
        }
        same
    }
}
