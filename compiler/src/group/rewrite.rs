//! Rewriting definitions: expressions copied from one into another under a change of variables.

use crate::base::Affine;
use crate::base::affine::SIZE;
use crate::definition::{self, DefBuilder, Definition, Expr, ExprId, Index};
use crate::scalar::Scalar;
use std::collections::HashMap;

/// What a variable of the copied definition becomes.
#[derive(Clone)]
pub enum Var {
    /// An affine form in the new definition's variables.
    Affine(Affine),
    /// An expression of the new definition: a computed index.
    Dynamic(ExprId),
}

/// Replaces a load while expressions are copied: gets the builder, the operand and the rewritten
/// indices; `None` keeps the load.
pub type LoadHook<'a> = dyn FnMut(&mut DefBuilder, u32, &[Index], Option<Scalar>) -> Option<ExprId> + 'a;

/// A copy of expressions from `source` into a builder.
pub struct Copy<'a> {
    /// The definition copied from.
    pub source: &'a Definition,
    /// What its variables become.
    pub vars: &'a [Var],
    /// What its folded value becomes.
    pub acc: Option<ExprId>,
    known: HashMap<ExprId, ExprId>,
}

impl<'a> Copy<'a> {
    /// A copy that has not begun.
    pub fn new(source: &'a Definition, vars: &'a [Var], acc: Option<ExprId>) -> Self {
        Copy { source, vars, acc, known: HashMap::new() }
    }

    /// Says what an expression becomes.
    pub fn becomes(&mut self, id: ExprId, by: ExprId) {
        self.known.insert(id, by);
    }

    /// Copies an expression and what it is computed from; `None` where an affine form would take
    /// in a computed index.
    pub fn expr(&mut self, b: &mut DefBuilder, id: ExprId, hook: &mut LoadHook) -> Option<ExprId> {
        if let Some(&done) = self.known.get(&id) {
            return Some(done);
        }
        let copied = match &self.source.exprs[id as usize] {
            Expr::Const(s) => b.constant(*s),
            Expr::Index(form) => match self.index(&Index::Affine(form.clone()), b, hook)? {
                Index::Affine(form) => b.index(form),
                Index::Dynamic(e) => e,
            },
            Expr::Acc => self.acc?,
            Expr::Op(op, args) => {
                let args: Option<Vec<ExprId>> = args.iter().map(|&a| self.expr(b, a, hook)).collect();
                b.op(*op, &args?)
            }
            Expr::Cast { to, saturate, arg } => {
                let arg = self.expr(b, *arg, hook)?;
                match super::whole::as_float(b, *to, arg) {
                    Some(float) => float,
                    None => b.cast_as(*to, *saturate, arg),
                }
            }
            Expr::Bitcast { to, arg } => {
                let arg = self.expr(b, *arg, hook)?;
                b.bitcast(*to, arg)
            }
            Expr::Load { operand, index, fill } => {
                let index: Option<Vec<Index>> = index.iter().map(|i| self.index(i, b, hook)).collect();
                let index = index?;
                match hook(b, *operand, &index, *fill) {
                    Some(replaced) => replaced,
                    None => {
                        let operand = &self.source.operands[*operand as usize];
                        b.load_at(operand.value, &operand.ty, index, *fill)
                    }
                }
            }
        };
        self.known.insert(id, copied);
        Some(copied)
    }

    fn index(&mut self, index: &Index, b: &mut DefBuilder, hook: &mut LoadHook) -> Option<Index> {
        let form = match index {
            Index::Dynamic(e) => return Some(Index::Dynamic(self.expr(b, *e, hook)?)),
            Index::Affine(form) => form,
        };
        if let Some(var) = plain_var(form) {
            if let Var::Dynamic(e) = self.vars[var as usize] {
                return Some(Index::Dynamic(e));
            }
        }
        let mut sum = Affine::constant(form.base);
        for &(var, factor) in &form.terms {
            if var >= SIZE {
                sum.add_term(var, factor);
                continue;
            }
            match &self.vars[var as usize] {
                Var::Affine(by) => sum = sum.plus_scaled(by, factor),
                Var::Dynamic(_) => return None,
            }
        }
        Some(Index::Affine(sum))
    }
}

/// A hook that keeps every load.
pub fn keep(_: &mut DefBuilder, _: u32, _: &[Index], _: Option<Scalar>) -> Option<ExprId> {
    None
}

/// A builder with the same variables as a definition.
pub fn same_vars(def: &Definition) -> (DefBuilder, Vec<Var>) {
    with_axes(def, def.axes)
}

/// The same where so many variables are axes.
pub fn with_axes(def: &Definition, axes: usize) -> (DefBuilder, Vec<Var>) {
    let named = |(i, v): (usize, &definition::Var)| match i < axes {
        true => definition::Var { name: format!("i{i}"), ..v.clone() },
        false => v.clone(),
    };
    let b = DefBuilder::with_vars(def.vars.iter().enumerate().map(named).collect(), axes);
    let vars = (0..def.vars.len() as u32).map(|v| Var::Affine(Affine::var(v))).collect();
    (b, vars)
}

/// The definition with its variables replaced by those of a split.
pub fn with_vars(def: &Definition, split: &Split) -> Option<Definition> {
    let map = &split.map;
    let b = DefBuilder::with_vars([split.axes.clone(), split.reduce.clone()].concat(), split.axes.len());
    let vars: Vec<Var> = map.iter().cloned().map(Var::Affine).collect();
    let store = def.store.iter().map(|f| f.map_vars(|v| map[v as usize].clone())).collect();
    rebuild(def, b, &vars, &mut keep, store)
}

/// The definition copied into a builder, fold and all, with loads replaced by a hook.
pub fn rebuild(
    def: &Definition,
    b: DefBuilder,
    vars: &[Var],
    hook: &mut LoadHook,
    store: Vec<Affine>,
) -> Option<Definition> {
    rebuild_with(def, b, vars, hook, store, &mut |_, _| Some(()))
}

/// The same, where `prepare` may say what expressions become that follow the fold.
pub fn rebuild_with(
    def: &Definition,
    mut b: DefBuilder,
    vars: &[Var],
    hook: &mut LoadHook,
    store: Vec<Affine>,
    prepare: &mut dyn FnMut(&mut Copy, &mut DefBuilder) -> Option<()>,
) -> Option<Definition> {
    let mut acc = None;
    if let Some(fold) = &def.fold {
        let body = Copy::new(def, vars, None).expr(&mut b, fold.body, hook)?;
        acc = Some(b.fold(fold.op, body));
    }
    let mut copy = Copy::new(def, vars, acc);
    prepare(&mut copy, &mut b)?;
    let finish = copy.expr(&mut b, def.finish, hook)?;
    Some(b.finish_at(&def.name, def.output.value, &def.output.ty, store, finish))
}

/// The definition with the loads of one value replaced.
pub fn replace_loads(def: &Definition, hook: &mut LoadHook) -> Option<Definition> {
    let (b, vars) = same_vars(def);
    rebuild(def, b, &vars, hook, def.store.clone())
}

/// Whether a form is one variable, without factor or offset.
pub fn plain_var(form: &Affine) -> Option<u32> {
    match (form.terms.as_slice(), form.base) {
        ([(var, 1)], 0) if *var < SIZE => Some(*var),
        _ => None,
    }
}

/// For each axis, the dimension of the output that it alone runs over; `None` for an axis of
/// extent 1. Nothing where the definition writes but a part of its output, or composes indices.
pub fn store_axes(def: &Definition) -> Option<Vec<Option<usize>>> {
    let mut axes = vec![None; def.axes];
    for (d, (form, &extent)) in def.store.iter().zip(&def.output.ty.shape).enumerate() {
        match plain_var(form) {
            Some(v) if def.vars[v as usize].extent == extent && axes[v as usize].is_none() => {
                axes[v as usize] = Some(d);
            }
            None if extent == 1 && form.is_constant() => {}
            _ => return None,
        }
    }
    let one = |v: &definition::Var| v.extent == 1 && v.size.is_none();
    let covered = axes.iter().zip(&def.vars).all(|(a, v)| a.is_some() || one(v));
    covered.then_some(axes)
}

/// The load that is all a definition does, if it only moves elements.
pub fn copied_load(def: &Definition) -> Option<(u32, &Vec<Index>, Option<Scalar>)> {
    match (&def.fold, &def.exprs[def.finish as usize]) {
        (None, Expr::Load { operand, index, fill }) => Some((*operand, index, *fill)),
        _ => None,
    }
}

/// Variables after a split.
pub struct Split {
    /// The axes.
    pub axes: Vec<definition::Var>,
    /// The reduction axes.
    pub reduce: Vec<definition::Var>,
    /// What each old variable becomes.
    pub map: Vec<Affine>,
    /// For each old variable, the new variable of each part.
    pub part: Vec<HashMap<u32, u32>>,
}

/// A name for a part of a fold's variable: Einsum names these by its letters, so that the parts of `i` look like axes.
fn unused(def: &Definition, reduce: &[definition::Var], mut name: String) -> String {
    let is_axis = |name: &str| {
        name.strip_prefix('i').is_some_and(|n| !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit()))
    };
    let folded = &def.vars[def.axes..];
    while is_axis(&name) || folded.iter().chain(reduce).any(|var| var.name == name) {
        name.push('_');
    }
    name
}

/// Splits variables into mixed-radix parts: `(name of the part, factor, extent)`, outermost first.
pub fn split_vars(def: &Definition, parts: &[Option<Vec<(u32, i64, usize)>>]) -> Split {
    let mut split = Split { axes: Vec::new(), reduce: Vec::new(), map: Vec::new(), part: Vec::new() };
    let mut next = 0u32;
    for (v, var) in def.vars.iter().enumerate() {
        let pieces = parts[v].clone().unwrap_or_else(|| vec![(0, 1, var.extent)]);
        let mut form = Affine::constant(0);
        let mut part = HashMap::new();
        for (i, (axis, factor, extent)) in pieces.iter().enumerate() {
            form.add_term(next, *factor);
            part.insert(*axis, next);
            next += 1;
            let size = var.size.clone().filter(|_| pieces.len() == 1);
            let name = match v < def.axes {
                true => format!("i{}", split.axes.len()),
                false if pieces.len() == 1 => var.name.clone(),
                false => unused(def, &split.reduce, format!("{}{i}", var.name)),
            };
            let list = if v < def.axes { &mut split.axes } else { &mut split.reduce };
            list.push(definition::Var { name, extent: *extent, size });
        }
        split.map.push(form);
        split.part.push(part);
    }
    split
}
