//! The linear form of a definition: every access as one affine address into a buffer.
//!
//! With layouts known, an element's place is `offset + sum(stride * index)`. In this form axes
//! merge where memory does: a pointwise kernel over a dense tensor becomes one loop, the pixels of
//! a 1x1 convolution become the rows of a matrix, and no operator needs to be known for that.

use super::chains::Chains;
use super::like::Like;
use super::margins::margins;
pub use super::nodes::{DynamicIndex, Guard, Layout, Node};
use super::nodes::{address, linear_node};
use crate::base::{Affine, DType};
use crate::definition::{Definition, Expr, ExprId, Index, Reduction};
use crate::scalar::Fold;
use std::ops::Range;

/// A loop variable of a linear definition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LinearVar {
    /// Name in text forms.
    pub name: String,
    /// Runs over `0..extent`, at least 2 unless it is the only axis.
    pub extent: usize,
    /// A reduction axis.
    pub reduce: bool,
    /// Where the extent is but a bound: the form in sizes known at run time that it runs up to.
    pub size: Option<Affine>,
}

/// A buffer of a linear definition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Buffer {
    /// Element type.
    pub dtype: DType,
    /// Elements that may be accessed.
    pub elems: usize,
    /// Whether the contents are known at compile time, so that they can be packed.
    pub constant: bool,
    /// Whether they are known to be signed bytes of which none is -128.
    pub symmetric: bool,
    /// How large its elements are, where that is known.
    pub magnitude: Option<Magnitude>,
    /// So many places behind those read along dimensions whose sizes are known only at run time have elements, too.
    pub behind: usize,
}

/// All elements are numbers, of `2^least` at least and less than `2^below`, signs left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Magnitude {
    /// `i32::MIN` where some element is zero.
    pub least: i32,
    /// The power that none reaches.
    pub below: i32,
}

/// A product of an integer and a float that is only rounded: the nearest integer (halves up) of
/// `sum * factor / 2^(31 + shift)`, where the factor's elements are integers in place of floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Fixed {
    pub product: ExprId,
    pub sum: ExprId,
    pub factor: ExprId,
    pub shift: u32,
}

/// A product of an integer and a float that is only rounded: the low 16 bits of `number * factor + offset`, where
/// the bits of `number` are those of the sum, whose addend is another, and the offset is `apart` elements behind the
/// factor, see [`crate::scalar::placed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Placed {
    pub product: ExprId,
    pub sum: ExprId,
    pub factor: ExprId,
    pub apart: i64,
    /// The zero point is in the offset.
    pub whole: bool,
}

/// A number that is only rounded, computed from two bytes by two multiply-adds: `x * a + (y * b + offset)`, where the
/// offset lies `apart` elements behind what `offset` loads. Bytes that the definition itself computes are less their
/// zero points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Pair {
    pub value: ExprId,
    pub bytes: [ExprId; 2],
    pub factors: [ExprId; 2],
    pub offset: ExprId,
    pub apart: i64,
}

/// What constants, and what is known of other operands, say about how the numbers of a definition can be computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// An expression whose magnitude is known to be below `nest::BOUND`.
    pub bounded: Option<ExprId>,
    /// What is requantized by fixed-point factors.
    pub fixed: Option<Fixed>,
    /// What is requantized by one multiply-add.
    pub placed: Option<Placed>,
    /// What is requantized as a sum of two bytes.
    pub pair: Option<Pair>,
    /// The chains of words in which constants can be multiplied.
    pub chains: Option<Chains>,
    /// Sums of products of two words of constants fit 16 bits, see [`crate::nest::long`].
    pub long: bool,
    /// A sum's products are those of bytes in lanes of their own, two of which are added in 16 bits, see
    /// [`crate::nest::bytes`].
    pub bytes: bool,
    /// Sums of products of bytes by constants, and what is added to them first, are less than 2^25 in every channel,
    /// though sums of as many bytes may be more ([`super::winograd::SUMS_OF_FOUR`]).
    pub small_sums: bool,
    /// Groups of weights that are not zero, of all outputs of a product whose weights mostly are
    /// ([`super::sparse::Product::together`]).
    pub kept: Option<usize>,
    /// The constant operand of which others pick rows: all tiles of its rows are packed as wide as the first.
    pub picked: Option<u32>,
    /// How another definition packs the same weights.
    pub like: Option<Like>,
    /// Elements are words of four bytes, each a number of the type that expressions have ([`super::in_quads`]).
    pub quads: bool,
}

/// A definition with addresses in place of indices, axes merged and sorted by the output's memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Linear {
    /// Name of the kernel.
    pub name: String,
    /// Axes, outermost in the output's memory first, then reduction axes.
    pub vars: Vec<LinearVar>,
    /// Buffers read, as the definition's operands.
    pub buffers: Vec<Buffer>,
    /// The buffer written.
    pub output: Buffer,
    /// Where the result goes.
    pub store: Affine,
    /// Expressions, arguments first.
    pub nodes: Vec<Node>,
    /// Element type of each expression.
    pub types: Vec<DType>,
    /// The fold and its body.
    pub fold: Option<(Fold, DType, ExprId)>,
    /// The value stored.
    pub finish: ExprId,
    /// Axes whose extent is known only at run time end there: not even points within the bound may
    /// be computed beyond it.
    pub exact: bool,
    /// Indices outside of which memory holds zeros that the fold need not sum (`schedule/margins.rs`).
    pub margins: Vec<Guard>,
    /// What is known of its numbers.
    pub facts: Facts,
    /// Bytes count before time: constants stay as narrow as they are, no copy of weights is made, and code is small.
    pub compact: bool,
}

/// What is known of a definition beside types and layouts.
#[derive(Default)]
pub struct Known<'a> {
    /// The dimensions of each operand of which some are known only at run time (empty: none).
    pub dims: &'a [Vec<Affine>],
    /// As in [`Linear::exact`].
    pub exact: bool,
    /// Of each operand, per dimension, where elements may be other than zero (empty: everywhere).
    pub nonzero: &'a [Vec<Range<i64>>],
}

/// The places behind those that a definition reads of an operand which have elements: the fewest along dimensions that
/// end at sizes.
fn behind(def: &Definition, operand: usize, dims: &[Affine]) -> usize {
    let along = |(index, dim): (&Index, &Affine)| match index {
        Index::Affine(form) => {
            dim.plus_scaled(&def.ends(form).1, -1).offset(-1).range(|_| 1).0.max(0) as usize
        }
        Index::Dynamic(_) => 0,
    };
    let loads = def.exprs.iter().filter_map(|e| match e {
        Expr::Load { operand: o, index, .. } if *o as usize == operand => Some(index),
        _ => None,
    });
    let sized = loads.flat_map(|index| index.iter().zip(dims).filter(|(_, dim)| !dim.is_constant()));
    sized.map(along).min().unwrap_or(0)
}

impl Linear {
    /// The linear form under the layouts of the operands and of the output.
    pub fn new(def: &Definition, operands: &[Layout], constant: &[bool], output: &Layout) -> Linear {
        Linear::knowing(def, operands, constant, output, &Known::default())
    }

    /// The same, knowing more.
    pub fn knowing(
        def: &Definition,
        operands: &[Layout],
        constant: &[bool],
        output: &Layout,
        known: &Known,
    ) -> Linear {
        let mut linear = Linear {
            name: def.name.clone(),
            vars: (def.vars.iter().enumerate())
                .map(|(i, v)| LinearVar {
                    name: v.name.clone(),
                    extent: v.extent,
                    reduce: i >= def.axes,
                    size: v.size.clone(),
                })
                .collect(),
            buffers: (def.operands.iter().zip(operands).zip(constant).enumerate())
                .map(|(i, ((o, l), &constant))| Buffer {
                    dtype: o.ty.dtype,
                    elems: l.span(&o.ty.shape),
                    constant,
                    symmetric: false,
                    magnitude: None,
                    behind: known.dims.get(i).map_or(0, |dims| behind(def, i, dims)),
                })
                .collect(),
            output: Buffer {
                dtype: def.output.ty.dtype,
                elems: output.span(&def.output.ty.shape),
                constant: false,
                symmetric: false,
                magnitude: None,
                behind: 0,
            },
            store: address(output, &def.store),
            nodes: def.exprs.iter().map(|e| linear_node(def, operands, known.dims, e)).collect(),
            types: def.expr_types(),
            fold: def.fold.as_ref().map(|Reduction { op, dtype, body }| (*op, *dtype, *body)),
            finish: def.finish,
            exact: known.exact,
            margins: margins(def, known.nonzero),
            facts: Facts::default(),
            compact: false,
        };
        linear.exact |= linear.checks();
        linear.drop_unit_vars();
        linear.sort_axes();
        linear.merge_vars();
        linear
    }

    /// Whether a computed index may end the model with an error.
    fn checks(&self) -> bool {
        self.nodes.iter().any(|n| matches!(n, Node::Load { dynamic, fill: None, .. } if !dynamic.is_empty()))
    }

    /// Whether tiles of an axis must not reach over its end.
    pub fn ends(&self, var: u32) -> bool {
        self.exact && self.vars[var as usize].size.is_some()
    }

    /// Numbers of the axes.
    pub fn axes(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.vars.len() as u32).filter(|&v| !self.vars[v as usize].reduce)
    }

    /// Numbers of the reduction axes.
    pub fn reductions(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.vars.len() as u32).filter(|&v| self.vars[v as usize].reduce)
    }

    /// Extent of a variable.
    pub fn extent(&self, var: u32) -> usize {
        self.vars[var as usize].extent
    }

    /// The form of an index that is converted to a number of 32 bits in which all its values fit: it is
    /// counted in those.
    pub fn narrow_index(&self, e: ExprId) -> Option<&Affine> {
        let Node::Cast { to: DType::I32 | DType::F32, arg, .. } = &self.nodes[e as usize] else {
            return None;
        };
        let Node::Index(form) = &self.nodes[*arg as usize] else { return None };
        let (lo, hi) = form.range(|v| self.extent(v));
        (i32::try_from(lo).is_ok() && i32::try_from(hi).is_ok()).then_some(form)
    }

    /// What an expression is before it is converted.
    pub fn without_casts(&self, mut e: ExprId) -> ExprId {
        while let Node::Cast { arg, .. } = &self.nodes[e as usize] {
            e = *arg;
        }
        e
    }

    /// The expression to compute for the output: a store rounds floats to halves and extends integers by itself.
    pub fn stored(&self) -> ExprId {
        let Node::Cast { to, arg, .. } = &self.nodes[self.finish as usize] else { return self.finish };
        let from = self.types[*arg as usize];
        let stores = match to {
            DType::F16 | DType::BF16 => from == DType::F32,
            DType::I64 => from.is_int() && matches!(from.bits(), 8 | 16) || from == DType::I32,
            _ => false,
        };
        if stores { *arg } else { self.finish }
    }

    /// The value that is stored, or that tables map to what is stored.
    pub fn before_tables(&self) -> ExprId {
        let mut e = self.finish;
        while let Node::Lookup { arg, .. } = &self.nodes[e as usize] {
            e = *arg;
        }
        e
    }

    /// Whether more is computed with entries of a table.
    pub fn looks_up_inside(&self) -> bool {
        let lookup = |e: ExprId| matches!(self.nodes[e as usize], Node::Lookup { .. });
        self.reachable(self.before_tables()).into_iter().any(lookup)
    }

    /// Whether an expression's value changes with a variable.
    pub fn depends(&self, e: ExprId, var: u32) -> bool {
        self.reachable(e).into_iter().any(|e| match &self.nodes[e as usize] {
            Node::Acc => !self.vars[var as usize].reduce,
            node => node.forms().iter().any(|f| f.coefficient(var) != 0),
        })
    }

    /// All expressions that `root` is computed from, itself included.
    pub fn reachable(&self, root: ExprId) -> Vec<ExprId> {
        let mut seen = vec![false; self.nodes.len()];
        seen[root as usize] = true;
        for e in (0..=root as usize).rev() {
            if seen[e] {
                self.nodes[e].args().iter().for_each(|&a| seen[a as usize] = true);
            }
        }
        (0..=root).filter(|&e| seen[e as usize]).collect()
    }

    /// Puts forms in the place of variables.
    pub(super) fn renumber(&mut self, map: &dyn Fn(u32) -> Affine) {
        self.store = self.store.map_vars(map);
        for node in &mut self.nodes {
            node.forms_mut().into_iter().for_each(|f| *f = f.map_vars(map));
        }
        self.margins.iter_mut().for_each(|g| g.form = g.form.map_vars(map));
    }

    fn retain_vars(&mut self, keep: &[u32]) {
        let place =
            |v: u32| keep.iter().position(|&k| k == v).map_or(Affine::constant(0), |p| Affine::var(p as u32));
        self.renumber(&place);
        self.vars = keep.iter().map(|&v| self.vars[v as usize].clone()).collect();
    }

    fn drop_unit_vars(&mut self) {
        let keep: Vec<u32> = (0..self.vars.len() as u32)
            .filter(|&v| self.extent(v) != 1 || self.vars[v as usize].size.is_some())
            .collect();
        self.retain_vars(&keep);
    }

    fn sort_axes(&mut self) {
        let mut order: Vec<u32> = (0..self.vars.len() as u32).collect();
        order.sort_by_key(|&v| match self.vars[v as usize].reduce {
            false => (0, -self.store.coefficient(v).abs()),
            true => (1, 0),
        });
        self.retain_vars(&order);
    }

    /// Makes one of two reduction axes that every access walks as one, the last of them.
    pub(super) fn join(&mut self, outer: u32, inner: u32) {
        let mut order: Vec<u32> =
            (0..self.vars.len() as u32).filter(|v| ![outer, inner].contains(v)).collect();
        order.extend([outer, inner]);
        self.retain_vars(&order);
        self.merge_vars();
    }

    /// Merges neighbouring variables that every access walks as one.
    fn merge_vars(&mut self) {
        let mut inner = self.vars.len();
        while inner > 1 {
            inner -= 1;
            let (outer, inner_var) = (inner as u32 - 1, inner as u32);
            if self.vars[inner - 1].reduce != self.vars[inner].reduce || !self.mergeable(outer, inner_var) {
                continue;
            }
            let factor = self.extent(inner_var) as i64;
            let merged = LinearVar {
                name: format!("{}_{}", self.vars[inner - 1].name, self.vars[inner].name),
                extent: self.extent(outer) * self.extent(inner_var),
                reduce: self.vars[inner].reduce,
                size: self.vars[inner - 1].size.as_ref().map(|s| s.scaled(factor)),
            };
            // The merged variable stands where the inner one stood; the outer one's terms vanish.
            let map = |v: u32| match v.cmp(&outer) {
                std::cmp::Ordering::Less => Affine::var(v),
                std::cmp::Ordering::Equal => Affine::constant(0),
                std::cmp::Ordering::Greater => Affine::var(v - 1),
            };
            self.renumber(&map);
            self.vars.remove(inner);
            self.vars[inner - 1] = merged;
        }
    }

    fn mergeable(&self, outer: u32, inner: u32) -> bool {
        if self.vars[inner as usize].size.is_some() {
            return false;
        }
        let extent = self.extent(inner) as i64;
        let walks = |f: &Affine| f.coefficient(outer) == extent * f.coefficient(inner);
        let guarded = |f: &Affine| f.coefficient(outer) != 0 || f.coefficient(inner) != 0;
        walks(&self.store)
            && !self.margins.iter().any(|g| guarded(&g.form))
            && self.nodes.iter().all(|node| match node {
                Node::Load { addr, guards, .. } => walks(addr) && !guards.iter().any(|g| guarded(&g.form)),
                Node::Index(form) => walks(form),
                _ => true,
            })
    }
}
