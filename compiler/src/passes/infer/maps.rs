//! Maps of a classifier's scores: a ZipMap only names the columns of a tensor, which takes its place.

use super::control::Bindings;
use super::{Binding, Driver};
use crate::error::{Error, Result};
use crate::graph::Attr;
use crate::import::SourceNode;

/// What a note says of the columns of a tensor, shortened where there are many.
fn listed(node: &SourceNode) -> Option<String> {
    const SHOWN: usize = 16;
    let attr = |name: &str| node.attrs.0.get(name);
    let labels: Vec<String> = match (attr("classlabels_strings"), attr("classlabels_int64s")) {
        (Some(Attr::Strs(names)), _) if !names.is_empty() => names.iter().map(|n| format!("'{n}'")).collect(),
        (_, Some(Attr::Ints(numbers))) => numbers.iter().map(i64::to_string).collect(),
        _ => return None,
    };
    let more = if labels.len() > SHOWN { ", ..." } else { "" };
    Some(format!("{}{more}", labels[..labels.len().min(SHOWN)].join(", ")))
}

impl Driver {
    /// ZipMap: its output is the tensor.
    pub(super) fn zip_map(&mut self, node: &SourceNode, inputs: Bindings) -> Result<Bindings> {
        let Some(Some(Binding::Value(scores))) = inputs.first() else {
            return Err(Error::model("input 0 must be a tensor"));
        };
        let labels = listed(node).ok_or_else(|| Error::model("the labels are missing"))?;
        self.notes.push(format!(
            "{}: maps are not supported; the output is the tensor, whose columns are {labels}",
            node.place()
        ));
        Ok(vec![Some(Binding::Value(*scores))])
    }
}
