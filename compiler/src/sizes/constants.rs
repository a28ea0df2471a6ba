//! Constants that depend on sizes: a corner of the one at the bounds (positions, masks), or elements
//! that are each a form in the sizes (shapes). Others must be computed at run time.

use super::{Merger, unlike};
use crate::base::{Affine, DType, Tensor, TensorType, row_major_strides};
use crate::definition::{DefBuilder, Stage, ValueId};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::scalar::Op;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Elements of a constant that are looked at one by one.
const MAX_ELEMS: usize = 4096;

impl Merger<'_> {
    pub(super) fn constant(&mut self, value: ValueId) -> Result<()> {
        let tensors = self.samples.iter().map(|s| s.lowering.values[value as usize].constant.as_ref());
        let tensors: Option<Vec<&Tensor>> = tensors.collect();
        let tensors = tensors.ok_or_else(|| unlike("it is a constant for some sizes only"))?;
        if tensors.iter().all(|t| agree(t, tensors[0])) {
            return Ok(());
        }
        if !are_integers(&tensors) {
            return Err(unlike("its elements depend on the sizes in a way that is not supported"));
        }
        self.elements(value, &tensors, &tensors[0].ty.clone())
    }

    /// `sum(table of factors * size) + table`, all tables constant.
    fn elements(&mut self, value: ValueId, tensors: &[&Tensor], ty: &TensorType) -> Result<()> {
        let missing = || Error::bug("integers");
        let numbers: Vec<Vec<i64>> =
            (tensors.iter().map(|t| t.to_i64s())).collect::<Option<Vec<_>>>().ok_or_else(missing)?;
        let mut forms = Vec::new();
        for i in 0..ty.elems() {
            let element: Vec<i64> = numbers.iter().map(|n| n[i]).collect();
            forms.push(self.fit(&element)?);
        }
        let mut vars: Vec<u32> = forms.iter().flat_map(|f| f.terms.iter().map(|t| t.0)).collect();
        vars.sort_unstable();
        vars.dedup();
        let wide = TensorType::new(DType::I64, ty.shape.clone());
        let mut b = DefBuilder::new(&ty.shape);
        let name = self.low.values[value as usize].name.clone();
        let table = |low: &mut crate::definition::Lowering, b: &mut DefBuilder, part: Vec<i64>| {
            let id = low
                .constant(format!("{name}.table{}", low.values.len()), Tensor::new(ty.shape.clone(), &part));
            let axes = b.axes();
            b.load(id, &wide, axes)
        };
        let mut sum = table(&mut self.low, &mut b, forms.iter().map(|f| f.base).collect());
        for var in vars {
            let factors = table(&mut self.low, &mut b, forms.iter().map(|f| f.coefficient(var)).collect());
            let size = b.index(Affine::var(var));
            let product = b.op(Op::Mul, &[factors, size]);
            sum = b.op(Op::Add, &[sum, product]);
        }
        let element = b.cast(ty.dtype, sum);
        let definition = b.finish(&name, value, ty, element);
        self.low.values[value as usize].constant = None;
        self.before.push(Stage::Define(definition));
        Ok(())
    }
}

/// Whether tensors are so few integers that each can be a form in the sizes.
pub(super) fn are_integers(tensors: &[&Tensor]) -> bool {
    let ty = &tensors[0].ty;
    ty.dtype.is_int() && ty.elems() <= MAX_ELEMS && tensors.iter().all(|t| t.ty == *ty)
}

/// The names of what was computed while the graphs of several samples were typed, and is neither a corner
/// of one tensor nor a few integers.
pub fn differing(graphs: &[&Graph]) -> HashSet<String> {
    let maps: Vec<_> = graphs.iter().map(|g| made(g)).collect();
    let Some((first, others)) = maps.split_first() else { return HashSet::new() };
    let differs = |(name, tensor): &(&String, &&Tensor)| {
        let others = others.iter().filter_map(|m| m.get(*name).copied());
        let all: Vec<&Tensor> = std::iter::once(**tensor).chain(others).collect();
        !are_integers(&all) && all.iter().any(|t| !agree(t, tensor))
    };
    first.iter().filter(differs).map(|(name, _)| name.clone()).collect()
}

/// The names of what is the same in all samples, but not in graphs of small sizes.
pub fn special(graphs: &[&Graph], small: &[&Graph]) -> HashSet<String> {
    let maps: Vec<_> = graphs.iter().map(|g| made(g)).collect();
    let Some((first, others)) = maps.split_first() else { return HashSet::new() };
    let small: Vec<_> = small.iter().map(|g| made(g)).collect();
    let differs = |(name, tensor): &(&String, &&Tensor)| {
        let typed = |map: &Made| map.get(*name).is_some_and(|t| t.ty == tensor.ty);
        let same = |map: &Made| map.get(*name) == Some(*tensor);
        others.iter().all(same) && small.iter().any(|map| typed(map) && !same(map))
    };
    first.iter().filter(differs).map(|(name, _)| name.clone()).collect()
}

/// Constants by name; those of bodies behind what [`Graph::bodies`] says.
type Made<'g> = HashMap<String, &'g Tensor>;

/// What was computed while a graph was typed, in its bodies too, with what those copy from the graphs around them.
pub fn made(graph: &Graph) -> HashMap<String, &Tensor> {
    let mut made = HashMap::new();
    add_made(graph, "", &mut made);
    made
}

fn add_made<'g>(graph: &'g Graph, around: &str, made: &mut Made<'g>) {
    let folded = graph.folded.iter().flat_map(|n| n.outputs.iter().flatten());
    let values = folded.chain(graph.copies.iter().map(|c| &c.1)).map(|&v| graph.value(v));
    made.extend(values.filter_map(|v| Some((format!("{around}{}", v.name), v.constant.as_ref()?))));
    for node in &graph.nodes {
        graph.bodies(node, around).into_iter().for_each(|(around, body)| add_made(body, &around, made));
    }
}

fn by_name<'g>(values: impl Iterator<Item = &'g Value>) -> HashMap<&'g str, &'g Tensor> {
    values.filter_map(|v| Some((v.name.as_str(), v.constant.as_ref()?))).collect()
}

/// The constants of several samples by name, numbered as [`Graph::alike`] says.
pub fn alike(graphs: &[&Graph]) -> HashMap<String, usize> {
    let maps: Vec<_> = graphs.iter().map(|g| by_name(g.values.iter())).collect();
    let (mut numbers, mut found) = (HashMap::new(), HashMap::new());
    for value in graphs.first().iter().flat_map(|g| &g.values).filter(|v| v.constant.is_some()) {
        let all: Vec<&Tensor> = maps.iter().filter_map(|m| m.get(value.name.as_str()).copied()).collect();
        let same = |t: &&Tensor| Arc::ptr_eq(&t.data, &all[0].data) || t.data == all[0].data;
        let fixed = all.len() == graphs.len() && all.iter().all(|t| t.ty == all[0].ty && same(t));
        let next = numbers.len() + 1;
        let number = match fixed {
            true => 0,
            false => {
                let key: Vec<_> = all.iter().map(|t| (t.ty.clone(), t.data.clone())).collect();
                *numbers.entry(key).or_insert(next)
            }
        };
        found.insert(value.name.clone(), number);
    }
    found
}

/// The names of constants whose elements are all one number, the same in each sample.
pub fn uniform(graphs: &[&Graph]) -> HashSet<String> {
    let mut numbers: HashMap<&str, Option<&[u8]>> = HashMap::new();
    for value in graphs.iter().flat_map(|g| &g.values) {
        let Some(tensor) = &value.constant else { continue };
        let number = tensor.repeated();
        numbers.entry(&value.name).and_modify(|n| *n = n.filter(|n| Some(*n) == number)).or_insert(number);
    }
    numbers.into_iter().filter(|(_, n)| n.is_some()).map(|(name, _)| name.to_string()).collect()
}

/// Whether two tensors have the same elements wherever both have one.
pub(super) fn agree(a: &Tensor, b: &Tensor) -> bool {
    if a.ty == b.ty {
        return a.data == b.data;
    }
    if a.ty.rank() != b.ty.rank() || a.ty.dtype != b.ty.dtype {
        return false;
    }
    let shape: Vec<usize> = a.ty.shape.iter().zip(&b.ty.shape).map(|(a, b)| *a.min(b)).collect();
    let Some((row, outer)) = shape.split_last() else { return a.data == b.data };
    if *row == 0 {
        return true;
    }
    let (size, of_a, of_b) =
        (a.ty.dtype.size(), row_major_strides(&a.ty.shape), row_major_strides(&b.ty.shape));
    let mut index = vec![0usize; outer.len()];
    for _ in 0..outer.iter().product() {
        let place = |strides: &[i64]| -> usize {
            index.iter().zip(strides).map(|(&i, s)| i * *s as usize).sum::<usize>() * size
        };
        let (x, y) = (place(&of_a), place(&of_b));
        if a.data[x..][..row * size] != b.data[y..][..row * size] {
            return false;
        }
        for d in (0..index.len()).rev() {
            index[d] += 1;
            if index[d] < outer[d] {
                break;
            }
            index[d] = 0;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tensors agree where both have elements, along every axis.
    #[test]
    fn corners_agree() {
        let table = |rows: usize, columns: usize, by: i64| {
            let elements = (0..rows * columns).map(|i| by * (10 * (i / columns) + i % columns) as i64);
            Tensor::new([rows, columns], &elements.collect::<Vec<_>>())
        };
        let whole = table(3, 4, 1);
        for (rows, columns) in [(3, 4), (2, 4), (3, 2), (5, 7), (5, 1), (0, 4), (3, 0)] {
            let other = table(rows, columns, 1);
            assert!(agree(&whole, &other) && agree(&other, &whole), "{rows} {columns}");
            let differs = rows.min(3) * columns.min(4) > 1;
            assert_eq!(agree(&whole, &table(rows, columns, 2)), !differs, "{rows} {columns}");
        }
        assert!(!agree(&whole, &whole.reshaped([12]).expect("as many elements")));
    }
}
