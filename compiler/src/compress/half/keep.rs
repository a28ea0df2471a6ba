//! Which nodes of a model in half precision compute in `f32`.
//!
//! Those that other runtimes have in `f32` only, those with bodies, and those whose values lie outside of what
//! half precision holds.

use super::range::Outside;
use crate::compress::onnx::{Node, Onnx};
use crate::compress::quantize::Kept;
use half::f16;

/// Operators that stay in `f32`.
const WIDE: &[&str] = &[
    "NonMaxSuppression",
    "Range",
    "CumSum",
    "RoiAlign",
    "TopK",
    "Resize",
    "Upsample",
    "QuantizeLinear",
    "DynamicQuantizeLinear",
    "DFT",
    "STFT",
];

/// The opset from which integers times a half are a half.
const HALF_SCALES: i64 = 19;

/// Those of com.microsoft.
const WIDE_CONTRIB: &[&str] = &["DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "QEmbedLayerNormalization"];

/// The nodes that stay in `f32`; `outside` are the values that half precision cannot hold.
pub(super) fn kept(onnx: &Onnx, outside: &Outside) -> Vec<Kept> {
    let opset = onnx.opset();
    let reason = |node: &Node| reason(node, opset).or_else(|| unfit(node, outside));
    let kept = |(at, node): (usize, &Node)| {
        let (name, op) = (node.name().to_string(), node.operator().to_string());
        Some(Kept { node: at, name, op, why: reason(node)? })
    };
    onnx.nodes.iter().enumerate().filter_map(kept).collect()
}

/// Why an operator has to be computed in `f32`. Other runtimes scatter halves, but do not reduce them.
fn reason(node: &Node, opset: i64) -> Option<String> {
    let reduces = node.op().starts_with("Scatter") && !matches!(node.text("reduction", "none"), "none" | "");
    let contrib = node.is_contrib() && WIDE_CONTRIB.contains(&node.operator());
    let scaled = node.op() == "DequantizeLinear" && opset < HALF_SCALES;
    if node.has_bodies() {
        Some("its bodies are in f32".to_string())
    } else if scaled {
        Some(format!("its scales are in f32 before opset {HALF_SCALES}"))
    } else if WIDE.contains(&node.op()) || reduces || contrib || node.is_classical() {
        Some("other runtimes have it in f32 only".to_string())
    } else {
        None
    }
}

/// Why a node's values do not fit half precision.
fn unfit(node: &Node, outside: &Outside) -> Option<String> {
    let most = f32::from(f16::MAX);
    let mut names = node.outputs.iter().chain(&node.inputs);
    let (name, reach) = names.find_map(|name| Some((name, *outside.get(name)?)))?;
    Some(if reach > most {
        format!("'{name}' reaches {reach:.4e}, half precision {most}")
    } else {
        format!("'{name}' is {reach:.4e} at most, too small for half precision")
    })
}

#[cfg(test)]
mod tests {
    use super::super::range::is_large;
    use super::*;
    use tract_onnx::pb;

    #[test]
    fn what_others_have_in_floats_only_stays() {
        let node = |op: &str| Node::new(op, "node", &["x"], &["y"]);
        assert!(reason(&node("DynamicQuantizeLinear"), 13).is_some());
        assert_eq!(reason(&node("LSTM"), 13), None);
        let [before, from] = [18, 19].map(|opset| reason(&node("DequantizeLinear"), opset));
        assert!(before.is_some() && from.is_none());
        let mut scatter = node("ScatterElements");
        assert_eq!(reason(&scatter, 13), None);
        let (s, kind) = (b"add".to_vec(), pb::attribute_proto::AttributeType::String as i32);
        scatter.set_attr(pb::AttributeProto {
            name: "reduction".into(),
            s,
            r#type: kind,
            ..Default::default()
        });
        assert!(reason(&scatter, 13).is_some());
    }

    #[test]
    fn readers_and_writers_of_large_values_stay() {
        let node = Node::new("Div", "", &["a", "b"], &["y"]);
        let outside = |name: &str, reach| Outside::from([(name.to_string(), reach)]);
        let why = unfit(&node, &outside("y", 125_003.0)).expect("kept");
        assert_eq!(why, "'y' reaches 1.2500e5, half precision 65504");
        assert!(unfit(&node, &outside("b", 1e-6)).is_some_and(|why| why.contains("too small")));
        assert_eq!(unfit(&node, &outside("z", 1e9)), None);
        assert!(is_large(65520.0) && !is_large(65519.0) && !is_large(f32::NEG_INFINITY));
    }
}
