//! What operators are lowered to: a list of stages over values, some of them loops.

use super::{Definition, Operand, ValueId};
use crate::base::affine::as_size;
use crate::base::{Affine, DType, Tensor, TensorType};
use crate::tile::{Access, Kernel};
use std::collections::BTreeMap;

/// A value of a lowering: those of the graph first, under the same ids, then temporaries.
#[derive(Clone, Debug, PartialEq)]
pub struct LoweredValue {
    /// Unique name.
    pub name: String,
    /// Element type and shape.
    pub ty: TensorType,
    /// The elements, where constant.
    pub constant: Option<Tensor>,
}

/// A kernel written by hand, for what no definition says: data-dependent sizes, sorting, scans.
#[derive(Clone, Debug, PartialEq)]
pub struct Routine {
    /// One operand per parameter of the kernel, in order; dense and row-major.
    pub operands: Vec<Operand>,
    /// The kernel.
    pub kernel: Kernel,
}

/// One step of a lowering.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// A definition.
    Define(Definition),
    /// A routine.
    Routine(Routine),
    /// `to` has the elements of `from`, in row-major order, under another shape.
    Reshape {
        /// The value read.
        from: ValueId,
        /// The value written.
        to: ValueId,
    },
    /// Stages repeated a number of times.
    Repeat(Repeat),
    /// Stages repeated over strips of tensors.
    Strips(Strips),
}

/// Stages that compute tensors strip by strip: what lies between them exists for one strip only.
///
/// ```text
/// for i in 0..count:
///     body, where each view's `part` is `whole` from `start + i * step` on along `dim`
/// ```
/// A view is a pointer: what is written to a part is in its whole at once, and in the other parts that
/// share the place. Other values that the body writes live inside one iteration.
#[derive(Clone, Debug, PartialEq)]
pub struct Strips {
    /// How often the body runs.
    pub count: usize,
    /// The parts that the body sees of values outside.
    pub views: Vec<View>,
    /// Definitions and strips.
    pub body: Vec<Stage>,
}

/// A part of a value that is shorter along one dimension, and moves with the iteration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The value outside.
    pub whole: ValueId,
    /// The value inside; its type says how long it is.
    pub part: ValueId,
    /// The dimension.
    pub dim: usize,
    /// Where it begins in iteration 0.
    pub start: usize,
    /// How much further in each next one.
    pub step: usize,
}

/// A loop over the first dimension of some values (time), known to run `count` times.
///
/// ```text
/// for each carry:  state = initial
/// for i in 0..count:                                    (while the condition is true)
///     for each slice read:     part = whole[i]          (whole[count - 1 - i] where reversed)
///     body                                              (each value written once, as everywhere)
///     for each slice written:  whole[i] = part          (likewise)
///     for each carry:  state = next                     (all at once)
/// for each carry:  last = state
/// ```
/// `part`, `state`, `next` and what the body writes live inside one iteration; `whole`,
/// `initial`, `last` and all else the body reads live outside. A part is a pointer into its whole
/// that moves by one slice each iteration; no element is copied for it. `state` and `next` may share
/// memory where no stage of the body still reads `state` after `next` is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Repeat {
    /// How often the body runs.
    pub count: usize,
    /// Affine in sizes known only at run time: how often it runs in place of `count`, the bound.
    pub size: Option<Affine>,
    /// A state, one boolean, that ends the loop: it is tested before each iteration.
    pub condition: Option<ValueId>,
    /// Views that move with the iteration.
    pub slices: Vec<Slice>,
    /// Values that go from one iteration to the next.
    pub carries: Vec<Carry>,
    /// What is repeated.
    pub body: Vec<Stage>,
}

impl Repeat {
    /// The stages in place of a loop that runs once.
    pub fn once(self) -> Vec<Stage> {
        let (written, read): (Vec<Slice>, Vec<Slice>) = self.slices.into_iter().partition(|s| s.written);
        let mut stages: Vec<Stage> =
            read.iter().map(|s| Stage::Reshape { from: s.whole, to: s.part }).collect();
        stages.extend(self.carries.iter().map(|c| Stage::Reshape { from: c.initial, to: c.state }));
        stages.extend(self.body);
        stages.extend(written.iter().map(|s| Stage::Reshape { from: s.part, to: s.whole }));
        stages.extend(self.carries.iter().map(|c| Stage::Reshape { from: c.next, to: c.last }));
        stages
    }
}

/// A view of one element of the first dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The value outside, `[count, D...]`.
    pub whole: ValueId,
    /// The value inside, `[D...]`.
    pub part: ValueId,
    /// Whether iteration `i` sees element `count - 1 - i` in place of `i`.
    pub reversed: bool,
    /// Whether the body writes the part (all of it, in every iteration); it reads it otherwise.
    pub written: bool,
}

/// A value that goes from one iteration to the next; all four have one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carry {
    /// Its value before the first iteration; from outside.
    pub initial: ValueId,
    /// Its value inside, at the beginning of an iteration.
    pub state: ValueId,
    /// What the body makes of it (`state` itself where the body leaves it alone).
    pub next: ValueId,
    /// Its value after the last iteration; seen outside.
    pub last: ValueId,
}

/// All definitions of stages in order, those in loops and strips too.
pub fn definitions(stages: &[Stage]) -> Vec<&Definition> {
    fn collect<'a>(stages: &'a [Stage], found: &mut Vec<&'a Definition>) {
        for stage in stages {
            match stage {
                Stage::Define(def) => found.push(def),
                Stage::Repeat(repeat) => collect(&repeat.body, found),
                Stage::Strips(strips) => collect(&strips.body, found),
                Stage::Routine(_) | Stage::Reshape { .. } => {}
            }
        }
    }
    let mut found = Vec::new();
    collect(stages, &mut found);
    found
}

/// Calls `f` with each of them.
pub fn each_definition(stages: &mut [Stage], f: &mut dyn FnMut(&mut Definition)) {
    for stage in stages {
        match stage {
            Stage::Define(def) => f(def),
            Stage::Repeat(repeat) => each_definition(&mut repeat.body, f),
            Stage::Strips(strips) => each_definition(&mut strips.body, f),
            Stage::Routine(_) | Stage::Reshape { .. } => {}
        }
    }
}

impl Stage {
    /// The numbers of the sizes that the stage names, some of them repeatedly. (A routine reads them.)
    pub fn sizes(&self) -> Vec<usize> {
        match self {
            Stage::Define(d) => d.sizes().collect(),
            Stage::Routine(_) | Stage::Reshape { .. } => Vec::new(),
            Stage::Repeat(r) => {
                let count = r.size.iter().flat_map(|f| &f.terms).filter_map(|t| Some(as_size(t.0)?.0));
                count.chain(r.body.iter().flat_map(Stage::sizes)).collect()
            }
            Stage::Strips(s) => s.body.iter().flat_map(Stage::sizes).collect(),
        }
    }
}

impl Repeat {
    /// The values outside that the loop writes.
    pub fn writes(&self) -> Vec<ValueId> {
        let wholes = self.slices.iter().filter(|s| s.written).map(|s| s.whole);
        wholes.chain(self.carries.iter().map(|c| c.last)).collect()
    }

    /// The values inside that are there before the body runs: parts that are read, and states.
    pub fn entry(&self) -> Vec<ValueId> {
        let parts = self.slices.iter().filter(|s| !s.written).map(|s| s.part);
        parts.chain(self.carries.iter().map(|c| c.state)).collect()
    }

    /// The values inside that are wanted after the body has run: parts that are written, and the
    /// next states.
    pub fn exit(&self) -> Vec<ValueId> {
        let parts = self.slices.iter().filter(|s| s.written).map(|s| s.part);
        parts.chain(self.carries.iter().map(|c| c.next)).collect()
    }
}

/// A size known only at run time: number `n` of [`Lowering::sizes`] is the variable
/// [`crate::base::affine::size_var`]`(n, max)` of every affine form.
#[derive(Clone, Debug, PartialEq)]
pub struct Size {
    /// The ONNX name of a free dimension, which the caller gives; `None` where the model computes it.
    pub name: Option<String>,
    /// The value that holds it: one `i64` in `0..=max`.
    pub value: ValueId,
    /// The largest size.
    pub max: usize,
    /// The size for which the stages are written, where they are those of one size (see
    /// `crate::sizes`); otherwise the bound.
    pub sample: usize,
    /// The smallest size that the caller may give.
    pub least: usize,
    /// What the caller must give: the sum of multiples of other sizes, by number, and a number.
    pub sum: Option<(Vec<(usize, usize)>, usize)>,
    /// What the caller must give: a multiple of the first number and the second.
    pub step: (usize, usize),
}

/// Values and stages, in execution order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lowering {
    /// All values.
    pub values: Vec<LoweredValue>,
    /// All stages.
    pub stages: Vec<Stage>,
    /// The sizes known only at run time.
    pub sizes: Vec<Size>,
    /// For values with such sizes, each dimension as a form in them; the type states the bounds, and
    /// elements lie where they would at the bounds.
    pub dims: BTreeMap<ValueId, Vec<Affine>>,
}

impl Lowering {
    /// Adds a temporary.
    pub fn temporary(&mut self, name: impl Into<String>, ty: TensorType) -> ValueId {
        self.values.push(LoweredValue { name: name.into(), ty, constant: None });
        (self.values.len() - 1) as ValueId
    }

    /// Adds a constant.
    pub fn constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        let id = self.temporary(name, tensor.ty.clone());
        self.values[id as usize].constant = Some(tensor);
        id
    }

    /// Adds a size that the model computes, at most `max`; gives the value to write it to.
    pub fn size(&mut self, name: impl Into<String>, max: usize, sample: usize) -> ValueId {
        let value = self.temporary(name, TensorType::new(DType::I64, []));
        self.sizes.push(Size { name: None, value, max, sample, least: 1, sum: None, step: (1, 0) });
        value
    }

    /// Adds a loop; one that never runs leaves what is carried as it begins.
    pub fn repeat(&mut self, repeat: Repeat) {
        match repeat.count {
            0 => {
                let unchanged = |c: &Carry| Stage::Reshape { from: c.initial, to: c.last };
                self.stages.extend(repeat.carries.iter().map(unchanged));
            }
            _ => self.stages.push(Stage::Repeat(repeat)),
        }
    }

    /// Adds a definition.
    pub fn define(&mut self, definition: Definition) {
        self.stages.push(Stage::Define(definition));
    }
}

impl Stage {
    /// The values the stage reads; for a loop, those outside of it.
    pub fn reads(&self) -> Vec<ValueId> {
        match self {
            Stage::Define(d) => d.operands.iter().map(|o| o.value).collect(),
            Stage::Routine(r) => r.values(|access| access != Access::Write),
            Stage::Reshape { from, .. } => vec![*from],
            Stage::Repeat(r) => r.reads(),
            Stage::Strips(s) => s.outside(Stage::reads),
        }
    }

    /// The values the stage writes; for a loop, those outside of it.
    pub fn writes(&self) -> Vec<ValueId> {
        match self {
            Stage::Define(d) => vec![d.output.value],
            Stage::Routine(r) => r.values(|access| access != Access::Read),
            Stage::Reshape { to, .. } => vec![*to],
            Stage::Repeat(r) => r.writes(),
            Stage::Strips(s) => s.outside(Stage::writes),
        }
    }
}

impl Repeat {
    /// The values outside that the loop reads.
    pub fn reads(&self) -> Vec<ValueId> {
        let inside: Vec<ValueId> =
            self.entry().into_iter().chain(self.body.iter().flat_map(Stage::writes)).collect();
        let wholes = self.slices.iter().filter(|s| !s.written).map(|s| s.whole);
        let body = self.body.iter().flat_map(Stage::reads).filter(|v| !inside.contains(v));
        wholes.chain(self.carries.iter().map(|c| c.initial)).chain(body).collect()
    }
}

impl Strips {
    /// What the stages of the body touch, as values outside.
    fn outside(&self, touched: fn(&Stage) -> Vec<ValueId>) -> Vec<ValueId> {
        let inside: Vec<ValueId> = self.body.iter().flat_map(Stage::writes).collect();
        let outside = |v: ValueId| match self.views.iter().find(|view| view.part == v) {
            Some(view) => Some(view.whole),
            None => (!inside.contains(&v)).then_some(v),
        };
        let mut found: Vec<ValueId> = self.body.iter().flat_map(touched).filter_map(outside).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Routine {
    fn values(&self, wanted: impl Fn(Access) -> bool) -> Vec<ValueId> {
        let pairs = self.operands.iter().zip(&self.kernel.params);
        pairs.filter(|(_, p)| wanted(p.access)).map(|(o, _)| o.value).collect()
    }
}
