//! Tables of four bits that data index lie two entries in a byte.
//!
//! Products pack their weights themselves (`nest/pack.rs`); what is looked up row by row lies as the model says,
//! an entry in a byte. Before: `y[i, j] = f(t[x[i], j])`, 4 bits, `j < 8`. After, with `t[r, j]` and `t[r, j + 4]` the
//! lower and the upper half of byte `p[r, j]`: `y[i, j] = f(low p[x[i], j])` and `y[i, j + 4] = f(high p[x[i], j])`, so
//! that neighbours are read as vectors. Golden: `tests/golden/group/paired.txt`.

use super::rewrite::{Var, rebuild};
use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{DefBuilder, Definition, Expr, Index, LoweredValue, Stage, ValueId};
use crate::scalar::{Op, Scalar};
use std::collections::HashMap;

/// The axis that is cut in two for a table, by what it is along the table's rows.
#[derive(Clone, Copy, PartialEq)]
struct Cut {
    /// Entries of a row from one of its points to the next.
    step: usize,
    points: usize,
}

/// A table, and what takes its place.
struct Paired {
    cut: Cut,
    value: ValueId,
    ty: TensorType,
}

/// Puts the entries of all tables in pairs whose readers allow it.
pub(super) fn pair_tables(values: &mut Vec<LoweredValue>, stages: &mut Vec<Stage>) {
    let mut cuts: HashMap<ValueId, Option<Cut>> = HashMap::new();
    find(values, stages, &mut cuts);
    let mut found: Vec<(ValueId, Cut)> = cuts.into_iter().filter_map(|(v, cut)| Some((v, cut?))).collect();
    found.sort_unstable_by_key(|f| f.0);
    let paired: HashMap<ValueId, Paired> =
        found.into_iter().filter_map(|(v, cut)| Some((v, paired(values, v, cut)?))).collect();
    if !paired.is_empty() {
        replace(&paired, stages);
    }
}

/// The cut that all readers of each table share; `None` where there is none.
fn find(values: &[LoweredValue], stages: &[Stage], cuts: &mut HashMap<ValueId, Option<Cut>>) {
    for stage in stages {
        if let Stage::Repeat(repeat) = stage {
            find(values, &repeat.body, cuts);
        }
        for value in stage.reads() {
            let table = &values[value as usize];
            if table.constant.is_none() || !matches!(table.ty.dtype, DType::I4 | DType::U4) {
                continue;
            }
            let cut = match stage {
                Stage::Define(def) => axis(def, value).map(|a| a.1),
                _ => None,
            };
            let known = cuts.entry(value).or_insert(cut);
            if *known != cut {
                *known = None;
            }
        }
    }
}

/// The axis of a reader that is cut, and what it is along the table: the outermost that runs along a row, if the number
/// of its points is even.
fn axis(def: &Definition, table: ValueId) -> Option<(u32, Cut)> {
    let mut loads = def.exprs.iter().filter_map(|expr| match expr {
        Expr::Load { operand, index, fill } if def.operands[*operand as usize].value == table => {
            Some((index, fill, &def.operands[*operand as usize].ty))
        }
        _ => None,
    });
    let (index, fill, ty) = loads.next()?;
    let (last, rows) = index.split_last()?;
    let Index::Affine(form) = last else { return None };
    let looked_up = rows.iter().any(|i| matches!(i, Index::Dynamic(_)));
    if loads.next().is_some() || fill.is_some() || !looked_up || def.fold.is_some() || form.base != 0 {
        return None;
    }
    let mut digits = form.terms.clone();
    digits.sort_by_key(|t| t.1);
    let mut whole = 1;
    for &(var, step) in &digits {
        let var = def.vars.get(var as usize)?;
        if step != whole || var.size.is_some() {
            return None;
        }
        whole *= var.extent as i64;
    }
    let points = |d: &&(u32, i64)| def.vars[d.0 as usize].extent;
    let outermost = digits.iter().rfind(|d| points(d) > 1);
    let cut =
        outermost.filter(|d| whole == ty.shape[index.len() - 1] as i64 && points(d).is_multiple_of(2))?;
    Some((cut.0, Cut { step: cut.1 as usize, points: points(&cut) }))
}

/// The table with entries half a row apart in one byte.
fn paired(values: &mut Vec<LoweredValue>, table: ValueId, cut: Cut) -> Option<Paired> {
    let from = &values[table as usize];
    let half = cut.step * cut.points / 2;
    let data = from.constant.as_ref()?.data.chunks_exact(2 * half);
    let bytes: Vec<u8> = data
        .flat_map(|row| row[..half].iter().zip(&row[half..]).map(|(low, high)| low & 15 | high << 4))
        .collect();
    let dtype = if from.ty.dtype == DType::I4 { DType::I8 } else { DType::U8 };
    let mut shape = from.ty.shape.to_vec();
    *shape.last_mut()? = half;
    let ty = TensorType::new(dtype, shape);
    let name = format!("{} in pairs", from.name);
    let constant = Some(Tensor::from_bytes(ty.clone(), bytes)?);
    values.push(LoweredValue { name, ty: ty.clone(), constant });
    Some(Paired { cut, value: values.len() as ValueId - 1, ty })
}

/// Puts two definitions, for the lower and the upper halves of bytes, in the place of each that reads a table.
fn replace(tables: &HashMap<ValueId, Paired>, stages: &mut Vec<Stage>) {
    let mut at = 0;
    while at < stages.len() {
        match &mut stages[at] {
            Stage::Repeat(repeat) => replace(tables, &mut repeat.body),
            Stage::Define(def) => {
                let table = def.operands.iter().map(|o| o.value).find(|v| tables.contains_key(v));
                let halves = |table: ValueId| {
                    let ((cut, _), paired) = (axis(def, table)?, &tables[&table]);
                    Some([half(def, table, cut, paired, 0)?, half(def, table, cut, paired, 1)?])
                };
                if let Some(halves) = table.and_then(halves) {
                    // Another table of the same definition is found in what takes its place.
                    stages.splice(at..=at, halves.map(Stage::Define));
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// A definition for the entries in the lower halves of bytes, or the upper ones: those of one half of the axis `cut`.
fn half(def: &Definition, table: ValueId, cut: u32, paired: &Paired, which: usize) -> Option<Definition> {
    let points = paired.cut.points / 2;
    let mut vars = def.vars.clone();
    vars[cut as usize].extent = points;
    let behind = (which * points) as i64;
    let place = |v: u32| if v == cut { Affine::var(v).offset(behind) } else { Affine::var(v) };
    let map: Vec<Var> = (0..vars.len() as u32).map(|v| Var::Affine(place(v))).collect();
    let store = def.store.iter().map(|f| f.map_vars(place)).collect();
    let entry = if paired.ty.dtype == DType::I8 { DType::I4 } else { DType::U4 };
    rebuild(
        def,
        DefBuilder::with_vars(vars, def.axes),
        &map,
        &mut |b, operand, index, _| {
            if def.operands[operand as usize].value != table {
                return None;
            }
            let mut index = index.to_vec();
            let Some(Index::Affine(form)) = index.last_mut() else { return None };
            form.base -= behind * paired.cut.step as i64;
            let mut byte = b.load_at(paired.value, &paired.ty, index, None);
            if which == 1 {
                let four = b.constant(Scalar::from_i64(paired.ty.dtype, 4));
                byte = b.op(Op::Shr, &[byte, four]);
            }
            Some(b.cast(entry, byte))
        },
        store,
    )
}
