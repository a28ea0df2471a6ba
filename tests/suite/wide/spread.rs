//! Elements that are spread over the lanes of vectors.

use super::{check, disassembly, targets};
use lmc::target::Feature;
use lmc::tile::parse;

/// Vectors of different lengths, as at the end of 12 channels, share the element that is spread in them; not beyond
/// what is written.
#[test]
fn shorter_vectors_share_what_is_spread() {
    for target in targets() {
        let lanes = target.lanes();
        for written in [false, true] {
            let mut text =
                format!("kernel ends {{ read a: f32[4] read b: f32[{0}] write c: f32[{0}]\n", 2 * lanes);
            let products = [(lanes, 0), (lanes / 2, lanes)];
            for (i, (lanes, at)) in products.into_iter().enumerate() {
                let [x, y, z] = [3 * i, 3 * i + 1, 3 * i + 2];
                text +=
                    &format!("%{x}: f32x{lanes} = load a[1] stride 0\n%{y}: f32x{lanes} = load b[{at}]\n");
                text += &format!("%{z}: f32x{lanes} = mul %{x}, %{y}\n");
                if written {
                    text += &format!("store c[{at}] = %{z}\n");
                }
            }
            if !written {
                text += &format!("store c[0] = %2\nstore c[{lanes}] = %5\n");
            }
            let kernel = parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"));
            check(&kernel, &target);
            let text = disassembly(&kernel, &target);
            if !target.has(Feature::Avx512) {
                let spread = text.matches("vpbroadcastd").count() + text.matches("vbroadcastss").count();
                assert_eq!(spread, if written { 2 } else { 1 }, "{text}");
            }
        }
    }
}
