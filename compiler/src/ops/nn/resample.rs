//! The tables of resampling one axis: where each output lies in the input, and the weights of the
//! input elements around it.

/// How output coordinates are mapped to the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    CropAndResize,
    /// `(x + 0.5) / scale` (version 11 only).
    HalfPixelForNearest,
}

impl Coordinates {
    /// By the ONNX name.
    pub fn from_name(name: &str) -> Option<Coordinates> {
        Some(match name {
            "half_pixel" => Coordinates::HalfPixel,
            "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            "tf_crop_and_resize" => Coordinates::CropAndResize,
            "tf_half_pixel_for_nn" => Coordinates::HalfPixelForNearest,
            _ => return None,
        })
    }

    /// In f32, as all runtimes: where two elements are equally near, rounding decides.
    fn original(self, x: f32, input: usize, output: usize, scale: f32, roi: (f32, f32)) -> f32 {
        let input = input as f32;
        let width = scale * input;
        match self {
            Coordinates::HalfPixel => (x + 0.5) / scale - 0.5,
            Coordinates::HalfPixelForNearest => (x + 0.5) / scale,
            Coordinates::Asymmetric => x / scale,
            // By the elements there are, not by a fractional length: as Resize says, and ONNX Runtime does.
            Coordinates::PytorchHalfPixel if output == 1 => 0.0,
            Coordinates::PytorchHalfPixel => (x + 0.5) / scale - 0.5,
            Coordinates::AlignCorners if width == 1.0 => 0.0,
            Coordinates::AlignCorners => x * (input - 1.0) / (width - 1.0),
            Coordinates::HalfPixelSymmetric => {
                let offset = input / 2.0 * (1.0 - output as f32 / width);
                offset + (x + 0.5) / scale - 0.5
            }
            Coordinates::CropAndResize => {
                let reach = (roi.1 - roi.0) * (input - 1.0);
                let inside = if width == 1.0 { reach / 2.0 } else { x * reach / (width - 1.0) };
                inside + roi.0 * (input - 1.0)
            }
        }
    }
}

/// How the nearest element is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nearest {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
    /// Before version 11: down when growing, up when shrinking.
    Simple,
}

impl Nearest {
    /// By the ONNX name.
    pub fn from_name(name: &str) -> Option<Nearest> {
        Some(match name {
            "round_prefer_floor" => Nearest::RoundPreferFloor,
            "round_prefer_ceil" => Nearest::RoundPreferCeil,
            "floor" => Nearest::Floor,
            "ceil" => Nearest::Ceil,
            _ => return None,
        })
    }

    fn of(self, x: f64, scale: f64) -> f64 {
        match self {
            Nearest::RoundPreferFloor => (x - 0.5).ceil(),
            Nearest::RoundPreferCeil => (x + 0.5).floor(),
            Nearest::Floor => x.floor(),
            Nearest::Ceil => x.ceil(),
            Nearest::Simple if scale < 1.0 => x.ceil(),
            Nearest::Simple => x.floor(),
        }
    }
}

/// What weights the neighbours have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Filter {
    Nearest(Nearest),
    Linear { antialias: bool, exclude_outside: bool },
    Cubic { a: f64, antialias: bool, exclude_outside: bool },
}

impl Filter {
    /// `(input position, weight)` of the neighbours of `x`; positions may lie outside.
    fn weights(self, x: f64, scale: f64) -> Vec<(i64, f64)> {
        let (reach, antialias) = match self {
            Filter::Nearest(nearest) => return vec![(nearest.of(x, scale) as i64, 1.0)],
            Filter::Linear { antialias, .. } => (1.0, antialias),
            Filter::Cubic { antialias, .. } => (2.0, antialias),
        };
        let stretch = if antialias { scale.min(1.0) } else { 1.0 };
        let first = (x - reach / stretch).floor() as i64;
        let last = (x + reach / stretch).ceil() as i64;
        let mut weights: Vec<(i64, f64)> =
            (first..=last).map(|i| (i, self.kernel(stretch * (i as f64 - x)))).collect();
        if antialias {
            normalize(&mut weights);
        }
        weights
    }

    /// Whether neighbours outside of the input have no weight, and the others have all of it.
    fn excludes_outside(self) -> bool {
        matches!(
            self,
            Filter::Linear { exclude_outside: true, .. } | Filter::Cubic { exclude_outside: true, .. }
        )
    }

    fn kernel(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Filter::Cubic { a, .. } if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            Filter::Cubic { a, .. } if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            Filter::Cubic { .. } => 0.0,
            _ => (1.0 - x).max(0.0),
        }
    }
}

fn normalize(weights: &mut [(i64, f64)]) {
    let sum: f64 = weights.iter().map(|w| w.1).sum();
    if sum != 0.0 {
        weights.iter_mut().for_each(|w| w.1 /= sum);
    }
}

/// The tables of one axis: output `o` is the sum over `t < taps` of
/// `weights[o * taps + t] * input[starts[o] + t]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    input: usize,
    /// First input element of each output.
    pub starts: Vec<usize>,
    /// Input elements summed.
    pub taps: usize,
    /// One row of `taps` per output.
    pub weights: Vec<f64>,
    /// Outputs outside the region of the input (crop and resize).
    pub outside: Vec<bool>,
}

impl Axis {
    /// Of `input` (not 0) elements to `output`, with a region of the input as fractions of it.
    pub fn new(
        input: usize,
        output: usize,
        scale: f64,
        roi: (f64, f64),
        coordinates: Coordinates,
        filter: Filter,
    ) -> Axis {
        let last = input as i64 - 1;
        let narrow = (scale as f32, (roi.0 as f32, roi.1 as f32));
        let original = |o: usize| coordinates.original(o as f32, input, output, narrow.0, narrow.1);
        let positions: Vec<f64> = (0..output).map(|o| f64::from(original(o))).collect();
        let rows: Vec<Vec<(i64, f64)>> = positions
            .iter()
            .map(|&x| {
                let mut row = filter.weights(x, scale);
                if filter.excludes_outside() {
                    row.retain(|w| (0..=last).contains(&w.0));
                    normalize(&mut row);
                }
                merged(row, last)
            })
            .collect();
        let taps = rows.iter().map(|r| (r[r.len() - 1].0 - r[0].0 + 1) as usize).max().unwrap_or(1);
        let mut axis =
            Axis { input, starts: Vec::new(), taps, weights: vec![0.0; output * taps], outside: Vec::new() };
        for (o, row) in rows.iter().enumerate() {
            let start = (row[0].0 as usize).min(input - taps);
            axis.starts.push(start);
            for &(i, w) in row {
                axis.weights[o * taps + i as usize - start] = w;
            }
        }
        let crop = coordinates == Coordinates::CropAndResize;
        axis.outside = positions.iter().map(|&x| crop && (x < 0.0 || x > last as f64)).collect();
        axis
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.starts.len()
    }

    /// Outputs per input.
    pub fn growth(&self) -> f64 {
        self.outputs() as f64 / self.input as f64
    }

    /// Whether each output is one input element.
    pub fn is_gather(&self) -> bool {
        self.taps == 1 && self.weights.iter().all(|&w| w == 1.0)
    }

    /// `(stride, first)` where the start of output `o` is `stride * o + first`.
    pub fn affine_start(&self) -> Option<(i64, i64)> {
        let start = |o: usize| self.starts[o] as i64;
        let stride = if self.outputs() > 1 { start(1) - start(0) } else { 0 };
        (0..self.outputs()).all(|o| start(o) == stride * o as i64 + start(0)).then(|| (stride, start(0)))
    }

    /// The whole factor by which every element is repeated, where that is all.
    pub fn repeats(&self) -> Option<usize> {
        let factor = self.outputs().checked_div(self.input)?;
        let whole = factor > 1 && factor * self.input == self.outputs() && self.is_gather();
        (whole && self.starts.iter().enumerate().all(|(o, &s)| s == o / factor)).then_some(factor)
    }
}

/// Clamps positions to the input, joins equal ones, and drops zero weights at both ends. Never empty.
fn merged(row: Vec<(i64, f64)>, last: i64) -> Vec<(i64, f64)> {
    let mut joined: Vec<(i64, f64)> = Vec::new();
    for (i, w) in row {
        let i = i.clamp(0, last);
        match joined.last_mut() {
            Some(end) if end.0 == i => end.1 += w,
            _ => joined.push((i, w)),
        }
    }
    while joined.len() > 1 && joined[joined.len() - 1].1 == 0.0 {
        joined.pop();
    }
    while joined.len() > 1 && joined[0].1 == 0.0 {
        joined.remove(0);
    }
    if joined.is_empty() { vec![(0, 0.0)] } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Doubling with nearest elements repeats each; linear half-pixel doubling has weights 1/4, 3/4.
    #[test]
    fn doubling() {
        let nearest = Filter::Nearest(Nearest::Floor);
        let axis = Axis::new(3, 6, 2.0, (0.0, 1.0), Coordinates::Asymmetric, nearest);
        assert_eq!((axis.starts.as_slice(), axis.repeats()), (&[0, 0, 1, 1, 2, 2][..], Some(2)));
        let linear = Filter::Linear { antialias: false, exclude_outside: false };
        let axis = Axis::new(2, 4, 2.0, (0.0, 1.0), Coordinates::HalfPixel, linear);
        assert_eq!(axis.starts, [0, 0, 0, 0]);
        assert_eq!(axis.weights, [1.0, 0.0, 0.75, 0.25, 0.25, 0.75, 0.0, 1.0]);
    }

    /// A fractional output length counts, as in ONNX's own test of downsampling with corners aligned.
    #[test]
    fn aligned_corners_of_a_fractional_length() {
        let linear = Filter::Linear { antialias: false, exclude_outside: false };
        let axis = Axis::new(4, 2, f64::from(0.6f32), (0.0, 1.0), Coordinates::AlignCorners, linear);
        assert_eq!(axis.starts, [0, 2]);
        assert!((axis.weights[3] - 0.142857).abs() < 1e-5, "{:?}", axis.weights);
    }

    /// One element is the first one, whatever fraction of another one the scale gives.
    #[test]
    fn a_single_element_of_pytorch_s_half_pixels() {
        let linear = Filter::Linear { antialias: false, exclude_outside: false };
        let axis = Axis::new(3, 1, 0.5, (0.0, 1.0), Coordinates::PytorchHalfPixel, linear);
        assert_eq!((axis.starts.as_slice(), axis.weights[0]), (&[0][..], 1.0));
    }

    /// As PyTorch exports it: 2/3 of the size with antialiasing, nothing of which lies outside.
    #[test]
    fn antialiasing_without_what_lies_outside() {
        let linear = Filter::Linear { antialias: true, exclude_outside: true };
        let axis = Axis::new(3, 2, 2.0 / 3.0, (0.0, 1.0), Coordinates::HalfPixel, linear);
        assert_eq!(axis.starts, [0, 1]);
        let near = |(a, b): (&f64, f64)| (a - b).abs() < 1e-6;
        assert!(axis.weights.iter().zip([0.625, 0.375, 0.375, 0.625]).all(near), "{:?}", axis.weights);
    }
}
