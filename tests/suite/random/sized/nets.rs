//! Random nets with branches, of floats and between quantizations, whose images may be of any height and width.
//!
//! They are made for one size, which is the bound; blocks whose shapes are written down for that size are left out.

use super::agree_with;
use crate::lengths::name_dim;
use crate::random::maker::Maker;
use crate::random::{nets, setting, structured};
use crate::sizes::{bounded, decode};
use crate::support::{scratch, write};
use lmc::base::{DType, Tensor};
use lmc::build::Build;
use lmc::error::{Error, Kind};
use lmc::schedule::Prefer;
use prost::Message;
use tract_onnx::pb;

/// Operators that are told how large something is, and means of as many elements as there are, which are rounded.
const OF_ONE_SIZE: &[&str] = &["Reshape", "Flatten", "Gemm", "GlobalAveragePool", "ReduceMean"];

/// What reads weights.
const WEIGHTED: &[&str] = &["Conv", "ConvTranspose", "DequantizeLinear"];

/// The dimensions after batch and channels.
const NAMES: [&str; 2] = ["height", "width"];

/// A net of the recipes, and its inputs; those as large as the first one have names in place of sizes.
struct Net {
    proto: pb::ModelProto,
    inputs: Vec<Tensor>,
    operators: Vec<String>,
}

impl Net {
    fn new(seed: u64) -> Option<Net> {
        let mut maker = Maker::new(seed, 21);
        let recipes: Vec<_> = nets::RECIPES.iter().chain(structured::RECIPES).collect();
        (recipes[seed as usize % recipes.len()].1)(&mut maker)?;
        let operators = maker.operators();
        if operators.iter().any(|o| OF_ONE_SIZE.contains(&o.as_str())) {
            return None;
        }
        let (bytes, inputs) = maker.finish();
        let mut net = Net { proto: pb::ModelProto::decode(&*bytes).ok()?, inputs, operators };
        let free: Vec<bool> = net.inputs.iter().map(|t| net.is_free(t)).collect();
        let graph = net.proto.graph.as_mut()?;
        // What is of another size, and no weights, belongs to something within the net.
        let apart = |dims: &mut dyn Iterator<Item = usize>| dims.skip(2).any(|d| d > 1);
        let image = |t: &pb::TensorProto| {
            let read =
                |n: &pb::NodeProto| n.input.contains(&t.name) && !WEIGHTED.contains(&n.op_type.as_str());
            apart(&mut t.dims.iter().map(|&d| d as usize)) && graph.node.iter().any(read)
        };
        let other = |(t, free): (&Tensor, &bool)| !free && apart(&mut t.ty.shape.iter().copied());
        if graph.initializer.iter().any(image) || net.inputs.iter().zip(&free).any(other) {
            return None;
        }
        for (input, _) in graph.input.iter_mut().zip(&free).filter(|(_, free)| **free) {
            (2..).zip(NAMES).for_each(|(axis, name)| name_dim(input, axis, name));
        }
        for output in &mut graph.output {
            if let Some(pb::type_proto::Value::TensorType(ty)) =
                output.r#type.as_mut().and_then(|t| t.value.as_mut())
            {
                ty.shape = None;
            }
        }
        Some(net)
    }

    /// Height and width of the images, as far as there are such dimensions.
    fn bounds(&self) -> &[usize] {
        self.inputs[0].ty.shape.get(2..).unwrap_or_default()
    }

    fn is_free(&self, input: &Tensor) -> bool {
        input.ty.rank() > 2 && input.ty.shape.get(2..) == Some(self.bounds())
    }

    /// The inputs for images of a size.
    fn data(&self, seed: u64, sizes: &[usize]) -> Vec<Tensor> {
        let mut maker = Maker::new(seed, 21);
        let mut one = |t: &Tensor| {
            let shape = if self.is_free(t) { [&t.ty.shape[..2], sizes].concat() } else { t.ty.shape.clone() };
            maker.data(DType::F32, &shape)
        };
        self.inputs.iter().map(&mut one).collect()
    }

    /// How many results at several sizes agree, or a refusal.
    fn compare(&self, seed: u64) -> Result<usize, Error> {
        let most = self.bounds();
        let each = |of: fn(usize, usize) -> usize| -> Vec<usize> {
            most.iter().enumerate().map(|(i, &most)| of(i, most).clamp(1, most)).collect()
        };
        let sizes = [
            each(|_, most| most),
            each(|_, most| most - 1),
            each(|i, most| if i == 0 { most } else { 1 }),
            each(|i, most| if i == 0 { 2 } else { most - 1 }),
            each(|i, _| 3 - i),
            each(|_, most| most / 2 + 1),
        ];
        let cases: Vec<_> =
            sizes.iter().map(|s| (s.iter().copied().min().unwrap_or(0), self.data(seed, s))).collect();
        let bounds: Vec<(&str, usize)> = NAMES.into_iter().zip(most.iter().copied()).collect();
        // Without filters, which round.
        let build = Build::new("m.onnx").bindings(bounded(&bounds)).prefer(Prefer::Size);
        agree_with(seed, &decode(&self.proto), build, &cases, &mut |_| {})
    }
}

#[test]
fn random_nets_of_any_size_agree_with_each_size() {
    let (folder, first) = (scratch("random_sized_nets"), setting("LMC_RANDOM_FIRST", 1));
    let (mut compared, mut nets, mut refused, mut wrong) = (0, 0, Vec::new(), Vec::new());
    for seed in first..first + setting("LMC_RANDOM_SIZED_NETS", 200) {
        let Some(net) = Net::new(seed).filter(|net| !net.inputs.is_empty()) else { continue };
        let what = |e: Error| {
            write(&folder, &format!("{seed}.onnx"), net.proto.encode_to_vec());
            format!("seed {seed}, {:?}: {e}", net.operators)
        };
        nets += 1;
        match net.compare(seed) {
            Ok(results) => compared += results,
            Err(e) if e.kind == Kind::Model => refused.push(what(e)),
            Err(e) => wrong.push(what(e)),
        }
    }
    println!("{compared} results of {nets} nets compared, {} refused", refused.len());
    refused.iter().for_each(|r| println!("{r}"));
    assert!(wrong.is_empty() && compared > 4 * refused.len(), "{}", wrong.join("\n"));
}
