//! Sizes that are computed from data: `arange(lengths.max())`, `mask.expand(batch, past + 1)`.
//!
//! Such a number must be known where the graph is typed. Either it has a bound (`--dim 'NAME<=N'`): then a list of as
//! many elements is made, whose length is a size that data decide. Or what is made of it meets a tensor: then it is
//! that tensor's length, as the model is defined for no other. What it meets is found by trying ([`super::meeting`]).
//! That the number is what it is taken for is checked when the model runs, as indices are.

use super::Driver;
use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, Known, Node, ValueId};
use crate::import::{Bindings, SourceNode};
use crate::ops::NodeBuilder;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// What is said of a model beside the types of its inputs.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Conditions (by name) that are constant, but not for all sizes: they are left to run time.
    pub open: Arc<HashSet<String>>,
    /// Bounds of numbers (by name) that sizes are computed from.
    pub bounds: Arc<BTreeMap<String, usize>>,
    /// Inputs of the model (by name) that are conditions: which branch is compiled.
    pub branches: Arc<BTreeMap<String, bool>>,
    /// Numbers (by name) that are the length of a tensor in other samples: here they are 1 where they meet none.
    pub lengths: Arc<BTreeSet<String>>,
    /// What was made of constants in any sample.
    pub known: Option<Arc<Known>>,
}

impl Given {
    /// What the options say of numbers that the model computes, and of branches.
    pub fn of(bindings: &Bindings) -> Given {
        let (bounds, branches) = (Arc::new(bindings.numbers.clone()), Arc::new(bindings.branches.clone()));
        Given { bounds, branches, ..Given::default() }
    }
}

/// The inputs of operators that say how large results are, and what is done where no bound is given.
const SIZES: &[(&str, &[usize], Unbound)] = &[
    ("Range", &[0, 1, 2], Unbound::Meets),
    ("ConstantOfShape", &[0], Unbound::Meets),
    ("Expand", &[1], Unbound::Meets),
    ("Reshape", &[1], Unbound::Meets),
    ("Tile", &[1], Unbound::Meets),
    ("Resize", &[3], Unbound::Meets),
    ("Loop", &[0], Unbound::Refused),
    ("Slice", &[1, 2], Unbound::Flags),
    ("TopK", &[1], Unbound::Flags),
];

#[derive(Clone, Copy, PartialEq)]
enum Unbound {
    /// What the result meets may say how large it is.
    Meets,
    /// The result is compressed by flags.
    Flags,
    /// A bound must be given.
    Refused,
}

/// What only carries numbers on to where they are a size.
const CARRIES: &[&str] = &[
    "Cast",
    "Concat",
    "Equal",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Squeeze",
    "Unsqueeze",
    "Where",
];

/// Lengths that numbers are taken for are primes from here on.
const FIRST: usize = 1009;

/// Longer lists of integers are no shapes.
const MOST: usize = 64;
/// What numbers are computed from is followed so far.
const DEEPEST: usize = 48;

/// A node's inputs, and what must be checked (see [`Taken`]).
pub(super) type Sized = (Vec<Option<ValueId>>, BTreeSet<ValueId>);

/// What is taken for a value where it says how large something is.
#[derive(Clone)]
pub(super) struct Taken {
    /// The constant.
    pub value: ValueId,
    /// Zeros, if the numbers it is made of are what they are taken for; else reading them is an error.
    pub checks: BTreeSet<ValueId>,
}

/// The numbers by name, in one walk over the model.
#[derive(Default)]
pub(super) struct Numbers {
    /// What they are known to be, by what they met.
    pub settled: HashMap<String, usize>,
    /// What they are taken for to see what they meet; `None` where that is over.
    pub probes: Option<HashMap<String, usize>>,
    /// What numbers that are tried were found to be.
    pub met: HashMap<String, usize>,
    /// Lengths that occur in the model: no number is taken for one of these.
    pub lengths: HashSet<usize>,
}

impl Driver {
    /// The node's inputs with constants for the sizes that are known, and what must be checked.
    pub(super) fn sized(&mut self, node: &SourceNode, inputs: Vec<Option<ValueId>>) -> Result<Sized> {
        if self.given.bounds.is_empty() && self.numbers.settled.is_empty() {
            return Ok((inputs, BTreeSet::new()));
        }
        self.sized_by(node, inputs, false)
    }

    /// The same with numbers that are tried, where what the result meets may say what they are. How many flags are true
    /// is known otherwise.
    pub(super) fn tried_sizes(&mut self, node: &SourceNode, (inputs, checks): Sized) -> Result<Sized> {
        let open = self.open(node, &inputs);
        let counts = open.iter().any(|&(_, value)| self.counts(value));
        if self.numbers.probes.is_none() || counts || unbound(node) != Some(Unbound::Meets) {
            return Ok((inputs, checks));
        }
        let (inputs, more) = self.sized_by(node, inputs, true)?;
        Ok((inputs, checks.into_iter().chain(more).collect()))
    }

    /// The inputs that say how large the result is, and are no constants.
    fn open(&self, node: &SourceNode, inputs: &[Option<ValueId>]) -> Vec<(usize, ValueId)> {
        let row = SIZES.iter().find(|row| node.domain.is_empty() && row.0 == node.op);
        let places = row.iter().flat_map(|row| row.1.iter().copied());
        let given = places.filter_map(|i| Some((i, inputs.get(i).copied().flatten()?)));
        given.filter(|&(_, value)| self.constant(value).is_none()).collect()
    }

    fn sized_by(
        &mut self,
        node: &SourceNode,
        mut inputs: Vec<Option<ValueId>>,
        probe: bool,
    ) -> Result<Sized> {
        let mut checks = BTreeSet::new();
        for (place, value) in self.open(node, &inputs) {
            if let Some(taken) = self.taken(value, probe, DEEPEST)? {
                inputs[place] = Some(taken.value);
                checks.extend(taken.checks);
            }
        }
        Ok((inputs, checks))
    }

    /// The error of a node whose result is as large as a number that may be any.
    pub(super) fn unbounded(&mut self, node: &SourceNode, inputs: &[Option<ValueId>], error: Error) -> Error {
        let open = self.open(node, inputs);
        let has_bound = unbound(node).is_some_and(|unbound| unbound != Unbound::Flags);
        let mut seen = HashSet::new();
        let mut number = |&(_, value): &(usize, ValueId)| self.open_number(value, &mut seen);
        let number = if has_bound { open.iter().find_map(&mut number) } else { None };
        number.map_or(error, |name| unbounded(&name))
    }

    /// What a value is taken for; with `probe`, numbers of which nothing is known are tried.
    fn taken(&mut self, value: ValueId, probe: bool, depth: usize) -> Result<Option<Taken>> {
        if self.constant(value).is_some() {
            return Ok(Some(Taken { value, checks: BTreeSet::new() }));
        }
        if let Some(taken) = self.level().taken.get(&value) {
            return Ok(Some(taken.clone()));
        }
        let ty = self.graph().value(value).ty.clone();
        if ty.elems() > MOST || depth == 0 {
            return Ok(None);
        }
        let mut taken = self.stated(value, &ty)?;
        if taken.is_none() {
            taken = self.followed(value, probe, depth)?;
        }
        if taken.is_none() && probe && is_number(&ty) {
            taken = Some(self.tried(value, &ty)?);
        }
        if let Some(taken) = &taken {
            self.level().taken.insert(value, taken.clone());
        }
        Ok(taken)
    }

    /// What is said of a number, by a bound or by what it met.
    fn stated(&mut self, value: ValueId, ty: &TensorType) -> Result<Option<Taken>> {
        let name = self.graph().value(value).name.clone();
        if !is_number(ty) {
            return Ok(None);
        }
        if let Some(&bound) = self.given.bounds.get(&name) {
            let value = self.build(&name, |b| counted(b, value, bound))?;
            return Ok(Some(Taken { value, checks: BTreeSet::new() }));
        }
        let Some(&length) = self.numbers.settled.get(&*self.graph().called(&name)) else { return Ok(None) };
        let (value, check) = self.build(&name, |b| {
            let taken = b.constant(number_of(ty, length));
            Ok((taken, zero_if_equal(b, value, taken)?))
        })?;
        Ok(Some(Taken { value, checks: [check].into() }))
    }

    /// The node that wrote the value, computed from what its inputs are taken for.
    fn followed(&mut self, value: ValueId, probe: bool, depth: usize) -> Result<Option<Taken>> {
        let node = self.writer(value).filter(|(n, _)| n.outputs.len() == 1).map(|(n, _)| n.clone());
        let Some(node) = node else { return Ok(None) };
        let to_integer = |node: &Node| {
            let of = |v: Option<ValueId>| v.is_some_and(|v| self.graph().value(v).ty.dtype.is_float());
            node.op.name == "Cast" && node.inputs.first().is_some_and(|v| of(*v))
        };
        if probe && (!CARRIES.contains(&node.op.name) || to_integer(&node)) {
            return Ok(None);
        }
        let (mut inputs, mut checks) = (Vec::new(), BTreeSet::new());
        for input in &node.inputs {
            let Some(input) = input else {
                inputs.push(None);
                continue;
            };
            let Some(taken) = self.taken(*input, probe, depth - 1)? else { return Ok(None) };
            inputs.push(Some(taken.value));
            checks.extend(taken.checks);
        }
        let name = self.graph().value(value).name.clone();
        let made = self.build(&name, |b| b.node_in(node.op.domain, node.op.name, &inputs, node.attrs, 1))?;
        let constant = self.constant(made[0]).is_some();
        Ok(constant.then(|| Taken { value: made[0], checks }))
    }

    /// A number that is tried.
    fn tried(&mut self, value: ValueId, ty: &TensorType) -> Result<Taken> {
        let name = self.graph().called(&self.graph().value(value).name).to_string();
        let Numbers { probes, lengths, .. } = &mut self.numbers;
        let probes = probes.get_or_insert_default();
        let length = *probes.entry(name).or_insert_with(|| {
            let unused = (FIRST..).find(|n| is_prime(*n) && !lengths.contains(n)).unwrap_or(FIRST);
            lengths.insert(unused);
            unused
        });
        Ok(Taken { value: self.add_constant("tried", number_of(ty, length)), checks: BTreeSet::new() })
    }

    /// The number that a shape is made of of which nothing is known.
    fn open_number(&mut self, value: ValueId, seen: &mut HashSet<ValueId>) -> Option<String> {
        let is_new = seen.len() < MOST && seen.insert(value);
        if !is_new || self.constant(value).is_some() || self.level().taken.contains_key(&value) {
            return None;
        }
        let carried = self.writer(value).filter(|(n, _)| CARRIES.contains(&n.op.name));
        let before = carried.map(|(n, _)| n.inputs.iter().flatten().copied().collect::<Vec<_>>());
        let of_integers = |v: &ValueId| !self.graph().value(*v).ty.dtype.is_float();
        let before = before.filter(|inputs| inputs.iter().all(of_integers)).unwrap_or_default();
        let found = before.into_iter().rev().find_map(|input| self.open_number(input, seen));
        // Else the number itself: what it was taken out of is none.
        found.or_else(|| {
            let value = self.graph().value(value);
            is_number(&value.ty).then(|| value.name.clone())
        })
    }

    /// The results, which cannot be read where a check fails.
    pub(super) fn checked(
        &mut self,
        name: &str,
        value: ValueId,
        checks: &BTreeSet<ValueId>,
    ) -> Result<ValueId> {
        let Some(&extent) = self.graph().value(value).ty.shape.first() else { return Ok(value) };
        self.build(name, |b| {
            let places: Vec<i64> = (0..extent as i64).collect();
            let mut places = b.constant(Tensor::new([extent], &places));
            for &zero in checks {
                places = b.binary("Add", places, zero)?;
            }
            b.one("Gather", &[value, places], Attrs::default().with("axis", Attr::Int(0)))
        })
    }
}

fn unbounded(name: &str) -> Error {
    Error::model(format!(
        "the size of its result must be a constant or have a bound, and is computed from data: the number '{name}', \
         which may be any"
    ))
    .advise(format!(
        "Give a bound: --dim '{name}<=N', or bound it in the model, as by Min with the longest length"
    ))
}

/// What is done where no bound is given.
fn unbound(node: &SourceNode) -> Option<Unbound> {
    SIZES.iter().find(|row| node.domain.is_empty() && row.0 == node.op).map(|row| row.2)
}

/// Whether it is one integer.
fn is_number(ty: &TensorType) -> bool {
    ty.elems() == 1 && matches!(ty.dtype, DType::I32 | DType::I64)
}

fn is_prime(n: usize) -> bool {
    (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

fn number_of(ty: &TensorType, number: usize) -> Tensor {
    match ty.dtype {
        DType::I32 => Tensor::new(ty.shape.clone(), &[number as i32]),
        _ => Tensor::new(ty.shape.clone(), &[number as i64]),
    }
}

/// 0 where two numbers are equal; else an index that is an error.
fn zero_if_equal(b: &mut NodeBuilder, value: ValueId, number: ValueId) -> Result<ValueId> {
    let equal = b.binary("Equal", value, number)?;
    let list = b.constant(Tensor::new([1], &[1i64]));
    let equal = b.binary("Reshape", equal, list)?;
    let (zero, one) = (b.constant(Tensor::new([1], &[0i64])), list);
    let index = b.one("Where", &[equal, zero, one], Attrs::default())?;
    b.binary("Gather", zero, index)
}

/// The length of a list of as many elements as the number says: an error at run time where that is negative or larger
/// than the bound.
fn counted(b: &mut NodeBuilder, number: ValueId, bound: usize) -> Result<ValueId> {
    let ty = b.ty(number).clone();
    let places: Vec<i64> = (0..bound as i64).collect();
    let places = b.constant(Tensor::new([bound], &places));
    let wide = b.cast(number, DType::I64)?;
    let one = b.constant(Tensor::new([1], &[1i64]));
    let wide = b.binary("Reshape", wide, one)?;
    let end = super::chosen::at_most(b, wide, bound as i64)?;
    let flags = b.binary("Less", places, end)?;
    let list = b.one("Compress", &[places, flags], Attrs::default().with("axis", Attr::Int(0)))?;
    let length = b.unary("Shape", list)?;
    let shape: Vec<i64> = ty.shape.iter().map(|&n| n as i64).collect();
    let shape = b.constant(Tensor::new([shape.len()], &shape));
    let length = b.binary("Reshape", length, shape)?;
    b.cast(length, ty.dtype)
}
