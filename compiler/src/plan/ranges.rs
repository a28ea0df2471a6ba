//! How large the floats between definitions are.
//!
//! A float that bytes or bounded functions make is bounded, too: what is resized, scaled or added up between two
//! quantizations by definitions of their own. Quantization of a number that is known to be one takes fewer
//! instructions (`nest/requantize.rs`), so what writes a value tells those that read it.

use crate::base::DType;
use crate::definition::{Stage, ValueId};
use crate::nest::{Range, range};
use crate::schedule::linear::{Linear, Magnitude, Node};
use std::collections::HashMap;

/// Powers of two are multiples of this, so that kernels that differ in no more than how large numbers are stay one.
const COARSE: i32 = 8;

/// What is known of values.
pub(super) struct Ranges {
    /// How many stages write each value, wherever they are.
    writers: HashMap<ValueId, usize>,
    known: HashMap<ValueId, Magnitude>,
}

impl Ranges {
    /// Nothing but who writes.
    pub fn new(stages: &[Stage]) -> Ranges {
        let mut ranges = Ranges { writers: HashMap::new(), known: HashMap::new() };
        ranges.count(stages);
        ranges
    }

    fn count(&mut self, stages: &[Stage]) {
        for stage in stages {
            stage.writes().into_iter().for_each(|v| *self.writers.entry(v).or_default() += 1);
            match stage {
                Stage::Repeat(repeat) => self.count(&repeat.body),
                Stage::Strips(strips) => self.count(&strips.body),
                Stage::Define(_) | Stage::Routine(_) | Stage::Reshape { .. } => {}
            }
        }
    }

    /// Learns from the definition of a value, where nothing else writes it; `values` are its operands.
    pub fn learn(&mut self, value: ValueId, linear: &Linear, values: impl Fn(usize) -> ValueId) {
        if linear.output.dtype == DType::F32 && self.writers.get(&value) == Some(&1) {
            let mut told = linear.clone();
            self.fill(&mut told, values);
            self.known.extend(magnitude(range(&told, told.finish)).map(|m| (value, m)));
        }
    }

    /// A value has the elements of another one.
    pub fn same(&mut self, from: ValueId, to: ValueId) {
        if let (Some(&known), Some(1)) = (self.known.get(&from), self.writers.get(&to)) {
            self.known.insert(to, known);
        }
    }

    /// Tells a definition that quantizes what is known of its operands.
    pub fn tell(&self, linear: &mut Linear, values: impl Fn(usize) -> ValueId) {
        let floats = |id: u32| linear.types[id as usize] == DType::F32;
        let narrows = |n: &Node| match n {
            Node::Cast { to, arg, .. } => to.is_int() && to.bits() <= 16 && floats(*arg),
            _ => false,
        };
        if linear.nodes.iter().any(narrows) {
            self.fill(linear, values);
        }
    }

    fn fill(&self, linear: &mut Linear, values: impl Fn(usize) -> ValueId) {
        for (operand, buffer) in linear.buffers.iter_mut().enumerate() {
            if buffer.magnitude.is_none() {
                buffer.magnitude = self.known.get(&values(operand)).copied();
            }
        }
    }
}

/// The power of two that numbers stay below.
fn magnitude(range: Range) -> Option<Magnitude> {
    let most = range.lo.abs().max(range.hi.abs());
    let known = most.is_finite() && !range.nan;
    let below = |most: f64| (most.max(1.0).log2().floor() as i32 / COARSE + 1) * COARSE;
    known.then(|| Magnitude { least: i32::MIN, below: below(most) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::TensorType;
    use crate::definition::{DefBuilder, Definition};
    use crate::scalar::Op;
    use crate::schedule::linear::Layout;

    const SHAPE: [usize; 1] = [37];

    /// `y = x * x`, of another type where it is none of floats.
    fn square(x: (ValueId, DType), y: (ValueId, DType)) -> Definition {
        let [from, to] = [x.1, y.1].map(|dtype| TensorType::new(dtype, SHAPE));
        let mut b = DefBuilder::new(&SHAPE);
        let at = b.axes();
        let element = b.load(x.0, &from, at);
        let element = if from.dtype == DType::F32 { element } else { b.cast(DType::F32, element) };
        let square = b.op(Op::Mul, &[element, element]);
        let result = if to.dtype == DType::F32 { square } else { b.cast(to.dtype, square) };
        b.finish("square", y.0, &to, result)
    }

    fn linear(def: &Definition) -> Linear {
        let layout = Layout::dense(&SHAPE);
        Linear::new(def, std::slice::from_ref(&layout), &[false], &layout)
    }

    /// What the last of three definitions knows of what it reads.
    fn known(definitions: [Definition; 3], others: &[Definition]) -> Option<Magnitude> {
        let stages: Vec<Stage> = definitions.iter().chain(others).cloned().map(Stage::Define).collect();
        let mut ranges = Ranges::new(&stages);
        let mut last = None;
        for def in &definitions {
            let mut linear = linear(def);
            ranges.tell(&mut linear, |operand| def.operands[operand].value);
            ranges.learn(def.output.value, &linear, |operand| def.operands[operand].value);
            last = linear.buffers[0].magnitude;
        }
        last
    }

    #[test]
    fn what_bytes_make_is_bounded_where_nothing_else_writes_it() {
        let bytes = |to| [square((0, DType::I8), (1, DType::F32)), square((1, DType::F32), (2, to))];
        let chain = |first: DType, to: DType| {
            let [a, b] = bytes(DType::F32);
            let a = if first == DType::F32 { square((0, first), (1, DType::F32)) } else { a };
            [a, b, square((if to == DType::F32 { 2 } else { 1 }, DType::F32), (3, to))]
        };
        // The square of a byte is 2^14 at most; a number below 2^16 has one that rounds to 2^32 at most.
        let below = |below| Some(Magnitude { least: i32::MIN, below });
        assert_eq!(known(chain(DType::I8, DType::I8), &[]), below(16));
        let [a, b, _] = chain(DType::I8, DType::I8);
        assert_eq!(known([a, b, square((2, DType::F32), (3, DType::I8))], &[]), below(40));
        assert_eq!(known(chain(DType::F32, DType::I8), &[]), None, "of any float");
        assert_eq!(known(chain(DType::I8, DType::F32), &[]), None, "nothing is quantized");
        let other = square((0, DType::I8), (1, DType::F32));
        assert_eq!(known(chain(DType::I8, DType::I8), &[other]), None, "there is another writer");
    }
}
