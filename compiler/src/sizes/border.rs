//! The application's tensors: dense at the actual sizes.
//!
//! Where a free dimension is the outermost (but for dimensions of 1), the elements lie where they
//! would at the bound, and nothing is copied.

use super::Merger;
use super::reshape::Shape;
use crate::base::affine::as_size;
use crate::base::{Affine, TensorType};
use crate::definition::ValueId;
use crate::error::{Error, Result};
use crate::plan::{Interface, Lowered};

/// An input or output: the value in the application's memory, the value in the graph, dimensions.
pub(super) struct Border {
    value: ValueId,
    shown: ValueId,
    dims: Vec<Affine>,
}

/// Whether elements lie alike at the bounds and at the actual sizes.
fn is_dense(dims: &[Affine]) -> bool {
    let first = dims.iter().position(|d| *d != Affine::constant(1)).unwrap_or(0);
    dims.iter().skip(first + 1).all(Affine::is_constant)
}

impl Merger<'_> {
    pub(super) fn border_input(&mut self, value: ValueId) -> Result<Border> {
        self.ensure(value)?;
        let dims = self.dims(value);
        if is_dense(&dims) {
            return Ok(Border { value, shown: value, dims });
        }
        let to = self.shape(value);
        // How many rows there are is not needed: the dimension is not divided.
        let dense = self.dense(&to, Affine::constant(-1));
        let stage = self.copied(&to, &dense, false)?;
        self.before.push(stage);
        Ok(Border { value: dense.value, shown: value, dims })
    }

    pub(super) fn border_output(&mut self, value: ValueId, shown: ValueId) -> Result<Border> {
        self.ensure(value)?;
        let mut dims = self.dims(value);
        let from = self.shape(value);
        let dense = match is_dense(&dims) {
            true => value,
            false => {
                let rows = self.rows(&dims)?;
                let dense = self.dense(&from, rows);
                let stage = self.copied(&from, &dense, true)?;
                self.before.push(stage);
                dense.value
            }
        };
        for dim in dims.iter_mut().filter(|d| !d.is_constant()) {
            *dim = self.facts.plain(dim, &mut self.low, &mut self.before)?;
        }
        Ok(Border { value: dense, shown, dims })
    }

    /// The number of rows: the product of all dimensions but the fixed ones at the end.
    fn rows(&mut self, dims: &[Affine]) -> Result<Affine> {
        let last = dims.iter().rposition(|d| !d.is_constant()).map_or(0, |d| d + 1);
        let mut rows = Affine::constant(1);
        for dim in &dims[..last] {
            rows = match (rows.is_constant(), dim.is_constant()) {
                (true, _) => dim.scaled(rows.base),
                (_, true) => rows.scaled(dim.base),
                _ => {
                    let numbers: Vec<i64> = (0..self.samples.len())
                        .map(|k| self.facts.at(&rows, k) * self.facts.at(dim, k))
                        .collect();
                    let (a, b) = (rows.clone(), dim.clone());
                    self.facts.product(&a, &b, &numbers, &mut self.low, &mut self.before)?
                }
            };
        }
        Ok(rows)
    }

    /// A value with the elements of another in rows as long as its fixed dimensions at the end.
    fn dense(&mut self, of: &Shape, rows: Affine) -> Shape {
        let last = of.dims.iter().rposition(|d| !d.is_constant()).map_or(0, |d| d + 1);
        let inner: usize = of.ty.shape[last..].iter().product();
        let outer: usize = of.ty.shape[..last].iter().product();
        let ty = TensorType::new(of.ty.dtype, [outer, inner]);
        let name = format!("{}.dense", self.low.values[of.value as usize].name);
        let value = self.low.temporary(name, ty.clone());
        let dims = vec![rows, Affine::constant(inner as i64)];
        if dims[0].has_size() {
            self.low.dims.insert(value, dims.clone());
        }
        Shape { value, ty, dims }
    }

    /// The merged lowering with its interface.
    pub(super) fn finish(self, inputs: Vec<Border>, outputs: Vec<Border>) -> Result<Lowered> {
        let named = (0..self.low.sizes.len()).filter(|&n| self.low.sizes[n].name.is_some());
        let mut visible: Vec<usize> = named.collect();
        for form in outputs.iter().flat_map(|o| &o.dims) {
            if let Some((number, _)) = form.terms.first().and_then(|t| as_size(t.0))
                && !visible.contains(&number)
            {
                visible.push(number);
            }
        }
        let first = &self.samples[0].graph;
        let interface = |b: &Border| -> Result<(ValueId, Interface)> {
            let symbol = |form: &Affine| -> Result<Option<u32>> {
                let Some((number, _)) = form.terms.first().and_then(|t| as_size(t.0)) else {
                    return Ok(None);
                };
                let place = visible.iter().position(|&v| v == number);
                place.map(|p| Some(p as u32)).ok_or_else(|| Error::bug("a dimension of an input is no size"))
            };
            let value = first.value(b.shown);
            let mut symbolic = b.dims.iter().map(symbol).collect::<Result<Vec<_>>>()?;
            if symbolic.iter().all(Option::is_none) {
                symbolic.clear();
            }
            Ok((b.value, Interface { name: value.name.clone(), ty: value.ty.clone(), symbolic }))
        };
        let (inputs, outputs): (Result<Vec<_>>, Result<Vec<_>>) =
            (inputs.iter().map(interface).collect(), outputs.iter().map(interface).collect());
        Ok(Lowered { inputs: inputs?, outputs: outputs?, visible, entries: None, lowering: self.low })
    }
}
