//! What a quantization did: as a whole, and layer by layer.

use serde::Serialize;

/// One layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerReport {
    /// Name of the node.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Whether it stayed in float.
    pub float: bool,
    /// Number of weights.
    pub weights: usize,
    /// Relative error of its result where it alone is quantized; where data were not used, that of its
    /// weights.
    pub error: f64,
    /// Relative error of its result where all layers are.
    pub total_error: Option<f64>,
    /// Range that its data had over the samples.
    pub seen: Option<[f64; 2]>,
    /// Range that the integers of its data stand for.
    pub range: Option<[f64; 2]>,
    /// The part of its data that lies outside of that range.
    pub saturation: Option<f64>,
}

impl LayerReport {
    /// A layer of which only the weights are known.
    pub fn of_weights(name: &str, op: &str, weights: usize, error: f64) -> LayerReport {
        LayerReport {
            name: name.to_string(),
            op: op.to_string(),
            float: false,
            weights,
            error,
            total_error: None,
            seen: None,
            range: None,
            saturation: None,
        }
    }
}

/// What the outputs of two models were compared on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compared {
    /// The samples.
    Samples,
    /// Random numbers, because no samples were given.
    SeededInputs,
    /// They were not compared.
    Nothing,
}

/// A node that computes in `f32`.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// Its index.
    #[serde(skip)]
    pub node: usize,
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Why it does.
    pub why: String,
}

/// The whole.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The method that ranges come from, or the kind of quantization.
    pub calibration: &'static str,
    /// Samples.
    pub samples: usize,
    /// What the outputs were compared on.
    pub compared: Compared,
    /// Least cosine over what they were compared on, by output.
    pub cosine: Vec<(String, f64)>,
    /// Layers.
    pub layers: Vec<LayerReport>,
    /// Nodes that half precision leaves in `f32`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
}

impl Report {
    /// The least cosine of all outputs; `None` where they were not compared.
    pub fn worst(&self) -> Option<f64> {
        self.cosine.iter().map(|c| c.1).reduce(f64::min)
    }
}
