//! Padded tensors: a middle that one definition writes, and a rim of one constant around it.
//!
//! Rows of such a tensor share their rims in memory: what lies behind one row is what lies before the next, the
//! same constant, so that a row begins where the last one's middle ends. A tensor of 14 x 14 points with a rim of
//! one has 16 rows of 15 points in place of 16.

use crate::definition::{Definition, Expr, Stage, ValueId};
use crate::scalar::Scalar;
use crate::schedule::linear::Layout;
use std::collections::HashMap;

/// What surrounds the middle of a padded tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The constant.
    pub fill: Scalar,
    /// Elements of it before and behind the middle, per dimension.
    pub before: Vec<usize>,
    pub behind: Vec<usize>,
}

impl Frame {
    /// The layout in an order of memory, outermost first, in which neighbours share their rims.
    pub fn layout(&self, shape: &[usize], order: &[usize]) -> Layout {
        let mut strides = vec![0; shape.len()];
        let mut next = 1;
        for &d in order.iter().rev() {
            strides[d] = next;
            next *= (shape[d] - self.before[d].min(self.behind[d])).max(1) as i64;
        }
        Layout { offset: 0, strides }
    }
}

/// The values that one definition writes but for a rim of one constant.
pub fn frames(stages: &[Stage]) -> HashMap<ValueId, Frame> {
    let mut writers: HashMap<ValueId, Vec<&Stage>> = HashMap::new();
    for stage in stages {
        stage.writes().into_iter().for_each(|v| writers.entry(v).or_default().push(stage));
    }
    let frame = |(value, stages): (ValueId, Vec<&Stage>)| {
        let (around, within): (Vec<&Stage>, Vec<&Stage>) = stages.into_iter().partition(|s| rim(s).is_some());
        let [Stage::Define(middle)] = within.as_slice() else { return None };
        let mut rims = around.into_iter().filter_map(rim);
        let (first, fill) = rims.next()?;
        let same = std::iter::once((first, fill)).chain(rims).all(|(d, f)| f == fill && apart(middle, d));
        let own = middle.operands.iter().any(|o| o.value == value);
        let (before, behind) = (0..middle.store.len()).map(|dim| around_middle(middle, dim)).unzip();
        (same && !own && !middle.has_sizes()).then_some((value, Frame { fill, before, behind }))
    };
    writers.into_iter().filter_map(frame).collect()
}

/// Elements of a dimension before and behind those that a definition stores.
fn around_middle(middle: &Definition, dim: usize) -> (usize, usize) {
    let (low, high) = middle.store[dim].range(|v| middle.vars[v as usize].extent);
    (low as usize, middle.output.ty.shape[dim] - 1 - high as usize)
}

/// A definition that stores one constant.
pub fn rim(stage: &Stage) -> Option<(&Definition, Scalar)> {
    match stage {
        Stage::Define(d) if d.operands.is_empty() && d.fold.is_none() && !d.has_sizes() => {
            match d.exprs.get(d.finish as usize) {
                Some(Expr::Const(fill)) => Some((d, *fill)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether two definitions store different elements, for along some dimension they are apart.
fn apart(a: &Definition, b: &Definition) -> bool {
    let range = |d: &Definition, dim: usize| d.store[dim].range(|v| d.vars[v as usize].extent);
    (0..a.store.len()).any(|dim| {
        let ((a_low, a_high), (b_low, b_high)) = (range(a, dim), range(b, dim));
        a_high < b_low || b_high < a_low
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DType;

    #[test]
    fn neighbours_share_their_rims() {
        let fill = Scalar::from_f64(DType::U8, 7.0);
        let frame = Frame { fill, before: vec![0, 0, 1, 1], behind: vec![0, 0, 2, 1] };
        let layout = frame.layout(&[2, 8, 17, 16], &[0, 2, 3, 1]);
        assert_eq!(layout.strides, [16 * 15 * 8, 1, 15 * 8, 8]);
        // What two indices share is rim for both.
        let middle = |i: [usize; 4]| (1..15).contains(&i[2]) && (1..15).contains(&i[3]);
        let mut found: HashMap<i64, bool> = HashMap::new();
        for n in 0..2 * 17 * 16 {
            let index = [n / (17 * 16), 0, n / 16 % 17, n % 16];
            let at = index.iter().zip(&layout.strides).map(|(&i, s)| i as i64 * s).sum();
            let before = found.insert(at, middle(index));
            assert!(before.is_none_or(|b| !b && !middle(index)), "{index:?}");
        }
    }
}
