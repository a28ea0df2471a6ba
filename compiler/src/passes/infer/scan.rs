//! Scan: unrolled where it is short, a typed body otherwise; that of opset 8 once per sequence of its
//! batch.

use super::body::Parameter;
use super::control::{Bindings, MAX_UNROLLED, MAX_UNROLLED_IN_ALL, body};
use super::{Binding, Driver, values};
use crate::base::Tensor;
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId};
use crate::import::{Body, SourceNode};

fn given(inputs: &[Option<ValueId>]) -> Result<Vec<ValueId>> {
    let missing = || Error::model("an input of Scan is missing");
    inputs.iter().map(|v| v.ok_or_else(missing)).collect()
}

impl Driver {
    pub(super) fn scan_node(&mut self, node: &SourceNode, inputs: Bindings) -> Result<Bindings> {
        let inputs = values(&inputs)?;
        if node.opset < 9 {
            return self.batched_scan(node, &inputs);
        }
        self.scan(node, given(&inputs)?)
    }

    /// Scan of opset 8: inputs and outputs have a batch in front, then the sequence; input 0 holds the
    /// lengths of the sequences. One scan per sequence of the batch.
    fn batched_scan(&mut self, node: &SourceNode, inputs: &[Option<ValueId>]) -> Result<Bindings> {
        let inputs = match inputs {
            [None, rest @ ..] => given(rest)?,
            [Some(lengths), rest @ ..] => {
                let rest = given(rest)?;
                self.check_lengths(*lengths, rest.last().copied())?;
                rest
            }
            [] => return Err(Error::model("an input of Scan is missing")),
        };
        let batch = |driver: &Driver| {
            let first = |&v: &ValueId| driver.graph().value(v).ty.shape.first().copied();
            let mut all = inputs.iter().map(first);
            let batch = all.next().flatten()?;
            all.all(|b| b == Some(batch)).then_some(batch)
        };
        let batch = batch(self).filter(|&b| b > 0);
        let batch = batch.ok_or_else(|| Error::model("the inputs of Scan have no batch in common"))?;
        if !self.is_short(body(node, "body")?, batch, MAX_UNROLLED_IN_ALL) {
            return Err(Error::model(format!(
                "a batch of {batch} would be {batch} scans, which is too many"
            ))
            .advise("Export with opset 9 or later, where Scan has no batch"));
        }
        let mut one = SourceNode { opset: 9, ..node.clone() };
        if let Some(directions) = one.attrs.0.remove("directions") {
            one.attrs.set("scan_input_directions", directions);
        }
        let mut results: Vec<Vec<ValueId>> = Vec::new();
        for number in 0..batch {
            let parts = self.build(&node.name, |b| {
                let at = b.constant(Tensor::scalar(number as i64));
                inputs.iter().map(|&x| b.binary("Gather", x, at)).collect::<Result<Vec<_>>>()
            })?;
            let outputs = self.repeated(batch, |d| d.scan(&one, parts))?;
            results.resize(outputs.len(), Vec::new());
            for (list, output) in results.iter_mut().zip(&values(&outputs)?) {
                list.extend(output);
            }
        }
        let stacked = results.iter().map(|list| match list.len() == batch {
            true => Ok(Some(Binding::Value(self.stack(list, 0)?))),
            false => Ok(None),
        });
        stacked.collect()
    }

    /// All sequences must have the whole length.
    fn check_lengths(&self, lengths: ValueId, scanned: Option<ValueId>) -> Result<()> {
        let whole = scanned.and_then(|v| self.graph().value(v).ty.shape.get(1)).map(|&n| n as i64);
        let known = self.constant(lengths).and_then(Tensor::to_i64s);
        match known {
            Some(lengths) if lengths.iter().all(|&n| Some(n) == whole) => Ok(()),
            _ => Err(Error::model("sequence_lens must be constant, and the whole length of the sequences")
                .advise("Leave the input out, or export with opset 9 or later")),
        }
    }

    fn scan(&mut self, node: &SourceNode, inputs: Vec<ValueId>) -> Result<Bindings> {
        let body = body(node, "body")?;
        let scans = usize::try_from(node.attrs.int("num_scan_inputs", 0)?).unwrap_or(usize::MAX);
        let states = inputs.len().checked_sub(scans).filter(|_| scans > 0);
        let states =
            states.ok_or_else(|| Error::model("attribute num_scan_inputs does not fit the inputs"))?;
        let axes = node.attrs.get_ints("scan_input_axes")?.map_or(vec![0; scans], <[i64]>::to_vec);
        if axes.len() != scans {
            return Err(Error::model("attribute scan_input_axes does not fit the inputs"));
        }
        let mut parameters: Vec<Parameter> = inputs[..states].iter().map(|&v| self.parameter(v)).collect();
        let mut front = Vec::new();
        let mut trips = None;
        for (&value, &axis) in inputs[states..].iter().zip(&axes) {
            let mut ty = self.graph().value(value).ty.clone();
            let at = if axis < 0 { axis + ty.rank() as i64 } else { axis };
            let at = usize::try_from(at).ok().filter(|&a| a < ty.rank());
            let at = at.ok_or_else(|| Error::model(format!("axis {axis} lies outside {ty}")))?;
            let extent = ty.shape.remove(at);
            if *trips.get_or_insert(extent) != extent {
                return Err(Error::model("the scan inputs have different lengths"));
            }
            front.push(at as i64);
            parameters.push(Parameter { ty, constant: None });
        }
        let trips = trips.unwrap_or(0);
        // How often it runs may depend on a size that is known only at run time.
        let sized = self.graph().sample > 0;
        if !sized && trips > 0 && self.is_short(body, trips, MAX_UNROLLED) {
            return self.unroll_scan(node, body, &inputs, states, &front, trips);
        }
        let graph = self.typed_body(body, parameters)?;
        self.keep(node, inputs.into_iter().map(Some).collect(), vec![("body", graph)])
    }

    fn unroll_scan(
        &mut self,
        node: &SourceNode,
        body: &Body,
        inputs: &[ValueId],
        states: usize,
        axes: &[i64],
        trips: usize,
    ) -> Result<Bindings> {
        let outs = body.outputs.len().checked_sub(states);
        let outs = outs.ok_or_else(|| Error::model("the body has fewer outputs than states"))?;
        let list = |name: &str, count: usize| -> Result<Vec<i64>> {
            let given = node.attrs.get_ints(name)?.map_or(vec![0; count], <[i64]>::to_vec);
            match given.len() == count {
                true => Ok(given),
                false => Err(Error::model(format!("attribute {name} must have {count} entries"))),
            }
        };
        let backwards = list("scan_input_directions", axes.len())?;
        let (out_axes, out_backwards) =
            (list("scan_output_axes", outs)?, list("scan_output_directions", outs)?);
        let mut carried: Vec<Binding> = inputs[..states].iter().map(|&v| Binding::Value(v)).collect();
        let mut stacks: Vec<Vec<ValueId>> = vec![Vec::new(); outs];
        for trip in 0..trips {
            let mut given = std::mem::take(&mut carried);
            for ((&value, &axis), &back) in inputs[states..].iter().zip(axes).zip(&backwards) {
                let at = if back == 1 { trips - 1 - trip } else { trip } as i64;
                let slice = self.build(&node.name, |b| {
                    let at = b.constant(Tensor::scalar(at));
                    b.one("Gather", &[value, at], Attrs::default().with("axis", Attr::Int(axis)))
                })?;
                given.push(Binding::Value(slice));
            }
            let mut outputs = self.repeated(trips, |d| d.inline(body, given))?.into_iter();
            carried = outputs.by_ref().take(states).collect();
            for (stack, output) in stacks.iter_mut().zip(outputs) {
                match output {
                    Binding::Value(id) => stack.push(id),
                    _ => return Err(Error::model("scan outputs must be tensors")),
                }
            }
        }
        let mut outputs: Bindings = carried.into_iter().map(Some).collect();
        for ((mut stack, axis), back) in stacks.into_iter().zip(out_axes).zip(out_backwards) {
            if back == 1 {
                stack.reverse();
            }
            outputs.push(Some(Binding::Value(self.stack(&stack, axis)?)));
        }
        Ok(outputs)
    }
}
