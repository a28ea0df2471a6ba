//! Weights that are kept quantized are put back where loops multiply by them.
//!
//! Outside of a loop they would be stored as floats, in the arena that their quantization has made smaller,
//! and every iteration would read those. Products of few rows, as steps of recurrent operators are, read each
//! weight a few times; they wait for memory, not for the conversion.

use super::inline::{dequantizes, is_factor, reads_at_most};
use crate::definition::{Definition, LoweredValue, Repeat, Stage, ValueId};

/// Products of one iteration of which each weight is a factor at most.
const FEW: usize = 4;

/// Moves definitions of dequantized constants into the loops that alone read them, into each a copy that
/// writes a value of its own; whether there was one.
pub fn sink_weights(values: &mut Vec<LoweredValue>, stages: &mut Vec<Stage>, outputs: &[ValueId]) -> bool {
    let mut moved = false;
    // From the last stage on: what reads a value is behind it.
    for stage in std::mem::take(stages).into_iter().rev() {
        match stage {
            Stage::Define(def) if sinks(&def, values, stages, outputs) => {
                for reader in stages.iter_mut() {
                    if let Stage::Repeat(repeat) = reader
                        && readers(&repeat.body, def.output.value).next().is_some()
                    {
                        put_into(values, repeat, &def);
                    }
                }
                moved = true;
            }
            stage => stages.push(stage),
        }
    }
    stages.reverse();
    moved
}

/// Whether a definition makes weights of constants, and only products of few rows in loops read them.
fn sinks(def: &Definition, values: &[LoweredValue], behind: &[Stage], outputs: &[ValueId]) -> bool {
    let value = def.output.value;
    let constant = |v: ValueId| values[v as usize].constant.is_some();
    let multiplied = |stage: &Stage| match stage {
        Stage::Define(d) => is_factor(d, value) && reads_at_most(FEW, d, value),
        _ => false,
    };
    let fits = |stage: &Stage| match stage {
        Stage::Repeat(r) => {
            readers(&r.body, value).next().is_some() && readers(&r.body, value).all(multiplied)
        }
        _ => false,
    };
    dequantizes(def, &constant)
        && !outputs.contains(&value)
        && readers(behind, value).next().is_some()
        && readers(behind, value).all(fits)
}

/// The stages that read a value.
fn readers(stages: &[Stage], value: ValueId) -> impl Iterator<Item = &Stage> {
    stages.iter().filter(move |s| s.reads().contains(&value))
}

/// Puts a copy of a definition at the beginning of a loop, whose stages read what that writes.
fn put_into(values: &mut Vec<LoweredValue>, repeat: &mut Repeat, def: &Definition) {
    let (old, new) = (def.output.value, values.len() as ValueId);
    let value = values[old as usize].clone();
    values.push(value);
    for stage in &mut repeat.body {
        if let Stage::Define(d) = stage {
            d.operands.iter_mut().filter(|o| o.value == old).for_each(|o| o.value = new);
        }
    }
    let mut copy = def.clone();
    copy.output.value = new;
    repeat.body.insert(0, Stage::Define(copy));
}

#[cfg(test)]
mod tests {
    use crate::base::{DType, Tensor, TensorType};
    use crate::definition::{Carry, DefBuilder, Lowering, Repeat, Stage, verify};
    use crate::group::fuse;
    use crate::group::tests::result;
    use crate::scalar::{Fold, Op};

    /// Two loops of `rows` states each, `h = h * (w / 2)`, of which the second begins with the first's result.
    fn steps(rows: usize) -> Lowering {
        let (h, w) = (TensorType::new(DType::F32, [rows, 4]), TensorType::new(DType::F32, [4, 4]));
        let mut low = Lowering::default();
        let stored = low
            .constant("stored", Tensor::new([4, 4], &[1i8, 2, 0, -1, 3, 1, 1, 0, 0, 2, -2, 1, 1, 0, 1, -1]));
        let first = low.constant("first", Tensor::new([rows, 4], &vec![1f32; rows * 4]));
        let (last, weights) = (low.temporary("last", h.clone()), low.temporary("weights", w.clone()));
        let mut b = DefBuilder::new(&w.shape);
        let axes = b.axes();
        let element = b.load(stored, &TensorType::new(DType::I8, [4, 4]), axes);
        let (element, half) = (b.cast(DType::F32, element), b.number(DType::F32, 0.5));
        let element = b.op(Op::Mul, &[element, half]);
        low.define(b.finish("weights", weights, &w, element));
        let between = low.temporary("between", h.clone());
        for (initial, last) in [(first, between), (between, last)] {
            let (state, next) = (low.temporary("state", h.clone()), low.temporary("next", h.clone()));
            let mut b = DefBuilder::new(&h.shape);
            let k = b.reduce("k", 4);
            let (row, column) = (vec![b.var(0), k.clone()], vec![k, b.var(1)]);
            let (x, y) = (b.load(state, &h, row), b.load(weights, &w, column));
            let product = b.op(Op::Mul, &[x, y]);
            let sum = b.fold(Fold::Sum, product);
            let body = vec![Stage::Define(b.finish("step", next, &h, sum))];
            let carries = vec![Carry { initial, state, next, last }];
            low.stages.push(Stage::Repeat(Repeat {
                count: 3,
                size: None,
                condition: None,
                slices: vec![],
                carries,
                body,
            }));
        }
        low
    }

    /// Stages outside of the loops, after fusion, which changes no result.
    fn outside(rows: usize) -> usize {
        let mut low = steps(rows);
        let before = result(&low);
        fuse(&mut low, &[2]);
        verify(&low).unwrap();
        assert_eq!(before, result(&low));
        low.stages.iter().filter(|s| matches!(s, Stage::Define(_))).count()
    }

    #[test]
    fn few_rows_take_the_weights_as_they_are_stored() {
        assert_eq!(outside(1), 0);
        assert_eq!(outside(16), 1);
    }
}
