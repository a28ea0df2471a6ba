//! Single elements whose rank depends on the way taken: a scalar before the first iteration of a Loop and a list of one
//! after it, or the one from this branch of an If and the other from that, as converters of frameworks without scalars
//! write them. The longer shape stands for both. A value that is made in every iteration before it is read has no type
//! at first: it gets the one it is made with.

use super::Driver;
use super::body::Parameter;
use super::counters::needed;
use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attrs, Graph, ValueId};
use crate::import::{Body, Declared, SourceNode};

/// The types of what is carried are taken from an iteration at most so many times.
const ROUNDS: usize = 4;

/// The longer of two shapes of one element, where the types differ in rank alone.
fn longer(a: &TensorType, b: &TensorType) -> Option<Vec<usize>> {
    let single = a.dtype == b.dtype && a.elems() == 1 && b.elems() == 1 && a.rank() != b.rank();
    let (a, b) = (&a.shape, &b.shape);
    single.then(|| if a.len() > b.len() { a.clone() } else { b.clone() })
}

/// Gives an output of a body this shape.
fn reshape(body: &mut Body, output: usize, shape: &[usize]) {
    let from = std::mem::replace(&mut body.outputs[output], Declared::plain(""));
    let [list, to] = ["shape", "shaped"].map(|what| format!("{}/{output}/{what}", from.name));
    let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
    body.constants.push((list.clone(), Tensor::new([dims.len()], &dims)));
    body.nodes.push(SourceNode::plain("Reshape", 13, &[&from.name, &list], &to));
    body.outputs[output] = Declared::plain(&to);
}

/// The types of a graph's outputs.
fn types(graph: &Graph) -> impl Iterator<Item = &TensorType> {
    graph.outputs.iter().map(|&o| &graph.value(o).ty)
}

impl Driver {
    /// Two branches as graphs, their single elements of one rank.
    pub(super) fn typed_branches(&mut self, bodies: [&Body; 2], graphs: [Graph; 2]) -> Result<[Graph; 2]> {
        let pairs = types(&graphs[0]).zip(types(&graphs[1]));
        let shapes: Vec<(usize, Vec<usize>)> =
            pairs.enumerate().filter_map(|(i, (a, b))| Some((i, longer(a, b)?))).collect();
        if shapes.is_empty() {
            return Ok(graphs);
        }
        let [then, otherwise] = bodies.map(|body| {
            let mut body = body.clone();
            shapes.iter().for_each(|(i, shape)| reshape(&mut body, *i, shape));
            self.typed_body(&body, Vec::new())
        });
        Ok([then?, otherwise?])
    }

    /// The body of a Loop as a graph, for what it is given. What is carried as a single element gets the rank that it
    /// has after an iteration, in `inputs` too; so does what no iteration reads get the type, where there is one
    /// iteration at least.
    pub(super) fn typed_iteration(
        &mut self,
        body: &Body,
        inputs: &mut [Option<ValueId>],
        runs: bool,
    ) -> Result<Graph> {
        let (_, read) = needed(body, body.outputs.iter().map(|o| o.name.clone()));
        let unread: Vec<bool> = body.inputs.iter().skip(2).map(|i| runs && !read.contains(&i.name)).collect();
        let mut body = body.clone();
        for round in 0..=ROUNDS {
            let given = self.loop_parameters(inputs)?;
            let before: Vec<TensorType> = given.iter().skip(2).map(|p| p.ty.clone()).collect();
            let graph = self.typed_body(&body, given)?;
            let after: Vec<TensorType> = types(&graph).skip(1).take(before.len()).cloned().collect();
            let mut changed = false;
            for (i, (before, after)) in before.iter().zip(&after).enumerate().filter(|_| round < ROUNDS) {
                let shape = longer(before, after);
                changed |= shape.is_some() || unread[i] && before != after;
                match (shape, inputs[i + 2]) {
                    (Some(shape), Some(from)) if before.shape != shape => {
                        inputs[i + 2] = Some(self.reshaped(from, &shape)?);
                    }
                    (Some(shape), _) => reshape(&mut body, i + 1, &shape),
                    (None, _) if unread[i] && before != after => {
                        let zeros = Tensor::from_bytes(after.clone(), vec![0; after.bytes()]);
                        let zeros = zeros.ok_or_else(|| Error::bug("zeros of a type"))?;
                        inputs[i + 2] = Some(self.add_constant("unread", zeros));
                    }
                    _ => {}
                }
            }
            if !changed {
                return Ok(graph);
            }
        }
        Err(Error::bug("rounds end"))
    }

    fn loop_parameters(&self, inputs: &[Option<ValueId>]) -> Result<Vec<Parameter>> {
        let scalar = |dtype| Parameter { ty: TensorType::new(dtype, []), constant: None };
        let mut parameters = vec![scalar(DType::I64), scalar(DType::Bool)];
        for carried in &inputs[2..] {
            let value = carried.ok_or_else(|| Error::model("a carried value is missing"))?;
            parameters.push(self.parameter(value));
        }
        Ok(parameters)
    }

    fn reshaped(&mut self, from: ValueId, shape: &[usize]) -> Result<ValueId> {
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        self.build("rank", |b| {
            let dims = b.constant(Tensor::new([dims.len()], &dims));
            b.one("Reshape", &[from, dims], Attrs::default())
        })
    }
}
