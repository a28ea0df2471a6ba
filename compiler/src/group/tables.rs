//! Functions of one byte as tables.
//!
//! Before: `b = u8(...)` and `y = u8(round(silu((b - 3) * 0.1) * 12.5) + 7)`, an activation between quantized
//! values. After: `y = t[b]`, where `t` holds the function of each of the 256 bytes, computed here by the
//! interpreter, so that no target and no schedule has other bits. Found is what a byte, loaded or converted to,
//! determines together with single numbers; whatever graph it comes from. It stays where the target computes it
//! in little more time than a lookup takes.

use super::rewrite::{Copy, Var, keep, rebuild_with, same_vars};
use crate::base::{DType, Tensor, TensorType};
use crate::definition::{
    DefBuilder, Definition, Env, Expr, ExprId, Index, LoweredValue, Lowering, Stage, ValueId, interpret,
};
use crate::scalar::math::primitives;
use crate::scalar::{Op, Scalar};
use crate::schedule::Lookups;
use crate::tile::TABLE;
use std::collections::HashMap;

/// Replaces what a byte determines by a table, wherever that takes fewer operations.
pub fn tabulate(lowering: &mut Lowering, lookups: &Lookups) {
    let mut stages = std::mem::take(&mut lowering.stages);
    let mut tables = Tables { values: &mut lowering.values, known: HashMap::new(), lookups };
    tables.stages(&mut stages);
    lowering.stages = stages;
}

struct Tables<'a> {
    values: &'a mut Vec<LoweredValue>,
    /// The tables so far.
    known: HashMap<(DType, Vec<u8>), ValueId>,
    lookups: &'a Lookups,
}

impl Tables<'_> {
    fn stages(&mut self, stages: &mut [Stage]) {
        for stage in stages {
            match stage {
                Stage::Define(def) => {
                    while let Some(with) = self.replaced(def) {
                        *def = with;
                    }
                }
                Stage::Repeat(repeat) => self.stages(&mut repeat.body),
                _ => {}
            }
        }
    }

    /// The definition with a function of a byte replaced; `None` where there is none that pays.
    fn replaced(&mut self, def: &Definition) -> Option<Definition> {
        let number = |e: &Expr| number(def, self.values, e);
        let found = Function::find(def, &number, self.lookups)?;
        let entries = found.entries(def, &number)?;
        let ty = TensorType::new(def.expr_types()[found.entry as usize], [TABLE]);
        let table = self.table(&def.name, &ty, entries);
        let (b, vars) = same_vars(def);
        rebuild_with(def, b, &vars, &mut keep, def.store.clone(), &mut |copy, b| {
            let byte = copy.expr(b, found.byte, &mut keep)?;
            let unsigned = if b.dtype(byte) == DType::U8 { byte } else { b.bitcast(DType::U8, byte) };
            let index = b.cast(DType::I64, unsigned);
            let entry = b.load_at(table, &ty, vec![Index::Dynamic(index)], None);
            copy.becomes(found.entry, entry);
            Some(())
        })
    }

    /// The value of a table; of equal ones there is one.
    fn table(&mut self, name: &str, ty: &TensorType, entries: Tensor) -> ValueId {
        let next = self.values.len() as ValueId;
        let table = *self.known.entry((ty.dtype, entries.data.to_vec())).or_insert(next);
        if table == next {
            let name = format!("{name}.table{next}");
            self.values.push(LoweredValue { name, ty: ty.clone(), constant: Some(entries) });
        }
        table
    }
}

/// The element of a constant of one element.
fn number(def: &Definition, values: &[LoweredValue], expr: &Expr) -> Option<Scalar> {
    let Expr::Load { operand, fill: None, .. } = expr else { return None };
    let operand = &def.operands[*operand as usize];
    let tensor = values[operand.value as usize].constant.as_ref()?;
    let size = operand.ty.dtype.size();
    let one = operand.ty.elems() == 1 && tensor.data.len() == size && size <= 8;
    let bits = tensor.data.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte));
    one.then_some(Scalar { dtype: operand.ty.dtype, bits })
}

/// What an expression depends on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Numbers,
    Byte,
    Others,
}

/// A byte, and another one that it determines.
struct Function {
    byte: ExprId,
    entry: ExprId,
}

impl Function {
    /// The function of the byte that is computed first, up to the last byte it determines, where that pays.
    fn find(
        def: &Definition,
        number: &dyn Fn(&Expr) -> Option<Scalar>,
        lookups: &Lookups,
    ) -> Option<Function> {
        let types = def.expr_types();
        let reached = reached(def);
        let byte = |e: &ExprId| matches!(types[*e as usize], DType::U8 | DType::I8) && reached[*e as usize];
        let bytes = || (0..def.exprs.len() as ExprId).filter(byte);
        let unknown = |e: &ExprId| number(&def.exprs[*e as usize]).is_none();
        bytes().filter(unknown).find_map(|byte| {
            let sources = sources(def, byte, number);
            let entry = bytes().rfind(|&e| e != byte && sources[e as usize] == Source::Byte)?;
            let stored = entry == def.finish;
            let least = if stored { lookups.stored } else { lookups.inside };
            let length = length(def, &types, &sources, byte, entry);
            (length >= least).then_some(Function { byte, entry })
        })
    }

    /// The function of each byte.
    fn entries(&self, def: &Definition, number: &dyn Fn(&Expr) -> Option<Scalar>) -> Option<Tensor> {
        let types = def.expr_types();
        let [from, to] = [self.byte, self.entry].map(|e| TensorType::new(types[e as usize], [TABLE]));
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let mut low = Lowering::default();
        let bytes = low.constant("bytes", Tensor::from_bytes(from.clone(), all)?);
        let entries = low.temporary("entries", to.clone());
        let mut b = DefBuilder::new(&[TABLE]);
        let vars: Vec<Var> = Vec::new();
        let mut copy = Copy::new(def, &vars, None);
        let axes = b.axes();
        copy.becomes(self.byte, b.load(bytes, &from, axes));
        for (e, expr) in def.exprs.iter().enumerate() {
            if let Some(number) = number(expr) {
                copy.becomes(e as ExprId, b.constant(number));
            }
        }
        let entry = copy.expr(&mut b, self.entry, &mut keep)?;
        low.define(b.finish("table", entries, &to, entry));
        let mut env = Env::new(&low);
        interpret(&low, &mut env).ok()?;
        env.get(entries, &to)
    }
}

/// The expressions that the stored value is computed from, without those of the fold and of indices.
fn reached(def: &Definition) -> Vec<bool> {
    let mut reached = vec![false; def.exprs.len()];
    let mut stack = vec![def.finish];
    while let Some(e) = stack.pop() {
        if !std::mem::replace(&mut reached[e as usize], true) {
            stack.extend(arguments(&def.exprs[e as usize]));
        }
    }
    reached
}

/// The expressions that one computes with.
fn arguments(expr: &Expr) -> &[ExprId] {
    match expr {
        Expr::Op(_, args) => args,
        Expr::Cast { arg, .. } | Expr::Bitcast { arg, .. } => std::slice::from_ref(arg),
        Expr::Const(_) | Expr::Index(_) | Expr::Acc | Expr::Load { .. } => &[],
    }
}

/// What each expression depends on, beside the expressions of a byte.
fn sources(def: &Definition, byte: ExprId, number: &dyn Fn(&Expr) -> Option<Scalar>) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::with_capacity(def.exprs.len());
    for (e, expr) in def.exprs.iter().enumerate() {
        sources.push(match expr {
            _ if e == byte as usize => Source::Byte,
            Expr::Const(_) => Source::Numbers,
            Expr::Load { .. } if number(expr).is_some() => Source::Numbers,
            Expr::Load { .. } | Expr::Index(_) | Expr::Acc => Source::Others,
            _ => arguments(expr).iter().map(|&a| sources[a as usize]).max().unwrap_or(Source::Numbers),
        });
    }
    sources
}

/// Primitive operations from a byte to its entry. Clamps do not count: narrowing saturates.
fn length(def: &Definition, types: &[DType], sources: &[Source], byte: ExprId, entry: ExprId) -> usize {
    let mut seen = vec![false; def.exprs.len()];
    let (mut stack, mut length) = (vec![entry], 0);
    while let Some(e) = stack.pop() {
        if sources[e as usize] != Source::Byte || e == byte || std::mem::replace(&mut seen[e as usize], true)
        {
            continue;
        }
        let args = arguments(&def.exprs[e as usize]);
        length += match &def.exprs[e as usize] {
            Expr::Op(Op::Min | Op::Max, _) => 0,
            Expr::Op(op, args) => primitives(*op, types[args[args.len() - 1] as usize]),
            _ => 1,
        };
        stack.extend(args);
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Affine;
    use crate::group::tests::result;

    const ALWAYS: Lookups = Lookups { stored: 1, inside: 1, beside: 1 };

    /// `y = q(f(x) * scale[..])`, a byte of `to`: the sigmoid of a byte `from` less 3, times a number per row or one
    /// for all, or times another byte `z`.
    fn activation(from: DType, to: DType, scales: usize, beside: bool) -> Lowering {
        let mut low = Lowering::default();
        let ty = TensorType::new(from, [2, 256]);
        let data: Vec<u8> = (0..512).map(|i| (i * 7 % 256) as u8).collect();
        let x = low.constant("x", Tensor::from_bytes(ty.clone(), data.clone()).unwrap());
        let scale = low.constant("scale", Tensor::new([scales], &[40f32, 90.0][..scales]));
        let out = TensorType::new(to, [2, 256]);
        let y = low.temporary("y", out.clone());
        let z = low.constant("z", Tensor::from_bytes(ty.clone(), data).unwrap());
        let mut b = DefBuilder::new(&[2, 256]);
        let axes = b.axes();
        let byte = b.load(x, &ty, axes.clone());
        let value = b.cast(DType::F32, byte);
        let zero = b.number(DType::F32, 3.0);
        let value = b.op(Op::Sub, &[value, zero]);
        let value = b.op(Op::Sigmoid, &[value]);
        let row = if scales == 1 { Affine::constant(0) } else { axes[0].clone() };
        let scale = b.load(scale, &TensorType::new(DType::F32, [scales]), vec![row]);
        let mut value = b.op(Op::Mul, &[value, scale]);
        if beside {
            let other = b.load(z, &ty, axes);
            let other = b.cast(DType::F32, other);
            value = b.op(Op::Add, &[value, other]);
        }
        let value = b.op(Op::Round, &[value]);
        let value = b.cast(to, value);
        low.define(b.finish("activation", y, &out, value));
        low
    }

    fn lookups(low: &Lowering) -> usize {
        low.to_string().matches(": u8 = load v4[%").count()
            + low.to_string().matches(": i8 = load v4[%").count()
    }

    #[test]
    fn what_a_byte_determines_is_a_table() {
        for (from, to) in [(DType::U8, DType::I8), (DType::I8, DType::U8), (DType::I8, DType::I8)] {
            let mut low = activation(from, to, 1, false);
            let before = result(&low);
            tabulate(&mut low, &ALWAYS);
            crate::definition::verify(&low).unwrap();
            assert_eq!(lookups(&low), 1, "{low}");
            assert!(!low.to_string().contains("sigmoid"), "{low}");
            assert_eq!(result(&low), before, "{from} {to}");
        }
    }

    #[test]
    fn what_depends_on_more_is_none() {
        for (scales, beside) in [(2, false), (1, true)] {
            let mut low = activation(DType::U8, DType::U8, scales, beside);
            let before = low.to_string();
            tabulate(&mut low, &ALWAYS);
            assert_eq!(low.to_string(), before);
        }
    }

    #[test]
    fn what_is_short_is_computed() {
        let mut low = activation(DType::U8, DType::U8, 1, false);
        let before = low.to_string();
        tabulate(&mut low, &Lookups { stored: 1000, inside: 1000, beside: 1 });
        assert_eq!(low.to_string(), before);
    }
}
