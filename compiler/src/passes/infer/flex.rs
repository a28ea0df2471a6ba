//! FlexAttention whose scores or probabilities go through graphs of the model: these are inlined
//! between the parts of the attention, and may use values from around the node.

use super::control::Bindings;
use super::{Binding, Driver};
use crate::error::{Error, Result};
use crate::graph::ValueId;
use crate::import::SourceNode;
use crate::ops::flex_attention::Parts;

impl Driver {
    pub(super) fn flex_attention(
        &mut self,
        node: &SourceNode,
        inputs: Vec<Option<ValueId>>,
    ) -> Result<Bindings> {
        if node.bodies.is_empty() {
            return self.plain_node(node, inputs);
        }
        let [Some(q), Some(k), Some(v)] = inputs[..] else {
            return Err(Error::model("queries, keys and values must be given"));
        };
        let ty = |id: ValueId| &self.graph().value(id).ty;
        let parts = Parts::new(ty(q), ty(k), ty(v), &node.attrs)?;
        let scores = self.build(&node.name, |b| parts.scores(b, q, k))?;
        let scores = self.modified(node, "score_mod", scores)?;
        let weights = self.build(&node.name, |b| parts.weights(b, scores))?;
        let weights = self.modified(node, "prob_mod", weights)?;
        let result = self.build(&node.name, |b| parts.result(b, weights, v))?;
        Ok(vec![Some(Binding::Value(result))])
    }

    /// A value after a graph of the node, which keeps its type; itself where there is none.
    fn modified(&mut self, node: &SourceNode, name: &str, value: ValueId) -> Result<ValueId> {
        let Some(body) = node.bodies.get(name) else { return Ok(value) };
        let outputs = self.inline(body, vec![Binding::Value(value)])?;
        let [Binding::Value(after)] = outputs[..] else {
            return Err(Error::model(format!("the graph {name} must give one tensor")));
        };
        let (have, want) = (&self.graph().value(after).ty, &self.graph().value(value).ty);
        if have != want {
            return Err(Error::model(format!("the graph {name} makes {have} of {want}")));
        }
        Ok(after)
    }
}
