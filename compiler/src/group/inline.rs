//! Producers computed where they are read: movement always, arithmetic where no element is
//! computed twice.
//!
//! Before: `t[i,j] = x[j,i]` and `y[i] = sum(k) t[i,k] * w[k]`. After: `y[i] = sum(k) x[k,i] * w[k]`.
//! Pads with the same fill join the reader's own padding; a merging reshape splits the reader's
//! variable. Goldens: `tests/golden/group`.

use super::element;
use super::rewrite::{Var, copied_load, plain_var, replace_loads, split_vars, store_axes, with_vars};
use crate::base::{Affine, DType, TensorType};
use crate::definition::{Definition, Expr, ExprId, Index, ValueId};
use crate::scalar::math::primitives;
use crate::scalar::{Op, Scalar};

/// Expressions in one definition at most: more would only lengthen compilation.
pub const MAX_EXPRS: usize = 400;

/// The reader with the producer computed at each of its loads; `None` where that is not possible
/// or does not pay.
pub fn inline(
    reader: &Definition,
    producer: &Definition,
    constant: &dyn Fn(ValueId) -> bool,
    only_reader: bool,
) -> Option<Definition> {
    let moves = copied_load(producer).is_some();
    if producer.fold.is_some() || reader.exprs.len() + producer.exprs.len() > MAX_EXPRS {
        return None;
    }
    let value = producer.output.value;
    let computed = producer.operands.iter().any(|o| o.ty.elems() > 1 && !constant(o.value));
    let widened = reads_at_most(WIDENED, reader, value) || computed && multiplies_bytes(reader, value);
    let cheap = widens(producer) && widened || pays(reader, producer, constant);
    if !(moves || cheap || only_reader && reads_at_most(1, reader, value)) {
        return None;
    }
    let pads = |d: &Definition| d.exprs.iter().any(|e| matches!(e, Expr::Load { fill: Some(_), .. }));
    if producer.has_sizes() && pads(producer) || reader.has_sizes() && pads(reader) {
        return None;
    }
    if !padding_fits(reader, producer) {
        return None;
    }
    let axes = store_axes(producer)?;
    let mut possible = true;
    let replaced = replace_loads(reader, &mut |b, operand, index, fill| {
        if reader.operands[operand as usize].value != value {
            return None;
        }
        let checked = fill.is_none() || unit_dims_inside(reader, producer, &axes, index);
        let inlined = if checked { element::at(b, producer, &axes, index, fill) } else { None };
        possible &= inlined.is_some();
        inlined
    })?;
    possible.then_some(replaced)
}

/// Whether a definition computes with `f64`.
fn doubles(def: &Definition) -> bool {
    def.expr_types().contains(&DType::F64)
}

/// Primitive operations of a function that is worth vectors of its own.
const COSTLY: usize = 8;

/// Whether one of two definitions computes with `f64`, and the other one would be slower beside it: a fold, which has
/// lanes of one width, or functions, which are as long in half of a vector.
pub fn needs_lanes(reader: &Definition, producer: &Definition) -> bool {
    let narrow = match (doubles(reader), doubles(producer)) {
        (true, false) => producer,
        (false, true) => reader,
        _ => return false,
    };
    let types = narrow.expr_types();
    let costly = |e: &Expr| match e {
        Expr::Op(op, args) => args.last().is_some_and(|&a| primitives(*op, types[a as usize]) >= COSTLY),
        _ => false,
    };
    narrow.fold.is_some() || narrow.exprs.iter().any(costly)
}

/// Points of an axis from which on lanes are worth filling along it.
const LONG: usize = 8;

/// Whether a copy picks single elements by computed indices, as a table of biases by a table of
/// distances: what reads them there could fill no lanes, and a product would sum point by point.
pub fn picks(copy: &Definition, constant: &dyn Fn(ValueId) -> bool) -> bool {
    let Some((operand, index, _)) = copied_load(copy) else { return false };
    let computed = index.iter().filter_map(|i| match i {
        Index::Dynamic(e) => Some(*e),
        Index::Affine(_) => None,
    });
    let computed: Vec<ExprId> = computed.collect();
    if computed.is_empty() {
        return false;
    }
    let moving = |v: u32| computed.iter().any(|&e| copy.walks(e, |moved| moved == v));
    // Neighbours lie in the last dimension of a constant; another value's layout can be chosen.
    let last = constant(copy.operands[operand as usize].value);
    let along = |i: &Index| match i {
        Index::Affine(form) => {
            plain_var(form).is_some_and(|v| copy.vars[v as usize].extent >= LONG && !moving(v))
        }
        Index::Dynamic(_) => false,
    };
    !index[if last { index.len() - 1 } else { 0 }..].iter().any(along)
}

/// Whether a copy picks single elements of a value.
pub fn picks_from(copy: &Definition, value: ValueId, constant: &dyn Fn(ValueId) -> bool) -> bool {
    let picked = copied_load(copy).map(|(operand, ..)| copy.operands[operand as usize].value);
    picked == Some(value) && picks(copy, constant)
}

/// Products of which an element is a factor from which on it is worth gathering it first.
const OFTEN: usize = 16;

/// Whether a copy gathers rows by computed indices for a sum of many products of each element: computed
/// there, each tile of the product would compute the indices of its rows again.
pub fn gathers_factor(copy: &Definition, reader: &Definition) -> bool {
    let value = copy.output.value;
    let computed = |(_, index, _): (u32, &Vec<Index>, Option<Scalar>)| {
        index.iter().any(|i| matches!(i, Index::Dynamic(_)))
    };
    copied_load(copy).is_some_and(computed)
        && is_factor(reader, value)
        && !reads_at_most(OFTEN, reader, value)
}

/// Whether a reader's index stays inside in each dimension that is no axis of the producer: the
/// source has no such dimension to test it against.
fn unit_dims_inside(
    reader: &Definition,
    producer: &Definition,
    axes: &[Option<usize>],
    index: &[Index],
) -> bool {
    let extents = &producer.output.ty.shape;
    index.iter().zip(extents).enumerate().filter(|(d, _)| !axes.contains(&Some(*d))).all(
        |(_, (i, &extent))| {
            let Index::Affine(form) = i else { return false };
            let (least, most) = form.range(|v| reader.vars[v as usize].extent);
            least >= 0 && most < extent as i64
        },
    )
}

/// Padding joins the padding of a fold, whose schedule avoids it; elsewhere it would be tested
/// element by element.
fn padding_fits(reader: &Definition, producer: &Definition) -> bool {
    let Some((_, _, Some(_))) = copied_load(producer) else { return true };
    let in_fold = in_fold(reader);
    let reads = |e: &Expr| matches!(e, Expr::Load { operand, .. } if reader.operands[*operand as usize].value == producer.output.value);
    reader.exprs.iter().zip(&in_fold).all(|(e, in_fold)| *in_fold || !reads(e))
}

/// Which expressions are computed at each step of a definition's fold.
fn in_fold(def: &Definition) -> Vec<bool> {
    let mut inside = vec![false; def.exprs.len()];
    if let Some(fold) = &def.fold {
        inside[fold.body as usize] = true;
    }
    for e in (0..def.exprs.len()).rev() {
        match &def.exprs[e] {
            _ if !inside[e] => {}
            Expr::Op(_, args) => args.iter().for_each(|&a| inside[a as usize] = true),
            Expr::Cast { arg, .. } | Expr::Bitcast { arg, .. } => inside[*arg as usize] = true,
            _ => {}
        }
    }
    inside
}

/// A tensor that is wider than what it is made of is computed by every reader that reads no
/// element more often than this.
const WIDENED: usize = 4;

/// Whether a definition only shifts and scales the elements of one narrower tensor, as a
/// dequantization does: loading the narrow ones again costs less than storing wide ones.
pub fn widens(producer: &Definition) -> bool {
    let size = |dtype: DType| dtype.size();
    let out = size(producer.output.ty.dtype);
    let (tensors, numbers): (Vec<_>, Vec<_>) = producer.operands.iter().partition(|o| o.ty.elems() > 1);
    let narrow = tensors.len() == 1 && tensors.iter().all(|o| size(o.ty.dtype) * 2 <= out);
    narrow && shifts_and_scales(producer) && numbers.len() <= 2
}

/// Whether a definition makes bytes of the products of a value and other bytes, as blocks do that weigh their
/// channels: of two bytes as integers these take one scale, however often each byte is widened for that.
fn multiplies_bytes(reader: &Definition, value: ValueId) -> bool {
    let byte = |ty: &TensorType| ty.dtype.size() == 1;
    let mut others = reader.operands.iter().filter(|o| o.value != value && o.ty.elems() > 1);
    let other = others.next().is_some_and(|o| byte(&o.ty)) && others.next().is_none();
    other && byte(&reader.output.ty) && scales_by(reader, value)
}

/// Whether a definition multiplies by the elements of a value, and sums nothing.
pub fn scales_by(reader: &Definition, value: ValueId) -> bool {
    let reads = |e: &ExprId| matches!(&reader.exprs[*e as usize], Expr::Load { operand, .. } if reader.operands[*operand as usize].value == value);
    let product = |e: &Expr| matches!(e, Expr::Op(Op::Mul, args) if args.iter().any(reads));
    reader.fold.is_none() && reader.exprs.iter().any(product)
}

fn shifts_and_scales(producer: &Definition) -> bool {
    producer.exprs.iter().all(|e| match e {
        Expr::Op(op, _) => matches!(op, Op::Add | Op::Sub | Op::Mul),
        Expr::Load { fill, .. } => fill.is_none(),
        Expr::Const(_) | Expr::Cast { .. } => true,
        _ => false,
    })
}

/// Whether a definition makes a wider tensor of constants alone: weights that are kept quantized.
/// Stored as floats they would fill the arena that their quantization has made smaller; in the
/// registers of a product's tile they are computed once for all its rows.
pub fn dequantizes(producer: &Definition, constant: &dyn Fn(ValueId) -> bool) -> bool {
    let from: usize = producer.operands.iter().map(|o| o.ty.bytes()).sum();
    let constants = producer.operands.iter().all(|o| constant(o.value));
    producer.fold.is_none() && constants && from < producer.output.ty.bytes() && shifts_and_scales(producer)
}

/// Whether weights that are kept quantized are dequantized where they are read: by products, and by what reads
/// few of them.
fn pays(reader: &Definition, producer: &Definition, constant: &dyn Fn(ValueId) -> bool) -> bool {
    let value = producer.output.value;
    dequantizes(producer, constant) && (is_factor(reader, value) || reads_at_most(WIDENED, reader, value))
}

/// Whether a definition sums products of which a value is one factor.
pub fn is_factor(reader: &Definition, value: ValueId) -> bool {
    let reads = |e: ExprId| {
        let factor = reader.behind_casts(e);
        matches!(factor, Expr::Load { operand, .. } if reader.operands[*operand as usize].value == value)
    };
    reader.factors().is_some_and(|factors| factors.into_iter().any(reads))
}

/// Whether a definition reads each element of a value at most so often; where that is once,
/// computing it there costs no more than computing it first.
pub fn reads_at_most(times: usize, reader: &Definition, value: ValueId) -> bool {
    let in_fold = in_fold(reader);
    let loads: Vec<usize> = (0..reader.exprs.len())
        .filter(|&e| matches!(&reader.exprs[e], Expr::Load { operand, .. } if reader.operands[*operand as usize].value == value))
        .collect();
    if reader.fold.is_some() && loads.len() != 1 {
        return false;
    }
    // What is read where a fold ends is read once for each sum.
    let vars = if loads.iter().any(|&e| in_fold[e]) { &reader.vars } else { &reader.vars[..reader.axes] };
    let points: usize = vars.iter().map(|v| v.extent).product();
    let elems = reader.operands.iter().find(|o| o.value == value).map_or(0, |o| o.ty.elems());
    loads.len() * points <= times * elems.max(1)
}

/// The reader and a merging copy, or a dequantization by blocks, with the reader's variables split to
/// fit it; the producer is then an identity of its parts.
pub fn inline_merging(
    reader: &Definition,
    producer: &Definition,
    constant: &dyn Fn(ValueId) -> bool,
) -> Option<Definition> {
    let value = producer.output.value;
    let copies = matches!(copied_load(producer), Some((_, _, None)));
    if !(copies || pays(reader, producer, constant)) {
        return None;
    }
    let index = only_load(reader, value)?;
    let Merging { parts, places } = merging(reader, producer, index)?;
    let split = split_vars(reader, &parts);
    let renamed = with_vars(reader, &split)?;
    let mut possible = true;
    let replaced = replace_loads(&renamed, &mut |b, operand, index, _| {
        if renamed.operands[operand as usize].value != value {
            return None;
        }
        let var = |axis: usize| match places[axis] {
            None => Var::Affine(Affine::constant(0)),
            Some((d, None)) => element::var(&index[d]),
            Some((_, Some(var))) => Var::Affine(Affine::var(split.part[var as usize][&(axis as u32)])),
        };
        let vars: Vec<Var> = (0..producer.axes).map(var).collect();
        let inlined = element::of(b, producer, &vars);
        possible &= inlined.is_some();
        inlined
    })?;
    possible.then_some(replaced)
}

/// The parts of a mixed-radix variable: `(axis, factor, extent)`, outermost first.
type Parts = Vec<(u32, i64, usize)>;

/// How a reader's variables are split to fit what merges axes.
struct Merging {
    /// The parts of each variable of the reader that is split.
    parts: Vec<Option<Parts>>,
    /// Where each axis of the producer lies in its output: the dimension, and the reader's variable that runs
    /// over it where that is split.
    places: Vec<Option<(usize, Option<u32>)>>,
}

/// Each dimension of the producer's output: one plain variable of the reader that runs over all of it, or
/// anything where the dimension is one plain axis of the producer.
fn merging(reader: &Definition, producer: &Definition, index: &[Index]) -> Option<Merging> {
    let mut parts: Vec<Option<Parts>> = vec![None; reader.vars.len()];
    let mut places: Vec<Option<(usize, Option<u32>)>> = vec![None; producer.axes];
    for (d, (form, at)) in producer.store.iter().zip(index).enumerate() {
        if form.base != 0 || form.has_size() {
            return None;
        }
        match form.terms.as_slice() {
            [] => {}
            [(axis, 1)] => places[*axis as usize] = Some((d, None)),
            terms => {
                let Index::Affine(at) = at else { return None };
                let var = plain_var(at)?;
                let sized = |v: u32, def: &Definition| def.vars[v as usize].size.is_some();
                if sized(var, reader) || terms.iter().any(|t| sized(t.0, producer)) {
                    return None;
                }
                let covered: usize = terms.iter().map(|t| producer.vars[t.0 as usize].extent).product();
                if covered != producer.output.ty.shape[d]
                    || covered != reader.vars[var as usize].extent
                    || parts[var as usize].is_some()
                {
                    return None;
                }
                let mut sorted: Parts =
                    terms.iter().map(|&(a, f)| (a, f, producer.vars[a as usize].extent)).collect();
                sorted.sort_by_key(|t| -t.1);
                sorted.iter().for_each(|t| places[t.0 as usize] = Some((d, Some(var))));
                parts[var as usize] = Some(sorted);
            }
        }
    }
    Some(Merging { parts, places })
}

/// The index of all of a definition's loads of a value, if it is one and unpadded.
fn only_load(reader: &Definition, value: ValueId) -> Option<&Vec<Index>> {
    let mut found: Option<&Vec<Index>> = None;
    for expr in &reader.exprs {
        let Expr::Load { operand, index, fill } = expr else { continue };
        if reader.operands[*operand as usize].value != value {
            continue;
        }
        if fill.is_some() || found.is_some_and(|f| f != index) {
            return None;
        }
        found = Some(index);
    }
    found
}

/// The same where it is affine.
pub(super) fn affine_load(reader: &Definition, value: ValueId) -> Option<Vec<Affine>> {
    only_load(reader, value)?.iter().map(|i| i.affine().cloned()).collect()
}
