//! Windows of convolutions that read one value, and which of them stands inside of which.

/// How a convolution reads its operand, with one entry per spatial dimension.
#[derive(Debug)]
pub struct Window {
    /// Groups of channels.
    pub group: i64,
    /// Distances of neighbouring windows.
    pub strides: Vec<i64>,
    /// Distances of a window's points.
    pub dilations: Vec<i64>,
    /// Its points.
    pub kernel: Vec<i64>,
    /// Padding before; what lies behind follows from the size of the result.
    pub before: Vec<i64>,
}

/// The weights of a factor per channel as those of a convolution of single points, of so many channels in groups of
/// so many.
pub fn diagonal(channels: usize, inner: usize, factor: impl Fn(usize) -> f32) -> Vec<f32> {
    let own = |i: usize| if i / inner % inner == i % inner { factor(i / inner) } else { 0.0 };
    (0..channels * inner).map(own).collect()
}

impl Window {
    /// A point that reads its own channel, beside this window.
    pub fn point(&self) -> Option<Window> {
        let count = self.kernel.len();
        let same = self.strides.iter().all(|&s| s == 1);
        same.then(|| Window {
            group: self.group,
            strides: vec![1; count],
            dilations: vec![1; count],
            kernel: vec![1; count],
            before: vec![0; count],
        })
    }

    /// Points before this window within a larger one of as many results, per dimension; `None` where it is not
    /// inside.
    pub fn inside(&self, large: &Window) -> Option<Vec<i64>> {
        let rank = large.kernel.len();
        if (self.group, &self.strides, self.kernel.len()) != (large.group, &large.strides, rank) {
            return None;
        }
        let mut first = Vec::new();
        for d in 0..rank {
            let (step, before) = (large.dilations[d].max(1), large.before[d] - self.before[d]);
            let even = self.kernel[d] == 1 || self.dilations[d] == step;
            let left = large.kernel[d] - self.kernel[d] - before / step;
            if !even || before < 0 || before % step != 0 || left < 0 {
                return None;
            }
            first.push(before / step);
        }
        Some(first)
    }

    /// Adds weights of this window, filter by filter, to those of a larger one, in which it begins so many points
    /// further.
    pub fn add_to(&self, large: &Window, first: &[i64], sums: &mut [f32], weight: impl Fn(usize) -> f32) {
        let [others, points] = [self, large].map(|w| w.kernel.iter().product::<i64>().max(1) as usize);
        let place = |mut rest: usize| {
            let (mut place, mut stride) = (0, 1);
            for d in (0..first.len()).rev() {
                let [extent, whole] = [self, large].map(|w| w.kernel[d].max(1) as usize);
                place += (rest % extent + first[d] as usize) * stride;
                rest /= extent;
                stride *= whole;
            }
            place
        };
        let places: Vec<usize> = (0..others).map(place).collect();
        for (number, filter) in sums.chunks_exact_mut(points).enumerate() {
            for (i, &place) in places.iter().enumerate() {
                filter[place] += weight(number * others + i);
            }
        }
    }
}
