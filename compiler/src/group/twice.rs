//! What is large, and quantized by its own range, is computed twice: once for the range, once for the bytes.
//!
//! ```text
//! y = gelu(x w + b)                     y' = gelu(x w + b)
//!                                       parts = for each row, some lanes: the largest y', the largest -y'
//! least, most = of all of y       ->    least, most = of all parts
//!                                       y = gelu(x w + b)
//! z = y / (most - least) ...            z = y / (most - least) ...
//! ```
//! Both halves are chains of which a few rows exist at a time (`crate::strips`), while `y` would be there as a whole until
//! its range is known. The same operations give the same numbers; of these, the largest are the same in any order. It
//! takes the time of the definition once more: `crate::plan` asks for it where memory is worth that. Golden:
//! `tests/golden/twice`.

use super::rewrite::{Copy, Var, keep, plain_var};
use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{self, DefBuilder, Definition, Expr, Index, Lowering, Operand, Stage, ValueId};
use crate::scalar::{Fold, Op};
use crate::schedule::linear::Layout;

/// Lanes of a row's parts: as many as rows need to be apart to be cut, and to fill vectors.
const LANES: std::ops::RangeInclusive<usize> = 8..=16;
/// How much larger than what it is computed from a value must be: that is kept until the second time.
const LARGER: usize = 4;
/// Multiply-adds that what is computed with a sum takes as long as, about.
const FINISH: f64 = 16.0;

/// A definition that is computed twice.
struct Twice {
    /// Its stage.
    at: usize,
    /// The stages that want its range, and how they fold it.
    ranges: Vec<(usize, Fold)>,
    /// The first stage that reads it otherwise.
    reader: usize,
    /// The dimension of its rows, the innermost one, and how many of its elements are lanes.
    rows: usize,
    inner: usize,
    lanes: usize,
}

/// What may be computed twice.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    /// At least so many bytes.
    pub bytes: usize,
    /// Of all that is computed, such a share at most.
    pub share: f64,
}

/// Computes twice what may be, where that helps; says whether anything does. `outputs` are the values that must be
/// written.
pub fn twice(lowering: &mut Lowering, layouts: &mut Vec<Layout>, outputs: &[ValueId], again: Again) -> bool {
    let stages = std::mem::take(&mut lowering.stages);
    let found: Vec<Twice> = (0..stages.len())
        .filter(|&i| cheap(&stages, i, again.share))
        .filter_map(|at| found(lowering, layouts, (&stages, at), outputs, again.bytes))
        .collect();
    let mut replaced: Vec<Vec<Stage>> = stages.into_iter().map(|s| vec![s]).collect();
    let mut any = false;
    for twice in &found {
        any |= rewrite(lowering, layouts, &mut replaced, twice).is_some();
    }
    lowering.stages = replaced.into_iter().flatten().collect();
    any
}

/// Whether a stage takes such a share of all that is computed at most.
fn cheap(stages: &[Stage], at: usize, share: f64) -> bool {
    let work = |stage: &Stage| match stage {
        Stage::Define(def) => def.volume() as f64 + FINISH * def.output.ty.elems() as f64,
        _ => 0.0,
    };
    share.is_infinite() || work(&stages[at]) <= share * stages.iter().map(work).sum::<f64>()
}

/// Whether a stage's definition can be computed twice, and helps.
fn found(
    lowering: &Lowering,
    layouts: &[Layout],
    (stages, at): (&[Stage], usize),
    outputs: &[ValueId],
    bytes: usize,
) -> Option<Twice> {
    let Stage::Define(def) = &stages[at] else { return None };
    let (value, ty) = (def.output.value, &def.output.ty);
    let computed = |o: &&Operand| lowering.values[o.value as usize].constant.is_none();
    let read: usize = def.operands.iter().filter(computed).map(|o| o.ty.bytes()).sum();
    let alone = stages.iter().flat_map(Stage::writes).filter(|&v| v == value).count() == 1;
    let large = ty.dtype == DType::F32 && ty.bytes() >= bytes.max(LARGER * read);
    if !large || !alone || outputs.contains(&value) || def.fold.is_none() || def.has_sizes() {
        return None;
    }
    let readers = (at + 1..stages.len()).filter(|&i| stages[i].reads().contains(&value));
    let (mut ranges, mut reader) = (Vec::new(), None);
    for i in readers {
        let Stage::Define(other) = &stages[i] else { return None };
        match (range(other, value), reader) {
            (Some(fold), None) => ranges.push((i, fold)),
            (Some(_), Some(_)) => return None,
            (None, first) => reader = first.or(Some(i)),
        }
    }
    let order = layouts[value as usize].order();
    let rows = order.iter().copied().find(|&d| ty.shape[d] > 1)?;
    let inner = order.iter().copied().rfind(|&d| ty.shape[d] > 1).filter(|&d| d != rows)?;
    let lanes = LANES.rev().find(|&n| ty.shape[inner].is_multiple_of(n))?;
    (!ranges.is_empty()).then_some(Twice { at, ranges, reader: reader?, rows, inner, lanes })
}

/// Whether a definition folds all of a value to its least or its largest element, and reads it no other way.
fn range(def: &Definition, value: ValueId) -> Option<Fold> {
    let fold = def.fold.as_ref().filter(|f| matches!(f.op, Fold::Min | Fold::Max))?;
    let of =
        |e: &Expr| matches!(e, Expr::Load { operand, .. } if def.operands[*operand as usize].value == value);
    let Expr::Load { operand, index, fill: None } = &def.exprs[fold.body as usize] else { return None };
    let ty = &def.operands[*operand as usize].ty;
    let mut walked: Vec<u32> = Vec::new();
    for (at, &extent) in index.iter().zip(&ty.shape) {
        let Index::Affine(form) = at else { return None };
        match plain_var(form) {
            Some(v) if v as usize >= def.axes && def.vars[v as usize].extent == extent => walked.push(v),
            None if extent == 1 && form.is_constant() => {}
            _ => return None,
        }
    }
    walked.sort_unstable();
    walked.dedup();
    let wide = index.len() - ty.shape.iter().filter(|&&n| n == 1).count();
    let whole = walked.iter().filter(|&&v| def.vars[v as usize].extent > 1).count() == wide;
    let one = def.vars[..def.axes].iter().all(|v| v.extent == 1);
    let once = of(&def.exprs[fold.body as usize]) && def.exprs.iter().filter(|e| of(e)).count() == 1;
    (whole && one && once && !def.has_sizes()).then_some(fold.op)
}

/// The stages of one definition that is computed twice.
fn rewrite(
    lowering: &mut Lowering,
    layouts: &mut Vec<Layout>,
    stages: &mut [Vec<Stage>],
    twice: &Twice,
) -> Option<()> {
    let Some(Stage::Define(def)) = stages[twice.at].last().cloned() else { return None };
    let (value, ty) = (def.output.value, def.output.ty.clone());
    let name = lowering.values[value as usize].name.clone();
    let parts_ty = TensorType::new(DType::F32, [ty.shape[twice.rows], 2, twice.lanes]);
    let ahead = lowering.temporary(format!("{name}.ahead"), ty.clone());
    layouts.push(layouts[value as usize].clone());
    let signs = Tensor::new([2], &[1.0_f32, -1.0]);
    let signs_ty = signs.ty.clone();
    let signs = lowering.constant(format!("{name}.signs"), signs);
    layouts.push(Layout::dense(&signs_ty.shape));
    let parts = lowering.temporary(format!("{name}.range"), parts_ty.clone());
    layouts.push(Layout::dense(&parts_ty.shape));
    let of_parts = |&(i, fold): &(usize, Fold)| match stages[i].last()? {
        Stage::Define(of) => Some((i, Stage::Define(joined(of, (parts, &parts_ty), fold)?))),
        _ => None,
    };
    let folds: Vec<(usize, Stage)> = twice.ranges.iter().map(of_parts).collect::<Option<_>>()?;
    let mut first = def.clone();
    first.output.value = ahead;
    let largest = largest((ahead, &ty), (signs, &signs_ty), (parts, &parts_ty), twice, &def.name);
    for (i, fold) in folds {
        stages[i].pop();
        stages[i].push(fold);
    }
    stages[twice.at].pop();
    stages[twice.at].extend([Stage::Define(first), Stage::Define(largest)]);
    let last = stages[twice.reader].len() - 1;
    stages[twice.reader].insert(last, Stage::Define(def));
    Some(())
}

/// The largest element and the largest negative of each row, for some lanes.
fn largest(
    (value, ty): (ValueId, &TensorType),
    (signs, signs_ty): (ValueId, &TensorType),
    (parts, parts_ty): (ValueId, &TensorType),
    twice: &Twice,
    name: &str,
) -> Definition {
    let mut b = DefBuilder::new(&parts_ty.shape);
    let mut index = Vec::new();
    for (d, &extent) in ty.shape.iter().enumerate() {
        index.push(match d {
            _ if d == twice.rows => b.var(0),
            _ if d == twice.inner => {
                let groups = b.reduce(&format!("k{d}"), extent / twice.lanes);
                groups.scaled(twice.lanes as i64).plus(&b.var(2))
            }
            _ if extent == 1 => Affine::constant(0),
            _ => b.reduce(&format!("k{d}"), extent),
        });
    }
    let element = b.load(value, ty, index);
    let sign = b.var(1);
    let sign = b.load(signs, signs_ty, vec![sign]);
    let signed = b.op(Op::Mul, &[element, sign]);
    let most = b.fold(Fold::Max, signed);
    b.finish(&format!("{name}/range"), parts, parts_ty, most)
}

/// A fold of a value as one of its parts.
fn joined(def: &Definition, (parts, ty): (ValueId, &TensorType), fold: Fold) -> Option<Definition> {
    let mut vars = def.vars[..def.axes].to_vec();
    vars.extend(
        [("r0", ty.shape[0]), ("r1", ty.shape[2])].map(|(n, extent)| definition::Var::new(n, extent)),
    );
    let mut b = DefBuilder::with_vars(vars, def.axes);
    let negative = fold == Fold::Min;
    let index = vec![b.var(def.axes), Affine::constant(i64::from(negative)), b.var(def.axes + 1)];
    let element = b.load(parts, ty, index);
    let most = b.fold(Fold::Max, element);
    let acc = if negative { b.op(Op::Neg, &[most]) } else { most };
    let same: Vec<Var> = (0..def.vars.len() as u32).map(|v| Var::Affine(Affine::var(v))).collect();
    let finish = Copy::new(def, &same, Some(acc)).expr(&mut b, def.finish, &mut keep)?;
    Some(b.finish_at(&def.name, def.output.value, &def.output.ty, def.store.clone(), finish))
}
